"""Holdfast's side of `alarms`: an alarm for each of many actors."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from holdfast import Actor, Alarm

from .floor_alarms import SETTERS, lead_seconds
from .holdfast_side import open_runtime
from .workload import Sample, drive


class Late:
    """What the handlers found: how late they began."""

    def __init__(self) -> None:
        self.seconds: list[float] = []


class Due(Actor):
    """Wakes once and writes down when."""

    due_at: float = 0.0
    woken_at: float = 0.0

    async def arm(self, at: float) -> None:
        """Set the alarm."""
        self.due_at = at
        self.alarms.set(datetime.fromtimestamp(at, UTC))

    async def on_alarm(self, alarm: Alarm) -> None:
        """The write that the floor makes too."""
        self.woken_at = time.time()
        self.runtime.deps.get(Late).seconds.append(self.woken_at - self.due_at)


async def alarms(folder: Path, alarms: int, spread_ms: int, *, slow_sync_seconds: float = 0.0) -> Sample:
    """One unit: an alarm that fired.  A latency is how late its handler began."""
    late = Late()
    async with open_runtime(folder, slow_sync_seconds, deps=[late]) as rt:
        first = time.time() + lead_seconds(alarms)

        async def set_alarm(number: int) -> None:
            await rt.get(Due, number).arm(first + number * spread_ms / 1000 / alarms)

        await drive(range(alarms), SETTERS, set_alarm)
        if time.time() > first:
            raise AssertionError("setting the alarms took longer than until they are due")
        while len(late.seconds) < alarms:  # noqa: ASYNC110  # a handler that tells would be one more thing to measure
            await asyncio.sleep(0.001)
        await rt.store.wait_durable(rt.store.newest)
        return Sample(alarms, time.time() - first, sorted(late.seconds))
