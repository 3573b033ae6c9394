"""A cron expression: five fields, and the days and times of day that they name.

    minute  hour  day-of-month  month  day-of-week        "*/15 9-17 * * MON-FRI"

    *                 every value                         JAN, MON     names, in any case
    5  1,15  9-17     a value, several, a range           7            Sunday, as 0
    */15  9-17/2      each 15th, each second of a range   10/15        from 10 on, each 15th
    L                 day of month: the last              5L, FRIL     the last Friday of the month
    MON#2             the second Monday of the month
    @yearly @annually @monthly @weekly @daily @midnight @hourly

When both day-of-month and day-of-week are restricted (neither begins with a star) a day that fits either is
meant, as in every cron since Vixie's; else both must fit.

There is no field for seconds: cron is for times that people name, `every=` for short intervals.  When the
times come in a zone, also as clocks are set, is told in cron_times.py.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from typing import Final, NamedTuple

from .errors import InvalidCron

_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS: Final = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS: Final = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_DAY: Final = timedelta(days=1)
# After so many years the calendar repeats, weekdays included: what doesn't come in them never comes.
_CYCLE_YEARS: Final = 400
_LAST_YEAR: Final = 9990  # behind it a datetime soon has no room
_MAX_CHARACTERS: Final = 200


class _Field(NamedTuple):
    """What one of the five fields may hold."""

    name: str
    low: int
    high: int
    names: tuple[str, ...]
    first_name: int  # the value of the first name
    expected: str


_FIELDS: Final = (
    _Field("minute", 0, 59, (), 0, "0 to 59"),
    _Field("hour", 0, 23, (), 0, "0 to 23"),
    _Field("day-of-month", 1, 31, (), 0, "1 to 31, or L for the last"),
    _Field("month", 1, 12, tuple(_MONTHS), 1, "1 to 12, or JAN to DEC"),
    _Field("day-of-week", 0, 7, tuple(_DAYS), 0, "0 to 7 or SUN to SAT (0 and 7 are Sunday), MON#2, or 5L"),
)


class Cron:
    """A parsed expression; made by `parse_cron`."""

    __slots__ = (
        "_any_day", "_days", "_last_day", "_last_weekdays", "_months", "_nth_weekdays", "_weekdays",
        "by_clock", "hours", "minutes", "text",
    )  # fmt: skip

    def __init__(self, text: str) -> None:
        """Raises `InvalidCron`."""
        self.text = text
        fields = _split(text)
        self.minutes = tuple(sorted(_values(text, 0, fields[0])))
        self.hours = tuple(sorted(_values(text, 1, fields[1])))
        self._last_day = False
        self._days: set[int] = set()
        for part in fields[2].split(","):
            if part == "L":
                self._last_day = True
            else:
                self._days |= _part(text, 2, part)
        self._months = _values(text, 3, fields[3])
        self._weekdays: set[int] = set()
        self._last_weekdays: set[int] = set()
        self._nth_weekdays: set[tuple[int, int]] = set()
        for part in fields[4].split(","):
            self._add_weekdays(text, part)
        self._any_day = not fields[2].startswith("*") and not fields[4].startswith("*")
        # Meant by what the clock shows, and not as an interval: see cron_times.py.
        self.by_clock = not fields[0].startswith("*") and not fields[1].startswith("*")
        if next(self.days_from(date(2000, 1, 1)), None) is None:
            raise InvalidCron(
                f"cron {text!r} never comes: no month of field 4 has a day as fields 3 and 5 want it"
            )

    def _add_weekdays(self, text: str, part: str) -> None:
        if len(part) > 1 and part.endswith("L"):
            self._last_weekdays.add(_value(text, 4, part, part[:-1]) % 7)
        elif "#" in part:
            day, _, nth = part.partition("#")
            if nth not in ("1", "2", "3", "4", "5"):
                raise _refused(text, 4, part, "a number from 1 to 5 behind #")
            self._nth_weekdays.add((_value(text, 4, part, day) % 7, int(nth)))
        else:
            self._weekdays |= {value % 7 for value in _part(text, 4, part)}

    def is_day(self, day: date) -> bool:
        """Whether it comes on this day."""
        if day.month not in self._months:
            return False
        in_month = day.day in self._days or (self._last_day and day.day == monthrange(day.year, day.month)[1])
        if in_month and self._any_day:
            return True
        if not in_month and not self._any_day:
            return False
        weekday = day.isoweekday() % 7
        return (
            weekday in self._weekdays
            or (bool(self._nth_weekdays) and (weekday, (day.day + 6) // 7) in self._nth_weekdays)
            or (weekday in self._last_weekdays and day.day + 7 > monthrange(day.year, day.month)[1])
        )

    def days_from(self, day: date) -> Iterator[date]:
        """Its days from `day` on, in order; it ends when none comes for 400 years."""
        last = min(day.year + _CYCLE_YEARS, _LAST_YEAR)
        while day.year <= last:
            if day.month not in self._months:
                day = (day.replace(day=1) + 32 * _DAY).replace(day=1)
                continue
            if self.is_day(day):
                last = min(day.year + _CYCLE_YEARS, _LAST_YEAR)
                yield day
            day += _DAY

    def days_back_from(self, day: date, until: date) -> Iterator[date]:
        """Its days from `day` back to `until`, the latest first."""
        while day >= until:
            if day.month not in self._months:
                day = day.replace(day=1) - _DAY
                continue
            if self.is_day(day):
                yield day
            day -= _DAY

    def __repr__(self) -> str:
        return f"<cron {self.text!r}>"


@lru_cache(maxsize=1024)
def parse_cron(text: str) -> Cron:
    """The expression; raises `InvalidCron`, which names the field, what was expected there, and what came."""
    return Cron(text)


def _split(text: object) -> list[str]:
    if not isinstance(text, str) or len(text) > _MAX_CHARACTERS:
        raise InvalidCron(
            f"cron must be a text of at most {_MAX_CHARACTERS} characters such as '0 3 * * *'; "
            f"got {text!r:.80}"
        )
    stripped = text.strip()
    if stripped.startswith("@"):
        known = _MACROS.get(stripped.lower())
        if known is None:
            raise InvalidCron(f"cron {text!r}: expected one of {', '.join(_MACROS)}, or five fields")
        stripped = known
    fields = stripped.upper().split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        hint = "; for seconds use every=" if len(fields) == 6 else ""
        raise InvalidCron(f"cron {text!r}: expected five fields ({names}); got {len(fields)}{hint}")
    return fields


def _values(text: str, number: int, field: str) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        found |= _part(text, number, part)
    return found


def _part(text: str, number: int, part: str) -> set[int]:
    """The values of a part between commas: a value, a star or a range, perhaps with a step."""
    field = _FIELDS[number]
    span, slash, step_text = part.partition("/")
    step = 1
    if slash:
        if not _is_number(step_text) or int(step_text) < 1:
            raise _refused(text, number, part, "a whole number from 1 on behind the slash")
        step = int(step_text)
    if span == "*":
        low, high = field.low, field.high
    elif "-" in span:
        first, _, last = span.partition("-")
        low, high = _value(text, number, part, first), _value(text, number, part, last)
        if low > high:
            raise _refused(text, number, part, "a range from the lower to the higher value")
    else:
        low = _value(text, number, part, span)
        high = field.high if slash else low
    return set(range(low, high + 1, step))


def _value(text: str, number: int, part: str, value: str) -> int:
    field = _FIELDS[number]
    if value in field.names:
        return field.names.index(value) + field.first_name
    if not _is_number(value) or not field.low <= int(value) <= field.high:
        raise _refused(text, number, part, field.expected)
    return int(value)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


def _refused(text: str, number: int, part: str, expected: str) -> InvalidCron:
    field = _FIELDS[number]
    return InvalidCron(f"cron {text!r}: {field.name} (field {number + 1}): expected {expected}; got {part!r}")
