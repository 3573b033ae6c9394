"""The clock: what time it is, and calling back later.  Everything that has to do with time asks it, so tests can move it.

Wall time (milliseconds since 1970) decides when alarms, sleeps and retries are due, since they outlive the process.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol


class TimerHandle(Protocol):
    """What `call_later` gives back."""

    def cancel(self) -> None:
        """Don't call; harmless when it was called already."""
        ...


class Clock(Protocol):
    """Wall time and timers."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since 1970."""
        ...

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback` in the loop after so many seconds."""
        ...


class SystemClock:
    """The machine's own time and the running loop's timers."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle:
        return asyncio.get_running_loop().call_later(seconds, callback)


class ManualClock:
    """Time that stands still until `advance` moves it: for tests."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = float(now_ms)
        self._timers: list[tuple[float, int, _ManualTimer]] = []
        self._order = itertools.count()
        # Timers count elapsed time, which a wall clock that is set back or forth leaves alone.
        self._elapsed_ms = 0.0

    def now_ms(self) -> int:
        return int(self._now_ms)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle:
        timer = _ManualTimer(callback)
        heapq.heappush(self._timers, (self._elapsed_ms + max(0.0, seconds) * 1000, next(self._order), timer))
        return timer

    def set_wall(self, now_ms: int) -> None:
        """Set the wall clock without letting time pass, as an operator or a time server does."""
        self._now_ms = float(now_ms)

    def advance(self, seconds: float) -> None:
        """Let time pass, calling each timer at its moment and in order."""
        target = self._elapsed_ms + seconds * 1000
        while self._timers and self._timers[0][0] <= target:
            due, _, timer = heapq.heappop(self._timers)
            step = max(0.0, due - self._elapsed_ms)
            self._elapsed_ms += step
            self._now_ms += step
            if not timer.cancelled:
                timer.callback()
        self._now_ms += target - self._elapsed_ms
        self._elapsed_ms = target


class _ManualTimer:
    __slots__ = ("callback", "cancelled")

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True
