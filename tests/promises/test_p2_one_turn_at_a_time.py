"""P2: one turn at a time per key, in arrival order; only shared methods interleave."""

from __future__ import annotations

import asyncio
import random

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from tests.runtime.support import turns


class Overlap(Exception):
    """Two turns ran at the same time."""


class Guarded(Actor):
    value: int = 0
    order: list[int] = []
    _inside: bool = False

    async def add(self, number: int, waits: int = 0, fail: bool = False) -> int:
        if self._inside:
            raise Overlap
        self._inside = True
        try:
            before = self.value
            await turns(waits)
            self.value = before + 1
            self.order.append(number)
            if fail:
                raise ValueError
            return self.value
        finally:
            self._inside = False

    async def add_through(self, others: list[int], number: int) -> int:
        for other in others:
            await self.runtime.get(Guarded, other).add(number, 2)
        return await self.runtime.get(Guarded, self.key).add(number)

    @shared
    async def peek(self) -> int:
        return self.value

    async def read(self) -> tuple[int, list[int]]:
        return self.value, self.order


async def test_read_add_write_is_safe(system: ActorSystem) -> None:
    """200 calls at once, each reading, waiting and writing, add up to 200."""
    guarded = system.get(Guarded, 1)
    calls = [guarded.add(number, waits=number % 4) for number in range(200)]
    assert sorted(await asyncio.gather(*calls)) == list(range(1, 201))


async def test_arrival_order(system: ActorSystem) -> None:
    """Turns run in the order in which the calls came, however long each takes."""
    guarded = system.get(Guarded, 1)
    await asyncio.gather(*[guarded.add(number, waits=(number * 7) % 5) for number in range(100)])
    assert (await guarded.read())[1] == list(range(100))


@pytest.mark.parametrize("seed", range(5))
async def test_under_failures_and_cancellations(system: ActorSystem, seed: int) -> None:
    """Turns never overlap, and the value counts exactly those that succeeded."""
    chance = random.Random(seed)
    guarded = system.get(Guarded, 1)
    calls: list[asyncio.Task[int]] = []
    cancelled: set[int] = set()
    for number in range(300):
        calls.append(
            asyncio.create_task(guarded.add(number, chance.randrange(3), fail=chance.random() < 0.2))
        )
        if chance.random() < 0.3:
            await turns(chance.randrange(4))
        if chance.random() < 0.2:
            chosen = chance.randrange(len(calls))
            cancelled.add(chosen)
            calls[chosen].cancel()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert not any(isinstance(one, Overlap) for one in found)
    done = {number for number, one in enumerate(found) if isinstance(one, int)}
    value, order = await guarded.read()
    assert value == len(order)
    assert order == sorted(order)
    assert done <= set(order)
    assert set(order) - done <= cancelled  # cancelled at the gate: the turn had ended


async def test_nested_calls_do_not_overlap(system: ActorSystem) -> None:
    """Turns made by calls of other actors queue like any other."""
    calls = [system.get(Guarded, 100 + number).add_through([1, 2, 3], number) for number in range(20)]
    await asyncio.gather(*calls)
    for key in (1, 2, 3):
        value, order = await system.get(Guarded, key).read()
        assert value == 20
        assert sorted(order) == list(range(20))


async def test_shared_interleaves_with_a_turn(system: ActorSystem) -> None:
    """A shared call doesn't wait for the turn in progress."""
    guarded = system.get(Guarded, 1)
    call = asyncio.create_task(guarded.add(1, waits=1000))
    await turns(5)
    assert await guarded.peek() == 0
    assert not call.done()
    assert await call == 1


async def test_keys_run_side_by_side(system: ActorSystem) -> None:
    """Turns of different keys do overlap."""
    slow = asyncio.create_task(system.get(Guarded, 1).add(1, waits=1000))
    await turns(5)
    assert await system.get(Guarded, 2).add(1) == 1
    assert not slow.done()
    await slow
