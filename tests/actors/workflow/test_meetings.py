"""What meets: events, updates, control, children and undo, with each other and with crashes at the worst moment."""

from __future__ import annotations

import asyncio

import msgspec

from holdfast import Actor, Workflow
from holdfast.testing import simulate
from holdfast.testing.sim_run import SimRun


class Note(msgspec.Struct, frozen=True):
    """An event."""

    n: int


class TakesTwo(Workflow):
    """Waits for two notes."""

    async def run(self) -> list[int]:
        return [(await self.wait(Note)).n, (await self.wait(Note)).n]


async def quick(n: int) -> int:
    """A step that waits for nothing."""
    return n


async def slowly(seconds: float) -> float:
    """A step that takes so long."""
    await asyncio.sleep(seconds)
    return seconds


# -- events --------------------------------------------------------------------------------------------------


class Opener(Actor):
    """Starts a run and sends to it in the same turn."""

    async def open(self) -> None:
        run = await self.runtime.start(TakesTwo, id="a")
        await run.send(Note(1))
        await run.send(Note(2))


def test_a_turn_starts_a_run_and_sends_to_it() -> None:
    """Start and events are one commit, and the run gets them, at once and from the disk."""
    for most in (10, 1):
        with simulate(types=[TakesTwo], max_running=most) as sim:
            blocked = sim.start(Blocks, id="b")
            sim.call(Opener, "o").open()
            assert sim.result(SimRun(TakesTwo, "a")) == [1, 2]
            assert len(sim.history(SimRun(TakesTwo, "a"))) == 4
            assert sim.result(blocked) == 50


class Blocks(Workflow):
    """Holds a place for a while."""

    async def run(self) -> float:
        return await self.step(slowly, 50)


class Chatty(Workflow):
    """Sends more often than a stack is deep, to one that is there and to one that isn't."""

    async def run(self, to: str) -> int:
        failed = 0
        for n in range(700):
            failed += (await self.send(TakesTwo, to, "note", n).outcome()).error is not None
        return failed


def test_many_sends_in_a_row() -> None:
    """Each is recorded and delivered; none goes deeper into the stack than the one before."""
    with simulate() as sim:
        sim.start(TakesTwo, id="a")
        assert sim.result(sim.start(Chatty, "a", id="c")) == 0
        assert sim.result(sim.start(Chatty, "nobody", id="d")) == 700
        assert len(sim.history(SimRun(TakesTwo, "a"))) == 701
