"""When a cron expression comes in a time zone, forwards and backwards, also as clocks are set.

The rules are those of Vixie's cron as Debian has it, for changes of any length:

  * An expression whose minute and hour fields both don't begin with a star names times of day (`30 2 * * *`).
    A time that clocks leave out comes once, right when they are set forward; several of them come once
    together.  A time that clocks show twice comes the first time.
  * Any other one (`*/15 * * * *`, `0 * * * *`) goes by real time: it comes whenever clocks show such a time,
    so twice in an hour that is repeated, and not at all in one that is left out.

Times come in order, and never two at one moment.  They are seconds since 1970.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from .cron import Cron
from .zones import last_change, offset_seconds, resolve, seconds_of, wall_time

# Stretches of real time looked at as one.  No zone ever changed its offset twice within six hours.
_STRETCH: Final = 6 * 3600
# No zone is further from UTC.
_FARTHEST: Final = 16 * 3600
_DAY: Final = 86_400
_FIRST_DAY: Final = date(1970, 1, 1)
_ONE_DAY: Final = timedelta(days=1)


def next_time(cron: Cron, after: int, tz: tzinfo) -> int | None:
    """The first time behind `after`; None when none comes any more."""
    return _next_by_clock(cron, after, tz) if cron.by_clock else _next_by_real_time(cron, after, tz)


def newest_time(cron: Cron, until: int, since: int, tz: tzinfo) -> int | None:
    """The last time that isn't behind `until`; None when none came from `since` on."""
    if cron.by_clock:
        found = _newest_by_clock(cron, until, since, tz)
    else:
        found = _newest_by_real_time(cron, until, since, tz)
    return found if found is not None and found >= since else None


# -- times of day --------------------------------------------------------------------------------------------


def _next_by_clock(cron: Cron, after: int, tz: tzinfo) -> int | None:
    shown = wall_time(after, tz).replace(tzinfo=None, fold=0)
    for day in cron.days_from(shown.date()):
        for hour in cron.hours:
            for minute in cron.minutes:
                wall = datetime.combine(day, time(hour, minute))
                # What clocks show resolves to `after` or earlier, and the order of wall times is kept.
                if wall > shown and (found := resolve(wall, tz)) > after:
                    return found
    return None


def _newest_by_clock(cron: Cron, until: int, since: int, tz: tzinfo) -> int | None:
    aware = wall_time(until, tz)
    shown = aware.replace(tzinfo=None, fold=0)
    if aware.fold:  # clocks were set back and show a later time as one that passed
        before, after = aware.replace(fold=0).utcoffset(), aware.utcoffset()
        assert before is not None and after is not None
        shown += before - after
    first_day = wall_time(since, tz).date() - 2 * _ONE_DAY  # a day may be left out as a whole
    for day in cron.days_back_from(shown.date(), first_day):
        for hour in reversed(cron.hours):
            for minute in reversed(cron.minutes):
                wall = datetime.combine(day, time(hour, minute))
                if wall <= shown and (found := resolve(wall, tz)) <= until:
                    return found
    return None


# -- real time -----------------------------------------------------------------------------------------------


def _next_by_real_time(cron: Cron, after: int, tz: tzinfo) -> int | None:
    at = after + 1
    while True:
        # Clocks may be set back over midnight, and show the day before again.
        day = next(cron.days_from(wall_time(at, tz).date() - _ONE_DAY), None)
        if day is None:
            return None
        at = max(at, _midnight_utc(day) - _FARTHEST)
        end = at + _STRETCH
        for low, high, offset in _pieces(at, end, tz):
            found = _first_in(cron, low, high, offset)
            if found is not None:
                return found
        at = end


def _newest_by_real_time(cron: Cron, until: int, since: int, tz: tzinfo) -> int | None:
    end = until + 1
    while end > since:
        shown, first = wall_time(end - 1, tz).date(), wall_time(since, tz).date() - _ONE_DAY
        # Clocks may have been set back over midnight, and so have shown a later day before.
        day = next(cron.days_back_from(shown + _ONE_DAY, first), None)
        if day is None:
            return None
        end = min(end, _midnight_utc(day) + _DAY + _FARTHEST)
        start = end - _STRETCH
        for low, high, offset in reversed(list(_pieces(start, end, tz))):
            found = _last_in(cron, low, high, offset)
            if found is not None:
                return found
        end = start
    return None


def _midnight_utc(day: date) -> int:
    return seconds_of(datetime.combine(day, time(), UTC))


def _pieces(start: int, end: int, tz: tzinfo) -> Iterator[tuple[int, int, int]]:
    """The stretch [start, end) in pieces of one offset each, with the offset."""
    first, last = offset_seconds(start, tz), offset_seconds(end - 1, tz)
    if first == last:
        yield start, end, first
    else:
        change = last_change(start, end - 1, tz)
        yield start, change, first
        yield change, end, last


def _first_in(cron: Cron, low: int, high: int, offset: int) -> int | None:
    """The first time in [low, high), where clocks are `offset` ahead of UTC."""
    minute, end = -((low + offset) // -60), (high + offset + 59) // 60  # of the clocks, since 1970
    while minute < end:
        hour, place = divmod(minute, 60)
        if hour % 24 in cron.hours and cron.is_day(_FIRST_DAY + timedelta(days=hour // 24)):
            position = bisect_left(cron.minutes, place)
            if position < len(cron.minutes):
                found = hour * 60 + cron.minutes[position]
                return found * 60 - offset if found < end else None
        minute = (hour + 1) * 60
    return None


def _last_in(cron: Cron, low: int, high: int, offset: int) -> int | None:
    """The last time in [low, high)."""
    minute, first = (high - 1 + offset) // 60, -((low + offset) // -60)
    while minute >= first:
        hour, place = divmod(minute, 60)
        if hour % 24 in cron.hours and cron.is_day(_FIRST_DAY + timedelta(days=hour // 24)):
            position = bisect_right(cron.minutes, place)
            if position:
                found = hour * 60 + cron.minutes[position - 1]
                return found * 60 - offset if found >= first else None
        minute = hour * 60 - 1
    return None
