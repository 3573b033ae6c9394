"""How often a request is sent, and how long apart: only what is safe to do again is asked for again.

    failed -> was it not sent, or not done, or is it safe twice? -> a pause, with chance in it -> again
                                                               -> the error

No I/O here: a driver sends, and waits.
"""

from __future__ import annotations

import random
from typing import Final

from .errors import ServiceBusy, ServiceError, ServiceUnreachable

MAX_TRIES: Final = 6
FIRST_PAUSE_SECONDS: Final = 0.1
MAX_PAUSE_SECONDS: Final = 5.0
# The service did nothing: too many requests, or it has no room at the moment.
_NOT_DONE: Final = (429, 503)


class Tries:
    """The tries of one request."""

    def __init__(self, what: str, until: float, *, is_safe: bool, most_tries: int = MAX_TRIES) -> None:
        """`until` is when the time is up, by the driver's clock in seconds; `is_safe` as of a `Request`."""
        self._what = what
        self._is_safe = is_safe
        self._until = until
        self._most_tries = most_tries
        self._made = 0
        self._may_be_done = False

    def seconds_left(self, now: float) -> float:
        """How long the next try may take; raises `ServiceUnreachable` when the time is up."""
        left = self._until - now
        if left <= 0:
            raise ServiceUnreachable(f"{self._what}: the time was up", was_sent=self._may_be_done)
        return left

    def pause_after(self, error: ServiceError, now: float) -> float:
        """How long to wait before the next try; raises the error when there is none."""
        self._made += 1
        self._may_be_done |= isinstance(error, ServiceUnreachable) and error.was_sent
        pause = pause_seconds(self._made)
        if isinstance(error, ServiceBusy) and error.retry_after_seconds is not None:
            pause += error.retry_after_seconds
        if self._made >= self._most_tries or now + pause >= self._until or not self._may_again(error):
            raise error
        return pause

    def _may_again(self, error: ServiceError) -> bool:
        if isinstance(error, ServiceUnreachable):
            return self._is_safe or not error.was_sent
        if isinstance(error, ServiceBusy):
            return self._is_safe or error.status in _NOT_DONE
        return False


def pause_seconds(failures: int) -> float:
    """A pause behind so many failures in a row: longer each time up to a bound, by chance between half and
    all of it, so that many clients don't come back in the same moment.
    """
    longest: float = min(MAX_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 20))
    return longest * random.uniform(0.5, 1.0)
