"""The floor: a bare program that does what Holdfast's promises force, and nothing else.

It is the price nobody can go below in this language, on this disk, with this store.  Holdfast is measured
beside it; the ratio of the two is what the library itself costs.

What the promises force, and so what is done here
  * A turn is all or nothing: it writes into a dict of its own (found through a context variable, as code deep
    inside a turn finds it), and only a turn that ended well hands that dict on.
  * Values are encoded (msgspec MessagePack) and carry a checksum (crc32), since LMDB has none.  They are
    encoded at the end of the turn, not later: a value that cannot be encoded must fail the turn that made it.
  * What is acknowledged is on disk: every waiter waits for the commit that holds its writes.  LMDB runs with
    its default flags; a commit is two syncs.
  * A step starts when all before it is durable.  A run that exists is not started twice, and an event that is
    stored is not stored twice: both look before they write, in what is staged, in what is under way, and on
    disk.
  * A step's body is code outside the actors.  What it gets back from an actor is durable before it gets it
    (P3), and lies in the actor's commit under the call's id, so that a later attempt finds it (P6); the
    commit of the step's checkpoint deletes it.  So a step that calls an actor is two commits in a row.
    An actor call of `run()` itself is one: effect and checkpoint lie in one log.
  * A failed commit is never acknowledged, neither is anything behind it.
  * The loop goes on while the disk syncs: LMDB commits on a thread of its own, without the interpreter.

What is left out, since these workloads need it for no promise: a directory of actors and their eviction,
mailboxes, replay, retries, alarms, indexes, limits on a batch, types checked at the border, calls of actors
by steps, errors that help.  And cancellation: all waiters of a commit share one future here, so a cancelled
one would end the wait of all.  (A future for each waiter took a quarter off `steps`; `pipeline` was too noisy
to tell.)

Each function opens a folder, does its work with so many items in flight, closes the folder and returns a
``Sample``.  The folder stays and can be opened again with ``Floor``.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec

import lmdb
import msgspec

from .workload import Event, Receipt, Sample, Validated, drive, make_events, validate

P = ParamSpec("P")

# 16 GiB of address space; the file takes only what is written.
MAP_BYTES = 16 << 30

# 50 us: while a saturated loop holds the interpreter the writer thread gets it back only if it may ask for it
# more often than a loop turn lasts.  The default of 5 ms starves it, with the hand-shake as well as without.
SWITCH_INTERVAL_SECONDS = 50e-6

# ------------------------------------------------------------------------------------------------------------
# Values: crc32, then MessagePack.

_encode = msgspec.msgpack.Encoder().encode


def seal(value: object) -> bytes:
    """``value`` as it lies on disk."""
    payload = _encode(value)
    return zlib.crc32(payload).to_bytes(4, "little") + payload


def unseal(data: bytes) -> Any:
    """The value that ``seal`` was given, as plain Python data.  Raises ValueError if a bit has changed."""
    payload = data[4:]
    if zlib.crc32(payload) != int.from_bytes(data[:4], "little"):
        raise ValueError(f"checksum of a value of {len(payload)} bytes does not hold")
    return msgspec.msgpack.decode(payload)


# ------------------------------------------------------------------------------------------------------------
# The group commit.


class GroupCommit:
    """One LMDB folder, one writer thread; writes that arrive while it is busy become its next transaction.

    All methods but ``_write_batches`` run in the loop's thread.  At most one batch is under way, so commits
    are ordered and "this one is durable" means that all before it are.
    """

    def __init__(self, folder: Path, slow_sync_seconds: float = 0.0) -> None:
        self.commits = 0
        self.puts = 0
        self._loop = asyncio.get_running_loop()
        self._env = lmdb.open(str(folder), map_size=MAP_BYTES, lib_version=0)
        # A commit is two syncs.
        self._slow_commit_seconds = 2 * slow_sync_seconds
        # What the next commit will hold, and the future that everybody who rests on it shares.
        self._open: dict[bytes, bytes | None] = {}
        self._open_durable: asyncio.Future[None] = self._loop.create_future()
        # What the writer thread has in hand; empty when it is idle.  Kept so that reads see it.
        self._under_way: dict[bytes, bytes | None] = {}
        self._under_way_durable: asyncio.Future[None] | None = None
        # True from the moment a flush is asked for until the writer is idle and nothing is left to flush.
        self._busy = False
        # Once set, nothing more is written and everybody who waits gets it.
        self._failure: BaseException | None = None
        self._batches: queue.SimpleQueue[dict[bytes, bytes | None] | None] = queue.SimpleQueue()
        # The hand-shake: released by the writer when the puts of a batch are in.
        self._puts_are_in = threading.Semaphore(0)
        self._switch_interval_before = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        self._writer = threading.Thread(target=self._write_batches, name="floor-writer")
        self._writer.start()

    def get(self, key: bytes) -> bytes | None:
        """The newest value handed in for ``key``, durable or not."""
        value = self._open.get(key)
        if value is None:
            value = self._under_way.get(key)
        if value is None:
            # The snapshot lives for this line only: an old reader would keep LMDB from reusing pages.
            with self._env.begin() as transaction:
                value = transaction.get(key)
        return value

    def keys_behind(self, key: bytes, end: bytes, limit: int) -> list[bytes]:
        """The first keys on disk behind ``key`` and before ``end``; what is not durable yet is not among
        them.
        """
        found: list[bytes] = []
        with self._env.begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(key):
                for one in cursor.iternext(values=False):
                    if one >= end or len(found) == limit:
                        break
                    if one != key:
                        found.append(one)
        return found

    def append(self, writes: Mapping[bytes, bytes | None]) -> asyncio.Future[None]:
        """Take one turn's writes (None deletes) into the next commit; the future is done when they are on
        disk.
        """
        if self._failure is not None:
            raise self._failure
        self._open.update(writes)
        if not self._busy:
            self._busy = True
            # Not at once: the turns that are ready to run in this round of the loop join the same commit.
            self._loop.call_soon(self._flush)
        return self._open_durable

    async def close(self) -> None:
        """Wait for what was handed in, then end the writer and close the folder."""
        while self._busy and self._failure is None:
            await asyncio.wait([self._under_way_durable or self._open_durable])
        self._batches.put(None)
        self._writer.join()
        self._env.close()
        sys.setswitchinterval(self._switch_interval_before)

    def _flush(self) -> None:
        """Hand the open batch to the writer, and stand still until its puts are in (about 1 us a put).

        Standing still looks wasteful and is the opposite: each put lets go of the interpreter, and if the
        loop ran on the writer would have to win it back from the loop once a put.
        """
        self._under_way, self._open = self._open, {}
        self._under_way_durable, self._open_durable = self._open_durable, self._loop.create_future()
        self._batches.put(self._under_way)
        self._puts_are_in.acquire()

    def _write_batches(self) -> None:
        """The writer thread: put, let the loop go on, commit without the interpreter, post the outcome."""
        while (batch := self._batches.get()) is not None:
            failure: BaseException | None = None
            shaken = False
            transaction = None
            try:
                transaction = self._env.begin(write=True)
                put = transaction.put
                # Sorted: neighbours fall into the same page, which is then touched once while it is hot.
                for key in sorted(batch):
                    value = batch[key]
                    if value is None:
                        transaction.delete(key)
                    else:
                        put(key, value)
                shaken = True
                self._puts_are_in.release()
                if self._slow_commit_seconds:
                    time.sleep(self._slow_commit_seconds)
                transaction.commit()
            except BaseException as error:
                failure = error
                if transaction is not None:
                    transaction.abort()
            if not shaken:
                self._puts_are_in.release()
            self._loop.call_soon_threadsafe(self._land, failure)

    def _land(self, failure: BaseException | None) -> None:
        """A commit came back: wake its waiters, and flush what has gathered meanwhile."""
        durable = self._under_way_durable
        assert durable is not None, "a commit came back that nobody had handed over"
        self.commits += 1
        self.puts += len(self._under_way)
        self._under_way, self._under_way_durable = {}, None
        if failure is not None:
            self._fail(durable, failure)
            return
        durable.set_result(None)
        if self._open:
            # After the waiters just woken: what they write now, on waking, joins the same commit.
            self._loop.call_soon(self._flush)
        else:
            self._busy = False

    def _fail(self, durable: asyncio.Future[None], failure: BaseException) -> None:
        """For good: an fsync that failed may not be repeated and believed."""
        self._failure = failure
        for future in (durable, self._open_durable):
            future.set_exception(failure)
            future.exception()  # Asked for here, so that a commit nobody waited for makes no noise.


# ------------------------------------------------------------------------------------------------------------
# Turns.

_turn: ContextVar[dict[bytes, object]] = ContextVar("floor_turn")

# Staged in place of a value, it deletes.
GONE = object()


def stage(key: bytes, value: object) -> None:
    """Write ``value`` in the current turn."""
    _turn.get()[key] = value


class Floor:
    """An open folder and the one way to change it: ``turn``."""

    def __init__(self, folder: Path, slow_sync_seconds: float = 0.0) -> None:
        self.log = GroupCommit(folder, slow_sync_seconds)
        # Counters are kept decoded, as the fields of a live actor are.  Rows and runs are not kept: memory
        # follows what is in flight.
        self._counters: dict[bytes, int] = {}

    async def __aenter__(self) -> Floor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.log.close()

    def turn(self, act: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[None]:
        """Run ``act``; all that it staged goes into one commit, or nothing does if it raises.

        Returns the future of that commit.
        """
        staged: dict[bytes, object] = {}
        token = _turn.set(staged)
        try:
            act(*args, **kwargs)
            writes = {key: None if value is GONE else seal(value) for key, value in staged.items()}
        finally:
            _turn.reset(token)
        durable = self.log.append(writes)
        # Last: a turn that failed anywhere above has left the memory as it was.
        for key, value in staged.items():
            if key in self._counters:
                self._counters[key] = value  # type: ignore[assignment]
        return durable

    def count(self, key: bytes) -> int:
        """The value of a counter, with what is staged and not yet durable; 0 for a new one."""
        value = self._counters.get(key)
        if value is None:
            stored = self.log.get(key)
            value = self._counters[key] = 0 if stored is None else unseal(stored)
        return value

    def increment(self, key: bytes, by: int = 1) -> None:
        """Add to a counter, in the current turn."""
        stage(key, self.count(key) + by)

    def exists(self, key: bytes) -> bool:
        """Whether something was ever stored under ``key``."""
        return self.log.get(key) is not None


# ------------------------------------------------------------------------------------------------------------
# Runs: a head record, and one checkpoint per step.


class Head(msgspec.Struct, frozen=True):
    """The record of a run: put when it starts, put again when it is done."""

    workflow: str
    status: str
    input: object
    result: object
    created_at: float
    ended_at: float | None


def head_key(run_id: str) -> bytes:
    """Where the head of a run lies."""
    return b"r/" + run_id.encode()


def step_key(run_id: str, number: int) -> bytes:
    """Where the checkpoint of a run's step lies."""
    return b"j/%b/%04d" % (run_id.encode(), number)


