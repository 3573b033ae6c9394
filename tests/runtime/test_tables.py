"""Tables of an actor and of a type, and queries over declared fields."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import InvalidResult
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from holdfast.storage.errors import CallerError, InvalidValue
from holdfast.storage.table import Table
from tests.runtime.support import HeldLog, quiet, turns


class Order(msgspec.Struct):
    id: int
    status: str = "new"
    amount: int = 0


INDEXES = (("status", "amount"), "amount")


class Merchant(Actor):
    async def put(self, order: Order) -> None:
        self._orders().put(order)
        self._shared().put(order)

    async def delete(self, id: int) -> bool:
        self._shared().delete(id)
        return self._orders().delete(id)

    async def put_and_fail(self, order: Order) -> None:
        self._orders().put(order)
        self._shared().put(order)
        raise ZeroDivisionError

    async def select(self, where: dict[str, Any]) -> list[Order]:
        return self._orders().select(**where)

    async def put_then_select(self, order: Order, status: str) -> list[int]:
        self._orders().put(order)
        return [row.id for row in self._orders().select(status=status)]

    async def clear(self) -> None:
        self.storage.clear()

    async def other_indexes(self) -> None:
        self.storage.table(Order, key="id", indexes=("amount",))

    @shared
    async def peek(self, status: str) -> list[int]:
        return [row.id for row in self._orders().select(status=status)]

    @shared
    async def put_shared(self) -> None:
        self._orders().put(Order(1))

    def _orders(self) -> Table[Order]:
        return self.storage.table(Order, key="id", indexes=INDEXES)

    def _shared(self) -> Table[Order]:
        return self.storage.table(Order, key="id", indexes=INDEXES, name="all_orders", shared=True)


def all_orders(system: ActorSystem) -> Table[Order]:
    return system.table(Merchant, Order, key="id", indexes=INDEXES, name="all_orders")


async def test_rows_by_index(system: ActorSystem) -> None:
    """Rows are found by their indexed values, in the index's order."""
    merchant = system.get(Merchant, "a")
    for number, status in enumerate(["new", "paid", "new", "paid", "new"]):
        await merchant.put(Order(number, status, 100 - number))
    assert [row.id for row in await merchant.select({"status": "new", "order_by": "amount"})] == [4, 2, 0]
    assert [row.id for row in await merchant.select({"order_by": "amount", "limit": 2})] == [4, 3]
    assert [row.id for row in await merchant.select({"status": "paid", "reverse": True})] == [1, 3]
    with pytest.raises(CallerError, match="no index"):
        await merchant.select({"id": 1, "status": "new"})


async def test_changed_rows_move(system: ActorSystem) -> None:
    """An index follows its rows when they change or go."""
    merchant = system.get(Merchant, "a")
    await merchant.put(Order(1, "new"))
    await merchant.put(Order(1, "paid"))
    assert await merchant.select({"status": "new"}) == []
    assert await merchant.select({"status": "paid"}) == [Order(1, "paid")]
    assert await merchant.delete(1) is True
    assert await merchant.select({"status": "paid"}) == []


async def test_a_turn_sees_its_own_rows(system: ActorSystem) -> None:
    """A select sees what the turn has put so far; a failed turn leaves no entry."""
    merchant = system.get(Merchant, "a")
    assert await merchant.put_then_select(Order(1, "new"), "new") == [1]
    with pytest.raises(ZeroDivisionError):
        await merchant.put_and_fail(Order(2, "new"))
    assert await merchant.peek("new") == [1]
    assert all_orders(system).select() == []


async def test_actors_own_their_rows(system: ActorSystem) -> None:
    """A table that isn't shared belongs to one actor."""
    await system.get(Merchant, "a").put(Order(1, "new"))
    assert await system.get(Merchant, "b").select({"status": "new"}) == []


