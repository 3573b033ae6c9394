"""What a runtime offers for schedules: setting them up, and listing them.

Their handles are refs: `rt.get(Schedule, name)`.  `Runtime` (system.py) adds the queues.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec

from ..runtime.durations import Duration
from ..runtime.repeats import Missed
from .schedule import Schedule
from .schedule_definition import Overlap, make_definition
from .schedule_records import ScheduleInfo, ScheduleStatus, list_schedules
from .start_calls import StartCalls
from .workflow.protocols import TakesInput, TakesNothing
from .workflow.workflow import Workflow

if TYPE_CHECKING:
    from .schedule_watch import ScheduleWatch

In = TypeVar("In")


class ScheduleCalls(StartCalls):
    """Schedules on one folder; a base of `Runtime`."""

    schedule_watch: ScheduleWatch

    @overload
    async def schedule(
        self,
        name: str,
        workflow: type[TakesInput[In, Any]],
        input: In,
        *,
        cron: str | None = ...,
        every: Duration | None = ...,
        at: datetime | None = ...,
        tz: str | None = ...,
        start: datetime | None = ...,
        end: datetime | None = ...,
        max_fires: int | None = ...,
        jitter: Duration = ...,
        missed: Missed = ...,
        max_missed: int = ...,
        overlap: Overlap = ...,
        max_queued: int = ...,
        ref: tuple[str, str] | None = ...,
        tenant: str | None = ...,
        tags: Mapping[str, str] | None = ...,
    ) -> Schedule: ...
    @overload
    async def schedule(
        self,
        name: str,
        workflow: type[TakesNothing[Any]],
        *,
        cron: str | None = ...,
        every: Duration | None = ...,
        at: datetime | None = ...,
        tz: str | None = ...,
        start: datetime | None = ...,
        end: datetime | None = ...,
        max_fires: int | None = ...,
        jitter: Duration = ...,
        missed: Missed = ...,
        max_missed: int = ...,
        overlap: Overlap = ...,
        max_queued: int = ...,
        ref: tuple[str, str] | None = ...,
        tenant: str | None = ...,
        tags: Mapping[str, str] | None = ...,
    ) -> Schedule: ...

    async def schedule(
        self,
        name: str,
        workflow: type[object],
        input: object = msgspec.UNSET,
        *,
        cron: str | None = None,
        every: Duration | None = None,
        at: datetime | None = None,
        tz: str | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        max_fires: int | None = None,
        jitter: Duration = 0,
        missed: Missed = "one",
        max_missed: int = 100,
        overlap: Overlap = "allow",
        max_queued: int = 1,
        ref: tuple[str, str] | None = None,
        tenant: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Schedule:
        """Start a run of `workflow` at each planned time; returns the schedule's ref once that is durable.

        name        of the schedule; `rt.get(Schedule, name)` is its handle.  Set up again as it is, nothing
                    is written; set up in another way, that counts from now on, and its history stays
        cron, tz    at the times of an expression (see runtime/cron.py) in a time zone, UTC by default
        every       at this interval of real time, from `start` or now on
        at          once; a moment that passed means now
        start, end  no planned time lies before or behind
        max_fires   so many planned times, counted since the times were set
        jitter      each run begins up to so much later, by chance
        missed      of times that passed while the process was down the newest is made up ("one"), the newest
                    `max_missed` are ("all"), or none that is more than a minute late ("skip")
        overlap     while a run that the schedule started goes on: "allow" starts another one beside it,
                    "skip" none; "queue" lets at most `max_queued` planned times wait; "cancel" terminates it
        ref, tenant, tags   as for `start`

        A run's id is the schedule's name, a slash, and the planned time (UTC), so a planned time comes once.
        The time is also the run's tag `scheduled_at`, and `scheduled_at(self)` in `run()`.  Raises
        `InvalidSchedule`, `InvalidCron`, `InvalidDuration` or `InvalidInput`.
        """
        kind = self.workflow_type(workflow)
        definition = make_definition(
            name, kind.name, cron=cron, every=every, at=at, tz=tz, start=start, end=end, max_fires=max_fires,
            jitter=jitter, missed=missed, max_missed=max_missed, overlap=overlap, max_queued=max_queued,
            ref=ref, tenant=tenant, tags=tags,
        )  # fmt: skip
        schedule = self.get(Schedule, name)
        await schedule.define(definition, kind.encode_input(input)[0])
        return schedule

    def schedules(
        self,
        workflow: type[Workflow] | None = None,
        *,
        status: ScheduleStatus | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[ScheduleInfo]:
        """Schedules by name; with `workflow` or `status`, those in the order in which they were first set up.

        `after` is the name of the last one of the page before.
        """
        name = None if workflow is None else self.workflow_type(workflow).name
        return list_schedules(self, self.type_of(Schedule), name, status, after, limit)