def row_key(event_id: str) -> bytes:
    """Where the row of an event lies."""
    return b"e/" + event_id.encode()


def counter_key(name: str) -> bytes:
    """Where a counter lies."""
    return b"c/" + name.encode()


EVENTS_COUNTER = counter_key("events")
AMOUNT_COUNTER = counter_key("amount")
LAST_EVENT_STAMP = b"m/last_event_at"


def start_run(floor: Floor, workflow: str, run_id: str, input: object) -> Head:
    """A turn's body: the start of a run that must not exist yet."""
    key = head_key(run_id)
    if floor.exists(key):
        raise ValueError(f"run {run_id} was started before")
    head = Head(workflow, "running", input, None, time.time(), None)
    stage(key, head)
    return head


def end_run(run_id: str, head: Head, result: object) -> None:
    """A turn's body: the end of a run."""
    stage(head_key(run_id), Head(head.workflow, "complete", head.input, result, head.created_at, time.time()))


def reply_key(run_id: str, number: int) -> bytes:
    """Where the reply to the call that a run's step made lies until the step's checkpoint."""
    return b"p/%b/%04d" % (run_id.encode(), number)


class PipelineRun:
    """One event on its way: validate, store, count; each step is durable before the next one starts.

    Store and count are actor calls of the run itself.
    """

    __slots__ = ("event", "floor", "head", "run_id", "stored")

    def __init__(self, floor: Floor, event: Event) -> None:
        self.floor = floor
        self.event = event
        self.run_id = event.event_id
        self.stored = False

    async def go(self) -> Receipt:
        """The whole run: four durable waits."""
        turn = self.floor.turn
        await turn(self.start)
        validated = await self.validate()
        await turn(self.checkpoint_validate, validated)
        await turn(self.store)
        receipt = Receipt(self.event.event_id, self.stored, validated.amount)
        await turn(self.count, receipt)
        return receipt

    def start(self) -> None:
        """Turn 1: the run exists."""
        self.head = start_run(self.floor, "pipeline", self.run_id, self.event)

    async def validate(self) -> Validated:
        """The body of step 1; outside code, so no turn."""
        return validate(self.event)

    def checkpoint_validate(self, validated: Validated) -> None:
        """Turn 2: step 1 never runs again."""
        stage(step_key(self.run_id, 1), validated)

    def store(self) -> None:
        """Turn 3: the event's row, unless it is there already, and the checkpoint of step 2, together."""
        key = row_key(self.event.event_id)
        if not self.floor.exists(key):
            stage(key, self.event)
            self.stored = True
        stage(step_key(self.run_id, 2), self.stored)

    def count(self, receipt: Receipt) -> None:
        """Turn 4: two counters, a time stamp, the checkpoint of step 3 and the end of the run, together."""
        self.floor.increment(EVENTS_COUNTER)
        self.floor.increment(AMOUNT_COUNTER, receipt.amount)
        stage(LAST_EVENT_STAMP, time.time())
        stage(step_key(self.run_id, 3), None)
        end_run(self.run_id, self.head, receipt)


