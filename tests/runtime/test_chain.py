"""Calls between actors: joining one's own turn, and deadlocks found at once."""

from __future__ import annotations

import asyncio

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.errors import DeadlockError, TurnPoisoned
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from tests.runtime.support import quiet, turns


class Odd(Exception):
    """An error of user code."""


class Gate:
    """Lets a number of turns wait until all of them came."""

    def __init__(self, parties: int) -> None:
        self.barrier = asyncio.Barrier(parties)


class Link(Actor):
    value: int = 0
    names: list[str] = []

    async def add(self, amount: int = 1) -> int:
        self.value += amount
        return self.value

    async def get(self) -> int:
        return self.value

    @shared
    async def peek(self) -> int:
        return self.value

    async def add_and_fail(self) -> None:
        self.value += 100
        self.names.append("failed")
        self.storage.put("k", "failed")
        self.alarms.set(5, "failed")
        raise Odd

    async def on_alarm(self, alarm: object) -> None:
        self.value += 1_000_000

    async def through(self, path: list[str], method: str = "add") -> int:
        """Add one, call along the path, add one."""
        self.value += 1
        if path:
            await self.runtime.get(Link, path[0]).through(path[1:], method)
        else:
            await getattr(self, method)()
        self.value += 1
        return self.value

    async def catch_joined(self) -> tuple[int, list[str], object, int]:
        self.value += 1
        self.storage.put("k", "mine")
        try:
            await self.runtime.get(Link, self.key).add_and_fail()
        except Odd:
            pass
        return self.value, self.names, self.storage.get("k"), len(self.alarms.list())

    async def catch_joined_through(self, other: str) -> int:
        self.value += 1
        try:
            await self.runtime.get(Link, other).call_back_failing(str(self.key))
        except Odd:
            pass
        return self.value

    async def call_back_failing(self, back: str) -> None:
        self.value += 1
        await self.runtime.get(Link, back).add_and_fail()

    async def wait_then_fail(self) -> None:
        self.value += 100
        await turns(5)
        raise Odd

    async def wait_then_add(self) -> int:
        await turns(10)
        self.value += 1
        return self.value

    async def side_by_side(self, fail: bool) -> list[object]:
        me = self.runtime.get(Link, self.key)
        first = me.wait_then_fail() if fail else me.wait_then_add()
        found = await asyncio.gather(first, me.wait_then_add(), return_exceptions=True)
        return [type(one).__name__ for one in found]

    async def meet_then_call(self, other: str, wait: int = 0) -> int:
        self.value += 1
        await self.runtime.deps.get(Gate).barrier.wait()
        await turns(wait)
        return await self.runtime.get(Link, other).add()

    async def meet_then_gather(self, others: list[str]) -> int:
        self.value += 1
        await self.runtime.deps.get(Gate).barrier.wait()
        return sum(await asyncio.gather(*[self.runtime.get(Link, other).add() for other in others]))

    async def hold(self) -> None:
        await self.runtime.deps.get(asyncio.Event).wait()

    async def meet_then_peek(self, other: str) -> int:
        await self.runtime.deps.get(Gate).barrier.wait()
        return await self.runtime.get(Link, other).peek()

    async def fan_out(self, others: list[str]) -> int:
        return sum(await asyncio.gather(*[self.runtime.get(Link, other).add() for other in others]))

    async def fail_after_call(self, other: str) -> None:
        await self.runtime.get(Link, other).add()
        raise Odd


async def test_call_that_comes_back_joins(system: ActorSystem) -> None:
    """A chain a -> b -> a doesn't wait for itself: the last call is part of the first turn."""
    assert await system.get(Link, "a").through(["b", "a"]) == 5
    assert await system.get(Link, "b").get() == 2


async def test_call_to_oneself_joins(system: ActorSystem) -> None:
    """An actor may call itself by its ref."""
    assert await system.get(Link, "a").through(["a"]) == 5


async def test_long_chain_joins_from_its_end(system: ActorSystem) -> None:
    """However long the way round, the actor at its start is joined."""
    path = [f"l{number}" for number in range(50)]
    assert await system.get(Link, "a").through([*path, "a"]) == 5


async def test_shared_call_within_the_chain_sees_the_turn(system: ActorSystem) -> None:
    """A shared method called back in a chain sees what the turn has changed so far."""

    class Asking(Actor):
        value: int = 0

        @shared
        async def now(self) -> int:
            return self.value

        async def change_and_ask(self) -> int:
            self.value = 5
            return await self.runtime.get(Asking, self.key).now()

    assert await system.get(Asking, 1).change_and_ask() == 5


