"""Who makes batches durable: a thread beside the loop, or whatever stands in its place.

Step 6 of a call.  Group commit hands over one batch at a time and hears what became of it in the loop.  The
thread is how a runtime works; a simulation commits in the loop itself, at a moment of its own choice.

    group commit --hand_over--> writer --commit_batch--> commit log
                 <--committed---

Promises
  * `committed` is called in the loop, once for each batch that was handed over, in the order of the batches.
  * The hand-shake: `hand_over` returns when the writer needs the interpreter no more for the puts of the
    batch (about 1 us a put).  A busy loop would starve the thread without end otherwise.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from .commit_log import CommitLog, CommitResult, Outcome, Space
from .errors import StorageFailed

if TYPE_CHECKING:
    from .group_commit import Batch

# Batch, what became of it, and the room that is left (None where nobody knows).
Committed: TypeAlias = "Callable[[Batch, CommitResult, Space | None], None]"


class CommitWriter(Protocol):
    """Takes batches and makes them durable, one at a time."""

    def hand_over(self, batch: Batch) -> None:
        """Begin to commit a batch; the one before it came back already."""
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
        self.thread = threading.Thread(target=self._write, name="holdfast-writer", daemon=True)
        self.thread.start()

    def hand_over(self, batch: Batch) -> None:
        """See `CommitWriter`."""
        self._inbox.put(batch)
        self._puts_are_in.acquire()  # the hand-shake

    def stop(self) -> None:
        """See `CommitWriter`."""
        if self.thread.is_alive():
            self._inbox.put(None)
            self.thread.join()

    def _write(self) -> None:
        while (batch := self._inbox.get()) is not None:
            result, space = commit_batch(self._log, batch, self._puts_are_in.release)
            try:
                self._loop.call_soon_threadsafe(self._committed, batch, result, space)
            except RuntimeError:
                return  # the loop was closed without closing the runtime; nobody is left to tell
            # Its writes, and what its callbacks hold, must not stay in memory until the next commit comes.
            del batch


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
        result = CommitResult(Outcome.UNKNOWN, failure)
    finally:
        staged()
    if result.outcome is Outcome.DURABLE:
        try:
            space = log.space()
        except Exception:  # not knowing the room is no reason to doubt a durable commit
            space = None
    return result, space
