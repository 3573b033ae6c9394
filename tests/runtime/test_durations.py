"""Durations as people write them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.runtime.durations import InvalidDuration, to_due_ms, to_seconds


@pytest.mark.parametrize(
    ("given_as", "seconds"),
    [
        (0, 0),
        (5, 5),
        (1.5, 1.5),
        (timedelta(minutes=2, milliseconds=5), 120.005),
        ("250ms", 0.25),
        ("10s", 10),
        ("10 s", 10),
        (" 1h30m ", 5400),
        ("1 hour 30 min", 5400),
        ("2 days", 172800),
        ("1.5H", 5400),
        ("1w", 604800),
        ("0s", 0),
    ],
)
def test_readable(given_as: Any, seconds: float) -> None:
    """Seconds, timedeltas and short texts mean what they say."""
    assert to_seconds(given_as) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "given_as",
    [
        *(
            -1,
            -0.1,
            math.inf,
            math.nan,
            10**400,
            -(10**400),
            1e300,
            timedelta(seconds=-1),
            True,
            None,
            [],
            b"1s",
        ),
        *("", "  ", "10", "s", "10x", "-5s", "1h 30", "ten seconds", "1e5s", "10s!", "9" * 400 + "s"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_unreadable(given_as: Any) -> None:
    """Anything else is refused with the word that was given to the thing."""
    with pytest.raises(InvalidDuration, match="the wait"):
        to_seconds(given_as, what="the wait")


@given(st.datetimes(datetime(1971, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)))
def test_a_moment_is_never_rounded_down(when: datetime) -> None:
    """A datetime becomes the first whole millisecond at or after it."""
    due_ms = to_due_ms(when, 0)
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=due_ms)
    assert timedelta(0) <= at - when < timedelta(milliseconds=1)


def test_zones_count() -> None:
    """The same moment in two zones is one time; without a zone it is none."""
    when = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert to_due_ms(when, 0) == to_due_ms(when.astimezone(UTC), 0)
    with pytest.raises(InvalidDuration, match="zone"):
        to_due_ms(datetime(2030, 1, 1), 0)


def test_from_now() -> None:
    """A duration counts from now, rounded up to a whole millisecond."""
    assert to_due_ms(1.1, 1000) == 2100
    assert to_due_ms("2s", 1000) == 3000
    assert to_due_ms(0.0001, 1000) == 1001
    assert to_due_ms(0, 1000) == 1000


def test_long_ago() -> None:
    """A time before 1970 is as past as 1970."""
    assert to_due_ms(datetime(1, 1, 1, tzinfo=UTC), 5) == 0


def test_the_longest_duration_can_be_shown() -> None:
    """What is accepted leads to a moment that a datetime can hold."""
    due_ms = to_due_ms(31_536_000_000, 4_000_000_000_000)
    assert datetime.fromtimestamp(due_ms / 1000, UTC).year < 9999
