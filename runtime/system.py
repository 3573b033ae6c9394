"""The wiring of the runtime.

It makes the parts, opens and closes them, and is all that they know of each other.

    store <- directory (activations) <- refs
          <- alarm scheduler, expiry, watchdog, large writes, limited log, spare memory

`holdfast.Runtime` (actors/system.py) adds the workflow engine and the queues on top.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import threading
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, cast

from ..storage import layout
from ..storage.commit_log import CommitLog
from ..storage.errors import FolderInUse, StorageClosed, StorageError, StorageFailed
from ..storage.keys import Key, decode_key
from ..storage.store import MIN_FREE_BYTES, Store
from ..storage.table import Row, Table
from . import process_settings
from .actor import Actor
from .actor_type import ActorType
from .actor_types import ActorTypes
from .address import ActorKey, GivenKey, normal_key
from .alarm_scheduler import AlarmScheduler, DeadAlarm
from .chain import CALLER, Turn, turn_in_chain
from .clock import Clock, SystemClock, TimerHandle
from .counts import RuntimeCounts
from .deps import Deps
from .directory import Directory
from .errors import NotRunning
from .expiry import Expiry
from .large_writes import LargeWrites
from .limited_log import LimitedLog
from .limits import Limits
from .queries import find_by_fields, find_keys, open_shared_table
from .reader import Reader
from .ref import Ref
from .schemas import Schemas
from .spare_memory import SpareMemory
from .tracing import Tracing
from .watchdog import Watchdog

if TYPE_CHECKING:
    from .activation import Activation

_log = logging.getLogger("holdfast.runtime")
A = TypeVar("A", bound=Actor)
# The writer thread must get the interpreter between two turns of a busy loop: below the length of a turn, see
# commit_writer.py.
SWITCH_INTERVAL_SECONDS = 50e-6
# A thousand runs in flight are some 60 000 objects that the collector would go through again and again at
# Python's own threshold of 700, for a third of the time a run takes, and find nothing: ended turns and runs
# leave no rings.
GC_THRESHOLD = 200_000
# How soon a folder that is given back is taken.
FOLDER_POLL_SECONDS = 0.05


class ActorSystem:
    """Actors on one folder.  Use it as `async with`."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        deps: Iterable[object] = (),
        types: Iterable[type[Actor]] = (),
        clock: Clock | None = None,
        seed: int | None = None,
        limits: Limits | None = None,
        quota_bytes: int | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
        wrap_log: Callable[[CommitLog], CommitLog] | None = None,
        switch_interval_seconds: float | None = SWITCH_INTERVAL_SECONDS,
        gc_threshold: int | None = GC_THRESHOLD,
        make_store: Callable[..., Store] = Store,
        wait_for_folder_seconds: float = 0.0,
    ) -> None:
        """Nothing is touched before `async with` (or `open`).

        path            the folder; made when it isn't there
        deps            user objects for actors and steps, found by type in `runtime.deps`
        types           actor classes to use for their names, where several claim one name
        clock, seed     replace time and chance in tests
        limits          see `Limits`
        quota_bytes     most bytes of live pages; None for as much as the disk holds
        min_free_bytes  room left on the disk below which writes that grow the store are refused
        wrap_log        puts another commit log before LMDB's
        switch_interval_seconds   `sys.setswitchinterval` while the runtime is open (process-wide, put back on
                        close); None leaves it alone
        gc_threshold    new objects that start a run of the garbage collector, likewise; None leaves it alone
        make_store      opens the folder, with the arguments of `Store`
        wait_for_folder_seconds   how long `open` waits for a folder that is in use, as by a process that is
                        being replaced and still closes; 0: not at all
        """
        self.path = path
        self.deps = Deps(tuple(deps))
        self.clock: Clock = clock or SystemClock()
        self.random = random.Random(seed)  # jitter, not secrets
        self.limits = limits or Limits()
        self.limited_log = LimitedLog(self.clock)
        self.counts = RuntimeCounts()
        # Who traces, if anybody does.
        self.tracing: Tracing | None = None
        # When it was opened, in milliseconds since 1970.
        self.opened_ms = 0
        self.tick = 0
        # Commits that failed since the runtime was opened.
        self.failures = 0
        self.directory = Directory(self)
        self.scheduler = AlarmScheduler(self)
        self.expiry = Expiry(self)
        self.store: Store
        self.reader: Reader
        self.schemas: Schemas
        self.loop: asyncio.AbstractEventLoop
        self.thread_id: int
        self._given_types = tuple(types)
        self._quota_bytes = quota_bytes
        self._min_free_bytes = min_free_bytes
        self._wrap_log = wrap_log
        self._make_store = make_store
        self._wait_for_folder_seconds = wait_for_folder_seconds
        self._switch_interval_seconds = switch_interval_seconds
        self._gc_threshold = gc_threshold
        self.actor_types = ActorTypes(self, make=self._make_type, on_added=self._type_added)
        self._tasks: set[asyncio.Task[None]] = set()
        self._spare_memory = SpareMemory()
        self.large_writes = LargeWrites(self)
        self.watchdog: Watchdog | None = None
        self._tick_timer: TimerHandle | None = None
        # What gives the settings of the process back, for those that are held.
        self._held: list[Callable[[], None]] = []
        self._ended: asyncio.Future[None]
        self._state = "new"  # new -> opening -> open -> closing -> closed
        self._why_closed = ""

    # -- life -----------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the folder and start; raises `FolderInUse`, `FolderRefused`, `FormatRefused` or `Damaged`."""
        if self._state != "new":
            raise NotRunning(f"this runtime is {self._state}; make a new one to open {self.path} again")
        self.loop = asyncio.get_running_loop()
        self.thread_id = threading.get_ident()
        self._state = "opening"
        try:
            self.store = await self._open_store()
        except BaseException:
            self._state = "new"
            raise
        self.reader = Reader(self.store)
        self.opened_ms = self.clock.now_ms()
        self._state = "open"
        self._ended = self.loop.create_future()
        try:
            self._hold_settings()
            self.schemas = Schemas(self.store)
            for actor_class in self._given_types:
                self.type_of(actor_class)
            if self.limits.stall_seconds is not None:
                self.watchdog = Watchdog(self, self.limits.stall_seconds)
                self.watchdog.start()
            self._start_parts()
        except BaseException:
            await self.close()
            raise

    async def _open_store(self) -> Store:
        """The store, as soon as nobody else has the folder, within `wait_for_folder_seconds`."""
        until = self.loop.time() + self._wait_for_folder_seconds
        while True:
            try:
                return self._new_store()
            except FolderInUse:
                if self.loop.time() >= until:
                    raise
            # Nobody tells when a lock is free, but a thread that waits for it and can't be cancelled.
            await asyncio.sleep(min(FOLDER_POLL_SECONDS, max(until - self.loop.time(), 0)))

    def _new_store(self) -> Store:
        return self._make_store(
            self.path,
            quota_bytes=self._quota_bytes,
            min_free_bytes=self._min_free_bytes,
            wrap_log=self._wrap_log,
            on_failed=self._commit_failed,
            on_broken=self._store_broke,
            max_batch_puts=self.limits.max_batch_puts,
            max_batch_bytes=self.limits.max_batch_bytes,
            max_staged_bytes=self.limits.max_staged_bytes,
        )

    def _start_parts(self) -> None:
        self.scheduler.start()
        self.expiry.start()
        self._tick_later()

    def _hold_settings(self) -> None:
        if self._switch_interval_seconds is not None:
            process_settings.switch_interval.hold(self._switch_interval_seconds)
            self._held.append(
                partial(process_settings.switch_interval.release, self._switch_interval_seconds)
            )
        if self._gc_threshold is not None:
            process_settings.gc_threshold.hold(self._gc_threshold)
            self._held.append(partial(process_settings.gc_threshold.release, self._gc_threshold))

    async def close(self) -> None:
        """Let running turns end, make everything durable, give the folder back.

        A turn that doesn't end within `Limits.close_seconds` is given up: nothing of it is kept.  If somebody
        else closes it already, wait for that; if this is cancelled, close it at once.
        """
        if self._state in ("new", "opening"):
            return
        if not self.loop.is_closed():
            self.check_loop()
        if self._state != "open":
            if not self._ended.done() and not isinstance(CALLER.get(), Turn):  # a turn would be waited for
                await asyncio.wait((self._ended,))
            return
        self._state = "closing"
        try:
            await self._stop_consuming()
            self._stop_parts()
            await self._let_turns_end()
            # Whoever calls on and on would keep the store from ever having nothing more to write.
            self._state = "closed"
            self.directory.drop_all()
            await self.store.close()
        except BaseException:
            self._stop_parts()
            self.store.abandon(StorageClosed(f"the runtime on {self.path} was closed in a hurry"))
            raise
        finally:
            self._end()

    async def _stop_consuming(self) -> None:
        """For the layer above: take in nothing more, while everything still serves."""

    async def _let_turns_end(self) -> None:
        # A turn that closes its own runtime must not wait for itself.
        caller = CALLER.get()
        mine = caller if isinstance(caller, Turn) else None
        barriers = {
            activation.when_free()
            for activation in self.directory.busy()
            if turn_in_chain(mine, activation) is None
        }
        until = self.loop.time() + self.limits.close_seconds
        while (waiting := self._unfinished(barriers)) and self.loop.time() < until:
            await asyncio.wait(waiting, timeout=until - self.loop.time(), return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            names = ", ".join(str(activation.turn) for activation in self.directory.busy()[:5])
            _log.warning("%s is closed while turns still run (%s); nothing of them is kept", self.path, names)
            for one in waiting:
                one.cancel()
            await asyncio.wait(waiting, timeout=self.limits.close_seconds)

    def _unfinished(self, barriers: set[asyncio.Future[None]]) -> set[asyncio.Future[None]]:
        found = {future for future in barriers if not future.done()}
        found |= self._tasks
        found.discard(cast("asyncio.Future[None]", asyncio.current_task()))
        return found

    def _stop_parts(self) -> None:
        self.scheduler.stop()
        self.expiry.stop()
        if self._tick_timer is not None:
            self._tick_timer.cancel()

    def _end(self) -> None:
        self._state = "closed"
        self.directory.drop_all()
        if self.watchdog is not None:
            self.watchdog.stop()
        self.limited_log.stop()
        for release in self._held:
            release()
        self._held.clear()
        if not self._ended.done():
            self._ended.set_result(None)

    def check_loop(self) -> None:
        """Raise `NotRunning` in another event loop than the one it was opened in."""
        if asyncio.get_running_loop() is not self.loop:
            raise NotRunning(
                f"the runtime on {self.path} was opened in another event loop and serves only there; "
                "from another thread, use asyncio.run_coroutine_threadsafe"
            )

    # -- actors ---------------------------------------------------------------------------------------------

    def get(self, actor_type: type[A], key: GivenKey) -> A:
        """A typed ref to the actor with this key; nothing is touched by that.

        Raises `InvalidKey`, `InvalidActor` (a rule of actor types is broken) or `UnknownActorType`.
        """
        if key.__class__ is str:
            known = self.directory.refs_by_text.get((actor_type, key))
            if known is not None:
                return known  # type: ignore[return-value]
        kind = self.actor_types.by_class.get(actor_type)
        if kind is None:
            kind = self.type_of(actor_type)
        normal, key_bytes = normal_key(key, kind.name)
        return cast("A", self.make_ref(kind, normal, key_bytes))

    def make_ref(self, kind: ActorType, key: ActorKey, key_bytes: bytes) -> Ref:
        """The ref of an address: the live activation's own where there is one."""
        live = self.directory.find(layout.DIRECTORY + kind.number_bytes + key_bytes)
        return live.ref if live is not None else kind.ref_class(self, kind, key, key_bytes)

    def ref_from_bytes(self, type_number: bytes, key_bytes: bytes) -> Ref:
        """The ref of a stored address; raises `UnknownActorType` when its class isn't imported here."""
        kind = self.actor_types.numbered(type_number)
        key = decode_key(key_bytes)
        assert not isinstance(key, bytes)
        return self.make_ref(kind, key, key_bytes)

    def type_of(self, actor_type: type) -> ActorType:
        """What is known of an actor class; its name gets a number on disk when it is new."""
        return self.actor_types.of(actor_type)

    def _make_type(self, actor_class: type[Actor], number: int) -> ActorType:
        return ActorType(actor_class, number)

    def _type_added(self, kind: ActorType) -> None:
        """For the layer above: a type is used for the first time."""

    # -- looking over all keys ------------------------------------------------------------------------------

    def keys(
        self,
        actor_type: type[Actor],
        prefix: Key | None = None,
        *,
        after: GivenKey | None = None,
        limit: int = 1000,
    ) -> list[ActorKey]:
        """Keys of stored actors in key order, at most `limit`, behind `after`."""
        return find_keys(self, self.type_of(actor_type), prefix, after, limit)

    def query(
        self,
        actor_type: type[A],
        *,
        order_by: str | None = None,
        reverse: bool = False,
        limit: int = 100,
        after: A | None = None,
        **equal: object,
    ) -> list[A]:
        """Refs to actors whose declared fields equal the given values, in memory or not, in an index's order.

        The fields of `equal` and then `order_by` must be the beginning of one of the class's `indexes`.
        `after` is the last ref of the page before.  Raises `CallerError` when no index fits.
        """
        kind, last = self.type_of(actor_type), cast("Ref | None", after)
        return cast("list[A]", find_by_fields(self, kind, equal, order_by, reverse, limit, last))

    def table(
        self,
        actor_type: type[Actor],
        row_type: type[Row],
        *,
        key: str,
        indexes: tuple[tuple[str, ...] | str, ...] = (),
        name: str | None = None,
    ) -> Table[Row]:
        """The shared table of all actors of a type, for reading with `select` and `count`."""
        return open_shared_table(self, self.type_of(actor_type), row_type, key, indexes, name)

    # -- dead alarms ----------------------------------------------------------------------------------------

    def dead_alarms(self, limit: int = 1000) -> list[DeadAlarm]:
        """Alarms whose retries are spent, at most `limit`."""
        return self.scheduler.dead(limit)

    async def redrive_alarm(self, actor_type: type[Actor], key: GivenKey, name: str = "") -> None:
        """Fire a dead alarm again, with all its retries; raises `CallerError` when there is none."""
        await self.scheduler.redrive(cast("Ref", self.get(actor_type, key)), name)

    # -- what the parts use ---------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run a task that belongs to the runtime; `close` waits for it."""
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if (
            not task.cancelled()
            and (error := task.exception()) is not None
            and not isinstance(error, StorageClosed)
        ):
            _log.error("%s raised", task.get_name(), exc_info=error)

    @property
    def is_open(self) -> bool:
        """Whether it serves, and doesn't close."""
        return self._state == "open"

    @property
    def is_closed(self) -> bool:
        """Whether it was open and can't serve any more."""
        return self._state == "closed"

    def check_open(self) -> None:
        """Raise `NotRunning` when it can't serve."""
        if self._state in ("new", "opening"):
            raise NotRunning(f"the runtime on {self.path} is not open yet; use it inside `async with`")
        if self._state == "closed":
            raise NotRunning(f"the runtime on {self.path} is closed{self._why_closed}")

    def _tick_later(self) -> None:
        idle = self.limits.idle_seconds
        # Four ticks to the idle time: an actor leaves after 1 to 1.25 of it.
        self._tick_timer = self.clock.call_later(max(idle / 4, 0.01), self._on_tick, upkeep=True)

    def _on_tick(self) -> None:
        self.tick += 1
        self.directory.evict_idle(self.tick - 4)
        self._spare_memory.look(self.loop)
        self._tick_later()

    def _commit_failed(self, first_commit: int, error: StorageFailed) -> None:
        """A commit and all behind it failed: forget every memory that rests on them (P9)."""
        self.failures += 1
        self.schemas.forget()
        lost = self.directory.drop_from(first_commit)
        _log.error("a commit failed; %d actors read the disk again: %s", len(lost), error)
        self._lost(lost)
        self.loop.call_soon(self._after_failure)

    def _after_failure(self) -> None:
        """Put right what was taken from the lost commits, once all who wait were told."""
        if self._state not in ("open", "closing"):
            return
        try:
            self.actor_types.write_lost()
        except StorageError as failure:
            _log.error("the names of actor types could not be written: %s", failure)
        # An alarm that a lost commit moved or took back is where it was.
        self.scheduler.notice(self.clock.now_ms())

    def _lost(self, activations: list[Activation]) -> None:
        """For the layer above: these activations were dropped."""

    def _store_broke(self, error: StorageError) -> None:
        """The outcome of a commit is unknown: serve nothing more."""
        _log.critical("the runtime closes: %s", error)
        self._stop_parts()
        self.loop.call_soon(self._give_up, error)

    def _give_up(self, error: StorageError) -> None:
        if self._state == "open":
            self._why_closed = f": {error}"
            for task in self._tasks:
                task.cancel()
            self.store.abandon(error)
            self._end()
