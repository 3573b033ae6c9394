"""Actors that always fail: in the constructor, a method, an alarm; by recursion; by what can't be stored."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.alarm_scheduler import MAX_RETRIES
from holdfast.runtime.alarms import Alarm
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import InvalidResult
from holdfast.runtime.limited_log import MAX_LINES, WINDOW_SECONDS
from holdfast.runtime.system import ActorSystem
from tests.runtime.support import WAIT_SECONDS, pass_time


class Poison:
    """What the actors of this file do: nothing bad while `kind` is empty."""

    def __init__(self) -> None:
        self.kind = ""
        self.met_ms: list[int] = []


def endless(depth: int = 0) -> int:
    """Recursion through two functions, which a trace doesn't fold into one line."""
    return endless_too(depth + 1)


def endless_too(depth: int) -> int:
    return endless(depth + 1)


class Poisoned(Actor):
    touched: int = 0
    value: object = None

    def __init__(self) -> None:
        poison = self.runtime.deps.get(Poison)
        if poison.kind == "constructor":
            poison.met_ms.append(self.runtime.clock.now_ms())
            raise ConnectionError("the constructor raises")

    async def touch(self) -> int:
        self.touched += 1
        self._fail()
        return self.touched

    async def give(self) -> object:
        """The result can't be copied, where the poison is of that kind."""
        self.touched += 1
        self._fail()
        return (lambda: 1) if self.runtime.deps.get(Poison).kind == "result" else None

    async def set(self, seconds: float) -> None:
        self.alarms.set(seconds, "poison")

    async def on_alarm(self, alarm: Alarm) -> None:
        self.touched += 1
        self.runtime.deps.get(Poison).met_ms.append(self.runtime.clock.now_ms())
        self._fail()

    def _fail(self) -> None:
        kind = self.runtime.deps.get(Poison).kind
        if kind == "handler":
            raise ConnectionError("the handler raises")
        if kind == "recursion":
            endless()
        if kind == "field":
            self.value = lambda: 1


class Neighbour(Actor):
    touched: int = 0
    rings: int = 0

    async def touch(self) -> int:
        self.touched += 1
        return self.touched

    async def set(self, seconds: float) -> None:
        self.alarms.set(seconds)

    async def rung(self) -> int:
        return self.rings

    async def on_alarm(self, alarm: Alarm) -> None:
        self.rings += 1


class PoisonedToo(Poisoned):
    """The same under another name."""


@pytest.fixture
def poison(system: ActorSystem) -> Poison:
    made = Poison()
    system.deps.put(made)
    return made


CALLED: list[tuple[str, type[Exception]]] = [
    ("constructor", ConnectionError),
    ("handler", ConnectionError),
    ("recursion", RecursionError),
    ("result", InvalidResult),
    ("field", InvalidResult),
]


@pytest.mark.parametrize(("kind", "error"), CALLED)
async def test_calls_of_a_poison_actor(
    system: ActorSystem, poison: Poison, kind: str, error: type[Exception]
) -> None:
    """Each caller gets the error, nothing is kept, neighbours serve on, and once mended it serves too."""
    poisoned, neighbour = system.get(Poisoned, 1), system.get(Neighbour, 1)
    await poisoned.touch()
    system.directory.drop_all()
    poison.kind = kind
    for number in range(1, 21):
        with pytest.raises(error):
            await poisoned.give()
        assert await neighbour.touch() == number
    poison.kind = ""
    assert await poisoned.touch() == 2


ALARMED = [
    ("constructor", "ConnectionError: the constructor raises"),
    ("handler", "ConnectionError: the handler raises"),
    ("recursion", "RecursionError: maximum recursion depth exceeded"),
    ("field", "InvalidResult: "),
]


@pytest.mark.parametrize(("kind", "error"), ALARMED)
async def test_an_alarm_of_a_poison_actor(
    system: ActorSystem, clock: ManualClock, poison: Poison, kind: str, error: str
) -> None:
    """It is tried again after 2 s, doubling, six times, then it is dead; it fires again once mended."""
    poisoned, neighbour = system.get(Poisoned, 1), system.get(Neighbour, 1)
    await poisoned.set(1)
    system.directory.drop_all()
    poison.kind = kind
    for number in range(1, 171):
        await neighbour.set(0.5)
        await pass_time(system, 1)
        assert await neighbour.rung() == number
    waits = [(after - before) / 1000 for before, after in zip(poison.met_ms, poison.met_ms[1:], strict=False)]
    assert len(waits) == MAX_RETRIES
    for number, seconds in enumerate(waits, 1):
        assert 2**number <= seconds <= 2**number * 1.25 + 1
    [dead] = system.dead_alarms()
    assert dead.error.startswith(error)
    await pass_time(system, 10_000)
    assert len(poison.met_ms) == MAX_RETRIES + 1
    poison.kind = ""
    await system.redrive_alarm(Poisoned, 1, "poison")
    await pass_time(system, 0)
    assert (await poisoned.touch(), system.dead_alarms()) == (2, [])


# -- recursion ---------------------------------------------------------------------------------------------


class Shallow(Actor):
    """Its methods need few frames below their own."""

    count: int = 0

    async def add(self) -> int:
        self.count += 1
        return self.count

    async def add_below(self) -> int:
        def one_deeper() -> int:
            self.count += 1
            return two_deeper()

        def two_deeper() -> int:
            return self.count

        return one_deeper()

    async def add_and_raise(self) -> None:
        self.count += 1
        raise ConnectionError


async def below(frames: int, call: Callable[[], Awaitable[object]]) -> object:
    """Make a call so many frames further down."""
    return await below(frames - 1, call) if frames else await call()


