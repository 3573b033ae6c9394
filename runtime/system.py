"""The wiring of the runtime: it makes the parts, opens and closes them, and is all that they know of each other.

    store <- directory (activations) <- refs
          <- alarm scheduler, expiry, watchdog

`holdfast.Runtime` (actors/system.py) adds the workflow engine and the queues on top.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
from collections.abc import Callable, Coroutine, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..storage import layout
from ..storage.commit_log import CommitLog
from ..storage.errors import CallerError, Damaged, StorageClosed, StorageError, StorageFailed
from ..storage.group_commit import Writes
from ..storage.keys import Key, decode_key, decode_number, encode_index_values, encode_prefix, next_prefix
from ..storage.store import Store
from ..storage.table import Row, Table, index_value, table_schema
from .actor import Actor
from .actor_storage import table_name_bytes
from .actor_type import ActorType
from .address import ActorKey, GivenKey, normal_key
from .alarm_scheduler import AlarmScheduler, DeadAlarm
from .clock import Clock, SystemClock, TimerHandle
from .deps import Deps
from .directory import Directory
from .errors import NotRunning, UnknownActorType
from .expiry import Expiry
from .limits import Limits
from .ref import Ref
from .registry import find_actor_type, type_name
from .schemas import Schemas
from .watchdog import Watchdog

if TYPE_CHECKING:
    from .activation import Activation

_log = logging.getLogger("holdfast.runtime")
A = TypeVar("A", bound=Actor)
# The writer thread must get the interpreter between two turns of a busy loop: below the length of a turn, see group_commit.py.
SWITCH_INTERVAL_SECONDS = 50e-6


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
        min_free_bytes: int = 64 << 20,
        wrap_log: Callable[[CommitLog], CommitLog] | None = None,
        switch_interval_seconds: float | None = SWITCH_INTERVAL_SECONDS,
    ) -> None:
        """Nothing is touched before `async with` (or `open`).

        path            the folder; made when it isn't there
        deps            user objects for actors and steps, found by type in `runtime.deps`
        types           actor classes to use for their names, where several claim one name
        clock, seed     replace time and chance in tests
        limits          see `Limits`
        quota_bytes     most bytes on disk; None for as much as the disk holds
        wrap_log        puts another commit log before LMDB's
        switch_interval_seconds   `sys.setswitchinterval` while the runtime is open (process-wide, put back on close); None
                        leaves it alone
        """
        self.path = path
        self.deps = Deps(tuple(deps))
        self.clock: Clock = clock or SystemClock()
        self.random = random.Random(seed)  # noqa: S311  # jitter, not secrets
        self.limits = limits or Limits()
        self.tick = 0
        self.directory = Directory(self)
        self.scheduler = AlarmScheduler(self)
        self.expiry = Expiry(self)
        self.store: Store
        self.schemas: Schemas
        self.loop: asyncio.AbstractEventLoop
        self._given_types = tuple(types)
        self._quota_bytes = quota_bytes
        self._min_free_bytes = min_free_bytes
        self._wrap_log = wrap_log
        self._switch_interval_seconds = switch_interval_seconds
        self._old_switch_interval: float | None = None
        self._types: dict[type, ActorType] = {}
        self._types_by_number: dict[bytes, ActorType] = {}
        self._types_by_name: dict[str, ActorType] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._watchdog: Watchdog | None = None
        self._tick_timer: TimerHandle | None = None
        self._state = "new"  # new -> open -> closing -> closed

    # -- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Any:
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
        self.store = Store(
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
        self._state = "open"
        if self._switch_interval_seconds is not None:
            self._old_switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(self._switch_interval_seconds)
        try:
            self.schemas = Schemas(self.store)
            for actor_class in self._given_types:
                self.type_of(actor_class)
            if self.limits.stall_seconds is not None:
                self._watchdog = Watchdog(self, self.limits.stall_seconds)
                self._watchdog.start()
            self._start_parts()
        except BaseException:
            await self.close()
            raise

    def _start_parts(self) -> None:
        self.scheduler.start()
        self.expiry.start()
        self._tick_later()

    async def close(self) -> None:
        """Let running turns end, make everything durable, give the folder back."""
        if self._state != "open":
            return
        self._state = "closing"
        self._stop_parts()
        while self._tasks:
            await asyncio.wait(list(self._tasks))
        try:
            await self.store.close()
        finally:
            self._end()

    def _stop_parts(self) -> None:
        self.scheduler.stop()
        self.expiry.stop()
        if self._tick_timer is not None:
            self._tick_timer.cancel()

    def _end(self) -> None:
        self._state = "closed"
        if self._watchdog is not None:
            self._watchdog.stop()
        if self._old_switch_interval is not None:
            sys.setswitchinterval(self._old_switch_interval)
            self._old_switch_interval = None

    # -- actors ----------------------------------------------------------------------------------------------------

    def get(self, actor_type: type[A], key: GivenKey) -> A:
        """A typed ref to the actor with this key; nothing is touched by that.

        Raises `InvalidKey`, `InvalidActor` (a rule of actor types is broken) or `UnknownActorType`.
        """
        kind = self._types.get(actor_type)
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
        kind = self._types_by_number.get(type_number)
        if kind is None:
            name = self.type_name(type_number)
            actor_class = find_actor_type(name)
            if actor_class is None:
                raise UnknownActorType(f"no class named {name!r} is imported in this process; import the module that defines it")
            kind = self.type_of(actor_class)
        key = decode_key(key_bytes)
        assert not isinstance(key, bytes)
        return self.make_ref(kind, key, key_bytes)

    def type_of(self, actor_type: type) -> ActorType:
        """What is known of an actor class; its name gets a number on disk when it is new."""
        kind = self._types.get(actor_type)
        if kind is not None:
            return kind
        self._check_open()
        if not (isinstance(actor_type, type) and issubclass(actor_type, Actor)) or actor_type is Actor:
            raise UnknownActorType(f"expected a subclass of Actor; got {actor_type!r}")
        name = type_name(actor_type)
        taken = self._types_by_name.get(name)
        if taken is not None:
            raise UnknownActorType(
                f"the name {name!r} is registered twice: {taken.actor_class.__module__}.{taken.actor_class.__qualname__} and "
                f"{actor_type.__module__}.{actor_type.__qualname__}; set `name` in one of them"
            )
        stored = self.store.get(layout.TYPE + name.encode())
        number = self.store.next_type_number if stored is None else int.from_bytes(stored, "big")
        kind = self._make_type(actor_type, number)
        if stored is None:
            self.store.next_type_number += 1
            self.store.stage({layout.TYPE + name.encode(): kind.number_bytes}, reserve=True)
        self._types[actor_type] = kind
        self._types_by_name[name] = kind
        self._types_by_number[kind.number_bytes] = kind
        return kind

    def _make_type(self, actor_type: type[Actor], number: int) -> ActorType:
        return ActorType(actor_type, number)

    def type_name(self, type_number: bytes) -> str:
        """The stored name of a type's number."""
        kind = self._types_by_number.get(type_number)
        if kind is not None:
            return kind.name
        for key, stored in self.store.scan_prefix(layout.TYPE):
            if stored == type_number:
                return key[1:].decode()
        raise Damaged(f"the store has no actor type with number {type_number.hex()}")

    def stored_types(self) -> dict[str, bytes]:
        """Names and numbers of all types that ever wrote here."""
        return {key[1:].decode(): stored for key, stored in self.store.scan_prefix(layout.TYPE)}

    # -- looking over all keys -------------------------------------------------------------------------------------

    def keys(self, actor_type: type[Actor], prefix: Key | None = None, *, after: GivenKey | None = None, limit: int = 1000) -> list[ActorKey]:
        """Keys of stored actors in key order, at most `limit`, behind `after`."""
        kind = self.type_of(actor_type)
        base = layout.DIRECTORY + kind.number_bytes
        low = base + (b"" if prefix is None else encode_prefix(prefix))
        end = next_prefix(low)
        start = low if after is None else max(low, base + normal_key(after, kind.name)[1] + b"\x00")
        found = self.store.scan(start, end, limit=limit)
        return [cast("ActorKey", decode_key(key[len(base) :])) for key, _ in found]

    def query(
        self, actor_type: type[A], *, order_by: str | None = None, reverse: bool = False, limit: int = 100, after: A | None = None, **equal: object
    ) -> list[A]:
        """Refs to actors whose declared fields equal the given values, in memory or not, in the order of an index.

        The fields of `equal` and then `order_by` must be the beginning of one of the class's `indexes`.  `after` is the last ref of
        the page before.  Raises `CallerError` when no index fits.
        """
        kind = self.type_of(actor_type)
        for position, names in enumerate(kind.fields.indexes):
            size = len(equal)
            if set(names[:size]) == set(equal) and (order_by is None or names[size : size + 1] == (order_by,)):
                break
        else:
            raise CallerError(
                f"no index of {kind.name} begins with {sorted(equal)}{f' and then {order_by!r}' if order_by else ''}; its indexes are "
                f"{list(kind.fields.indexes)}"
            )
        index = layout.FIELD_INDEX + kind.number_bytes + bytes((position,))
        start = index + encode_index_values(tuple(index_value(equal[name]) for name in names[:size]))
        end = next_prefix(start)
        if after is not None:
            ref = cast("Ref", after)
            entry = self._index_entry(ref, kind, position)
            start, end = (start, entry) if reverse else (entry + b"\x00", end)
        rows = self.store.scan(start, end, reverse=reverse, limit=limit)
        return [cast("A", self.make_ref(kind, cast("ActorKey", decode_key(stored)), stored)) for _, stored in rows]

    def _index_entry(self, ref: Ref, kind: ActorType, position: int) -> bytes:
        found = self.store.get(ref.directory_key)
        record = None if found is None else self.store.get(layout.DATA + found + layout.FIELDS)
        if found is None or record is None:
            raise CallerError(f"{ref} isn't stored, so no page can go on after it")
        blank = kind.actor_class.__new__(kind.actor_class)
        kind.fields.restore(blank, record, str(ref))
        values = list(kind.fields.indexes.values())[position](blank)
        return layout.FIELD_INDEX + kind.number_bytes + bytes((position,)) + encode_index_values(values) + found

    def table(
        self, actor_type: type[Actor], row_type: type[Row], *, key: str, indexes: tuple[tuple[str, ...] | str, ...] = (), name: str | None = None
    ) -> Table[Row]:
        """The shared table of all actors of a type, for reading with `select` and `count`."""
        kind = self.type_of(actor_type)
        schema = table_schema(row_type, key, indexes)
        table_name = table_name_bytes(name or row_type.__name__)
        self.schemas.check(kind, table_name, schema)
        base = kind.number_bytes + table_name + b"\x00"
        return Table(_ReadOnly(self.store), row_type, schema, layout.SHARED_ROW + base, layout.SHARED_INDEX + base, None)

    # -- dead alarms -----------------------------------------------------------------------------------------------

    def dead_alarms(self, limit: int = 1000) -> list[DeadAlarm]:
        """Alarms whose retries are spent, at most `limit`."""
        return self.scheduler.dead(limit)

    async def redrive_alarm(self, actor_type: type[Actor], key: GivenKey, name: str = "") -> None:
        """Fire a dead alarm again, with all its retries; raises `CallerError` when there is none."""
        await self.scheduler.redrive(cast("Ref", self.get(actor_type, key)), name)

    # -- what the parts use ----------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run a task that belongs to the runtime; `close` waits for it."""
        task = self.loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, StorageClosed):
            _log.error("%s raised", task.get_name(), exc_info=error)

    def _check_open(self) -> None:
        if self._state != "open":
            raise NotRunning(f"the runtime on {self.path} is {self._state}; use it inside `async with`")

    def _tick_later(self) -> None:
        idle = self.limits.idle_seconds
        # Four ticks to the idle time: an actor leaves after 1 to 1.25 of it.
        self._tick_timer = self.clock.call_later(max(idle / 4, 0.01), self._on_tick)

    def _on_tick(self) -> None:
        self.tick += 1
        self.directory.evict_idle(self.tick - 4)
        self._tick_later()

    def _commit_failed(self, first_commit: int, error: StorageFailed) -> None:
        """A commit and all behind it failed: forget every memory that rests on them (P9)."""
        self.schemas.forget()
        lost = self.directory.drop_from(first_commit)
        _log.error("a commit failed; %d actors read the disk again: %s", len(lost), error)
        self._lost(lost)
        # Types that were numbered by a lost commit keep their numbers; write them again.
        again: Writes = {
            layout.TYPE + kind.name.encode(): kind.number_bytes
            for kind in self._types.values()
            if self.store.get_durable(layout.TYPE + kind.name.encode()) is None
        }
        if again:
            self.loop.call_soon(self._restage, again)

    def _restage(self, writes: Writes) -> None:
        try:
            self.store.stage(writes, reserve=True)
        except StorageError as error:
            _log.error("the names of actor types could not be written: %s", error)

    def _lost(self, activations: list[Activation]) -> None:
        """For the layer above: these activations were dropped."""

    def _store_broke(self, error: StorageError) -> None:
        """The outcome of a commit is unknown: serve nothing more."""
        _log.critical("the runtime closes: %s", error)
        self._stop_parts()
        self.loop.call_soon(self._give_up, error)

    def _give_up(self, error: StorageError) -> None:
        if self._state == "open":
            self._state = "closed"
            for task in self._tasks:
                task.cancel()
            self.store.abandon(error)
            self._end()

    def number_of(self, found: bytes) -> int:
        """The number in a directory entry."""
        return decode_number(found)[0]


class _ReadOnly:
    """A table's access for reading over all actors."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, key: bytes) -> bytes | None:
        return self._store.get(key)

    def scan(self, start: bytes, end: bytes | None, reverse: bool, limit: int | None) -> list[tuple[bytes, bytes]]:
        return self._store.scan(start, end, reverse=reverse, limit=limit)

    def write(self, key: bytes, value: bytes | None) -> None:
        raise CallerError("this table is open for reading; an actor writes its own rows")


