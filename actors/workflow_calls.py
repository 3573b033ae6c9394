"""What a runtime offers for runs that are there: finding them, sending to them, controlling them.

The engine (workflow/engine.py) does it; here is what of it belongs to the commit of a turn, or is done once
for a step.  Starting is in start_calls.py, the handle of one run in handle.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, overload

import msgspec

from ..runtime.address import GivenKey, normal_key, show_key
from ..runtime.chain import CALLER, Turn, after_commit, after_rollback, before_stage
from ..runtime.errors import UnknownActorType
from ..runtime.ref import Ref
from ..runtime.system import ActorSystem
from ..storage.errors import CallerError
from ..storage.group_commit import Writes
from .audit import AuditTrail, Deed, audit_of, read_audit
from .bulk import BulkResult, Verb, control_many
from .dead_letter import DeadLetter, dead_letter
from .errors import RunNotFound
from .handle import Run
from .run_info import RunInfo, RunPage, run_info
from .tenant import Tenant
from .who_asks import who_asks
from .workflow.debugging import DebugView, debug_view
from .workflow.head import ALL_STATUSES, FAILED, RunStatus
from .workflow.journal import EventArrived
from .workflow.listing import WorkflowInfo, list_workflows
from .workflow.live_run import LiveRun
from .workflow.protocols import TakesInput, TakesNothing
from .workflow.run_id import check_run_id
from .workflow.run_index import RunFilter, list_runs, page_runs, run_place
from .workflow.standing import (
    KnownWorkflow,
    WorkflowStanding,
    WorkflowStatus,
    check_metadata,
    known_workflows,
)
from .workflow.workflow import Workflow
from .workflow.workflow_type import WorkflowType

if TYPE_CHECKING:
    from .workflow.engine import Engine

In = TypeVar("In")
Out = TypeVar("Out")
# What a step keeps of an event that it sent.
_SENT: Final = b"\xc0"


class WorkflowCalls(ActorSystem):
    """Runs on one folder; a base of `Runtime`."""

    engine: Engine
    audit_trail: AuditTrail

    @overload
    def run(self, workflow: type[TakesInput[Any, Out]], id: GivenKey) -> Run[Out]: ...
    @overload
    def run(self, workflow: type[TakesNothing[Out]], id: GivenKey) -> Run[Out]: ...

    def run(self, workflow: type[object], id: GivenKey) -> Run[Any]:
        """A handle of the run with this id; nothing is touched by that."""
        kind = self.workflow_type(workflow)
        normal, key_bytes = normal_key(check_run_id(id), kind.name)
        return Run(self, self.make_ref(kind, normal, key_bytes))

    def runs(
        self,
        workflow: type[Workflow] | None = None,
        *,
        status: RunStatus | Collection[RunStatus] | None = None,
        state: str | None = None,
        ref: tuple[str, str] | None = None,
        tenant: str | None = None,
        tag: tuple[str, str] | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> list[RunInfo]:
        """Runs, the oldest first (`reverse`: the newest), at most `limit`.

        workflow, status   of this workflow, with this status or one of several
        state      business state, as `set_status` gave it
        ref, tenant, tag   labels of the start, or tags that `run()` set
        """
        wanted = self.run_filter(workflow, status=status, state=state, ref=ref, tenant=tenant, tag=tag)
        return [run_info(ref, head) for ref, head in list_runs(self, wanted, limit=limit, reverse=reverse)]

    def run_page(
        self, wanted: RunFilter, *, limit: int = 100, after: str | None = None, reverse: bool = False
    ) -> RunPage:
        """A page of the runs that a filter (`run_filter`) means, in the order of `runs`.

        after   `next` of the page before, with the same filter and order.  Runs that changed their status
                meanwhile keep their place, so nothing is listed twice, and nothing that is there all the time
                is left out

        It takes a few milliseconds at most, however many runs there are.  Raises `CallerError`.
        """
        self.check_open()
        self._not_in_run("list runs")
        behind = None if after is None else run_place(after)
        found, next_place = page_runs(self, wanted, limit=limit, reverse=reverse, after=behind)
        runs = [run_info(ref, head) for ref, head in found]
        return RunPage(runs, None if next_place is None else next_place.text())

    def run_filter(
        self,
        workflow: type[Workflow] | None = None,
        *,
        status: RunStatus | Collection[RunStatus] | None = None,
        state: str | None = None,
        ref: tuple[str, str] | None = None,
        tenant: str | None = None,
        tag: tuple[str, str] | None = None,
    ) -> RunFilter:
        """Which runs are meant, as `runs` has it; for `control`."""
        self.check_open()
        self._not_in_run("list runs")
        for text, what in ((state, "state"), (tenant, "tenant")):
            if text is not None and not isinstance(cast("object", text), str):
                raise CallerError(f"{what} must be a text; got {text!r:.200}")
        _check_pair(ref, "ref", "(type, id)")
        _check_pair(tag, "tag", "(name, value)")
        return RunFilter(tuple(self._kinds(workflow)), _statuses(status), ref, tenant, tag, state)

    def workflows(self) -> list[WorkflowInfo]:
        """All workflows that are imported, by name: what people are told of them, JSON Schemas of input and
        result, and options.
        """
        return list_workflows(self.actor_types.by_class)

    def known_workflows(self) -> list[KnownWorkflow]:
        """All workflows that are imported, or have runs on disk, by name: their standing, and how many runs
        they have in which status.
        """
        self.check_open()
        self._not_in_run("look at workflows")
        return known_workflows(self)

    async def set_workflow_status(
        self,
        workflow: type[Workflow] | str,
        status: WorkflowStatus,
        *,
        by: str | None = None,
        reason: str = "",
    ) -> None:
        """Let runs of a workflow begin ("active"), wait on disk ("paused"), or not be started ("retired").

        It counts when this returns.  Raises `CallerError`, `InvalidValue` or `UnknownActorType`.
        """
        await self.get(WorkflowStanding, self._workflow_name(workflow)).change(status, None, by, reason)

    async def set_workflow_metadata(
        self,
        workflow: type[Workflow] | str,
        metadata: Mapping[str, str],
        *,
        by: str | None = None,
        reason: str = "",
    ) -> None:
        """Note something about a workflow as a whole: names with texts, in place of those before.

        Raises `InvalidValue` or `UnknownActorType`.
        """
        noted = check_metadata(metadata)
        await self.get(WorkflowStanding, self._workflow_name(workflow)).change(None, noted, by, reason)

    def _workflow_name(self, workflow: type[Workflow] | str) -> str:
        if not isinstance(workflow, str):
            return self.workflow_type(workflow).name
        if workflow not in {one.name for one in known_workflows(self)}:
            raise UnknownActorType(f"no workflow {workflow!r:.200} is imported here or has runs on disk")
        return workflow

    def standing_changed(self, workflow: str, status: WorkflowStatus) -> None:
        """A workflow has another standing, and that is durable."""
        for kind in self._workflow_types():
            if kind.name == workflow:
                self.engine.places.set_standing(kind, status)

    async def dead_letters(
        self, workflow: type[Workflow] | None = None, *, tenant: str | None = None, limit: int = 100
    ) -> list[DeadLetter]:
        """Failed runs with input, cause, attempts and history, the oldest first.

        `Run.redrive` lets one go on.
        """
        wanted = self.run_filter(workflow, status=FAILED, tenant=tenant)
        runs = list_runs(self, wanted, limit=limit, reverse=False)
        letters: list[DeadLetter] = []
        for ref, _ in runs:
            try:
                records = await Run[object](self, ref).history()
            except RunNotFound:
                continue  # erased meanwhile
            letter = dead_letter(ref.type.name, show_key(ref.key), records)
            if letter is not None:  # else it goes on by now
                letters.append(letter)
        letters.sort(key=lambda letter: letter.failed_at)
        return letters[:limit]

    def tenant(self, name: str) -> Tenant:
        """What belongs to one tenant: through it no run of another is listed, found, sent to or changed.

        Raises `InvalidValue` for a name that can't be one.
        """
        return Tenant(self, name)

    # -- events --------------------------------------------------------------------------------------------

    async def submit_event(
        self,
        workflow: type[object],
        id: GivenKey,
        event: object,
        payload: object = msgspec.UNSET,
        *,
        user: str | None = None,
        tenant: str | None = None,
        event_id: str | None = None,
    ) -> RunInfo:
        """Send an event to a run and return what the run is when it has come to rest behind it.

        It returns also when the run needs long for what the event led to: then the run is `running`.  The
        parameters are those of `Run.send`.
        """
        run = self.run(cast("type[TakesNothing[object]]", workflow), id)
        await run.send(event, payload, user=user, tenant=tenant, id=event_id)
        await self.engine.processed(run.ref)
        return await run.info()

    async def enqueue_event(
        self,
        workflow: type[object],
        id: GivenKey,
        event: object,
        payload: object = msgspec.UNSET,
        *,
        user: str | None = None,
        tenant: str | None = None,
        event_id: str | None = None,
    ) -> None:
        """Accept an event for a run and return when that is durable; it is processed later.

        The parameters are those of `Run.send`.
        """
        run = self.run(cast("type[TakesNothing[object]]", workflow), id)
        await run.send(event, payload, user=user, tenant=tenant, id=event_id)

    async def send_event(self, ref: Ref, record: EventArrived) -> None:
        """Send an event as whoever calls: in a turn as part of its commit, in a step exactly once."""
        self.check_open()
        scope, turn = who_asks(self, "send events")
        messages = self.engine.messages
        if turn is not None:
            messages.check_event(ref, record, turn.root.writes)
            self._send_in_turn(turn, ref, record)
            return
        if scope is None:
            await self.store.wait_durable(messages.send(ref, record))
            return
        row = scope.effect_row(b"event " + ref.directory_key + record.name.encode() + bytes(record.payload))
        known = scope.op.known_reply(row)
        if known is not None:
            await self.store.wait_durable(known[1])
            return
        try:
            number = messages.send(ref, record, {row: _SENT})
        except BaseException:
            scope.take_back(row)
            raise
        scope.op.keep_reply(row, _SENT, number)
        await self.store.wait_durable(number)

    def _send_in_turn(self, turn: Turn, ref: Ref, record: EventArrived) -> None:
        def add(writes: Writes) -> None:
            arrival = self.engine.messages.event_arrival(ref, record, writes)
            after_commit(turn, arrival.committed)
            after_rollback(turn, arrival.failed)

        before_stage(turn, add)

    # -- control -------------------------------------------------------------------------------------------

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
        """Do something to all runs that a filter (`run_filter`) means, the oldest first.

        verb       one of pause, resume, cancel, terminate, restart, retry_now, redrive, purge
        dry_run    only count them
        rate       at most so many a second, so that what they need is not overrun

        What a run refuses is told in the result and stops nothing.
        """
        return await control_many(
            self, verb, wanted, by=by, reason=reason, dry_run=dry_run, limit=limit, rate=rate
        )

    def audit(
        self,
        *,
        run: Run[Any] | None = None,
        since: datetime | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[Deed]:
        """What was done from outside to runs, queues, schedules and other actors, the newest first.

        run     to this run alone
        since   from a moment on
        after   the cursor of the last deed of the page before
        """
        self._not_in_run("read the audit")
        if run is not None and not isinstance(cast("object", run), Run):
            raise CallerError(f"the audit of one run is asked for with its handle; got {run!r:.200}")
        return read_audit(self, audit_of(None if run is None else run.ref, since), limit, after)[0]

    def _not_in_run(self, what: str) -> None:
        if isinstance(CALLER.get(), LiveRun):
            raise CallerError(f"run() can't {what}: what it would see differs on replay; do it in a step")

    async def debug(self, workflow: type[object], id: GivenKey, *, at: int | None = None) -> DebugView:
        """A run as it was behind record `at` of its history (None: the last), without effects.

        Its code is replayed up to there: state, data, what it waited for, and the local variables of `run()`.
        Raises `RunNotFound`.
        """
        run = self.run(cast("type[TakesNothing[object]]", workflow), id)
        await run.info()
        return await debug_view(self.engine, run.ref, at)

    def _kinds(self, workflow: type[Workflow] | None) -> list[WorkflowType]:
        return [self.workflow_type(workflow)] if workflow is not None else self._workflow_types()

    def workflow_type(self, workflow: type[object]) -> WorkflowType:
        """What is known of a workflow class; raises `UnknownActorType` or `InvalidActor`."""
        kind = self.type_of(workflow)
        if not isinstance(kind, WorkflowType):
            raise CallerError(f"{kind.name} is an actor, not a workflow; call it through get()")
        return kind

    def _workflow_types(self) -> list[WorkflowType]:
        return [kind for kind in self.actor_types.by_class.values() if isinstance(kind, WorkflowType)]


def _statuses(given: RunStatus | Collection[RunStatus] | None) -> tuple[RunStatus, ...]:
    if given is None:
        return ALL_STATUSES
    several = cast("object", (given,) if isinstance(given, str) else given)
    statuses = tuple(cast("Collection[RunStatus]", several)) if isinstance(several, Collection) else ("",)
    if any(one not in ALL_STATUSES for one in statuses):
        raise CallerError(f"status must be one or several of {', '.join(ALL_STATUSES)}; got {given!r:.200}")
    return cast("tuple[RunStatus, ...]", statuses)


def _check_pair(given: object, what: str, parts: str) -> None:
    if given is None:
        return
    pair = cast("tuple[object, ...]", given) if isinstance(given, tuple) else ()
    if len(pair) != 2 or not all(isinstance(part, str) for part in pair):
        raise CallerError(f"{what} must be a tuple of two texts, {parts}; got {given!r:.200}")
