"""The directory: who is in memory, who leaves and when, and how an actor comes to life."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import ClassVar

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.limits import Limits
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from tests.runtime.support import HeldLog, pass_time, quiet, turns


class Journal:
    """What happened, in order; with a door for turns."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.fail = 0
        self.leave = asyncio.Event()


class Sleeper(Actor):
    count: int = 0

    async def add(self) -> int:
        self.count += 1
        return self.count

    async def stay(self) -> int:
        self.count += 1
        await self.runtime.deps.get(Journal).leave.wait()
        return self.count

    @shared
    async def watch(self) -> int:
        await self.runtime.deps.get(Journal).leave.wait()
        return self.count


class Hooked(Actor):
    count: int = 0
    woken: int = 0

    async def on_activate(self) -> None:
        journal = self.runtime.deps.get(Journal)
        journal.lines.append(f"activate {self.key}")
        await turns(3)
        self.woken += 1
        if journal.fail:
            journal.fail -= 1
            raise ConnectionError("not yet")

    async def on_evict(self) -> None:
        self.runtime.deps.get(Journal).lines.append(f"evict {self.key} {self.count}")
        self.storage.put("evicted", self.count)

    async def add(self) -> int:
        self.count += 1
        return self.count

    async def facts(self) -> tuple[int, int, object]:
        return self.count, self.woken, self.storage.get("evicted")

    @shared
    async def read(self) -> int:
        return self.woken


class Built(Actor):
    count: int = 0
    built: ClassVar[int] = 0
    fail: ClassVar[int] = 0

    def __init__(self) -> None:
        Built.built += 1
        self._double = self.count * 2
        if Built.fail:
            Built.fail -= 1
            raise ConnectionError("not built")

    async def read(self) -> tuple[int, int]:
        return self.count, self._double

    async def add(self) -> int:
        self.count += 1
        return self.count


@pytest.fixture
def journal(system: ActorSystem) -> Journal:
    made = Journal()
    system.deps.put(made)
    return made


def small(folder: Path, clock: ManualClock, **limits: float) -> ActorSystem:
    return ActorSystem(folder, clock=clock, deps=[Journal()], limits=Limits(**limits))  # type: ignore[arg-type]  # pyright: ignore


async def test_idle_actors_leave(system: ActorSystem, clock: ManualClock) -> None:
    """An actor leaves memory when it was idle for `idle_seconds`, and its next call finds it as it was."""
    await system.get(Sleeper, 1).add()
    clock.advance(40)
    assert len(system.directory) == 1
    clock.advance(40)
    assert len(system.directory) == 0
    assert await system.get(Sleeper, 1).add() == 2


async def test_a_call_renews_the_stay(system: ActorSystem, clock: ManualClock) -> None:
    """Idle time counts from the last call."""
    sleeper, other = system.get(Sleeper, 1), system.get(Sleeper, 2)
    await other.add()
    for _ in range(5):
        await sleeper.add()
        clock.advance(40)
    assert len(system.directory) == 1
    assert system.directory.find(sleeper.directory_key) is not None  # type: ignore[attr-defined]  # pyright: ignore


async def test_an_actor_with_a_running_turn_stays(
    system: ActorSystem, clock: ManualClock, journal: Journal
) -> None:
    """Neither a turn nor those who wait behind it lose their actor to eviction."""
    sleeper = system.get(Sleeper, 1)
    calls = [asyncio.create_task(sleeper.stay()), asyncio.create_task(sleeper.add())]
    await turns()
    clock.advance(1000)
    assert len(system.directory) == 1
    journal.leave.set()
    assert await asyncio.gather(*calls) == [1, 2]
    clock.advance(1000)
    assert len(system.directory) == 0


async def test_an_actor_with_a_shared_call_stays(
    system: ActorSystem, clock: ManualClock, journal: Journal
) -> None:
    """A shared call in progress needs its actor too."""
    call = asyncio.create_task(system.get(Sleeper, 1).watch())
    await turns()
    clock.advance(1000)
    assert len(system.directory) == 1
    journal.leave.set()
    await call
    clock.advance(1000)
    assert len(system.directory) == 0


async def test_an_actor_stays_until_its_writes_are_durable(folder: Path, clock: ManualClock) -> None:
    """What was staged and may still be lost keeps its actor in memory."""
    log = HeldLog()
    async with ActorSystem(folder, clock=clock, wrap_log=log.wrap) as system:
        log.hold()
        call = asyncio.create_task(system.get(Sleeper, 1).add())
        await log.arrived()
        clock.advance(1000)
        assert len(system.directory) == 1
        log.release()
        await call
        clock.advance(1000)
        assert len(system.directory) == 0


