"""Durations as people write them: seconds, a `timedelta`, or short text such as "10s", "1h30m", "2 days"."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from ..storage.errors import CallerError

Duration: TypeAlias = int | float | str | timedelta
# As a parameter of an actor's method: a timedelta travels as ISO 8601 text ("P1DT30S"), which is read too.
SentDuration: TypeAlias = int | float | str

_UNIT_SECONDS: Final = {
    "ms": 0.001,
    "s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0,
    "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
    "h": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "d": 86400.0, "day": 86400.0, "days": 86400.0,
    "w": 604800.0, "week": 604800.0, "weeks": 604800.0,
}  # fmt: skip
_ISO: Final = re.compile(r"p(?:(\d+)d)?(?:t(\d+(?:\.\d+)?)s)?")
_PART: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*")
# About a thousand years: far beyond it a time in milliseconds would leave what a datetime can show.
_MAX_SECONDS: Final = 31_536_000_000.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
# The last one of the year 9999: `datetime.max`, which people take for "never", rounded up would be shown as
# none.
_LAST_MS: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND


class InvalidDuration(CallerError, ValueError):
    """A duration or a time that can't be read."""


def to_seconds(duration: Duration, *, what: str = "duration") -> float:
    """The duration in seconds.

    Raises `InvalidDuration` when it can't be read, is negative or isn't finite.
    """
    seconds: float
    if isinstance(duration, timedelta):
        seconds = duration.total_seconds()
    elif isinstance(duration, bool):
        raise InvalidDuration(f"{what} must be seconds, a timedelta or a text like '10s'; got {duration!r}")
    elif isinstance(duration, int):
        seconds = float(max(-1, min(duration, 1 << 62)))  # others may not fit a float, and are refused below
    elif isinstance(duration, float):
        seconds = duration
    else:
        seconds = _parse(duration, what)
    if not math.isfinite(seconds) or seconds < 0 or seconds > _MAX_SECONDS:
        raise InvalidDuration(f"{what} must be between 0 and {_MAX_SECONDS:.0f} seconds; got {duration!r}")
    return seconds


def to_due_ms(when: Duration | datetime, now_ms: int, *, what: str = "time") -> int:
    """A moment in milliseconds since 1970: a datetime with a zone, or a duration from now on."""
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise InvalidDuration(
                f"{what} {when!r} has no time zone; give it one (for instance timezone.utc)"
            )
        # Up, never down: an alarm is never early.  Times before 1970 passed long ago, as 1970 did.
        return min(max(0, -((_EPOCH - when) // _MILLISECOND)), _LAST_MS)
    seconds = to_seconds(when, what=what)
    return now_ms + math.ceil(round(seconds * 1000, 6))  # 1.1 s are 1100.0000000000001 ms


def _parse(text: object, what: str) -> float:
    position, seconds = 0, 0.0
    if not isinstance(text, str):
        raise InvalidDuration(f"{what} must be seconds, a timedelta or a text like '10s'; got {text!r}")
    lowered = text.strip().lower()
    if lowered.startswith("p") and (iso := _ISO.fullmatch(lowered)) is not None:
        return int(iso[1] or 0) * 86400.0 + float(iso[2] or 0)
    while position < len(lowered):
        match = _PART.match(lowered, position)
        if match is None or match[2] not in _UNIT_SECONDS:
            raise InvalidDuration(
                f"{what} {text!r} can't be read; write it like '250ms', '10s', '1h30m' or '2 days'"
            )
        seconds += float(match[1]) * _UNIT_SECONDS[match[2]]
        position = match.end()
    if not lowered:
        raise InvalidDuration(f"{what} is empty; write it like '10s'")
    return seconds
