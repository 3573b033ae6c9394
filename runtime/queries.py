"""Looking over all actors of a type: their keys, their declared fields by index, the table that they share.

Nothing here loads an actor.  What the caller sees is up to `Reader`: outside the actors what is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..storage import layout
from ..storage.errors import CallerError
from ..storage.keys import Key, decode_key, encode_index_values, encode_prefix, next_prefix
from ..storage.table import Row, Table, choose_index, index_value, table_schema
from .actor_storage import table_name_bytes
from .address import ActorKey, GivenKey, normal_key

if TYPE_CHECKING:
    from .actor_type import ActorType
    from .ref import Ref
    from .system import ActorSystem


def find_keys(
    system: ActorSystem, kind: ActorType, prefix: Key | None, after: GivenKey | None, limit: int
) -> list[ActorKey]:
    """See `ActorSystem.keys`."""
    base = layout.DIRECTORY + kind.number_bytes
    low = base + (b"" if prefix is None else encode_prefix(prefix))
    end = next_prefix(low)
    start = low if after is None else max(low, base + normal_key(after, kind.name)[1] + b"\x00")
    found = system.reader.scan(start, end, False, limit)
    return [cast("ActorKey", decode_key(key[len(base) :])) for key, _ in found]


def find_by_fields(
    system: ActorSystem,
    kind: ActorType,
    equal: dict[str, object],
    order_by: str | None,
    reverse: bool,
    limit: int,
    after: Ref | None,
) -> list[Ref]:
    """See `ActorSystem.query`."""
    position, names = choose_index(kind.fields.indexes, equal, order_by, kind.name)
    index = kind.index_prefixes[position]
    start = index + encode_index_values(tuple(index_value(equal[name]) for name in names[: len(equal)]))
    end = next_prefix(start)
    if after is not None:
        place = start + _behind_equal(system, after, kind, names, len(equal))
        start, end = (start, place) if reverse else (place + b"\x00", end)
    rows = system.reader.scan(start, end, reverse, limit)
    return [system.make_ref(kind, cast("ActorKey", decode_key(stored)), stored) for _, stored in rows]


def _behind_equal(system: ActorSystem, ref: Ref, kind: ActorType, names: tuple[str, ...], size: int) -> bytes:
    """Where an actor stands among those of equal values: its further indexed values and its number.

    The equal values themselves are the query's, since the actor's may have changed since that page.
    """
    found = system.reader.read(ref.directory_key)
    record = None if found is None else system.reader.read(layout.DATA + found + layout.FIELDS)
    if found is None or record is None:
        raise CallerError(f"{ref} isn't stored, so no page can go on after it")
    blank = kind.actor_class.__new__(kind.actor_class)
    kind.fields.restore(blank, record, str(ref))
    return encode_index_values(kind.fields.indexes[names](blank)[size:]) + found


def open_shared_table(
    system: ActorSystem,
    kind: ActorType,
    row_type: type[Row],
    key: str,
    indexes: tuple[tuple[str, ...] | str, ...],
    name: str | None,
) -> Table[Row]:
    """See `ActorSystem.table`."""
    schema = table_schema(row_type, key, indexes)
    table_name = table_name_bytes(name or row_type.__name__)
    system.schemas.check(kind, table_name, schema)
    base = kind.number_bytes + table_name + b"\x00"
    rows, index = layout.SHARED_ROW + base, layout.SHARED_INDEX + base
    return Table(system.reader, row_type, schema, rows, index, None)
