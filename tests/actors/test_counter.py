"""The counter is exact: beside many callers, over restarts, crashes and failed commits."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast import Counter, StorageFailed
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import InvalidArgument
from tests.actors.queue_support import Child, runtime
from tests.runtime.support import FailingLog

COUNTING_CHILD = """
import asyncio, sys
from holdfast import Counter, Runtime
async def main():
    async with Runtime(sys.argv[1]) as rt:
        counter = rt.get(Counter, "hits")
        async def caller():
            while True:
                print(await counter.increment())
        await asyncio.gather(*(caller() for _ in range(20)))
asyncio.run(main())
"""


async def test_a_new_counter_is_zero(tmp_path: Path) -> None:
    """Nothing is stored by asking."""
    async with runtime(tmp_path) as rt:
        counter = rt.get(Counter, "hits")
        assert await counter.get() == 0
        assert await counter.updated_at_ms() is None
        assert rt.keys(Counter) == []


async def test_every_call_counts(tmp_path: Path) -> None:
    """Each of a thousand callers side by side gets a value of its own."""
    async with runtime(tmp_path) as rt:
        counter = rt.get(Counter, "hits")
        values = await asyncio.gather(*(counter.increment() for _ in range(1000)))
        assert sorted(values) == list(range(1, 1001))
        assert await counter.get() == 1000


async def test_steps_up_and_down(tmp_path: Path) -> None:
    """Any whole number may be added or taken away, and values may be below zero and beyond 64 bits' half."""
    async with runtime(tmp_path) as rt:
        counter = rt.get(Counter, "hits")
        assert await counter.increment(5) == 5
        assert await counter.decrement() == 4
        assert await counter.decrement(10) == -6
        assert await counter.increment(-4) == -10
        assert await counter.increment(1 << 62) == (1 << 62) - 10


async def test_reset_returns_the_value_before(tmp_path: Path) -> None:
    """A reset is a swap."""
    async with runtime(tmp_path) as rt:
        counter = rt.get(Counter, "hits")
        await counter.increment(7)
        assert await counter.reset() == 7
        assert await counter.reset(3) == 0
        assert await counter.get() == 3


async def test_counters_are_apart(tmp_path: Path) -> None:
    """Keys do not share a value."""
    async with runtime(tmp_path) as rt:
        await rt.get(Counter, ("tenant", 1)).increment()
        await rt.get(Counter, ("tenant", 2)).increment(2)
        assert [await rt.get(Counter, ("tenant", n)).get() for n in (1, 2, 3)] == [1, 2, 0]


async def test_the_time_of_the_last_change(tmp_path: Path) -> None:
    """Every change sets it; reading doesn't."""
    clock = ManualClock(5_000)
    async with runtime(tmp_path, clock) as rt:
        counter = rt.get(Counter, "hits")
        await counter.increment()
        clock.advance(1)
        await counter.get()
        assert await counter.updated_at_ms() == 5_000
        await counter.reset()
        assert await counter.updated_at_ms() == 6_000


@pytest.mark.parametrize("wrong", [1.5, "1", None, b"1"])
async def test_only_whole_numbers(tmp_path: Path, wrong: object) -> None:
    """What is no whole number is refused, and nothing changes."""
    async with runtime(tmp_path) as rt:
        counter = rt.get(Counter, "hits")
        with pytest.raises(InvalidArgument):
            await counter.increment(wrong)  # type: ignore[arg-type]
        assert await counter.get() == 0


async def test_the_value_survives_a_restart(tmp_path: Path) -> None:
    """It is on disk when the call returns."""
    async with runtime(tmp_path) as rt:
        await rt.get(Counter, "hits").increment(3)
    async with runtime(tmp_path) as rt:
        assert await rt.get(Counter, "hits").increment() == 4


async def test_a_failed_commit_does_not_count(tmp_path: Path) -> None:
    """What could not be stored was not counted, and the next call goes on from what was."""
    log = FailingLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        counter = rt.get(Counter, "hits")
        await counter.increment()
        log.fail_next = 1
        results = await asyncio.gather(*(counter.increment() for _ in range(5)), return_exceptions=True)
        assert all(isinstance(result, StorageFailed) for result in results)
        assert await counter.increment() == 2


def test_acknowledged_counts_survive_kill_nine(tmp_path: Path) -> None:
    """After kill -9 the value is at least the highest that was told, at most one more for each caller."""
    child = Child(COUNTING_CHILD, tmp_path)
    told = [int(child.line()) for _ in range(500)]
    told += [int(line) for line in child.kill()[:-1]]  # the last line may be cut off

    async def value() -> int:
        async with runtime(tmp_path) as rt:
            return await rt.get(Counter, "hits").get()

    assert max(told) <= asyncio.run(value()) <= max(told) + 21  # the cut-off line was told too
    assert len(set(told)) == len(told)
