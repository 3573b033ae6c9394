"""The audit: who did what from outside to which actor, when and why; in the commit of the deed.

    AuditTrail.add           into a write set that is staged at once: verbs over runs (workflow/control.py)
    AuditTrail.add_in_turn   into the commit of the turn that does it: all other actors

`Runtime.audit` reads it.  Records stay when what they tell of is gone, until they are older than
`Limits.audit_seconds` or more than `Limits.max_audit_records`: each deed takes away up to two that are.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol, cast

import msgspec

from ..runtime.actor import Actor, activation_of
from ..runtime.address import ActorKey, show_address
from ..runtime.chain import before_stage
from ..runtime.clock import moment
from ..storage import layout
from ..storage.errors import CallerError, InvalidValue
from ..storage.group_commit import Writes
from ..storage.keys import decode_key, next_prefix
from .workflow.labels import check_label
from .workflow.run_index import check_limit

if TYPE_CHECKING:
    from ..runtime.activation import Activation
    from ..runtime.ref import Ref
    from ..runtime.system import ActorSystem

MAX_REASON_CHARACTERS: Final = 1_000
_COUNT_BYTES: Final = 4
_PAGE: Final = 256
_MAX_PLACE_BYTES: Final = 8 + _COUNT_BYTES + 9
# Taken away with each deed: more than come, so that the trail shrinks when its bounds did.
_OLD_AT_ONCE: Final = 2


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
    """What was done to something from outside."""

    at: datetime
    who: str | None
    verb: str
    target: str
    """The address of what it was done to: "Workflow/id", "Queue/name"."""
    before: str
    """How that stood: the status of a run or a schedule, what a field was."""
    after: str
    reason: str
    cursor: str
    """Where it stands in the audit: the next page begins `after` it."""


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


class AuditTrail:
    """The audit of one runtime, for those who write it."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._deeds = 0

    def add(self, writes: Writes, activation: Activation, verb: str, by: By, before: str, after: str) -> None:
        """Add a deed to a write set that is staged before any other code runs."""
        ref = activation.ref
        self.add_for(
            writes, ref.type.number_bytes, ref.key_bytes, activation.owner(), verb, by, before, after
        )

    def add_in_turn(self, actor: Actor, verb: str, by: By, before: str, after: str) -> None:
        """Add a deed to the commit of the actor's turn, in which it is called.

        A turn that stores nothing of an actor of which nothing is stored is none: the deed alone would make
        the actor be there.
        """
        activation = activation_of(actor)

        def add(writes: Writes) -> None:
            if writes or activation.stored:
                self.add(writes, activation=activation, verb=verb, by=by, before=before, after=after)

        # Only when it is staged it is certain what is the oldest, and how many there are.
        before_stage(activation.current_turn(), add)

    def add_for(
        self,
        writes: Writes,
        type_number: bytes,
        key_bytes: bytes,
        owner: bytes,
        verb: str,
        by: By,
        before: str,
        after: str,
    ) -> None:
        """The same for an actor whose class may not be there; `owner` is its number as it stands in keys."""
        limits, store = self._system.limits, self._system.store
        at_ms = self._system.clock.now_ms()
        record = AuditRecord(at_ms, by.who, verb, type_number, key_bytes, before, after, by.reason)
        self._deeds += 1
        stored = store.get(layout.META_AUDIT)
        # A folder of former days doesn't have the count: once, it is counted.
        count = len(store.scan_prefix(layout.AUDIT)) if stored is None else int.from_bytes(stored, "big")
        oldest_ms = at_ms - limits.audit_seconds * 1000
        for key, old in store.scan_prefix(layout.AUDIT, limit=_OLD_AT_ONCE):
            if count >= limits.max_audit_records or decode_audit(old).at_ms < oldest_ms:
                writes[key] = None
                count -= 1
        writes[_audit_key(at_ms, owner, self._deeds)] = encode_audit(record)
        writes[layout.META_AUDIT] = (count + 1).to_bytes(8, "big")


class HasAuditTrail(Protocol):
    """A runtime, as far as those know it who write the audit."""

    audit_trail: AuditTrail


def note_deed(actor: Actor, verb: str, by: By, before: str, after: str) -> None:
    """See `AuditTrail.add_in_turn`."""
    runtime = cast("HasAuditTrail", activation_of(actor).system)
    runtime.audit_trail.add_in_turn(actor, verb, by, before, after)


def _audit_key(at_ms: int, owner: bytes, count: int) -> bytes:
    """Where a deed lies: in the order of time; `count` tells those of one millisecond apart."""
    order = (count & 0xFFFF_FFFF).to_bytes(_COUNT_BYTES, "big")
    return layout.AUDIT + layout.time_bytes(at_ms) + order + owner


class AuditFilter(msgspec.Struct, frozen=True):
    """Which deeds are meant; what is None doesn't matter."""

    type: bytes | None = None
    key: bytes | None = None
    who: str | None = None
    verb: str | None = None
    since: datetime | None = None

    def meets(self, record: AuditRecord) -> bool:
        """Whether a record is meant, its time aside."""
        return (
            (self.type is None or record.type == self.type)
            and (self.key is None or record.key == self.key)
            and (self.who is None or record.who == self.who)
            and (self.verb is None or record.verb == self.verb)
        )


def audit_of(ref: Ref | None, since: datetime | None) -> AuditFilter:
    """The filter that means the deeds to one actor."""
    if ref is None:
        return AuditFilter(since=since)
    return AuditFilter(ref.type.number_bytes, ref.key_bytes, since=since)


def read_audit(
    system: ActorSystem,
    wanted: AuditFilter,
    limit: int,
    after: str | None = None,
    *,
    look_at: int | None = None,
) -> tuple[list[Deed], str | None]:
    """Deeds, the newest first, from behind the cursor `after` on; and where the next page begins.

    look_at   so many records are looked at, at most; a page may hold fewer than are there, then
    """
    system.check_open()
    check_limit(limit)
    start = layout.AUDIT
    if wanted.since is not None:
        if not isinstance(cast("object", wanted.since), datetime) or wanted.since.tzinfo is None:
            raise CallerError(f"since must be a datetime with a zone; got {wanted.since!r}")
        start += layout.time_bytes(round(wanted.since.timestamp() * 1000))
    end = next_prefix(layout.AUDIT) if after is None else layout.AUDIT + _place(after)
    deeds: list[Deed] = []
    looked = 0
    while len(deeds) < limit and (look_at is None or looked < look_at):
        page = system.reader.scan(start, end, True, _PAGE)
        looked += len(page)
        for key, stored in page:
            record = decode_audit(stored)
            if wanted.meets(record):
                deeds.append(_deed(system, key, record))
                if len(deeds) == limit:
                    return deeds, deeds[-1].cursor
        if len(page) < _PAGE:
            return deeds, None
        end = page[-1][0]
    return deeds, None if end is None else end[len(layout.AUDIT) :].hex()


def _place(cursor: object) -> bytes:
    try:
        place = bytes.fromhex(cast("str", cursor))
        if len(place) > _MAX_PLACE_BYTES:
            raise ValueError
        return place
    except (TypeError, ValueError) as error:
        raise CallerError(f"`after` is the cursor of a deed; got {cursor!r:.100}") from error


def _deed(system: ActorSystem, place: bytes, record: AuditRecord) -> Deed:
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
        place[len(layout.AUDIT) :].hex(),
    )
