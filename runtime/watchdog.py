"""The watchdog: names the actor whose turn blocks the loop, with its stack.

A thread beside the loop.  The loop leaves a heart-beat four times per limit; when it stays away, the thread
looks at the loop's stack and finds the turn there, so a turn itself pays nothing for being watched.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from types import FrameType
from typing import TYPE_CHECKING

from .call import run
from .chain import Turn
from .clock import TimerHandle

if TYPE_CHECKING:
    from .system import ActorSystem

_log = logging.getLogger("holdfast.watchdog")


class Watchdog:
    """Reports each stall of the loop longer than `limit_seconds` once, as a warning with actor and stack."""

    def __init__(self, system: ActorSystem, limit_seconds: float) -> None:
        self._system = system
        self._limit_seconds = limit_seconds
        self._beat = time.monotonic()
        self._thread_id = threading.get_ident()
        self._stop = threading.Event()
        self._timer: TimerHandle | None = None
        # Stalls since the start; the list below holds the last ones.
        self.stalls = 0
        self.reports: list[str] = []
        """The last reports (at most 20), the newest last."""
        self._thread = threading.Thread(target=self._watch, name="holdfast-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch the loop of the calling thread."""
        self._pulse()
        self._thread.start()

    def stop(self) -> None:
        """End the watch."""
        if self._timer is not None:
            self._timer.cancel()
        self._stop.set()
        self._thread.join()

    def _pulse(self) -> None:
        now = time.monotonic()
        if self._timer is not None:
            lag_seconds = now - self._beat - self._limit_seconds / 4
            self._system.counts.loop_lag.observe(max(0.0, lag_seconds))
        self._beat = now
        self._timer = self._system.loop.call_later(self._limit_seconds / 4, self._pulse)

    def _watch(self) -> None:
        reported = 0.0
        while not self._stop.wait(self._limit_seconds / 4):
            beat = self._beat
            if time.monotonic() - beat > self._limit_seconds and beat != reported:
                reported = beat
                self._report(time.monotonic() - beat)

    def _report(self, seconds: float) -> None:
        self.stalls += 1
        frame = sys._current_frames().get(self._thread_id)  # pyright: ignore[reportPrivateUsage]
        turn = find_turn(frame)
        where = f"a turn of {turn}" if turn is not None else "code outside any turn"
        stack = "".join(traceback.format_stack(frame, limit=30)) if frame is not None else "(no stack)"
        text = (
            f"{where} has blocked the event loop for {seconds:.1f} s; move blocking work to a thread or "
            f"a step\n{stack}"
        )
        self.reports = [*self.reports[-19:], text]
        _log.warning("%s", text)


def find_turn(frame: FrameType | None) -> Turn | None:
    """The innermost turn that runs in a stack."""
    while frame is not None:
        if frame.f_globals.get("__name__") == run.__module__:  # where turns run
            turn = frame.f_locals.get("turn")
            if isinstance(turn, Turn):
                return turn
        frame = frame.f_back
    return None
