"""What the tests of workflows share: runtimes on one folder, crashes, and waiting without sleeping."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from holdfast import Limits, Runtime
from holdfast.actors.handle import Run
from holdfast.actors.workflow.head import RunStatus
from holdfast.actors.workflow.live_run import LiveRun
from holdfast.runtime.clock import ManualClock
from holdfast.storage import layout
from holdfast.storage.commit_log import CommitLog, CommitOutcome, CommitResult, Space
from holdfast.storage.errors import StorageClosed, StorageFailed
from holdfast.storage.keys import decode_number

T = TypeVar("T")
WAIT_SECONDS = 20.0  # only met when a test fails


async def turns(count: int = 10) -> None:
    """Let the loop run all that is ready, a few times over."""
    for _ in range(count):
        await asyncio.sleep(0)


async def settle(rt: Runtime) -> None:
    """Return when all that was staged is decided and nothing more comes of it."""
    still = 0
    while still < 2 and not rt.is_closed:
        newest = rt.store.newest
        if newest > rt.store.durable:
            try:
                await rt.store.wait_durable(newest)
            except (StorageFailed, StorageClosed):
                pass
        await turns(6)
        still = still + 1 if rt.store.newest == newest else 0


async def until(condition: Callable[[], bool], what: str = "it") -> None:
    """Return once `condition` holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.001)
    assert condition(), what


async def until_status(run: Run[T], *statuses: RunStatus) -> RunStatus:
    """Return once the run has one of these statuses."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (status := await run.status()) not in statuses:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.001)
    return status


async def soon(work: Awaitable[T]) -> T:
    """The result of work that must come by itself."""
    async with asyncio.timeout(WAIT_SECONDS):
        return await work


async def crash(rt: Runtime) -> None:
    """What a dying process leaves: the folder as it is on disk; nothing is cleaned up or written any more."""
    rt.store.abandon(StorageClosed("the test let the process die"))
    rt._stop_parts()
    rt._end()
    await turns()  # bodies that a dead process would not have any more


def next_timer_seconds(clock: ManualClock) -> float | None:
    """Seconds until the clock's next timer."""
    live = [due_us for due_us, _, timer in clock._timers if not timer.cancelled]
    return None if not live else max(0, min(live) - clock._elapsed_us) / 1e6


async def pass_time(rt: Runtime, clock: ManualClock, seconds: float, step: float = 1.0) -> None:
    """Let time pass second by second (or in other steps), with all that it brings."""
    await settle(rt)
    while seconds > 0:
        clock.advance(min(step, seconds))
        seconds -= step
        await settle(rt)


async def play(rt: Runtime, clock: ManualClock, run: Run[T], most_seconds: float = 100_000) -> T:
    """The result of a run, with time going from timer to timer as soon as nothing else is to do."""
    result = asyncio.ensure_future(run.result())
    try:
        spent = 0.0
        while not result.done() and spent <= most_seconds:
            await settle(rt)
            if result.done() or rt.is_closed:
                break
            seconds = next_timer_seconds(clock)
            assert seconds is not None, "nothing will ever happen again"
            clock.advance(seconds)
            spent += seconds
        assert result.done() or rt.is_closed, f"run {run.id} is still {await run.status()}"
        return await soon(result)
    finally:
        result.cancel()


def rows(rt: Runtime, kind: bytes) -> list[bytes]:
    """Keys of all actors' rows of a kind, for instance `layout.REPLY`."""
    found: list[bytes] = []
    for key, _ in rt.store.scan_prefix(layout.DATA):
        _, end = decode_number(key, 1)
        if key[end : end + 1] == kind:
            found.append(key)
    return found


def live_runs() -> int:
    """Runs of this event loop that are in memory, whoever holds them."""
    gc.collect()
    loop = asyncio.get_running_loop()
    found = [one for one in gc.get_objects() if isinstance(one, LiveRun)]
    # What a simulated process left behind when it died has no runtime any more.
    systems = [getattr(run.engine, "system", None) for run in found]
    return sum(system is not None and system.loop is loop for system in systems)


class CrashLog:
    """A commit log that dies with the process after so many commits.

    Give it to `Runtime(path, wrap_log=CrashLog(3).wrap)`.
    The commit that dies may be on disk already (`kept`); nobody is told of it in either case.
    """

    def __init__(self, commits_left: int | None, *, kept: bool = False) -> None:
        self.commits_left = commits_left
        self.kept = kept
        self.crashed = False
        self.commits = 0
        self._log: CommitLog | None = None

    def wrap(self, log: CommitLog) -> CommitLog:
        self._log = log
        return self

    def commit(self, writes: Mapping[bytes, bytes | None], staged: Callable[[], None]) -> CommitResult:
        assert self._log is not None
        if self.commits_left is not None:
            if self.commits_left == 0:
                self.crashed = True
                if self.kept:
                    self._log.commit(writes, staged)
                staged()
                return CommitResult(CommitOutcome.UNKNOWN, StorageFailed("the test let the process die"))
            self.commits_left -= 1
        self.commits += 1
        return self._log.commit(writes, staged)

    def space(self) -> Space:
        assert self._log is not None
        return self._log.space()


class Folder:
    """One folder, opened again and again; the clock goes on."""

    def __init__(self, path: Path, clock: ManualClock) -> None:
        self.path = path
        self.clock = clock
        self.rt: Runtime | None = None

    async def open(
        self,
        *,
        max_running: int = 10_000,
        limits: Limits | None = None,
        wrap_log: Callable[[CommitLog], CommitLog] | None = None,
        deps: tuple[object, ...] = (),
    ) -> Runtime:
        """Open it; what was open before must be closed or crashed."""
        rt = Runtime(
            self.path,
            clock=self.clock,
            seed=1,
            max_running=max_running,
            limits=limits or Limits(stall_seconds=None),
            wrap_log=wrap_log,
            min_free_bytes=0,
            deps=deps,
            switch_interval_seconds=None,
        )
        await rt.open()
        self.rt = rt
        return rt

    async def crash(self) -> None:
        """Let the process die."""
        assert self.rt is not None
        await crash(self.rt)

    async def reopen(self, *, max_running: int = 10_000, limits: Limits | None = None) -> Runtime:
        """Crash, and open again."""
        await self.crash()
        return await self.open(max_running=max_running, limits=limits)

    async def end(self) -> None:
        """Close what is still open."""
        if self.rt is not None and not self.rt.is_closed:
            await self.rt.close()
