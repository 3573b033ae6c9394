"""Schedules whose workflow isn't there, or doesn't take the input: nothing is lost, nothing spins."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast import Runtime, Schedule, Workflow
from holdfast.actors.errors import InvalidInput
from holdfast.runtime import registry
from holdfast.runtime.clock import ManualClock, moment
from holdfast.runtime.repeats import Missed
from tests.actors.workflow.support import pass_time, settle


class Order(msgspec.Struct):
    id: int


@asynccontextmanager
async def opened(folder: Path, clock: ManualClock) -> AsyncIterator[Runtime]:
    async with Runtime(folder, clock=clock, seed=1, min_free_bytes=0, switch_interval_seconds=None) as rt:
        yield rt


def make_class() -> type[Any]:
    """The workflow, as the module that has it defines it."""

    class Migrated(Workflow):
        async def run(self, n: int) -> int:
            return n

    return Migrated


def make_picky_class() -> type[Any]:
    """A later one of the same name, with another input."""

    class Migrated(Workflow):
        async def run(self, order: Order) -> int:
            return order.id

    return Migrated


def forget_class() -> None:
    """As in a process that doesn't import the module."""
    registry._classes.pop("Migrated", None)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    forget_class()


async def set_up(folder: Path, clock: ManualClock, missed: Missed = "one") -> None:
    """A schedule every ten minutes, by a program that knows its workflow."""
    async with opened(folder, clock) as rt:
        await rt.schedule("m", make_class(), 7, every="10m", missed=missed)
    forget_class()


async def commits_in(rt: Runtime, clock: ManualClock, seconds: float) -> int:
    before = rt.store.newest
    await pass_time(rt, clock, seconds, 30)
    return rt.store.newest - before


@pytest.mark.parametrize("missed", ["one", "skip", "all"])
async def test_waits_for_its_class(
    folder: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture, missed: Missed
) -> None:
    """Without its class it tells what it waits for, tries ever more rarely, and goes on when it is there."""
    await set_up(folder, clock, missed)
    async with opened(folder, clock) as rt:
        with caplog.at_level(logging.ERROR, "holdfast.schedules"):
            await pass_time(rt, clock, 660, 30)
        info = await rt.get(Schedule, "m").info()
        assert info.status == "stuck"
        assert info.error is not None and "no class named 'Migrated' is imported" in info.error
        assert [one.name for one in rt.schedules(status="stuck")] == ["m"]
        assert any("schedule 'm' is stuck and waits" in record.getMessage() for record in caplog.records)
        assert await commits_in(rt, clock, 3600) <= 7
        assert await commits_in(rt, clock, 5 * 3600) <= 6
        # A module is imported late: the first use of the class lets it go on at once.
        late = make_class()
        rt.workflow_type(late)
        await settle(rt)
        info = await rt.get(Schedule, "m").info()
        assert (info.status, info.error) == ("active", None)
        found = len(rt.runs(late))
        assert found == 1 if missed != "all" else found == 37
        assert info.times_missed == 37 - found
        await pass_time(rt, clock, 600, 30)
        assert len(rt.runs(late)) == found + 1


async def test_goes_on_when_the_folder_is_opened_with_it(folder: Path, clock: ManualClock) -> None:
    """A new release that has the class again makes up for the time that was held."""
    await set_up(folder, clock)
    async with opened(folder, clock) as rt:
        await pass_time(rt, clock, 700, 30)
        assert (await rt.get(Schedule, "m").info()).status == "stuck"
    again = make_class()
    async with opened(folder, clock) as rt:
        await settle(rt)
        assert len(rt.runs(again)) == 1
        assert (await rt.get(Schedule, "m").info()).status == "active"


async def test_goes_on_though_nobody_uses_the_class(folder: Path, clock: ManualClock) -> None:
    """A class that is only imported is found at the next try."""
    await set_up(folder, clock)
    async with opened(folder, clock) as rt:
        await pass_time(rt, clock, 630, 30)
        assert (await rt.get(Schedule, "m").info()).status == "stuck"
        late = make_class()
        await pass_time(rt, clock, 90, 30)
        assert (await rt.get(Schedule, "m").info()).status == "active"
        assert len(rt.runs(late)) == 1


async def test_input_that_no_longer_fits(folder: Path, clock: ManualClock) -> None:
    """A changed workflow that doesn't take the stored input makes it stuck; another set-up mends it."""
    await set_up(folder, clock, "skip")
    picky = make_picky_class()
    async with opened(folder, clock) as rt:
        await pass_time(rt, clock, 630, 30)
        info = await rt.get(Schedule, "m").info()
        assert info.error is not None and info.error.startswith("InvalidInput: the stored input of Migrated")
        with pytest.raises(InvalidInput, match="stored input"):
            await rt.get(Schedule, "m").trigger()
        await pass_time(rt, clock, 240, 30)
        await rt.schedule("m", picky, Order(3), every="1h", missed="skip")
        await settle(rt)
        # The time that came while it was stuck comes, in the new way.
        (run,) = rt.runs(picky)
        assert await rt.run(picky, run.id).result() == 3
        info = await rt.get(Schedule, "m").info()
        assert (info.status, info.runs) == ("active", 1)


async def test_the_time_that_was_held_and_a_single_one_to_come(folder: Path, clock: ManualClock) -> None:
    """Set up anew for one moment while it was stuck, it keeps the time that was held, and that moment."""
    await set_up(folder, clock)
    picky = make_picky_class()
    async with opened(folder, clock) as rt:
        await pass_time(rt, clock, 630, 30)
        await rt.schedule("m", picky, Order(3), at=moment(clock.now_ms() + 60_000))
        await settle(rt)
        assert len(rt.runs(picky)) == 1
        await pass_time(rt, clock, 90, 30)
        assert len(rt.runs(picky)) == 2
        assert (await rt.get(Schedule, "m").info()).status == "ended"


async def test_pausing_a_stuck_one(folder: Path, clock: ManualClock) -> None:
    """It is quiet then; when it goes on, it is stuck again if its class still isn't there."""
    await set_up(folder, clock)
    async with opened(folder, clock) as rt:
        await pass_time(rt, clock, 630, 30)
        schedule = rt.get(Schedule, "m")
        await schedule.pause()
        assert await commits_in(rt, clock, 7200) == 0
        await schedule.resume()
        assert (await schedule.info()).status == "active"
        await pass_time(rt, clock, 700, 30)
        assert (await schedule.info()).status == "stuck"
        assert await schedule.delete()
        assert await commits_in(rt, clock, 7200) == 0
