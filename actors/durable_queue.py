"""A durable queue: messages on disk, at least once, in batches, with retries and dead letters.

The actor holds the messages; who takes them is in queue_consumer.py.  A message lies under the time it is available and a rising
number, so taking is a scan from the front.  What is in the hands of a consumer is known in memory (`QueueState`), and for handlers also on
disk as a lease, so that a message that kills the process is counted as tried.

The numbers are those of Cloudflare Queues (max_retries N is N + 1 deliveries; a delay of at most a day).
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timezone
from typing import Annotated, ClassVar, Final

import msgspec

from ..runtime.actor import Actor
from ..runtime.alarms import after_commit
from ..runtime.codec import BAD_VALUE, decode_plain, encode_unchecked, reason
from ..runtime.durations import SentDuration, to_seconds
from ..runtime.methods import shared
from ..storage.errors import CallerError, InvalidValue, Overloaded

MAX_MESSAGE_BYTES: Final = 1 << 20
MAX_BATCH_MESSAGES: Final = 1_000
MAX_DELAY_SECONDS: Final = 86_400.0

_READY: Final = "m"  # ("m", available_ms, number) -> StoredMessage
_LEASED: Final = "l"  # ("l", first number of a batch) -> keys of the batch
_DEAD: Final = "x"  # ("x", number) -> StoredDead

Place = tuple[int, int]  # when a message is available, its number


class StoredMessage(msgspec.Struct, array_like=True, frozen=True):
    """A message on disk."""

    id: str
    body: msgspec.Raw
    attempts: int
    sent_ms: int


class StoredDead(msgspec.Struct, array_like=True, frozen=True):
    """A dead letter on disk."""

    message: StoredMessage
    error: str
    died_ms: int


class Taken(msgspec.Struct, array_like=True, frozen=True):
    """A message in the hands of a consumer."""

    place: Place
    message: StoredMessage


class DeadMessage(msgspec.Struct, frozen=True):
    """A message whose retries are spent."""

    id: str
    body: object
    attempts: int
    error: str
    sent_at: datetime
    died_at: datetime


class QueueStats(msgspec.Struct, frozen=True):
    """How a queue stands.  `depth` counts messages that wait, are delayed or in a consumer's hands."""

    depth: int
    dead: int
    sent: int
    acked: int
    retried: int
    paused: bool
    oldest_sent_at: datetime | None


class Retried(msgspec.Struct, array_like=True, frozen=True):
    """What a consumer says of a message that is to come again."""

    place: Place
    error: str
    delay_seconds: float
    dead: bool


class QueueState:
    """What is known of a queue in memory, whichever activation of it lives."""

    __slots__ = ("cursor", "leased", "recovered", "wake")

    def __init__(self) -> None:
        # Everything up to here was taken; a message put before it sets it back.
        self.cursor: Place | None = None
        self.leased: set[Place] = set()
        # Leases that a former process left were counted as attempts.
        self.recovered = False
        self.wake = asyncio.Event()


