"""The audit: who did what to which run from outside, before and after; in the commit of the deed."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from ...storage import layout
from ...storage.keys import encode_number

_COUNT_BYTES: Final = 4


class AuditRecord(msgspec.Struct, array_like=True, frozen=True):
    """One deed on disk."""

    at_ms: int
    who: str | None
    verb: str
    type: bytes
    key: bytes
    before: str
    after: str
    reason: str


class Deed(msgspec.Struct, frozen=True):
    """What was done to a run from outside."""

    at: datetime
    who: str | None
    verb: str
    run: str
    """Its address: "Workflow/id"."""
    before: str
    """The run's status."""
    after: str
    reason: str = ""


encode_audit: Final = msgspec.msgpack.Encoder().encode
decode_audit: Final = msgspec.msgpack.Decoder(AuditRecord).decode


def audit_key(at_ms: int, number: int, count: int) -> bytes:
    """Where a deed lies: in the order of time; `count` tells those of one millisecond apart."""
    order = (count & 0xFFFF_FFFF).to_bytes(_COUNT_BYTES, "big")
    return layout.AUDIT + layout.time_bytes(at_ms) + order + encode_number(number)
