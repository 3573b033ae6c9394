"""The guard for tests: what run() asks of the outside is told, with its line; steps and others may do it."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import logging
import os
import random
import secrets
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import monotonic as ticks
from types import FunctionType
from typing import Any, cast

import pytest

from holdfast import Counter, Runtime, Workflow
from holdfast.actors.errors import NotReplayable, RunFailed
from holdfast.actors.workflow.replay_loop import ReplayLoop
from holdfast.runtime.clock import ManualClock
from holdfast.testing import replay_guard, simulate
from tests.actors.workflow.support import soon

ASKS: list[Callable[[], object]] = []
ORIGINAL = ReplayLoop.run_until_rest


class Asks(Workflow):
    """Its run() calls what the test wants."""

    name = "GuardAsks"

    async def run(self, where: str) -> str:
        if where == "run":
            return str(ASKS[0]())
        if where == "helper":
            return await self.helper()
        if where == "task":
            return await asyncio.create_task(self.helper())
        if where == "swallowed":
            try:
                ASKS[0]()
            except NotReplayable:
                return "swallowed"
        return str(await self.step(ask))

    async def helper(self) -> str:
        await self.step(ask)
        return str(ASKS[0]())


def ask() -> str:
    return str(ASKS[0]())


class Own(dt.datetime):
    """A subclass with the same clock."""


# ruff: noqa: PLW0108  # each call must have a line of its own
TOLD: dict[str, Callable[[], object]] = {
    "time.time": lambda: time.time(),
    "time.time_ns": lambda: time.time_ns(),
    "time.monotonic": lambda: ticks(),
    "time.perf_counter": lambda: time.perf_counter(),
    "datetime.datetime.now": lambda: dt.datetime.now(dt.UTC),
    "datetime.datetime.today": lambda: Own.today(),
    "datetime.date.today": lambda: dt.date.today(),
    "random.random": lambda: random.random(),
    "random.randint": lambda: random.randint(1, 6),
    "random.choice": lambda: random.choice([1, 2]),
    "random.shuffle": lambda: random.shuffle([1, 2]),
    "uuid.uuid4": lambda: uuid.uuid4(),
    "uuid.uuid1": lambda: uuid.uuid1(),
    "os.urandom": lambda: os.urandom(4),
    "secrets.token_hex": lambda: secrets.token_hex(),
}


@pytest.fixture
async def rt(folder: Path, clock: ManualClock) -> AsyncIterator[Runtime]:
    """An open runtime whose time stands still."""
    async with Runtime(folder, clock=clock) as running:
        yield running


async def result(rt: Runtime, where: str) -> str:
    return await soon((await rt.start(Asks, where)).result())


@pytest.mark.parametrize("name", list(TOLD))
@pytest.mark.parametrize("where", ["run", "helper", "task"])
async def test_what_is_told(rt: Runtime, name: str, where: str) -> None:
    """The run fails at the line, the error says what to use, and the block raises it again."""
    ASKS[:] = [TOLD[name]]
    with pytest.raises(NotReplayable) as raised, replay_guard() as told:
        with pytest.raises(RunFailed, match="NotReplayable"):
            await result(rt, where)
        assert len(told) == 1
    line = cast("FunctionType", TOLD[name]).__code__.co_firstlineno
    assert str(raised.value).startswith(f"{__file__}:{line} in <lambda>: run() calls {name}(), and ")
    assert "; use self." in str(raised.value)


@pytest.mark.parametrize("name", list(TOLD))
async def test_steps_and_others_may(rt: Runtime, name: str) -> None:
    """Bodies of steps, code around, and actors ask what they like."""
    ASKS[:] = [TOLD[name]]
    with replay_guard() as told:
        assert await result(rt, "step")
        TOLD[name]()
        await rt.get(Counter, "c").increment()
    assert told == []


FREE: dict[str, Callable[[], object]] = {
    "a logged line": lambda: logging.getLogger("tests.guard").warning("has a time of its own"),
    "chance with a seed": lambda: random.Random(7).random(),
    "a name in a namespace": lambda: uuid.uuid5(uuid.NAMESPACE_DNS, "x"),
    "a stored time": lambda: dt.datetime.fromtimestamp(0, dt.UTC),
    "a time as text": lambda: time.strftime("%H", time.gmtime(0)),
}


@pytest.mark.parametrize("what", list(FREE))
async def test_what_is_the_same_on_replay_is_free(rt: Runtime, what: str) -> None:
    """Nor is what Python's own modules ask for themselves told."""
    ASKS[:] = [FREE[what]]
    with replay_guard() as told:
        await result(rt, "run")
    assert told == []


