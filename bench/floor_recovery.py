"""The floor of `recovery`: the runs that are not done are found by their heads, and go on behind their last
checkpoint.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from . import recovery as recoveries
from .floor import Floor, Head, StepsRun, step_key, trivial_step, unseal
from .recovery import STEPS, SecondStep, recover, since_start
from .workload import Sample

PAGE = 256


async def recovery(folder: Path, runs: int, *, slow_sync_seconds: float = 0.0) -> Sample:
    """One unit: a run that goes on, and is done."""
    return await recover(__name__, folder, runs)


async def block(folder: Path, runs: int) -> None:
    """All runs into their second step."""
    second = SecondStep(runs)
    async with Floor(folder) as floor:

        async def go(number: int) -> None:
            run = StepsRun(floor, f"run-{number:08d}", STEPS)
            await floor.turn(run.start)
            await floor.turn(run.checkpoint, 1, await trivial_step(1))
            await second.wait()

        await asyncio.gather(*map(go, range(runs)))


async def resume(folder: Path, runs: int) -> list[float]:
    """Find the runs and end them."""
    done: list[float] = []
    async with Floor(folder) as floor:

        async def go(run_id: str, head: Head) -> None:
            total = 0
            for number in range(1, STEPS + 1):
                stored = floor.log.get(step_key(run_id, number))
                if stored is not None:
                    total += unseal(stored)
                    continue
                value = await trivial_step(number)
                total += value
                run = StepsRun(floor, run_id, STEPS)
                run.head = head
                if number < STEPS:
                    await floor.turn(run.checkpoint, number, value)
                else:
                    await floor.turn(run.checkpoint_and_end, value, total)
            done.append(since_start())

        last, going = b"r/", []
        while keys := floor.log.keys_behind(last, b"r0", PAGE):
            last = keys[-1]
            for key in keys:
                head = Head(**unseal(floor.log.get(key) or b""))
                if head.status == "running":
                    going.append(asyncio.create_task(go(key[2:].decode(), head)))
        await asyncio.gather(*going)
    return done


if __name__ == "__main__":
    recoveries.main({"block": block, "resume": resume})
