"""A tenant's view of a runtime: what is reached through it belongs to the tenant, and nothing else is there.

    acme = rt.tenant("acme")
    run = await acme.start(Invoice, invoice, id="i-1")
    await acme.submit_event(Invoice, "i-1", Approve(by="ann"))

For whoever serves several customers from one folder and must not mix them up.  Run ids are those of the whole
folder: a tenant that starts a run under another's id is told that the id is in use, and no more.

Promise: no listing, event, update, query or verb made through it reaches a run of another tenant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

import msgspec

from ..runtime.address import GivenKey
from ..runtime.durations import Duration
from .bulk import BulkResult, Verb
from .dead_letter import DeadLetter
from .handle import Run
from .run_info import RunInfo, RunPage
from .workflow.debugging import DebugView
from .workflow.head import RunStatus
from .workflow.labels import check_label
from .workflow.protocols import TakesInput, TakesNothing
from .workflow.run_index import RunFilter
from .workflow.workflow import Workflow

if TYPE_CHECKING:
    from .workflow.start_options import OnConflict
    from .workflow_calls import WorkflowCalls

In = TypeVar("In")
Out = TypeVar("Out")


class Tenant:
    """What belongs to one tenant; see `Runtime.tenant`."""

    __slots__ = ("_runtime", "name")

    def __init__(self, runtime: WorkflowCalls, name: str) -> None:
        """Raises `InvalidValue` for a name that can't be one."""
        self._runtime = runtime
        self.name = check_label(name, "a tenant")

    @overload
    async def start(
        self,
        workflow: type[TakesInput[In, Out]],
        input: In,
        *,
        id: GivenKey | None = ...,
        on_conflict: OnConflict = ...,
        correlation_id: str | None = ...,
        ref: tuple[str, str] | None = ...,
        tags: Mapping[str, str] | None = ...,
        deadline: Duration | None = ...,
    ) -> Run[Out]: ...
    @overload
    async def start(
        self,
        workflow: type[TakesNothing[Out]],
        *,
        id: GivenKey | None = ...,
        on_conflict: OnConflict = ...,
        correlation_id: str | None = ...,
        ref: tuple[str, str] | None = ...,
        tags: Mapping[str, str] | None = ...,
        deadline: Duration | None = ...,
    ) -> Run[Out]: ...

    async def start(self, workflow: type[object], input: object = msgspec.UNSET, **options: Any) -> Run[Any]:
        """As `Runtime.start`, for this tenant; another tenant's run is never joined or replaced."""
        start = cast("Any", self._runtime).start
        run: Run[Any] = await start(workflow, input, tenant=self.name, **options)
        return run.of_tenant(self.name)

    @overload
    def run(self, workflow: type[TakesInput[Any, Out]], id: GivenKey) -> Run[Out]: ...
    @overload
    def run(self, workflow: type[TakesNothing[Out]], id: GivenKey) -> Run[Out]: ...

    def run(self, workflow: type[object], id: GivenKey) -> Run[Any]:
        """A handle of this tenant's run with an id; with it, another tenant's is not found."""
        return self._runtime.run(cast("type[TakesNothing[object]]", workflow), id).of_tenant(self.name)

    def runs(
        self,
        workflow: type[Workflow] | None = None,
        *,
        status: RunStatus | Collection[RunStatus] | None = None,
        state: str | None = None,
        ref: tuple[str, str] | None = None,
        tag: tuple[str, str] | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> list[RunInfo]:
        """As `Runtime.runs`, of this tenant."""
        return self._runtime.runs(
            workflow,
            status=status,
            state=state,
            ref=ref,
            tenant=self.name,
            tag=tag,
            limit=limit,
            reverse=reverse,
        )

    def run_page(
        self, wanted: RunFilter, *, limit: int = 100, after: str | None = None, reverse: bool = False
    ) -> RunPage:
        """As `Runtime.run_page`, of those of the filter's runs that are this tenant's."""
        mine = msgspec.structs.replace(wanted, tenant=self.name)
        return self._runtime.run_page(mine, limit=limit, after=after, reverse=reverse)

    async def dead_letters(
        self, workflow: type[Workflow] | None = None, *, limit: int = 100
    ) -> list[DeadLetter]:
        """As `Runtime.dead_letters`, of this tenant."""
        return await self._runtime.dead_letters(workflow, tenant=self.name, limit=limit)

    async def submit_event(
        self,
        workflow: type[object],
        id: GivenKey,
        event: object,
        payload: object = msgspec.UNSET,
        *,
        user: str | None = None,
        event_id: str | None = None,
    ) -> RunInfo:
        """As `Runtime.submit_event`, to a run of this tenant."""
        return await self._runtime.submit_event(
            workflow, id, event, payload, user=user, tenant=self.name, event_id=event_id
        )

    async def enqueue_event(
        self,
        workflow: type[object],
        id: GivenKey,
        event: object,
        payload: object = msgspec.UNSET,
        *,
        user: str | None = None,
        event_id: str | None = None,
    ) -> None:
        """As `Runtime.enqueue_event`, to a run of this tenant."""
        await self._runtime.enqueue_event(
            workflow, id, event, payload, user=user, tenant=self.name, event_id=event_id
        )

    async def control(
        self,
        verb: Verb,
        wanted: RunFilter,
        *,
        by: str | None = None,
        reason: str = "",
        dry_run: bool = False,
        limit: int = 10_000,
        rate: float | None = None,
    ) -> BulkResult:
        """As `Runtime.control`, over those of the filter's runs that are this tenant's."""
        mine = msgspec.structs.replace(wanted, tenant=self.name)
        return await self._runtime.control(
            verb, mine, by=by, reason=reason, dry_run=dry_run, limit=limit, rate=rate
        )

    async def debug(self, workflow: type[object], id: GivenKey, *, at: int | None = None) -> DebugView:
        """As `Runtime.debug`, of a run of this tenant."""
        await self.run(cast("type[TakesNothing[object]]", workflow), id).info()
        return await self._runtime.debug(workflow, id, at=at)
