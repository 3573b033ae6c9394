"""Runs that come to memory and leave it, with as little of it as may be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast import Runtime, Workflow
from holdfast.actors.errors import RunNotFound
from holdfast.actors.workflow.head import RunStatus
from holdfast.runtime.limits import Limits


class Door:
    """What a step waits at."""

    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self.go = asyncio.Event()


async def at_the_door(door: Door) -> None:
    door.is_reached.set()
    await door.go.wait()


class Waits(Workflow):
    async def run(self, events: int) -> int:
        for _ in range(events):
            await self.wait("go")
        door = self.runtime.deps.get(Door)
        await self.step(lambda: at_the_door(door), name="door")
        return len([await self.wait("late") for _ in range(2)])


@pytest.mark.parametrize("events", [1, 2, 3])
async def test_a_run_that_works_stays_in_memory(tmp_path: Path, events: int) -> None:
    """However often it came to rest again behind an event.

    Counted wrongly it left memory in the middle of a step, and an event that came then was overwritten in the
    journal by the step's outcome.
    """
    door = Door()
    async with Runtime(tmp_path, deps=[door], limits=Limits(idle_seconds=0.02)) as rt:
        run = await rt.start(Waits, events, id="w")
        for _ in range(events):
            await asyncio.sleep(0.02)
            await run.send("go")
        await asyncio.wait_for(door.is_reached.wait(), 5)
        for _ in range(10):  # ticks that let go of what is idle
            await asyncio.sleep(0.01)
        activation = run.ref.activation
        assert activation is not None and activation.pins == 1
        await run.send("late")
        door.go.set()
        await run.send("late")
        assert await asyncio.wait_for(run.result(), 5) == 2


async def test_a_run_at_rest_leaves_memory(tmp_path: Path) -> None:
    """Also one that got events and waits for more."""
    async with Runtime(tmp_path, limits=Limits(idle_seconds=0.02)) as rt:
        run = await rt.start(Waits, 9, id="w")
        for _ in range(3):
            await asyncio.sleep(0.01)
            await run.send("go")
        for _ in range(500):
            if not rt.engine.live_runs():
                break
            await asyncio.sleep(0.01)
        assert rt.engine.live_runs() == []


GOES_ON: tuple[RunStatus, ...] = ("queued", "running", "waiting")


class Part(Workflow):
    async def run(self) -> None:
        await self.wait("never")


class Whole(Workflow):
    async def run(self, parts: int) -> None:
        for part in [self.child(Part) for _ in range(parts)]:
            await part


@pytest.mark.parametrize("how", ["restart", "replace"])
async def test_a_parent_begins_anew_with_more_children_than_memory_holds(tmp_path: Path, how: str) -> None:
    """Its children come to memory to be cancelled; they don't send the parent away before it begins."""
    async with Runtime(tmp_path, limits=Limits(max_active=2), max_running=3) as rt:
        run = await rt.start(Whole, 6, id="p")
        for life in range(3):
            for _ in range(500):
                if len(rt.runs(Part, status="waiting")) == 6:
                    break
                await asyncio.sleep(0.01)
            assert len(rt.runs(Part, status="waiting")) == 6, life
            if how == "restart":
                await run.restart()
            else:
                await rt.start(Whole, 6, id="p", on_conflict="replace")
        await run.cancel()
        for _ in range(500):
            if not rt.runs(Part, status=GOES_ON) and not rt.engine.places.running:
                break
            await asyncio.sleep(0.01)
        assert rt.runs(Part, status=GOES_ON) == [] and rt.engine.places.running == 0
        assert await run.status() == "cancelled"


class Quick(Workflow):
    async def run(self) -> None: ...


async def test_a_result_that_is_asked_for_while_the_run_is_purged(tmp_path: Path) -> None:
    """There is no such run any more; nothing is damaged."""
    async with Runtime(tmp_path) as rt:
        for number in range(20):
            run = await rt.start(Quick, id=number)
            await run.result()
            purge = asyncio.create_task(run.purge())
            for _ in range(number % 5):
                await asyncio.sleep(0)
            for asked in (run.result(), rt.debug(Quick, number)):
                try:
                    await asked
                except RunNotFound:
                    pass
            await purge
