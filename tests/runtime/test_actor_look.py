"""runtime/actor_look.py: actors as they lie on disk, without loading one."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import Actor, Alarm
from holdfast.runtime import actor_look
from holdfast.runtime.actor_look import look_at_actor, look_at_keys, look_at_types
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import ActorNotFound, UnknownActorType
from holdfast.runtime.system import ActorSystem
from tests.runtime.support import HeldLog, pass_time


class LookedAt(Actor):
    n: int = 0
    version = 3
    loaded = 0

    async def on_activate(self) -> None:
        LookedAt.loaded += 1

    async def set(self, n: int) -> None:
        self.n = n

    async def keep(self, key: str, value: str) -> None:
        self.storage.put(key, value)

    async def remind(self, name: str) -> None:
        self.alarms.set(0, name, payload=[name])

    async def on_alarm(self, alarm: Alarm) -> None:
        raise ValueError("not now")


async def test_one_actor(system: ActorSystem) -> None:
    """Fields and version, rows and their bytes, alarms with their retries, dead ones."""
    one = system.get(LookedAt, ("a", 1))
    await one.set(5)
    for n in range(3):
        await one.keep(f"k{n}", "v" * 100)
    await one.remind("bell")
    await pass_time(system, 0.1)
    look = look_at_actor(system, "LookedAt", ("a", 1))
    assert (look.fields, look.version, look.in_memory, look.imported, look.more) == (
        {"n": 5},
        3,
        True,
        True,
        False,
    )
    assert look.rows == 1 + 3 + 1
    assert 300 < look.stored_bytes < 600
    (alarm,) = look.alarms
    assert (alarm.name, alarm.retries, alarm.payload) == ("bell", 1, ["bell"])
    for _ in range(8):
        await pass_time(system, 1_000)
    look = look_at_actor(system, "LookedAt", ("a", 1))
    (dead,) = look.dead_alarms
    assert (look.alarms, dead.name, dead.error) == ((), "bell", "ValueError: not now")


async def test_a_look_loads_nothing(folder: Path, clock: ManualClock) -> None:
    """Neither of one actor, nor of keys, nor of types."""
    async with ActorSystem(folder, clock=clock) as system:
        for key in ("a", "b", "c"):
            await system.get(LookedAt, key).set(1)
    loaded = LookedAt.loaded
    async with ActorSystem(folder, clock=clock) as system:
        assert not look_at_actor(system, "LookedAt", "a").in_memory
        await system.get(LookedAt, "b").set(2)
        assert [(one.key, one.in_memory) for one in look_at_keys(system, "LookedAt")] == [
            ("a", False), ("b", True), ("c", False),
        ]  # fmt: skip
        assert [one.key for one in look_at_keys(system, "LookedAt", after="a", limit=1)] == ["b"]
        (kind,) = await look_at_types(system)
        assert (kind.type, kind.keys, kind.in_memory, kind.imported) == ("LookedAt", 3, 1, True)
    assert LookedAt.loaded == loaded + 1


async def test_only_so_much_is_counted(system: ActorSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the look says that there is more."""
    monkeypatch.setattr(actor_look, "MAX_COUNTED", 2)
    for key in ("a", "b"):
        await system.get(LookedAt, key).set(1)
    (kind,) = await look_at_types(system)
    assert (kind.keys, kind.more) == (2, False)
    await system.get(LookedAt, "c").set(1)
    (kind,) = await look_at_types(system)
    assert (kind.keys, kind.more) == (2, True)
    for n in range(2):
        await system.get(LookedAt, "a").keep(f"k{n}", "v")
    look = look_at_actor(system, "LookedAt", "a")
    assert (look.rows, look.more) == (2, True)


async def test_what_is_not_there_is_told(system: ActorSystem) -> None:
    """With type and key."""
    await system.get(LookedAt, "a").set(1)
    with pytest.raises(ActorNotFound, match="nothing is stored of LookedAt/b"):
        look_at_actor(system, "LookedAt", "b")
    with pytest.raises(UnknownActorType, match="no actor type 'Nope' is stored"):
        look_at_keys(system, "Nope")


async def test_only_what_is_durable_is_shown(folder: Path) -> None:
    """P3: a look from outside doesn't see what could still be lost."""
    log = HeldLog()
    async with ActorSystem(folder, wrap_log=log.wrap) as system:
        await system.get(LookedAt, "a").set(1)
        log.hold()
        waiting = system.loop.create_task(system.get(LookedAt, "a").set(2))
        await log.arrived()
        look = look_at_actor(system, "LookedAt", "a")
        log.release()
        await waiting
        assert (look.fields, look_at_actor(system, "LookedAt", "a").fields) == ({"n": 1}, {"n": 2})