async def test_the_cap_holds(folder: Path, clock: ManualClock) -> None:
    """Beyond `max_active` the longest unused leaves for each that comes."""
    async with small(folder, clock, max_active=10) as system:
        for number in range(100):
            await system.get(Sleeper, number).add()
            assert len(system.directory) <= 10
        live = [number for number in range(100) if _is_live(system, number)]
        assert live == list(range(90, 100))
        assert [await system.get(Sleeper, number).add() for number in range(5)] == [2] * 5


async def test_a_crowd_shrinks_again(folder: Path, clock: ManualClock) -> None:
    """More than the cap stay only while all are needed."""
    async with small(folder, clock, max_active=10) as system:
        await asyncio.gather(*[system.get(Sleeper, number).add() for number in range(50)])
        assert len(system.directory) == 50
        for number in range(50, 100):
            await system.get(Sleeper, number).add()
        assert len(system.directory) <= 10


async def test_busy_actors_do_not_stop_the_cap(folder: Path, clock: ManualClock) -> None:
    """Actors that are needed are passed over; the idle ones behind them leave."""
    async with small(folder, clock, max_active=40) as system:
        busy = [asyncio.create_task(system.get(Sleeper, number).stay()) for number in range(30)]
        await turns()
        for number in range(100, 300):
            await system.get(Sleeper, number).add()
        assert len(system.directory) <= 42
        assert all(_is_live(system, number) for number in range(30))
        system.deps.get(Journal).leave.set()
        assert await asyncio.gather(*busy) == [1] * 30


def _is_live(system: ActorSystem, number: int) -> bool:
    ref = system.get(Sleeper, number)
    return system.directory.find(ref.directory_key) is not None  # type: ignore[attr-defined]  # pyright: ignore


async def test_fifty_calls_wake_it_once(system: ActorSystem, journal: Journal) -> None:
    """However many calls come at once, `on_activate` runs once, before the first of them."""
    hooked = system.get(Hooked, 1)
    calls = [hooked.add() if number % 2 else hooked.read() for number in range(50)]
    await asyncio.gather(*calls)
    assert journal.lines == ["activate 1"]
    assert await hooked.facts() == (25, 1, None)


async def test_on_activate_is_a_turn(system: ActorSystem, journal: Journal) -> None:
    """What it writes is stored, and what it wrote before it raised is not."""
    journal.fail = 1
    hooked = system.get(Hooked, 1)
    with pytest.raises(ConnectionError, match="not yet"):
        await hooked.add()
    assert await hooked.facts() == (0, 1, None)


async def test_failed_on_activate_fails_one_message_each(system: ActorSystem, journal: Journal) -> None:
    """When it raises, so does the message that woke the actor; the next one tries again."""
    journal.fail = 2
    hooked = system.get(Hooked, 1)
    found = await asyncio.gather(*[hooked.add() for _ in range(5)], return_exceptions=True)
    assert [type(one) for one in found].count(ConnectionError) == 2
    assert sorted(one for one in found if isinstance(one, int)) == [1, 2, 3]
    assert journal.lines == ["activate 1"] * 3


async def test_cancelled_on_activate_wakes_the_next(system: ActorSystem, journal: Journal) -> None:
    """Who waits behind a cancelled first call is served all the same."""
    hooked = system.get(Hooked, 1)
    first = asyncio.create_task(hooked.add())
    second = asyncio.create_task(hooked.add())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == 1
    assert first.cancelled()
    assert journal.lines == ["activate 1", "activate 1"]


async def test_on_activate_may_call_its_own_actor(system: ActorSystem) -> None:
    """A call back to itself joins that turn instead of waiting for it."""

    class Asking(Actor):
        count: int = 0

        async def on_activate(self) -> None:
            await self.runtime.get(Asking, self.key).add()
            assert await self.runtime.get(Asking, self.key).read() == 1

        async def add(self) -> int:
            self.count += 1
            return self.count

        @shared
        async def read(self) -> int:
            return self.count

    assert await system.get(Asking, 1).add() == 2


async def test_constructor_that_fails_once(system: ActorSystem) -> None:
    """When `__init__` raises, that call fails and the next one builds a new actor."""
    Built.fail = 1
    with pytest.raises(ConnectionError, match="not built"):
        await system.get(Built, 1).add()
    assert await system.get(Built, 1).add() == 1