class PipelineOfStepsRun(PipelineRun):
    """The same with store and count as steps whose bodies call the actors."""

    __slots__ = ()

    async def go(self) -> Receipt:
        """The whole run: six durable waits."""
        turn = self.floor.turn
        await turn(self.start)
        validated = await self.validate()
        await turn(self.checkpoint_validate, validated)
        await turn(self.store_for_body)
        await turn(self.checkpoint_store)
        receipt = Receipt(self.event.event_id, self.stored, validated.amount)
        await turn(self.count_for_body, validated.amount)
        await turn(self.checkpoint_count, receipt)
        return receipt

    def store_for_body(self) -> None:
        """Turn 3: the event's row, unless it is there already, and the reply to the body of step 2."""
        key = row_key(self.event.event_id)
        if not self.floor.exists(key):
            stage(key, self.event)
            self.stored = True
        stage(reply_key(self.run_id, 2), self.stored)

    def checkpoint_store(self) -> None:
        """Turn 4: step 2 never runs again, so its call's reply is not needed any more."""
        stage(step_key(self.run_id, 2), self.stored)
        stage(reply_key(self.run_id, 2), GONE)

    def count_for_body(self, amount: int) -> None:
        """Turn 5: two counters, a time stamp, and the reply to the body of step 3."""
        self.floor.increment(EVENTS_COUNTER)
        self.floor.increment(AMOUNT_COUNTER, amount)
        stage(LAST_EVENT_STAMP, time.time())
        stage(reply_key(self.run_id, 3), None)

    def checkpoint_count(self, receipt: Receipt) -> None:
        """Turn 6: the checkpoint of step 3 and the end of the run, together."""
        stage(step_key(self.run_id, 3), None)
        stage(reply_key(self.run_id, 3), GONE)
        end_run(self.run_id, self.head, receipt)


