"""A durable queue: messages on disk, at least once, with retries, dead letters and consumer groups.

The actor holds the messages: sending, steering, groups, dead letters.  What its consumers do in its turns is
in queue_delivery.py, who they are in queue_consumer.py, what is known of them in memory in queue_hub.py, and
what lies on disk in queue_records.py.

A message lies under the time it is available and a rising number, so taking is a scan from the front.  Each
consumer group has a lane of its own: a copy of every message sent since the group was registered, written in
the commit of the send.  A queue has one lane from the beginning, which belongs to the first group that
consumes; consumers without a group are the group with the empty name.

Promises
  * A message is delivered until a settlement of it is durable: at least once in each group.
  * What is in the hands of a handler also lies on disk as a lease, so a message that kills the process counts
    as tried.
  * A dead letter that belongs into another queue gets there exactly once: it waits here until the other queue
    has noted, in the commit of the message, up to which number it took over.

The numbers are those of Cloudflare Queues (max_retries N is N + 1 deliveries; a delay of at most a day).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from hashlib import blake2b
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Protocol, TypeAlias, cast

import msgspec

from ..runtime.actor import Actor
from ..runtime.alarms import Alarm
from ..runtime.call import invoke
from ..runtime.chain import Turn, after_commit
from ..runtime.clock import moment
from ..runtime.codec import decode_to_show, encode_unchecked
from ..runtime.durations import Duration, SentDuration, to_seconds
from ..runtime.methods import MethodPlan, shared
from ..storage import layout
from ..storage.errors import CallerError, InvalidValue, Overloaded
from ..storage.keys import decode_key, encode_prefix, next_prefix
from .audit import By, checked_by, note_deed
from .erase import erase_actor
from .errors import QueueDraining
from .ids import new_id
from .queue_hub import LaneState, Place, QueueHub
from .queue_records import (
    DEAD,
    LEASED,
    LEAVING,
    READY,
    RECEIVED,
    DeadPlace,
    Lane,
    StoredDead,
    StoredMessage,
    decode_dead,
    decode_leaving,
    key_behind,
    queue_status,
    with_attempts,
)

if TYPE_CHECKING:
    from ..runtime.ref import Ref

    Body: TypeAlias = object
else:
    # What a caller hands over is encoded once; these bytes are what is stored.
    Body = msgspec.Raw

MAX_MESSAGE_BYTES: Final = 1 << 20
MAX_ID_CHARACTERS: Final = 500
MAX_BATCH_MESSAGES: Final = 1_000
MAX_DELAY_SECONDS: Final = 86_400.0
MAX_GROUPS: Final = 100  # each costs a copy of every message

_PAGE: Final = 256  # rows read at once where all are wanted: with large bodies still a fraction of a second
MOVE_ALARM: Final = "move dead letters"
_MOVE_MESSAGES: Final = 50  # in one turn; 50 of the largest are 50 MB
_MOVE_AGAIN_SECONDS: Final = 30.0  # after the other queue was full


class DeadMessage(msgspec.Struct, frozen=True):
    """A message whose retries are spent."""

    id: str
    body: object
    """As plain data; as its MessagePack bytes where it has keys that are structs or maps."""
    attempts: int
    error: str
    sent_at: datetime
    died_at: datetime
    place: DeadPlace
    """What tells it apart from the queue's other dead letters: for `redrive_at` and `drop_at`."""


class QueueStats(msgspec.Struct, frozen=True):
    """How a queue stands: one group of it, or all together.

    depth     messages that wait, are delayed or in a consumer's hands; each group has its own copy
    dead      dead letters kept here; `leaving` are those on their way to another queue
    front_sent_at   when the message at the front was sent
    """

    depth: int
    dead: int
    leaving: int
    sent: int
    acked: int
    retried: int
    paused: bool
    groups: tuple[str, ...]
    front_sent_at: datetime | None


class HasQueues(Protocol):
    """The runtime, as far as queues know it."""

    queues: QueueHub


