"""Who makes batches durable: a thread beside the loop, or whatever stands in its place.

Step 6 of a call.  Group commit hands over one batch at a time and hears what became of it in the loop.  The
thread is how a runtime works; a simulation commits in the loop itself, at a moment of its own choice.

    group commit --hand_over--> writer --commit_batch--> commit log
                 <--committed---

Promises
  * `committed` is called in the loop, once for each batch that was handed over, in the order of the batches.
  * The hand-shake: `hand_over` returns when the writer needs the interpreter no more for the puts of the
    batch (about 1 us a put).  A busy loop would starve the thread without end otherwise.
  * The same after the commit: a loop whose callbacks never wait and take 20 us each gives the interpreter
    away and takes it back before the thread has woken.  So when a commit takes longer than usual, the loop
    stands still for a moment (`LEND_SECONDS`) and lets the thread have it.  A loop that knows its rounds to
    be slow asks for that itself (`wait`).
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from .commit_log import CommitLog, CommitOutcome, CommitResult, Space
from .errors import StorageFailed

if TYPE_CHECKING:
    from .group_commit import Batch

# How long the loop stands still for a commit that is late: a thread wakes within 0.06 ms and needs 0.05 ms.
LEND_SECONDS: Final = 200e-6
# The most that `wait` stands still.
MAX_WAIT_SECONDS: Final = 1e-3
# A commit is late after so many times what the fastest of late took.
_LATE_FACTOR: Final = 1.5
# What the fastest took is forgotten by this share with each commit.
_FORGET: Final = 0.05
# Timers are late by a millisecond.  After the interpreter was all that a commit waited for, so many commits
# are looked after in every round of the loop, which comes round in no time then.
_WATCHED_COMMITS: Final = 16

# Batch, what became of it, and the room that is left (None where nobody knows).
Committed: TypeAlias = "Callable[[Batch, CommitResult, Space | None], None]"


class CommitWriter(Protocol):
    """Takes batches and makes them durable, one at a time."""

    def hand_over(self, batch: Batch) -> None:
        """Begin to commit a batch; the one before it came back already."""
        ...

    def wait(self) -> None:
        """Stand still for the batch that was handed over, if it will be back in a moment.

        `committed` may be called by that.
        """
        ...

    def stop(self) -> None:
        """Take nothing more; the batch under way ends first.  Harmless when it stopped already."""
        ...


MakeWriter: TypeAlias = Callable[[CommitLog, Committed], CommitWriter]


class ThreadWriter:
    """Commits on a thread of its own, so that the loop goes on while the disk syncs."""

    def __init__(self, log: CommitLog, committed: Committed) -> None:
        """Start the thread; made in the running loop that hears of the commits."""
        self._log = log
        self._committed = committed
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._puts_are_in = threading.Lock()
        self._puts_are_in.acquire()
        # Held while a commit is out.
        self._posted = threading.Lock()
        self._posted.acquire()
        # A batch that came back and that the loop hasn't heard of yet.
        self._back: tuple[Batch, CommitResult, Space | None] | None = None
        self._usual_seconds = 0.0
        self._watched_commits = 0
        # What lends the interpreter to the commit that is out, once that is late.
        self._lending: asyncio.Handle | None = None
        self.thread = threading.Thread(target=self._write, name="holdfast-writer", daemon=True)
        self.thread.start()

    def hand_over(self, batch: Batch) -> None:
        """See `CommitWriter`."""
        self._inbox.put(batch)
        self._puts_are_in.acquire()  # the hand-shake
        late_seconds = _LATE_FACTOR * self._usual_seconds
        if self._watched_commits:
            self._watched_commits -= 1
            self._lending = self._loop.call_soon(self._watch, time.perf_counter() + late_seconds)
        else:
            self._lend_after(late_seconds + LEND_SECONDS)

    def wait(self) -> None:
        """See `CommitWriter`."""
        if self._posted.acquire(
            timeout=min(_LATE_FACTOR * self._usual_seconds + LEND_SECONDS, MAX_WAIT_SECONDS)
        ):
            self._posted.release()
            self._came_back()

    def stop(self) -> None:
        """See `CommitWriter`."""
        if self._lending is not None:
            self._lending.cancel()
        if self.thread.is_alive():
            self._inbox.put(None)
            self.thread.join()

    def _watch(self, late_at: float) -> None:
        if time.perf_counter() < late_at:
            self._lending = self._loop.call_soon(self._watch, late_at)
        else:
            self._lend(LEND_SECONDS)

    def _lend_after(self, seconds: float) -> None:
        self._lending = self._loop.call_later(seconds, self._lend, 2 * seconds)

    def _lend(self, next_seconds: float) -> None:
        """Let the thread have the interpreter; perhaps that is all it waits for.  If not, again later."""
        if self._posted.acquire(timeout=LEND_SECONDS):
            self._posted.release()
            self._watched_commits = _WATCHED_COMMITS
        else:
            self._lend_after(next_seconds)

    def _came_back(self) -> None:
        back, self._back = self._back, None
        if back is None:
            return  # the loop waited for it, and then it was heard already
        self._posted.acquire()
        if self._lending is not None:
            self._lending.cancel()
        self._committed(*back)

    def _write(self) -> None:
        began = 0.0

        def puts_are_in() -> None:
            nonlocal began
            began = time.perf_counter()
            self._puts_are_in.release()

        while (batch := self._inbox.get()) is not None:
            result, space = commit_batch(self._log, batch, puts_are_in)
            took = time.perf_counter() - began
            self._usual_seconds = min(took, self._usual_seconds * (1 + _FORGET)) or took
            self._back = (batch, result, space)
            try:
                self._loop.call_soon_threadsafe(self._came_back)
            except RuntimeError:
                return  # the loop was closed without closing the runtime; nobody is left to tell
            finally:
                self._posted.release()
            # Its writes, and what its callbacks hold, must not stay in memory until the next commit comes.
            del batch, result, space


def commit_batch(
    log: CommitLog, batch: Batch, puts_are_in: Callable[[], None]
) -> tuple[CommitResult, Space | None]:
    """Commit a batch; `puts_are_in` is called once, whatever becomes of it."""
    handed_back = False

    def staged() -> None:
        nonlocal handed_back
        if not handed_back:
            handed_back = True
            puts_are_in()

    space: Space | None = None
    try:
        result = log.commit(batch.writes, staged)
    except BaseException as mistake:  # ours: the log must say what happened, so nothing is known now
        failure = StorageFailed(f"the commit log broke: {mistake!r}")
        failure.__cause__ = mistake
        result = CommitResult(CommitOutcome.UNKNOWN, failure)
    finally:
        staged()
    if result.outcome is CommitOutcome.DURABLE:
        try:
            space = log.space()
        except Exception:  # not knowing the room is no reason to doubt a durable commit
            space = None
    return result, space
