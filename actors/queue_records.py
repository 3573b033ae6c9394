"""What lies on disk of a queue, and a message on its way through a consumer's hands.

Keys are those of `Queue`'s own storage; a lane is the copy of one consumer group.  docs/on-disk-format.md
shows them in one table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from ..runtime.codec import BAD_VALUE, decode_plain, reason
from ..storage.errors import InvalidValue
from ..storage.keys import encode_index_values
from .queue_hub import Place

if TYPE_CHECKING:
    from ..runtime.ref import Ref

READY: Final = "m"  # ("m", lane, available_ms, number) -> StoredMessage
LEASED: Final = "l"  # ("l", lane, first number of a batch) -> places of the batch
DEAD: Final = "x"  # ("x", lane, number) -> StoredDead
LEAVING: Final = "o"  # ("o", number) -> StoredLeaving: a dead letter on its way to another queue
# ("r", digest of another queue's directory key) -> number of the newest dead letter taken over from it
RECEIVED: Final = "r"


DeadPlace: TypeAlias = tuple[int, int]  # the lane of a dead letter, and its number there
QueueStatus: TypeAlias = Literal["open", "paused", "draining"]


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


class StoredLeaving(msgspec.Struct, array_like=True, frozen=True):
    """A dead letter on its way: the type number and key of the queue it goes to."""

    to: bytes
    message: StoredMessage


class Lane(msgspec.Struct, array_like=True):
    """The messages of one consumer group, as numbers."""

    number: int
    # None until a group consumes.
    group: str | None = None
    depth: int = 0
    dead: int = 0
    acked: int = 0
    retried: int = 0
    # Of the messages in `depth`, those that were delivered in vain at least once.
    retrying: int = 0


class Taken(msgspec.Struct, frozen=True):
    """A message in the hands of a consumer."""

    place: Place
    message: StoredMessage


class Retried(msgspec.Struct, frozen=True):
    """What a consumer says of a message that is to come again."""

    taken: Taken
    error: str
    delay_seconds: float
    dead: bool


decode_message: Final = msgspec.msgpack.Decoder(StoredMessage).decode
decode_dead: Final = msgspec.msgpack.Decoder(StoredDead).decode
decode_leaving: Final = msgspec.msgpack.Decoder(StoredLeaving).decode
decode_places: Final = msgspec.msgpack.Decoder(list[tuple[int, int]]).decode


def queue_status(*, paused: bool, draining: bool) -> QueueStatus:
    """What is told of a queue in one word."""
    return "paused" if paused else "draining" if draining else "open"


def key_behind(prefix: bytes, parts: tuple[int, ...]) -> bytes:
    """The full key whose last parts these are; `prefix` holds the first ones."""
    return prefix + encode_index_values(parts) + b"\x00"


def queue_of(ref: Ref) -> bytes:
    """A queue as dead letters on their way name it: type number and key."""
    return ref.type.number_bytes + ref.key_bytes


def with_attempts(message: StoredMessage, attempts: int) -> StoredMessage:
    """The same message with another count of deliveries."""
    return StoredMessage(message.id, message.body, attempts, message.sent_ms)


def read_body(message: StoredMessage, body_type: object, where: str) -> object:
    """A message's body as a type; raises `InvalidValue`."""
    try:
        if body_type is None:
            return decode_plain(message.body)
        return msgspec.msgpack.decode(message.body, type=body_type)
    except BAD_VALUE as error:
        raise InvalidValue(
            f"{where}: the body of message {message.id} is no {body_type}: {reason(error)}"
        ) from error
