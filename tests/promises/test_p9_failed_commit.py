"""P9: a failed commit is never acknowledged, and nothing remembers what it brought."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.errors import NotRunning
from holdfast.runtime.limits import Limits
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from holdfast.storage import layout
from holdfast.storage.errors import StorageClosed, StorageError, StorageFailed, StorageFull
from tests.runtime.support import FailingLog, HeldLog, quiet, turns


class Account(Actor):
    balance: int = 0
    _turns: int = 0

    async def add(self, amount: int = 1) -> int:
        self.balance += amount
        self._turns += 1
        self.storage.put("last", amount)
        return self.balance

    async def read(self) -> tuple[int, object]:
        return self.balance, self.storage.get("last")

    async def memory(self) -> int:
        return self._turns

    async def pay(self, other: str, amount: int) -> int:
        self.balance -= amount
        await self.runtime.get(Account, other).add(amount)
        return self.balance

    async def add_from(self, other: str) -> int:
        self.balance += (await self.runtime.get(Account, other).read())[0]
        go = self.runtime.deps.get(asyncio.Event)
        await go.wait()
        return self.balance

    async def add_from_two(self, first: str, second: str) -> int:
        """Rests on two commits, with time for the first of them to fail in between."""
        seen = (await self.runtime.get(Account, first).read())[0]
        await self.runtime.deps.get(asyncio.Event).wait()
        seen += await self.runtime.get(Account, second).add()
        self.balance = seen
        return seen

    async def fail_from_two(self, first: str, second: str) -> None:
        seen = (await self.runtime.get(Account, first).read())[0]
        await self.runtime.deps.get(asyncio.Event).wait()
        seen += await self.runtime.get(Account, second).add()
        raise ValueError(seen)

    @shared
    async def peek_two(self, first: str, second: str) -> int:
        seen = (await self.runtime.get(Account, first).read())[0]
        await self.runtime.deps.get(asyncio.Event).wait()
        return seen + await self.runtime.get(Account, second).add()

    async def put_big(self, kilobytes: int) -> None:
        self.storage.put("big", b"x" * (kilobytes << 10))

    async def drop_big(self) -> bool:
        return self.storage.delete("big")


class Newcomer(Actor):
    value: int = 0

    async def set(self) -> int:
        self.value += 1
        return self.value


class Run:
    def __init__(self, folder: Path) -> None:
        self.log = HeldLog()
        self.go = asyncio.Event()
        self.system = ActorSystem(folder, wrap_log=self.log.wrap, deps=[self.go])

    def account(self, key: str) -> Account:
        return self.system.get(Account, key)


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    made = Run(tmp_path / "data")
    await made.system.open()
    await made.account("a").add(10)
    yield made
    made.log.release()
    made.go.set()
    await made.system.close()


async def expect_failed(*calls: asyncio.Future[Any]) -> None:
    for call in calls:
        with pytest.raises(StorageFailed):
            await call


async def test_callers_are_told_and_actors_read_the_disk_again(run: Run) -> None:
    """The writer and everybody behind it get `StorageFailed`.

    Fields, storage and memory are those of the disk.
    """
    a = run.account("a")
    assert await a.memory() == 1
    run.log.hold()
    calls = [asyncio.ensure_future(a.add()), asyncio.ensure_future(a.read()), asyncio.ensure_future(a.add())]
    await run.log.arrived()
    await turns()
    run.log.fail()
    await expect_failed(*calls)
    run.log.release()
    assert await a.read() == (10, 10)
    assert await a.memory() == 0
    assert await a.add() == 11


async def test_what_was_staged_behind_fails_too(run: Run) -> None:
    """Write sets that waited for the next commit rest on the failed one, whoever made them."""
    await run.account("b").add(20)
    run.log.hold()
    first = asyncio.ensure_future(run.account("a").add())
    await run.log.arrived()
    behind = asyncio.ensure_future(run.account("b").add())
    await turns()
    run.log.fail()
    await expect_failed(first, behind)
    run.log.release()
    assert await run.account("b").read() == (20, 20)


async def test_later_calls_work(run: Run) -> None:
    """A commit that did not happen harms nothing: the same call made again is kept."""
    run.log.hold()
    call = asyncio.ensure_future(run.account("a").add())
    await run.log.arrived()
    run.log.fail()
    await expect_failed(call)
    run.log.release()
    assert await run.account("a").add() == 11
    assert run.system.keys(Account) == ["a"]


async def test_untouched_actors_keep_their_memory(run: Run) -> None:
    """Only actors that rest on the failed commit are dropped."""
    b = run.account("b")
    await b.add()
    run.log.hold()
    call = asyncio.ensure_future(run.account("a").add())
    await run.log.arrived()
    run.log.fail()
    await expect_failed(call)
    run.log.release()
    assert await b.memory() == 1


async def test_chain_of_actors(run: Run) -> None:
    """A transfer over two actors is undone on both sides."""
    await run.account("b").add(5)
    run.log.hold()
    call = asyncio.ensure_future(run.account("a").pay("b", 3))
    await run.log.arrived()
    run.log.fail()
    await expect_failed(call)
    run.log.release()
    assert (await run.account("a").read())[0] == 10
    assert (await run.account("b").read())[0] == 5


async def test_turn_in_progress_that_read_it_is_undone(run: Run) -> None:
    """A turn that read what was lost, and ends only later, is not kept."""
    await run.account("b").add(20)
    run.log.hold()
    write = asyncio.ensure_future(run.account("a").add())
    await run.log.arrived()
    reading = asyncio.ensure_future(run.account("b").add_from("a"))
    await turns()
    run.log.fail()
    await expect_failed(write)
    run.log.release()
    run.go.set()
    await expect_failed(reading)
    assert (await run.account("b").read())[0] == 20


@pytest.mark.parametrize("method", ["add_from_two", "fail_from_two", "peek_two"])
async def test_a_younger_commit_does_not_hide_a_failed_one(run: Run, method: str) -> None:
    """Who rests on a failed commit and then on a durable one is undone all the same."""
    await run.account("c").add(100)
    run.log.hold()
    write = asyncio.ensure_future(run.account("a").add())
    await run.log.arrived()
    call = asyncio.ensure_future(getattr(run.account("b"), method)("a", "c"))
    await turns()
    run.log.fail()
    await expect_failed(write)
    run.log.release()
    run.go.set()
    await expect_failed(call)
    assert (await run.account("b").read())[0] == 0


async def test_waiters_of_a_dropped_actor_are_served(run: Run) -> None:
    """Calls that wait behind a doomed turn get the actor as it is on disk."""
    run.log.hold()
    write = asyncio.ensure_future(run.account("a").add())
    await run.log.arrived()
    doomed = asyncio.ensure_future(run.account("a").add_from("a"))
    await turns()
    waiting = [asyncio.ensure_future(run.account("a").add()) for _ in range(3)]
    await turns()
    run.log.fail()
    await expect_failed(write)
    run.log.release()
    assert [await call for call in waiting] == [11, 12, 13]
    run.go.set()
    await expect_failed(doomed)
    assert (await run.account("a").read())[0] == 13


async def test_new_actor_of_a_failed_commit_is_unknown(run: Run) -> None:
    """An actor whose first write was lost was never there, and may come again."""
    run.log.hold()
    call = asyncio.ensure_future(run.account("new").add(7))
    await run.log.arrived()
    run.log.fail()
    await expect_failed(call)
    run.log.release()
    assert run.system.keys(Account) == ["a"]
    assert await run.account("new").add(8) == 8


async def test_new_type_of_a_failed_commit_keeps_its_number(run: Run, tmp_path: Path) -> None:
    """A type first used in a lost commit is written again, and what follows is found after reopening."""
    run.log.hold()
    call = asyncio.ensure_future(run.system.get(Newcomer, 1).set())
    await run.log.arrived()
    run.log.fail()
    await expect_failed(call)
    run.log.release()
    assert await run.system.get(Newcomer, 1).set() == 1
    await quiet(run.system)
    assert run.system.store.get_durable(layout.TYPE + b"Newcomer") is not None
    await run.system.close()
    async with ActorSystem(tmp_path / "data") as system:
        assert await system.get(Newcomer, 1).set() == 2


async def test_many_failures_in_a_row(tmp_path: Path) -> None:
    """However often commits fail, what was acknowledged is exactly what is there."""
    log = FailingLog()
    async with ActorSystem(tmp_path / "data", wrap_log=log.wrap) as system:
        acknowledged = 0
        for number in range(60):
            log.fail_next = number % 3
            calls = [system.get(Account, "a").add() for _ in range(5)]
            for found in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(found, int):
                    acknowledged += 1
                else:
                    assert isinstance(found, StorageFailed)
        log.fail_next = 0
        assert (await system.get(Account, "a").read())[0] == acknowledged
    async with ActorSystem(tmp_path / "data") as system:
        assert (await system.get(Account, "a").read())[0] == acknowledged


# -- unknown -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("happened", [True, False])
async def test_unknown_outcome_closes_the_runtime(tmp_path: Path, happened: bool) -> None:
    """Nobody retries: callers fail, later calls are refused with the reason, and reopening decides."""

    class Losing(HeldLog):
        def commit(self, writes, staged):
            if happened and self._holding:
                assert self._log is not None
                self._log.commit(writes, lambda: None)
            return super().commit(writes, staged)

    log = Losing()
    system = ActorSystem(tmp_path / "data", wrap_log=log.wrap)
    await system.open()
    await system.get(Account, "a").add(10)
    log.hold()
    call = asyncio.ensure_future(system.get(Account, "a").add())
    await log.arrived()
    log.lose_track()
    await expect_failed(call)
    await turns()
    with pytest.raises(NotRunning, match="lost track"):
        await system.get(Account, "a").add()
    with pytest.raises((StorageClosed, NotRunning)):
        await system.get(Account, "b").read()
    await system.close()
    async with ActorSystem(tmp_path / "data") as again:
        assert (await again.get(Account, "a").read())[0] == (11 if happened else 10)
        assert await again.get(Account, "a").add() == (12 if happened else 11)


async def test_waiters_when_the_outcome_is_unknown(tmp_path: Path) -> None:
    """Whoever waits in a mailbox when the runtime closes itself is told; nobody hangs."""
    log, go = HeldLog(), asyncio.Event()
    system = ActorSystem(tmp_path / "data", wrap_log=log.wrap, deps=[go])
    await system.open()
    await system.get(Account, "a").add(10)
    log.hold()
    write = asyncio.ensure_future(system.get(Account, "b").add())
    await log.arrived()
    running = asyncio.ensure_future(system.get(Account, "a").add_from("a"))
    await turns()
    waiting = [asyncio.ensure_future(system.get(Account, "a").add()) for _ in range(3)]
    await turns()
    log.lose_track()
    await expect_failed(write)
    for call in waiting:
        with pytest.raises((NotRunning, StorageError)):
            await call
    go.set()
    with pytest.raises((NotRunning, StorageError)):
        await running
    await system.close()


# -- full --------------------------------------------------------------------------------------------------


async def test_quota_is_told_as_such_and_deletes_still_work(tmp_path: Path) -> None:
    """Beyond the quota writes raise `StorageFull` that names it.

    Reading and deleting go on, and make room again.
    """
    async with ActorSystem(tmp_path / "data", quota_bytes=4 << 20) as system:
        kept: list[int] = []
        with pytest.raises(StorageFull, match="quota_bytes=4194304"):
            for number in range(100):
                await system.get(Account, number).put_big(100)
                kept.append(number)
        assert 10 < len(kept) < 50
        with pytest.raises(StorageFull):  # what is left takes small writes for a while
            for number in range(10_000):
                await system.get(Account, ("small", number)).add()
        refused = system.get(Account, "refused")
        with pytest.raises(StorageFull):
            await refused.add()
        assert await refused.read() == (0, None)
        for number in kept:
            assert await system.get(Account, number).drop_big()
        async with asyncio.timeout(20):
            while True:
                try:
                    assert await refused.add() == 1
                    break
                except StorageFull:
                    await asyncio.sleep(0.05)


async def test_full_disk_is_told_as_such(tmp_path: Path) -> None:
    """A commit that failed for want of space raises `StorageFull` with the reason, and is undone as any."""
    log = FailingLog()
    log.error = StorageFull("the disk is full (0 bytes free)")
    async with ActorSystem(tmp_path / "data", wrap_log=log.wrap) as system:
        await system.get(Account, "a").add()
        log.fail_next = 1
        with pytest.raises(StorageFull, match="0 bytes free"):
            await system.get(Account, "a").add()
        assert await system.get(Account, "a").add() == 2


async def test_too_much_waiting_for_the_disk(tmp_path: Path) -> None:
    """Beyond `max_staged_bytes` a turn is refused as `Overloaded` and rolled back; others go on."""
    log = HeldLog()
    limits = Limits(max_staged_bytes=1 << 20)
    async with ActorSystem(tmp_path / "data", wrap_log=log.wrap, limits=limits) as system:
        await system.get(Account, "a").add()
        log.hold()
        # Large ones wait before they are staged, small ones behind the commit; both are bounded.
        first = asyncio.ensure_future(system.get(Account, "big").put_big(900))
        await log.arrived()
        second = asyncio.ensure_future(system.get(Account, "waits").put_big(900))
        await turns()
        refused = [system.get(Account, "refused").put_big(kilobytes) for kilobytes in (900, 200)]
        found = asyncio.ensure_future(asyncio.gather(*refused, return_exceptions=True))
        await turns()
        log.release()
        assert [type(error).__name__ for error in await found] == ["Overloaded", "Overloaded"]
        await first
        await second
        await system.get(Account, "refused").put_big(900)


# -- closing -----------------------------------------------------------------------------------------------


async def test_close_after_failures_does_not_hang(tmp_path: Path) -> None:
    """A runtime whose last commits fail closes all the same, and everybody is told."""
    log = FailingLog()
    system = ActorSystem(tmp_path / "data", wrap_log=log.wrap)
    await system.open()
    await system.get(Account, "a").add()
    log.fail_next = 1000
    calls = [asyncio.ensure_future(system.get(Account, "a").add()) for _ in range(20)]
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await system.close()
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(one, StorageError) for one in found)
