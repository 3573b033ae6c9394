"""Alarms on a clock that the test moves: set, replaced, fired, repeated, retried, buried, redriven."""

from __future__ import annotations

import asyncio
import itertools
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.alarms import MAX_PAYLOAD_BYTES, Alarm
from holdfast.runtime.clock import LOOK_SECONDS, ManualClock
from holdfast.runtime.durations import Duration, InvalidDuration
from holdfast.runtime.errors import InvalidActor
from holdfast.runtime.limits import Limits
from holdfast.runtime.system import ActorSystem
from holdfast.storage import layout
from holdfast.storage.errors import CallerError, InvalidKey, InvalidValue
from tests.runtime.support import FailingLog, HeldLog, crash, pass_time, quiet, turns


class Order(msgspec.Struct):
    id: int


class Firing(msgspec.Struct):
    """One call of `on_alarm`."""

    name: str
    at_ms: int
    retry: int
    payload: object = None


class Fired:
    """All calls of `on_alarm`, and how many of the next ones are to fail."""

    def __init__(self) -> None:
        self.calls: list[Firing] = []
        self.fail = 0
        self.again: Duration | None = None
        self.cancel = False

    def names(self) -> list[str]:
        return [call.name for call in self.calls]


class Ringing(Actor):
    rings: int = 0
    attempts: int = 0

    async def set(
        self, when: float | datetime, name: str = "", payload: object = None, every: float | None = None
    ) -> None:
        self.alarms.set(when, name, payload=payload, every=every)

    async def set_text(self, when: str) -> None:
        self.alarms.set(when)

    async def set_and_fail(self, when: float) -> None:
        self.alarms.set(when, "never")
        raise ZeroDivisionError

    async def cancel(self, name: str = "") -> bool:
        return self.alarms.cancel(name)

    async def clear(self) -> None:
        self.alarms.clear()

    async def names(self) -> list[str]:
        return [alarm.name for alarm in self.alarms.list()]

    async def due(self, name: str = "") -> datetime | None:
        alarm = self.alarms.get(name)
        return None if alarm is None else alarm.due_at

    async def rung(self) -> int:
        return self.rings

    async def on_alarm(self, alarm: Alarm) -> None:
        fired = self.runtime.deps.get(Fired)
        now_ms = self.runtime.clock.now_ms()
        fired.calls.append(Firing(alarm.name, now_ms, alarm.retry_count, alarm.payload()))
        self.rings += 1
        if fired.again is not None:
            self.alarms.set(fired.again, alarm.name)
        if fired.cancel:
            self.alarms.cancel(alarm.name)
        if fired.fail:
            fired.fail -= 1
            raise ConnectionError("not today")


class Silent(Actor):
    async def set(self) -> None:
        self.alarms.set(1)


@pytest.fixture
def fired(system: ActorSystem) -> Fired:
    made = Fired()
    system.deps.put(made)
    return made


def opened(folder: Path, clock: ManualClock, fired: Fired, **more: object) -> ActorSystem:
    return ActorSystem(folder, clock=clock, deps=[fired], seed=1, **more)  # type: ignore[arg-type]  # pyright: ignore


async def test_fires_at_its_time_once(system: ActorSystem, fired: Fired, clock: ManualClock) -> None:
    """An alarm fires when its time came, not before, and once."""
    ringing, start = system.get(Ringing, 1), clock.now_ms()
    await ringing.set(10)
    await pass_time(system, 9.999)
    assert fired.calls == []
    await pass_time(system, 0.001)
    assert fired.calls == [Firing("", start + 10_000, 0)]
    await pass_time(system, 10_000)
    assert len(fired.calls) == 1
    assert await ringing.names() == []
    assert await ringing.rung() == 1


async def test_many_named_alarms(system: ActorSystem, fired: Fired) -> None:
    """An actor has any number of alarms by name; each fires at its own time, in order."""
    ringing = system.get(Ringing, 1)
    for number in (3, 1, 2):
        await ringing.set(number, f"n{number}")
    assert await ringing.names() == ["n1", "n2", "n3"]
    for _ in range(3):
        await pass_time(system, 1)
    assert fired.names() == ["n1", "n2", "n3"]


