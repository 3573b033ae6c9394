"""A way of doing jobs: by a workflow, or by whatever did them before.

The manager (job_manager.py) starts a job in one way and from then on only looks: a way tells how its job
stands.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, cast

import msgspec

from ..workflow.head import ENDED, RunStatus

if TYPE_CHECKING:
    from ..handle import Run
    from ..system import Runtime
    from ..workflow.workflow import Workflow


class JobLook(msgspec.Struct, frozen=True):
    """How a job stands."""

    status: RunStatus
    ended_at: datetime | None = None
    """When it ended; None while it goes on."""
    error: str = ""


class JobWay(Protocol):
    """What a manager asks of a way that is no workflow.

    All of it is called in a turn of the manager.  A start may be repeated with the same id, after a crash: it
    must join what it began.
    """

    async def start(self, runtime: Runtime, job_id: str, input: object) -> None:
        """Begin a job; what it raises reaches who asked for the job, and there is none then."""
        ...

    async def look(self, runtime: Runtime, job_id: str) -> JobLook:
        """How the job stands; raises a `LookupError` when nothing is known of it."""
        ...

    async def cancel(self, runtime: Runtime, job_id: str, *, by: str | None, reason: str) -> None:
        """Ask it to end."""
        ...


class WorkflowWay:
    """The way of a workflow: a job is a run, with the job's id and the way's name as a tag."""

    def __init__(self, workflow: type[Workflow], name: str) -> None:
        # Which input it takes shows only when the job is started.
        self._workflow = cast("Any", workflow)
        self._name = name

    async def start(self, runtime: Runtime, job_id: str, input: object) -> None:
        """A run, in the commit of the job's row."""
        given = () if input is msgspec.UNSET else (input,)
        await runtime.start(self._workflow, *given, id=job_id, on_conflict="join", tags={"way": self._name})

    async def look(self, runtime: Runtime, job_id: str) -> JobLook:
        """What the run's head says."""
        info = await self._run(runtime, job_id).info()
        ended_at = info.updated_at if info.status in ENDED else None
        return JobLook(info.status, ended_at, "" if info.error is None else str(info.error))

    async def cancel(self, runtime: Runtime, job_id: str, *, by: str | None, reason: str) -> None:
        """As `Run.cancel` does it."""
        await self._run(runtime, job_id).cancel(by=by, reason=reason)

    def _run(self, runtime: Runtime, job_id: str) -> Run[Any]:
        run: Run[Any] = runtime.run(self._workflow, job_id)
        return run
