"""P8: memory follows activity, not data."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from holdfast import Runtime, Workflow
from holdfast.runtime.actor import Actor
from holdfast.runtime.limits import Limits
from holdfast.runtime.system import ActorSystem


class Point(Actor):
    value: int = 0
    names: list[str] = []

    async def touch(self) -> int:
        self.value += 1
        self.names.append("a name that takes some room in memory")
        return self.value

    async def set_alarm(self) -> None:
        self.alarms.set("30 days", payload="x" * 50)

    async def on_alarm(self, alarm: object) -> None: ...


def anonymous_bytes() -> int:
    """Memory of this process that no file backs: what LMDB maps doesn't count."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    pytest.skip("this system does not tell")


async def touch_all(system: ActorSystem, numbers: range, alarms: bool = False) -> None:
    async def worker(mine: range) -> None:
        for number in mine:
            point = system.get(Point, number)
            if alarms:
                await point.set_alarm()
            else:
                await point.touch()

    await asyncio.gather(*[worker(numbers[start::200]) for start in range(200)])


async def growth(folder: Path, warm: int, count: int, limits: Limits, alarms: bool = False) -> int:
    """Bytes that the process grew by while `count` actors were touched, after `warm` others."""
    async with ActorSystem(folder, limits=limits) as system:
        await touch_all(system, range(warm), alarms)
        gc.collect()
        before = anonymous_bytes()
        await touch_all(system, range(warm, warm + count), alarms)
        assert len(system.directory) <= limits.max_active + 250
        gc.collect()
        grown = anonymous_bytes() - before
        assert len(system.keys(Point, limit=10)) == 10
        return grown


async def test_memory_stays_flat_over_200_000_actors(tmp_path: Path) -> None:
    """200 000 distinct actors touched once, 10 000 in memory at most: nothing of the others stays."""
    assert await growth(tmp_path / "data", 40_000, 160_000, Limits(max_active=10_000)) < 24 << 20


async def test_alarms_cost_disk_and_no_memory(tmp_path: Path) -> None:
    """20 000 far alarms are found by their order on disk; the process doesn't keep them."""
    assert await growth(tmp_path / "data", 20_000, 20_000, Limits(max_active=1_000), alarms=True) < 12 << 20


async def test_dropped_actors_go_at_once(tmp_path: Path) -> None:
    """Nothing keeps an actor that left memory, nor must the garbage collector come for it."""
    async with ActorSystem(tmp_path / "data", limits=Limits(max_active=50)) as system:
        gc.disable()
        try:
            await touch_all(system, range(2_000))
        finally:
            gc.enable()
        alive = sum(isinstance(one, Point) for one in gc.get_objects())
        # A ring in what an actor leaves behind would keep hundreds; what ended last may still hold a few.
        assert alive <= len(system.directory) + 10
        assert len(system.directory) <= 300


class WaitsOnce(Workflow):
    """Waits for one event."""

    async def run(self, n: int) -> int:
        event = await self.wait("go")
        return n + cast("int", event.payload)


async def in_crowds(count: int, work: Callable[[int], Awaitable[object]]) -> None:
    """Do something for each number, a few hundred at the same time."""

    async def some(first: int) -> None:
        for n in range(first, count, 200):
            await work(n)

    await asyncio.gather(*[some(first) for first in range(200)])


async def waiting_runs(folder: Path, count: int, most: int) -> int:
    """Bytes that the process grew by while the last three quarters of so many runs began to wait; all of them
    get their event in the end.
    """
    async with Runtime(folder, limits=Limits(max_active=most)) as rt:

        async def start(n: int) -> None:
            await rt.start(WaitsOnce, n, id=n)

        async def go(n: int) -> None:
            await rt.run(WaitsOnce, n).send("go", 1)

        await in_crowds(count // 4, start)
        gc.collect()
        before = anonymous_bytes()
        await in_crowds(count, lambda n: start(n) if n >= count // 4 else asyncio.sleep(0))
        gc.collect()
        grown = anonymous_bytes() - before
        assert len(rt.directory) <= most + 250
        assert len(rt.engine.live_runs()) <= most + 250
        assert rt.engine.places.running == 0
        await in_crowds(count, go)
        for n in range(0, count, 97):
            assert await rt.run(WaitsOnce, n).result() == n + 1
        await asyncio.sleep(0)
        open_runs = rt.runs(WaitsOnce, status=("waiting", "running", "queued", "stuck"), limit=count)
        for info in open_runs:
            assert await rt.run(WaitsOnce, int(info.id)).result() == int(info.id) + 1
        assert len(rt.runs(WaitsOnce, status="complete", limit=count + 1)) == count
        assert len(rt.directory) <= most + 450
        return grown


async def test_runs_that_wait_for_an_event_leave_memory(tmp_path: Path) -> None:
    """Beyond the cap they lie on disk; all get their event later."""
    await waiting_runs(tmp_path / "data", 2_000, 100)


@pytest.mark.slow
async def test_twenty_thousand_runs_that_wait_take_no_memory(tmp_path: Path) -> None:
    """With a cap of 500 actors, fifteen thousand more waiting runs take less than 500 bytes each."""
    assert await waiting_runs(tmp_path / "data", 20_000, 500) < 15_000 * 500
