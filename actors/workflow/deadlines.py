"""Deadlines of attempts: most attempts end long before, so a long deadline must cost next to nothing to set
and to take back.

A short one is a timer of the clock.  The long ones are kept in a table that is looked through once a second
while anything is in it, so they are up to two seconds late.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ...runtime.clock import Clock, TimerHandle

if TYPE_CHECKING:
    from .step_op import StepOp

# From so many seconds on being two seconds late doesn't matter.
_LONG_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0


class Deadlines:
    """The deadlines of all attempts in progress, of one engine; at most one for each step."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # The look at which each is up.  Looks are counted in place of reading a clock: a wall clock that is
        # set moves no deadline.
        self._long: dict[StepOp, int] = {}
        self._looks = 0
        self._short: dict[StepOp, TimerHandle] = {}
        self._timer: TimerHandle | None = None

    def begin(self, op: StepOp, seconds: float) -> None:
        """Tell `op` after so many seconds that its attempt's time is up."""
        if seconds < _LONG_SECONDS:
            self._short[op] = self._clock.call_later(seconds, op.timed_out)
            return
        self._long[op] = self._looks + math.ceil(seconds / _LOOK_SECONDS) + 1
        if self._timer is None:
            self._timer = self._clock.call_later(_LOOK_SECONDS, self._look)

    def end(self, op: StepOp) -> None:
        """Forget the deadline of an attempt that is over; harmless when there is none."""
        if self._long.pop(op, None) is None:
            timer = self._short.pop(op, None)
            if timer is not None:
                timer.cancel()

    def stop(self) -> None:
        """Tell nobody any more."""
        self._long.clear()
        for timer in self._short.values():
            timer.cancel()
        self._short.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        self._looks += 1
        for op in [op for op, look in self._long.items() if look <= self._looks]:
            op.timed_out()
        if self._long and self._timer is None:
            self._timer = self._clock.call_later(_LOOK_SECONDS, self._look)
