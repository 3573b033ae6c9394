"""A loop that is never idle must not starve the commits."""

from __future__ import annotations

import asyncio
from pathlib import Path

from holdfast.runtime.actor import Actor
from holdfast.runtime.limits import Limits
from holdfast.runtime.system import ActorSystem


class Counting(Actor):
    value: int = 0

    async def add(self) -> int:
        self.value += 1
        return self.value

    async def read(self) -> int:
        return self.value


async def test_durable_calls_beside_tasks_that_never_wait(folder: Path) -> None:
    """Tasks that use up the loop don't starve the writer: calls and commits go hand in hand.

    What is counted is work, not time: between two durable calls the busy tasks get only so many rounds.
    """
    async with ActorSystem(folder, limits=Limits(stall_seconds=None)) as system:
        rounds, stop = 0, False

        async def never_wait() -> None:
            nonlocal rounds
            while not stop:
                sum(range(2000))
                rounds += 1
                await asyncio.sleep(0)

        busy = [asyncio.create_task(never_wait()) for _ in range(20)]
        counting = system.get(Counting, 1)
        between: list[int] = []
        for number in range(100):
            before = rounds
            assert await counting.add() == number + 1
            between.append(rounds - before)
        stop = True
        await asyncio.gather(*busy)
        assert system.store.group_commit.commits >= 100
        # A starved writer lets some fifty thousand rounds pass for each commit.
        assert sorted(between)[50] < 5_000


async def test_durable_calls_beside_busy_actors(folder: Path) -> None:
    """Callers that keep the loop busy with calls that write nothing share it with those that write."""
    async with ActorSystem(folder, limits=Limits(stall_seconds=None)) as system:
        stop = False

        async def read_on(key: int) -> int:
            calls = 0
            while not stop:
                await system.get(Counting, f"reader{key}").read()
                calls += 1
                await asyncio.sleep(0)
            return calls

        readers = [asyncio.create_task(read_on(key)) for key in range(20)]
        writers = [_add(system, key, 20) for key in range(20)]
        assert await asyncio.gather(*writers) == [20] * 20
        stop = True
        assert min(await asyncio.gather(*readers)) > 0
        # Those who wait for one commit share the next: far fewer commits than calls.
        assert system.store.group_commit.commits < 400


async def _add(system: ActorSystem, key: int, times: int) -> int:
    value = 0
    for _ in range(times):
        value = await system.get(Counting, f"writer{key}").add()
    return value
