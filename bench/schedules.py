"""What many schedules cost: setting them up, their memory and disk, opening the folder, how late they are.

Run by ``scale_child`` in processes of their own.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from holdfast import Limits, Runtime, Schedule, Workflow, scheduled_at

from .machine import disk_bytes

IN_FLIGHT = 1_000
# Set up before the first look at memory, so that code and tables that every process has are there.
WARM = 1_000
DUE = 1_000
# From setting the due ones up until the first of them is due.
AHEAD_SECONDS = 3.0
SPREAD_SECONDS = 1.0
# Time for whatever an opened folder takes up by itself.
SETTLE_SECONDS = 1.0

LATENESS: list[float] = []


class Report(Workflow):
    """Tells how late it begins."""

    async def run(self, number: int) -> int:
        """One comparison with the wall clock; it is never replayed here."""
        planned = scheduled_at(self)
        assert planned is not None
        LATENESS.append(time.time() - planned.timestamp())
        return number


async def set_up_schedules(folder: str, schedules: int) -> dict[str, Any]:
    """Set ``schedules`` named schedules up, for many times of the day, and once more as they are."""
    from .scale_child import anonymous_bytes

    async with Runtime(folder, limits=Limits(idle_seconds=0.2)) as rt:

        async def set_up(first: int, end: int) -> float:
            source = iter(range(first, end))

            async def work() -> None:
                for n in source:
                    cron = f"{n % 60} {n // 60 % 24} 1 1 *"
                    await rt.schedule(f"schedule-{n:08d}", Report, n, cron=cron, tz="Europe/Berlin")

            began = time.perf_counter()
            await asyncio.gather(*[work() for _ in range(IN_FLIGHT)])
            return time.perf_counter() - began

        async def all_idle() -> int:
            while len(rt.directory):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
            return anonymous_bytes()

        await set_up(0, WARM)
        before, disk_before = await all_idle(), disk_bytes(Path(folder))
        middle, end = WARM + schedules // 2, WARM + schedules
        seconds = await set_up(WARM, middle)
        half = await all_idle()
        seconds += await set_up(middle, end)
        after, disk_after = await all_idle(), disk_bytes(Path(folder))
        commit = rt.store.newest
        again_seconds = await set_up(WARM, end)
        assert rt.store.newest == commit
        began = time.perf_counter()
        listed = rt.schedules(status="active", limit=100, after=f"schedule-{end - 200:08d}")
        list_seconds = time.perf_counter() - began
        assert len(listed) == 100
        return {
            "seconds": seconds,
            "again_seconds": again_seconds,
            "list_seconds": list_seconds,
            "bytes_before": before,
            "bytes_half": half,
            "bytes_after": after,
            "disk_bytes": disk_after - disk_before,
        }


async def open_schedules(folder: str) -> dict[str, Any]:
    """Open the folder of ``set_up_schedules`` again, and let 1000 of them come in a second, then at once."""
    from .scale_child import anonymous_bytes, seconds_since_process_start

    began = time.perf_counter()
    async with Runtime(folder, types=[Report]) as rt:
        await rt.get(Schedule, f"schedule-{WARM:08d}").next_fires()
        since_open, since_start = time.perf_counter() - began, seconds_since_process_start()
        await asyncio.sleep(SETTLE_SECONDS)
        memory = anonymous_bytes()
        lateness = {}
        for how, spread_seconds in (("in one second", SPREAD_SECONDS), ("at one moment", 0.0)):
            LATENESS.clear()
            first = datetime.now(UTC) + timedelta(seconds=AHEAD_SECONDS)

            async def set_up(n: int, first: datetime = first, spread: float = spread_seconds) -> None:
                at = first + timedelta(seconds=spread * n / DUE)
                await rt.schedule(f"schedule-{n:08d}", Report, n, at=at)

            await asyncio.gather(*[set_up(n) for n in range(DUE)])
            assert not LATENESS, "they were not set up in time"
            while len(LATENESS) < DUE:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
            lateness[how] = sorted(LATENESS)
        return {
            "since_open_seconds": since_open,
            "since_start_seconds": since_start,
            "bytes": memory,
            "lateness": {
                how: {"p50_ms": found[DUE // 2] * 1000, "p99_ms": found[DUE * 99 // 100] * 1000}
                for how, found in lateness.items()
            },
        }
