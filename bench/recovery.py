"""Recovery: a process is killed while all its runs are in their second step; how long until all are done?

Two processes, of any side: one that blocks all runs in their second step, says ``BLOCKED`` and waits to be
killed; one that is started on the same folder and prints when each run was done, in seconds since it was
started.  The time includes the start of the interpreter, as whoever waits for the service sees it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from .workload import Sample

CHECKOUT = Path(__file__).resolve().parent.parent
BLOCKED = "blocked"
STEPS = 3
# Of the whole second process; peers take up to ten seconds.
DEADLINE_SECONDS = 120.0

Blocks = Callable[[Path, int, Callable[[], None]], Awaitable[None]]


def measure_recovery(block: Sequence[str], resume: Sequence[str], runs: int) -> Sample:
    """Start ``block``, kill it, and see how long ``resume`` takes."""
    environment = {**os.environ, "BENCH_STARTED_AT": "0"}
    first = subprocess.Popen(
        block, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert first.stdout is not None
    try:
        line = first.stdout.readline()
        while line and line.strip() != BLOCKED:
            line = first.stdout.readline()
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        first.stdout.close()
    if not line:
        raise RuntimeError(f"{' '.join(block)} ended before its runs were in their second step")
    # Wall-clock, since it is read in another process.
    environment["BENCH_STARTED_AT"] = str(time.time())
    second = subprocess.Popen(
        resume, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        told, _ = second.communicate(timeout=DEADLINE_SECONDS)
    except BaseException:
        os.killpg(second.pid, signal.SIGKILL)
        second.communicate()
        raise
    if second.returncode:
        raise RuntimeError(f"{' '.join(resume)} ended with status {second.returncode}")
    done = sorted(json.loads(told.splitlines()[-1]))
    if len(done) != runs:
        raise AssertionError(f"{len(done)} of {runs} runs were done")
    return Sample(runs, done[-1], done)


def since_start() -> float:
    """Seconds since this process was asked for."""
    return time.time() - float(os.environ["BENCH_STARTED_AT"])


def command(module: str, what: str, folder: Path, runs: int) -> list[str]:
    """The command line of one of the two processes."""
    return [sys.executable, "-m", module, what, str(folder), str(runs)]


async def recover(module: str, folder: Path, runs: int) -> Sample:
    """Measure the side whose two processes are ``module``'s."""
    block, resume = (command(module, what, folder, runs) for what in ("block", "resume"))
    return await asyncio.to_thread(measure_recovery, block, resume, runs)


def main(ways: Mapping[str, Callable[[Path, int], Awaitable[object]]]) -> None:
    """One of the two processes: what ``command`` says."""
    what, folder, runs = sys.argv[1:]
    found = asyncio.run(_await(ways[what](Path(folder), int(runs))))
    print(json.dumps(found), flush=True)


async def _await(work: Awaitable[object]) -> object:
    return await work


class SecondStep:
    """Where runs stay until the process is killed, once all of them are there."""

    def __init__(self, runs: int) -> None:
        self._missing = runs

    async def wait(self) -> None:
        """Never returns."""
        self._missing -= 1
        if not self._missing:
            print(BLOCKED, flush=True)
        await asyncio.Event().wait()
