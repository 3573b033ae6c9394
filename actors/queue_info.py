"""How queues stand, and what they hold, read from disk: no queue is loaded for that.

What is in consumers' hands, and who consumes, is known of this process alone (queue_hub.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

import msgspec

from ..runtime.address import ActorKey, normal_key
from ..runtime.clock import moment
from ..runtime.codec import decode_to_show
from ..storage import layout
from ..storage.errors import CallerError
from ..storage.keys import decode_key, encode_prefix, next_prefix
from .durable_queue import DeadMessage, Queue, dead_message
from .errors import QueueNotFound
from .queue_hub import Place
from .queue_records import (
    DEAD,
    READY,
    DeadPlace,
    Lane,
    QueueStatus,
    decode_dead,
    decode_message,
    queue_status,
)

if TYPE_CHECKING:
    from ..runtime.actor_type import ActorType
    from ..runtime.reader import View
    from ..runtime.ref import Ref
    from .system import Runtime

# Bodies of up to a MiB are read with their rows, so only few rows at once.
_ROWS_AT_ONCE: Final = 8
MAX_PAGE_BYTES: Final = 4 << 20


class GroupInfo(msgspec.Struct, frozen=True):
    """How one consumer group of a queue stands."""

    group: str | None
    """None until a group consumes; the empty text for consumers without a group."""
    depth: int
    """Messages that wait, are delayed or in a consumer's hands."""
    in_flight: int
    """Those of them that are in the hands of this process's consumers."""
    retrying: int
    """Those of them that were delivered in vain at least once."""
    dead: int
    acked: int
    retried: int
    consumers: int
    """Consumers of this process."""
    front_sent_at: datetime | None
    """When the message was sent that comes next: most often the oldest."""


class QueueInfo(msgspec.Struct, frozen=True):
    """How a queue stands; each group has its own copy of every message."""

    type: str
    key: ActorKey
    status: QueueStatus
    draining: bool
    depth: int
    in_flight: int
    retrying: int
    dead: int
    leaving: int
    """Dead letters on their way to another queue."""
    sent: int
    acked: int
    retried: int
    max_depth: int
    front_sent_at: datetime | None
    groups: tuple[GroupInfo, ...]


class WaitingMessage(msgspec.Struct, frozen=True):
    """A message of a queue that nobody is done with."""

    id: str
    body: object
    """As plain data; as its MessagePack bytes where it has keys that are structs or maps."""
    attempts: int
    """The attempt that comes, or that is made now."""
    sent_at: datetime
    available_at: datetime
    """From when on it may be delivered."""
    in_flight: bool
    """It is in the hands of a consumer of this process."""
    place: Place
    """Where it stands in its group."""


def queue_kinds(runtime: Runtime) -> list[ActorType]:
    """`Queue` and its subclasses that are known here, by name."""
    runtime.type_of(Queue)
    kinds = [kind for kind in runtime.actor_types.by_class.values() if issubclass(kind.actor_class, Queue)]
    return sorted(kinds, key=lambda kind: kind.name)


def list_queues(
    runtime: Runtime, *, after: tuple[str, ActorKey] | None = None, limit: int = 100
) -> list[QueueInfo]:
    """Queues by type and key, from behind `after` on."""
    runtime.check_open()
    found: list[QueueInfo] = []
    with runtime.reader.view() as view:
        for kind in queue_kinds(runtime):
            base = layout.DIRECTORY + kind.number_bytes
            start = base
            if after is not None and kind.name <= after[0]:
                if kind.name < after[0]:
                    continue
                start = base + normal_key(after[1], kind.name)[1] + b"\x00"
            for key, number in view.scan(start, next_prefix(base), False, limit - len(found)):
                found.append(_read(runtime, view, kind, key, number))
            if len(found) >= limit:
                break
    return found


def queue_info(runtime: Runtime, ref: Ref) -> QueueInfo:
    """How one queue stands; raises `QueueNotFound` when nothing was ever stored of it."""
    with runtime.reader.view() as view:
        return _read(runtime, view, ref.type, ref.directory_key, _number(view, ref))


def _number(view: View, ref: Ref) -> bytes:
    number = view.read(ref.directory_key)
    if number is None:
        raise QueueNotFound(f"there is no queue {ref.key!r} (of type {ref.type.name})")
    return number


def _fields(view: View, kind: ActorType, number: bytes, where: str) -> Queue:
    blank = cast("Queue", kind.actor_class.__new__(kind.actor_class))
    record = view.read(layout.DATA + number + layout.FIELDS)
    if record is None:
        kind.fields.set_defaults(blank)
    else:
        kind.fields.restore(blank, record, where)
    return blank


def _read(runtime: Runtime, view: View, kind: ActorType, directory_key: bytes, number: bytes) -> QueueInfo:
    key = cast("ActorKey", decode_key(directory_key[len(layout.DIRECTORY) + 2 :]))
    queue = _fields(view, kind, number, str(key))
    groups = [_group(runtime, view, directory_key, number, lane) for lane in queue.lanes]
    sent = [one.front_sent_at for one in groups if one.front_sent_at is not None]
    return QueueInfo(
        kind.name,
        key,
        queue_status(paused=queue.paused, draining=queue.draining),
        queue.draining,
        sum(one.depth for one in groups),
        sum(one.in_flight for one in groups),
        sum(one.retrying for one in groups),
        sum(one.dead for one in groups),
        queue.leaving,
        queue.sent,
        sum(one.acked for one in groups),
        sum(one.retried for one in groups),
        queue.max_depth,
        min(sent, default=None),
        tuple(groups),
    )