async def test_set_again_replaces(system: ActorSystem, fired: Fired, clock: ManualClock) -> None:
    """A later set moves the alarm, later or earlier; only the last time counts."""
    ringing = system.get(Ringing, 1)
    await ringing.set(5)
    await ringing.set(20)
    await pass_time(system, 10)
    assert fired.calls == []
    await ringing.set(2)
    assert await ringing.due() == datetime.fromtimestamp(clock.now_ms() / 1000 + 2, UTC)
    await pass_time(system, 2)
    await pass_time(system, 100)
    assert len(fired.calls) == 1


async def test_cancelled(system: ActorSystem, fired: Fired) -> None:
    """An alarm that was taken back doesn't fire; taking back what isn't set says so."""
    ringing = system.get(Ringing, 1)
    await ringing.set(5, "a")
    await ringing.set(5, "b")
    assert await ringing.cancel("a") is True
    assert await ringing.cancel("a") is False
    await pass_time(system, 10)
    assert fired.names() == ["b"]
    await ringing.set(5, "c")
    await ringing.clear()
    await pass_time(system, 10)
    assert fired.names() == ["b"]


async def test_payload(system: ActorSystem, fired: Fired) -> None:
    """The payload comes with the alarm."""
    await system.get(Ringing, 1).set(1, "p", {"id": 5})
    await pass_time(system, 1)
    assert fired.calls[0].payload == {"id": 5}


async def test_payload_of_a_type() -> None:
    """A payload is checked when it is asked for as a type."""
    from holdfast.runtime.alarms import AlarmRecord

    alarm = Alarm("a", AlarmRecord(0, 0, msgspec.msgpack.encode(Order(5))))
    assert alarm.payload(Order) == Order(5)
    with pytest.raises(InvalidValue, match="'a'"):
        alarm.payload(list[int])
    assert Alarm("a", AlarmRecord(0, 0)).payload(Order) is None


async def test_at_a_datetime(system: ActorSystem, fired: Fired, clock: ManualClock) -> None:
    """A datetime with a zone is a moment; a part of a millisecond counts as a whole one, never early."""
    ringing = system.get(Ringing, 1)
    when = datetime.fromtimestamp(clock.now_ms() / 1000, UTC) + timedelta(seconds=5, microseconds=400)
    await ringing.set(when)
    await pass_time(system, 5)
    assert fired.calls == []
    await pass_time(system, 0.001)
    assert len(fired.calls) == 1


@pytest.mark.parametrize("when", [datetime(2001, 1, 1, tzinfo=UTC), datetime(1960, 1, 1, tzinfo=UTC), 0.0])
async def test_a_time_that_passed_means_now(
    system: ActorSystem, fired: Fired, when: datetime | float
) -> None:
    """An alarm in the past fires at once, and once."""
    await system.get(Ringing, 1).set(when)
    await pass_time(system, 0)
    await pass_time(system, 10)
    assert len(fired.calls) == 1


async def test_wrong_alarms_are_refused(system: ActorSystem, fired: Fired) -> None:
    """Times without a zone, names and payloads that don't fit, are refused when they are set."""
    ringing = system.get(Ringing, 1)
    with pytest.raises(InvalidDuration, match="zone"):
        await ringing.set(datetime(2030, 1, 1))
    with pytest.raises(InvalidDuration):
        await ringing.set_text("soon")
    with pytest.raises(InvalidDuration):
        await ringing.set(-1)
    with pytest.raises(InvalidKey, match="101 bytes"):
        await ringing.set(1, "x" * 101)
    with pytest.raises(InvalidValue, match=str(MAX_PAYLOAD_BYTES)):
        await ringing.set(1, "x", "x" * MAX_PAYLOAD_BYTES)
    with pytest.raises(CallerError, match="millisecond"):
        await ringing.set(1, "x", every=0)
    assert await ringing.names() == []


