"""What a client of a hub reads: JSON texts.

    {"type": "begin", "topic": "job:7", "number": 11}             what comes is behind this number
    {"type": "message", "topic": "job:7", "number": 12, "at": "2030-01-01T00:00:00Z", "data": ...}
    {"type": "gap", "topic": "job:7", "first": 3, "last": 8}      these are not kept any more
    {"type": "reset", "topic": "job:7", "number": 0}              it knew of later ones: what is kept comes

A client that remembers the last number of each topic, and connects again with it, gets every message once.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from ...runtime.codec import BAD_VALUE, reason
from ...storage.errors import InvalidValue

_encode = msgspec.json.Encoder().encode


class HubMessage(msgspec.Struct, frozen=True):
    """A message of a topic."""

    topic: str
    number: int
    """From 1 on, without gaps, in the order in which they were published."""
    at: datetime
    data: object


class _MessageFrame(msgspec.Struct, frozen=True, tag_field="type", tag="message"):
    topic: str
    number: int
    at: datetime
    data: object


class _BeginFrame(msgspec.Struct, frozen=True, tag_field="type", tag="begin"):
    topic: str
    number: int


class _GapFrame(msgspec.Struct, frozen=True, tag_field="type", tag="gap"):
    topic: str
    first: int
    last: int


class _ResetFrame(msgspec.Struct, frozen=True, tag_field="type", tag="reset"):
    topic: str
    number: int


class HubFrame(NamedTuple):
    """A text on its way to clients."""

    text: str
    size_bytes: int
    topic: str | None = None
    """None for what the hub said to one client."""
    number: int = 0
    """What the client has of the topic when it has this."""


def text_frame(text: str) -> HubFrame:
    """What a hub says to one client."""
    return HubFrame(text, len(text.encode()))


def message_frame(topic: str, number: int, at: datetime, data: object) -> HubFrame:
    """A message; raises `InvalidValue` for data that JSON has no form for."""
    try:
        encoded = _encode(_MessageFrame(topic, number, at, data))
    except BAD_VALUE as error:
        raise InvalidValue(
            f"what is published on topic {topic!r} has no form in JSON: {reason(error)}"
        ) from error
    return HubFrame(encoded.decode(), len(encoded), topic, number)


def begin_frame(topic: str, number: int) -> HubFrame:
    """The client, which said no number, gets what is behind this one."""
    return _frame(_BeginFrame(topic, number), topic, number)


def gap_frame(topic: str, first: int, last: int) -> HubFrame:
    """Messages that are not kept any more."""
    return _frame(_GapFrame(topic, first, last), topic, last)


def reset_frame(topic: str) -> HubFrame:
    """The client knew of messages that the topic doesn't have (it was restored): it gets all that is kept."""
    return _frame(_ResetFrame(topic, 0), topic, 0)


def _frame(frame: msgspec.Struct, topic: str, number: int) -> HubFrame:
    encoded = _encode(frame)
    return HubFrame(encoded.decode(), len(encoded), topic, number)
