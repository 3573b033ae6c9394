"""How many requests at once, and how many a second of each token; beyond, one is told when to come again.

    TooMany   429: this token asks faster than it may
    TooBusy   503: so many requests are in progress

The rate is a bucket: `burst` requests may come at once, and are there again at `per_second`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .access import Caller

MAX_IN_PROGRESS: Final = 1_000
BUSY_SECONDS: Final = 1.0


class TooMany(Exception):
    """A token asks faster than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__("this token asks faster than it may; come again later")
        self.seconds = seconds


class TooBusy(Exception):
    """So many requests are in progress that no more is begun."""

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} requests are in progress; come again later")
        self.seconds = BUSY_SECONDS


class Bucket:
    """The rate of one token."""

    __slots__ = ("_ahead_seconds", "_each_seconds", "_now", "_spent_until")

    def __init__(self, per_second: float, burst: int, now: Callable[[], float] = monotonic) -> None:
        self._each_seconds = 1 / per_second
        self._ahead_seconds = burst / per_second
        self._now = now
        # When the bucket is full again; what lies in the past is as good as now.
        self._spent_until = 0.0

    def take(self) -> None:
        """Let one request pass; raises `TooMany`, and then it costs nothing."""
        now = self._now()
        until = max(self._spent_until, now) + self._each_seconds
        # A millionth of a request is left to how fractions are rounded.
        wait = until - now - self._ahead_seconds
        if wait > self._each_seconds * 1e-6:
            raise TooMany(wait)
        self._spent_until = until


class Pace:
    """Both bounds of one service."""

    def __init__(self, max_in_progress: int) -> None:
        self._most = max_in_progress
        self._in_progress = 0
        # By caller: tokens of one name, role and tenant share a bucket.  As many as there are tokens.
        self._buckets: dict[Caller, Bucket] = {}

    def limit(self, caller: Caller, per_second: float, burst: int) -> None:
        """Set the rate of a token."""
        self._buckets[caller] = Bucket(per_second, burst)

    def check(self, caller: Caller) -> None:
        """Let a request of a token pass; raises `TooMany`."""
        bucket = self._buckets.get(caller)
        if bucket is not None:
            bucket.take()

    def __enter__(self) -> None:
        """Begin a request; raises `TooBusy`."""
        if self._in_progress >= self._most:
            raise TooBusy(self._most)
        self._in_progress += 1

    def __exit__(self, *ignored: object) -> None:
        """It has ended."""
        self._in_progress -= 1