class Queue(Actor):
    """A queue by name: `rt.get(Queue, "events")`.

    Class options: `max_depth`, the most messages it holds; beyond it `Overloaded`.
    """

    max_depth: ClassVar[int] = 10_000_000

    next_number: int = 1
    depth: int = 0
    dead_count: int = 0
    sent: int = 0
    acked: int = 0
    retried: int = 0
    paused: bool = False

    # -- sending ---------------------------------------------------------------------------------------------------

    async def send(self, body: object, *, id: str | None = None, delay: SentDuration = 0) -> str:  # noqa: A002
        """Put a message in; it is durable when this returns.  Returns its id (a new UUID by default).

        `delay` holds it back for so long, at most a day.  Raises `InvalidValue`, `InvalidDuration` or `Overloaded`.
        """
        return self._put([(body, id)], delay)[0]

    async def send_batch(self, bodies: list[object], *, ids: list[str] | None = None, delay: SentDuration = 0) -> list[str]:
        """Put several messages in, all or none.  Returns their ids."""
        if ids is not None and len(ids) != len(bodies):
            raise CallerError(f"queue {self.key}: {len(bodies)} bodies came with {len(ids)} ids")
        return self._put([(body, None if ids is None else ids[i]) for i, body in enumerate(bodies)], delay)

    def _put(self, messages: list[tuple[object, str | None]], delay: SentDuration) -> list[str]:
        seconds = to_seconds(delay, what="delay")
        if seconds > MAX_DELAY_SECONDS:
            raise InvalidValue(f"queue {self.key}: a message can be delayed by a day at most; got {delay!r}")
        if self.depth + len(messages) > self.max_depth:
            raise Overloaded(f"queue {self.key} holds {self.depth} messages, at most max_depth={self.max_depth}; try again later")
        now_ms = self._activation.system.clock.now_ms()
        available_ms = now_ms + round(seconds * 1000)
        ids: list[str] = []
        first: Place | None = None
        for body, given in messages:
            encoded = encode_unchecked(body)
            if len(encoded) > MAX_MESSAGE_BYTES:
                raise InvalidValue(f"queue {self.key}: a message takes {len(encoded)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
            message = StoredMessage(given or uuid.uuid4().hex, msgspec.Raw(encoded), 1, now_ms)
            place = (available_ms, self.next_number)
            self.next_number += 1
            self.storage.put((_READY, *place), message)
            first = first or place
            ids.append(message.id)
        self.depth += len(messages)
        self.sent += len(messages)
        self._notice(first)
        return ids

    def _notice(self, place: Place | None) -> None:
        if place is not None:
            hub = self._activation.system.queues  # type: ignore[attr-defined]
            key = self.key
            after_commit(self._activation.current_turn(), lambda _: hub.notice(key, place))

    # -- looking and steering --------------------------------------------------------------------------------------

    @shared
    async def stats(self) -> QueueStats:
        """How the queue stands."""
        oldest = self.storage.list((_READY,), type=StoredMessage, limit=1)
        sent_at = None
        for message in oldest.values():
            sent_at = _moment(message.sent_ms)
        return QueueStats(self.depth, self.dead_count, self.sent, self.acked, self.retried, self.paused, sent_at)

    async def pause(self) -> None:
        """Deliver nothing more until `resume`; sending goes on."""
        self.paused = True

    async def resume(self) -> None:
        """Deliver again."""
        self.paused = False
        self._notice((0, 0))

    async def purge(self) -> int:
        """Delete all messages, delayed ones too; dead letters stay.  Returns how many."""
        purged = 0
        for key in self.storage.list((_READY,), type=StoredMessage):
            self.storage.delete(key)
            purged += 1
        self.depth -= purged
        return purged

    @shared
    async def dead(self, limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100) -> list[DeadMessage]:
        """Dead letters, the oldest first."""
        found = self.storage.list((_DEAD,), type=StoredDead, limit=limit)
        return [_dead_message(one) for one in found.values()]

    async def redrive(self, ids: list[str] | None = None) -> int:
        """Put dead letters back, with all their attempts; all of them, or those with these ids.  Returns how many."""
        now_ms = self._activation.system.clock.now_ms()
        first: Place | None = None
        count = 0
        for key, dead in self.storage.list((_DEAD,), type=StoredDead).items():
            if ids is not None and dead.message.id not in ids:
                continue
            self.storage.delete(key)
            place = (now_ms, self.next_number)
            self.next_number += 1
            self.storage.put((_READY, *place), msgspec.structs.replace(dead.message, attempts=1))
            first = first or place
            count += 1
        self.dead_count -= count
        self.depth += count
        self._notice(first)
        return count

    # -- what consumers do (queue_consumer.py) ---------------------------------------------------------------------

    async def _look(self, limit: int) -> tuple[int, int | None]:
        """How many messages can be taken now (counted up to `limit`), and when the next one is available otherwise."""
        state = self._state()
        if self.paused:
            return 0, None
        now_ms = self._activation.system.clock.now_ms()
        ready = 0
        for key in self._scan(state, limit + len(state.leased)):
            place = _place(key)
            if place[0] > now_ms:
                return ready, place[0]
            ready += place not in state.leased
            if ready == limit:
                break
        return ready, None

    async def _take(self, limit: int) -> list[Taken]:
        """Take messages for a handler; the lease is durable before the handler sees them."""
        state = self._state()
        if self.paused:
            return []
        taken = self._ready(state, limit)
        if taken:
            places = [one.place for one in taken]
            self.storage.put((_LEASED, places[0][1]), places)
            after_commit(self._activation.current_turn(), lambda _: _lease(state, places))
        return taken

    async def _settle(
        self, lease: int | None, acked: list[Place], retried: list[Retried], max_retries: int
    ) -> list[str]:
        """End a batch: remove what was acknowledged, put back or bury the rest.  Returns the ids of new dead letters."""
        state = self._state()
        now_ms = self._activation.system.clock.now_ms()
        if lease is not None:
            self.storage.delete((_LEASED, lease))
        for place in acked:
            if self.storage.delete((_READY, *place)):
                self.depth -= 1
                self.acked += 1
        buried: list[str] = []
        first: Place | None = None
        for one in retried:
            message = self.storage.get((_READY, *one.place), StoredMessage)
            if message is None:
                continue  # purged meanwhile
            place, died = self._put_back(one.place, message, one.error, one.delay_seconds, one.dead or message.attempts > max_retries, now_ms)
            if died:
                buried.append(message.id)
            first = min(first or place, place)
        done = [*acked, *(one.place for one in retried)]
        after_commit(self._activation.current_turn(), lambda _: state.leased.difference_update(done))
        self._notice(first)
        return buried

    def _put_back(
        self, place: Place, message: StoredMessage, error: str, delay_seconds: float, dead: bool, now_ms: int
    ) -> tuple[Place, bool]:
        self.storage.delete((_READY, *place))
        if dead:
            self.storage.put((_DEAD, place[1]), StoredDead(message, error, now_ms))
            self.depth -= 1
            self.dead_count += 1
            return place, True
        again = (now_ms + round(delay_seconds * 1000), self.next_number)
        self.next_number += 1
        self.retried += 1
        self.storage.put((_READY, *again), msgspec.structs.replace(message, attempts=message.attempts + 1))
        return again, False

    def _ready(self, state: QueueState, limit: int) -> list[Taken]:
        """The next messages that are available and in nobody's hands."""
        now_ms = self._activation.system.clock.now_ms()
        found: list[Taken] = []
        for key, message in self._scan(state, limit + len(state.leased)).items():
            place = _place(key)
            if place[0] > now_ms or len(found) == limit:
                break
            if place not in state.leased:
                found.append(Taken(place, message))
        return found

    def _scan(self, state: QueueState, limit: int) -> dict[object, StoredMessage]:
        after = None if state.cursor is None else (_READY, *state.cursor)
        return self.storage.list((_READY,), type=StoredMessage, start_after=after, limit=limit)  # type: ignore[return-value]

    def _state(self) -> QueueState:
        state: QueueState = self._activation.system.queues.state(self.key)  # type: ignore[attr-defined]
        if not state.recovered:
            self._recover(state)
        return state

    def _recover(self, state: QueueState) -> None:
        """Deliveries that a former process began and did not end count as attempts."""
        now_ms = self._activation.system.clock.now_ms()
        for key, places in self.storage.list((_LEASED,), type=list[Place]).items():
            self.storage.delete(key)
            for place in places:
                message = self.storage.get((_READY, *place), StoredMessage)
                if message is not None:
                    self._put_back(place, message, "the process ended during a delivery", 0.0, False, now_ms)

        def recovered(_: int) -> None:
            state.recovered = True

        after_commit(self._activation.current_turn(), recovered)


def read_body(message: StoredMessage, body_type: object, where: str) -> object:
    """A message's body as a type; raises `InvalidValue`."""
    try:
        if body_type is None:
            return decode_plain(message.body)
        return msgspec.msgpack.decode(message.body, type=body_type)  # type: ignore[call-overload]
    except BAD_VALUE as error:
        raise InvalidValue(f"{where}: the body of message {message.id} is no {body_type}: {reason(error)}") from error


def _lease(state: QueueState, places: list[Place]) -> None:
    state.leased.update(places)


def _place(key: object) -> Place:
    assert isinstance(key, tuple)
    return key[1], key[2]


def _moment(time_ms: int) -> datetime:
    return datetime.fromtimestamp(time_ms / 1000, timezone.utc)


def _dead_message(dead: StoredDead) -> DeadMessage:
    message = dead.message
    return DeadMessage(
        message.id, decode_plain(message.body), message.attempts, dead.error, _moment(message.sent_ms), _moment(dead.died_ms)
    )