async def test_shared_table_has_the_rows_of_all(system: ActorSystem) -> None:
    """Rows of many actors lie in one index, read over all of them, and equal keys don't collide."""
    for key in "abc":
        await system.get(Merchant, key).put(Order(1, "new", ord(key)))
    table = all_orders(system)
    assert [row.amount for row in table.select(status="new", order_by="amount")] == [97, 98, 99]
    assert table.count(status="new") == 3
    await system.get(Merchant, "b").delete(1)
    assert [row.amount for row in table.select(status="new", order_by="amount")] == [97, 99]
    with pytest.raises(CallerError, match="reading"):
        table.put(Order(1))


async def test_outside_reads_only_durable_rows(folder: Path) -> None:
    """Code outside the actors never sees a row that could still be lost."""
    log = HeldLog()
    async with ActorSystem(folder, wrap_log=log.wrap) as system:
        merchant = system.get(Merchant, "a")
        await merchant.put(Order(1, "new"))
        log.hold()
        call = asyncio.create_task(merchant.put(Order(2, "new")))
        await log.arrived()
        assert [row.id for row in all_orders(system).select(status="new")] == [1]
        log.release()
        await call
        assert [row.id for row in all_orders(system).select(status="new")] == [1, 2]


async def test_other_indexes_are_refused(system: ActorSystem) -> None:
    """The same table with other indexes is refused, in this process and in the next."""
    merchant = system.get(Merchant, "a")
    await merchant.put(Order(1))
    with pytest.raises(CallerError, match="another name"):
        await merchant.other_indexes()


async def test_other_indexes_are_refused_after_reopening(folder: Path) -> None:
    """The stored schema decides, whoever comes first."""
    async with ActorSystem(folder) as system:
        await system.get(Merchant, "a").put(Order(1))
    async with ActorSystem(folder) as system:
        with pytest.raises(CallerError, match="another name"):
            await system.get(Merchant, "a").other_indexes()


async def test_clear_takes_own_rows(system: ActorSystem) -> None:
    """`storage.clear` empties the actor's own tables."""
    merchant = system.get(Merchant, "a")
    await merchant.put(Order(1, "new"))
    await merchant.clear()
    assert await merchant.select({}) == []
    assert await merchant.select({"status": "new"}) == []


# -- indexes over declared fields --------------------------------------------------------------------------


class Job(Actor):
    indexes = (("status", "rank"), "rank")
    status: str = "new"
    rank: int = 0
    note: str = ""

    async def set(self, status: str = "pending", rank: int = 0) -> None:
        self.status, self.rank = status, rank

    async def set_note(self, note: str) -> None:
        self.note = note

    async def set_and_fail(self, status: str) -> None:
        self.status = status
        raise ZeroDivisionError

    async def find(self, status: str) -> list[int]:
        return [int(str(job.key)) for job in self.runtime.query(Job, status=status)]


def keys(jobs: list[Job]) -> list[object]:
    return [job.key for job in jobs]


async def test_query_over_fields(system: ActorSystem) -> None:
    """Actors are found by their declared fields, in the order of an index."""
    for number in range(6):
        await system.get(Job, number).set("pending" if number % 2 else "done", 10 - number)
    assert keys(system.query(Job, status="pending", order_by="rank")) == [5, 3, 1]
    assert keys(system.query(Job, status="pending", reverse=True)) == [1, 3, 5]
    assert keys(system.query(Job, status="pending", rank=7)) == [3]
    assert keys(system.query(Job, order_by="rank", limit=2)) == [5, 4]
    assert keys(system.query(Job, status="nothing")) == []


async def test_an_actor_that_still_has_its_defaults_is_not_stored(system: ActorSystem) -> None:
    """What was never changed takes no room, so no query finds it."""
    await system.get(Job, 1).set("new")
    assert system.query(Job, status="new") == []
    assert system.keys(Job) == []


async def test_query_follows_changes(system: ActorSystem) -> None:
    """An actor moves in the index with its fields, and stays where it is when its turn fails."""
    job = system.get(Job, 1)
    await job.set("pending")
    await job.set("done")
    with pytest.raises(ZeroDivisionError):
        await job.set_and_fail("failed")
    await job.set_note("same place")
    assert keys(system.query(Job, status="pending")) == []
    assert keys(system.query(Job, status="failed")) == []
    assert keys(system.query(Job, status="done")) == [1]


