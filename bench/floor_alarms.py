"""The floor of `alarms`: what durable alarms force.

An alarm lies on disk under its time, and costs no memory; who fires it looks at the order of times.  Its
removal commits together with what its handler wrote.

Left out: names, payloads, repeats, retries.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from .floor import GONE, Floor, counted, stage
from .workload import Sample, drive

# Rows read at once.
PAGE = 256
SETTERS = 1000


def lead_seconds(alarms: int) -> float:
    """From the first alarm being set until it is due: enough to set them all, even on a busy machine."""
    return 0.5 + alarms / 8_000


def alarm_key(due_us: int, actor: int) -> bytes:
    """Where an alarm lies: in the order of times."""
    return b"a/%020d/%08d" % (due_us, actor)


def actor_key(actor: int) -> bytes:
    """Where the actor lies that the alarm belongs to."""
    return b"o/%08d" % actor


async def alarms(folder: Path, alarms: int, spread_ms: int, *, slow_sync_seconds: float = 0.0) -> Sample:
    """One unit: an alarm that fired.  A latency is how late its handler began."""
    async with Floor(folder, slow_sync_seconds) as floor:
        first_us = time.time_ns() // 1000 + int(lead_seconds(alarms) * 1e6)

        async def set_alarm(actor: int) -> None:
            await floor.turn(stage, alarm_key(first_us + actor * spread_ms * 1000 // alarms, actor), 0)

        await drive(range(alarms), SETTERS, set_alarm)
        if time.time_ns() // 1000 > first_us:
            raise AssertionError("setting the alarms took longer than until they are due")
        late: list[float] = []
        last, durable = b"a/", None
        while len(late) < alarms:
            keys = floor.log.keys_behind(last, b"a0", PAGE)
            now_us = time.time_ns() // 1000
            due = [key for key in keys if due_us_of(key) <= now_us]
            for key in due:
                last = key
                late.append(time.time() - due_us_of(key) / 1e6)
                durable = floor.turn(fire, key)
            # Round the loop, so that commits get on; or until the next one is due.
            await asyncio.sleep(0 if due or not keys else (due_us_of(keys[0]) - now_us) / 1e6)
        assert durable is not None
        await durable
        seconds = time.time() - first_us / 1e6
        return counted(floor, Sample(alarms, seconds, sorted(late)))


def due_us_of(key: bytes) -> int:
    """When an alarm is due, by its key."""
    return int(key[2:22])


def fire(key: bytes) -> None:
    """A turn's body: the handler's write, and the alarm is gone."""
    stage(actor_key(int(key[23:])), time.time())
    stage(key, GONE)
