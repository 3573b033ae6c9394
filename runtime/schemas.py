"""The schemas of tables: stored beside the rows so that `check` can prove the indexes without the classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ..storage import layout
from ..storage.errors import CallerError
from ..storage.store import Store
from ..storage.table import TableSchema

if TYPE_CHECKING:
    from .actor_storage import Place
    from .actor_type import ActorType

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(TableSchema).decode


class Schemas:
    """The schemas known in this process, each compared with the stored one when the table is first used."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[bytes, TableSchema] = {}
        self._stored: set[bytes] = set()

    def check(self, kind: ActorType, name: bytes, schema: TableSchema) -> None:
        """Raise `CallerError` when the table was stored, or used before, with another schema."""
        key = layout.TABLE + kind.number_bytes + name
        known = self._known.get(key)
        if known is None:
            stored = self._store.get(key)
            known = schema if stored is None else _decode(stored)
        if known is not schema and (known.key, known.indexes) != (schema.key, schema.indexes):
            raise CallerError(
                f"table {name.decode()!r} of {kind.name} has key={known.key!r} and "
                f"indexes={list(known.indexes)}, now asked for with key={schema.key!r} and "
                f"indexes={list(schema.indexes)}; use another name for the table"
            )
        if key in self._known and known.fields != schema.fields:
            self._stored.discard(key)  # fields were added: the stored schema is renewed with the next write
        self._known[key] = schema

    def add_to(self, place: Place, name: bytes) -> None:
        """Add the table's schema to the turn's writes unless it is stored already."""
        key = layout.TABLE + place.type.number_bytes + name
        if key in self._stored:
            return
        encoded = _encode(self._known[key])
        if self._store.get(key) == encoded:
            self._stored.add(key)
        else:
            place.write(key, encoded)

    def forget(self) -> None:
        """A commit failed: what was thought stored may not be."""
        self._stored.clear()
