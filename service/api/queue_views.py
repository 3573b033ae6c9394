"""Queues as clients see them: how they stand, what they hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ...actors.durable_queue import Queue
from ...actors.errors import QueueNotFound
from ...actors.queue_info import QueueInfo, list_queues, peek, queue_info
from ...runtime.address import GivenKey
from ...runtime.ref import Ref
from ...runtime.registry import find_actor_class
from ..cursors import cursor_place, cursor_text
from .addresses import KeyPlace, address_of, given_key

if TYPE_CHECKING:
    from ...actors.system import Runtime


def find_queue(runtime: Runtime, key: GivenKey, type_name: str = "Queue") -> Ref:
    """The ref of a queue by the name of its class; raises `QueueNotFound` when that is no queue's."""
    found = find_actor_class(type_name)
    if found is None or not issubclass(found, Queue):
        raise QueueNotFound(f"no class of queues {type_name!r:.100} is imported here")
    ref: object = runtime.get(found, key)
    assert isinstance(ref, Ref)
    return ref


def view_queues(runtime: Runtime, limit: int, cursor: str | None = None) -> dict[str, object]:
    """A page of queues by class and name."""
    place = None if cursor is None else cursor_place(cursor, KeyPlace)
    after = None if place is None else (place.type, place.actor_key)
    found = list_queues(runtime, after=after, limit=limit + 1)
    more = len(found) > limit
    page = found[:limit]
    return {
        "queues": [view_info(runtime, one) for one in page],
        "next": cursor_text(KeyPlace(given_key(page[-1].key), page[-1].type)) if more else None,
    }


def view_queue(runtime: Runtime, ref: Ref) -> dict[str, object]:
    """How one queue stands; raises `QueueNotFound`."""
    return view_info(runtime, queue_info(runtime, ref))


def view_info(runtime: Runtime, info: QueueInfo) -> dict[str, object]:
    """A queue as clients see it, with the age of what comes next."""
    age: float | None = None
    if info.front_sent_at is not None:
        age = max(0.0, runtime.clock.now_ms() / 1000 - info.front_sent_at.timestamp())
    return {**msgspec.structs.asdict(info), "name": address_of(info.key), "front_age_seconds": age}


def view_messages(
    runtime: Runtime, ref: Ref, limit: int, cursor: str | None = None, group: str | None = None
) -> dict[str, object]:
    """A page of what waits in a queue, in the order in which it comes."""
    after = None if cursor is None else cursor_place(cursor, tuple[int, int])
    found = peek(runtime, ref, group=group, after=after, limit=limit)
    more = bool(found) and bool(peek(runtime, ref, group=group, after=found[-1].place, limit=1))
    return {
        "messages": [
            {name: value for name, value in msgspec.structs.asdict(one).items() if name != "place"}
            for one in found
        ],
        "next": cursor_text(found[-1].place) if more else None,
    }
