"""Schedules as clients see them: when they come next and came last, what they missed and skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from ...actors.errors import ScheduleNotFound
from ...actors.schedule import Schedule
from ...actors.schedule_records import ScheduleInfo, ScheduleStatus, list_schedules
from ...runtime.address import ActorKey
from ..cursors import cursor_place, cursor_text
from .addresses import address_of

if TYPE_CHECKING:
    from ...actors.system import Runtime

NEXT_FIRES: Final = 10
_PAGE: Final = 256
# Schedules that one page looks at, in the search for those of a tenant: some tens of milliseconds.
MAX_LOOKED_AT: Final = 2_048


def view_schedules(
    runtime: Runtime,
    limit: int,
    cursor: str | None = None,
    *,
    workflow: str | None = None,
    status: ScheduleStatus | None = None,
    tenant: str | None = None,
) -> dict[str, object]:
    """A page of schedules by name; with `workflow` or `status` in the order in which they were set up."""
    after = None if cursor is None else cursor_place(cursor, str)
    kind = runtime.type_of(Schedule)
    found: list[ScheduleInfo] = []
    looked, more = 0, True
    while len(found) < limit and looked < MAX_LOOKED_AT:
        page = list_schedules(runtime, kind, workflow, status, after, _PAGE)
        more = len(page) == _PAGE
        for one in page:
            looked, after = looked + 1, one.name
            if tenant is None or one.tenant == tenant:
                found.append(one)
                if len(found) == limit:
                    more = more or one is not page[-1]
                    break
        if not more:
            break
    return {
        "schedules": [view_info(one) for one in found],
        "next": cursor_text(after) if more and after is not None else None,
    }


def view_info(info: ScheduleInfo) -> dict[str, object]:
    """A schedule as clients see it."""
    pause = None if info.pause is None else msgspec.structs.asdict(info.pause)
    return {**msgspec.structs.asdict(info), "pause": pause, "address": address_of(info.name)}


async def find_schedule(runtime: Runtime, key: ActorKey, tenant: str | None = None) -> Schedule:
    """The handle of a schedule; raises `ScheduleNotFound`, also for one of another tenant."""
    schedule = runtime.get(Schedule, key)
    info = await schedule.info()
    if tenant is not None and info.tenant != tenant:
        raise ScheduleNotFound(f"there is no schedule {key!r}")
    return schedule


async def view_schedule(schedule: Schedule) -> dict[str, object]:
    """One schedule with its next planned times and what its runs get."""
    return {
        **view_info(await schedule.info()),
        "next_fires": await schedule.next_fires(NEXT_FIRES),
        "input": await schedule.input(),
    }
