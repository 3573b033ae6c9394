"""Check: is everything in a folder what was written, and does everything that belongs together lie together?

For `holdfast check`, for tests, and before a backup is trusted.  It may run beside a living owner: it only
reads.

What it finds
  * values that don't match their checksum, pages that LMDB can't read
  * a format stamp or a commit record that isn't there or isn't right
  * keys of no known kind, and keys that don't decode
  * rows without their index entries, entries without their row (from the schemas that lie beside the rows)
  * alarms without their place in the order of due times, and places without their alarm
  * addresses that share a number, numbers that were never given
  * data, field indexes and alarms of actors that have no address
What it allows: entries of expiry whose key is gone or was written anew; reads skip them and sweeping drops
them.

One snapshot for the whole check.  Over several snapshots an owner that writes meanwhile would make problems
appear that are none.  The price is that the file can't use its freed pages anew while the check runs, so
beside a busy owner it grows (about half a MiB for each commit of 100 scattered writes).  On a folder that
matters check a backup instead.

Memory is bounded but for two bytes for each actor: partners are looked up, not gathered.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from typing import Final, NamedTuple

import lmdb
import msgspec

from . import layout
from .environment import Environment
from .errors import CallerError, Damaged
from .keys import decode_key, decode_number, encode_index_values, encode_key, encode_number
from .table import TableSchema, stored_index_values
from .values import open_value

# Enough to see what is wrong; a folder with a lost page may have millions.
MAX_PROBLEMS: Final = 1000
# A damaged number must not make us ask for that much memory; two bytes for each are 2 GiB.
_MAX_ACTORS: Final = 1 << 30
_decode_schema = msgspec.msgpack.Decoder(TableSchema).decode
_decode_commit = msgspec.msgpack.Decoder(tuple[int, int, int]).decode
# Rows of runs that stand for themselves.
_OF_RUNS: Final = (layout.REPLY, layout.JOURNAL, layout.EMITTED, layout.EVENT_ID, layout.HEARTBEAT)
_AUDIT_NUMBER_AT: Final = 13  # behind kind, time and count
_BAD_ROW: Final = (msgspec.MsgspecError, CallerError, UnicodeDecodeError, RecursionError)


class Problem(NamedTuple):
    """One thing that is wrong, and where: `kind` for programs, `text` for people."""

    kind: str
    key: bytes
    text: str

    def __str__(self) -> str:
        return f"{self.text} [{self.kind}, key {self.key.hex()}]"


def check(where: Environment | str | os.PathLike[str], *, limit: int = MAX_PROBLEMS) -> list[Problem]:
    """All problems of a folder, at most `limit`; an empty list means that it is sound.

    `where` is a path (opened for reading, also while another process owns it) or an open environment.  It may
    be called in a thread.  Raises `Damaged`, `FormatRefused` or `FolderRefused` when the folder can't even be
    opened.
    """
    if not isinstance(where, Environment):
        environment = Environment(where, read_only=True)
        try:
            return check(environment, limit=limit)
        finally:
            environment.close()
    with where.long_read("a check"):
        found: list[Problem] = []
        try:
            with where.lmdb.begin(buffers=True) as txn:
                for problem in _Check(txn).problems():
                    found.append(problem)
                    if len(found) >= limit:
                        break
        except lmdb.Error as error:
            found.append(
                Problem("page", b"", f"LMDB can't read on: {error}; restore the folder from a backup")
            )
        return found


class _Check:
    """One walk over all keys of a snapshot in order: META, TYPE, DIRECTORY come before what needs them."""

    def __init__(self, txn: lmdb.Transaction) -> None:
        self._txn = txn
        # Numbers from these on were never given; None while the commit record doesn't tell.
        self._next_actor: int | None = None
        self._next_type: int | None = None
        self._types: set[bytes] = set()
        # The type number of each actor number; 0 for a number without an address.
        self._type_of = array("H")
        self._schemas: dict[bytes, TableSchema | None] = {}
        # Tables without a schema that were told already.
        self._told: set[bytes] = set()

    def problems(self) -> Iterator[Problem]:
        yield from self._check_meta()
        orphan: int | None = None
        with self._txn.cursor() as cursor:
            for raw_key, stored in cursor.iternext():
                key = bytes(raw_key)
                try:
                    value = open_value(key, stored)
                except Damaged as error:
                    yield Problem("checksum", key, str(error))
                    value = None
                if key[:1] == layout.DATA:
                    # One problem for an actor without an address, not one for each of its keys.
                    number = _number_at(key, 1)
                    if number is not None and not self._has_address(number):
                        if number != orphan:
                            orphan = number
                            yield Problem(
                                "orphan", key, f"data of actor number {number}, which has no address"
                            )
                        continue
                try:
                    yield from self._check_key(key, value)
                except (Damaged, IndexError, UnicodeDecodeError) as error:
                    yield Problem("key", key, f"a key doesn't decode: {error}")
                except _BAD_ROW as error:
                    yield Problem("value", key, f"a value doesn't decode: {error}")

    # -- what stands before the actors -----------------------------------------------------------------------

    def _check_meta(self) -> Iterator[Problem]:
        stamp = self._read(layout.META_FORMAT)
        if stamp is not None:
            try:
                number = msgspec.msgpack.decode(stamp, type=int)
            except msgspec.MsgspecError:
                yield Problem("meta", layout.META_FORMAT, "the format stamp is no number")
            else:
                if not 1 <= number <= layout.FORMAT:
                    yield Problem(
                        "meta", layout.META_FORMAT, f"the format stamp is {number}; this is {layout.FORMAT}"
                    )
        elif self._txn.get(layout.META_FORMAT) is None:
            yield Problem("meta", layout.META_FORMAT, "the format stamp is missing")
        record = self._read(layout.META_COMMIT)
        if record is not None:
            try:
                _, self._next_actor, self._next_type = _decode_commit(record)
            except msgspec.MsgspecError as error:
                yield Problem("meta", layout.META_COMMIT, f"the commit record doesn't decode: {error}")
        elif self._txn.get(layout.META_COMMIT) is None and self._txn.stat()["entries"] > 1:
            yield Problem(
                "meta", layout.META_COMMIT, "the commit record is missing although something was stored"
            )

    def _check_key(self, key: bytes, value: bytes | None) -> Iterator[Problem]:
        kind = key[:1]
        if kind == layout.DATA:
            yield from self._check_data(key, value)
        elif kind == layout.DIRECTORY:
            yield from self._check_address(key, value)
        elif kind == layout.TYPE:
            yield from self._check_type(key, value)
        elif kind == layout.DUE:
            yield from self._check_due(key, value)
        elif kind == layout.DEAD_ALARM:
            number, end = decode_number(key, 1)
            key[end:].decode()
            yield from self._expect_actor(key, number, "a dead alarm")
        elif kind == layout.EXPIRY:
            if key[9:10] != layout.DATA or not _is_storage_key(key[9:]):
                yield Problem("key", key, "an entry of expiry names no key of an actor's storage")
        elif kind == layout.SHARED_ROW:
            yield from self._check_shared(key, value, row=True)
        elif kind == layout.SHARED_INDEX:
            yield from self._check_shared(key, value, row=False)
        elif kind == layout.FIELD_INDEX:
            yield from self._check_field_index(key, value)
        elif kind == layout.RUN_LABEL:
            yield from self._check_run_label(key, value)
        elif kind == layout.AUDIT:
            number, _ = decode_number(key, _AUDIT_NUMBER_AT)
            yield from self._expect_audited(key, number)
        elif kind == layout.CHANGE:
            if len(key) != 9:
                yield Problem("key", key, "the row of a commit's changes has no number of a commit")
        elif kind == layout.TABLE:
            if value is not None:
                _decode_schema(value)
            if key[1:3] not in self._types:
                yield Problem("type", key, f"a table of type number {key[1:3].hex()}, which has no name")
        elif key not in (layout.META_FORMAT, layout.META_COMMIT) and kind != layout.META:
            yield Problem("key", key, "a key of no known kind")

    def _check_type(self, key: bytes, value: bytes | None) -> Iterator[Problem]:
        name = key[1:].decode()
        if value is None:
            return
        if len(value) != 2:
            yield Problem("type", key, f"the number of type {name!r} has {len(value)} bytes, not 2")
            return
        if value in self._types:
            yield Problem("type", key, f"type {name!r} has number {value.hex()}, which another type has too")
        elif self._next_type is not None and int.from_bytes(value, "big") >= self._next_type:
            yield Problem("type", key, f"type {name!r} has number {value.hex()}, which was never given")
        self._types.add(value)

    def _check_address(self, key: bytes, value: bytes | None) -> Iterator[Problem]:
        type_number, actor_key = key[1:3], key[3:]
        _decode_exactly(actor_key)
        if type_number not in self._types:
            yield Problem("type", key, f"an address of type number {type_number.hex()}, which has no name")
        if value is None:
            return
        number, end = decode_number(value)
        if end != len(value):
            yield Problem("directory", key, "an address has a number that doesn't decode")
        elif self._has_address(number):
            yield Problem("directory", key, f"two addresses have the actor number {number}")
        elif number > _MAX_ACTORS:
            yield Problem(
                "directory", key, f"an address has the actor number {number}, which is out of all bounds"
            )
        else:
            if self._next_actor is not None and not 1 <= number < self._next_actor:
                yield Problem(
                    "directory", key, f"an address has the actor number {number}, which was never given"
                )
            self._type_of.extend([0] * (number + 1 - len(self._type_of)))
            self._type_of[number] = int.from_bytes(type_number, "big")

    # -- an actor's own --------------------------------------------------------------------------------------

    def _check_data(self, key: bytes, value: bytes | None) -> Iterator[Problem]:
        number, end = decode_number(key, 1)
        kind, rest = key[end : end + 1], key[end + 1 :]
        if kind == layout.STORAGE:
            _decode_exactly(rest)
        elif kind == layout.ALARM:
            rest.decode()
            if value is not None:
                due = layout.due_key(_due_ms(value), number, rest)
                if self._txn.get(due) is None:
                    yield Problem(
                        "alarm",
                        key,
                        f"alarm {rest.decode()!r} of actor {number} has no place in the due order",
                    )
        elif kind in (layout.ROW, layout.ROW_INDEX):
            name, at = _split_table(key, end + 1)
            prefix = key[:end]
            schema = self._schema(self._type_of[number].to_bytes(2, "big") + name)
            if schema is None:
                yield from self._no_schema(key, self._type_of[number].to_bytes(2, "big"), name)
                return
            rows, index = prefix + layout.ROW + name + b"\x00", prefix + layout.ROW_INDEX + name + b"\x00"
            if kind == layout.ROW:
                _decode_exactly(key[at:])
                yield from self._check_row(schema, key, value, rows, index)
            else:
                yield from self._check_entry(schema, key, value, rows, index)
        elif kind == layout.FIELDS:
            if rest:
                yield Problem("key", key, f"the fields of actor {number} have a key that goes on")
        elif kind == layout.CHILD:
            if self._number_of(rest) is None:
                yield Problem("orphan", key, f"actor {number} notes a child that has no address")
        elif kind not in _OF_RUNS:
            yield Problem("key", key, f"data of actor {number} of no known kind")

    def _check_shared(self, key: bytes, value: bytes | None, *, row: bool) -> Iterator[Problem]:
        name, at = _split_table(key, 3)
        schema = self._schema(key[1:3] + name)
        if schema is None:
            yield from self._no_schema(key, key[1:3], name)
            return
        base = key[1:at]
        rows, index = layout.SHARED_ROW + base, layout.SHARED_INDEX + base
        if row:
            number, end = decode_number(key, at)
            _decode_exactly(key[end:])
            yield from self._expect_actor(key, number, f"a row of shared table {name.decode()!r}")
            yield from self._check_row(schema, key, value, rows, index)
        else:
            yield from self._check_entry(schema, key, value, rows, index)

    def _check_row(
        self, schema: TableSchema, key: bytes, value: bytes | None, rows: bytes, index: bytes
    ) -> Iterator[Problem]:
        if value is None:
            return
        for entry in _entries(schema, key[len(rows) :], value, index):
            if self._txn.get(entry) is None:
                yield Problem(
                    "index", key, f"a row has no entry in index {schema.indexes[entry[len(index)]]}"
                )

    def _check_entry(
        self, schema: TableSchema, key: bytes, value: bytes | None, rows: bytes, index: bytes
    ) -> Iterator[Problem]:
        number = key[len(index)]
        if number >= len(schema.indexes):
            yield Problem(
                "index", key, f"an entry of index number {number}; the table has {len(schema.indexes)}"
            )
            return
        if value is None:
            return
        names = schema.indexes[number]
        if not key.endswith(value):
            yield Problem("index", key, f"an entry of index {names} names another row than its key")
            return
        row = self._read(rows + value)
        if row is None:
            if self._exists(rows + value):
                return  # damaged, and told where it stands
            yield Problem("index", key, f"an entry of index {names} has no row")
        elif key not in _entries(schema, value, row, index):
            yield Problem("index", key, f"an entry of index {names} has values that its row doesn't have")

    def _no_schema(self, key: bytes, type_number: bytes, name: bytes) -> Iterator[Problem]:
        if type_number + name not in self._told:
            self._told.add(type_number + name)
            yield Problem(
                "table", key, f"table {name.decode()!r} of type number {type_number.hex()} has no schema"
            )

    # -- what lies beside the actors -------------------------------------------------------------------------

    def _check_due(self, key: bytes, value: bytes | None) -> Iterator[Problem]:
        due_ms, number, name = layout.split_due_key(key)
        alarm = self._read(layout.data_prefix(number) + layout.ALARM + name)
        if alarm is None:
            if self._exists(layout.data_prefix(number) + layout.ALARM + name):
                return
            yield Problem(
                "alarm",
                key,
                f"a place in the due order without its alarm {name.decode()!r} of actor {number}",
            )
        elif _due_ms(alarm) != due_ms:
            yield Problem(
                "alarm",
                key,
                f"alarm {name.decode()!r} of actor {number} stands at another time than it is due",
            )
        elif value is not None and self._number_of(value) != number:
            yield Problem(
                "alarm",
                key,
                f"the due time of alarm {name.decode()!r} names another actor than number {number}",
            )

    def _check_field_index(self, key: bytes, value: bytes | None) -> Iterator[Problem]:
        if value is None:
            return
        _decode_exactly(value)
        number = self._number_of(key[1:3] + value)
        if number is None:
            yield Problem("field index", key, "an entry of a field index names an actor that doesn't exist")
        elif not key.endswith(encode_number(number)):
            yield Problem(
                "field index", key, f"an entry of a field index has another number than its actor ({number})"
            )

    def _check_run_label(self, key: bytes, value: bytes | None) -> Iterator[Problem]:
        if value is None:
            return
        _decode_exactly(value)
        for size in range(1, 9):  # the number is the last part, and begins with its length
            type_number = key[-size - 3 : -size - 1]
            if key[-size - 1] == size and self._number_of(type_number + value) == int.from_bytes(
                key[-size:], "big"
            ):
                return
        yield Problem("field index", key, "an entry of a run's label names a run that doesn't exist")

    def _expect_audited(self, key: bytes, number: int) -> Iterator[Problem]:
        # A run that was purged leaves its audit records; the number was given once.
        if self._next_actor is not None and not 0 <= number < self._next_actor:
            yield Problem(
                "orphan", key, f"an audit record names actor number {number}, which was never given"
            )

    def _expect_actor(self, key: bytes, number: int, what: str) -> Iterator[Problem]:
        if not self._has_address(number):
            yield Problem("orphan", key, f"{what} belongs to actor number {number}, which has no address")

    # -- looking up ------------------------------------------------------------------------------------------

    def _read(self, key: bytes) -> bytes | None:
        """A checked value; None also for one that is damaged, which is a problem of its own."""
        stored = self._txn.get(key)
        if stored is None:
            return None
        try:
            return open_value(key, stored)
        except Damaged:
            return None

    def _exists(self, key: bytes) -> bool:
        return self._txn.get(key) is not None

    def _has_address(self, number: int) -> bool:
        return number < len(self._type_of) and self._type_of[number] != 0

    def _number_of(self, address: bytes) -> int | None:
        """The number of the actor with this type number and key."""
        value = self._read(layout.DIRECTORY + address)
        return None if value is None else decode_number(value)[0]

    def _schema(self, table: bytes) -> TableSchema | None:
        if table not in self._schemas:
            stored = self._read(layout.TABLE + table)
            try:
                self._schemas[table] = None if stored is None else _decode_schema(stored)
            except msgspec.MsgspecError:
                self._schemas[table] = None  # told where it stands
        return self._schemas[table]


def _entries(schema: TableSchema, row_key: bytes, row: bytes, index: bytes) -> list[bytes]:
    """The keys of all index entries that a stored row must have."""
    return [
        index + bytes((number,)) + encode_index_values(stored_index_values(schema, names, row)) + row_key
        for number, names in enumerate(schema.indexes)
    ]


def _decode_exactly(encoded: bytes) -> None:
    """Raise `Damaged` unless these are just the bytes that a key is encoded to."""
    if encode_key(decode_key(encoded), limit_bytes=len(encoded)) != encoded:
        raise Damaged(f"key {encoded.hex()} is not encoded as it would be")


def _number_at(key: bytes, position: int) -> int | None:
    try:
        return decode_number(key, position)[0]
    except (Damaged, IndexError):
        return None


def _split_table(key: bytes, position: int) -> tuple[bytes, int]:
    """The table's name at `position`, and where the key goes on behind it."""
    end = key.find(b"\x00", position)
    if end < 0:
        raise Damaged("a table's name has no end")
    return key[position:end], end + 1


def _is_storage_key(key: bytes) -> bool:
    end = decode_number(key, 1)[1]
    return key[end : end + 1] == layout.STORAGE


def _due_ms(alarm: bytes) -> int:
    """When a stored alarm is due: the first member of its record, which the layer above defines."""
    record: object = msgspec.msgpack.decode(alarm)
    if not isinstance(record, list) or not record or not isinstance(record[0], int):
        raise Damaged("an alarm's record doesn't begin with a time")
    return record[0]
