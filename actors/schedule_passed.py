"""Which planned times of a schedule passed, and which of them are kept: the policy for missed times.

It reads the state of a schedule, and moves its next planned time and its count of missed ones; what follows
is done by the schedule (schedule.py), in the same turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..runtime.repeats import LATE_MS, Missed
from .schedule_records import ScheduleState

# Planned times that passed are counted up to here; the older ones of a longer absence are not looked at.
_COUNTED: Final = 1_000


def times_to_keep(state: ScheduleState, name: str, now_ms: int, missed: Missed) -> list[int]:
    """The planned times that passed and are to be kept, in order; the others are counted in the state.

    `name` is the schedule's: how late each begins by chance follows from it.
    """
    timing, next_ms = state.definition.timing, state.next_ms
    if next_ms is None:
        return []
    passed = [
        planned_ms
        for planned_ms in planned_back(state, now_ms, next_ms, _COUNTED)
        if timing.due_ms(name, planned_ms) <= now_ms
    ]
    if (
        (not passed or passed[-1] != next_ms)
        and len(passed) < _COUNTED
        and timing.due_ms(name, next_ms) <= now_ms
    ):
        # It was planned in another way: before the times, or the data of the zone, were changed.
        passed.append(next_ms)
    if not passed:
        return []
    most = state.definition.max_missed if missed == "all" else 1
    if state.definition.overlap == "cancel":
        most = 1  # the others would be stopped as they begin
    keep = passed[:most]
    if missed == "skip" and state.status != "stuck":
        keep = [one for one in keep if now_ms - timing.due_ms(name, one) <= LATE_MS]
    state.missed += len(passed) - len(keep)
    # Those that are left out are counted once, also if the others can't be kept yet.
    state.next_ms = keep[-1] if keep else timing.following(state.anchor_ms, passed[0])
    return keep[::-1]


def planned_back(state: ScheduleState, until_ms: int, since_ms: int, most: int) -> Iterator[int]:
    """Planned times from `until_ms` back to `since_ms`, at most so many."""
    for _ in range(most):
        found = state.definition.timing.newest(state.anchor_ms, until_ms, since_ms)
        if found is None:
            return
        yield found
        if found == since_ms:
            return
        until_ms = found - 1
