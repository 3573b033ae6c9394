"""What the tests of the workflows' promises share: lives that end at a chosen commit, and a look at the disk.

A life is one process: a runtime on the folder, its commit log in the hand of the test.  It ends with the
result of the run, or when the log crashes; the disk can be read before the next life begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from holdfast import Runtime
from holdfast.actors.handle import Run
from holdfast.actors.workflow.journal import Outcome, Record, StepDone, StepFailed, TimerFired, decode_records
from holdfast.runtime.clock import ManualClock
from holdfast.storage import layout
from holdfast.storage.errors import HoldfastError
from holdfast.storage.keys import decode_key, decode_number
from holdfast.storage.store import Store
from tests.actors.workflow.support import (
    WAIT_SECONDS,
    CrashLog,
    Folder,
    next_timer_seconds,
    settle,
    soon,
    turns,
    until,
)

T = TypeVar("T")
MAX_LIVES = 300
# Step bodies that wait for nothing but their end: time may pass although they are at work.
HUNG: list[object] = []


async def hang() -> None:
    """In a step's body: never end by oneself."""
    me = object()
    HUNG.append(me)
    try:
        await asyncio.Event().wait()
    finally:
        HUNG.remove(me)


class Disk(NamedTuple):
    """What lies in a folder that nobody has open."""

    # The records of each run, by its id.
    journals: dict[object, list[Record]]
    replies: list[bytes]
    durable: int

    def outcomes(self, run: object) -> list[Outcome]:
        """What was recorded to be delivered, in order."""
        return [
            one for one in self.journals.get(run, []) if isinstance(one, (StepDone, StepFailed, TimerFired))
        ]

    def checkpointed(self, run: object) -> set[tuple[str, int]]:
        """Name and use of each step whose outcome is recorded."""
        return {(one.name, one.nth) for one in self.outcomes(run) if isinstance(one, (StepDone, StepFailed))}


async def read_disk(path: Path) -> Disk:
    """Read a folder as a crash left it, without letting anything in it go on."""
    store = Store(path, min_free_bytes=0)
    try:
        rows: dict[int, list[tuple[bytes, bytes]]] = {}
        replies: list[bytes] = []
        for key, value in store.scan_prefix(layout.DATA):
            number, end = decode_number(key, 1)
            if key[end : end + 1] == layout.JOURNAL:
                rows.setdefault(number, []).append((key, value))
            elif key[end : end + 1] == layout.REPLY:
                replies.append(key)
        names: dict[int, object] = {
            decode_number(value)[0]: decode_key(key[3:]) for key, value in store.scan_prefix(layout.DIRECTORY)
        }
        journals: dict[object, list[Record]] = {
            names[number]: [record for _, record in decode_records(found, str(number))]
            for number, found in rows.items()
        }
        return Disk(journals, replies, store.durable)
    finally:
        await store.close()


async def play_life(rt: Runtime, clock: ManualClock, run: Run[T], log: CrashLog) -> T | None:
    """The result of a run, or None when the log ended the life before.

    Time passes when nothing else is to do.
    """
    result = asyncio.ensure_future(run.result())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not result.done():
                await settle(rt)
                if log.crashed:
                    await until(lambda: rt.is_closed)
                    break
                if result.done():
                    break
                if sum(live.working for live in rt.engine._live) > len(HUNG):
                    await asyncio.sleep(0)
                    continue
                seconds = next_timer_seconds(clock)
                assert seconds is not None, f"nothing will ever happen again; the run is {await run.status()}"
                clock.advance(seconds)
        try:
            return await soon(result)
        except HoldfastError:
            if log.crashed:
                return None
            raise
    finally:
        result.cancel()


async def live(folder: Folder, log: CrashLog, start: Callable[[Runtime], Awaitable[Run[T]]]) -> T | None:
    """One life: open the folder, start the run or join it; returns its result, or None after a crash."""
    try:
        rt = await folder.open(wrap_log=log.wrap)
        run = await start(rt)
        found = await play_life(rt, folder.clock, run, log)
        if found is not None:
            await settle(rt)
    except HoldfastError:
        if not log.crashed:
            raise
        found = None
    if log.crashed and folder.rt is not None:
        last = folder.rt
        await until(lambda: last.is_closed)
    await folder.end()
    await turns()  # bodies that a dead process would not have any more
    return found


def crash_points() -> Iterator[tuple[int, bool]]:
    """Every commit, and whether it is on disk when the process dies.

    The caller stops when nothing crashes any more.
    """
    for commit in range(MAX_LIVES):
        yield commit, False
        yield commit, True
    raise AssertionError("the workflow never ends")
