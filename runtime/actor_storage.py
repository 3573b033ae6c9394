"""`self.storage`: an actor's own keys, values and tables.

Reads and writes are plain calls, since nothing in them waits: writes go to the turn's write set, reads see it
first.  Values go through the codec, so changing an object after `put`, or one that `get` returned, changes
nothing stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar, overload

import msgspec

from ..storage import layout
from ..storage.errors import CallerError, InvalidValue
from ..storage.keys import Key, decode_key, encode_key, encode_prefix, next_prefix
from ..storage.table import Row, Table, table_schema
from .chain import rest_on
from .codec import BAD_VALUE, decode_plain, encode, reason
from .durations import Duration, to_seconds

if TYPE_CHECKING:
    from .actor_type import ActorType
    from .alarms import Alarms
    from .chain import Turn
    from .ref import Ref
    from .system import ActorSystem

T = TypeVar("T")
MAX_VALUE_BYTES: Final = 8 << 20
_MAX_TABLE_NAME_BYTES: Final = 40


class Place(Protocol):
    """The activation (or a reader's stand-in for it) whose keys these are."""

    ref: Ref
    system: ActorSystem

    @property
    def alarms(self) -> Alarms: ...

    @property
    def type(self) -> ActorType: ...

    def read(self, key: bytes) -> bytes | None: ...

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]: ...

    def write(self, key: bytes, value: bytes | None) -> None: ...

    def current_turn(self) -> Turn: ...

    def prefix(self, kind: bytes) -> bytes: ...

    def owner(self) -> bytes: ...


