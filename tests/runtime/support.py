"""What the tests of the runtime share: a commit log held in the hand, and ways to wait without sleeping."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping

from holdfast.runtime.clock import ManualClock
from holdfast.runtime.system import ActorSystem
from holdfast.storage.commit_log import CommitLog, CommitOutcome, CommitResult, Space
from holdfast.storage.errors import StorageFailed

WAIT_SECONDS = 20.0  # only met when a test fails


class HeldLog:
    """A commit log that the test answers: `ActorSystem(path, wrap_log=log.wrap)`.

    Commits pass until `hold` is called; from then on each waits for `let`, `fail` or `lose_track`.
    """

    def __init__(self) -> None:
        self._log: CommitLog | None = None
        self._holding = False
        self._answers: queue.SimpleQueue[StorageFailed | CommitOutcome | None] = queue.SimpleQueue()
        self._arrivals = threading.Semaphore(0)
        self.commits: list[dict[bytes, bytes | None]] = []

    def wrap(self, log: CommitLog) -> CommitLog:
        self._log = log
        return self

    def hold(self) -> None:
        """Let no commit pass by itself any more."""
        self._holding = True

    def release(self) -> None:
        """Let all commits pass again, the one that waits too."""
        self._holding = False
        self._answers.put(None)

    async def arrived(self) -> None:
        """Return once a commit waits for its answer."""
        assert await asyncio.to_thread(self._arrivals.acquire, timeout=WAIT_SECONDS), "no commit came"

    def let(self) -> None:
        """Make the waiting commit durable."""
        self._answers.put(None)

    def fail(self, error: StorageFailed | None = None) -> None:
        """Answer that the waiting commit did not happen."""
        self._answers.put(error or StorageFailed("the test failed this commit"))

    def lose_track(self) -> None:
        """Answer that nobody knows what became of the waiting commit."""
        self._answers.put(CommitOutcome.UNKNOWN)

    def commit(self, writes: Mapping[bytes, bytes | None], staged: Callable[[], None]) -> CommitResult:
        assert self._log is not None
        if self._holding:
            staged()  # else the loop would stand still, and with it the test
            self.commits.append(dict(writes))
            self._arrivals.release()
            answer = self._answers.get(timeout=WAIT_SECONDS)
            if isinstance(answer, StorageFailed):
                return CommitResult(CommitOutcome.NOT_HAPPENED, answer)
            if answer is CommitOutcome.UNKNOWN:
                error = StorageFailed("the test lost track of this commit")
                return CommitResult(CommitOutcome.UNKNOWN, error)
        return self._log.commit(writes, staged)

    def space(self) -> Space:
        assert self._log is not None
        return self._log.space()


class FailingLog:
    """A commit log that fails so many of the next commits, by `fail_next`."""

    def __init__(self) -> None:
        self._log: CommitLog | None = None
        self.fail_next = 0
        self.error = StorageFailed("the test failed this commit")
        self.tries = 0

    def wrap(self, log: CommitLog) -> CommitLog:
        self._log = log
        return self

    def commit(self, writes: Mapping[bytes, bytes | None], staged: Callable[[], None]) -> CommitResult:
        assert self._log is not None
        self.tries += 1
        if self.fail_next:
            self.fail_next -= 1
            staged()
            return CommitResult(CommitOutcome.NOT_HAPPENED, self.error)
        return self._log.commit(writes, staged)

    def space(self) -> Space:
        assert self._log is not None
        return self._log.space()


async def turns(count: int = 10) -> None:
    """Let the loop run all that is ready, a few times over."""
    for _ in range(count):
        await asyncio.sleep(0)


async def quiet(system: ActorSystem) -> None:
    """Return when the runtime's own tasks have ended and all that was staged is decided."""
    for _ in range(3):
        while system._tasks or system.store.newest > system.store.durable:
            if system._tasks:
                await asyncio.wait(list(system._tasks))
            else:
                await system.store.wait_durable(system.store.newest)
        await turns(2)


async def pass_time(system: ActorSystem, seconds: float) -> None:
    """Move the clock of `system` on and let everything that is due then happen."""
    clock = system.clock
    assert isinstance(clock, ManualClock)
    clock.advance(seconds)
    for _ in range(3):
        await quiet(system)
        clock.advance(0)
    await quiet(system)


async def crash(system: ActorSystem) -> None:
    """End a runtime as a killed process does: nothing more is committed, nobody is told anything sensible."""
    system._store_broke(StorageFailed("the test pulled the plug"))
    await turns()
