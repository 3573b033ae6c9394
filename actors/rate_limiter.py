"""A rate limiter: so many within a time for each name, over restarts.

A token bucket, kept as one number for each name: the moment at which its bucket is full again (the generic
cell rate algorithm of ITU-T I.371).  Taking a token moves that moment one interval on; it may lie as far
ahead as the bucket is deep.  The row of a bucket that is full goes away by itself.

Promises
  * Never more than `burst` tokens at once, nor more than `limit` in each `per` from then on; also beside a
    thousand other callers and over crashes (P1, P4).
  * A refusal writes nothing, so who is refused costs no disk.
  * A wall clock that is set back makes nobody wait for longer than an empty bucket takes to fill.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..runtime.actor import Actor
from ..runtime.durations import SentDuration, to_seconds
from ..runtime.methods import shared
from ..storage.errors import CallerError

_NS: Final = 1_000_000_000


class Allowance(msgspec.Struct, frozen=True):
    """What a limiter says to one request."""

    allowed: bool
    remaining: int
    """Tokens that are left now."""
    retry_after_seconds: float
    """When it is worth to ask again, from now; 0 for what was allowed."""


class RateLimiter(Actor):
    """Limits by name: `await rt.get(RateLimiter, "imports").take("ann", limit=10, per="1m")`.

    The numbers come with each call, so that they can be changed at any time; all who share a bucket give the
    same.
    """

    async def take(
        self, name: str, *, limit: int, per: SentDuration, burst: int | None = None, n: int = 1
    ) -> Allowance:
        """Take `n` tokens if they are there.

        name    whose bucket: a user, an address, a token; a key of storage (at most 239 bytes)
        limit, per   how many in which time, evenly
        burst   how many at once after a pause; `limit` by default

        Raises `CallerError` for numbers that no bucket has, and `InvalidKey`.
        """
        interval_ns, depth_ns = _bucket(limit, per, burst)
        if n < 1 or n * interval_ns > depth_ns:
            raise CallerError(
                f"{self._activation.ref}, {name!r:.100}: n is from 1 to the burst of "
                f"{depth_ns // interval_ns}; got {n}"
            )
        now_ns = self._now_ns()
        ahead_ns = self._ahead_ns(name, now_ns, depth_ns)
        after_ns = ahead_ns + n * interval_ns
        if after_ns > depth_ns:
            return Allowance(False, (depth_ns - ahead_ns) // interval_ns, (after_ns - depth_ns) / _NS)
        # Milliseconds are what a ttl has; one more, so that the row is not gone before its bucket is full.
        self.storage.put(name, now_ns + after_ns, ttl=after_ns / _NS + 0.001)
        return Allowance(True, (depth_ns - after_ns) // interval_ns, 0.0)

    @shared
    async def remaining(self, name: str, *, limit: int, per: SentDuration, burst: int | None = None) -> int:
        """Tokens that are left; takes none."""
        interval_ns, depth_ns = _bucket(limit, per, burst)
        return (depth_ns - self._ahead_ns(name, self._now_ns(), depth_ns)) // interval_ns

    async def forgive(self, name: str) -> None:
        """Fill a bucket."""
        self.storage.delete(name)

    def _ahead_ns(self, name: str, now_ns: int, depth_ns: int) -> int:
        """How far the bucket is from being full; not farther than an empty one, whatever the clock did."""
        full_ns = self.storage.get(name, int)
        return 0 if full_ns is None else min(max(full_ns - now_ns, 0), depth_ns)

    def _now_ns(self) -> int:
        return self._activation.system.clock.now_ms() * 1_000_000


def _bucket(limit: int, per: SentDuration, burst: int | None) -> tuple[int, int]:
    """Nanoseconds for each token, and for a bucket of them."""
    per_ns = round(to_seconds(per, what="per") * _NS)
    depth = limit if burst is None else burst
    if limit < 1 or depth < 1 or per_ns < limit:
        raise CallerError(
            f"a rate has a limit and a burst of at least 1, and a nanosecond for each; got limit={limit}, "
            f"per={per!r}, burst={burst}"
        )
    interval_ns = -(-per_ns // limit)  # rounded up: never more than the limit
    return interval_ns, interval_ns * depth