class Proper(Workflow):
    """What run() should use."""

    name = "GuardProper"

    async def run(self) -> str:
        await self.sleep("1ms")
        async with self.group() as group:
            group.step(ask)
        await self.runtime.get(Counter, "proper").increment()
        async with asyncio.timeout(5):
            await self.step(ask)
        return f"{self.now()} {self.uuid()} {self.random.random()} {self.version('x', 1)}"


async def test_what_run_should_use_is_free(tmp_path: Path) -> None:
    """Clock, chance, ids, sleeps, timeouts, groups and calls of the workflow itself."""
    ASKS[:] = [lambda: "asked"]
    with replay_guard() as told:
        async with Runtime(tmp_path / "data") as rt:
            assert await (await rt.start(Proper)).result()
    assert told == []


async def test_a_run_that_swallows_it_is_told_all_the_same(rt: Runtime) -> None:
    """The block raises it in the end."""
    ASKS[:] = [TOLD["time.time"]]
    with pytest.raises(NotReplayable, match=r"time\.time"), replay_guard():
        assert await result(rt, "swallowed") == "swallowed"


async def test_modules_may_be_allowed(rt: Runtime) -> None:
    """By name, with all below them, and only in the block that allows them."""
    ASKS[:] = [TOLD["time.time"]]
    with replay_guard(allow=[__name__]) as told:
        await result(rt, "run")
    assert told == []
    with replay_guard(allow=[__name__.partition(".")[0]]):
        await result(rt, "run")
    with pytest.raises(NotReplayable), replay_guard():
        with replay_guard(allow=[__name__]) as inner, pytest.raises(RunFailed):
            await result(rt, "run")
        assert inner == []


async def test_nothing_of_it_is_left(rt: Runtime) -> None:
    """Behind the block run() may do as it likes, and other profilers are as they were."""
    seen: list[str] = []

    def profiler(frame: Any, event: str, arg: Any) -> None:
        seen.append(event)

    ASKS[:] = [lambda: "asked"]
    sys.setprofile(profiler)
    try:
        with replay_guard():
            await result(rt, "run")
            assert sys.getprofile() is profiler
    finally:
        sys.setprofile(None)
    assert ReplayLoop.run_until_rest is ORIGINAL
    ASKS[:] = [TOLD["time.time"]]
    assert await result(rt, "run")


async def test_what_the_collector_calls_is_not_run_s_doing(rt: Runtime) -> None:
    """Its callbacks come at any time, in whatever frame runs then."""

    def collected(phase: str, info: dict[str, int]) -> None:
        time.perf_counter()

    def collect() -> str:
        gc.collect()
        return "asked"

    ASKS[:] = [collect]
    gc.callbacks.append(collected)
    try:
        with replay_guard() as told:
            assert await result(rt, "run") == "asked"
        assert told == []
    finally:
        gc.callbacks.remove(collected)


def test_it_works_around_a_simulation() -> None:
    """A story's run is driven by the same loop, so it fails at the line in virtual time as well."""
    ASKS[:] = [TOLD["time.time"]]
    with (
        pytest.raises(NotReplayable, match=r"run\(\) calls time\.time\(\)"),
        replay_guard(),
        simulate() as sim,
        pytest.raises(RunFailed, match="NotReplayable"),
    ):
        sim.result(sim.start(Asks, "run"))
