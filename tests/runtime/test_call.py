"""The way of a call: errors, cancellation, tasks that outlive a turn, closing, other runtimes."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import NotRunning, TurnOver, TurnPoisoned
from holdfast.runtime.limits import Limits
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from holdfast.storage.errors import StorageClosed, StorageFailed
from tests.runtime.support import HeldLog, quiet, turns


class Odd(Exception):
    """An error of user code."""


class Till(Actor):
    cash: int = 0
    note: str = ""

    async def add(self, amount: int = 1) -> int:
        self.cash += amount
        return self.cash

    async def fail(self) -> None:
        self.cash += 100
        self.storage.put("k", 1)
        raise Odd("as it is")

    async def stay(self) -> int:
        self.cash += 10
        door = self.runtime.deps.get(Door)
        door.entered.set()
        await door.leave.wait()
        return self.cash

    async def stored(self) -> object:
        return self.storage.get("k")

    @shared
    async def look(self) -> int:
        return self.cash

    @shared
    async def watch(self) -> int:
        door = self.runtime.deps.get(Door)
        door.entered.set()
        await door.leave.wait()
        return self.cash

    async def leave_task(self, what: str) -> None:
        async def later() -> int:
            door = self.runtime.deps.get(Door)
            await door.leave.wait()
            if what == "storage":
                self.storage.put("k", 5)
            elif what == "alarm":
                self.alarms.cancel("x")
            else:
                return await self.runtime.get(Till, self.key).add(7)
            return 0

        self.runtime.deps.get(Door).task = asyncio.create_task(later())

    async def leave_join(self) -> None:
        async def joined() -> int:
            return await self.runtime.get(Till, self.key).slow_add()

        self.runtime.deps.get(Door).task = asyncio.create_task(joined())
        await turns(3)

    async def slow_add(self) -> int:
        self.cash += 1000
        door = self.runtime.deps.get(Door)
        await door.leave.wait()
        self.cash += 1000
        return self.cash

    async def gather_one_fails(self) -> None:
        me = self.runtime.get(Till, self.key)
        await asyncio.gather(me.slow_add(), me.fail())

    async def close_runtime(self) -> int:
        self.cash += 1
        await self.runtime.close()
        return self.cash

    async def call_other_runtime(self) -> int:
        other = self.runtime.deps.get(OtherRuntime).system
        self.cash += 1
        return await other.get(Till, self.key).add(5)


class Door:
    """Holds a turn open until the test lets it go."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.leave = asyncio.Event()
        self.task: asyncio.Task[int] | None = None


class OtherRuntime:
    def __init__(self, system: ActorSystem) -> None:
        self.system = system


@pytest.fixture
def door(system: ActorSystem) -> Door:
    made = Door()
    system.deps.put(made)
    return made


async def test_user_errors_reach_the_caller_as_they_are(system: ActorSystem) -> None:
    """The very exception that the method raised, and the actor goes on with its fields restored."""
    till = system.get(Till, 1)
    await till.add(3)
    with pytest.raises(Odd, match="as it is"):
        await till.fail()
    assert await till.add() == 4
    assert await till.stored() is None


async def test_cancelled_turn_rolls_back(system: ActorSystem, door: Door) -> None:
    """A caller that is cancelled in the middle of its turn leaves nothing of it."""
    till = system.get(Till, 1)
    task = asyncio.create_task(till.stay())
    await door.entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await till.add() == 1


