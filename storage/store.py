"""The store: reads that see what is staged, write sets that become durable together, room that is watched.

What the layers above use.  It ties the environment, the commit log and group commit of one folder together.

Promises
  * A read never waits: staged writes first, then LMDB through a snapshot that ends before the call returns.
  * Every value read was checked against its checksum.
  * Writes that grow the store are refused (`StorageFull`) while there is still room for deletes and for
    finishing what was begun: LMDB can't even delete when it is full.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Final

import lmdb
import msgspec

from . import layout
from .commit_log import CommitLog, LmdbCommitLog, Space, read_sequence
from .commit_writer import MakeWriter, ThreadWriter
from .environment import Environment
from .errors import (
    ForkedProcess,
    InvalidValue,
    StorageClosed,
    StorageError,
    StorageFailed,
    StorageFull,
    fresh,
)
from .group_commit import (
    MAX_BATCH_BYTES,
    MAX_BATCH_PUTS,
    MAX_STAGED_BYTES,
    Batch,
    DurableCallback,
    GroupCommit,
    Writes,
    size_of,
)
from .keys import next_prefix
from .reader_watch import OpenView
from .values import open_value

MIN_FREE_BYTES: Final = 64 << 20
# A tenth of the quota is kept for deletes and completions.
_QUOTA_SHARE: Final = 0.9
_MISSING: Final = b"\x00missing"  # compared by identity
_encode = msgspec.msgpack.Encoder().encode


class Store:
    """One folder, open for reading and writing by this process.  It is made in a running loop."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        quota_bytes: int | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
        wrap_log: Callable[[CommitLog], CommitLog] | None = None,
        on_failed: Callable[[int, StorageFailed], None] | None = None,
        on_broken: Callable[[StorageError], None] | None = None,
        max_batch_puts: int = MAX_BATCH_PUTS,
        max_batch_bytes: int = MAX_BATCH_BYTES,
        max_staged_bytes: int = MAX_STAGED_BYTES,
        make_writer: MakeWriter = ThreadWriter,
        sync: bool = True,
        read_only: bool = False,
    ) -> None:
        """Open (or create) the folder.

        quota_bytes       most bytes of live pages, None for as much as the disk holds
        min_free_bytes    room left on the disk below which growth is refused
        wrap_log          puts another commit log before LMDB's (a slow disk, a test's own)
        on_failed         called with (first failed commit number, error) before anybody who waits hears of it
        on_broken         called once when the store can't go on
        make_writer       makes what commits the batches
        sync              False: a power cut may lose and tear commits; for simulations
        read_only         open it beside its owner; see `ReadingStore`

        Raises `FolderInUse`, `FolderRefused`, `FormatRefused` or `Damaged`.
        """
        self.environment = Environment(path, read_only=read_only, sync=sync)
        try:
            log: CommitLog = LmdbCommitLog(self.environment)
            self._log = log if wrap_log is None else wrap_log(log)
            sequence, self.next_actor_number, self.next_type_number = read_sequence(self.environment)
            self.space = log.space()
        except lmdb.Error as error:
            failure = self.environment.translate(error)
            self.environment.close()
            raise failure from error
        except BaseException:
            self.environment.close()
            raise
        self.quota_bytes = quota_bytes
        self.min_free_bytes = min_free_bytes
        self._space_seen = time.monotonic()
        # Called with each batch just before it leaves; it may add to the batch's writes and callbacks.
        self.on_seal: Callable[[Batch], None] | None = None
        self._begin = self.environment.lmdb.begin
        self.group_commit = GroupCommit(
            self._log,
            last_number=sequence,
            seal=self._seal,
            on_failed=on_failed or (lambda number, error: None),
            on_broken=on_broken or (lambda error: None),
            on_space=self._on_space,
            make_writer=make_writer,
            max_batch_puts=max_batch_puts,
            max_batch_bytes=max_batch_bytes,
            max_staged_bytes=max_staged_bytes,
        )
        self.wait_durable = self.group_commit.wait_durable

    # -- reading -------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> bytes | None:
        """The value of `key` with everything staged so far, or None; `Damaged` on a wrong checksum."""
        value = self.group_commit.find(key, _MISSING)
        if value is not _MISSING:
            return value
        return self.get_durable(key)

    def get_durable(self, key: bytes) -> bytes | None:
        """The value of `key` as of the last durable commit."""
        environment = self.environment
        if environment.refusal is not None:
            raise fresh(environment.refusal)
        try:
            with self._begin() as txn:
                stored = txn.get(key)
        except lmdb.Error as error:
            raise environment.translate(error) from error
        return None if stored is None else open_value(key, stored)

    def scan(
        self,
        start: bytes,
        end: bytes | None,
        *,
        reverse: bool = False,
        limit: int | None = None,
        extra: Writes | None = None,
        durable_only: bool = False,
    ) -> list[tuple[bytes, bytes]]:
        """Pairs with start <= key < end in key order (or from the end), with everything staged so far.

        `extra` is a write set that lies over all others: a turn's own.  `durable_only` leaves out what is
        staged.
        """
        self.environment.check_usable()
        if limit is not None and limit <= 0:
            return []
        staged: Writes = {}
        layers = [] if durable_only else self.group_commit.layers()
        if extra:
            layers.insert(0, extra)
        for layer in reversed(layers):
            for key in layer:
                if start <= key and (end is None or key < end):
                    staged[key] = layer[key]
        try:
            return self._merge(start, end, reverse, limit, staged)
        except lmdb.Error as error:
            raise self.environment.translate(error) from error

    def _merge(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None, staged: Writes
    ) -> list[tuple[bytes, bytes]]:
        found: list[tuple[bytes, bytes]] = []
        with self._begin(buffers=True) as txn, txn.cursor() as cursor:
            disk = _walk(cursor, start, end, reverse)
            if not staged:
                for key, stored in disk:
                    found.append((key, open_value(key, stored)))
                    if limit is not None and len(found) == limit:
                        break
                return found
            waiting = sorted(staged, reverse=not reverse)  # popped from the end
            for key, stored in disk:
                while waiting and (waiting[-1] > key if reverse else waiting[-1] < key):
                    _take(waiting.pop(), staged, found)
                if limit is not None and len(found) >= limit:
                    return found[:limit]
                if waiting and waiting[-1] == key:
                    _take(waiting.pop(), staged, found)
                else:
                    found.append((key, open_value(key, stored)))
                if limit is not None and len(found) >= limit:
                    return found[:limit]
            while waiting and (limit is None or len(found) < limit):
                _take(waiting.pop(), staged, found)
        return found

    @contextlib.contextmanager
    def durable_view(self) -> Generator[DurableView]:
        """Several reads of one and the same durable commit.

        Nothing may be awaited inside: an old reader makes the file grow (reader_watch.py tells it).
        """
        environment = self.environment
        environment.check_usable()
        try:
            with self._begin(buffers=True) as txn:
                view = OpenView(txn.id())
                environment.open_views.add(view)
                try:
                    yield DurableView(txn)
                finally:
                    environment.open_views.discard(view)
        except lmdb.Error as error:
            raise environment.translate(error) from error

    def scan_prefix(
        self, prefix: bytes, *, reverse: bool = False, limit: int | None = None, extra: Writes | None = None
    ) -> list[tuple[bytes, bytes]]:
        """`scan` over every key that starts with `prefix`."""
        return self.scan(prefix, next_prefix(prefix), reverse=reverse, limit=limit, extra=extra)

    # -- writing -------------------------------------------------------------------------------------------

    def stage(self, writes: Mapping[bytes, bytes | None], *, reserve: bool = False) -> int:
        """Add a write set to the next commit; returns the commit's number.

        `reserve` is for completions of what was begun: they may use the room that is kept back. Raises
        `StorageFull`, `Overloaded`, `InvalidValue` when it can never fit, or the lasting reason once the
        store can't be used.
        """
        if self.environment.refusal is not None:
            raise fresh(self.environment.refusal)
        group = self.group_commit
        if reserve:
            return group.stage(writes, bounded=False)
        size = size_of(writes)
        if size > group.max_staged_bytes:
            raise InvalidValue(
                f"one turn wrote {size} bytes, more than "
                f"max_staged_bytes={group.max_staged_bytes} can ever take; "
                f"write it in several turns"
            )
        # Most often there is no quota and a disk with room: not worth a call.
        if (
            (self.quota_bytes is not None or self.space.free_bytes < self.min_free_bytes)
            and not self._has_room(size)
            and any(value is not None for value in writes.values())
        ):
            self._refuse_growth(size)
        return group.stage(writes, value_bytes=size)

    @property
    def durable(self) -> int:
        """Number of the newest durable commit."""
        return self.group_commit.durable

    @property
    def newest(self) -> int:
        """Number of the newest commit that anything staged so far belongs to."""
        return self.group_commit.newest

    def on_durable(self, number: int, callback: DurableCallback) -> None:
        """See `GroupCommit.on_durable`."""
        self.group_commit.on_durable(number, callback)

    async def close(self) -> None:
        """Make everything staged durable and give the folder back.

        Cancelled meanwhile, it gives the folder back without what isn't durable yet.
        """
        if isinstance(self.environment.refusal, ForkedProcess):
            raise fresh(self.environment.refusal)  # the writer thread stayed with the parent
        try:
            await self.group_commit.close()
        except BaseException:
            self.abandon(StorageClosed(f"closing the store in {self.environment.path} was cancelled"))
            raise
        self.environment.close()

    def abandon(self, reason: StorageError) -> None:
        """Give the folder back without committing anything more."""
        self.group_commit.abandon(reason)
        self.environment.close()

    def die(self) -> None:
        """Give the folder back as a killed process does: nothing more is committed and nobody is told.

        For simulations.
        """
        self.group_commit.die(StorageClosed(f"the process that owned {self.environment.path} died"))
        self.environment.close()

    def look_at_space(self) -> Space:
        """The room as it is now; others may fill the disk, too."""
        try:
            self._on_space(self._log.space())
        except (OSError, lmdb.Error):  # then what the last commit saw
            pass
        return self.space

    # -- within --------------------------------------------------------------------------------------------

    def _seal(self, batch: Batch) -> None:
        if self.on_seal is not None:
            self.on_seal(batch)
        batch.writes[layout.META_COMMIT] = _encode(
            (batch.number, self.next_actor_number, self.next_type_number)
        )

    def _on_space(self, space: Space) -> None:
        self.space = space
        self._space_seen = time.monotonic()

    def _has_room(self, more_bytes: int) -> bool:
        space = self.space
        if space.free_bytes < self.min_free_bytes:
            return False
        quota = self.quota_bytes
        return (
            quota is None
            or space.used_bytes + self.group_commit.staged_bytes + more_bytes <= quota * _QUOTA_SHARE
        )

    def _refuse_growth(self, more_bytes: int) -> None:
        # Nothing may commit while growth is refused, so look again by ourselves, but not on every refusal.
        if time.monotonic() - self._space_seen > 0.2:
            self._on_space(self._log.space())
            if self._has_room(more_bytes):
                return
        space, quota = self.space, self.quota_bytes
        staged = self.group_commit.staged_bytes
        if quota is not None and space.used_bytes + staged + more_bytes > quota * _QUOTA_SHARE:
            raise StorageFull(
                f"{self.environment.path} uses {space.used_bytes} bytes (and {staged} staged) of its "
                f"quota_bytes={quota}, of which a tenth is kept for deletes and completions, so "
                f"{more_bytes} more don't fit; delete something or raise the quota"
            )
        raise StorageFull(
            f"the disk of {self.environment.path} has {space.free_bytes} bytes free, fewer than "
            f"min_free_bytes={self.min_free_bytes}; free some space"
        )


