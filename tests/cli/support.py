"""A folder with something in it, its living owner as a process of its own, and the command line beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Filled by a process of its own: two runtimes of one process can't have one folder open.
APP = """
import asyncio, sys
from holdfast import Counter, Fatal, Queue, Retry, RunFailed, Runtime, Schedule, Workflow

class CliShip(Workflow):
    retry = Retry(0)
    async def run(self, parcel: str) -> str:
        return await self.step(send, parcel)

async def send(parcel: str) -> str:
    if parcel == "lead":
        raise ValueError("the van is broken")
    return f"{parcel} sent"

class CliWait(Workflow):
    async def run(self) -> None:
        await self.sleep("30d")

async def fill() -> None:
    async with Runtime("data") as rt:
        for key, parcel in (("f1", "feathers"), (("l", 1), "lead"), ("l2", "lead")):
            try:
                await (await rt.start(CliShip, parcel, id=key, tags={"kind": parcel})).result()
            except RunFailed:
                pass
        await rt.start(CliWait, id="w")
        await rt.get(Counter, "visits").increment()
        await rt.get(Queue, "parcels").send({"to": "ann"}, id="m1")

async def stay() -> None:
    async with Runtime("data") as rt:
        print("open", flush=True)
        while True:
            await rt.get(Counter, "visits").increment()
            await asyncio.sleep(0.01)

if __name__ == "__main__":
    asyncio.run(fill() if sys.argv[1:] != ["stay"] else stay())
"""


def environment(**more: str) -> dict[str, str]:
    """That of a process, without what the one who runs the tests has set."""
    not_ours = ("COLUMNS", "LINES")  # else the width of a terminal comes from there
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("HOLDFAST_") and name not in not_ours
    }
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def fill(folder: Path) -> None:
    """Write cli_app.py into a folder, and what it stores into `data` below it."""
    (folder / "cli_app.py").write_text(APP, encoding="utf-8")
    command = [sys.executable, "cli_app.py"]
    subprocess.run(command, cwd=folder, env=environment(), check=True, capture_output=True)


def cli(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, in a folder, without a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "holdfast", *arguments],
        cwd=folder, env=environment(**variables), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


class Child:
    """A process that says a line when it is ready.  Close it."""

    def __init__(self, folder: Path, *command: str, **variables: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=folder, env=environment(**variables), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.first = self.line()

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        """Kill it as `kill -9` does."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


class Served(Child):
    """`holdfast serve` on a free port."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        super().__init__(folder, "-m", "holdfast", *arguments, "--port", "0")
        self.url = next(word for word in self.first.replace(",", "").split() if word.startswith("http"))
        self.token = self.line().rpartition(" ")[2]
