"""`@shared` methods: they run beside turns, on what was last committed, and write nothing."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.errors import SharedWriteError
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from tests.runtime.support import turns


class Door:
    """Holds turns open until the test lets them go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()

    async def pass_through(self) -> None:
        self.entered.set()
        await self.leave.wait()


class Board(Actor):
    text: str = ""
    lines: list[str] = []
    _seen: int = 0

    async def write(self, text: str) -> None:
        self.text = text
        self.lines.append(text)
        self.storage.put("text", text)
        self._seen += 1

    async def write_slowly(self, text: str) -> None:
        await self.write(text)
        await self.runtime.deps.get(Door).pass_through()

    @shared
    async def read(self) -> tuple[str, list[str], object]:
        return self.text, self.lines, self.storage.get("text")

    @shared
    async def read_slowly(self) -> tuple[str, object]:
        await self.runtime.deps.get(Door).pass_through()
        return self.text, self.storage.get("text")

    @shared
    async def seen(self) -> int:
        return self._seen

    @shared
    async def break_rule(self, how: str) -> None:
        if how == "field":
            self.text = "x"
        elif how == "nested":
            self.lines.append("x")
        elif how == "put":
            self.storage.put("text", "x")
        elif how == "delete":
            self.storage.delete("text")
        elif how == "clear":
            self.storage.clear()
        elif how == "alarm":
            self.alarms.set(1)
        elif how == "cancel":
            self.alarms.cancel("set")

    @shared
    async def through(self, other: str) -> str:
        await self.runtime.get(Board, other).write("through")
        return self.text

    async def set_alarm(self) -> None:
        self.alarms.set(1000, "set")

    async def on_alarm(self, alarm: object) -> None: ...


@pytest.fixture
def door(system: ActorSystem) -> Door:
    made = Door()
    system.deps.put(made)
    return made


async def test_shared_runs_beside_a_turn(system: ActorSystem, door: Door) -> None:
    """A shared call doesn't wait for the turn in progress, and sees the state before it."""
    board = system.get(Board, 1)
    await board.write("old")
    turn = asyncio.create_task(board.write_slowly("new"))
    await door.entered.wait()
    assert await board.read() == ("old", ["old"], "old")
    door.leave.set()
    await turn
    assert await board.read() == ("new", ["old", "new"], "new")


async def test_many_shared_calls_run_together(system: ActorSystem, door: Door) -> None:
    """Shared calls interleave with each other and with turns."""
    board = system.get(Board, 1)
    await board.write("old")
    readers = [asyncio.create_task(board.read_slowly()) for _ in range(10)]
    await door.entered.wait()
    await board.write("new")
    door.leave.set()
    for text, stored in await asyncio.gather(*readers):
        assert text == "old"  # the fields are those of its start
        assert stored == "new"  # storage is read as it is


async def test_shared_sees_what_a_failed_turn_left(system: ActorSystem) -> None:
    """After a rollback a shared call reads what is committed."""

    class Failing(Actor):
        text: str = "old"

        async def fail(self) -> None:
            self.text = "new"
            raise ValueError

        @shared
        async def read(self) -> str:
            return self.text

    failing = system.get(Failing, 1)
    with pytest.raises(ValueError):
        await failing.fail()
    assert await failing.read() == "old"


@pytest.mark.parametrize("how", ["field", "nested", "put", "delete", "clear", "alarm", "cancel"])
async def test_shared_cannot_write(system: ActorSystem, how: str) -> None:
    """Changing fields, storage or alarms raises `SharedWriteError` and changes nothing."""
    board = system.get(Board, 1)
    await board.write("kept")
    await board.set_alarm()
    with pytest.raises(SharedWriteError, match="Board/1"):
        await board.break_rule(how)
    assert await board.read() == ("kept", ["kept"], "kept")


async def test_shared_sees_private_memory(system: ActorSystem) -> None:
    """Private names of the actor are seen as the last turn left them."""
    board = system.get(Board, 1)
    for number in range(3):
        await board.write("same")
        assert await board.seen() == number + 1


async def test_first_shared_call_waits_for_on_activate_and_cannot_write(system: ActorSystem) -> None:
    """A shared call that wakes the actor runs after `on_activate`, as a shared one."""

    class Waking(Actor):
        value: int = 0

        async def on_activate(self) -> None:
            await turns(3)
            self.value = 7

        @shared
        async def read(self) -> int:
            return self.value

        @shared
        async def write(self) -> None:
            self.value = 8

    with pytest.raises(SharedWriteError):
        await system.get(Waking, 1).write()
    assert await asyncio.gather(*[system.get(Waking, 2).read() for _ in range(5)]) == [7] * 5
    assert await system.get(Waking, 1).read() == 7


async def test_shared_may_call_other_actors(system: ActorSystem) -> None:
    """A shared method may make others write, and even its own actor by a turn of its own."""
    board = system.get(Board, 1)
    await board.write("old")
    assert await board.through("other") == "old"
    assert (await system.get(Board, "other").read())[0] == "through"


async def test_shared_that_writes_to_its_own_actor(system: ActorSystem) -> None:
    """It holds nothing, so a call back to its own actor is a turn like any other."""

    class Looping(Actor):
        count: int = 0

        async def add(self) -> int:
            self.count += 1
            return self.count

        @shared
        async def add_from_shared(self) -> tuple[int, int]:
            added = await self.runtime.get(Looping, self.key).add()
            return self.count, added

    assert await system.get(Looping, 1).add_from_shared() == (0, 1)
