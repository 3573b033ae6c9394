"""When an alert is on: a rule looks at the course of the last minutes and says so, in words.

    course -> each rule -> a `Finding` while it is on, None while it is not

Plain data in, plain data out; who is told, and that it is told once, is alerts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from ...storage.errors import CallerError
from .course import POINT_SECONDS, CoursePoint, Totals

RuleName: TypeAlias = Literal[
    "failure_rate", "retry_storm", "dead_letter_growth", "slowdown", "loop_stalled", "disk_nearly_full"
]
WINDOW_SECONDS: Final = 300.0
WINDOW_POINTS: Final = round(WINDOW_SECONDS / POINT_SECONDS)


class AlertLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When the rules say that something is wrong; None turns a rule off.  Raises `CallerError`.

    All look at the last five minutes.
    """

    failed_share: float | None = 0.1
    """Failed runs among those that completed or failed."""
    least_runs: int = 20
    """So many must have ended for `failed_share` and `slowdown` to mean anything."""
    retries_per_minute: float | None = 60.0
    """Attempts of steps that are to be tried again."""
    new_dead_letters: int | None = 10
    """Failed runs and dead messages that came in addition."""
    slowdown: float | None = 3.0
    """The p95 of how long runs took, as a multiple of that of the hour before."""
    stalls: int | None = 1
    """Times that something blocked the event loop for longer than `Limits.stall_seconds`."""
    free_share: float | None = 0.1
    """What is left of the quota, or of the disk with what the store takes of it."""

    def __post_init__(self) -> None:
        """Refuse what can't be met or always is."""
        for name in self.__struct_fields__:
            value: object = getattr(self, name)
            if value is None and name != "least_runs":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise CallerError(f"AlertLimits.{name} must be a number above 0, or None; got {value!r}")


class Room(msgspec.Struct, frozen=True):
    """The room of a store."""

    used_bytes: int
    free_bytes: int
    quota_bytes: int | None
    min_free_bytes: int


class Finding(msgspec.Struct, frozen=True):
    """That a rule is on, and why."""

    value: float
    threshold: float
    message: str


def findings(
    limits: AlertLimits, totals: Sequence[Totals], points: Sequence[CoursePoint], room: Room
) -> dict[RuleName, Finding | None]:
    """What each rule that isn't turned off says now.

    totals   at the beginning of each point and at the end of the last one
    """
    now, before, first = totals[-1], totals[-1 - min(WINDOW_POINTS, len(totals) - 1)], totals[0]
    found: dict[RuleName, Finding | None] = {}
    if limits.failed_share is not None:
        found["failure_rate"] = _failure_rate(limits.failed_share, limits.least_runs, before, now)
    if limits.retries_per_minute is not None:
        found["retry_storm"] = _retry_storm(limits.retries_per_minute, before, now)
    if limits.new_dead_letters is not None:
        found["dead_letter_growth"] = _dead_letters(limits.new_dead_letters, points)
    if limits.slowdown is not None:
        found["slowdown"] = _slowdown(limits.slowdown, limits.least_runs, first, before, now)
    if limits.stalls is not None:
        stalls = now.stalls - before.stalls
        found["loop_stalled"] = (
            Finding(stalls, limits.stalls, f"the event loop was blocked {stalls} times; the log says by whom")
            if stalls >= limits.stalls
            else None
        )
    if limits.free_share is not None:
        found["disk_nearly_full"] = _disk(limits.free_share, room)
    return found


def _failure_rate(share: float, least: int, before: Totals, now: Totals) -> Finding | None:
    failed = now.runs_failed - before.runs_failed
    ended = failed + now.runs_ok - before.runs_ok
    if ended < least or failed / ended < share:
        return None
    return Finding(failed / ended, share, f"{failed} of {ended} runs failed within five minutes")


def _retry_storm(per_minute: float, before: Totals, now: Totals) -> Finding | None:
    # Over the whole window also when it isn't full yet: a burst at the start is no storm.
    found = (now.retries - before.retries) * 60 / WINDOW_SECONDS
    if found < per_minute:
        return None
    return Finding(found, per_minute, f"steps fail and are tried again {found:.0f} times a minute")


def _dead_letters(most: int, points: Sequence[CoursePoint]) -> Finding | None:
    if len(points) < 2:
        return None
    window = points[-1 - min(WINDOW_POINTS, len(points) - 1) :]
    grown = window[-1].dead_letters - min(point.dead_letters for point in window)
    if grown < most:
        return None
    return Finding(grown, most, f"{grown} dead letters came within five minutes")


def _slowdown(factor: float, least: int, first: Totals, before: Totals, now: Totals) -> Finding | None:
    recent = now.run_seconds.since(before.run_seconds)
    hour = before.run_seconds.since(first.run_seconds)
    if recent.count < least or hour.count < least:
        return None
    p95, usual = recent.quantile(0.95), hour.quantile(0.95)
    if not p95 or not usual or p95 / usual < factor:
        return None
    times = p95 / usual
    told = f"runs take {times:.1f} times as long as in the hour before: p95 {p95:.3g} s, not {usual:.3g} s"
    return Finding(times, factor, told)


def _disk(share: float, room: Room) -> Finding | None:
    left = room.free_bytes - room.min_free_bytes
    whole = room.used_bytes + room.free_bytes
    if room.quota_bytes is not None and room.quota_bytes < whole:
        left, whole = min(left, room.quota_bytes - room.used_bytes), room.quota_bytes
    free = max(0, left) / max(1, whole)
    if free >= share:
        return None
    return Finding(free, share, f"{free:.1%} of the room is left: {max(0, left)} bytes of {whole}")
