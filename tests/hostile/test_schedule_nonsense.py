"""Schedules with times at the ends of what a datetime can show, and with what they can't keep."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from holdfast import Runtime, Schedule, Workflow
from holdfast.storage.errors import CallerError, InvalidValue

LAST = datetime.max.replace(tzinfo=UTC)


class Tick(Workflow):
    async def run(self) -> None: ...


async def test_the_last_moment_of_a_datetime(tmp_path: Path) -> None:
    """People take it for "never"; rounded up it was a time that no listing of schedules could show."""
    async with Runtime(tmp_path) as rt:
        schedule = await rt.schedule("ends", Tick, every="5m", end=LAST)
        await rt.schedule("begins", Tick, every="5m", start=LAST)
        await rt.schedule("comes", Tick, at=LAST)
        end = (await schedule.info()).end
        assert end is not None and end.year == 9999
        assert [one.name for one in rt.schedules()] == ["begins", "comes", "ends"]


async def test_what_a_schedule_can_not_keep(tmp_path: Path) -> None:
    """It is refused in words, and nothing is changed."""
    async with Runtime(tmp_path) as rt:
        with pytest.raises(InvalidValue, match="tags must be a mapping"):
            await rt.schedule("s", Tick, every="5m", tags=cast("Any", 5))
        with pytest.raises(CallerError, match="limit"):
            rt.schedules(limit=-1)
        schedule = await rt.schedule("s", Tick, every="5m")
        with pytest.raises(InvalidValue, match="reason"):
            await schedule.pause(reason="x" * 100_000)
        with pytest.raises(InvalidValue, match="by"):
            await schedule.pause(by="")
        assert (await rt.get(Schedule, "s").info()).status == "active"
