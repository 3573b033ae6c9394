"""Actors as clients see them: types, keys, one with its fields, the methods of a type."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import msgspec

from ...actors.durable_queue import Queue
from ...actors.from_outside import kind_named
from ...actors.hub.web_socket_hub import WebSocketHub
from ...actors.method_info import method_infos
from ...actors.schedule import Schedule
from ...actors.workflow.workflow import Workflow
from ...runtime.actor_look import is_imported, look_at_actor, look_at_keys, look_at_types
from ...runtime.address import ActorKey, GivenKey
from ...runtime.registry import find_actor_class
from ...storage.errors import CallerError
from ...storage.keys import Key
from ..cursors import cursor_place, cursor_text
from .addresses import KeyPlace, address_of, given_key

if TYPE_CHECKING:
    from ...actors.system import Runtime

_KINDS: tuple[tuple[type, str], ...] = (
    (Workflow, "workflow"),
    (Queue, "queue"),
    (Schedule, "schedule"),
    (WebSocketHub, "hub"),
)


async def view_types(runtime: Runtime) -> dict[str, object]:
    """All actor types that ever wrote here."""
    return {
        "types": [
            {**msgspec.structs.asdict(one), **_class_view(one.type)} for one in await look_at_types(runtime)
        ]
    }


def _class_view(name: str) -> dict[str, object]:
    """What the class tells: its kind, a line of words, whether its fields may be edited."""
    found = find_actor_class(name) if is_imported(name) else None
    if found is None:
        return {"kind": None, "about": "", "editable": False}
    kind = next((word for base, word in _KINDS if issubclass(found, base)), "actor")
    about = (inspect.getdoc(found) or "").partition("\n")[0].strip()
    return {"kind": kind, "about": about, "editable": not getattr(found, "_holdfast_owned", False)}


def view_keys(
    runtime: Runtime, type_name: str, limit: int, cursor: str | None = None, prefix: Key | None = None
) -> dict[str, object]:
    """A page of the stored actors of a type, in key order."""
    after: ActorKey | None = None
    if cursor is not None:
        after = cursor_place(cursor, KeyPlace).actor_key
    found = look_at_keys(runtime, type_name, prefix, after=after, limit=limit + 1)
    page = found[:limit]
    return {
        "actors": [{"key": one.key, "name": address_of(one.key), "in_memory": one.in_memory} for one in page],
        "next": cursor_text(KeyPlace(given_key(page[-1].key))) if len(found) > limit else None,
    }


def view_actor(runtime: Runtime, type_name: str, key: GivenKey) -> dict[str, object]:
    """One actor as it lies on disk."""
    look = look_at_actor(runtime, type_name, key)
    return {**msgspec.structs.asdict(look), "name": address_of(look.key), **_class_view(type_name)}


def view_methods(runtime: Runtime, type_name: str) -> dict[str, object]:
    """The methods of a type with the schemas of their arguments, and of its fields."""
    kind = kind_named(runtime, type_name)
    if issubclass(kind.actor_class, Workflow):
        raise CallerError(
            f"{type_name} is a workflow: its schemas are those of its input, events and updates"
        )
    return {"type": type_name, **_class_view(type_name), "methods": method_infos(kind)}
