"""What is sent into the pipeline and what comes out of it.

Payload and metadata travel as the bytes they came in (`msgspec.Raw`): queue, journal, step arguments and row
hold the same MessagePack, and nobody between the sender and whoever looks at them builds objects of it.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec

from holdfast import Fatal

NOTHING: Final = msgspec.Raw(b"\xc0")  # null
# A run's id is event id and batch id, at most 200 characters; log lines show the first 120 of it.
MAX_EVENT_ID_CHARACTERS: Final = 100
DEFAULT_BATCH: Final = "main"


class EventStatus(enum.StrEnum):
    """How far a stored event is; `TRANSITIONS` in store.py says what may follow what."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class ProcessEventInput(msgspec.Struct, frozen=True, kw_only=True):
    """One event as it was sent, not looked at yet; `validate_event` does that."""

    event_id: str
    payload: msgspec.Raw
    metadata: msgspec.Raw = NOTHING
    timestamp: str
    correlation_id: str
    retry_attempt: int = 0
    batch_id: str = DEFAULT_BATCH
    """Names the delivery that the event came in.  Within one an event runs once, however often it is sent."""


class ProcessEventOutput(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an event."""

    event_id: str
    status: Literal["success", "failure"]
    stored_at: datetime | None = None
    error: str | None = None


class ValidEvent(msgspec.Struct, frozen=True):
    """What an event must look like."""

    event_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_EVENT_ID_CHARACTERS)]
    payload: dict[str, msgspec.Raw]
    metadata: dict[str, msgspec.Raw] | None
    timestamp: datetime
    correlation_id: Annotated[str, msgspec.Meta(min_length=1)]


def make_event(
    event_id: str,
    payload: object,
    metadata: object = None,
    *,
    correlation_id: str,
    timestamp: datetime | None = None,
    batch_id: str = DEFAULT_BATCH,
) -> ProcessEventInput:
    """An event from plain values."""
    return ProcessEventInput(
        event_id=event_id,
        payload=pack(payload),
        metadata=pack(metadata),
        timestamp=(timestamp or datetime.now(UTC)).isoformat(),
        correlation_id=correlation_id,
        batch_id=batch_id,
    )


def check_event(event: ProcessEventInput) -> None:
    """Raise `Fatal` with the path of the field that is wrong; trying again would not mend it."""
    try:
        _decode(_encode(event))
    except msgspec.ValidationError as error:
        raise Fatal(f"event {event.event_id!r} is invalid: {error}") from None


def run_key(event_id: str, batch_id: str = DEFAULT_BATCH) -> tuple[str, str]:
    """The id of the run that an event has in a batch; shown as `<event id>/<batch id>`."""
    return event_id, batch_id


def pack(value: object) -> msgspec.Raw:
    """A plain value as it travels."""
    return msgspec.Raw(_encode(value))


def unpack(raw: msgspec.Raw) -> object:
    """The plain value of a payload or of metadata."""
    return msgspec.msgpack.decode(raw)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ValidEvent).decode
