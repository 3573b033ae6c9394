"""Alarms that repeat by cron, and what becomes of fires that were missed; on a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.alarms import Alarm, AlarmRecord, decode_alarm
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import InvalidCron
from holdfast.runtime.system import ActorSystem
from holdfast.storage.errors import CallerError
from tests.runtime.support import pass_time

START = datetime(2030, 3, 30, 12, 0, tzinfo=UTC)


class Heard:
    """The alarms that fired: when they were planned, and whether the next ones are to fail."""

    def __init__(self) -> None:
        self.planned: list[str] = []
        self.fail = 0


class CronBell(Actor):
    async def set(
        self,
        cron: str | None = None,
        tz: str | None = None,
        missed: Literal["one", "all", "skip"] = "one",
        when: datetime | None = None,
        every: float | None = None,
    ) -> None:
        self.alarms.set(when, "bell", cron=cron, tz=tz, missed=missed, every=every, payload="ding")

    async def look(self) -> list[str | None]:
        alarm = self.alarms.get("bell")
        return [] if alarm is None else [alarm.cron, alarm.tz, alarm.scheduled_at.isoformat()]

    async def on_alarm(self, alarm: Alarm) -> None:
        heard = self.runtime.deps.get(Heard)
        assert alarm.payload() == "ding"
        if heard.fail:
            heard.fail -= 1
            raise ConnectionError
        heard.planned.append(alarm.scheduled_at.strftime("%d %H:%M"))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(int(START.timestamp() * 1000))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@asynccontextmanager
async def opened(folder: Path, clock: ManualClock, heard: Heard) -> AsyncIterator[ActorSystem]:
    async with ActorSystem(folder, clock=clock, deps=[heard], seed=1) as system:
        await pass_time(system, 0)
        yield system


async def test_comes_as_the_expression_says(folder: Path, clock: ManualClock, heard: Heard) -> None:
    """It fires at each time of the expression in its zone, also on the day on which clocks are set."""
    async with opened(folder, clock, heard) as system:
        await system.get(CronBell, 1).set("30 2 * * *", "Europe/Berlin")
        found = await system.get(CronBell, 1).look()
        assert found == ["30 2 * * *", "Europe/Berlin", "2030-03-31T01:00:00+00:00"]
        for _ in range(60):
            await pass_time(system, 3600)
    assert heard.planned == ["31 01:00", "01 00:30"]  # UTC: 3:00 in place of 2:30, then 2:30


async def test_not_before_when(folder: Path, clock: ManualClock, heard: Heard) -> None:
    """With `when` it begins there: a time of the expression at that moment counts."""
    async with opened(folder, clock, heard) as system:
        bell = system.get(CronBell, 1)
        await bell.set("0 * * * *", when=datetime(2030, 4, 1, 9, tzinfo=UTC))
        assert (await bell.look())[2] == "2030-04-01T09:00:00+00:00"
        await bell.set("0 * * * *")
        assert (await bell.look())[1:] == ["UTC", "2030-03-30T13:00:00+00:00"]


@pytest.mark.parametrize(
    ("missed", "wanted"),
    [
        ("one", ["30 12:10", "30 12:50", "30 13:00"]),
        ("all", ["30 12:10", "30 12:20", "30 12:30", "30 12:40", "30 12:50", "30 13:00"]),
        ("skip", ["30 12:50", "30 13:00"]),
    ],
)
@pytest.mark.parametrize("by", ["cron", "every"])
async def test_missed(
    folder: Path,
    clock: ManualClock,
    heard: Heard,
    missed: Literal["one", "all", "skip"],
    wanted: list[str],
    by: str,
) -> None:
    """Of fires that passed while the process was down one is made up, or all are, or those not long past."""
    async with opened(folder, clock, heard) as system:
        if by == "cron":
            await system.get(CronBell, 1).set("*/10 * * * *", missed=missed)
        else:
            await system.get(CronBell, 1).set(
                every=600, when=datetime(2030, 3, 30, 12, 10, tzinfo=UTC), missed=missed
            )
    clock.advance(45 * 60)
    async with opened(folder, clock, heard) as system:
        for _ in range(16):
            await pass_time(system, 60)
    assert heard.planned == wanted


async def test_skip_is_lenient(folder: Path, clock: ManualClock, heard: Heard) -> None:
    """A fire that is late by less than a minute was not missed, and a retry isn't late."""
    async with opened(folder, clock, heard) as system:
        await system.get(CronBell, 1).set("*/10 * * * *", missed="skip")
    clock.advance(30 * 60 + 50)
    heard.fail = 7
    async with opened(folder, clock, heard) as system:
        for _ in range(400):
            await pass_time(system, 1)
        assert heard.planned == []
        # Its retries took longer than a minute; then it died, and the next one is on time.
        assert [dead.alarm.scheduled_at.minute for dead in system.dead_alarms()] == [30]
        for _ in range(200):
            await pass_time(system, 1)
        assert heard.planned == ["30 12:40"]
        await system.redrive_alarm(CronBell, 1, "bell")
        await pass_time(system, 1)
        assert heard.planned == ["30 12:40", "30 12:30"]
        assert (await system.get(CronBell, 1).look())[2] == "2030-03-30T12:50:00+00:00"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cron": "61 * * * *"}, r"minute \(field 1\)"),
        ({"cron": "* * * * *", "tz": "Mars/Base"}, "IANA name"),
        ({"tz": "UTC", "every": 5.0, "when": START}, "wasn't given"),
        ({"cron": "* * * * *", "every": 5.0}, "got both"),
        ({}, "give `when` or `cron`"),
        ({"every": 5.0}, "give `when` or `cron`"),
        ({"when": START, "missed": "all"}, "for alarms that repeat"),
    ],
)
async def test_refused(
    folder: Path, clock: ManualClock, heard: Heard, options: dict[str, object], message: str
) -> None:
    """What can't be meant is refused when it is set, and nothing is set."""
    async with opened(folder, clock, heard) as system:
        with pytest.raises(CallerError, match=message):
            await system.get(CronBell, 1).set(**options)  # type: ignore[arg-type]  # pyright: ignore
        assert await system.get(CronBell, 1).look() == []


async def test_no_more_times(folder: Path, clock: ManualClock, heard: Heard) -> None:
    """A beginning behind which the expression never comes is refused."""
    async with opened(folder, clock, heard) as system:
        with pytest.raises(InvalidCron, match="doesn't come from"):
            await system.get(CronBell, 1).set("@yearly", when=datetime(9995, 1, 2, tzinfo=UTC))


def test_records_of_before() -> None:
    """Alarms that were stored before there was cron are read as they were meant."""
    old = msgspec.msgpack.encode([5, 5, None, 1000, 2, 1])
    assert decode_alarm(old) == AlarmRecord(5, 5, None, 1000, 2, 1)
    assert decode_alarm(old).repeat == 1000