async def test_class_without_a_handler(system: ActorSystem) -> None:
    """Setting an alarm that nothing would handle is refused when it is set."""
    with pytest.raises(InvalidActor, match="on_alarm"):
        await system.get(Silent, 1).set()


async def test_failed_turn_sets_no_alarm(system: ActorSystem, fired: Fired) -> None:
    """An alarm belongs to its turn's commit."""
    with pytest.raises(ZeroDivisionError):
        await system.get(Ringing, 1).set_and_fail(1)
    await pass_time(system, 10)
    assert fired.calls == []


# -- repeating ---------------------------------------------------------------------------------------------


async def test_every(system: ActorSystem, fired: Fired, clock: ManualClock) -> None:
    """A repeating alarm fires at its interval, counted from its first time."""
    start = clock.now_ms()
    await system.get(Ringing, 1).set(1, "e", every=10)
    for _ in range(40):
        await pass_time(system, 1)
    assert [call.at_ms - start for call in fired.calls] == [1000, 11000, 21000, 31000]


async def test_missed_fires_are_made_up_by_one(folder: Path, clock: ManualClock) -> None:
    """However many fires passed while the process was down, one makes up for them; then the beat goes on."""
    fired, start = Fired(), clock.now_ms()
    async with opened(folder, clock, fired) as system:
        await system.get(Ringing, 1).set(10, "e", every=10)
    clock.advance(57)
    async with opened(folder, clock, fired) as system:
        await pass_time(system, 0)
        for _ in range(15):
            await pass_time(system, 1)
    assert [call.at_ms - start for call in fired.calls] == [57_000, 60_000, 70_000]


async def test_a_repeating_alarm_may_end_itself(system: ActorSystem, fired: Fired) -> None:
    """Cancelled in its handler, it doesn't come again."""
    fired.cancel = True
    await system.get(Ringing, 1).set(1, "e", every=10)
    for _ in range(30):
        await pass_time(system, 1)
    assert len(fired.calls) == 1


async def test_a_failing_repeat_is_retried_and_keeps_its_beat(
    system: ActorSystem, fired: Fired, clock: ManualClock
) -> None:
    """A retry in between doesn't move the fires that follow."""
    fired.fail, start = 1, clock.now_ms()
    await system.get(Ringing, 1).set(10, "e", every=10)
    for _ in range(350):
        await pass_time(system, 0.1)
    times = [call.at_ms - start for call in fired.calls]
    assert [call.retry for call in fired.calls] == [0, 1, 0, 0]
    assert times[0] == 10_000 and 12_000 <= times[1] <= 12_600
    assert times[2:] == [20_000, 30_000]


# -- failing -----------------------------------------------------------------------------------------------


