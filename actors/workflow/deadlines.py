"""Deadlines of attempts: most attempts end long before, so a long deadline must cost next to nothing to set
and to take back.

A short one is a timer of the clock.  The long ones are kept in a table that is looked through once a second
while anything is in it, so they are up to a second late.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from ...runtime.clock import Clock, TimerHandle

# From so many seconds on being a second late doesn't matter.
_LONG_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0


class Deadline:
    """A long deadline; `cancel` takes it back."""

    __slots__ = ("_table", "callback", "looks_left")

    def __init__(self, table: dict[int, Deadline], looks_left: int, callback: Callable[[], None]) -> None:
        self._table = table
        self.looks_left = looks_left
        self.callback = callback

    def cancel(self) -> None:
        """Don't call; harmless when it was called already."""
        self._table.pop(id(self), None)


class Deadlines:
    """All deadlines of one engine."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._table: dict[int, Deadline] = {}
        self._timer: TimerHandle | None = None

    def call_later(self, seconds: float, callback: Callable[[], None]) -> TimerHandle:
        """Call `callback` after so many seconds, at most a second late."""
        if seconds < _LONG_SECONDS:
            return self._clock.call_later(seconds, callback)
        deadline = Deadline(self._table, math.ceil(seconds / _LOOK_SECONDS) + 1, callback)
        self._table[id(deadline)] = deadline
        if self._timer is None:
            self._timer = self._clock.call_later(_LOOK_SECONDS, self._look)
        return deadline

    def stop(self) -> None:
        """Call nothing more."""
        self._table.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        # Looks are counted in place of reading a clock: a wall clock that is set moves no deadline.
        self._timer = None
        for deadline in list(self._table.values()):
            deadline.looks_left -= 1
            if deadline.looks_left <= 0:
                deadline.cancel()
                deadline.callback()
        if self._table and self._timer is None:
            self._timer = self._clock.call_later(_LOOK_SECONDS, self._look)
