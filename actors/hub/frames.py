"""What a client of a hub reads: JSON texts.

    {"type": "begin", "topic": "job:7", "number": 11}             what comes is behind this number
    {"type": "message", "topic": "job:7", "number": 12, "at": "2030-01-01T00:00:00Z", "data": ...}
    {"type": "gap", "topic": "job:7", "first": 3, "last": 8}      these are not kept any more
    {"type": "reset", "topic": "job:7", "number": 4}              the client was further on than the topic is

A client that remembers the last number of each topic, and connects again with it, gets every message once.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from ...runtime.clock import moment
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


def message_frame(topic: str, number: int, at_ms: int, data: object) -> str:
    """A message; raises `InvalidValue` for data that JSON has no form for."""
    try:
        return _encode(_MessageFrame(topic, number, moment(at_ms), data)).decode()
    except BAD_VALUE as error:
        raise InvalidValue(
            f"what is published on topic {topic!r} has no form in JSON: {reason(error)}"
        ) from error


def begin_frame(topic: str, number: int) -> str:
    """The client, which said no number, gets what is behind this one."""
    return _encode(_BeginFrame(topic, number)).decode()


def gap_frame(topic: str, first: int, last: int) -> str:
    """Messages that are not kept any more."""
    return _encode(_GapFrame(topic, first, last)).decode()


def reset_frame(topic: str, number: int) -> str:
    """The topic begins anew behind this number: the client knew of later ones."""
    return _encode(_ResetFrame(topic, number)).decode()
