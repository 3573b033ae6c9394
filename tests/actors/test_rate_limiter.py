"""The rate limiter against a model of a bucket, over restarts, failed commits and clocks that are set."""

from __future__ import annotations

import asyncio
import math
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import CallerError, RateLimiter, Runtime, StorageFailed
from holdfast.runtime.clock import ManualClock
from holdfast.storage.errors import InvalidKey
from tests.actors.queue_support import runtime
from tests.runtime.support import FailingLog


async def test_as_many_as_the_limit_and_no_more(tmp_path: Path) -> None:
    """After a pause the whole limit goes through at once, and the next one is told when to ask again."""
    async with runtime(tmp_path) as rt:
        limiter = rt.get(RateLimiter, "imports")
        said = [await limiter.take("ann", limit=3, per="1m") for _ in range(4)]
        assert [one.remaining for one in said] == [2, 1, 0, 0]
        assert [one.allowed for one in said] == [True, True, True, False]
        assert said[-1].retry_after_seconds == 20.0


async def test_who_asks_again_when_told_gets_through(tmp_path: Path) -> None:
    """`retry_after_seconds` is neither too early nor too late."""
    clock = ManualClock()
    async with runtime(tmp_path, clock) as rt:
        limiter = rt.get(RateLimiter, "imports")
        for _ in range(3):
            await limiter.take("ann", limit=3, per="1m")
        clock.advance(19.999)
        assert not (await limiter.take("ann", limit=3, per="1m")).allowed
        clock.advance(0.001)
        assert (await limiter.take("ann", limit=3, per="1m")).allowed


async def test_names_do_not_share_a_bucket(tmp_path: Path) -> None:
    """One name's requests take nothing from another's."""
    async with runtime(tmp_path) as rt:
        limiter = rt.get(RateLimiter, "imports")
        assert (await limiter.take("ann", limit=1, per="1m")).allowed
        assert not (await limiter.take("ann", limit=1, per="1m")).allowed
        assert (await limiter.take("bo", limit=1, per="1m")).allowed


async def test_callers_side_by_side_get_no_more(tmp_path: Path) -> None:
    """Of a hundred at once exactly the limit goes through."""
    async with runtime(tmp_path) as rt:
        limiter = rt.get(RateLimiter, "imports")
        said = await asyncio.gather(*(limiter.take("ann", limit=10, per="1h") for _ in range(100)))
        assert sum(one.allowed for one in said) == 10


async def test_a_restart_forgives_nothing(tmp_path: Path) -> None:
    """What was taken before is taken afterwards."""
    clock = ManualClock()
    for allowed in (True, False):
        async with runtime(tmp_path, clock) as rt:
            assert (await rt.get(RateLimiter, "imports").take("ann", limit=1, per="1h")).allowed is allowed


async def test_asking_and_forgiving(tmp_path: Path) -> None:
    """`remaining` takes none; `forgive` fills the bucket."""
    async with runtime(tmp_path) as rt:
        limiter = rt.get(RateLimiter, "imports")
        await limiter.take("ann", limit=5, per="1m", n=4)
        assert [await limiter.remaining("ann", limit=5, per="1m") for _ in range(2)] == [1, 1]
        await limiter.forgive("ann")
        assert await limiter.remaining("ann", limit=5, per="1m") == 5


async def test_a_full_bucket_is_no_row(tmp_path: Path) -> None:
    """Nothing is kept of who has not asked for long."""
    clock = ManualClock()
    async with runtime(tmp_path, clock) as rt:
        limiter = rt.get(RateLimiter, "imports")
        await asyncio.gather(*(limiter.take(f"user-{i}", limit=2, per="1m") for i in range(50)))
        clock.advance(3600)
        rt.expiry.sweep()
        await rt.get(RateLimiter, "other").take("ann", limit=1, per="1m")  # behind the sweep's commit
        assert [key for key in _rows(rt) if b"user-" in key] == []


def _rows(rt: Runtime) -> list[bytes]:
    return [key for key, _ in rt.store.scan(b"", None, reverse=False, limit=None)]


