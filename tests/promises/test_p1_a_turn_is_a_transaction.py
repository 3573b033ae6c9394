"""P1: a turn is a transaction: all of it is kept, or nothing is and memory is what it was."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.system import ActorSystem
from holdfast.storage import layout
from tests.runtime.support import HeldLog, quiet, turns


class Line(msgspec.Struct):
    id: int
    kind: str = "plain"


class Ledger(Actor):
    indexes = ("total",)
    total: int = 0
    names: list[str] = []
    rows: dict[str, list[int]] = {}

    async def fill(self) -> None:
        """One change of every kind, to undo or to keep."""
        self.change(5)

    def change(self, by: int) -> None:
        self.total += by
        self.names.append(f"n{by}")
        self.rows.setdefault("a", []).append(by)
        self.storage.put("k", by)
        self.storage.put(("t", by), "tuple", ttl=1000)
        self.storage.delete("gone")
        self.table().put(Line(by))
        self.shared_table().put(Line(by))
        self.alarms.set(1000 + by, f"alarm{by}")
        self.alarms.cancel("first")

    def table(self) -> Any:
        return self.storage.table(Line, key="id", indexes=("kind",))

    def shared_table(self) -> Any:
        return self.storage.table(Line, key="id", indexes=("kind",), name="all_lines", shared=True)

    async def prepare(self) -> None:
        self.storage.put("gone", "still here")
        self.alarms.set(500, "first")

    async def end_badly(self, how: str) -> None:
        self.change(7)
        if how == "raise":
            raise ZeroDivisionError
        if how == "base":
            raise KeyboardLike
        if how == "deep":
            self._deep(0)
        if how == "wrong field":
            self.total = "seven"  # type: ignore[assignment]  # pyright: ignore
        if how == "wait":
            self.runtime.deps.get(asyncio.Event).set()
            await asyncio.Event().wait()

    async def end_wrongly(self) -> int:
        self.change(7)
        return "seven"  # type: ignore[return-value]  # pyright: ignore

    def _deep(self, depth: int) -> None:
        self._deep(depth + 1)

    async def facts(self) -> list[object]:
        return [
            self.total,
            self.names,
            self.rows,
            sorted((str(key), value) for key, value in self.storage.list().items()),
            [line.id for line in self.table().select()],
            [line.id for line in self.table().select(kind="plain")],
            [alarm.name for alarm in self.alarms.list()],
        ]

    async def on_alarm(self, alarm: object) -> None: ...


class KeyboardLike(BaseException):
    """Neither an error nor a cancellation."""


def on_disk(system: ActorSystem) -> dict[bytes, bytes]:
    """All that is stored, but for the number of the last commit."""
    rows = dict(system.store.scan(b"", None, durable_only=True))
    rows.pop(layout.META_COMMIT, None)
    return rows


ENDINGS: dict[str, Callable[[Ledger], Any]] = {
    "raise": lambda ledger: ledger.end_badly("raise"),
    "base": lambda ledger: ledger.end_badly("base"),
    "deep": lambda ledger: ledger.end_badly("deep"),
    "wrong field": lambda ledger: ledger.end_badly("wrong field"),
    "wrong result": lambda ledger: ledger.end_wrongly(),
}


@pytest.mark.parametrize("how", [*ENDINGS, "cancelled"])
@pytest.mark.parametrize("stored", [True, False])
async def test_failed_turn_leaves_nothing(system: ActorSystem, how: str, stored: bool) -> None:
    """However a turn ends badly: memory, disk, indexes and alarms are byte for byte what they were."""
    ledger = system.get(Ledger, 1)
    if stored:
        await ledger.prepare()
        await ledger.fill()
    await quiet(system)
    system.type_of(Ledger)
    await quiet(system)
    facts, disk = await ledger.facts(), on_disk(system)
    if how == "cancelled":
        inside = asyncio.Event()
        system.deps.put(inside)
        call = asyncio.create_task(ledger.end_badly("wait"))
        await inside.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    else:
        with pytest.raises(BaseException):  # noqa: B017
            await ENDINGS[how](ledger)
    assert await ledger.facts() == facts
    await quiet(system)
    assert on_disk(system) == disk


async def test_kept_turn_is_kept_whole(folder: Path) -> None:
    """All that one turn wrote is in one commit, and there after reopening."""
    log = HeldLog()
    async with ActorSystem(folder, wrap_log=log.wrap) as system:
        ledger = system.get(Ledger, 1)
        await ledger.prepare()
        log.hold()
        call = asyncio.create_task(ledger.fill())
        await log.arrived()
        kinds = {key[:1] for key in log.commits[0]}
        log.release()
        await call
        facts = await ledger.facts()
        assert len(log.commits) == 1
    assert {
        layout.DATA,
        layout.DUE,
        layout.EXPIRY,
        layout.SHARED_ROW,
        layout.SHARED_INDEX,
        layout.FIELD_INDEX,
    } <= kinds
    async with ActorSystem(folder) as system:
        assert await system.get(Ledger, 1).facts() == facts
        assert facts[0] == 5


async def test_turn_that_is_never_durable_is_wholly_absent(folder: Path) -> None:
    """A commit that did not happen brought no part of its turns."""
    log = HeldLog()
    async with ActorSystem(folder, wrap_log=log.wrap) as system:
        ledger = system.get(Ledger, 1)
        await ledger.prepare()
        disk, facts = on_disk(system), await ledger.facts()
        log.hold()
        call = asyncio.ensure_future(ledger.fill())
        await log.arrived()
        log.fail()
        with pytest.raises(Exception, match="the test failed"):
            await call
        log.release()
        assert await ledger.facts() == facts
        await turns()
        assert on_disk(system) == disk


async def test_turns_after_a_failed_one_see_no_trace(system: ActorSystem) -> None:
    """Good and bad turns in any mixture leave the sum of the good ones."""
    ledger = system.get(Ledger, 1)
    for number in range(60):
        if number % 3:
            with pytest.raises(ZeroDivisionError):
                await ledger.end_badly("raise")
        else:
            await ledger.fill()
    facts = await ledger.facts()
    assert facts[0] == 5 * 20
    assert facts[1] == ["n5"] * 20
