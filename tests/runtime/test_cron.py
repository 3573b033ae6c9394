"""runtime/cron.py: what expressions mean, and what is said of those that mean nothing."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import islice
from typing import cast

import pytest

from holdfast.runtime.cron import Cron, parse_cron
from holdfast.runtime.errors import InvalidCron


def days(text: str, start: date, count: int) -> list[str]:
    """The next days of an expression."""
    return [str(day) for day in islice(parse_cron(text).days_from(start), count)]


def test_fields() -> None:
    """Values, lists, ranges, steps, names in any case."""
    cron = parse_cron("5,50-52,*/30,10-20/5 9-17/4,23 * jan-mar,12 Mon-fri")
    assert cron.minutes == (0, 5, 10, 15, 20, 30, 50, 51, 52)
    assert cron.hours == (9, 13, 17, 23)
    assert cron.is_day(date(2030, 1, 1))
    assert not cron.is_day(date(2030, 1, 5))
    assert not cron.is_day(date(2030, 4, 1))
    assert cron.is_day(date(2030, 12, 2))
    assert parse_cron("10/20 20/3 * * *").minutes == (10, 30, 50)
    assert parse_cron("0 20/3 * * *").hours == (20, 23)


@pytest.mark.parametrize(
    ("macro", "same"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"),
        (" @Midnight ", "0 0 * * *"),
        ("@hourly", "0 * * * *"),
    ],
)
def test_macros(macro: str, same: str) -> None:
    """A macro stands for five fields."""
    one, other = Cron(macro), Cron(same)
    assert (one.minutes, one.hours, one.by_clock) == (other.minutes, other.hours, other.by_clock)
    start = date(2030, 1, 1)
    year = [start + timedelta(days=n) for n in range(365)]
    assert [one.is_day(day) for day in year] == [other.is_day(day) for day in year]


def test_either_day_field() -> None:
    """With both day fields restricted either is enough; a field that begins with a star restricts nothing."""
    assert days("0 0 13 * FRI", date(2030, 9, 10), 3) == ["2030-09-13", "2030-09-20", "2030-09-27"]
    assert days("0 0 13 * FRI", date(2030, 10, 12), 2) == ["2030-10-13", "2030-10-18"]
    assert days("0 0 13 * *", date(2030, 9, 10), 2) == ["2030-09-13", "2030-10-13"]
    # Both must fit: uneven days that are Mondays.
    assert days("0 0 */2 * MON", date(2030, 1, 1), 2) == ["2030-01-07", "2030-01-21"]


def test_sunday_is_0_and_7() -> None:
    """Both numbers mean Sunday, also as the end of a range."""
    sunday = date(2030, 1, 6)
    for text in ("0", "7", "SUN", "6-7", "*/7", "0-3"):
        assert parse_cron(f"0 0 * * {text}").is_day(sunday), text


def test_last_and_nth() -> None:
    """L is the month's last day, 5L its last Friday, MON#2 its second Monday."""
    assert days("0 0 L * *", date(2028, 1, 31), 3) == ["2028-01-31", "2028-02-29", "2028-03-31"]
    assert days("0 0 15,L 2 *", date(2030, 1, 1), 2) == ["2030-02-15", "2030-02-28"]
    assert days("0 0 * * 5L", date(2030, 1, 1), 2) == ["2030-01-25", "2030-02-22"]
    assert days("0 0 * * friL", date(2030, 1, 1), 1) == ["2030-01-25"]
    assert days("0 0 * * mon#2,SUN#1", date(2030, 1, 1), 3) == ["2030-01-06", "2030-01-14", "2030-02-03"]
    assert days("0 0 * 2 MON#5", date(2020, 1, 1), 3) == ["2044-02-29", "2072-02-29", "2112-02-29"]


def test_backwards_is_the_same() -> None:
    """The days back are those forwards, in the other order."""
    for text in ("0 0 13 * FRI", "0 0 L 2,5 *", "0 0 * * TUE#3", "0 0 29 2 *"):
        first, last = date(2027, 3, 4), date(2031, 5, 6)
        cron = parse_cron(text)
        forwards = [day for day in islice(cron.days_from(first), 800) if day <= last]
        assert list(cron.days_back_from(last, first)) == forwards[::-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("60 * * * *", "minute (field 1): expected 0 to 59; got '60'"),
        ("* 24 * * *", "hour (field 2): expected 0 to 23; got '24'"),
        ("* * 0 * *", "day-of-month (field 3): expected 1 to 31, or L for the last; got '0'"),
        ("* * * 13 *", "month (field 4): expected 1 to 12, or JAN to DEC; got '13'"),
        ("* * * MAI *", "month (field 4): expected 1 to 12, or JAN to DEC; got 'MAI'"),
        ("* * * * 8", "day-of-week (field 5): expected 0 to 7 or SUN to SAT"),
        ("* * * * MOO", "got 'MOO'"),
        ("* * * * L", "day-of-week (field 5)"),
        ("* * * * MON#6", "day-of-week (field 5): expected a number from 1 to 5 behind #; got 'MON#6'"),
        ("*/0 * * * *", "minute (field 1): expected a whole number from 1 on behind the slash; got '*/0'"),
        ("*/x * * * *", "behind the slash"),
        ("5,,6 * * * *", "minute (field 1): expected 0 to 59; got ''"),
        ("* * * * SAT-SUN", "expected a range from the lower to the higher value; got 'SAT-SUN'"),
        ("1-2-3 * * * *", "got '1-2-3'"),
        ("+1 * * * *", "got '+1'"),
        ("\u0661 * * * *", "minute (field 1)"),
        ("W * ? * *", "minute (field 1)"),
        ("0 0 ? * *", "day-of-month (field 3)"),
        ("0 0 15W * *", "day-of-month (field 3)"),
        ("* * * *", "expected five fields (minute, hour, day-of-month, month, day-of-week); got 4"),
        ("0 * * * * *", "got 6; for seconds use every="),
        ("", "got 0"),
        ("@reboot", "expected one of @yearly"),
        ("0 0 30 2 *", "never comes"),
        ("0 0 31 4,6,9,11 *", "never comes"),
        ("0 0 L 2 1#1", None),
        ("x" * 300, "at most 200 characters"),
    ],
)
def test_bad_expressions(text: str, message: str | None) -> None:
    """An error names the field, what was expected there, and what came."""
    if message is None:
        parse_cron(text)
        return
    with pytest.raises(InvalidCron) as caught:
        parse_cron(text)
    assert message in str(caught.value)


def test_not_a_text() -> None:
    """Something else than a text is refused as such."""
    with pytest.raises(InvalidCron, match="must be a text"):
        parse_cron(cast("str", 5))


def test_both_day_fields_must_fit_and_never_do() -> None:
    """A star in one field makes both necessary; what then never comes is told."""
    with pytest.raises(InvalidCron, match="never comes"):
        parse_cron("0 0 */40 2 2#5")