async def test_constructor_sees_the_stored_fields(folder: Path) -> None:
    """`__init__` runs after the fields were loaded."""
    async with ActorSystem(folder) as system:
        await system.get(Built, 1).add()
    async with ActorSystem(folder) as system:
        assert await system.get(Built, 1).read() == (1, 2)


async def test_constructor_runs_once_for_calls_at_once(system: ActorSystem) -> None:
    """One activation of a key at most."""
    Built.built = 0
    await asyncio.gather(*[system.get(Built, 1).add() for _ in range(50)])
    assert Built.built == 1


async def test_on_evict_runs_before_it_leaves(system: ActorSystem, journal: Journal) -> None:
    """The hook is a turn: what it writes is kept, and then the actor is gone."""
    hooked = system.get(Hooked, 1)
    await hooked.add()
    await pass_time(system, 80)
    assert journal.lines == ["activate 1", "evict 1 1"]
    assert len(system.directory) == 0
    assert await hooked.facts() == (1, 2, 1)


async def test_on_evict_runs_once_however_often_room_is_wanted(
    folder: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd that wants room doesn't order the same eviction over and over."""
    async with small(folder, clock, max_active=2) as system:
        journal = system.deps.get(Journal)
        await system.get(Hooked, "first").add()
        ordered: list[str] = []
        spawn = system.spawn

        def noted(work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
            ordered.append(name)
            return spawn(work, name)

        monkeypatch.setattr(system, "spawn", noted)
        await asyncio.gather(*[system.get(Sleeper, number).add() for number in range(30)])
        await quiet(system)
        assert journal.lines == ["activate first", "evict first 1"]
        assert ordered == ["on_evict of Hooked/first"]


async def test_failing_on_evict_does_not_hold_the_actor(system: ActorSystem) -> None:
    """An error in the hook is logged, and the actor leaves."""

    class Clinging(Actor):
        count: int = 0

        async def add(self) -> int:
            self.count += 1
            return self.count

        async def on_evict(self) -> None:
            self.count = 100
            raise ValueError("I stay")

    await system.get(Clinging, 1).add()
    await pass_time(system, 80)
    assert len(system.directory) == 0
    assert await system.get(Clinging, 1).add() == 2


async def test_a_call_during_on_evict_keeps_the_actor(system: ActorSystem) -> None:
    """A call that comes while the hook runs is served, and nothing of it is lost."""

    class Slow(Actor):
        count: int = 0

        async def add(self) -> int:
            self.count += 1
            return self.count

        async def on_evict(self) -> None:
            await self.runtime.deps.get(Journal).leave.wait()

    journal = Journal()
    system.deps.put(journal)
    slow = system.get(Slow, 1)
    await slow.add()
    clock = system.clock
    assert isinstance(clock, ManualClock)
    clock.advance(80)
    await turns()
    call = asyncio.create_task(slow.add())
    await turns()
    journal.leave.set()
    assert await call == 2
    await quiet(system)
    assert await slow.add() == 3


async def test_two_refs_made_before_the_actor_lived(system: ActorSystem, clock: ManualClock) -> None:
    """Refs that were made apart find the same actor, before and after it left memory."""
    one, other = system.get(Sleeper, 1), system.get(Sleeper, 1)
    assert one is not other
    assert [await one.add(), await other.add()] == [1, 2]
    clock.advance(1000)
    assert len(system.directory) == 0
    assert [await other.add(), await one.add()] == [3, 4]


async def test_keys_lists_what_exists(system: ActorSystem) -> None:
    """Keys of stored actors come in key order, by prefix and by page, whether or not they are in memory."""
    for key in [3, -1, 20, "b", "a", "ab", ("x", 1), ("x", 2), ("y", 1)]:
        await system.get(Sleeper, key).add()  # type: ignore[arg-type]  # pyright: ignore
    await system.get(Built, "other type").add()
    assert system.keys(Sleeper) == ["a", "ab", "b", -1, 3, 20, ("x", 1), ("x", 2), ("y", 1)]
    assert system.keys(Sleeper, "a") == ["a", "ab"]
    assert system.keys(Sleeper, ("x",)) == [("x", 1), ("x", 2)]
    assert system.keys(Sleeper, limit=2) == ["a", "ab"]
    assert system.keys(Sleeper, after="ab", limit=3) == ["b", -1, 3]