async def test_query_finds_evicted_actors(system: ActorSystem, clock: ManualClock) -> None:
    """What is found need not be in memory, and keeps its place in the index when it comes back."""
    for number in range(3):
        await system.get(Job, number).set("pending", number)
    clock.advance(1000)
    assert len(system.directory) == 0
    found = system.query(Job, status="pending")
    assert keys(found) == [0, 1, 2]
    await found[1].set("done")
    assert keys(system.query(Job, status="pending")) == [0, 2]


async def test_query_by_pages(system: ActorSystem) -> None:
    """`after` goes on behind the last ref of the page before, forwards and backwards."""
    for number in range(10):
        await system.get(Job, number).set("pending", number // 2)
    for reverse in (False, True):
        found: list[object] = []
        after = None
        while page := system.query(Job, status="pending", limit=3, after=after, reverse=reverse):
            found += keys(page)
            after = page[-1]
        assert found == sorted(range(10), reverse=reverse)


async def test_pages_go_on_behind_an_actor_that_moved(system: ActorSystem) -> None:
    """A worker that finishes what it took, page after page, misses nothing and meets nothing twice."""
    for number in range(9):
        await system.get(Job, number).set("pending", number)
    found: list[object] = []
    after = None
    while page := system.query(Job, status="pending", limit=2, after=after):
        found += keys(page)
        for job in page:
            await job.set("done", int(str(job.key)))
        after = page[-1]
    assert found == list(range(9))


async def test_query_without_an_index(system: ActorSystem) -> None:
    """A question that no index answers says which there are."""
    with pytest.raises(CallerError, match=r"begins with \['note'\]"):
        system.query(Job, note="x")
    with pytest.raises(CallerError, match="and then 'status'"):
        system.query(Job, rank=1, order_by="status")
    with pytest.raises(CallerError, match="isn't stored"):
        system.query(Job, status="pending", after=system.get(Job, 77))


async def test_query_outside_sees_only_what_is_durable(folder: Path) -> None:
    """Neither `query` nor `keys` shows an actor whose first commit could still be lost."""
    log = HeldLog()
    async with ActorSystem(folder, wrap_log=log.wrap) as system:
        await system.get(Job, 0).set("pending")
        log.hold()
        call = asyncio.create_task(system.get(Job, 1).set("pending"))
        await log.arrived()
        assert keys(system.query(Job, status="pending")) == [0]
        assert system.keys(Job) == [0]
        log.release()
        await call
        assert keys(system.query(Job, status="pending")) == [0, 1]


async def test_query_in_a_turn_rests_on_what_it_saw(folder: Path) -> None:
    """A turn sees what is staged, and its reply waits for that."""
    log = HeldLog()
    async with ActorSystem(folder, wrap_log=log.wrap) as system:
        await system.get(Job, 0).set("done")
        log.hold()
        writing = asyncio.create_task(system.get(Job, 1).set("pending"))
        await log.arrived()
        asking = asyncio.create_task(system.get(Job, 0).find("pending"))
        await turns()
        assert not asking.done()
        log.release()
        await writing
        assert await asking == [1]


async def test_indexed_value_that_is_too_long(system: ActorSystem) -> None:
    """A field too long for its index fails that turn alone, not the commit of all."""
    job = system.get(Job, 1)
    await job.set("pending")
    others = [system.get(Job, number).set("pending") for number in range(2, 10)]
    found = await asyncio.gather(job.set("x" * 600), *others, return_exceptions=True)
    assert isinstance(found[0], InvalidResult)
    assert found[1:] == [None] * 8
    await quiet(system)
    assert len(system.query(Job, status="pending")) == 9


async def test_a_value_without_an_order(system: ActorSystem) -> None:
    """A query for a value that no index can hold is refused."""
    with pytest.raises(InvalidValue):
        system.query(Job, status=[1])