class ActorStorage:
    """Keys are `str`, `bytes`, `int` or flat tuples of them, in byte order.

    Values are whatever msgspec encodes.
    """

    __slots__ = ("_place",)

    def __init__(self, place: Place) -> None:
        self._place = place

    @overload
    def get(self, key: Key) -> object: ...
    @overload
    def get(self, key: Key, type: type[T]) -> T | None: ...  # the word msgspec uses for it

    def get(self, key: Key, type: type[T] | None = None) -> object:
        """The value of `key`, or None; with `type`, checked and made into that type.

        Raises `InvalidValue` when the stored value doesn't match `type`.
        """
        stored = self._place.read(self._place.prefix(layout.STORAGE) + encode_key(key))
        if stored is None:
            return None
        payload = self._open(stored)
        return None if payload is None else self._decode(payload, type, key)

    def put(self, key: Key, value: object, *, ttl: Duration | None = None) -> None:
        """Store a value; with `ttl` it is gone after that time.  A put replaces an earlier ttl too."""
        encoded_key = encode_key(key)
        payload = encode(value, f"{self._place.ref}: the value of {key!r}")
        if len(payload) > MAX_VALUE_BYTES:
            raise InvalidValue(
                f"{self._place.ref}: the value of {key!r} takes {len(payload)} bytes; at most "
                f"{MAX_VALUE_BYTES} are allowed: split it"
            )
        full_key = self._place.prefix(layout.STORAGE) + encoded_key
        if ttl is None:
            self._place.write(full_key, layout.PLAIN + payload)
            return
        expires_ms = self._place.system.clock.now_ms() + round(to_seconds(ttl, what="ttl") * 1000)
        self._place.write(full_key, layout.EXPIRES + layout.time_bytes(expires_ms) + payload)
        self._place.write(layout.expiry_key(expires_ms, full_key), b"")

    def delete(self, key: Key) -> bool:
        """Remove a key; False when it wasn't there."""
        full_key = self._place.prefix(layout.STORAGE) + encode_key(key)
        stored = self._place.read(full_key)
        if stored is None:
            return False
        self._place.write(full_key, None)
        return self._open(stored) is not None

    @overload
    def list(
        self, prefix: Key | None = ..., *, start: Key | None = ..., start_after: Key | None = ...,
        end: Key | None = ..., reverse: bool = ..., limit: int | None = ...,
    ) -> dict[Key, object]: ...  # fmt: skip
    @overload
    def list(
        self, prefix: Key | None = ..., *, type: type[T], start: Key | None = ...,
        start_after: Key | None = ..., end: Key | None = ..., reverse: bool = ..., limit: int | None = ...,
    ) -> dict[Key, T]: ...  # fmt: skip

    def list(
        self,
        prefix: Key | None = None,
        *,
        type: type[T] | None = None,
        start: Key | None = None,
        start_after: Key | None = None,
        end: Key | None = None,
        reverse: bool = False,
        limit: int | None = None,
    ) -> dict[Key, object] | dict[Key, T]:
        """Keys and values in key order.

        `prefix` is a text that keys begin with, or the first parts of tuples; `start` is included,
        `start_after` and `end` are not; `reverse` turns the order round, not the bounds.  Raises
        `CallerError` for both starts or a limit below 1.
        """
        if start is not None and start_after is not None:
            raise CallerError("list() takes start or start_after, not both")
        if limit is not None and limit < 1:
            raise CallerError(f"the limit of list() must be at least 1; got {limit}")
        base = self._place.prefix(layout.STORAGE)
        low = b"" if prefix is None else encode_prefix(prefix)
        if start is not None:
            low = max(low, encode_key(start))
        if start_after is not None:
            low = max(low, encode_key(start_after) + b"\x00")
        high = next_prefix(base + (b"" if prefix is None else encode_prefix(prefix)))
        if end is not None:
            high = base + encode_key(end) if high is None else min(high, base + encode_key(end))
        found: dict[Key, object] = {}
        # Expired values are skipped, so more rows than `limit` may have to be read.
        at, until = base + low, high
        while until is None or at < until:
            rows = self._place.scan(at, until, reverse, None if limit is None else limit - len(found))
            for full_key, stored in rows:
                payload = self._open(stored)
                if payload is not None:
                    key = decode_key(full_key[len(base) :])
                    found[key] = self._decode(payload, type, key)
            if limit is None or len(found) >= limit or len(rows) < limit - len(found):
                break
            if reverse:
                until = rows[-1][0]
            else:
                at = rows[-1][0] + b"\x00"
        return found

    def clear(self) -> None:
        """Remove all keys, table rows and alarms of this actor; its declared fields stay."""
        for kind in (layout.STORAGE, layout.ROW, layout.ROW_INDEX):
            prefix = self._place.prefix(kind)
            for full_key, _ in self._place.scan(prefix, next_prefix(prefix), False, None):
                self._place.write(full_key, None)
        self._place.alarms.clear()

    def table(
        self,
        row_type: type[Row],
        *,
        key: str,
        indexes: tuple[tuple[str, ...] | str, ...] = (),
        name: str | None = None,
        shared: bool = False,
    ) -> Table[Row]:
        """A table of rows with secondary indexes.

        `key` names the field that identifies a row.  A `shared` table has the rows of all actors of this type
        in one index, to be read with `Runtime.table`; each actor still owns its rows.  Raises `InvalidValue`
        for a field that isn't there, and `CallerError` when the table was stored with other indexes.
        """
        schema = table_schema(row_type, key, indexes)
        table_name = table_name_bytes(name or row_type.__name__)
        place = self._place
        place.system.schemas.check(place.type, table_name, schema)
        access = _TableAccess(place, table_name, shared)
        if shared:
            base = place.type.number_bytes + table_name + b"\x00"
            return Table(
                access, row_type, schema, layout.SHARED_ROW + base, layout.SHARED_INDEX + base, place.owner()
            )
        rows = place.prefix(layout.ROW) + table_name + b"\x00"
        return Table(access, row_type, schema, rows, place.prefix(layout.ROW_INDEX) + table_name + b"\x00")

    def _open(self, stored: bytes) -> bytes | None:
        if stored[:1] == layout.PLAIN:
            return stored[1:]
        expires_ms = int.from_bytes(stored[1:9], "big")
        return None if expires_ms <= self._place.system.clock.now_ms() else stored[9:]

    def _decode(self, payload: bytes, wanted: type[T] | None, key: Key) -> object:
        try:
            return decode_plain(payload) if wanted is None else msgspec.msgpack.decode(payload, type=wanted)
        except BAD_VALUE as error:
            raise InvalidValue(
                f"{self._place.ref}: the stored value of {key!r} is no {wanted}: {reason(error)}"
            ) from error


class _TableAccess:
    """A place's reads and writes, with the table's schema added to the first write."""

    __slots__ = ("_name", "_place", "_shared")

    def __init__(self, place: Place, name: bytes, shared: bool) -> None:
        self._place = place
        self._name = name
        self._shared = shared

    def read(self, key: bytes) -> bytes | None:
        return self._place.read(key)

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]:
        if self._shared:
            rest_on(self._place.system.store.newest)  # other actors' rows may be among them
        return self._place.scan(start, end, reverse, limit)

    def write(self, key: bytes, value: bytes | None) -> None:
        self._place.system.schemas.add_to(self._place, self._name)
        self._place.write(key, value)


def table_name_bytes(name: str) -> bytes:
    """A table's name as it stands in keys; raises `InvalidValue` for a name that can't."""
    encoded = name.encode()
    if not name.isidentifier() or len(encoded) > _MAX_TABLE_NAME_BYTES:
        raise InvalidValue(
            f"a table's name must be an identifier of at most {_MAX_TABLE_NAME_BYTES} bytes; got {name!r}"
        )
    return encoded
