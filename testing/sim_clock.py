"""The clock of a simulated process: the virtual time of its loop, and a wall clock that can be set."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import copy_context

from ..runtime.clock import TimerHandle
from .sim_loop import SimLoop


class SimClock:
    """Virtual time.  The wall clock goes with it until it is set."""

    # Whoever sets the wall clock tells the runtime, so nobody has to look every second: an alarm of next year
    # is one timer.
    look_seconds = math.inf

    def __init__(self, loop: SimLoop, wall_zero_us: int) -> None:
        """`wall_zero_us` is the wall time (microseconds since 1970) at the zero of virtual time."""
        self._loop = loop
        self.wall_zero_us = wall_zero_us

    def now_ms(self) -> int:
        return (self.wall_zero_us + self._loop.now_us) // 1000

    def call_later(
        self, seconds: float, callback: Callable[[], None], *, upkeep: bool = False
    ) -> TimerHandle:
        due_us = self._loop.now_us + max(0, round(seconds * 1_000_000))
        return self._loop.set_timer(due_us, callback, (), copy_context(), upkeep)