class Queue(Actor):
    """A queue by name: `rt.get(Queue, "events")`.

    Class options
      max_depth   the most messages that wait for one group; beyond it sending raises `Overloaded`
      delay       how long a message is held back that is sent without a delay of its own
    """

    _holdfast_owned: ClassVar[bool] = True
    max_depth: ClassVar[int] = 10_000_000
    delay: ClassVar[Duration] = 0

    next_number: int = 1
    next_lane: int = 1
    lanes: list[Lane] = [Lane(0)]
    sent: int = 0
    leaving: int = 0
    paused: bool = False
    draining: bool = False

    # -- sending ---------------------------------------------------------------------------------------------

    async def send(self, body: Body, *, id: str | None = None, delay: SentDuration | None = None) -> str:
        """Put a message in; it is durable when this returns.  Returns its id (a new one by default).

        `delay` holds it back for so long, at most a day.  Raises `InvalidArgument` for a body that can't be
        encoded, `InvalidValue`, `InvalidDuration`, `Overloaded` or `QueueDraining`.
        """
        return self._put([body], None if id is None else [id], delay)[0]

    async def send_batch(
        self, bodies: list[Body], *, ids: list[str] | None = None, delay: SentDuration | None = None
    ) -> list[str]:
        """Put several messages in, all or none.  Returns their ids."""
        if ids is not None and len(ids) != len(bodies):
            raise CallerError(f"queue {self.key}: {len(bodies)} bodies came with {len(ids)} ids")
        return self._put(bodies, ids, delay)

    def _put(self, bodies: list[object], ids: list[str] | None, delay: SentDuration | None) -> list[str]:
        if self.draining:
            raise QueueDraining(f"queue {self.key} is being drained and takes in nothing more")
        seconds = to_seconds(type(self).delay if delay is None else delay, what="delay")
        if seconds > MAX_DELAY_SECONDS:
            raise InvalidValue(f"queue {self.key}: a message can be delayed by a day at most; got {delay!r}")
        now_ms = self._activation.system.clock.now_ms()
        messages: list[StoredMessage] = []
        for position, body in enumerate(bodies):
            raw = self._checked_body(body)
            if ids is None:
                id_ = new_id()
            else:
                id_ = ids[position]
                if not 1 <= len(id_) <= MAX_ID_CHARACTERS:
                    raise InvalidValue(
                        f"queue {self.key}: a message's id must have 1 to {MAX_ID_CHARACTERS} characters; "
                        f"got {len(id_)}"
                    )
            messages.append(StoredMessage(id_, raw, 1, now_ms))
        self._add(messages, now_ms + round(seconds * 1000), now_ms)
        return [message.id for message in messages]

    def _checked_body(self, body: object) -> msgspec.Raw:
        raw = body if type(body) is msgspec.Raw else msgspec.Raw(encode_unchecked(body))
        if len(raw) > MAX_MESSAGE_BYTES:
            raise InvalidValue(
                f"queue {self.key}: a message takes {len(raw)} bytes; at most {MAX_MESSAGE_BYTES} are allowed"
            )
        return raw

    def _add(self, messages: list[StoredMessage], available_ms: int, now_ms: int) -> None:
        """Put new messages into every lane."""
        self._register_consumers()
        for lane in self.lanes:
            if lane.depth + len(messages) > self.max_depth:
                raise Overloaded(
                    f"queue {self.key} holds {lane.depth} messages{_of(lane.group)}, at most "
                    f"max_depth={self.max_depth}; try again later"
                )
        if not messages:
            return
        encoded = [layout.PLAIN + encode_unchecked(message) for message in messages]
        first = (available_ms, self.next_number)
        turn = self._activation.current_turn()
        writes = turn.root.writes
        for lane in self.lanes:
            prefix = self._prefix(READY, lane.number)
            for number, value in enumerate(encoded, self.next_number):
                writes[key_behind(prefix, (available_ms, number))] = value
            lane.depth += len(encoded)
            self._notice(turn, lane, first, len(encoded), now_ms)
        self.next_number += len(encoded)
        self.sent += len(encoded)

    def _notice(self, turn: Turn, lane: Lane, place: Place, count: int, now_ms: int) -> None:
        """Wake the consumers of a lane once the turn is staged."""
        hub, queue_key, number = self._hub(), self._activation.ref.directory_key, lane.number

        def notice(_: int) -> None:
            state = hub.known_lane(queue_key, number)
            if state is not None:
                state.notice(place, count, now_ms)

        after_commit(turn, notice)

    # -- looking and steering --------------------------------------------------------------------------------

    @shared
    async def stats(self, group: str | None = None) -> QueueStats:
        """How the queue stands; with `group`, how that group stands.

        Raises `CallerError` when there is no such group.
        """
        lanes = self._lanes_of(group)
        sent_at: datetime | None = None
        for lane in lanes:
            front = self.storage.list((READY, lane.number), type=StoredMessage, limit=1)
            for message in front.values():
                at = moment(message.sent_ms)
                sent_at = at if sent_at is None else min(sent_at, at)
        return QueueStats(
            sum(lane.depth for lane in lanes),
            sum(lane.dead for lane in lanes),
            self.leaving,
            self.sent,
            sum(lane.acked for lane in lanes),
            sum(lane.retried for lane in lanes),
            self.paused,
            tuple(lane.group for lane in self.lanes if lane.group is not None),
            sent_at,
        )

    async def pause(self, *, by: str | None = None, reason: str = "") -> None:
        """Deliver nothing more until `resume`; sending goes on."""
        self._steer("pause", checked_by(by, reason), paused=True, draining=self.draining)

    async def resume(self, *, by: str | None = None, reason: str = "") -> None:
        """Deliver again, and take in again."""
        self._steer("resume", checked_by(by, reason), paused=False, draining=False)
        self._look_again()

    async def drain(self, *, by: str | None = None, reason: str = "") -> None:
        """Take in nothing more until `resume` (`QueueDraining`), and deliver what is there: before `remove`.

        Dead letters that other queues send here still come in.
        """
        self._steer("drain", checked_by(by, reason), paused=False, draining=True)
        self._look_again()

    def _steer(self, verb: str, by: By, *, paused: bool, draining: bool) -> None:
        before = queue_status(paused=self.paused, draining=self.draining)
        self.paused, self.draining = paused, draining
        note_deed(self, verb, by, before, queue_status(paused=paused, draining=draining))

    def _look_again(self) -> None:
        turn = self._activation.current_turn()
        for lane in self.lanes:
            self._after(turn, lane, LaneState.change)

    async def remove(self, *, by: str | None = None, reason: str = "") -> None:
        """Forget the queue.

        Raises `CallerError` while it holds messages or dead letters, or this process consumes it.
        """
        told = checked_by(by, reason)
        if self._hub().groups(self._activation.ref.directory_key):
            raise CallerError(f"queue {self.key} is being consumed; stop its consumers first")
        left = sum(lane.depth + lane.dead for lane in self.lanes) + self.leaving
        if left:
            raise CallerError(
                f"queue {self.key} holds {left} messages and dead letters; drain it, or purge them, first"
            )
        status = queue_status(paused=self.paused, draining=self.draining)
        note_deed(self, "remove", told, status, "removed")
        erase_actor(self)

    async def purge(self, group: str | None = None, *, by: str | None = None, reason: str = "") -> int:
        """Delete all messages (of one group), delayed ones too; dead letters stay.  Returns how many."""
        told = checked_by(by, reason)
        purged = 0
        turn = self._activation.current_turn()
        for lane in self._lanes_of(group):
            for kind in (READY, LEASED):
                self._delete_all(kind, lane)
            purged += lane.depth
            lane.depth = lane.retrying = 0
            self._after(turn, lane, LaneState.purged)
        about = "" if group is None else f" of group {group!r}"
        note_deed(self, "purge", told, f"{purged} messages{about}", "0 messages")
        return purged

    @shared
    async def dead(
        self, limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100, *, group: str | None = None
    ) -> list[DeadMessage]:
        """Dead letters (of one group), the oldest first."""
        found: list[DeadMessage] = []
        for lane in self._lanes_of(group):
            if len(found) < limit:
                rows = self.storage.list((DEAD, lane.number), type=StoredDead, limit=limit - len(found))
                for key, one in rows.items():
                    place = cast("tuple[str, int, int]", key)[1:]
                    found.append(dead_message(one, place))
        return found

    async def redrive(
        self,
        ids: list[str] | None = None,
        *,
        group: str | None = None,
        by: str | None = None,
        reason: str = "",
    ) -> int:
        """Put dead letters back, with all their attempts; all of them, or those with these ids.

        Returns how many.
        """
        told = checked_by(by, reason)
        now_ms = self._activation.system.clock.now_ms()
        turn = self._activation.current_turn()
        writes = turn.root.writes
        wanted = None if ids is None else frozenset(ids)
        total = 0
        for lane in self._lanes_of(group):
            first, count = (now_ms, self.next_number), 0
            for key, stored in self._rows(self._prefix(DEAD, lane.number)):
                message = decode_dead(memoryview(stored)[1:]).message
                if wanted is None or message.id in wanted:
                    writes[key] = None
                    self._write_ready(writes, lane, (now_ms, self.next_number), with_attempts(message, 1))
                    self.next_number += 1
                    count += 1
            lane.dead -= count
            lane.depth += count
            total += count
            if count:
                self._notice(turn, lane, first, count, now_ms)
        if total:
            note_deed(self, "redrive", told, f"{total} dead letters", "sent again")
        return total

    async def redrive_at(
        self,
        places: list[DeadPlace],
        *,
        body: tuple[Body] | None = None,
        by: str | None = None,
        reason: str = "",
    ) -> int:
        """Put back the dead letters at these places (`DeadMessage.place`); with another body if one is given.

        Returns how many are there still.
        """
        told = checked_by(by, reason)
        changed = None if body is None else self._checked_body(body[0])
        now_ms = self._activation.system.clock.now_ms()
        turn = self._activation.current_turn()
        found: list[str] = []
        for key, lane, dead in self._dead_at(places):
            message = with_attempts(dead.message, 1)
            if changed is not None:
                message = msgspec.structs.replace(message, body=changed)
            place = (now_ms, self.next_number)
            turn.root.writes[key] = None
            self._write_ready(turn.root.writes, lane, place, message)
            self.next_number += 1
            lane.dead -= 1
            lane.depth += 1
            self._notice(turn, lane, place, 1, now_ms)
            found.append(message.id)
        if found:
            after = "sent again" if changed is None else "sent again with another body"
            note_deed(self, "redrive", told, _dead_letters(found), after)
        return len(found)

    async def drop_at(self, places: list[DeadPlace], *, by: str | None = None, reason: str = "") -> int:
        """Delete the dead letters at these places; returns how many are there still."""
        told = checked_by(by, reason)
        turn = self._activation.current_turn()
        found: list[str] = []
        for key, lane, dead in self._dead_at(places):
            turn.root.writes[key] = None
            lane.dead -= 1
            found.append(dead.message.id)
        if found:
            note_deed(self, "drop", told, _dead_letters(found), "deleted")
        return len(found)

    def _dead_at(self, places: list[DeadPlace]) -> Iterator[tuple[bytes, Lane, StoredDead]]:
        lanes = {lane.number: lane for lane in self.lanes}
        for number, place in dict.fromkeys(places):
            lane = lanes.get(number)
            if lane is not None:
                key = key_behind(self._prefix(DEAD, number), (place,))
                stored = self._activation.read(key)
                if stored is not None:
                    yield key, lane, decode_dead(memoryview(stored)[1:])

    # -- groups ----------------------------------------------------------------------------------------------

    async def add_group(self, name: str) -> None:
        """Register a consumer group; it gets every message sent from now on.  Consuming does that by itself.

        The first group of a queue also gets what waits already.
        """
        self._register(name)

    async def remove_group(self, name: str) -> int:
        """Forget a consumer group with its messages and dead letters; returns how many messages that were.

        Raises `CallerError` when there is no such group or this process consumes it.
        """
        lane = self._lane_of(name)
        if name in (self._hub().groups(self._activation.ref.directory_key) or ()):
            raise CallerError(f"queue {self.key}: group {name!r} is being consumed; stop its consumers first")
        for kind in (READY, LEASED, DEAD):
            self._delete_all(kind, lane)
        self.lanes.remove(lane)
        if not self.lanes:
            self.lanes.append(Lane(self.next_lane))
            self.next_lane += 1
        return lane.depth

    def _lanes_of(self, group: str | None) -> list[Lane]:
        return self.lanes if group is None else [self._lane_of(group)]

    def _lane_of(self, group: str) -> Lane:
        for lane in self.lanes:
            if lane.group == group:
                return lane
        names = [lane.group for lane in self.lanes if lane.group is not None]
        raise CallerError(f"queue {self.key} has no consumer group {group!r}; its groups are {names}")

    def _register_consumers(self) -> None:
        """Who consumes here gets what is sent from now on, also if its first turn is still to come."""
        groups = self._hub().groups(self._activation.ref.directory_key)
        if groups is not None:
            for group in groups:
                self._register(group)

    def _register(self, group: str) -> Lane:
        for lane in self.lanes:
            if lane.group == group:
                return lane
        for lane in self.lanes:
            if lane.group is None:
                lane.group = group
                return lane
        if len(self.lanes) >= MAX_GROUPS:
            raise CallerError(
                f"queue {self.key} has {MAX_GROUPS} consumer groups; remove one before adding {group!r}"
            )
        lane = Lane(self.next_lane, group)
        self.next_lane += 1
        self.lanes.append(lane)
        return lane

    # -- dead letters for another queue ----------------------------------------------------------------------

    async def on_alarm(self, alarm: Alarm) -> None:
        """Move dead letters to the queues that they belong into."""
        if alarm.name != MOVE_ALARM:
            return
        system = self._activation.system
        prefix = self._prefix(LEAVING)
        rows = self._activation.scan(prefix, next_prefix(prefix), False, _MOVE_MESSAGES)
        by_target: dict[bytes, list[tuple[bytes, int, StoredMessage]]] = {}
        for key, stored in rows:
            leaving = decode_leaving(memoryview(stored)[1:])
            by_target.setdefault(leaving.to, []).append((key, self._number_of(key), leaving.message))
        blocked = False
        for to, found in by_target.items():
            ref = system.ref_from_bytes(to[:2], to[2:])
            try:
                await self._hand_over(ref, [(number, message) for _, number, message in found])
            except Overloaded:
                blocked = True
                continue
            writes = self._activation.current_turn().root.writes
            for key, _, _ in found:
                writes[key] = None
            self.leaving -= len(found)
        if self.leaving:
            self.alarms.set(_MOVE_AGAIN_SECONDS if blocked else 0, MOVE_ALARM)

    async def _hand_over(self, ref: Ref, messages: list[tuple[int, StoredMessage]]) -> None:
        source = self._activation.ref.directory_key

        async def receive(queue: Queue) -> None:
            queue._receive(source, messages)

        await invoke(ref, turn_plan(receive), (), {})

    def _receive(self, source: bytes, messages: list[tuple[int, StoredMessage]]) -> None:
        """Take over dead letters of another queue, but none twice: its numbers rise."""
        mark_key = (RECEIVED, blake2b(source, digest_size=16).digest())
        mark = self.storage.get(mark_key, int) or 0
        fresh = [with_attempts(message, 1) for number, message in messages if number > mark]
        if fresh:
            now_ms = self._activation.system.clock.now_ms()
            self._add(fresh, now_ms, now_ms)
            self.storage.put(mark_key, messages[-1][0])

    # -- rows ------------------------------------------------------------------------------------------------

    def _hub(self) -> QueueHub:
        return cast("HasQueues", self._activation.system).queues

    def _prefix(self, *parts: str | int) -> bytes:
        """What full keys of these first parts begin with."""
        # The number of an activation never changes, and there are few lanes.
        known: dict[tuple[str | int, ...], bytes] = self.__dict__.setdefault("_known_prefixes", {})
        prefix = known.get(parts)
        if prefix is None:
            prefix = known[parts] = self._activation.prefix(layout.STORAGE) + encode_prefix(parts)
        return prefix

    def _write_ready(
        self, writes: dict[bytes, bytes | None], lane: Lane, place: Place, message: StoredMessage
    ) -> None:
        key = key_behind(self._prefix(READY, lane.number), place)
        writes[key] = layout.PLAIN + encode_unchecked(message)

    def _rows(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All rows under a prefix, but never all of them in memory."""
        start, end = prefix, next_prefix(prefix)
        store = self._activation.system.store
        # As the turn has written so far; what the caller writes on the way lies elsewhere or behind us.
        extra = dict(self._activation.current_turn().root.writes)
        while True:
            rows = store.scan(start, end, limit=_PAGE, extra=extra)
            yield from rows
            if len(rows) < _PAGE:
                return
            start = rows[-1][0] + b"\x00"

    def _delete_all(self, kind: str, lane: Lane) -> None:
        writes = self._activation.current_turn().root.writes
        keys = [key for key, _ in self._rows(self._prefix(kind, lane.number))]
        writes.update(dict.fromkeys(keys))

    def _after(self, turn: Turn, lane: Lane, do: LaneChange) -> None:
        hub, queue_key, number = self._hub(), self._activation.ref.directory_key, lane.number

        def after(_: int) -> None:
            state = hub.known_lane(queue_key, number)
            if state is not None:
                do(state)

        after_commit(turn, after)

    def _place_of(self, key: bytes) -> Place:
        parts = cast(
            "tuple[str, int, int, int]", decode_key(key[len(self._activation.prefix(layout.STORAGE)) :])
        )
        return parts[2], parts[3]

    def _number_of(self, key: bytes) -> int:
        """The last part of a key."""
        parts = cast("tuple[str | int, ...]", decode_key(key[len(self._activation.prefix(layout.STORAGE)) :]))
        return cast("int", parts[-1])


class LaneChange(Protocol):
    """Something that happens to what is known of a lane."""

    def __call__(self, state: LaneState, /) -> None: ...


class QueueWork(Protocol):
    """Work that the library itself does in a turn of a queue."""

    async def __call__(self, queue: Queue, /) -> None: ...


async def _nothing(queue: Queue) -> None:
    """Stands for the work of a turn."""


_turn_plan = MethodPlan(Queue, "turn", _nothing)


def turn_plan(work: QueueWork) -> MethodPlan:
    """A method plan that no ref offers: its turn does `work`, and nothing passes through the codec."""
    return _turn_plan.with_function(work)


def _of(group: str | None) -> str:
    return f" of group {group!r}" if group else ""


def _dead_letters(ids: list[str]) -> str:
    return f"dead letter {ids[0]}" if len(ids) == 1 else f"{len(ids)} dead letters"


def dead_message(dead: StoredDead, place: DeadPlace) -> DeadMessage:
    """A dead letter as it is shown."""
    message = dead.message
    return DeadMessage(
        message.id,
        decode_to_show(message.body),
        message.attempts,
        dead.error,
        moment(message.sent_ms),
        moment(dead.died_ms),
        place,
    )
