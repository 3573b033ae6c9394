"""Tables: rows of one struct with secondary indexes, kept right in the same write set.

A table knows how its rows and index entries are keyed; reading and writing go through the access it was given
(an actor's turn, or a snapshot that can only read).  An entry of an index has the indexed values and the
row's key in its key (and the row's key as its value, which saves decoding), so the order of the bytes is the
order of the query.
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, date, datetime
from operator import attrgetter
from typing import Final, Generic, Protocol, TypeVar, cast, get_type_hints

import msgspec

from .errors import CallerError, InvalidKey, InvalidValue
from .group_commit import Writes
from .keys import (
    MAX_INDEX_ENTRY_BYTES,
    IndexValue,
    Key,
    decode_number,
    encode_index_values,
    encode_key,
    next_prefix,
)

# As large as a value of `self.storage` may be.
MAX_ROW_BYTES: Final = 8 << 20
Row = TypeVar("Row", bound=msgspec.Struct)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.msgpack.Encoder().encode


class RowExists(CallerError):
    """`insert` found a row with that key."""


class TableSchema(msgspec.Struct, frozen=True):
    """What `check` must know of a table: the names in stored order, the key and the indexes."""

    fields: tuple[str, ...]
    key: str
    indexes: tuple[tuple[str, ...], ...]
    as_array: bool


class RowAccess(Protocol):
    """Where a table reads and writes: full keys, checked payloads."""

    def read(self, key: bytes) -> bytes | None: ...

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]: ...

    def write(self, key: bytes, value: bytes | None) -> None: ...


class Table(Generic[Row]):
    """Rows of `row_type` by `key`.  Made by `ActorStorage.table`, or by `Runtime.table` for reading."""

    def __init__(
        self,
        access: RowAccess,
        row_type: type[Row],
        schema: TableSchema,
        row_prefix: bytes,
        index_prefix: bytes,
        owner: bytes | None = b"",
    ) -> None:
        """`owner` stands between index values and row key in a shared table; None reads the rows of all."""
        self._access = access
        self._schema = schema
        self._rows = row_prefix
        self._index = index_prefix
        self._owner = owner
        self._decode: Callable[[bytes], Row] = msgspec.msgpack.Decoder(row_type).decode
        self._row_type = row_type
        self._get_key: Callable[[Row], Key] = attrgetter(schema.key)
        self._get_values = [_values_of(names) for names in schema.indexes]
        self._numbers = [bytes((number,)) for number in range(len(schema.indexes))]

    def get(self, key: Key) -> Row | None:
        """The row with this key, or None."""
        stored = self._access.read(self._row_key(key))
        return None if stored is None else self._decode(stored)

    def put(self, row: Row) -> None:
        """Store a row in place of the one with the same key, if there is one."""
        row, encoded = self._encode(row)
        full_key = self._row_key(self._get_key(row))
        stored = self._access.read(full_key)
        if stored != encoded:
            self._replace(full_key, self._decode(stored) if stored is not None else None, row, encoded)

    def insert(self, row: Row) -> None:
        """Store a new row; raises `RowExists` when its key is taken."""
        row, encoded = self._encode(row)
        key = self._get_key(row)
        full_key = self._row_key(key)
        if self._access.read(full_key) is not None:
            raise RowExists(f"there is a {self._row_type.__name__} with {self._schema.key}={key!r} already")
        self._replace(full_key, None, row, encoded)

    def upsert(self, row: Row, merge: Callable[[Row, Row], Row]) -> Row:
        """Store `row`, or `merge(stored, row)` when its key is taken; returns what was stored."""
        full_key = self._row_key(self._get_key(row))
        stored = self._access.read(full_key)
        old = None
        if stored is not None:
            old = self._decode(stored)
            row = merge(self._decode(stored), row)
            if self._row_key(self._get_key(row)) != full_key:
                raise InvalidKey(f"merge changed {self._schema.key} of the row; it must stay what it was")
        row, encoded = self._encode(row)
        if stored != encoded:
            self._replace(full_key, old, row, encoded)
        return row

    def delete(self, key: Key) -> bool:
        """Remove a row; False when there was none."""
        full_key = self._row_key(key)
        stored = self._access.read(full_key)
        if stored is None:
            return False
        self._replace(full_key, self._decode(stored), None, None)
        return True

    def select(
        self,
        *,
        order_by: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        after: Row | None = None,
        **equal: object,
    ) -> list[Row]:
        """Rows whose fields equal the given values, in the order of an index.

        The fields of `equal`, then `order_by`, must be the beginning of an index (any order within `equal`);
        with neither, rows come in the order of their keys.  `after` is the last row of the page before.
        """
        if not equal and order_by in (None, self._schema.key):
            return self._select_by_key(reverse, limit, after)
        number, names = choose_index(self._schema.indexes, equal, order_by, self._row_type.__name__)
        prefix = self._index + self._numbers[number]
        prefix += self._encode_equal(equal, names)
        start, end = prefix, next_prefix(prefix)
        if after is not None:
            last = self._position_of(number, after)
            start, end = (start, last) if reverse else (last + b"\x00", end)
        found: list[Row] = []
        for entry, row_key in self._access.scan(start, end, reverse, limit):
            stored = self._access.read(self._rows + row_key)
            if stored is None:
                raise InvalidValue(f"index entry {entry.hex()} has no row; run `holdfast check`")
            found.append(self._decode(stored))
        return found

    def count(self, **equal: object) -> int:
        """How many rows have these values; the fields must be the beginning of an index."""
        if not equal:
            return len(self._access.scan(self._own_rows(), next_prefix(self._own_rows()), False, None))
        number, names = choose_index(self._schema.indexes, equal, None, self._row_type.__name__)
        prefix = self._index + self._numbers[number]
        prefix += self._encode_equal(equal, names)
        return len(self._access.scan(prefix, next_prefix(prefix), False, None))

    # -- within ----------------------------------------------------------------------------------------------

    def _own_rows(self) -> bytes:
        return self._rows + (self._owner or b"")

    def _row_key(self, key: Key) -> bytes:
        if self._owner is None:
            raise CallerError("this table is open for reading rows of many actors; ask it with select()")
        return (
            self._rows + self._owner + encode_key(key, what=f"{self._row_type.__name__}.{self._schema.key}")
        )

    def _encode(self, row: Row) -> tuple[Row, bytes]:
        """The row as it will be read, and its bytes."""
        if type(row) is not self._row_type:
            raise InvalidValue(f"expected a {self._row_type.__name__}, got {type(row).__name__}")
        try:
            read = self._decode(_encode(row))
            # Encoded again from what its types make of it (1 in a float field is 1.0), so that `check`, which
            # has no types, finds the values that the index entries were made of.
            encoded = _encode(read)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidValue(f"a {self._row_type.__name__} can't be stored: {error}") from error
        if len(encoded) > MAX_ROW_BYTES:
            raise InvalidValue(
                f"a {self._row_type.__name__} takes {len(encoded)} bytes as a row; at most {MAX_ROW_BYTES} "
                "are allowed: split it"
            )
        return read, encoded

    def _replace(self, full_key: bytes, old: Row | None, new: Row | None, encoded: bytes | None) -> None:
        row_key = full_key[len(self._rows) :]
        entries: Writes = {}
        for number in range(len(self._get_values)):
            if old is not None:
                entries[self._entry(number, old, row_key)] = None
            if new is not None:
                entries[self._entry(number, new, row_key)] = row_key
        write = self._access.write
        write(full_key, encoded)
        for key, value in entries.items():
            write(key, value)

    def _entry(self, number: int, row: Row, row_key: bytes) -> bytes:
        entry = (
            self._index + self._numbers[number] + encode_index_values(self._get_values[number](row)) + row_key
        )
        if len(entry) > MAX_INDEX_ENTRY_BYTES:
            raise InvalidKey(
                f"index {self._schema.indexes[number]} of {self._row_type.__name__}: an entry takes "
                f"{len(entry)} bytes, at most {MAX_INDEX_ENTRY_BYTES} are allowed; index a shorter field"
            )
        return entry

    def _encode_equal(self, equal: dict[str, object], names: tuple[str, ...]) -> bytes:
        values: list[IndexValue] = []
        for name in names[: len(equal)]:
            value = equal[name]
            if type(value) is int and self._is_float(name):
                value = float(value)
            values.append(index_value(value))
        return encode_index_values(tuple(values))

    def _is_float(self, name: str) -> bool:
        """Whether a whole number in this field would be read as a float."""
        hint = get_type_hints(self._row_type)[name]
        try:
            return type(msgspec.convert(1, hint)) is float
        except msgspec.ValidationError:
            return False

    def _position_of(self, number: int, row: Row) -> bytes:
        """The index entry of a row that was read before."""
        key = encode_key(self._get_key(row))
        if self._owner is not None:
            return self._entry(number, row, self._owner + key)
        # The rows of all owners: whose it is stands only in the entry.
        prefix = self._entry(number, row, b"")
        entries = self._access.scan(prefix, next_prefix(prefix), False, None)
        found = [entry for entry, row_key in entries if row_key[decode_number(row_key)[1] :] == key]
        if len(found) != 1:
            raise CallerError(
                f"{len(found)} rows of {self._row_type.__name__} have "
                f"{self._schema.key}={self._get_key(row)!r} and these indexed values, so no page can go on "
                "after one; read on with a larger limit, or make the key unique over all actors"
            )
        return found[0]

    def _select_by_key(self, reverse: bool, limit: int | None, after: Row | None) -> list[Row]:
        prefix = self._own_rows()
        start, end = prefix, next_prefix(prefix)
        if after is not None:
            if self._owner is None:
                raise CallerError("rows of many actors are paged in the order of an index; give order_by")
            last = prefix + encode_key(self._get_key(after))
            start, end = (start, last) if reverse else (last + b"\x00", end)
        return [self._decode(stored) for _, stored in self._access.scan(start, end, reverse, limit)]


def choose_index(
    indexes: Iterable[tuple[str, ...]], equal: Collection[str], order_by: str | None, what: str
) -> tuple[int, tuple[str, ...]]:
    """The number and the names of the first index that begins with the fields of `equal`, then `order_by`.

    Raises `CallerError` naming the indexes of `what` when there is none.
    """
    size, wanted = len(equal), set(equal)
    for number, names in enumerate(indexes):
        if set(names[:size]) == wanted and (order_by is None or names[size : size + 1] == (order_by,)):
            return number, names
    raise CallerError(
        f"no index of {what} begins with {sorted(equal)}"
        + (f" and then {order_by!r}" if order_by else "")
        + f"; its indexes are {list(indexes)}"
    )


def table_schema(
    row_type: type[msgspec.Struct], key: str, indexes: tuple[tuple[str, ...] | str, ...]
) -> TableSchema:
    """The schema of a row type; raises `InvalidValue` when a name is no field of it."""
    try:
        config = row_type.__struct_config__
        fields = row_type.__struct_encode_fields__
    except AttributeError:
        raise InvalidValue(f"a table's rows must be a msgspec.Struct; got {row_type!r}") from None
    if row_type.__struct_fields__ != fields:
        raise InvalidValue(
            f"{row_type.__name__} renames fields for encoding, which a table's indexes can't follow"
        )
    normal = tuple((names,) if isinstance(names, str) else tuple(names) for names in indexes)
    for name in (key, *(name for names in normal for name in names)):
        if name not in fields:
            raise InvalidValue(f"{row_type.__name__} has no field {name!r}; it has {list(fields)}")
    if config.omit_defaults:
        raise InvalidValue(f"{row_type.__name__} omits defaults when encoded, which a table's rows must not")
    # An array with a tag has it in front of the fields.
    tag = (config.tag_field or "type",) if config.array_like and config.tag is not None else ()
    return TableSchema((*tag, *fields), key, normal, bool(config.array_like))


def index_value(value: object) -> IndexValue:
    """A field's value as an index holds it; raises `InvalidValue` for types without an order on disk."""
    if value.__class__ in _PLAIN:
        return value  # type: ignore[return-value]  # its class says so
    if isinstance(value, enum.Enum):
        return index_value(value.value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidValue(f"an indexed datetime needs a time zone; got {value!r}")
        return (value - _EPOCH) // _MICROSECOND
    if isinstance(value, (str, bytes, int, float)):  # subclasses
        return value
    if isinstance(value, (date, uuid.UUID)):
        return str(value)
    raise InvalidValue(
        f"a {type(value).__qualname__} can't be indexed; use str, bytes, int, float, bool, datetime, Enum "
        f"or None"
    )


_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})
_MICROSECOND: Final = datetime.resolution


def stored_index_values(schema: TableSchema, names: tuple[str, ...], stored: bytes) -> tuple[IndexValue, ...]:
    """The indexed values of a stored row, without its class: what `check` compares the entries with."""
    row: object = msgspec.msgpack.decode(stored)
    if schema.as_array and isinstance(row, list):
        row = dict(zip(schema.fields, cast("list[object]", row), strict=False))
    if not isinstance(row, dict):
        raise InvalidValue(f"a row of a table with the fields {schema.fields} is a {type(row).__name__}")
    values = cast("dict[object, object]", row)
    missing = [name for name in names if name not in values]
    if missing:
        raise InvalidValue(f"a row has no {', '.join(missing)}")
    return tuple(index_value(values[name]) for name in names)


def _values_of(names: tuple[str, ...]) -> Callable[[object], tuple[IndexValue, ...]]:
    getters = [attrgetter(name) for name in names]
    return lambda row: tuple([index_value(getter(row)) for getter in getters])
