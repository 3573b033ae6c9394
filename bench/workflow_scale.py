"""Workflows at their edges: runs that wait for events, a run with many steps at once, a long history."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from holdfast import Runtime, Workflow
from holdfast.actors.handle import Run

from .lines import Line
from .workload import Sample, drive

if TYPE_CHECKING:
    from .scale import Scale

SENDERS = 100
FAN_OUT = 1000
HISTORY_STEPS = 10_000
# The cost of a step at the end of a long history, over that at its beginning.
FLAT = 1.2
REPLAY_SECONDS = 1.0


class Approve(msgspec.Struct):
    """What the runs wait for."""

    by: str


class Waits(Workflow):
    """One event and out."""

    async def run(self, n: int) -> int:
        await self.wait(Approve, timeout="1d")
        return n


async def nothing(n: int) -> int:
    """A step that does nothing."""
    return n


class FansOut(Workflow):
    """All steps at once."""

    async def run(self, steps: int) -> int:
        async with self.group() as group:
            done = [group.step(nothing, n) for n in range(steps)]
        return sum(step.result() for step in done)


class Walks(Workflow):
    """One step after the other, then an event, then one more."""

    max_steps = 2 * HISTORY_STEPS

    async def run(self, steps: int) -> float:
        began = time.perf_counter()
        for n in range(steps):
            await self.step(nothing, n)
            if n in MARKS:
                MARKS[n] = time.perf_counter() - began
        await self.wait("go")
        MARKS[-1] = time.perf_counter()
        return await self.step(nothing, steps)


MARKS: dict[int, float] = {}


async def send_events(folder: Path, runs: int) -> tuple[float, Sample]:
    """Starts a second, and what sending one event to each took, until its run's result was in hand."""
    async with Runtime(folder) as rt:
        began = time.perf_counter()
        handles: list[Run[int]] = []

        async def start(n: int) -> None:
            handles.append(await rt.start(Waits, n, id=n))

        await drive(range(runs), SENDERS, start)
        while rt.engine.places.running:  # noqa: ASYNC110  # until all of them wait
            await asyncio.sleep(0.001)
        started = runs / (time.perf_counter() - began)

        async def approve(run: Run[int]) -> None:
            await run.send(Approve("ann"))
            await run.result()

        return started, await drive(handles, SENDERS, approve)


async def fan_out(folder: Path) -> tuple[float, float]:
    """Seconds of one run with many steps at once, the first one and a second one."""
    async with Runtime(folder) as rt:
        seconds: list[float] = []
        for n in range(2):
            began = time.perf_counter()
            assert await (await rt.start(FansOut, FAN_OUT, id=n)).result() == sum(range(FAN_OUT))
            seconds.append(time.perf_counter() - began)
        return seconds[0], seconds[1]


async def walk(folder: Path, steps: int) -> tuple[float, float, float]:
    """Seconds a step at the beginning and at the end of a history, and to replay it."""
    slice_ = steps // 10
    marks = (slice_ - 1, 2 * slice_ - 1, steps - 1 - slice_, steps - 1)
    MARKS.clear()
    MARKS.update(dict.fromkeys(marks, 0.0))
    async with Runtime(folder) as rt:
        run = await rt.start(Walks, steps, id="w")
        while await run.status() != "waiting":  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        first = (MARKS[marks[1]] - MARKS[marks[0]]) / slice_
        last = (MARKS[marks[3]] - MARKS[marks[2]]) / slice_
    async with Runtime(folder) as rt:
        began = time.perf_counter()
        run = rt.run(Walks, "w")
        await run.send("go")
        await run.result()
        return first, last, MARKS[-1] - began


def measure_events(scale: Scale) -> None:
    """Runs that wait for an event, sent by a hundred senders."""
    runs = 500 if scale.quick else 10_000
    folder = scale.fresh_folder()
    try:
        with asyncio.Runner(loop_factory=scale.factory) as runner:
            started, sent = runner.run(send_events(folder, runs))
    finally:
        shutil.rmtree(folder)
    figures = {
        "starts/s": started,
        "events/s": sent.rate,
        "to result p50 ms": sent.latency_ms(50),
        "to result p99 ms": sent.latency_ms(99),
    }
    scale.lines.append(Line("events", f"{runs} waiting runs, {SENDERS} senders", figures))


def measure_fan_out(scale: Scale) -> None:
    """One run with a thousand steps at once."""
    folder = scale.fresh_folder()
    try:
        with asyncio.Runner(loop_factory=scale.factory) as runner:
            first, second = runner.run(fan_out(folder))
    finally:
        shutil.rmtree(folder)
    for name, seconds in (("first", first), ("second", second)):
        figures = {"ms": seconds * 1000, "steps/s": FAN_OUT / seconds}
        scale.lines.append(Line("fan-out", f"{FAN_OUT} parallel steps, {name} run", figures))


def measure_history(scale: Scale) -> None:
    """A long history: is a step as cheap at its end, and how long does it take to replay?"""
    steps = 1_000 if scale.quick else HISTORY_STEPS
    folder = scale.fresh_folder()
    try:
        with asyncio.Runner(loop_factory=scale.factory) as runner:
            first, last, replay = runner.run(walk(folder, steps))
    finally:
        shutil.rmtree(folder)
    figures = {"first us": first * 1e6, "last us": last * 1e6, "last/first": last / first}
    scale.lines.append(
        Line("history", f"{steps} steps, each", figures, f"last/first <= {FLAT}", last / first <= FLAT)
    )
    figures = {"replay ms": replay * 1000, "records/s": steps / replay}
    scale.lines.append(
        Line(
            "history", f"{steps} steps, replayed", figures, f"< {REPLAY_SECONDS:g} s", replay < REPLAY_SECONDS
        )
    )