async def test_a_refusal_writes_nothing(tmp_path: Path) -> None:
    """Who is refused makes no commit."""
    async with runtime(tmp_path) as rt:
        limiter = rt.get(RateLimiter, "imports")
        await limiter.take("ann", limit=1, per="1h")
        before = rt.store.newest
        for _ in range(10):
            await limiter.take("ann", limit=1, per="1h")
        assert rt.store.newest == before


async def test_a_clock_set_back_by_a_year_locks_nobody_out(tmp_path: Path) -> None:
    """The wait is never longer than an empty bucket takes."""
    clock = ManualClock()
    async with runtime(tmp_path, clock) as rt:
        limiter = rt.get(RateLimiter, "imports")
        await limiter.take("ann", limit=2, per="1m")
        clock.set_wall(clock.now_ms() - 365 * 86_400_000)
        said = await limiter.take("ann", limit=2, per="1m")
        assert not said.allowed
        assert said.retry_after_seconds == 30.0


async def test_a_commit_that_failed_took_nothing(tmp_path: Path) -> None:
    """The caller is told that, and the token is there."""
    log = FailingLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        limiter = rt.get(RateLimiter, "imports")
        log.fail_next = 1
        with pytest.raises(StorageFailed):
            await limiter.take("ann", limit=1, per="1h")
        assert (await limiter.take("ann", limit=1, per="1h")).allowed


@pytest.mark.parametrize(
    "numbers",
    [
        {"limit": 0, "per": "1m"},
        {"limit": -1, "per": "1m"},
        {"limit": 1, "per": 0},
        {"limit": 1, "per": "1m", "burst": 0},
        {"limit": 1, "per": "1m", "n": 2},
        {"limit": 1, "per": "1m", "n": 0},
        {"limit": 1, "per": "soon"},
        {"limit": 10**10, "per": 1},
    ],
)
async def test_numbers_that_no_bucket_has(tmp_path: Path, numbers: dict) -> None:
    """They are refused with a sentence."""
    async with runtime(tmp_path) as rt:
        with pytest.raises(CallerError):
            await rt.get(RateLimiter, "imports").take("ann", **numbers)


async def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    """It is a key, and has a key's bound."""
    async with runtime(tmp_path) as rt:
        with pytest.raises(InvalidKey, match="at most 240"):
            await rt.get(RateLimiter, "imports").take("x" * 1000, limit=1, per="1m")


@settings(deadline=None, max_examples=50)
@given(
    limit=st.integers(1, 20),
    per_ms=st.integers(1, 100_000),
    burst=st.one_of(st.none(), st.integers(1, 20)),
    asks=st.lists(st.tuples(st.integers(0, 20_000), st.integers(1, 20)), max_size=40),
)
def test_it_does_as_a_bucket_does(
    limit: int, per_ms: int, burst: int | None, asks: list[tuple[int, int]]
) -> None:
    """A bucket of fractions of tokens, filled by the exact rate, says the same."""
    depth = limit if burst is None else burst
    clock = ManualClock()

    async def story() -> None:
        with TemporaryDirectory() as folder:
            async with runtime(Path(folder), clock) as rt:
                limiter = rt.get(RateLimiter, "imports")
                tokens, at_ms = Fraction(depth), clock.now_ms()
                for wait_ms, n in asks:
                    clock.advance(wait_ms / 1000)
                    now_ms = clock.now_ms()
                    # The limiter's intervals are whole nanoseconds, rounded up.
                    interval_ns = -(-per_ms * 1_000_000 // limit)
                    tokens = min(
                        Fraction(depth), tokens + Fraction((now_ms - at_ms) * 1_000_000, interval_ns)
                    )
                    at_ms = now_ms
                    if n > depth:
                        continue
                    allowed = tokens >= n
                    wait_seconds = 0.0 if allowed else float((n - tokens) * interval_ns / 1_000_000_000)
                    tokens -= n if allowed else 0
                    said = await limiter.take("ann", limit=limit, per=per_ms / 1000, burst=burst, n=n)
                    assert (said.allowed, said.remaining) == (allowed, math.floor(tokens))
                    assert said.retry_after_seconds == pytest.approx(wait_seconds)

    asyncio.run(story())