class DurableView:
    """What one snapshot holds."""

    __slots__ = ("_txn",)

    def __init__(self, txn: lmdb.Transaction) -> None:
        self._txn = txn

    def read(self, key: bytes) -> bytes | None:
        """The value of a key."""
        stored = self._txn.get(key)
        return None if stored is None else open_value(key, stored)

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]:
        """Pairs with start <= key < end."""
        with self._txn.cursor() as cursor:
            rows = itertools.islice(_walk(cursor, start, end, reverse), limit)
            return [(key, open_value(key, stored)) for key, stored in rows]

    def sizes(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, int]]:
        """Keys with start <= key < end, and how many bytes their values take; no value is read."""
        with self._txn.cursor() as cursor:
            rows = itertools.islice(_walk(cursor, start, end, False), limit)
            return [(key, len(stored)) for key, stored in rows]

    def count(self, prefix: bytes, most: int) -> int:
        """How many keys begin so; `most` where there are as many or more.  No value is read."""
        end = next_prefix(prefix)
        counted = 0
        with self._txn.cursor() as cursor:
            if most and cursor.set_range(prefix):
                for key in cursor.iternext(values=False):
                    if end is not None and bytes(key) >= end:
                        break
                    counted += 1
                    if counted == most:
                        break
        return counted


def _walk(
    cursor: lmdb.Cursor, start: bytes, end: bytes | None, reverse: bool
) -> Iterator[tuple[bytes, bytes | memoryview]]:
    if not reverse:
        if not cursor.set_range(start):
            return
        for key, stored in cursor.iternext():
            name = bytes(key)
            if end is not None and name >= end:
                return
            yield name, stored
        return
    # set_range finds the first key at or behind `end`; the one before it is ours.
    if not (cursor.prev() if end is not None and cursor.set_range(end) else cursor.last()):
        return
    for key, stored in cursor.iterprev():
        name = bytes(key)
        if name < start:
            return
        yield name, stored


def _take(key: bytes, staged: Writes, found: list[tuple[bytes, bytes]]) -> None:
    value = staged[key]
    if value is not None:
        found.append((key, value))
