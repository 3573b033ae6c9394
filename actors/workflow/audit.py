"""The audit: who did what to which run from outside, before and after; in the commit of the deed.

The verbs (control.py) add the records; `Runtime.audit` reads them.  They stay when their run is erased.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, cast

import msgspec

from ...runtime.address import ActorKey, show_address
from ...runtime.clock import moment
from ...storage import layout
from ...storage.errors import CallerError, InvalidValue
from ...storage.keys import decode_key, encode_number, next_prefix
from .labels import check_label
from .run_index import check_limit

if TYPE_CHECKING:
    from ...runtime.ref import Ref
    from ...runtime.system import ActorSystem

MAX_REASON_CHARACTERS: Final = 1_000
_COUNT_BYTES: Final = 4
_PAGE: Final = 256


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


class By(msgspec.Struct, frozen=True):
    """Who does something, and why: for the audit record."""

    who: str | None = None
    reason: str = ""


def checked_by(who: object, reason: object) -> By:
    """Who and why as they were given; raises `InvalidValue` for what the audit could not tell again."""
    if who is not None:
        check_label(who, "`by`, who does it,")
    if not isinstance(reason, str) or len(reason) > MAX_REASON_CHARACTERS or not _is_text(reason):
        raise InvalidValue(
            f"the reason must be a text of at most {MAX_REASON_CHARACTERS} characters; got {reason!r:.200}"
        )
    return By(cast("str | None", who), reason)


def _is_text(given: str) -> bool:
    try:
        given.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


encode_audit: Final = msgspec.msgpack.Encoder().encode
decode_audit: Final = msgspec.msgpack.Decoder(AuditRecord).decode


def audit_key(at_ms: int, number: int, count: int) -> bytes:
    """Where a deed lies: in the order of time; `count` tells those of one millisecond apart."""
    order = (count & 0xFFFF_FFFF).to_bytes(_COUNT_BYTES, "big")
    return layout.AUDIT + layout.time_bytes(at_ms) + order + encode_number(number)


def read_audit(system: ActorSystem, ref: Ref | None, since: datetime | None, limit: int) -> list[Deed]:
    """See `Runtime.audit`."""
    check_limit(limit)
    start = layout.AUDIT
    if since is not None:
        if not isinstance(cast("object", since), datetime) or since.tzinfo is None:
            raise CallerError(f"since must be a datetime with a zone; got {since!r}")
        start += layout.time_bytes(round(since.timestamp() * 1000))
    end = next_prefix(layout.AUDIT)
    deeds: list[Deed] = []
    while len(deeds) < limit:
        page = system.reader.scan(start, end, True, _PAGE)
        for _, stored in page:
            record = decode_audit(stored)
            if ref is None or (record.type == ref.type.number_bytes and record.key == ref.key_bytes):
                deeds.append(_deed(system, stored))
        if len(page) < _PAGE:
            break
        end = page[-1][0]
    return deeds[:limit]


def _deed(system: ActorSystem, stored: bytes) -> Deed:
    record = decode_audit(stored)
    key = decode_key(record.key)
    assert not isinstance(key, bytes), "no actor has such a key"
    shown: ActorKey = key
    return Deed(
        moment(record.at_ms),
        record.who,
        record.verb,
        show_address(system.actor_types.name_of(record.type), shown),
        record.before,
        record.after,
        record.reason,
    )