async def test_retries_double_with_jitter_then_it_is_dead(
    system: ActorSystem, fired: Fired, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that always raises runs seven times: 2, 4 ... 64 s apart, each up to a quarter more."""
    fired.fail = 100
    ringing = system.get(Ringing, 1)
    await ringing.set(0, "bad", {"id": 1})
    for _ in range(1700):
        await pass_time(system, 0.1)
    assert [call.retry for call in fired.calls] == list(range(7))
    times = [call.at_ms for call in fired.calls]
    for number in range(6):
        delay = (times[number + 1] - times[number]) / 1000
        assert 2 ** (number + 1) <= delay <= 2 ** (number + 1) * 1.25 + 0.1
    assert any((after - before) % 1000 for before, after in itertools.pairwise(times))
    assert await ringing.rung() == 0
    assert await ringing.names() == []
    [dead] = system.dead_alarms()
    assert (dead.type, dead.key, dead.name, dead.error) == ("Ringing", 1, "bad", "ConnectionError: not today")
    assert dead.alarm.payload() == {"id": 1}
    assert "kept as dead" in caplog.text


async def test_redriven(system: ActorSystem, fired: Fired) -> None:
    """A dead alarm that is redriven fires again with all its retries, and is dead no more."""
    fired.fail = 8
    ringing = system.get(Ringing, 1)
    await ringing.set(0, "bad", {"id": 1})
    for _ in range(160):
        await pass_time(system, 1)
    assert len(system.dead_alarms()) == 1
    await system.redrive_alarm(Ringing, 1, "bad")
    for _ in range(5):
        await pass_time(system, 1)
    assert [call.retry for call in fired.calls] == [0, 1, 2, 3, 4, 5, 6, 0, 1]
    assert fired.calls[-1].payload == {"id": 1}
    assert system.dead_alarms() == []
    assert await ringing.rung() == 1


async def test_redrive_what_is_not_dead(system: ActorSystem, fired: Fired) -> None:
    """Redriving an alarm that isn't dead is a mistake of the caller."""
    with pytest.raises(CallerError, match="no dead alarm 'x'"):
        await system.redrive_alarm(Ringing, 1, "x")


async def test_redrive_does_not_take_back_a_newer_alarm(system: ActorSystem, fired: Fired) -> None:
    """An alarm set under the same name since is not lost by redriving the old one."""
    fired.fail = 7
    ringing = system.get(Ringing, 1)
    await ringing.set(0, "bad")
    for _ in range(160):
        await pass_time(system, 1)
    await ringing.set(50, "bad")
    with pytest.raises(CallerError, match="again since"):
        await system.redrive_alarm(Ringing, 1, "bad")
    await pass_time(system, 50)
    assert len(fired.calls) == 8
    await system.redrive_alarm(Ringing, 1, "bad")
    await pass_time(system, 0)
    assert len(fired.calls) == 9


async def test_handler_that_sets_its_own_alarm(system: ActorSystem, fired: Fired) -> None:
    """The alarm that a handler sets again under its own name fires next."""
    fired.again = 5
    await system.get(Ringing, 1).set(1, "loop")
    await pass_time(system, 1)
    fired.again = None
    await pass_time(system, 5)
    await pass_time(system, 100)
    assert [call.name for call in fired.calls] == ["loop", "loop"]


async def test_handler_that_sets_its_own_alarm_and_fails(system: ActorSystem, fired: Fired) -> None:
    """Its turn rolls back with what it set, and the failed alarm is tried again: nothing is lost."""
    fired.again, fired.fail = 50, 1
    await system.get(Ringing, 1).set(1, "loop")
    await pass_time(system, 1)
    fired.again = None
    await pass_time(system, 3)
    await pass_time(system, 100)
    assert [(call.name, call.retry) for call in fired.calls] == [("loop", 0), ("loop", 1)]


async def test_cancelled_in_its_own_handler(system: ActorSystem, fired: Fired) -> None:
    """The run goes on, and no other follows."""
    fired.cancel = True
    await system.get(Ringing, 1).set(1)
    await pass_time(system, 1)
    await pass_time(system, 100)
    assert len(fired.calls) == 1


class Unloadable(Actor):
    rings: int = 0

    async def set(self) -> None:
        self.alarms.set(1, "u")

    async def rung(self) -> int:
        return self.rings

    async def on_activate(self) -> None:
        fired = self.runtime.deps.get(Fired)
        if fired.fail:
            fired.fail -= 1
            fired.calls.append(Firing("activate", self.runtime.clock.now_ms(), 0))
            raise ConnectionError("no")

    async def on_alarm(self, alarm: Alarm) -> None:
        self.rings += 1


async def test_actor_that_cannot_be_loaded(system: ActorSystem, fired: Fired, clock: ManualClock) -> None:
    """An alarm whose actor can't be loaded is tried as slowly as one whose handler fails, buried alike."""
    await system.get(Unloadable, 1).set()
    clock.advance(0.5)
    system.directory.drop_all()
    fired.fail = 1000
    for _ in range(200):
        await pass_time(system, 1)
    assert len(fired.calls) == 7
    [dead] = system.dead_alarms()
    assert dead.error == "ConnectionError: no"
    fired.fail = 0
    await system.redrive_alarm(Unloadable, 1, "u")
    await pass_time(system, 1)
    assert await system.get(Unloadable, 1).rung() == 1


class SelfCancelling(Actor):
    async def set(self) -> None:
        self.alarms.set(1)

    async def on_alarm(self, alarm: Alarm) -> None:
        self.runtime.deps.get(Fired).calls.append(Firing("", 0, alarm.retry_count))
        raise asyncio.CancelledError


async def test_handler_that_ends_cancelled(system: ActorSystem, fired: Fired) -> None:
    """A handler that awaited something cancelled has failed: it is tried again, not dropped and not spun."""
    await system.get(SelfCancelling, 1).set()
    await pass_time(system, 1)
    assert len(fired.calls) == 1
    await pass_time(system, 3)
    assert [call.retry for call in fired.calls] == [0, 1]


async def test_neighbours_of_a_failing_actor_fire_on_time(system: ActorSystem, fired: Fired) -> None:
    """One actor's failing alarm holds up no other's."""
    fired.fail = 1
    await system.get(Ringing, "bad").set(1)
    await pass_time(system, 1)
    for number in range(20):
        await system.get(Ringing, number).set(1)
    await pass_time(system, 1)
    assert len(fired.calls) == 21


# -- the disk ----------------------------------------------------------------------------------------------


async def test_lost_commit_of_a_handler_fires_again(folder: Path, clock: ManualClock) -> None:
    """When the commit of a handler's turn fails, the alarm is still on disk and fires again, later."""
    log, fired = FailingLog(), Fired()
    async with opened(folder, clock, fired, wrap_log=log.wrap) as system:
        ringing = system.get(Ringing, 1)
        await ringing.set(1)
        log.fail_next = 2
        await pass_time(system, 1)
        assert len(fired.calls) == 1
        await pass_time(system, 1)
        assert len(fired.calls) == 1  # not at once
        for _ in range(10):
            await pass_time(system, 1)
        assert len(fired.calls) == 3
        assert [call.retry for call in fired.calls] == [0, 0, 0]
        assert await ringing.rung() == 1


async def test_lost_commit_that_took_an_alarm_back(folder: Path, clock: ManualClock) -> None:
    """When the commit that cancelled an alarm is lost, the alarm is back, and fires at its time."""
    log, fired = HeldLog(), Fired()
    async with opened(folder, clock, fired, wrap_log=log.wrap) as system:
        ringing = system.get(Ringing, 1)
        await ringing.set(100, "back")
        log.hold()
        cancelling = asyncio.create_task(ringing.cancel("back"))
        await log.arrived()
        clock.advance(99)  # the scheduler looks meanwhile, and finds nothing
        log.fail()
        with pytest.raises(Exception, match="the test failed"):
            await cancelling
        log.release()
        await turns()
        await pass_time(system, 1)
        assert fired.names() == ["back"]


async def test_alarm_waits_until_it_is_durable_to_be_forgotten(folder: Path, clock: ManualClock) -> None:
    """While the commit of its handler is under way an alarm doesn't fire a second time."""
    log, fired = HeldLog(), Fired()
    async with opened(folder, clock, fired, wrap_log=log.wrap) as system:
        await system.get(Ringing, 1).set(1)
        log.hold()
        clock.advance(1)
        await log.arrived()
        clock.advance(5)
        await turns()
        assert len(fired.calls) == 1
        log.release()
        await quiet(system)
        await pass_time(system, 10)
        assert len(fired.calls) == 1


# -- restart, eviction, wall clock -------------------------------------------------------------------------


async def test_overdue_alarms_fire_at_start(folder: Path, clock: ManualClock) -> None:
    """Alarms that came due while the process was down fire when it starts, the earliest first."""
    fired = Fired()
    async with opened(folder, clock, fired) as system:
        for number in range(5):
            await system.get(Ringing, number).set(10 + number, f"n{number}")
        await system.get(Ringing, 9).set(1000, "later")
    clock.advance(500)
    async with opened(folder, clock, fired) as system:
        await quiet(system)
        assert sorted(fired.names()) == [f"n{number}" for number in range(5)]
        await pass_time(system, 499)
        assert len(fired.calls) == 5
        await pass_time(system, 1)
        assert fired.names()[-1] == "later"


async def test_crash_between_firing_and_commit(folder: Path, clock: ManualClock) -> None:
    """A handler whose turn was not durable when the process died runs again; a durable one doesn't."""
    log, fired = HeldLog(), Fired()
    system = opened(folder, clock, fired, wrap_log=log.wrap)
    await system.open()
    await system.get(Ringing, 1).set(1, "again")
    log.hold()
    clock.advance(1)
    await log.arrived()
    log.fail()  # as good as never written
    await turns()
    await crash(system)
    async with opened(folder, clock, fired) as system:
        await quiet(system)
        assert fired.names() == ["again", "again"]
        assert await system.get(Ringing, 1).rung() == 1


async def test_eviction_before_firing(system: ActorSystem, fired: Fired, clock: ManualClock) -> None:
    """An alarm wakes an actor that left memory, and finds its fields and key."""
    await system.get(Ringing, ("t", 1)).set(500, "wake")
    await pass_time(system, 400)
    assert len(system.directory) == 0
    await pass_time(system, 100)
    assert fired.names() == ["wake"]
    assert await system.get(Ringing, ("t", 1)).rung() == 1


async def test_alarm_does_not_keep_the_actor_in_memory(system: ActorSystem, fired: Fired) -> None:
    """A far alarm costs disk, not memory."""
    for number in range(50):
        await system.get(Ringing, number).set(100_000)
    await pass_time(system, 100)
    assert len(system.directory) == 0


async def test_wall_clock_set_forth(system: ActorSystem, fired: Fired, clock: ManualClock) -> None:
    """When the wall clock jumps over an alarm's time, the alarm fires within a second, once."""
    clock.look_seconds = LOOK_SECONDS  # as the system's
    await system.get(Ringing, 1).set(3600)
    clock.set_wall(clock.now_ms() + 3_600_000)
    await pass_time(system, 1)
    assert len(fired.calls) == 1
    clock.set_wall(clock.now_ms() - 3_600_000)
    await pass_time(system, 7200)
    assert len(fired.calls) == 1


async def test_wall_clock_set_back(system: ActorSystem, fired: Fired, clock: ManualClock) -> None:
    """When the wall clock is set back, the alarm waits for its time by that clock: not early, not lost."""
    clock.look_seconds = LOOK_SECONDS  # as the system's
    due_ms = clock.now_ms() + 10_000
    await system.get(Ringing, 1).set(10)
    await pass_time(system, 5)
    clock.set_wall(clock.now_ms() - 86_400_000)
    for _ in range(100):
        await pass_time(system, 1)
    assert fired.calls == []
    clock.set_wall(due_ms - 1)
    await pass_time(system, 0)
    assert fired.calls == []
    await pass_time(system, 1)
    assert len(fired.calls) == 1
    assert fired.calls[0].at_ms >= due_ms


async def test_wall_clock_that_wanders(system: ActorSystem, fired: Fired, clock: ManualClock) -> None:
    """Whatever the wall clock does, no alarm is early by it, lost or doubled."""
    clock.look_seconds = LOOK_SECONDS  # as the system's
    start = clock.now_ms()
    due: dict[str, int] = {}
    for number in range(100):
        name = f"n{number}"
        due[name] = start + number * 1000 + 500
        await system.get(Ringing, number % 7).set(datetime.fromtimestamp(due[name] / 1000, UTC), name)
    for step in range(60):
        clock.set_wall(clock.now_ms() + [3000, -2500, 900, -100, 10_000, -9000][step % 6])
        await pass_time(system, 0.7)
    clock.set_wall(start + 200_000)
    for _ in range(3):
        await pass_time(system, 1)
    assert sorted(fired.names()) == sorted(due)
    assert all(call.at_ms >= due[call.name] for call in fired.calls)


async def test_more_alarms_than_may_fire_at_once(folder: Path, clock: ManualClock) -> None:
    """Beyond `max_firing` alarms wait on disk and fire as others end."""
    fired = Fired()
    async with opened(folder, clock, fired, limits=Limits(max_firing=3)) as system:
        for number in range(30):
            await system.get(Ringing, number).set(1, f"n{number}")
        for _ in range(12):
            await pass_time(system, 1)
        assert len(fired.calls) == 30


async def test_many_alarms_of_one_moment(system: ActorSystem, fired: Fired) -> None:
    """More alarms than one page of the index all fire."""
    ringing = system.get(Ringing, 1)
    await asyncio.gather(*[ringing.set(1, f"n{number}") for number in range(600)])
    await pass_time(system, 1)
    await pass_time(system, 1)
    assert len(set(fired.names())) == len(fired.calls) == 600
    assert system.store.scan_prefix(layout.DUE) == []


async def test_entry_without_an_alarm_is_cleared_away(system: ActorSystem, fired: Fired) -> None:
    """An entry in the order of due times that belongs to no alarm is removed, not looked at for ever."""
    ringing = system.get(Ringing, 1)
    await ringing.set(100, "real")
    [(key, address)] = system.store.scan_prefix(layout.DUE)
    _, number, name = layout.split_due_key(key)
    system.store.stage(
        {layout.due_key(5, number, name): address, layout.due_key(6, number, b"none"): address}
    )
    await ringing.set(0, "now")
    await pass_time(system, 0)
    assert system.store.scan_prefix(layout.DUE) == [(key, address)]
    await pass_time(system, 100)
    assert fired.names() == ["now", "real"]


# -- unknown types -----------------------------------------------------------------------------------------


def vanishing_class(with_handler: bool = True) -> type[Actor]:
    class Vanishing(Actor):
        rings: int = 0

        async def set(self) -> None:
            self.alarms.set(1)

        async def rung(self) -> int:
            return self.rings

        async def on_alarm(self, alarm: Alarm) -> None:
            self.rings += 1

    class Bare(Actor):
        name = "Vanishing"
        rings: int = 0

        async def rung(self) -> int:
            return self.rings

    return Vanishing if with_handler else Bare


async def test_alarm_of_a_class_that_is_not_imported(
    folder: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays on disk, is told in the log, and fires once the class is used."""
    fired, kind = Fired(), vanishing_class()
    async with opened(folder, clock, fired) as system:
        await system.get(kind, 1).set()  # type: ignore[attr-defined]  # pyright: ignore
    clock.advance(10)
    with monkeypatch.context() as patch:
        patch.setattr("holdfast.runtime.registry._classes", {})
        async with opened(folder, clock, fired) as system:
            with caplog.at_level(logging.ERROR):
                await pass_time(system, 1)
            assert "no class named 'Vanishing'" in caplog.text
            rung = await system.get(kind, 1).rung()  # type: ignore[attr-defined]  # pyright: ignore
            assert rung == 0
            await pass_time(system, 0)
            assert await system.get(kind, 1).rung() == 1  # type: ignore[attr-defined]  # pyright: ignore


async def test_alarm_of_a_class_that_lost_its_handler(folder: Path, clock: ManualClock) -> None:
    """It is not silently gone: it is tried, and kept as dead with the reason."""
    fired = Fired()
    async with opened(folder, clock, fired) as system:
        await system.get(vanishing_class(), 1).set()  # type: ignore[attr-defined]  # pyright: ignore
    async with opened(folder, clock, fired, types=[vanishing_class(False)]) as system:
        for _ in range(170):
            await pass_time(system, 1)
        [dead] = system.dead_alarms()
        assert "has no on_alarm" in dead.error