def _group(runtime: Runtime, view: View, directory_key: bytes, number: bytes, lane: Lane) -> GroupInfo:
    state = runtime.queues.known_lane(directory_key, lane.number)
    prefix = _lane_prefix(number, READY, lane.number)
    front = view.scan(prefix, next_prefix(prefix), False, 1)
    consumers = 0 if lane.group is None else runtime.queues.consumers(directory_key, lane.group)
    return GroupInfo(
        lane.group,
        lane.depth,
        0 if state is None else len(state.leased),
        lane.retrying,
        lane.dead,
        lane.acked,
        lane.retried,
        consumers,
        moment(decode_message(memoryview(front[0][1])[1:]).sent_ms) if front else None,
    )


def _lane_prefix(number: bytes, kind: str, lane: int) -> bytes:
    return layout.DATA + number + layout.STORAGE + encode_prefix((kind, lane))


def peek(
    runtime: Runtime, ref: Ref, *, group: str | None = None, after: Place | None = None, limit: int = 100
) -> list[WaitingMessage]:
    """Messages of a queue in the order in which they come, from behind the place `after` on; nothing changes.

    group   whose copy; by default that of the first one

    Bodies are at most `MAX_PAGE_BYTES` together (one more than fits), so a page may be shorter than `limit`.
    Raises `QueueNotFound`, or `CallerError` when there is no such group.
    """
    with runtime.reader.view() as view:
        number = _number(view, ref)
        lane = _lane(_fields(view, ref.type, number, str(ref)), group)
        state = runtime.queues.known_lane(ref.directory_key, lane.number)
        leased = frozenset[Place]() if state is None else state.leased
        found: list[WaitingMessage] = []
        for key, stored in _rows(view, number, READY, lane.number, after, limit):
            place = cast("Place", key[2:])
            message = decode_message(memoryview(stored)[1:])
            found.append(
                WaitingMessage(
                    message.id,
                    decode_to_show(message.body),
                    message.attempts,
                    moment(message.sent_ms),
                    moment(place[0]),
                    place in leased,
                    place,
                )
            )
    return found


def _lane(queue: Queue, group: str | None) -> Lane:
    for lane in queue.lanes:
        if group is None or lane.group == group:
            return lane
    names = [lane.group for lane in queue.lanes if lane.group is not None]
    raise CallerError(f"the queue has no consumer group {group!r:.200}; its groups are {names}")


def list_dead(
    runtime: Runtime, ref: Ref, *, after: DeadPlace | None = None, limit: int = 100
) -> list[DeadMessage]:
    """Dead letters of all groups of a queue, from behind the place `after` on; raises `QueueNotFound`.

    Bounded in bytes as `peek` is.
    """
    found: list[DeadMessage] = []
    bytes_left = MAX_PAGE_BYTES
    with runtime.reader.view() as view:
        number = _number(view, ref)
        for lane in sorted(lane.number for lane in _fields(view, ref.type, number, str(ref)).lanes):
            if after is not None and lane < after[0]:
                continue
            behind = (after[1],) if after is not None and lane == after[0] else None
            for key, stored in _rows(view, number, DEAD, lane, behind, limit - len(found), bytes_left):
                bytes_left -= len(stored)
                found.append(dead_message(decode_dead(memoryview(stored)[1:]), cast("DeadPlace", key[1:])))
            if len(found) >= limit or bytes_left <= 0:
                break
    return found


def dead_at(runtime: Runtime, ref: Ref, place: DeadPlace) -> DeadMessage | None:
    """The dead letter at a place, if it is there still."""
    found = list_dead(runtime, ref, after=(place[0], place[1] - 1), limit=1)
    return found[0] if found and found[0].place == place else None


def _rows(
    view: View,
    number: bytes,
    kind: str,
    lane: int,
    behind: tuple[int, ...] | None,
    limit: int,
    most_bytes: int = MAX_PAGE_BYTES,
) -> Iterator[tuple[tuple[str | int, ...], bytes]]:
    """Keys, as tuples, and values of a lane's rows, until there are enough of them or of their bytes."""
    prefix = _lane_prefix(number, kind, lane)
    own = len(layout.DATA + number + layout.STORAGE)
    start = prefix if behind is None else prefix[:own] + encode_prefix((kind, lane, *behind)) + b"\x01"
    end = next_prefix(prefix)
    while limit > 0 and most_bytes > 0:
        wanted = min(limit, _ROWS_AT_ONCE)
        rows = view.scan(start, end, False, wanted)
        for key, stored in rows:
            yield cast("tuple[str | int, ...]", decode_key(key[own:])), stored
            most_bytes -= len(stored)
            if most_bytes <= 0:
                return
        if len(rows) < wanted:
            return
        limit -= len(rows)
        start = rows[-1][0] + b"\x00"