async def test_failed_join_restores_its_savepoint(system: ActorSystem) -> None:
    """A joined call that raises is undone alone: what the turn did before stays, if it catches the error."""
    link = system.get(Link, "a")
    assert await link.catch_joined() == (1, [], "mine", 0)
    assert await link.get() == 1


async def test_failed_join_through_another_actor(system: ActorSystem) -> None:
    """The joined part is undone, the other actor's turn rolls back, the caller goes on."""
    assert await system.get(Link, "a").catch_joined_through("b") == 1
    assert await system.get(Link, "a").get() == 1
    assert await system.get(Link, "b").get() == 0


async def test_uncaught_error_of_a_join_undoes_all(system: ActorSystem) -> None:
    """An error that passes through all turns of a chain leaves nothing of any of them."""
    with pytest.raises(Odd):
        await system.get(Link, "a").through(["b", "a"], "add_and_fail")
    assert [await system.get(Link, key).get() for key in "ab"] == [0, 0]


class Nested(Actor):
    value: int = 0
    names: list[str] = []

    async def top(self, how: str) -> tuple[int, list[str]]:
        me = self.runtime.get(Nested, self.key)
        self.value += 1
        try:
            await me.middle(how)
        except Odd:
            self.names.append("caught at the top")
        return self.value, self.names

    async def middle(self, how: str) -> None:
        me = self.runtime.get(Nested, self.key)
        self.value += 10
        if how == "inner, caught at the top":
            await me.inner(True)
        elif how == "inner, caught in the middle":
            try:
                await me.inner(True)
            except Odd:
                self.names.append("caught in the middle")
        elif how == "middle, after inner":
            await me.inner(False)
            raise Odd
        elif how == "two after each other":
            await me.inner(False)
            await me.inner(False)
        elif how == "gather in the middle":
            await asyncio.gather(me.inner(False), me.inner(False))
        else:
            await asyncio.gather(me.inner(True), me.inner(False), return_exceptions=True)

    async def inner(self, fail: bool) -> None:
        self.value += 100
        await turns(2)
        if fail:
            raise Odd


@pytest.mark.parametrize(
    ("how", "value", "names"),
    [
        ("inner, caught at the top", 1, ["caught at the top"]),
        ("inner, caught in the middle", 11, ["caught in the middle"]),
        ("middle, after inner", 1, ["caught at the top"]),
        ("two after each other", 211, []),
        ("gather in the middle", 211, []),
    ],
)
async def test_joins_within_joins(system: ActorSystem, how: str, value: int, names: list[str]) -> None:
    """Joined calls nest: each failure is undone to where the call began that let it pass."""
    nested = system.get(Nested, how)
    assert await nested.top(how) == (value, names)
    await nested.inner(False)
    assert (await nested.top("two after each other"))[0] == value + 100 + 211


async def test_tangled_joins_within_a_join_poison_the_turn(system: ActorSystem) -> None:
    """Side by side they can't be told apart, wherever they began."""
    nested = system.get(Nested, 1)
    with pytest.raises(TurnPoisoned):
        await nested.top("one of a gather")
    await nested.inner(False)
    assert (await nested.top("two after each other"))[0] == 311


async def test_joins_side_by_side(system: ActorSystem) -> None:
    """Calls that join a turn at the same time are fine while none fails."""
    assert await system.get(Link, "a").side_by_side(False) == ["int", "int"]
    assert await system.get(Link, "a").get() == 2


async def test_failed_join_beside_another_poisons_the_turn(system: ActorSystem) -> None:
    """Which half to keep can't be told, so the turn fails as a whole, even if it caught the error."""
    link = system.get(Link, "a")
    await link.add()
    with pytest.raises(TurnPoisoned):
        await link.side_by_side(True)
    assert await link.get() == 1


async def test_a_called_actor_keeps_its_turn_when_the_caller_fails(system: ActorSystem) -> None:
    """Each actor's turn is its own transaction: only a turn's own writes roll back."""
    with pytest.raises(Odd):
        await system.get(Link, "a").fail_after_call("b")
    assert await system.get(Link, "b").get() == 1


