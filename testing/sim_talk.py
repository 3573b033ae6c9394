"""What a test says to the runs of a story: events, updates, queries, the verbs of control.

As a client outside does it: what a crash cut off is said again, events and updates under ids of their own, so
that each is taken once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import msgspec

from ..actors.errors import RunEnded
from ..actors.handle import Run
from ..actors.workflow.progress import ProgressEvent
from ..actors.workflow.protocols import TakesNothing
from ..storage.errors import CallerError
from .sim_process import SimProcess
from .sim_run import SimRun, checked_run

Out = TypeVar("Out")
_MOST_EVENTS = 100_000


class SimTalk(SimProcess):
    """Part of `Simulation`."""

    _said = 0

    def _handle(self, run: SimRun[Out]) -> Run[Out]:
        return self.runtime.run(cast("type[TakesNothing[Out]]", checked_run(run).workflow), run.key)

    def send_event(
        self,
        run: SimRun[Any],
        event: object,
        payload: object = msgspec.UNSET,
        *,
        user: str | None = None,
        tenant: str | None = None,
        id: str | None = None,
    ) -> None:
        """Send an event to a run, as `Run.send` does; raises what that raises."""
        self._said += 1
        event_id = id or f"story-{self._said}"

        async def send() -> None:
            await self._handle(run).send(event, payload, user=user, tenant=tenant, id=event_id)

        self._again_and_again(send, f"an event for {run}")

    def update(self, run: SimRun[Any], method: object, /, *args: object) -> object:
        """Call an `@update` method of a run, as `Run.update` does; raises what that raises."""
        self._said += 1
        update_id = f"story-{self._said}"

        async def update() -> object:
            return await self._handle(run).update_once(method, update_id, *args)

        return self._again_and_again(update, f"an update of {run}")

    def query(self, run: SimRun[Any], method: object, /, *args: object) -> object:
        """Call a `@query` method of a run, as `Run.query` does; raises what that raises."""
        name = method if isinstance(method, str) else getattr(method, "__name__", str(method))

        async def query() -> object:
            return await self._handle(run).query(name, *args)

        return self._again_and_again(query, f"a query of {run}")

    def progress(self, run: SimRun[Any], since: int = 0) -> list[ProgressEvent]:
        """The progress events of a run so far, behind number `since`; raises `RunNotFound`."""

        async def read() -> list[ProgressEvent]:
            handle = self._handle(run)
            await handle.info()
            return handle.progress(since, limit=_MOST_EVENTS)

        return self._again_and_again(read, f"the progress of {run}")

    def pause(self, run: SimRun[Any]) -> None:
        """See `Run.pause`."""
        self._do(run, "pause", lambda handle: handle.pause())

    def resume(self, run: SimRun[Any]) -> None:
        """See `Run.resume`; harmless for a run that a crash has seen resumed."""

        async def resume(handle: Run[Any]) -> None:
            if await handle.status() in ("paused", "pausing"):
                await handle.resume()

        self._do(run, "resume", resume)

    def cancel(self, run: SimRun[Any], reason: str = "") -> None:
        """See `Run.cancel`; harmless for a run that has ended meanwhile."""

        async def cancel(handle: Run[Any]) -> None:
            try:
                await handle.cancel(reason=reason)
            except RunEnded:
                pass  # the crash came behind it

        self._do(run, "cancel", cancel)

    def terminate(self, run: SimRun[Any], *, undo: bool = False) -> None:
        """See `Run.terminate`; harmless for a run that has ended meanwhile."""

        async def terminate(handle: Run[Any]) -> None:
            try:
                await handle.terminate(undo=undo)
            except RunEnded:
                pass  # the crash came behind it

        self._do(run, "terminate", terminate)

    def restart(self, run: SimRun[Any]) -> None:
        """See `Run.restart`."""
        self._do(run, "restart", lambda handle: handle.restart())

    def retry_now(self, run: SimRun[Any]) -> None:
        """See `Run.retry_now`; harmless where no attempt waits any more."""

        async def retry(handle: Run[Any]) -> None:
            try:
                await handle.retry_now()
            except CallerError:
                pass  # the crash came behind it

        self._do(run, "retry_now", retry)

    def _do(self, run: SimRun[Any], verb: str, deed: Callable[[Run[Any]], Awaitable[None]]) -> None:
        async def do() -> None:
            await deed(self._handle(run))

        self._again_and_again(do, f"{verb} of {run}")
