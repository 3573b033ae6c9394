"""What the tests of the pipeline share: a runtime to work on, waiting, and the demo in a child process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from holdfast import Runtime, StepInfo
from holdfast.examples.events_pipeline.logs import log_to, stop_logging
from holdfast.examples.events_pipeline.pipeline import Pipeline, Settings
from holdfast.examples.events_pipeline.step_watch import StepWatch
from holdfast.runtime.clock import ManualClock

T = TypeVar("T")
ROOT = Path(__file__).parent.parent.parent


@contextlib.asynccontextmanager
async def open_pipeline(
    folder: Path, *, watch: StepWatch | None = None, clock: ManualClock | None = None, in_flight: int = 1_000
) -> AsyncIterator[Pipeline]:
    """A pipeline on a folder; it ends with the block."""
    async with Runtime(folder, clock=clock) as runtime:
        if watch is not None:
            runtime.deps.put(watch, as_type=StepWatch)
        yield Pipeline(runtime, Settings(max_in_flight=in_flight))


async def wait_idle(pipeline: Pipeline) -> None:
    """Wait until everything that was sent is through."""
    while not await pipeline.is_idle():  # noqa: ASYNC110  # nobody sends a signal for this
        await asyncio.sleep(0)


async def wait_for(condition: Callable[[], object]) -> None:
    """Let the loop go on until something is so."""
    while not condition():  # noqa: ASYNC110  # nobody sends a signal for this
        await asyncio.sleep(0)


async def with_due_timers(clock: ManualClock, work: Coroutine[object, object, T]) -> T:
    """What `work` returns, while timers that are due are called.

    Time stands still: a step that waits for the disk must not time out meanwhile.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        clock.advance(0)
        await asyncio.sleep(0)
    return task.result()


class Witness(StepWatch):
    """Remembers every attempt."""

    def __init__(self) -> None:
        self.seen: list[StepInfo] = []

    def begins(self, step: StepInfo) -> None:
        self.seen.append(step)

    def attempts(self, name: str) -> int:
        """How many attempts of a step there were."""
        return sum(step.name == name for step in self.seen)


@contextlib.contextmanager
def captured_logs() -> Iterator[list[dict[str, object]]]:
    """The lines that are logged in the block, decoded."""
    lines: list[dict[str, object]] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(msgspec.json.decode(self.format(record)))

    handler = log_to(Collector(), "INFO")
    try:
        yield lines
    finally:
        stop_logging(handler)


class DemoProcess:
    """`holdfast demo` on one folder, in a child that can be killed when its oracle has said so many lines."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._command = [sys.executable, "-m", "holdfast", "demo", "--folder", str(folder), *arguments]

    def run(self, *, kill_after: int | None = None) -> list[tuple[str, str]]:
        """Start it, kill it (-9) once it has begun so many steps; returns the (run, step) of all it began."""
        read_end, write_end = os.pipe()
        try:
            child = subprocess.Popen(
                [*self._command, "--oracle", f"/dev/fd/{write_end}"],
                cwd=ROOT,
                pass_fds=[write_end],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        finally:
            os.close(write_end)
        assert child.stdout is not None
        lines: list[str] = []
        # The pipe ends when the child does: nobody else has its other end.
        with os.fdopen(read_end) as oracle, child.stdout:
            for line in oracle:
                lines.append(line)
                if len(lines) == kill_after:
                    child.send_signal(signal.SIGKILL)
            output = child.stdout.read()
        code = child.wait()
        assert code == 0 or (code == -signal.SIGKILL and kill_after is not None), output
        self.finished = code == 0
        self.output = output
        return [(run, step) for run, step, _ in (line.split() for line in lines)]
