"""Plain bodies that run at once: where all that is recorded is durable already, a step's body and the
delivery of its outcome happen while the steps asked for beside it haven't begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TypeVar

import pytest

from holdfast import Retry, Runtime, StepError, Workflow
from holdfast.actors.current_step import current_step
from holdfast.actors.handle import Run
from holdfast.actors.workflow.protocols import TakesNothing
from holdfast.runtime.clock import ManualClock
from tests.actors.workflow.support import CrashLog, Folder, pass_time, play, settle, soon, until

T = TypeVar("T")
GATE: list[asyncio.Event] = []
BEGUN: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    GATE[:] = [asyncio.Event()]
    BEGUN.clear()
    yield


def plain(what: str) -> str:
    BEGUN.append(what)
    return what


def plain_fails(what: str, times: int) -> str:
    BEGUN.append(what)
    step = current_step()
    assert step is not None
    if step.attempt <= times:
        raise OSError(what)
    return what


async def waits(what: str) -> str:
    BEGUN.append(what)
    await GATE[0].wait()
    return what


async def start_and_die(folder: Folder, workflow: type[TakesNothing[T]]) -> Run[T]:
    """A run whose start is durable, and nothing else, taken up again: so its first steps wait for nothing."""
    log = CrashLog(0, kept=True)
    rt = await folder.open(wrap_log=log.wrap)
    start = asyncio.ensure_future(rt.start(workflow, id="a"))
    await until(lambda: rt.is_closed)
    await asyncio.wait((start,))
    start.exception()  # it is not known whether it was started
    assert BEGUN == []
    rt = await folder.open()
    return rt.run(workflow, "a")


class SideBySide(Workflow):
    async def run(self) -> list[str]:
        return list(await asyncio.gather(*(self.step(plain, what) for what in "abc")))


async def test_plain_steps_side_by_side(folder: Folder) -> None:
    """The first of them is done before the others begin, and that is no run that waits for nothing."""
    run = await start_and_die(folder, SideBySide)
    assert await soon(run.result()) == ["a", "b", "c"]
    assert BEGUN == ["a", "b", "c"]


class Chains(Workflow):
    async def chain(self, name: str) -> str:
        await self.step(plain, f"{name}1")
        return await self.step(plain, f"{name}2")

    async def run(self) -> list[str]:
        return list(await asyncio.gather(self.chain("a"), self.chain("b")))


async def test_what_was_asked_for_first_begins_first(folder: Folder) -> None:
    """What run() asks for by the first outcome comes after what it had asked for already."""
    run = await start_and_die(folder, Chains)
    assert await soon(run.result()) == ["a2", "b2"]
    assert BEGUN == ["a1", "b1", "a2", "b2"]


class FailsBesideWork(Workflow):
    retry = Retry(3, 5000, "constant", jitter=0)

    async def run(self) -> list[str]:
        return list(await asyncio.gather(self.step(plain_fails, "a", 1), self.step(waits, "b")))


async def test_a_plain_step_that_fails_puts_no_run_to_rest(folder: Folder, clock: ManualClock) -> None:
    """A step beside it that hasn't begun is work: the run keeps its place and stays in memory for it."""
    run = await start_and_die(folder, FailsBesideWork)
    rt = folder.rt
    assert rt is not None
    await settle(rt)
    assert BEGUN == ["a", "b"]
    assert await run.status() == "running"
    assert rt.engine.places.running == 1
    await pass_time(rt, clock, 100, step=50)
    GATE[0].set()
    assert await play(rt, clock, run) == ["a", "b"]
    assert BEGUN == ["a", "b", "a"]


class RetriedTogether(Workflow):
    retry = Retry(2, 10, "constant", jitter=0)

    async def run(self) -> str:
        work = self.step(waits, "work")  # while it is in progress the clock wakes the retries
        one = asyncio.ensure_future(self.step(plain_fails, "one", 1))
        other = asyncio.ensure_future(self.step(plain_fails, "other", 1))
        one.add_done_callback(lambda _: other.cancel())
        await asyncio.wait((one, other))
        await work
        await self.sleep(50)
        return await one


async def test_a_retry_that_is_given_up_when_it_is_due_does_not_begin(
    rt: Runtime, clock: ManualClock
) -> None:
    """Two retries are due together, and by the outcome of one run() gives up the other: nothing of that is at
    work any more, so the run rests when it sleeps.
    """
    run = await rt.start(RetriedTogether, id="a")
    await settle(rt)
    assert sorted(BEGUN) == ["one", "other", "work"]
    BEGUN.clear()
    await pass_time(rt, clock, 10)
    assert BEGUN == ["one"]
    GATE[0].set()
    await settle(rt)
    assert await run.status() == "waiting"
    assert rt.engine.places.running == 0
    assert await play(rt, clock, run) == "one"


class EndsByTheFirst(Workflow):
    retry = Retry(0)

    async def run(self) -> str:
        first = self.step(plain_fails, "first", 9)
        self.step(plain, "second")
        try:
            return await first
        except StepError:
            return "ended"


async def test_a_run_that_ends_by_the_first_begins_no_other(folder: Folder) -> None:
    """run() ends by the outcome of the first body: the steps beside it don't begin."""
    run = await start_and_die(folder, EndsByTheFirst)
    assert await soon(run.result()) == "ended"
    assert BEGUN == ["first"]
