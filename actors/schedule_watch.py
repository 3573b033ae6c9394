"""Who tells schedules in this process that they can go on: a run ended, or a workflow's class is there.

Nothing depends on it: the alarm of a schedule looks, too, but later.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

from ..runtime.call import run
from ..runtime.errors import NotRunning
from ..storage import layout
from ..storage.errors import HoldfastError

if TYPE_CHECKING:
    from ..runtime.ref import Ref
    from .schedule_calls import ScheduleCalls
    from .workflow.workflow_type import WorkflowType

_log = logging.getLogger("holdfast.schedules")
_PAGE = 256


class ScheduleWatch:
    """The schedules of one runtime that wait for something."""

    def __init__(self, runtime: ScheduleCalls) -> None:
        self._runtime = runtime
        # Runs that are waited for, by their keys, with the schedules that wait.
        self._watched: dict[bytes, Ref] = {}

    def watch(self, schedule: Ref, run_ref: Ref) -> None:
        """Tell `schedule` when a run that goes on has ended."""
        key = run_ref.directory_key
        if key in self._watched:
            return
        try:
            ended = self._runtime.engine.results.waiter(run_ref)
        except HoldfastError:  # the runtime closes
            return
        self._watched[key] = schedule

        def tell(future: asyncio.Future[bytes]) -> None:
            del self._watched[key]
            if not future.cancelled() and not isinstance(future.exception(), NotRunning):
                self._runtime.spawn(self._look(schedule), f"look of schedule {schedule.key!r}")

        ended.add_done_callback(tell)

    def class_known(self, kind: WorkflowType) -> None:
        """A workflow is used from now on: schedules that are stuck for want of it go on."""
        if self._runtime.store.get(layout.TYPE + b"Schedule") is not None:
            self._runtime.loop.call_soon(self._go_on, kind)

    def _go_on(self, kind: WorkflowType) -> None:
        if not self._runtime.is_closed:
            self._runtime.spawn(self._look_at_stuck(kind.name), f"stuck schedules of {kind.name}")

    async def _look_at_stuck(self, workflow: str) -> None:
        from .schedule import Schedule

        after: Ref | None = None
        while True:
            stuck: dict[str, Any] = {"state.definition.workflow": workflow, "state.status": "stuck"}
            try:
                page = self._runtime.query(
                    Schedule, limit=_PAGE, after=cast("Schedule | None", after), **stuck
                )
            except HoldfastError as error:  # the runtime closes, or the last one of the page was deleted
                _log.info("stuck schedules of %s look again by themselves: %s", workflow, error)
                return
            for schedule in cast("list[Ref]", page):
                await self._look(schedule)
                after = schedule
            if len(page) < _PAGE:
                return

    async def _look(self, schedule: Ref) -> None:
        from .schedule import LOOK_PLAN

        try:
            dep, _, error = await run(schedule, LOOK_PLAN, (), {}, None, None)
            await self._runtime.store.wait_durable(dep)
        except HoldfastError as failure:
            error = failure
        if error is not None and not self._runtime.is_closed:
            _log.warning("schedule %r will look again by itself: %s", schedule.key, error)
