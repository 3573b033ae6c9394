"""testing/crash.py and graveyard.py: where a process dies, and that nothing of it runs any more."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from holdfast import CallerError, Counter, Workflow
from holdfast.testing import Crash, ProcessDied, simulate
from tests.testing.support import RESULT_OF_FIVE, FiveSteps, Tally

TOLD: list[str] = []


@contextlib.asynccontextmanager
async def opened(name: str) -> AsyncIterator[None]:
    """Something that has to be closed."""
    TOLD.append(f"{name} opened")
    try:
        yield
    finally:
        TOLD.append(f"{name} closed")


async def hangs(how: str) -> str:
    """A body that the process dies in, with clean-up code of every kind."""
    try:
        if how == "finally":
            await asyncio.sleep(100)
        elif how == "with":
            async with opened("door"):
                await asyncio.sleep(100)
        elif how == "except":
            try:
                await asyncio.sleep(100)
            except BaseException as error:
                TOLD.append(type(error).__name__)
                raise
        elif how == "generator":
            async for _ in ticks():
                pass
        elif how == "task":
            await asyncio.gather(tidy(), tidy())
    finally:
        TOLD.append("body left")
    return how


async def ticks() -> AsyncIterator[int]:
    """A generator with clean-up code."""
    try:
        for n in range(10):
            await asyncio.sleep(50)
            yield n
    finally:
        TOLD.append("generator left")


async def tidy() -> None:
    """A task with clean-up code."""
    try:
        await asyncio.sleep(100)
    finally:
        TOLD.append("task left")


class HangsInside(Workflow):
    """Clean-up code in run(), too."""

    async def run(self, how: str) -> str:
        try:
            return await self.step(hangs, how)
        finally:
            TOLD.append("run left")


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    TOLD.clear()
    yield
    gc.collect()


@pytest.mark.parametrize("how", ["finally", "with", "except", "generator", "task"])
def test_clean_up_code_of_a_dead_process_never_runs(how: str) -> None:
    """Not when it dies, not while the story goes on, not when it ends, not when the collector comes."""
    opened = ["door opened"] if how == "with" else []
    with simulate() as sim:
        run = sim.start(HangsInside, how, id="1")
        sim.advance(20)
        sim.crash()
        gc.collect()
        assert opened == TOLD
        sim.mock_step("hangs", lambda how: f"mocked {how}")
        assert sim.result(run) == f"mocked {how}"
        assert [*opened, "run left"] == TOLD
    gc.collect()
    assert [*opened, "run left"] == TOLD


def test_asyncio_forgets_the_tasks_of_the_dead() -> None:
    """What is kept for good is not among all tasks, where it would make each later story slower."""
    loops: list[asyncio.AbstractEventLoop] = []

    async def waits() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            await asyncio.sleep(100)
        finally:
            TOLD.append("left")

    class Waits(Workflow):
        async def run(self) -> None:
            await self.step(waits)

    with simulate(types=[Waits]) as sim:
        sim.start(Waits, id="r")
        sim.advance(1)
        assert asyncio.all_tasks(loops[0])
    assert not asyncio.all_tasks(loops[0])


def test_a_living_process_does_clean_up() -> None:
    """Without a crash all of it runs, as ever."""
    with simulate() as sim:
        assert sim.result(sim.start(HangsInside, "with", id="1")) == "with"
    assert TOLD == ["door opened", "door closed", "body left", "run left"]


def test_a_future_that_the_world_holds_wakes_nobody_of_the_dead() -> None:
    """A body waits for something outside; that it comes after the crash is not heard by the dead body."""
    waiting: list[asyncio.Future[str]] = []

    async def wait() -> str:
        waiting.append(asyncio.get_running_loop().create_future())
        answer = await waiting[-1]
        TOLD.append(answer)
        return answer

    class Waits(Workflow):
        async def run(self) -> str:
            return await self.step(wait)

    with simulate() as sim:
        run = sim.start(Waits, id="1")
        sim.settle()
        sim.crash()
        sim.settle()
        waiting[0].set_result("to the dead")
        sim.settle()
        assert TOLD == []
        waiting[1].set_result("to the living")
        assert sim.result(run) == "to the living"
    assert TOLD == ["to the living"]


def test_a_call_that_dies_has_no_reply() -> None:
    """The caller hears that the process died; what was durable by then is there."""
    with simulate(types=[Counter]) as sim:
        sim.crash_at("commit", when="before")
        with pytest.raises(ProcessDied, match="before commit 2"):
            sim.call(Counter, "a").increment()
        assert sim.call(Counter, "a").get() == 0
        sim.crash_at("commit", when="after")
        with pytest.raises(ProcessDied, match="after commit 2"):
            sim.call(Counter, "a").increment()
        assert sim.call(Counter, "a").get() == 1
        assert sim.life == 3


def test_a_crash_at_a_named_step() -> None:
    """The second body of `double`, before its effect; the other one ran once."""
    with simulate() as sim:
        run = sim.start(FiveSteps, 5, id="1")
        sim.crash_at(step="double", n=2, when="before")
        assert sim.result(run) == RESULT_OF_FIVE
        assert (sim.attempts("double"), sim.effects("double"), sim.life) == (2, 2, 2)
        sim.crash_at(step="never")
        assert sim.crashes_to_come == [Crash("step", step="never")]
        sim.no_more_crashes()
        assert sim.crashes_to_come == []


@pytest.mark.parametrize("seed", [0, 1])
def test_a_crash_between_any_two_callbacks(seed: int) -> None:
    """Wherever the process dies while three calls are made, each takes effect once."""
    with simulate(seed=seed) as sim:
        assert sim.result(sim.start(Tally, 3, id="1")) == 3
        callbacks = sim.callbacks
    for n in range(1, callbacks + 1):
        with simulate(seed=seed) as sim:
            sim.crash_at("callback", n)
            assert sim.result(sim.start(Tally, 3, id="1")) == 3
            sim.no_more_crashes()
            assert sim.call(Counter, "tally").get() == 3


def test_crash_upon_crash() -> None:
    """Several points are counted side by side, over all lives."""
    with simulate() as sim:
        run = sim.start(FiveSteps, 5, id="1")
        for n in (1, 2, 4, 5):
            sim.crash_at("commit", n)
        sim.crash_at("callback", 40)
        assert sim.result(run) == RESULT_OF_FIVE
        assert sim.life == 6
        assert sim.call(Counter, "total").get() == 11


def test_random_crashes_follow_the_seed() -> None:
    """The same seed dies at the same places, another one elsewhere; at most so often."""

    def places(seed: int) -> list[str]:
        with simulate(seed=seed) as sim:
            sim.crash_at_random(0.3, most=4)
            assert sim.result(sim.start(FiveSteps, 5, id="1")) == RESULT_OF_FIVE
            return [line.text for line in sim.story.lines if line.what == "crash"]

    assert places(1) == places(1)
    assert places(1) != places(2)
    assert 0 < len(places(1)) <= 4


@pytest.mark.parametrize(
    "crash",
    [Crash("nowhere"), Crash("commit", 0), Crash("commit", step="a"), Crash("step", 1, "during")],  # type: ignore[arg-type]
)
def test_a_place_that_there_is_not(crash: Crash) -> None:
    """It is refused when it is set."""
    with simulate() as sim, pytest.raises(CallerError):
        sim.crash_at(crash)