@pytest.mark.parametrize("method", ["add", "add_below", "add_and_raise"])
async def test_a_call_just_above_the_recursion_limit(system: ActorSystem, method: str) -> None:
    """Wherever the limit is met, the call is done whole or not at all; the actor and the store serve on."""
    limit = sys.getrecursionlimit()
    met = 0
    for frames in range(limit - 200, limit):
        actor = system.get(Shallow, frames)
        assert await actor.add() == 1
        # A task of its own begins at the top of the stack.
        calling = asyncio.create_task(below(frames, getattr(actor, method)))
        done, _ = await asyncio.wait((calling,), timeout=WAIT_SECONDS)
        assert done, f"the call {frames} frames down did not end"
        failed = calling.exception()
        assert failed is None or isinstance(failed, (RecursionError, ConnectionError))
        met += isinstance(failed, RecursionError)
        async with asyncio.timeout(WAIT_SECONDS):
            assert await actor.add() == (2 if failed is not None else 3)
    assert 0 < met < 200


class Ring(Actor):
    """Calls the next one of so many, without end."""

    count: int = 0

    async def around(self, actors: int, frames: int) -> int:
        self.count += 1
        following = self.runtime.get(Ring, (int(str(self.key)) + 1) % actors)
        reply = await below(frames, lambda: following.around(actors, frames))
        assert isinstance(reply, int)
        return reply

    async def counted(self) -> int:
        return self.count


@pytest.mark.parametrize("actors", [1, 3, 10_000])
async def test_actors_that_call_each_other_without_end(system: ActorSystem, actors: int) -> None:
    """The call ends with `RecursionError`, all turns are undone and no actor stays taken."""
    for frames in range(5):
        calling = asyncio.create_task(system.get(Ring, 0).around(actors, frames))
        done, _ = await asyncio.wait((calling,), timeout=WAIT_SECONDS)
        assert done and isinstance(calling.exception(), RecursionError)
        assert list(system.directory.busy()) == []
        async with asyncio.timeout(WAIT_SECONDS):
            assert [await system.get(Ring, key).counted() for key in range(min(actors, 200))] == [0] * min(
                actors, 200
            )


# -- the log -----------------------------------------------------------------------------------------------


def lines(caplog: pytest.LogCaptureFixture, level: int, text: str) -> list[str]:
    found = [record for record in caplog.records if record.levelno == level]
    return [record.getMessage() for record in found if text in record.getMessage()]


async def test_many_failing_alarms_write_few_lines(
    system: ActorSystem, poison: Poison, caplog: pytest.LogCaptureFixture
) -> None:
    """Of one type a few lines are written in a while, then their number; other types have their own."""
    poison.kind = "handler"
    count = 300
    for number in range(count):
        await system.get(Poisoned, number).set(1)
    await system.get(PoisonedToo, 1).set(1)
    await pass_time(system, 1)
    assert len(poison.met_ms) == count + 1
    assert len(lines(caplog, logging.WARNING, "of Poisoned/")) == MAX_LINES
    assert len(lines(caplog, logging.WARNING, "of PoisonedToo/")) == 1
    for _ in range(int(WINDOW_SECONDS) + 2):
        await pass_time(system, 1)
    [told, *_] = lines(caplog, logging.WARNING, "were left out")
    # Within the while lay the first tries, the second ones after 2 s, and the third ones 4 s behind those.
    assert told == f"{3 * count - MAX_LINES} more lines like this one about alarms of Poisoned were left out"
    assert lines(caplog, logging.WARNING, "about alarms of PoisonedToo") == []


async def test_dead_alarms_have_lines_of_their_own(
    system: ActorSystem, poison: Poison, caplog: pytest.LogCaptureFixture
) -> None:
    """Retries don't use up the lines of what is kept as dead, and closing tells what was left out."""
    poison.kind = "handler"
    for number in range(MAX_LINES + 5):
        await system.get(Poisoned, number).set(1)
    dead = 0
    for _ in range(170):
        await pass_time(system, 1)
        dead = len(system.dead_alarms())
        if dead == MAX_LINES + 5:
            break
    assert dead == MAX_LINES + 5
    first = len(lines(caplog, logging.ERROR, "kept as dead"))
    await system.close()
    left_out = lines(caplog, logging.ERROR, "were left out")
    told = sum(int(line.split()[0]) for line in left_out)
    assert first <= dead and first + told == dead


async def test_the_trace_of_a_recursion_is_cut(
    system: ActorSystem, poison: Poison, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand frames are not written for each try."""
    poison.kind = "recursion"
    await system.get(Poisoned, 1).set(1)
    await pass_time(system, 1)
    [record] = [record for record in caplog.records if "failed, next try" in record.getMessage()]
    assert record.exc_info is not None
    text = logging.Formatter().formatException(record.exc_info)
    assert "endless_too" in text and "RecursionError" in text
    assert len(text.splitlines()) < 100


async def test_alarms_of_a_missing_class_write_few_lines(
    folder: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many alarms wait for a class that isn't imported, a few of them are named."""
    async with ActorSystem(folder, clock=clock, deps=[Poison()], seed=1) as system:
        for number in range(50):
            await system.get(Poisoned, number).set(1)
    clock.advance(10)
    monkeypatch.setattr("holdfast.runtime.registry._classes", {})
    async with ActorSystem(folder, clock=clock, seed=1) as system:
        await pass_time(system, 1)
        assert len(lines(caplog, logging.ERROR, "stays on disk")) == MAX_LINES
    assert lines(caplog, logging.ERROR, "left out") == [
        f"{50 - MAX_LINES} more lines like this one about alarms that can't fire were left out"
    ]
