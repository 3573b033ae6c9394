"""The child of test_power_cut.py: a runtime at work with its writes written down.

python -m tests.faults.power_cut_run <folder> <trace> <base> <runs>
"""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import sys
from pathlib import Path

from holdfast import Actor, Runtime, Workflow

ERRANDS_AT_ONCE = 5


class Tally(Actor):
    """Counts."""

    total: int = 0

    async def add(self, by: int = 1) -> int:
        self.total += by
        return self.total

    async def value(self) -> int:
        return self.total


def double(number: int) -> int:
    """A step without an effect."""
    return 2 * number


class Errand(Workflow):
    """A step, a step that calls an actor, and a call of its own."""

    async def run(self, number: int) -> int:
        doubled = await self.step(double, number)
        await self.step(self.count)
        await self.runtime.get(Tally, "calls").add()
        return doubled

    async def count(self) -> None:
        await self.runtime.get(Tally, "steps").add()


async def main() -> None:
    """Work, and note what the outside was told."""
    folder, trace, base, runs = sys.argv[1:]
    library = ctypes.CDLL(None)  # the shim was loaded before

    def note(text: str) -> None:
        library.trace_note(text.encode())

    async with Runtime(folder, min_free_bytes=0) as rt:

        async def errand(number: int) -> None:
            run = await rt.start(Errand, number, id=str(number))
            note(f"started {number}")
            await run.result()
            note(f"done {number}")

        async def count() -> None:
            for _ in range(int(runs)):
                note(f"plain {await rt.get(Tally, 'plain').add()}")

        for name in ("plain", "steps", "calls"):
            await rt.get(Tally, name).add(0)
        await rt.store.wait_durable(rt.store.newest)
        shutil.copyfile(Path(folder) / "data.mdb", base)
        if not library.trace_begin(trace.encode()):
            raise SystemExit(f"{trace} can't be written")
        counting = asyncio.create_task(count())
        for first in range(0, int(runs), ERRANDS_AT_ONCE):
            await asyncio.gather(*[errand(number) for number in range(first, first + ERRANDS_AT_ONCE)])
        await counting
        library.trace_end()


if __name__ == "__main__":
    asyncio.run(main())
