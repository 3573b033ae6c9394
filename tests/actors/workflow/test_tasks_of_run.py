"""Tasks that `run()` starts belong to it: they take part in replay, and end with it."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import anyio
import pytest

from holdfast import Counter, RunFailed, Workflow
from holdfast.testing import Crash, Simulation, simulate

TOLD: list[str] = []


async def slow(name: str) -> str:
    """A body that takes ten seconds."""
    TOLD.append(f"{name} began")
    await asyncio.sleep(10)
    TOLD.append(f"{name} ended")
    return name


async def quick(name: str) -> str:
    """A body that takes no time."""
    TOLD.append(name)
    return name


class Leaves(Workflow):
    """Ends while tasks of its own are in a step, in a call and asleep."""

    async def run(self, how: str) -> str:
        tasks = [
            asyncio.create_task(self.busy()),
            asyncio.create_task(self.counts()),
            asyncio.create_task(self.sleeps()),
        ]
        await self.step(quick, "mine")
        if how == "raises":
            raise ValueError("left")
        return f"left {sum(task.done() for task in tasks)}"

    async def busy(self) -> None:
        await self.step(slow, "theirs")
        await self.step(quick, "never")

    async def counts(self) -> None:
        while True:
            await self.sleep("1s")
            await self.runtime.get(Counter, "seconds").increment()

    async def sleeps(self) -> None:
        await self.sleep("1h")


@pytest.fixture(autouse=True)
def _forget() -> None:
    TOLD.clear()


def play(sim: Simulation, how: str) -> str:
    run = sim.start(Leaves, how, id="a")
    sim.run_until_idle()
    return sim.status(run)


@pytest.mark.parametrize("how", ["returns", "raises"])
def test_tasks_end_with_run(how: str) -> None:
    """Whatever they were doing: nothing of it goes on, nothing is left behind, and nothing wakes the run."""
    with simulate() as sim:
        assert play(sim, how) == ("complete" if how == "returns" else "failed")
        assert "never" not in TOLD
        assert "theirs ended" not in TOLD
        assert sim.pending() == []
        sim.advance("2h")
        assert sim.call(Counter, "seconds").get() == 0
        assert "never" not in TOLD


def test_crashed_anywhere_they_end_with_run() -> None:
    """The same over a crash at every place."""
    with simulate() as sim:
        play(sim, "returns")
        places = sim.places
    assert len(places) > 4
    for place in [*places, *(Crash("callback", n) for n in range(1, 60, 3))]:
        with simulate() as sim:
            sim.crash_at(place)
            assert play(sim, "returns") == "complete"
            sim.advance("2h")
            assert sim.call(Counter, "seconds").get() == 0
            assert "never" not in TOLD


class Wraps(Workflow):
    """Makes a task of what has begun already."""

    async def run(self) -> None:
        asyncio.create_task(cast("Any", self.step(quick, "once")))  # noqa: RUF006


def test_a_task_of_a_step_is_refused_with_what_to_do() -> None:
    with simulate() as sim, pytest.raises(RunFailed, match="create_task takes a coroutine"):
        sim.result(sim.start(Wraps))


async def undo(number: int) -> int:
    """Says what was undone."""
    return number


class Undoes(Workflow):
    """Cancelled tasks of an anyio group undo what they did, each in a scope of its own."""

    async def run(self, how: str) -> list[tuple[int, int]]:
        done: list[tuple[int, int]] = []

        async def work(number: int) -> None:
            try:
                await self.step(slow, f"w{number}")
            finally:
                with anyio.CancelScope(shield=True):
                    done.append((number, await self.step(undo, number)))

        async def work_in_scope(number: int) -> None:
            if how == "scopes":
                with anyio.CancelScope():
                    await work(number)
            elif how == "timeouts":
                with anyio.move_on_after(3_600):
                    await work(number)
            else:
                async with anyio.create_task_group() as inner:
                    inner.start_soon(work, number)

        with anyio.move_on_after(1):
            async with anyio.create_task_group() as group:
                for number in range(8):
                    group.start_soon(work_in_scope, number)
        await self.sleep("1d")  # out of memory, and back from the journal
        return done


@pytest.mark.parametrize("how", ["scopes", "timeouts", "groups"])
def test_scopes_of_anyio_are_cancelled_in_the_same_order_on_replay(how: str) -> None:
    """Each task gets the outcome of its own step, though all use one name; scopes lie in sets of anyio."""

    def story(crash: Crash | None) -> list[Crash]:
        with simulate() as sim:
            if crash is not None:
                sim.crash_at(crash)
            done = sim.result(sim.start(Undoes, how))
            assert sorted(done) == [(number, number) for number in range(8)]
            return sim.places

    for place in story(None)[::5]:
        story(place)


class CleansUp(Workflow):
    """A scope of anyio is cancelled around tasks that take their time to clean up."""

    async def run(self) -> list[str]:
        told: list[str] = []

        async def work() -> None:
            try:
                await self.step(slow, "work")
            finally:
                told.append(await self.step(quick, "clean"))

        with anyio.move_on_after(1) as scope:
            async with asyncio.TaskGroup() as group:
                group.create_task(work())
        told.append(f"cancelled {scope.cancelled_caught}")
        told.append(await self.step(quick, "next"))
        return told


def test_a_scope_of_anyio_waits_for_tasks_that_clean_up_with_a_step() -> None:
    """anyio cancels in each round of the loop until they have ended; run() is at rest all the same."""

    def story(crash: Crash | None) -> list[Crash]:
        with simulate() as sim:
            if crash is not None:
                sim.crash_at(crash)
            assert sim.result(sim.start(CleansUp)) == ["clean", "cancelled True", "next"]
            return sim.places

    for place in story(None):
        story(place)