async def test_two_that_wait_for_each_other(system: ActorSystem) -> None:
    """Two chains in a ring: one is told at once, naming the ring, and the other goes on."""
    system.deps.put(Gate(2))
    a, b = system.get(Link, "a"), system.get(Link, "b")
    found = await asyncio.gather(a.meet_then_call("b"), b.meet_then_call("a"), return_exceptions=True)
    errors = [one for one in found if isinstance(one, DeadlockError)]
    assert len(errors) == 1
    calls = set(errors[0].cycle)
    assert calls == {"Link/a.meet_then_call", "Link/b.meet_then_call"}
    assert errors[0].cycle[0] == errors[0].cycle[-1]
    assert "Link/a.meet_then_call -> " in str(errors[0])
    values = sorted([await a.get(), await b.get()])
    assert values == [1, 1]  # the loser rolled back, and was then added to by the winner


async def test_three_in_a_ring(system: ActorSystem) -> None:
    """A ring of three is found by the one who closes it."""
    system.deps.put(Gate(3))
    found = await asyncio.gather(
        system.get(Link, "a").meet_then_call("b"),
        system.get(Link, "b").meet_then_call("c"),
        system.get(Link, "c").meet_then_call("a"),
        return_exceptions=True,
    )
    errors = [one for one in found if isinstance(one, DeadlockError)]
    assert len(errors) == 1
    assert set(errors[0].cycle) == {f"Link/{key}.meet_then_call" for key in "abc"}
    assert len(errors[0].cycle) == 4


@pytest.mark.parametrize("wait", [0, 10])
async def test_ring_through_gather(system: ActorSystem, wait: int) -> None:
    """A ring is found too when one party waits for several at once, the others of which are merely busy."""
    go = asyncio.Event()
    system.deps.put(go)
    system.deps.put(Gate(2))
    busy = [asyncio.create_task(system.get(Link, key).hold()) for key in ("x", "y")]
    await turns()
    calls = [
        asyncio.create_task(system.get(Link, "a").meet_then_gather(["x", "b", "y"])),
        asyncio.create_task(system.get(Link, "b").meet_then_call("a", wait)),
    ]
    await turns(40)
    go.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(one, DeadlockError) for one in found].count(True) == 1
    await asyncio.gather(*busy)


async def test_waiting_for_the_same_actor_is_no_ring(system: ActorSystem) -> None:
    """Many chains that wait for one actor are served one after the other."""
    calls = [system.get(Link, f"caller{number}").fan_out(["one", "two"]) for number in range(20)]
    await asyncio.gather(*calls)
    assert await system.get(Link, "one").get() == 20
    assert await system.get(Link, "two").get() == 20


async def test_gather_over_actors(system: ActorSystem) -> None:
    """A turn may call many actors side by side."""
    keys = [str(number) for number in range(30)]
    assert await system.get(Link, "a").fan_out(keys) == 30


async def test_gather_over_the_same_actor_twice(system: ActorSystem) -> None:
    """Two calls of one turn to the same actor are two turns of that actor."""
    assert await system.get(Link, "a").fan_out(["b", "b"]) == 3


async def test_shared_calls_break_a_ring(system: ActorSystem) -> None:
    """What the message advises works: with a shared method nobody waits."""
    system.deps.put(Gate(2))
    calls = [system.get(Link, "a").meet_then_peek("b"), system.get(Link, "b").meet_then_peek("a")]
    assert await asyncio.gather(*calls) == [0, 0]


async def test_deadlock_can_be_caught(system: ActorSystem) -> None:
    """The caller that was told may catch the error and go on; its turn is kept."""

    class Catching(Actor):
        tries: int = 0

        async def call(self, other: str) -> bool:
            self.tries += 1
            await self.runtime.deps.get(Gate).barrier.wait()
            try:
                await self.runtime.get(Catching, other).ping()
            except DeadlockError:
                return False
            return True

        async def ping(self) -> int:
            return self.tries

    system.deps.put(Gate(2))
    a, b = system.get(Catching, "a"), system.get(Catching, "b")
    assert sorted(await asyncio.gather(a.call("b"), b.call("a"))) == [False, True]
    assert [await a.ping(), await b.ping()] == [1, 1]


async def test_cancelled_in_a_queue_of_a_chain(system: ActorSystem) -> None:
    """A chain cancelled while it waits for an actor leaves no trace that a later search would find."""
    gate = Gate(2)
    system.deps.put(gate)
    b = asyncio.create_task(system.get(Link, "b").meet_then_call("c"))
    await turns()
    a = asyncio.create_task(system.get(Link, "a").fan_out(["b"]))
    await turns()
    a.cancel()
    await asyncio.wait([a])
    await gate.barrier.wait()
    assert await b == 1
    await quiet(system)
    assert await system.get(Link, "b").fan_out(["a"]) == 1
