"""Time zones by name, and what a zone makes of a wall time: once, twice, or not at all.

The data are the system's, which the system keeps up to date; where there are none (bare containers, for
instance) those of the package `tzdata`, if it is installed: `pip install holdfast[tz]`.  UTC needs neither.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from .errors import InvalidCron

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)


def zone(name: str) -> tzinfo:
    """The zone with an IANA name such as `Europe/Berlin`; raises `InvalidCron` when there is none."""
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # not everybody needs it, and it takes a while

    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError, TypeError) as error:  # OSError: a folder of zones, as `Europe`
        raise InvalidCron(
            f"tz must be a time zone's IANA name, such as 'Europe/Berlin' or 'UTC'; got {name!r:.80}, which "
            f"isn't known here (a machine without zone data gets them by `pip install holdfast[tz]`)"
        ) from error


def wall_time(seconds: int, tz: tzinfo) -> datetime:
    """What clocks in the zone show so many seconds after 1970."""
    return (_EPOCH + timedelta(seconds=seconds)).astimezone(tz)


def offset_seconds(seconds: int, tz: tzinfo) -> int:
    """By how much clocks in the zone are ahead of UTC then."""
    return _offset(wall_time(seconds, tz))


def resolve(wall: datetime, tz: tzinfo) -> int:
    """When clocks in the zone show a wall time (given without a zone), in seconds since 1970.

    The first time of two.  Where clocks are set forward over it, the moment at which that happens.
    """
    aware = wall.replace(tzinfo=tz, fold=0)
    found = seconds_of(aware)
    if wall_time(found, tz).replace(tzinfo=None, fold=0) == wall:
        return found
    # In a gap `fold` chooses the offset before or after it, so the change lies between the two readings.
    return last_change(seconds_of(aware.replace(fold=1)), found, tz)


def last_change(low: int, high: int, tz: tzinfo) -> int:
    """The moment in (low, high] from which on the offset is that of `high`; they must differ at both ends."""
    offset = offset_seconds(high, tz)
    while high - low > 1:
        middle = (low + high) // 2
        if offset_seconds(middle, tz) == offset:
            high = middle
        else:
            low = middle
    return high


def seconds_of(aware: datetime) -> int:
    """Seconds since 1970."""
    return (aware - _EPOCH) // _SECOND


def _offset(aware: datetime) -> int:
    offset = aware.utcoffset()
    assert offset is not None
    return offset // _SECOND
