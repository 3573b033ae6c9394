"""What the tests of the simulation share: workflows to crash."""

from __future__ import annotations

import asyncio

from holdfast import Counter, Retry, Workflow


async def add(n: int, by: int) -> int:
    """A step that waits for nothing."""
    return n + by


def double(n: int) -> int:
    """A plain step."""
    return n * 2


async def slowly(n: int) -> int:
    """A step that takes five seconds."""
    await asyncio.sleep(5)
    return n - 1


class FiveSteps(Workflow):
    """Five steps, a sleep of a day and an actor call."""

    retry = Retry(3, "1s")

    async def run(self, n: int) -> int:
        n = await self.step(add, n, 1)
        n = await self.step(double, n)
        n = await self.step(slowly, n)
        await self.sleep("1d")
        await self.runtime.get(Counter, "total").increment(n)
        n = await self.step(double, n)
        return await self.step(add, n, 10)


RESULT_OF_FIVE = ((5 + 1) * 2 - 1) * 2 + 10


class Tally(Workflow):
    """Nothing but actor calls."""

    async def run(self, times: int) -> int:
        total = 0
        for _ in range(times):
            total = await self.runtime.get(Counter, "tally").increment()
        return total
