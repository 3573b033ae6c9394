"""The change feed: which runs a commit changed, by the number of the commit, for those who watch all runs.

A commit that is about to leave is looked at, and one row that tells the runs in it joins it.  So the feed is
as durable and as ordered as the changes themselves, and nobody who changes a run has to think of it.  It is
written only while somebody watches, and for `KEEP_SECONDS` more, also over a restart of the process: a
watcher that comes back within that time misses nothing.

    off -> on     somebody watches, or the folder is opened while the time still runs
        -> off    nobody has watched for that long

Promises
  * Whoever has seen all up to commit n gets every change behind it, in order, unless n is before `floor`:
    then it must look at everything anew.
  * Off, it costs a commit one comparison, and a call or a step nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from ...runtime.errors import NotRunning
from ...storage import layout
from ...storage.errors import StorageFailed
from ...storage.keys import decode_number, next_prefix
from .journal import POSITION_BYTES
from .workflow_type import WorkflowType

if TYPE_CHECKING:
    from ...runtime.actor_type import ActorType
    from ...storage.group_commit import Batch, Writes
    from ...storage.store import DurableView
    from ..system import Runtime

KEEP_SECONDS: Final = 900.0
MAX_CHANGES: Final = 20_000
# Addresses of runs by number, so that a journal's row tells whose it is.
MAX_ADDRESSES: Final = 100_000
# Old rows that one commit removes at most: more than it adds.
_TRIM: Final = 4

_log = logging.getLogger("holdfast.workflow")


class ChangedRun(msgspec.Struct, array_like=True, frozen=True):
    """A run that a commit changed: its address, and which rows of it are new."""

    type: bytes
    key: bytes
    number: int
    positions: list[int] = []
    """Of records; with 0 the run begins, perhaps anew."""
    progress: list[int] = []
    """Numbers of progress events."""
    gone: bool = False
    """It was erased."""
    tenant: str | None = None
    """Whose it was, of one that is gone."""


class Change(msgspec.Struct, array_like=True, frozen=True):
    """What one commit changed."""

    before: int
    """The commit of the row before: what lies between the two changed no run."""
    runs: list[ChangedRun]
    types: list[str] = []
    """Workflows whose standing changed (standing.py)."""


class _Lease(msgspec.Struct, array_like=True, frozen=True):
    # Every change behind commit `begin` has a row, until the time is over.
    begin: int
    until_ms: int


# First bytes of keys, as numbers.
_DIRECTORY, _DATA, _FIELD_INDEX = layout.DIRECTORY[0], layout.DATA[0], layout.FIELD_INDEX[0]
_EMITTED = layout.EMITTED[0]
_TOLD = (layout.JOURNAL[0], _EMITTED)

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Change).decode
_decode_lease: Final = msgspec.msgpack.Decoder(_Lease).decode


class ChangeFeed:
    """The feed of one runtime."""

    def __init__(self, system: Runtime) -> None:
        self._system = system
        self._watchers = 0
        self._is_on = False
        self._stopped = False
        self._begin = 0
        self._until_ms = 0
        self._stored_until_ms = 0
        # Commits that have a row, oldest first, and the last one that lost its row.
        self._rows: deque[int] = deque()
        self._trimmed = 0
        self._last = 0
        # The last row that is durable.
        self._newest = 0
        self._run_types: set[bytes] = set()
        self._standing_type: bytes | None = None
        # None for an actor that is no run.
        self._addresses: dict[int, tuple[bytes, bytes] | None] = {}
        self._waiting: list[asyncio.Future[None]] = []

    # -- on and off ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """The runtime opens: go on where the last process was watched."""
        store = self._system.store
        stored = store.get(layout.META_FEED)
        if stored is None:
            return
        lease = _decode_lease(stored)
        self._rows.extend(int.from_bytes(key[1:], "big") for key, _ in store.scan_prefix(layout.CHANGE))
        if lease.until_ms > self._system.clock.now_ms():
            self._begin, self._until_ms, self._stored_until_ms = lease.begin, lease.until_ms, lease.until_ms
            self._last = self._newest = lease.begin
            if self._rows:
                self._last = self._newest = self._rows[-1]
                first = store.get(change_key(self._rows[0]))
                assert first is not None
                self._trimmed = _decode(first).before
            self._turn_on()

    def add_type(self, kind: ActorType) -> None:
        """An actor type is used in this process."""
        if isinstance(kind, WorkflowType):
            self._run_types.add(kind.number_bytes)
        elif kind.name == STANDING:
            self._standing_type = kind.number_bytes

    @contextmanager
    def watched(self) -> Generator[None]:
        """While this is open the feed is on; see `ready` for what it knows by then."""
        self._watchers += 1
        try:
            if not self._is_on:
                # What has left already wasn't looked at.
                self._begin = self._last = self._newest = self._system.store.group_commit.last_sealed
                self._stored_until_ms = 0
                self._turn_on()
            yield
        finally:
            self._watchers -= 1
            self._until_ms = self._system.clock.now_ms() + round(KEEP_SECONDS * 1000)

    @property
    def watching(self) -> int:
        """How many watch."""
        return self._watchers

    async def ready(self) -> None:
        """Return when all that the feed doesn't know of is durable, so that a look at the disk has it."""
        begin = self._begin
        if begin > self._system.store.durable:
            await self._system.store.wait_durable(begin)

    def _turn_on(self) -> None:
        self._is_on = True
        self._addresses.clear()
        self._system.store.on_seal = self._look

    def stop(self) -> None:
        """The runtime closes: whoever waits is told."""
        self._stopped = True
        self._wake()

    # -- a commit leaves -----------------------------------------------------------------------------------

    def _look(self, batch: Batch) -> None:
        """Add the row of a batch to it."""
        now_ms = self._system.clock.now_ms()
        keep_ms = round(KEEP_SECONDS * 1000)
        if self._watchers:
            self._until_ms = now_ms + keep_ms
        elif now_ms > self._until_ms:
            self._is_on = False
            self._system.store.on_seal = None
            self._addresses.clear()
            return
        writes = batch.writes
        wrote = False
        try:
            runs, types = self._changed(writes, batch.number)
        except Exception:  # a commit must not fail for it
            _log.exception("what commit %d changed can't be told: who watches begins anew", batch.number)
            runs, types = [], []
            self._lose(batch.number)
        if self._stored_until_ms < self._until_ms - keep_ms // 2:
            writes[layout.META_FEED] = _encode(_Lease(self._begin, self._until_ms))
            self._stored_until_ms = self._until_ms
            wrote = True
        if runs or types:
            writes[change_key(batch.number)] = _encode(Change(self._last, runs, types))
            self._rows.append(batch.number)
            self._last = batch.number
            for _ in range(_TRIM):
                if len(self._rows) <= MAX_CHANGES and self._rows[0] > self._begin:
                    break
                self._trimmed = self._rows.popleft()
                writes[change_key(self._trimmed)] = None
            wrote = True
        if wrote:
            batch.callbacks.append(partial(self._decided, batch.number if runs or types else None))

    def _changed(self, writes: Writes, commit: int) -> tuple[list[ChangedRun], list[str]]:
        """The runs in a write set.

        A change of a run is a record, a progress event, another status (which is indexed), or its end.
        """
        records: dict[int, tuple[list[int], list[int]]] = {}
        addresses = self._addresses
        run_types, standing = self._run_types, self._standing_type
        gone: list[ChangedRun] = []
        types: list[str] = []
        for key, value in writes.items():
            first = key[0]
            if first == _DATA:
                number, end = decode_number(key, 1)
                kind = key[end]
                if value is not None and kind in _TOLD:  # for each put
                    rows = records.get(number)
                    if rows is None:
                        rows = records[number] = ([], [])
                    rows[kind == _EMITTED].append(int.from_bytes(key[-POSITION_BYTES:], "big"))
            elif first == _FIELD_INDEX:
                if value is None:
                    continue
                if key[1:3] in run_types:
                    # 0A type i, the status and 00, the time of creation, the number
                    at = key.index(b"\x00", 5) + 1
                    number, _ = decode_number(key, at + 1 + key[at] - 0x14)
                    addresses[number] = (key[1:3], value)
                    records.setdefault(number, ([], []))
                elif key[1:3] == standing:
                    types.append(value[1:].decode())
            elif first == _DIRECTORY and key[1:3] in run_types:
                if value is None:
                    gone.append(self._gone(key))
                else:
                    addresses[decode_number(value)[0]] = (key[1:3], key[3:])
        if not records.keys() <= addresses.keys():
            self._meet_all()
        runs: list[ChangedRun] = []
        for number, (positions, progress) in records.items():
            address = addresses.get(number)
            if address is not None:
                runs.append(ChangedRun(address[0], address[1], number, sorted(positions), sorted(progress)))
            elif number not in addresses:
                # Nobody is known to write so.
                _log.error("commit %d changes a run with number %d that nobody has", commit, number)
                self._lose(commit)
        if len(addresses) > MAX_ADDRESSES:
            addresses.clear()
        return runs + gone, types

    def _lose(self, commit: int) -> None:
        """A commit could not be told: who watches looks at everything anew, in the next process, too."""
        self._begin = commit
        self._stored_until_ms = 0

    def _gone(self, directory_key: bytes) -> ChangedRun:
        tenant: str | None = None
        store = self._system.store
        number = store.get_durable(directory_key)
        fields = None if number is None else store.get_durable(layout.DATA + number + layout.FIELDS)
        if fields is not None:
            kind = self._system.actor_types.numbered(directory_key[1:3])
            assert isinstance(kind, WorkflowType)
            labels = kind.decode_head(fields, directory_key).labels
            tenant = None if labels is None else labels.tenant
        return ChangedRun(directory_key[1:3], directory_key[3:], 0, gone=True, tenant=tenant)

    def _meet_all(self) -> None:
        """Note whose numbers those are that are in memory: who has written to a run is."""
        for activation in self._system.directory.all():
            if activation.number is not None:
                ref = activation.ref
                is_run = isinstance(ref.type, WorkflowType)
                self._addresses[activation.number] = (
                    (ref.type.number_bytes, ref.key_bytes) if is_run else None
                )

    def _decided(self, row: int | None, failure: StorageFailed | None) -> None:
        if failure is not None:
            # The numbers of failed commits are never used again; what they removed is there again.
            rows = self._system.store.scan_prefix(layout.CHANGE)
            self._rows = deque(int.from_bytes(key[1:], "big") for key, _ in rows)
            self._last = self._rows[-1] if self._rows else self._begin
            self._stored_until_ms = 0
        elif row is not None:
            self._newest = row
            self._wake()

    # -- reading -------------------------------------------------------------------------------------------

    @property
    def floor(self) -> int:
        """Who has seen less than this commit must look at everything anew."""
        return max(self._begin, self._trimmed)

    @property
    def newest(self) -> int:
        """The last commit that is durable and changed a run, as far as the feed knows."""
        return self._newest

    def read(self, after: int, limit: int) -> list[tuple[int, Change]]:
        """Durable changes behind a commit, each with its own, oldest first."""
        with self._system.store.durable_view() as view:
            return self.read_in(view, after, limit)

    def read_in(self, view: DurableView, after: int, limit: int) -> list[tuple[int, Change]]:
        """The same, as of a view: what else is read of it fits the changes, if these are all."""
        start, end = change_key(max(after, self._begin) + 1), next_prefix(layout.CHANGE)
        rows = view.scan(start, end, False, limit)
        return [(int.from_bytes(key[1:], "big"), _decode(stored)) for key, stored in rows]

    async def wait(self, after: int) -> None:
        """Return when there is a change behind a commit; raises `NotRunning` when the runtime closes."""
        while not self._stopped:
            # Asked before it is read: what comes in between is told.
            future: asyncio.Future[None] = self._system.loop.create_future()
            self._waiting.append(future)
            try:
                if self._newest > after:
                    return
                await future
            finally:
                if future in self._waiting:
                    self._waiting.remove(future)
        raise NotRunning("the runtime was closed")

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


# The actor type that keeps the standing of workflows (standing.py), which builds on what is here.
STANDING: Final = "WorkflowStanding"


def change_key(commit: int) -> bytes:
    """Where the row of a commit lies."""
    return layout.CHANGE + commit.to_bytes(8, "big")
