"""What all actors have stored, as plain data: to compare how two stories ended.

Read from the rows themselves, so it is what the next process would find.  Actors stand under their address
("Counter/total"); the compact numbers that a folder gives them are not part of it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import msgspec

from ..actors.workflow.workflow_type import WorkflowType
from ..runtime.address import ActorKey, show_address
from ..runtime.alarms import AlarmRecord
from ..runtime.codec import decode_to_show
from ..runtime.fields import VERSION_FIELD
from ..storage import layout
from ..storage.keys import decode_key, decode_number

if TYPE_CHECKING:
    from ..actors.system import Runtime

# By address, then by kind ("fields", "storage", "rows", "shared rows", "alarms", "replies").
StoredState: TypeAlias = dict[str, dict[str, object]]
_decode_alarm: Final = msgspec.msgpack.Decoder(AlarmRecord).decode


def stored_state(
    runtime: Runtime, *, leave_out: Collection[str] = (), ignore: Collection[str] = ()
) -> StoredState:
    """The state of all actors but runs of workflows, as staged.

    leave_out   names of actor types that don't count
    ignore      names of fields that don't count, in declared fields and in rows of tables

    Times of alarms and of expiry don't count: a story with a failure in it takes longer.
    """
    owners = _owners(runtime, leave_out)
    state: StoredState = {}
    for key, value in runtime.store.scan_prefix(layout.DATA):
        number, end = decode_number(key, 1)
        owner = owners.get(number)
        if owner is None:
            continue
        kind, rest = key[end : end + 1], key[end + 1 :]
        mine = state.setdefault(owner, {})
        if kind == layout.FIELDS:
            mine["fields"] = _without(decode_to_show(value), ignore)
        elif kind == layout.STORAGE:
            stored = value[1:] if value[:1] == layout.PLAIN else value[9:]
            _part(mine, "storage")[repr(decode_key(rest))] = decode_to_show(stored)
        elif kind == layout.ALARM:
            alarm = _decode_alarm(value)
            payload = None if alarm.payload is None else decode_to_show(alarm.payload)
            _part(mine, "alarms")[rest.decode()] = [payload, alarm.repeat]
        elif kind == layout.ROW:
            table, _, row_key = rest.partition(b"\x00")
            _part(mine, "rows")[f"{table.decode()} {decode_key(row_key)!r}"] = _without(
                decode_to_show(value), ignore
            )
        elif kind == layout.REPLY:
            _part(mine, "replies")[rest.hex()] = True
    for key, value in runtime.store.scan_prefix(layout.SHARED_ROW):
        table, _, rest = key[3:].partition(b"\x00")
        number, end = decode_number(rest)
        owner = owners.get(number)
        if owner is not None:
            rows = _part(state.setdefault(owner, {}), "shared rows")
            rows[f"{table.decode()} {decode_key(rest[end:])!r}"] = _without(decode_to_show(value), ignore)
    return state


def kept_replies(runtime: Runtime) -> list[str]:
    """Runs that keep replies of steps: there are none once they have ended."""
    names = _owners(runtime, (), runs=True)
    kept: list[str] = []
    for key, _ in runtime.store.scan_prefix(layout.DATA):
        number, end = decode_number(key, 1)
        if key[end : end + 1] == layout.REPLY:
            kept.append(names.get(number, str(number)))
    return kept


def _owners(runtime: Runtime, leave_out: Collection[str], *, runs: bool = False) -> dict[int, str]:
    """Addresses by number: of all actors, or of all but runs."""
    names: dict[bytes, str] = {}
    skipped: set[bytes] = set()
    for name, number in runtime.actor_types.stored().items():
        names[number] = name
        is_workflow = isinstance(runtime.actor_types.numbered(number), WorkflowType)
        if name in leave_out or (is_workflow and not runs):
            skipped.add(number)
    owners: dict[int, str] = {}
    for key, value in runtime.store.scan_prefix(layout.DIRECTORY):
        if key[1:3] not in skipped:
            address = show_address(names[key[1:3]], cast("ActorKey", decode_key(key[3:])))
            owners[decode_number(value)[0]] = address
    return owners


def _part(state: dict[str, object], name: str) -> dict[str, object]:
    return cast("dict[str, object]", state.setdefault(name, {}))


def _without(value: object, ignore: Collection[str]) -> object:
    if not isinstance(value, dict):
        return value
    fields = cast("dict[str, object]", value)
    return {name: one for name, one in fields.items() if name not in ignore and name != VERSION_FIELD}
