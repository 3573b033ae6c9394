"""Looking at actors as they lie on disk: types, keys, one actor with its fields, size and alarms.

Nothing is loaded and no class is needed, so what an old version of a program left can be looked at too.
What is seen is durable.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

import msgspec

from ..storage import layout
from ..storage.keys import Key, decode_key, encode_prefix, next_prefix
from .address import ActorKey, GivenKey, normal_key, show_address
from .alarm_scheduler import decode_dead_alarm
from .alarms import Alarm, decode_alarm
from .clock import moment
from .codec import decode_to_show
from .errors import ActorNotFound, UnknownActorType
from .fields import VERSION_FIELD
from .registry import find_actor_class

if TYPE_CHECKING:
    from ..storage.store import DurableView
    from .system import ActorSystem

# Keys of a type, and rows of an actor, that are counted: some milliseconds.
MAX_COUNTED: Final = 10_000
MAX_SHOWN_ALARMS: Final = 100


class TypeLook(msgspec.Struct, frozen=True):
    """One actor type that ever wrote here."""

    type: str
    imported: bool
    """Its class is there."""
    keys: int
    """Actors that are stored; at most 10 000 are counted."""
    more: bool
    """There are more keys than were counted."""
    in_memory: int


class KeyLook(msgspec.Struct, frozen=True):
    """One stored actor in a list."""

    key: ActorKey
    in_memory: bool


class AlarmLook(msgspec.Struct, frozen=True):
    """One alarm of an actor."""

    name: str
    due_at: datetime
    scheduled_at: datetime
    """When it was first due; `due_at` moves with each retry."""
    retries: int
    every_seconds: float | None
    cron: str | None
    tz: str | None
    payload: object


class DeadAlarmLook(msgspec.Struct, frozen=True):
    """One alarm of an actor whose retries are spent."""

    name: str
    error: str
    died_at: datetime


class ActorLook(msgspec.Struct, frozen=True):
    """One actor as it lies on disk."""

    type: str
    key: ActorKey
    imported: bool
    """Its class is there."""
    in_memory: bool
    version: int
    """Of the class that wrote the fields."""
    fields: object
    """Declared fields by name, as plain data."""
    rows: int
    """Keys below it: the record of its fields, storage, rows of its own tables and their indexes, alarms."""
    stored_bytes: int
    """Of these rows, keys and values; without rows of tables that it shares."""
    more: bool
    """Only the first 10 000 rows were counted."""
    alarms: tuple[AlarmLook, ...]
    """The first 100, by name."""
    dead_alarms: tuple[DeadAlarmLook, ...]


def is_imported(name: str) -> bool:
    """Whether there is one class with this stored name."""
    try:
        return find_actor_class(name) is not None
    except UnknownActorType:  # several claim it
        return False


async def look_at_types(system: ActorSystem) -> list[TypeLook]:
    """All types that ever wrote here, by name; between two of them others have their turn."""
    system.check_open()
    live = Counter(activation.type.name for activation in system.directory.all())
    found: list[TypeLook] = []
    for name, number in sorted(system.actor_types.stored().items()):
        base = layout.DIRECTORY + number
        await asyncio.sleep(0)
        system.check_open()
        with system.store.durable_view() as view:
            keys = view.count(base, MAX_COUNTED + 1)
        found.append(
            TypeLook(name, is_imported(name), min(keys, MAX_COUNTED), keys > MAX_COUNTED, live[name])
        )
    return found


def type_number(system: ActorSystem, name: str) -> bytes:
    """The stored number of a type; raises `UnknownActorType` when nothing of that name ever wrote here."""
    system.check_open()
    number = system.actor_types.stored().get(name)
    if number is None:
        raise UnknownActorType(f"no actor type {name!r:.200} is stored here")
    return number


def look_at_keys(
    system: ActorSystem,
    type_name: str,
    prefix: Key | None = None,
    *,
    after: GivenKey | None = None,
    limit: int = 100,
) -> list[KeyLook]:
    """Keys of stored actors in key order, from behind `after` on; raises `UnknownActorType`.

    prefix   a text for keys that begin with it, a tuple for tuples with these first parts
    """
    base = layout.DIRECTORY + type_number(system, type_name)
    low = base + (b"" if prefix is None else encode_prefix(prefix))
    start = low if after is None else max(low, base + normal_key(after, type_name)[1] + b"\x00")
    with system.store.durable_view() as view:
        rows = view.sizes(start, next_prefix(low), limit)
    return [
        KeyLook(
            cast("ActorKey", decode_key(directory_key[len(base) :])),
            system.directory.find(directory_key) is not None,
        )
        for directory_key, _ in rows
    ]


def look_at_actor(system: ActorSystem, type_name: str, key: GivenKey) -> ActorLook:
    """One actor; raises `ActorNotFound`, `UnknownActorType` or `InvalidKey`."""
    number = type_number(system, type_name)
    normal, key_bytes = normal_key(key, type_name)
    directory_key = layout.DIRECTORY + number + key_bytes
    with system.store.durable_view() as view:
        owner = view.read(directory_key)
        if owner is None:
            raise ActorNotFound(f"nothing is stored of {show_address(type_name, normal)}")
        base = layout.DATA + owner
        sizes = view.sizes(base, next_prefix(base), MAX_COUNTED + 1)
        record = view.read(base + layout.FIELDS)
        alarms = _alarms(view, base)
        dead = _dead_alarms(view, owner)
    more = len(sizes) > MAX_COUNTED
    fields: object = decode_to_show(b"\x80" if record is None else record)
    version = 1
    if isinstance(fields, dict):
        fields = cast("dict[str, object]", fields)
        version = cast("int", fields.pop(VERSION_FIELD, 1))
    return ActorLook(
        type_name,
        normal,
        is_imported(type_name),
        system.directory.find(directory_key) is not None,
        version,
        fields,
        min(len(sizes), MAX_COUNTED),
        sum(len(row_key) + size for row_key, size in sizes[:MAX_COUNTED]),
        more,
        alarms,
        dead,
    )


def _alarms(view: DurableView, base: bytes) -> tuple[AlarmLook, ...]:
    prefix = base + layout.ALARM
    found: list[AlarmLook] = []
    for key, stored in view.scan(prefix, next_prefix(prefix), False, MAX_SHOWN_ALARMS):
        record = decode_alarm(stored)
        alarm = Alarm(key[len(prefix) :].decode(), record)
        found.append(
            AlarmLook(
                alarm.name,
                alarm.due_at,
                alarm.scheduled_at,
                record.retries,
                alarm.every_seconds,
                alarm.cron,
                alarm.tz,
                None if record.payload is None else decode_to_show(record.payload),
            )
        )
    return tuple(found)


def _dead_alarms(view: DurableView, owner: bytes) -> tuple[DeadAlarmLook, ...]:
    prefix = layout.DEAD_ALARM + owner
    found: list[DeadAlarmLook] = []
    for key, stored in view.scan(prefix, next_prefix(prefix), False, MAX_SHOWN_ALARMS):
        record = decode_dead_alarm(stored)
        found.append(DeadAlarmLook(key[len(prefix) :].decode(), record.error, moment(record.died_ms)))
    return tuple(found)