async def trivial_step(number: int) -> int:
    """A step that costs nothing, so that only its checkpoint is measured."""
    return number


class StepsRun:
    """A run of trivial steps, each durable before the next one starts."""

    __slots__ = ("floor", "head", "run_id", "steps")

    def __init__(self, floor: Floor, run_id: str, steps: int) -> None:
        self.floor = floor
        self.run_id = run_id
        self.steps = steps

    async def go(self) -> int:
        """The whole run: one durable wait for the start and one for each step."""
        turn = self.floor.turn
        await turn(self.start)
        total = 0
        for number in range(1, self.steps):
            value = await trivial_step(number)
            await turn(self.checkpoint, number, value)
            total += value
        value = await trivial_step(self.steps)
        total += value
        await turn(self.checkpoint_and_end, value, total)
        return total

    def start(self) -> None:
        """The first turn: the run exists."""
        self.head = start_run(self.floor, "steps", self.run_id, self.steps)

    def checkpoint(self, number: int, value: int) -> None:
        """A turn for each step: it never runs again."""
        stage(step_key(self.run_id, number), value)

    def checkpoint_and_end(self, value: int, total: int) -> None:
        """The last turn: nothing stands between the last step and the end, so they share a commit."""
        stage(step_key(self.run_id, self.steps), value)
        end_run(self.run_id, self.head, total)


