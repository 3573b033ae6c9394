"""The process in which memory is measured: ``python -m bench.scale_child '{"what": ...}'`` prints JSON.

Memory is what no file backs (``RssAnon``): what LMDB maps doesn't count.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from holdfast import Actor, Limits, Runtime, Workflow

from .holdfast_side import Events, Metrics, ProcessEvent
from .machine import disk_bytes
from .neighbours import large_values, poison
from .schedules import open_schedules, set_up_schedules

CHUNK = 1_000
IN_FLIGHT = 1_000
# Started before the first look at memory, so that code and tables that every process has are there.
WARM = 1_000


class SleepsForADay(Workflow):
    """A run that waits."""

    async def run(self, number: int) -> int:
        """One long sleep."""
        await self.sleep("1d")
        return number


class Point(Actor):
    """An actor with one field."""

    touched: int = 0

    async def touch(self) -> int:
        """One durable write."""
        self.touched += 1
        return self.touched


def anonymous_bytes() -> int:
    """Memory of this process that no file backs, after a collection; raises where the system doesn't tell."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    raise OSError("/proc/self/status has no RssAnon")


def seconds_since_process_start() -> float:
    """How long ago the system started this process, the interpreter's own start included."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


async def start_sleepers(folder: str, runs: int, how: str) -> dict[str, Any]:
    """Start ``runs`` runs by ``start_many`` or by concurrent ``start``, and wait until all are asleep."""
    async with Runtime(folder) as rt:

        async def start(first: int, end: int) -> None:
            if how == "start_many":
                for chunk in range(first, end, CHUNK):
                    numbers = range(chunk, min(end, chunk + CHUNK))
                    await rt.start_many(SleepsForADay, [(f"run-{n:08d}", n) for n in numbers])
            else:
                source = iter(range(first, end))

                async def work() -> None:
                    for n in source:
                        await rt.start(SleepsForADay, n, id=f"run-{n:08d}")

                await asyncio.gather(*[work() for _ in range(IN_FLIGHT)])

        async def all_asleep() -> None:
            while rt.engine.places.running or len(rt.directory):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.001)

        await start(0, WARM)
        await all_asleep()
        before, disk_before = anonymous_bytes(), disk_bytes(Path(folder))
        middle = WARM + runs // 2
        start_seconds = asleep_seconds = 0.0
        halves = []
        for first, end in ((WARM, middle), (middle, WARM + runs)):
            began = time.perf_counter()
            await start(first, end)
            start_seconds += time.perf_counter() - began
            await all_asleep()
            asleep_seconds += time.perf_counter() - began
            halves.append(anonymous_bytes())
        assert [info.status for info in rt.runs(SleepsForADay, limit=5)] == ["waiting"] * 5
        return {
            "start_seconds": start_seconds,
            "asleep_seconds": asleep_seconds,
            "bytes_before": before,
            "bytes_half": halves[0],
            "bytes_after": halves[1],
            "disk_bytes": disk_bytes(Path(folder)) - disk_before,
        }


async def open_sleepers(folder: str) -> dict[str, Any]:
    """Open the folder of ``start_sleepers`` again: when does it answer, and what does it take?"""
    began = time.perf_counter()
    async with Runtime(folder, types=[SleepsForADay]) as rt:
        await rt.get(Point, "first").touch()
        since_open, since_start = time.perf_counter() - began, seconds_since_process_start()
        # Time for whatever it takes up by itself.
        await asyncio.sleep(1.0)
        assert await rt.run(SleepsForADay, "run-00000000").status() == "waiting"
        return {
            "since_open_seconds": since_open,
            "since_start_seconds": since_start,
            "bytes": anonymous_bytes(),
        }


async def open_grown(folder: str) -> dict[str, Any]:
    """Open the folder of `growth` again: when does it answer?"""
    began = time.perf_counter()
    async with Runtime(folder, types=[ProcessEvent, Events, Metrics]) as rt:
        await rt.get(Point, "first").touch()
        return {
            "since_open_seconds": time.perf_counter() - began,
            "since_start_seconds": seconds_since_process_start(),
        }


async def touch_actors(folder: str, actors: int, max_active: int) -> dict[str, Any]:
    """Touch ``actors`` distinct actors once each, and look at memory four times on the way."""
    async with Runtime(folder, limits=Limits(max_active=max_active)) as rt:
        seconds = 0.0
        steps = []
        for quarter in range(4):
            source = iter(range(quarter * actors // 4, (quarter + 1) * actors // 4))

            async def work(source: Any = source) -> None:
                for n in source:
                    await rt.get(Point, n).touch()

            began = time.perf_counter()
            await asyncio.gather(*[work() for _ in range(IN_FLIGHT)])
            seconds += time.perf_counter() - began
            steps.append(
                {
                    "touched": (quarter + 1) * actors // 4,
                    "seconds": seconds,
                    "active": len(rt.directory),
                    "bytes": anonymous_bytes(),
                }
            )
        return {"steps": steps}


TASKS: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "start_sleepers": start_sleepers,
    "open_sleepers": open_sleepers,
    "open_grown": open_grown,
    "touch_actors": touch_actors,
    "poison": poison,
    "large_values": large_values,
    "set_up_schedules": set_up_schedules,
    "open_schedules": open_schedules,
}


def main() -> None:
    """Do the task of the command line."""
    task = json.loads(sys.argv[1])
    what, loop = TASKS[task.pop("what")], task.pop("loop", "asyncio")
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if loop == "uvloop" and importlib.util.find_spec("uvloop"):
        import uvloop

        factory = uvloop.new_event_loop

    async def work() -> dict[str, Any]:
        return await what(**task)

    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(work())))


if __name__ == "__main__":
    main()
