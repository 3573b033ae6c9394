"""Log lines about code that fails again and again: a few of each kind, then how many more there were.

A thousand actors whose handler always raises would else write a thousand tracebacks at once, in the loop's
thread, while everybody waits.

Promises
  * Of one kind (an actor type, most often) and level at most `MAX_LINES` lines are written within
    `WINDOW_SECONDS`.
  * What was left out is told: one line with the number when that time is over, or the runtime closes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from .clock import Clock, TimerHandle
from .error_text import last_frames

# Enough to see that it isn't one actor alone; ten tracebacks take the loop about 5 ms.
MAX_LINES: Final = 10
WINDOW_SECONDS: Final = 10.0


class _Window:
    """The lines of one kind since the first of them."""

    __slots__ = ("left_out", "lines", "timer")

    def __init__(self, timer: TimerHandle) -> None:
        self.lines = 0
        self.left_out = 0
        self.timer = timer


class LimitedLog:
    """The bounded part of a runtime's log."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # No longer than there are kinds that were written about in the last while.
        self._windows: dict[tuple[logging.Logger, int, str], _Window] = {}
        self._stopped = False

    def log(
        self,
        logger: logging.Logger,
        level: int,
        kind: str,
        message: str,
        *args: object,
        error: BaseException | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        """Write a line, with the trace of `error` and the fields `extra`, or count it when enough of its kind
        were written.
        """
        if not logger.isEnabledFor(level):
            return
        if not self._stopped:
            window = self._window(logger, level, kind)
            if window.lines >= MAX_LINES:
                window.left_out += 1
                return
            window.lines += 1
        frames = None if error is None else last_frames(error)
        logger.log(level, message, *args, exc_info=frames, extra=extra)

    def stop(self) -> None:
        """Tell what was left out so far; from now on nothing is."""
        self._stopped = True
        for logger, level, kind in list(self._windows):
            self._end(logger, level, kind)

    def _window(self, logger: logging.Logger, level: int, kind: str) -> _Window:
        window = self._windows.get((logger, level, kind))
        if window is None:
            timer = self._clock.call_later(
                WINDOW_SECONDS, lambda: self._end(logger, level, kind), upkeep=True
            )
            window = self._windows[logger, level, kind] = _Window(timer)
        return window

    def _end(self, logger: logging.Logger, level: int, kind: str) -> None:
        window = self._windows.pop((logger, level, kind), None)
        if window is None:
            return
        window.timer.cancel()
        if window.left_out:
            logger.log(level, "%d more lines like this one about %s were left out", window.left_out, kind)
