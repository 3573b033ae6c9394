"""Holdfast's side of `recovery`: the folder is opened again, and the runs go on by themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from holdfast import Runtime, Workflow

from . import recovery as recoveries
from .recovery import STEPS, SecondStep, recover, since_start
from .workload import Sample


async def recovery(folder: Path, runs: int, *, slow_sync_seconds: float = 0.0) -> Sample:
    """One unit: a run that goes on, and is done."""
    return await recover(__name__, folder, runs)


class ThreeSteps(Workflow):
    """Stays in its second step where there is something to stay in."""

    async def run(self, steps: int) -> int:
        """Three steps of no work."""
        total = await self.step(self.trivial_step, 1)
        total += await self.step(self.second_step)
        return total + await self.step(self.trivial_step, steps)

    async def trivial_step(self, number: int) -> int:
        """Only its checkpoint is measured."""
        return number

    async def second_step(self) -> int:
        """In the first process, for ever."""
        second = self.runtime.deps.find(SecondStep)
        if second is not None:
            await second.wait()
        return 2


async def block(folder: Path, runs: int) -> None:
    """All runs into their second step."""
    async with Runtime(folder, deps=[SecondStep(runs)]) as rt:
        await rt.start_many(ThreeSteps, [(f"run-{number:08d}", STEPS) for number in range(runs)])
        await asyncio.Event().wait()


async def resume(folder: Path, runs: int) -> list[float]:
    """Open the folder and wait for the runs."""
    done: list[float] = []
    async with Runtime(folder, types=[ThreeSteps]) as rt:

        async def wait(number: int) -> None:
            if await rt.run(ThreeSteps, f"run-{number:08d}").result() != 6:
                raise AssertionError(f"run {number} has another result")
            done.append(since_start())

        await asyncio.gather(*map(wait, range(runs)))
    return done


if __name__ == "__main__":
    recoveries.main({"block": block, "resume": resume})
