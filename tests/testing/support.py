"""What the tests of the simulation share: workflows to crash, and the running of printed tests."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from holdfast import Counter, Retry, Workflow

ROOT = Path(__file__).parents[2]


def run_pasted(message: str, folder: Path) -> str:
    """Run the test that a violation prints, alone in a file; it must fail.  Returns what pytest said."""
    pasted = folder / "test_pasted.py"
    pasted.write_text(message.partition("this test shows it:\n\n")[2])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(ROOT),
        str(pasted),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout


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
