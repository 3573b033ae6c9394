"""P3: nothing leaves before it is durable.

Each scenario makes a call whose reply (or error) rests on a commit, and the test holds that commit in its
hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.errors import InvalidArgument, InvalidResult, NotRunning
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from holdfast.storage.errors import StorageClosed, StorageFailed
from tests.runtime.support import HeldLog, turns


class Odd(Exception):
    """An error of user code."""


class Row(msgspec.Struct):
    id: int
    tag: str = "tag"


class Vault(Actor):
    indexes = ("gold",)
    gold: int = 0

    async def put(self, gold: int = 1) -> int:
        self.gold += gold
        return self.gold

    async def put_stored(self) -> None:
        self.storage.put("k", 1)

    async def put_row(self) -> None:
        self.storage.table(Row, key="id", indexes=("tag",), shared=True).put(Row(1))

    async def set_alarm(self) -> None:
        self.alarms.set(1000, "a")

    async def on_alarm(self, alarm: object) -> None: ...

    async def fail_seeing(self) -> None:
        raise Odd(f"there is {self.gold}")

    async def put_then_fail_elsewhere(self) -> None:
        await self.runtime.get(Vault, "other").put()
        raise Odd("after a write of another")

    async def wrong_result_after_call(self) -> int:
        await self.runtime.get(Vault, "other").put()
        wrong: object = "text"
        return wrong  # type: ignore[return-value]  # pyright: ignore

    async def read(self) -> int:
        return self.gold

    async def read_stored(self) -> object:
        return self.storage.get("k")

    async def list_stored(self) -> int:
        return len(self.storage.list())

    async def list_alarms(self) -> int:
        return len(self.alarms.list())

    @shared
    async def peek(self) -> int:
        return self.gold

    @shared
    async def peek_stored(self) -> object:
        return self.storage.get("k")

    @shared
    async def peek_and_fail(self) -> None:
        raise Odd(f"there is {self.gold}")

    @shared
    async def peek_other(self) -> int:
        return await self.runtime.get(Vault, "one").peek()

    @shared
    async def put_other_from_shared(self) -> int:
        return await self.runtime.get(Vault, "other").put()

    @shared
    async def peek_after_waiting(self) -> object:
        go = self.runtime.deps.get(asyncio.Event)
        await go.wait()
        return self.storage.get("k")

    async def read_other(self) -> int:
        return await self.runtime.get(Vault, "one").read()

    async def read_far(self) -> int:
        return await self.runtime.get(Vault, "between").read_other()

    async def peek_from_turn(self) -> int:
        return await self.runtime.get(Vault, "one").peek()

    async def catch_other(self) -> str:
        try:
            await self.runtime.get(Vault, "one").fail_seeing()
        except Odd as error:
            return str(error)
        return ""

    async def gather_others(self) -> int:
        one, two = self.runtime.get(Vault, "one"), self.runtime.get(Vault, "two")
        return sum(await asyncio.gather(one.read(), two.read()))

    async def call_back(self) -> int:
        self.gold += 1
        return await self.runtime.get(Vault, "between").put_at(str(self.key))

    async def put_at(self, key: str) -> int:
        return await self.runtime.get(Vault, key).put()

    async def query(self) -> int:
        return len(self.runtime.query(Vault, gold=1))

    async def all_keys(self) -> int:
        return len(self.runtime.keys(Vault))

    async def select_shared(self) -> int:
        return len(self.storage.table(Row, key="id", indexes=("tag",), shared=True).select(tag="tag"))

    async def select_of_type(self) -> int:
        return len(self.runtime.table(Vault, Row, key="id", indexes=("tag",)).select(tag="tag"))

    @shared
    async def select_from_shared(self) -> int:
        return len(self.storage.table(Row, key="id", indexes=("tag",), shared=True).select(tag="tag"))


class Nervous(Actor):
    async def on_activate(self) -> None:
        gold = await self.runtime.get(Vault, "one").read()
        raise Odd(f"there is {gold}")

    async def call(self) -> None: ...


class Scenario(NamedTuple):
    """First a write whose commit is held, then the call whose reply rests on it."""

    write: Callable[[ActorSystem], Awaitable[object]] | None
    call: Callable[[ActorSystem], Awaitable[object]]
    reply: object


def one(system: ActorSystem) -> Vault:
    return system.get(Vault, "one")


def put(system: ActorSystem) -> Awaitable[object]:
    return one(system).put()


SCENARIOS = {
    "reply of the writing turn": Scenario(None, lambda s: one(s).put(), 1),
    "reply without a value": Scenario(None, lambda s: one(s).put_stored(), None),
    "reply of a turn that set an alarm": Scenario(None, lambda s: one(s).set_alarm(), None),
    "reply of a turn that only read": Scenario(put, lambda s: one(s).read(), 1),
    "reply that read storage": Scenario(lambda s: one(s).put_stored(), lambda s: one(s).read_stored(), 1),
    "reply that listed storage": Scenario(lambda s: one(s).put_stored(), lambda s: one(s).list_stored(), 1),
    "reply that listed alarms": Scenario(lambda s: one(s).set_alarm(), lambda s: one(s).list_alarms(), 1),
    "error of a turn that read": Scenario(put, lambda s: one(s).fail_seeing(), Odd("there is 1")),
    "error after another's write": Scenario(
        None, lambda s: one(s).put_then_fail_elsewhere(), Odd("after a write of another")
    ),
    "error of a wrong result": Scenario(
        None, lambda s: one(s).wrong_result_after_call(), InvalidResult("int")
    ),
    "error of on_activate": Scenario(put, lambda s: s.get(Nervous, 1).call(), Odd("there is 1")),
    "shared reply": Scenario(put, lambda s: one(s).peek(), 1),
    "shared reply that read storage": Scenario(
        lambda s: one(s).put_stored(), lambda s: one(s).peek_stored(), 1
    ),
    "shared error": Scenario(put, lambda s: one(s).peek_and_fail(), Odd("there is 1")),
    "shared reply resting on another": Scenario(put, lambda s: s.get(Vault, "two").peek_other(), 1),
    "shared reply after another's write": Scenario(None, lambda s: one(s).put_other_from_shared(), 1),
    "reply resting on another's read": Scenario(put, lambda s: s.get(Vault, "two").read_other(), 1),
    "reply resting on another's peek": Scenario(put, lambda s: s.get(Vault, "two").peek_from_turn(), 1),
    "reply resting on a far actor": Scenario(put, lambda s: s.get(Vault, "two").read_far(), 1),
    "reply resting on a caught error": Scenario(
        put, lambda s: s.get(Vault, "two").catch_other(), "there is 1"
    ),
    "reply resting on a gather": Scenario(put, lambda s: s.get(Vault, "three").gather_others(), 1),
    "reply of a turn that was joined": Scenario(None, lambda s: one(s).call_back(), 2),
    "reply resting on a query": Scenario(put, lambda s: s.get(Vault, "two").query(), 1),
    "reply resting on a list of keys": Scenario(put, lambda s: s.get(Vault, "two").all_keys(), 2),
    "reply resting on a shared table": Scenario(
        lambda s: one(s).put_row(), lambda s: s.get(Vault, "two").select_shared(), 1
    ),
    "reply resting on a type's table": Scenario(
        lambda s: one(s).put_row(), lambda s: s.get(Vault, "two").select_of_type(), 1
    ),
    "shared reply resting on a shared table": Scenario(
        lambda s: one(s).put_row(), lambda s: s.get(Vault, "two").select_from_shared(), 1
    ),
}


class Run:
    """A scenario as far as the commit that the test holds."""

    def __init__(self, folder: Path) -> None:
        self.log = HeldLog()
        self.system = ActorSystem(folder, wrap_log=self.log.wrap)
        self.tasks: list[asyncio.Task[object]] = []

    async def start(self, scenario: Scenario) -> asyncio.Task[object]:
        await self.system.open()
        await self.system.get(Vault, "warm").put(100)  # so that the type's own row is durable
        self.system.type_of(Nervous)
        await self.system.store.wait_durable(self.system.store.newest)
        self.log.hold()
        if scenario.write is not None:
            self.tasks.append(asyncio.ensure_future(scenario.write(self.system)))
            await self.log.arrived()
        call = asyncio.ensure_future(scenario.call(self.system))
        self.tasks.append(call)
        if scenario.write is None:
            await self.log.arrived()
        await turns(30)
        return call

    async def end(self) -> None:
        self.log.release()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.system.close()


async def outcome(call: asyncio.Task[object]) -> object:
    await asyncio.wait([call])
    return call.exception() or call.result()


def same(found: object, expected: object) -> bool:
    if isinstance(expected, Exception):
        return type(found) is type(expected) and str(expected) in str(found)
    return found == expected


@pytest.mark.parametrize("name", SCENARIOS)
async def test_leaves_when_it_is_durable(tmp_path: Path, name: str) -> None:
    """The reply is held while the commit is, and comes as it is once that is durable."""
    scenario, run = SCENARIOS[name], Run(tmp_path / "data")
    call = await run.start(scenario)
    assert not call.done()
    run.log.release()
    assert same(await outcome(call), scenario.reply)
    await run.end()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_never_leaves_when_the_commit_failed(tmp_path: Path, name: str) -> None:
    """When the commit did not happen, neither reply nor error leaves: the caller gets `StorageFailed`."""
    scenario, run = SCENARIOS[name], Run(tmp_path / "data")
    call = await run.start(scenario)
    run.log.fail()
    found = await outcome(call)
    assert isinstance(found, StorageFailed), found
    await run.end()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_never_leaves_when_the_outcome_is_unknown(tmp_path: Path, name: str) -> None:
    """When nobody knows what became of the commit, nothing leaves either."""
    scenario, run = SCENARIOS[name], Run(tmp_path / "data")
    call = await run.start(scenario)
    run.log.lose_track()
    found = await outcome(call)
    assert isinstance(found, (StorageFailed, StorageClosed, NotRunning)), found
    await run.end()


# -- what does not wait ------------------------------------------------------------------------------------


async def test_replies_that_rest_on_nothing_new_do_not_wait(tmp_path: Path) -> None:
    """Reads of durable state, refused arguments, read-only errors don't wait for somebody else's commit."""
    run = Run(tmp_path / "data")
    warm = run.system.get
    await run.start(Scenario(put, lambda s: s.get(Vault, "warm").read(), 100))
    assert run.tasks[-1].done() and run.tasks[-1].result() == 100
    assert await warm(Vault, "warm").peek() == 100
    with pytest.raises(Odd, match="there is 100"):
        await warm(Vault, "warm").fail_seeing()
    with pytest.raises(InvalidArgument):
        await warm(Vault, "one").put("gold")  # type: ignore[arg-type]  # pyright: ignore
    assert run.system.keys(Vault) == ["warm"]
    await run.end()


async def test_a_message_before_a_write_leaves_and_one_after_it_does_not(tmp_path: Path) -> None:
    """Each reply waits for what it rests on, not for what came after it."""
    log = HeldLog()
    async with ActorSystem(tmp_path / "data", wrap_log=log.wrap) as system:
        vault = one(system)
        await vault.put()
        log.hold()
        before = asyncio.create_task(vault.read())
        write = asyncio.create_task(vault.put())
        after = asyncio.create_task(vault.read())
        await log.arrived()
        assert await before == 1
        await turns()
        assert not write.done() and not after.done()
        log.release()
        assert [await write, await after] == [2, 2]


async def test_replies_leave_in_the_order_of_their_commits(tmp_path: Path) -> None:
    """Commits are ordered: the second commit's replies stay while the first one's go."""
    log = HeldLog()
    async with ActorSystem(tmp_path / "data", wrap_log=log.wrap) as system:
        await one(system).put()
        log.hold()
        first = asyncio.create_task(one(system).put())
        await log.arrived()
        second = asyncio.create_task(one(system).put())
        await turns()
        log.let()
        assert await first == 2
        await log.arrived()
        await turns()
        assert not second.done()
        log.let()
        assert await second == 3
        log.release()


async def test_shared_reply_rests_on_what_it_read_last(tmp_path: Path) -> None:
    """A shared call that waits and then reads storage is held for writes staged in the meantime."""
    log, go = HeldLog(), asyncio.Event()
    async with ActorSystem(tmp_path / "data", wrap_log=log.wrap, deps=[go]) as system:
        await one(system).put()
        watching = asyncio.create_task(one(system).peek_after_waiting())
        await turns()
        log.hold()
        write = asyncio.create_task(one(system).put_stored())
        await log.arrived()
        go.set()
        await turns()
        assert not watching.done()
        log.release()
        await write
        assert await watching == 1


async def test_actors_do_not_wait_for_the_disk_between_each_other(tmp_path: Path) -> None:
    """Calls between actors run through while a commit is held; only the last reply waits."""
    log = HeldLog()
    async with ActorSystem(tmp_path / "data", wrap_log=log.wrap) as system:
        await one(system).put()
        log.hold()
        write = asyncio.create_task(one(system).put())
        await log.arrived()
        call = asyncio.create_task(system.get(Vault, "two").put_at("one"))
        await turns(20)
        live = system.directory.find(one(system).directory_key)  # type: ignore[attr-defined]  # pyright: ignore
        assert live is not None and cast(Vault, live.instance).gold == 3
        assert not call.done()
        log.release()
        assert [await write, await call] == [2, 3]
