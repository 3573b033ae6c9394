"""Group commit: the write sets that arrive while the writer is busy become the next commit.

Steps 5 to 7 of a call.  A turn stages its write set and gets a number; whoever must not go on before it is
durable waits for that number.  There is no timer: a commit starts as soon as the one before is done and
something is staged.

    gathering --(the loop comes round)--> in flight --(the writer)--> durable
            \\--(full)--> in a row -------^          \\--> failed, with all that was staged behind it

Promises
  * Commits are ordered, so "n is durable" means that everything before n is.
  * A write set is never split over two commits.
  * A failed commit is never acknowledged: it and all that was staged behind it fail together (P9).  Their
    numbers are never used again.
  * Reads see what is staged at once (`layers`).

Who makes a batch durable is the writer's business (commit_writer.py): a thread, most often.  The loop waits
until the puts of the batch are in (`max_batch_puts` bounds the wait) and goes on while the disk syncs.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from .commit_log import CommitLog, CommitOutcome, CommitResult, Space
from .commit_writer import MakeWriter, ThreadWriter
from .errors import Overloaded, StorageClosed, StorageError, StorageFailed, fresh
from .histogram import BYTES, COUNTS, SECONDS, Buckets

DurableCallback: TypeAlias = Callable[[StorageFailed | None], None]
Writes: TypeAlias = dict[bytes, bytes | None]

# 4 000 puts hold the loop about 5 ms; fewer would split the work of 1000 runs in flight over more flushes.
MAX_BATCH_PUTS: Final = 4_000
MAX_BATCH_BYTES: Final = 16 << 20
# With so many puts gathered and the writer idle a commit leaves at once, not only when the loop comes round:
# a thousand tasks that one commit woke then don't all wait for the next one, and the disk works while the
# later ones run.
EAGER_PUTS: Final = 1_000
# A round of the loop that takes longer is slow: others fill it.
SLOW_ROUND_SECONDS: Final = 1.25e-3
MAX_STAGED_BYTES: Final = 256 << 20


class Batch:
    """The write sets of one commit, merged; the later write to a key wins."""

    __slots__ = ("callbacks", "number", "size_bytes", "waiters", "writes")

    def __init__(self, number: int) -> None:
        self.number = number
        self.writes: Writes = {}
        self.size_bytes = 0
        # One future for each who waits, not one for all: cancelling a task cancels the very future that it
        # awaits.
        self.waiters: list[asyncio.Future[None]] = []
        self.callbacks: list[DurableCallback] = []


class CommitCounts:
    """What the commits of one store were like, for metrics; nothing is decided by it."""

    __slots__ = ("bytes", "failed", "puts", "refused", "seconds", "waiters")

    def __init__(self) -> None:
        # From leaving for the writer until the loop hears of it; durable ones alone, as in the next three.
        self.seconds = Buckets(SECONDS)
        self.puts = Buckets(COUNTS)
        self.bytes = Buckets(BYTES)
        # Those that stood at the gate.
        self.waiters = 0
        self.failed = 0
        # Write sets for which too much waited already.
        self.refused = 0


class GroupCommit:
    """Gathers write sets and makes them durable in order.  All methods belong to the loop's thread."""

    def __init__(
        self,
        log: CommitLog,
        *,
        last_number: int,
        seal: Callable[[Batch], None],
        on_failed: Callable[[int, StorageFailed], None],
        on_broken: Callable[[StorageError], None],
        on_space: Callable[[Space], None],
        make_writer: MakeWriter = ThreadWriter,
        max_batch_puts: int = MAX_BATCH_PUTS,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_staged_bytes: int = MAX_STAGED_BYTES,
    ) -> None:
        """Start the writer; `close` or `abandon` ends it.

        last_number   the newest commit that is durable already
        seal          adds the batch's own records just before it leaves
        on_failed     called with (first failed commit number, error) before any waiter hears
        on_broken     called once when nothing can be committed any more
        on_space      called with the room after each durable commit
        make_writer   makes what commits the batches
        """
        # Newest durable commit.  Numbers up to it are durable unless they lie in a failed range.
        self.durable = last_number
        self.commits = 0
        self.counts = CommitCounts()
        self._left_at = 0.0
        self._seal = seal
        self._on_failed = on_failed
        self._on_broken = on_broken
        self._on_space = on_space
        self._max_batch_puts = max_batch_puts
        self._max_batch_bytes = max_batch_bytes
        self.max_staged_bytes = max_staged_bytes
        self._loop = asyncio.get_running_loop()
        self._gathering = Batch(last_number + 1)
        # Batches that take no more and wait until the writer is free, oldest first.
        self._full: deque[Batch] = deque()
        self._in_flight: Batch | None = None
        # Bytes that wait for the disk, in all batches that are not durable yet.
        self.staged_bytes = 0
        self._pump_scheduled = False
        self._pump_asked_at = 0.0
        # Ranges of numbers (first, last) that failed, in order, and why.
        self._failed: list[tuple[int, int, StorageFailed]] = []
        # Set for good once nothing can be committed any more.
        self._broken: StorageError | None = None
        self._writer = make_writer(log, self._committed)

    # -- staging -------------------------------------------------------------------------------------------

    def stage(
        self, writes: Mapping[bytes, bytes | None], *, bounded: bool = True, value_bytes: int | None = None
    ) -> int:
        """Add a write set to the next commit and return that commit's number.

        Raises `Overloaded` when more than `max_staged_bytes` wait for the disk (unless `bounded` is False),
        and the lasting reason once the store is broken or closed.
        """
        if self._broken is not None:
            raise fresh(self._broken)
        puts = len(writes)
        if not puts:
            return self.newest
        if value_bytes is None:
            value_bytes = size_of(writes)
        size = value_bytes + 64 * puts  # the keys, roughly
        staged_bytes = self.staged_bytes + size
        if bounded and staged_bytes > self.max_staged_bytes:
            self.counts.refused += 1
            raise Overloaded(
                f"{self.staged_bytes} bytes wait for the disk and {size} more would pass max_staged_bytes="
                f"{self.max_staged_bytes}; try again later"
            )
        batch = self._gathering
        merged = batch.writes
        puts += len(merged)
        if merged and (puts > self._max_batch_puts or batch.size_bytes + size > self._max_batch_bytes):
            self._full.append(batch)
            batch = self._gathering = Batch(batch.number + 1)
            merged = batch.writes
        merged.update(writes)
        batch.size_bytes += size
        self.staged_bytes = staged_bytes
        if self._in_flight is None:
            if puts >= EAGER_PUTS:
                self._pump()
            elif not self._pump_scheduled:
                self._pump_soon()
        return batch.number

    @property
    def newest(self) -> int:
        """The commit that an empty write set rests on: the newest undecided one, else the last one."""
        if self._gathering.writes:
            return self._gathering.number
        pending = self._full[-1] if self._full else self._in_flight
        return self.durable if pending is None else pending.number

    @property
    def last_sealed(self) -> int:
        """The newest commit that has left; the next one still takes writes."""
        return self.durable if self._in_flight is None else self._in_flight.number

    def layers(self) -> list[Writes]:
        """What is staged and not yet durable, the newest writes first."""
        layers = [self._gathering.writes]
        if self._full:
            layers.extend(batch.writes for batch in reversed(self._full))
        if self._in_flight is not None:
            layers.append(self._in_flight.writes)
        return layers

    def find(self, key: bytes, missing: bytes | None) -> bytes | None:
        """The staged value of `key` (None for a staged delete), or `missing` when nothing is staged."""
        writes = self._gathering.writes
        if key in writes:
            return writes[key]
        for batch in reversed(self._full):
            if key in batch.writes:
                return batch.writes[key]
        in_flight = self._in_flight
        if in_flight is not None and key in in_flight.writes:
            return in_flight.writes[key]
        return missing

    # -- waiting -------------------------------------------------------------------------------------------

    async def wait_durable(self, number: int) -> None:
        """Return once commit `number` is durable; raises `StorageFailed` if it failed."""
        waiter = self.waiter(number)
        if waiter is not None:
            await waiter

    def waiter(self, number: int) -> asyncio.Future[None] | None:
        """What to await for commit `number`, for this caller alone; None when it is durable.

        Raises if it failed.
        """
        batch = self._gathering
        if number != batch.number or not batch.writes:
            pending = self._pending(number)
            if pending is None:
                if self._failed:
                    self.raise_if_failed(number)
                return None
            batch = pending
        future = self._loop.create_future()
        batch.waiters.append(future)
        return future

    def on_durable(self, number: int, callback: DurableCallback) -> None:
        """Call `callback(None)` once commit `number` is durable, `callback(error)` if it fails.

        That is at once when it is decided already.
        """
        batch = self._gathering
        if number == batch.number and batch.writes:
            batch.callbacks.append(callback)
            return
        pending = self._pending(number)
        if pending is None:
            callback(self.failure(number))
        else:
            pending.callbacks.append(callback)

    def failure(self, number: int) -> StorageFailed | None:
        """Why commit `number` failed; None when it did not (or is not decided)."""
        at = bisect_right(self._failed, number, key=_first_of) - 1
        if at >= 0:
            _, last, error = self._failed[at]
            if number <= last:
                return error
        return None

    def raise_if_failed(self, number: int) -> None:
        """Raise when commit `number` failed."""
        error = self.failure(number)
        if error is not None:
            raise fresh(error) from error

    def _pending(self, number: int) -> Batch | None:
        """The batch of an undecided commit; None when it is durable, failed or still empty."""
        if number <= self.durable:
            return None
        gathering = self._gathering
        if number == gathering.number:
            return gathering if gathering.writes else None
        in_flight = self._in_flight
        if in_flight is not None and in_flight.number == number:
            return in_flight
        for batch in self._full:
            if batch.number == number:
                return batch
        return None

    # -- the loop's side of a commit -----------------------------------------------------------------------

    def _pump_soon(self) -> None:
        self._pump_scheduled = True
        self._pump_asked_at = time.perf_counter()
        self._loop.call_soon(self._pump_in_turn)

    def _pump_in_turn(self) -> None:
        """The loop came round."""
        self._pump_scheduled = False
        self._pump()
        # Where a round takes that long, the outcome would be heard after one more, and a commit is a small
        # part of it.
        if self._in_flight is not None and time.perf_counter() - self._pump_asked_at > SLOW_ROUND_SECONDS:
            self._writer.wait()

    def _pump(self) -> None:
        if self._in_flight is not None or self._broken is not None:
            return
        if self._full:
            batch = self._full.popleft()
        elif self._gathering.writes:
            batch = self._gathering
            self._gathering = Batch(batch.number + 1)
        else:
            return
        self._seal(batch)
        self._in_flight = batch
        self._left_at = time.perf_counter()
        self._writer.hand_over(batch)

    def _committed(self, batch: Batch, result: CommitResult, space: Space | None) -> None:
        """A commit came back from the writer (called in the loop)."""
        self._in_flight = None
        if result.outcome is CommitOutcome.DURABLE:
            self.commits += 1
            self.durable = batch.number
            counts = self.counts
            counts.seconds.observe(time.perf_counter() - self._left_at)
            counts.puts.observe(len(batch.writes))
            counts.bytes.observe(batch.size_bytes)
            counts.waiters += len(batch.waiters)
            self.staged_bytes -= batch.size_bytes
            if space is not None:
                self._on_space(space)
            self._settle(batch, None)
        else:
            error = result.error or StorageFailed("the commit failed without a reason")
            if result.outcome is CommitOutcome.UNKNOWN:
                self._broken = StorageClosed(f"the store closed itself: {error}")
            self.counts.failed += 1
            self._fail_from(batch, error)
            if self._broken is not None:
                self._on_broken(self._broken)
        if (self._full or self._gathering.writes or batch.waiters) and not self._pump_scheduled:
            # After the tasks that were just woken, so that what they write at once is part of it; and in the
            # same round of the loop, since beside tasks that never wait a round may take 10 ms.
            self._pump_soon()

    def _fail_from(self, batch: Batch, error: StorageFailed) -> None:
        lost = [batch, *self._full, self._gathering]
        self._full.clear()
        self._gathering = Batch(lost[-1].number + 1)
        self._note_failed(batch.number, lost[-1].number, error)
        self.staged_bytes = 0
        try:
            self._on_failed(batch.number, error)
        except Exception as mistake:  # whoever waits must hear of the failure all the same
            self._report("on_failed raised", mistake)
        for one in lost:
            self._settle(one, error)

    def _note_failed(self, first: int, last: int, error: StorageFailed) -> None:
        # A disk that stays full fails commit after commit: one range for them all, so that the list stays
        # short.
        while self._failed and self._failed[-1][1] >= first - 1:
            first = min(first, self._failed.pop()[0])
        self._failed.append((first, last, error))

    def _settle(self, batch: Batch, error: StorageFailed | None) -> None:
        for future in batch.waiters:
            if not future.done():
                if error is None:
                    future.set_result(None)
                else:
                    future.set_exception(fresh(error))
        for callback in batch.callbacks:
            try:
                callback(error)
            except Exception as mistake:  # one waiter's mistake must not stop the commits of all
                self._report("a callback of a durable commit raised", mistake)

    def _report(self, message: str, mistake: Exception) -> None:
        self._loop.call_exception_handler({"message": message, "exception": mistake})

    async def close(self) -> None:
        """Make everything staged durable, then end the writer."""
        while self._broken is None and (self._in_flight is not None or self._full or self._gathering.writes):
            try:
                await self.wait_durable(self.newest)
            except StorageFailed:
                pass  # whoever waited for it was told; look whether more was staged since
        self.abandon(StorageClosed("the store is closed"))

    def abandon(self, reason: StorageError) -> None:
        """Commit nothing more and end the writer; what is staged fails.

        The commit that is under way ends first; who waits for it hears of it when the loop runs on.
        """
        if self._broken is None:
            self._broken = reason
        self._writer.stop()
        lost = [batch for batch in (*self._full, self._gathering) if batch.writes]
        if lost:
            error = StorageFailed(f"it was not durable yet when the store was closed: {reason}")
            self._full.clear()
            self._gathering = Batch(lost[-1].number + 1)
            self._note_failed(lost[0].number, lost[-1].number, error)
            for batch in lost:
                self._settle(batch, error)

    def die(self, reason: StorageError) -> None:
        """Commit nothing more and tell nobody, as in a killed process: for simulations."""
        self._broken = reason
        self._writer.stop()


def size_of(writes: Mapping[bytes, bytes | None]) -> int:
    """Bytes of the values of a write set."""
    # Most have two or three: `sum` of a generator would take twice as long.
    size = 0
    for value in writes.values():
        if value is not None:
            size += len(value)
    return size


def _first_of(failed: tuple[int, int, StorageFailed]) -> int:
    return failed[0]