# ------------------------------------------------------------------------------------------------------------
# The four workloads.


async def pipeline(
    folder: Path,
    n_events: int,
    in_flight: int,
    *,
    slow_sync_seconds: float = 0.0,
    run: type[PipelineRun] = PipelineOfStepsRun,
) -> Sample:
    """One unit: an event, from before its run is started until its receipt is durable and in hand."""
    async with Floor(folder, slow_sync_seconds) as floor:
        return counted(floor, await process(floor, make_events(n_events), in_flight, run))


async def process(
    floor: Floor, events: list[Event], in_flight: int, run: type[PipelineRun] = PipelineOfStepsRun
) -> Sample:
    """The pipeline on an open folder."""
    return await drive(events, in_flight, lambda event: run(floor, event).go())


async def pipeline_by_calls(
    folder: Path, n_events: int, in_flight: int, *, slow_sync_seconds: float = 0.0
) -> Sample:
    """``pipeline`` with ``PipelineRun``."""
    return await pipeline(folder, n_events, in_flight, slow_sync_seconds=slow_sync_seconds, run=PipelineRun)


async def steps(
    folder: Path, runs: int = 1000, steps: int = 10, in_flight: int = 100, *, slow_sync_seconds: float = 0.0
) -> Sample:
    """One unit: a step.  A latency is that of a run of ``steps`` steps."""
    ids = [f"run-{n:08d}" for n in range(runs)]
    async with Floor(folder, slow_sync_seconds) as floor:

        def act(run_id: str) -> Awaitable[int]:
            return StepsRun(floor, run_id, steps).go()

        return counted(floor, await drive(ids, in_flight, act, units_per_item=steps))


async def counter(
    folder: Path, keys: int, callers: int, calls: int, *, slow_sync_seconds: float = 0.0
) -> Sample:
    """One unit: a durable increment.  Calls go to the keys in turn."""
    names = [counter_key(f"counter-{n:06d}") for n in range(keys)]
    async with Floor(folder, slow_sync_seconds) as floor:

        async def act(number: int) -> int:
            name = names[number % keys]
            durable = floor.turn(floor.increment, name)
            value = floor.count(name)
            await durable
            return value

        return counted(floor, await drive(range(calls), callers, act))


async def commit(
    folder: Path, writers: int, writes: int, value_bytes: int = 100, *, slow_sync_seconds: float = 0.0
) -> Sample:
    """One unit: a put of ``value_bytes`` bytes under a key of its own, awaited until durable."""
    value = bytes(value_bytes)
    async with Floor(folder, slow_sync_seconds) as floor:

        async def act(number: int) -> None:
            await floor.turn(stage, b"w/%08d" % number, value)

        return counted(floor, await drive(range(writes), writers, act))


def counted(floor: Floor, sample: Sample) -> Sample:
    """``sample`` with the floor's own counts.  A commit is two syncs; puts are those that reached LMDB."""
    sample.counts["commits"] = floor.log.commits
    sample.counts["puts"] = floor.log.puts
    return sample
