"""How often and how long apart a step is tried again: the policy of a class, of one step, or of a queue.

Plain data.  The wait is worked out once, when an attempt failed, and recorded with it (step_op.py); replay
takes what is recorded.
"""

from __future__ import annotations

import random
from typing import Final, Literal

from ...runtime.durations import Duration, to_seconds
from ...storage.errors import CallerError

Backoff = Literal["constant", "linear", "exponential"]
MAX_LIMIT: Final = 10_000
_BACKOFFS: Final = ("constant", "linear", "exponential")


class Retry:
    """So many retries after the first attempt: `Retry(3, "1s")` is at most four attempts.

    With a = attempts made and d = delay, the wait is d (constant), d x a (linear) or d x 2^(a-1)
    (exponential), at most `cap`, and up to `jitter` of itself longer, by chance.  The rule of waits is the
    one of Cloudflare Workflows; cap and jitter are ours.
    """

    __slots__ = ("backoff", "cap_seconds", "delay_seconds", "jitter", "limit")

    def __init__(
        self,
        limit: int = 3,
        delay: Duration = 1.0,
        backoff: Backoff = "exponential",
        *,
        cap: Duration = "1h",
        jitter: float = 0.25,
    ) -> None:
        """Raises `CallerError` for a limit outside 0 to 10 000, an unknown back-off or a jitter outside 0 to
        1.
        """
        if type(limit) is not int or not 0 <= limit <= MAX_LIMIT:
            raise CallerError(f"Retry(limit) must be a whole number from 0 to {MAX_LIMIT}; got {limit!r}")
        if backoff not in _BACKOFFS:
            raise CallerError(f"Retry(backoff) must be one of {', '.join(_BACKOFFS)}; got {backoff!r}")
        if not 0 <= jitter <= 1:
            raise CallerError(f"Retry(jitter) must be between 0 and 1; got {jitter!r}")
        self.limit = limit
        self.delay_seconds = to_seconds(delay, what="Retry(delay)")
        self.backoff = backoff
        self.cap_seconds = to_seconds(cap, what="Retry(cap)")
        self.jitter = jitter

    def wait_seconds(self, attempts: int, chance: random.Random) -> float:
        """Seconds to wait after `attempts` attempts."""
        seconds = self.delay_seconds
        if self.backoff == "linear":
            seconds *= attempts
        elif self.backoff == "exponential":
            seconds *= 2.0 ** min(attempts - 1, 60)
        seconds = min(seconds, self.cap_seconds)
        return seconds * (1 + self.jitter * chance.random()) if self.jitter else seconds

    def __repr__(self) -> str:
        return f"Retry({self.limit}, {self.delay_seconds:g}, {self.backoff!r})"
