"""The clock: what time it is, and calling back later.

Everything that has to do with time asks it, so tests can move it.

Wall time (milliseconds since 1970) decides when alarms, sleeps and retries are due, since they outlive the
process.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Protocol


class TimerHandle(Protocol):
    """What `call_later` gives back."""

    def cancel(self) -> None:
        """Don't call; harmless when it was called already."""
        ...


class Clock(Protocol):
    """Wall time and timers."""

    @property
    def look_seconds(self) -> float:
        """Who waits for a wall time looks at it again after so many seconds at the latest.

        A wall clock that is set tells nobody.
        """
        ...

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970."""
        ...

    def call_later(
        self, seconds: float, callback: Callable[[], None], *, upkeep: bool = False
    ) -> TimerHandle:
        """Call `callback` in the loop after so many seconds.

        Nobody waits for what `upkeep` does: a clock that is moved may leave some of it out.
        """
        ...


LOOK_SECONDS: Final = 1.0


class SystemClock:
    """The machine's own time and the running loop's timers."""

    look_seconds = LOOK_SECONDS

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def call_later(
        self, seconds: float, callback: Callable[[], None], *, upkeep: bool = False
    ) -> TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, callback)


class ManualClock:
    """Time that stands still until `advance` moves it: for tests."""

    # Rarely: a test that lets a week pass would look a million times.
    look_seconds = 10 * LOOK_SECONDS

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        # Whole microseconds: a timer must not miss its moment by a rounding error.
        self._now_us = now_ms * 1000
        # Timers count elapsed time, which a wall clock that is set back or forth leaves alone.
        self._elapsed_us = 0
        self._timers: list[tuple[int, int, _ManualTimer]] = []
        self._order = itertools.count()

    def now_ms(self) -> int:
        return self._now_us // 1000

    def call_later(
        self, seconds: float, callback: Callable[[], None], *, upkeep: bool = False
    ) -> TimerHandle:
        timer = _ManualTimer(callback)
        due_us = self._elapsed_us + max(0, round(seconds * 1_000_000))
        heapq.heappush(self._timers, (due_us, next(self._order), timer))
        return timer

    def set_wall(self, now_ms: int) -> None:
        """Set the wall clock without letting time pass, as an operator or a time server does."""
        self._now_us = now_ms * 1000

    def advance(self, seconds: float) -> None:
        """Let time pass, calling each timer at its moment and in order."""
        if seconds < 0:
            raise ValueError(f"time can't run backwards; set_wall sets the wall clock back (got {seconds})")
        target_us = self._elapsed_us + round(seconds * 1_000_000)
        while self._timers and self._timers[0][0] <= target_us:
            due_us, _, timer = heapq.heappop(self._timers)
            self._pass(max(0, due_us - self._elapsed_us))
            if not timer.cancelled:
                timer.callback()
        self._pass(target_us - self._elapsed_us)

    def _pass(self, microseconds: int) -> None:
        self._elapsed_us += microseconds
        self._now_us += microseconds


def moment(time_ms: int) -> datetime:
    """Milliseconds since 1970 as people read them, with a zone."""
    return datetime.fromtimestamp(time_ms / 1000, UTC)


class _ManualTimer:
    __slots__ = ("callback", "cancelled")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