async def test_timeout_rolls_back(system: ActorSystem, door: Door) -> None:
    """`asyncio.timeout` around a call is such a cancellation."""
    till = system.get(Till, 1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await till.stay()
    assert await till.add() == 1


async def test_cancelled_at_the_gate_keeps_the_turn(folder: Path) -> None:
    """The turn was over: who is cancelled while waiting for the disk loses the reply, not the effect."""
    log = HeldLog()
    async with ActorSystem(folder, wrap_log=log.wrap) as system:
        till = system.get(Till, 1)
        log.hold()
        task = asyncio.create_task(till.add())
        await log.arrived()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        log.release()
        assert await till.add() == 2


@pytest.mark.parametrize("what", ["storage", "alarm"])
async def test_task_that_outlives_its_turn_cannot_write(system: ActorSystem, door: Door, what: str) -> None:
    """Writing after the turn ended raises `TurnOver`."""
    await system.get(Till, 1).leave_task(what)
    door.leave.set()
    assert door.task is not None
    if what == "alarm":
        assert await door.task == 0  # there is none to take back
    else:
        with pytest.raises(TurnOver):
            await door.task
    assert await system.get(Till, 1).stored() is None


async def test_call_of_a_task_that_outlives_its_turn_comes_from_outside(
    system: ActorSystem, door: Door
) -> None:
    """Its calls are turns of their own, even to the actor that started it."""
    await system.get(Till, 1).leave_task("call")
    door.leave.set()
    assert door.task is not None
    assert await door.task == 7
    assert await system.get(Till, 1).look() == 7


async def test_joined_call_must_end_with_its_turn(system: ActorSystem, door: Door) -> None:
    """A turn that ends while a call still runs in it fails, and what that call does later touches nobody."""
    till = system.get(Till, 1)
    await till.add()
    with pytest.raises(TurnOver):
        await till.leave_join()
    assert await till.add() == 2
    door.leave.set()
    assert door.task is not None
    with pytest.raises(TurnOver):
        await door.task
    assert await till.look() == 2
    assert await till.add() == 3


async def test_gather_that_gives_up_leaves_no_half_change(system: ActorSystem, door: Door) -> None:
    """`gather` raises while its other calls go on: they can't change the actor any more."""
    till = system.get(Till, 1)
    await till.add()
    with pytest.raises((Odd, TurnPoisoned)):
        await till.gather_one_fails()
    assert await till.look() == 1
    door.leave.set()
    await turns()
    assert await till.add() == 2


class Lasting(Actor):
    value: int = 0

    async def leave_call(self) -> None:
        door = self.runtime.deps.get(Door)
        door.task = asyncio.create_task(self.runtime.get(Till, "other").stay())
        await door.entered.wait()

    async def leave_chain(self) -> None:
        """Leaves a call that waits behind another turn, and then calls back here."""
        door = self.runtime.deps.get(Door)
        door.task = asyncio.create_task(self.runtime.get(Caller, "other").call_back(str(self.key)))
        await turns(3)

    async def add(self) -> int:
        self.value += 1
        await turns(30)
        return self.value


class Caller(Actor):
    async def hold(self) -> None:
        door = self.runtime.deps.get(Door)
        door.entered.set()
        await door.leave.wait()

    async def call_back(self, key: str) -> int:
        return await self.runtime.get(Lasting, key).add()


async def test_call_that_outlives_its_turn_passes_the_gate(folder: Path) -> None:
    """A task whose turn ended while its call was under way is outside: its reply waits for the disk."""
    log, door = HeldLog(), Door()
    async with ActorSystem(folder, wrap_log=log.wrap, deps=[door]) as system:
        await system.get(Lasting, 1).leave_call()
        await system.get(Till, "warm").add()
        log.hold()
        door.leave.set()
        await log.arrived()
        await turns()
        assert door.task is not None
        assert not door.task.done()
        log.release()
        assert await door.task == 10


async def test_chain_that_outlives_its_turn_does_not_join_it(system: ActorSystem, door: Door) -> None:
    """A call that comes back to an actor whose turn of that chain has ended is a turn of its own."""
    holding = asyncio.create_task(system.get(Caller, "other").hold())
    await door.entered.wait()
    lasting = system.get(Lasting, "a")
    await lasting.leave_chain()
    adding = [asyncio.create_task(lasting.add()) for _ in range(2)]
    await turns(3)
    door.leave.set()
    await holding
    assert door.task is not None
    assert await asyncio.gather(*adding, door.task) == [1, 2, 3]


# -- two runtimes ------------------------------------------------------------------------------------------


async def test_two_runtimes_in_one_process(tmp_path: Path) -> None:
    """Each runtime has its own actors of the same type and key."""
    async with ActorSystem(tmp_path / "a") as one, ActorSystem(tmp_path / "b") as other:
        assert await one.get(Till, 1).add() == 1
        assert await other.get(Till, 1).look() == 0
        assert one.get(Till, 1) != other.get(Till, 1)


async def test_call_into_another_runtime_waits_for_its_disk(tmp_path: Path) -> None:
    """The other runtime has its own log: a turn that calls into it gets no reply before that is durable."""
    log = HeldLog()
    async with ActorSystem(tmp_path / "a") as one, ActorSystem(tmp_path / "b", wrap_log=log.wrap) as other:
        one.deps.put(OtherRuntime(other))
        for _ in range(5):
            await one.get(Till, 2).add()  # so that the numbers of the two logs differ
        await other.get(Till, 9).add()
        log.hold()
        call = asyncio.create_task(one.get(Till, 1).call_other_runtime())
        await log.arrived()
        await quiet(one)
        assert not call.done()
        log.release()
        assert await call == 5
        assert await one.get(Till, 1).look() == 1


# -- closing -----------------------------------------------------------------------------------------------


async def test_calls_on_a_closed_runtime(folder: Path) -> None:
    """A ref of a closed runtime says so, whether or not its actor was in memory."""
    async with ActorSystem(folder) as system:
        warm, cold = system.get(Till, 1), system.get(Till, 2)
        await warm.add()
    for ref in (warm, cold):
        with pytest.raises(NotRunning, match="closed"):
            await ref.add()
        with pytest.raises(NotRunning, match="closed"):
            await ref.look()
    with pytest.raises(StorageClosed):
        system.keys(Till)


async def test_calls_on_a_runtime_that_was_not_opened(folder: Path) -> None:
    """A runtime that nobody opened says how to."""
    with pytest.raises(NotRunning, match="async with"):
        ActorSystem(folder).get(Till, 1)


async def test_a_runtime_is_opened_once(folder: Path) -> None:
    """A closed runtime can't be opened again; a new one can."""
    system = ActorSystem(folder)
    async with system:
        with pytest.raises(NotRunning):
            await system.open()
    with pytest.raises(NotRunning):
        await system.open()
    await system.close()


async def test_close_lets_running_turns_end(folder: Path) -> None:
    """`close` waits for turns in progress and those queued behind them, and what they wrote is durable."""
    door = Door()
    system = ActorSystem(folder, deps=[door])
    await system.open()
    till = system.get(Till, 1)
    first = asyncio.create_task(till.stay())
    await door.entered.wait()
    second = asyncio.create_task(till.add())
    closing = asyncio.create_task(system.close())
    await turns()
    assert not closing.done()
    door.leave.set()
    await closing
    assert [await first, await second] == [10, 11]
    async with ActorSystem(folder) as system:
        assert await system.get(Till, 1).look() == 11


async def test_close_waits_for_the_gate(folder: Path) -> None:
    """A reply that waits for the disk when the runtime closes is still delivered."""
    log = HeldLog()
    system = ActorSystem(folder, wrap_log=log.wrap)
    await system.open()
    log.hold()
    call = asyncio.create_task(system.get(Till, 1).add())
    await log.arrived()
    closing = asyncio.create_task(system.close())
    await turns()
    assert not call.done()
    log.release()
    await closing
    assert await call == 1


async def test_turn_that_outlives_close_is_told_so(folder: Path) -> None:
    """`close` gives up after `close_seconds`; a turn that ends later raises `NotRunning` and is not kept."""
    door = Door()
    system = ActorSystem(folder, deps=[door], limits=Limits(close_seconds=0.01))
    await system.open()
    till = system.get(Till, 1)
    first = asyncio.create_task(till.stay())
    await door.entered.wait()
    waiting = asyncio.create_task(till.add())
    watching = asyncio.create_task(till.watch())
    await turns()
    await system.close()
    with pytest.raises(NotRunning, match="closed"):
        await waiting
    door.leave.set()
    with pytest.raises(NotRunning, match="nothing of it was kept"):
        await first
    assert await watching == 0
    async with ActorSystem(folder) as system:
        assert await system.get(Till, 1).look() == 0


async def test_a_turn_may_close_its_runtime(folder: Path) -> None:
    """It doesn't wait for itself; the turn itself comes too late."""
    system = ActorSystem(folder)
    await system.open()
    with pytest.raises(NotRunning):
        await system.get(Till, 1).close_runtime()


async def test_cancelled_close_still_gives_the_folder_back(folder: Path) -> None:
    """Who is cancelled while closing leaves no lock behind."""
    door = Door()
    system = ActorSystem(folder, deps=[door])
    await system.open()
    stay = asyncio.create_task(system.get(Till, 1).stay())
    await door.entered.wait()
    closing = asyncio.create_task(system.close())
    await turns()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    door.leave.set()
    with pytest.raises((NotRunning, StorageFailed)):
        await stay
    async with ActorSystem(folder) as system:
        assert await system.get(Till, 1).look() == 0


# -- memory ------------------------------------------------------------------------------------------------


async def test_a_kept_ref_keeps_no_actor_alive(folder: Path, clock: ManualClock) -> None:
    """Refs may be kept for ever: the actor leaves memory all the same, and the ref finds it again."""
    async with ActorSystem(folder, clock=clock, limits=Limits(idle_seconds=1)) as system:
        refs = [system.get(Till, 1) for _ in range(3)]
        assert [await ref.add() for ref in refs] == [1, 2, 3]
        alive = weakref.ref(system.directory.find(refs[0].directory_key))  # type: ignore[attr-defined]  # pyright: ignore
        clock.advance(3)
        assert len(system.directory) == 0
        gc.collect()
        assert alive() is None
        assert [await ref.add() for ref in refs] == [4, 5, 6]
        assert len(system.directory) == 1


async def test_code_that_outlives_its_actor_is_told_so(
    system: ActorSystem, clock: ManualClock, door: Door
) -> None:
    """A task that still uses an actor that left memory gets `TurnOver`, not stale data."""
    await system.get(Till, 1).leave_task("storage")
    clock.advance(1000)
    assert len(system.directory) == 0
    door.leave.set()
    assert door.task is not None
    with pytest.raises(TurnOver, match="left memory"):
        await door.task
