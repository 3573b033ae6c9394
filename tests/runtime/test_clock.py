"""The manual clock: time that stands until it is moved."""

from __future__ import annotations

import asyncio
import time

import pytest

from holdfast.runtime.clock import ManualClock, SystemClock


def test_time_stands_still() -> None:
    """Nothing moves until `advance`, and then by exactly so much."""
    clock = ManualClock(1000)
    assert clock.now_ms() == 1000
    clock.advance(1.5)
    assert clock.now_ms() == 2500


def test_timers_fire_at_their_moment_and_in_order() -> None:
    """Each callback sees the time at which it was due; equal times keep their order."""
    clock, seen = ManualClock(0), []
    for name, seconds in [("late", 3), ("early", 1), ("also early", 1), ("now", 0), ("too late", 3.001)]:
        clock.call_later(seconds, lambda name=name: seen.append((name, clock.now_ms())))  # type: ignore[misc]
    clock.advance(3)
    assert seen == [("now", 0), ("early", 1000), ("also early", 1000), ("late", 3000)]


def test_timers_set_by_timers() -> None:
    """A callback may set another timer, which fires in the same advance when it is due."""
    clock, seen = ManualClock(0), []

    def again() -> None:
        seen.append(clock.now_ms())
        clock.call_later(1, again)

    clock.call_later(1, again)
    clock.advance(3.5)
    assert seen == [1000, 2000, 3000]


def test_cancelled_timers_do_not_fire() -> None:
    """`cancel` before the time holds; after it, it is harmless."""
    clock, seen = ManualClock(0), []
    first = clock.call_later(1, lambda: seen.append(1))
    second = clock.call_later(1, lambda: seen.append(2))
    first.cancel()
    clock.advance(1)
    second.cancel()
    assert seen == [2]


def test_setting_the_wall_clock_fires_nothing() -> None:
    """Timers count elapsed time; the wall clock may jump meanwhile."""
    clock, seen = ManualClock(0), []
    clock.call_later(10, lambda: seen.append(clock.now_ms()))
    clock.set_wall(5_000_000)
    assert seen == []
    clock.advance(10)
    assert seen == [5_010_000]


def test_no_moment_is_missed_by_rounding() -> None:
    """Many small steps add up exactly."""
    clock, seen = ManualClock(0), []
    clock.call_later(100.1, lambda: seen.append(clock.now_ms()))
    for _ in range(1001):
        clock.advance(0.1)
    assert seen == [100_100]
    assert clock.now_ms() == 100_100


def test_time_does_not_run_backwards() -> None:
    """A negative advance is a mistake."""
    with pytest.raises(ValueError, match="set_wall"):
        ManualClock().advance(-1)


async def test_system_clock() -> None:
    """The real one gives milliseconds of wall time and the loop's timers."""
    clock, fired = SystemClock(), asyncio.Event()
    assert abs(clock.now_ms() - time.time() * 1000) < 10_000
    clock.call_later(1000, fired.set).cancel()
    clock.call_later(0, fired.set)
    await fired.wait()
