"""Dead letters of every kind in one shape: failed runs, messages and alarms whose retries are spent.

    run      a failed run, found by the index of runs                 redrive | drop: it is erased
    message  a dead letter that a queue keeps                         redrive | drop
    alarm    an alarm that its actor's handler refused for good       redrive | drop

Read from disk page by page, so that neither many letters nor large ones hold up the loop.  Those that failed
for the same reason have the same `cause`: the first line of the error with `#` for its numbers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

import msgspec

from ..runtime.actor_look import type_number
from ..runtime.address import ActorKey, normal_key, show_address, show_key
from ..runtime.alarm_scheduler import decode_dead_alarm
from ..runtime.alarms import MAX_ALARM_NAME_BYTES, alarm_name_bytes
from ..runtime.clock import moment
from ..runtime.codec import decode_to_show
from ..runtime.error_text import shorten
from ..storage import layout
from ..storage.errors import CallerError, HoldfastError
from ..storage.group_commit import Writes
from ..storage.keys import decode_key, decode_number, next_prefix
from .audit import By, checked_by
from .bulk import BulkResult
from .dead_letter import dead_letter
from .durable_queue import DeadMessage, Queue
from .errors import LetterNotFound, QueueNotFound, RunNotFound
from .handle import Run
from .queue_info import dead_at, list_dead, list_queues
from .queue_records import DeadPlace
from .workflow.head import FAILED
from .workflow.journal import Failed, Record, StepFailed, decode_records, journal_prefix
from .workflow.labels import NO_LABELS
from .workflow.run_index import RunFilter, RunPlace, page_runs, run_place
from .workflow.workflow_type import WorkflowType

if TYPE_CHECKING:
    from ..runtime.ref import Ref
    from .system import Runtime

LetterKind: TypeAlias = Literal["run", "message", "alarm"]
LETTER_KINDS: Final[tuple[LetterKind, ...]] = get_args(LetterKind)
LetterVerb: TypeAlias = Literal["redrive", "drop"]
LETTER_VERBS: Final[tuple[LetterVerb, ...]] = get_args(LetterVerb)

# Letters that are looked at for one page, or to be counted by cause.
MAX_LETTERS_LOOKED_AT: Final = 10_000
MAX_CAUSE_CHARACTERS: Final = 200
_PAGE: Final = 64
# Runs that are asked at the same time: they share commits.
_AT_ONCE: Final = 50
# The record of a step's failure is most often the last but one.  Others may be large.
_LAST_RECORDS: Final = 2
# The number of an actor, and the name of an alarm.
_MAX_ALARM_PLACE_BYTES: Final = 10 + MAX_ALARM_NAME_BYTES
_NUMBERS: Final = re.compile(r"\d+")


class LetterAddress(msgspec.Struct, array_like=True, frozen=True):
    """What tells a dead letter from all others."""

    kind: LetterKind
    type: str
    """The workflow, the class of the queue, the type of the actor."""
    key: str | int | list[str | int]
    """Of the run, the queue, the actor; a tuple as a list."""
    name: str = ""
    """Of an alarm."""
    place: DeadPlace | None = None
    """Of a message."""

    @property
    def actor_key(self) -> ActorKey:
        """The key as actors have it."""
        return tuple(self.key) if isinstance(self.key, list) else self.key


class Letter(msgspec.Struct, frozen=True):
    """A dead letter without what is in it."""

    address: LetterAddress
    id: str
    """Of the run or the message; the name of the alarm."""
    died_at: datetime
    error_type: str
    error_message: str
    fatal: bool
    """It was not tried again."""
    cause: str
    attempts: int | None
    """Attempts made; None where a run failed between its steps."""
    step: str | None = None
    """The step whose failure ended a run."""
    tenant: str | None = None


class WholeLetter(msgspec.Struct, frozen=True):
    """A dead letter with the input of the run, the body of the message, the payload of the alarm."""

    letter: Letter
    content: object
    """As plain data; as its MessagePack bytes where it has keys that are structs or maps."""
    history: tuple[Record, ...] = ()
    """Of a run."""


class LetterFilter(msgspec.Struct, frozen=True):
    """Which dead letters of a kind are meant; what is None doesn't matter."""

    kind: LetterKind
    type: str | None = None
    key: ActorKey | None = None
    """Of the queue, or of the actor whose alarms they are; of one run."""
    cause: str | None = None
    tenant: str | None = None

    def meets(self, letter: Letter) -> bool:
        """Whether a letter of this kind is meant."""
        address = letter.address
        return (
            (self.type is None or address.type == self.type)
            and (self.key is None or address.actor_key == self.key)
            and (self.cause is None or letter.cause == self.cause)
            and (self.tenant is None or letter.tenant == self.tenant)
        )


class CauseCount(msgspec.Struct):
    """How many letters have one cause."""

    kind: LetterKind
    type: str
    cause: str
    count: int
    first_died_at: datetime
    last_died_at: datetime
    example: LetterAddress


# Where the letters behind one begin, by kind: a place in the listing of runs; [class, key, place] of a
# message, where no place means behind all of that queue; the end of the key of an alarm.
MessagePlace: TypeAlias = tuple[str, str | int | list[str | int], DeadPlace | None]
LetterPlace: TypeAlias = str | MessagePlace | bytes


def cause_of(error: str) -> str:
    """The cause of an error's text: what it has in common with others like it."""
    first = error.strip().partition("\n")[0]
    return shorten(_NUMBERS.sub("#", first), MAX_CAUSE_CHARACTERS)


# -- reading ------------------------------------------------------------------------------------------------


async def list_letters(
    runtime: Runtime, wanted: LetterFilter, *, after: LetterPlace | None = None, limit: int = 100
) -> tuple[list[Letter], LetterPlace | None]:
    """Letters of a kind, the oldest first (messages: queue by queue), and where the next page begins.

    A page may hold fewer than `limit` though there is a next one, when few of many are meant.
    """
    found: list[Letter] = []
    looked, behind = 0, after
    async with aclosing(_letters(runtime, wanted, after)) as letters:
        async for letter, place in letters:
            looked += 1
            if letter is not None and wanted.meets(letter):
                if len(found) == limit:
                    return found, behind
                found.append(letter)
            behind = place
            if looked >= MAX_LETTERS_LOOKED_AT:
                return found, behind
    return found, None


async def count_causes(runtime: Runtime, wanted: LetterFilter) -> tuple[list[CauseCount], bool]:
    """Letters by type and cause, the most frequent first; and whether there are more than were looked at."""
    counts: dict[tuple[str, str], CauseCount] = {}
    looked = 0
    async with aclosing(_letters(runtime, wanted, None)) as letters:
        async for letter, _ in letters:
            if looked == MAX_LETTERS_LOOKED_AT:
                return _most_frequent(counts), True
            looked += 1
            if letter is not None and wanted.meets(letter):
                _count(counts, letter)
    return _most_frequent(counts), False


def _count(counts: dict[tuple[str, str], CauseCount], letter: Letter) -> None:
    place = (letter.address.type, letter.cause)
    known = counts.get(place)
    if known is None:
        kind = letter.address.kind
        counts[place] = CauseCount(kind, *place, 1, letter.died_at, letter.died_at, letter.address)
    else:
        known.count += 1
        known.first_died_at = min(known.first_died_at, letter.died_at)
        known.last_died_at = max(known.last_died_at, letter.died_at)


def _most_frequent(counts: dict[tuple[str, str], CauseCount]) -> list[CauseCount]:
    return sorted(counts.values(), key=lambda one: (-one.count, one.type, one.cause))


async def _letters(
    runtime: Runtime, wanted: LetterFilter, after: LetterPlace | None
) -> AsyncGenerator[tuple[Letter | None, LetterPlace]]:
    """All letters of a kind from a place on, each with the place behind it; None for what is none any more.

    Between two pages others have their turn.
    """
    runtime.check_open()
    pages: dict[LetterKind, Callable[[Runtime, LetterFilter, LetterPlace | None], _Page]] = {
        "run": _run_page,
        "message": _message_page,
        "alarm": _alarm_page,
    }
    while True:
        page, is_last = pages[wanted.kind](runtime, wanted, after)
        for letter, place in page:
            after = place
            yield letter, place
        if is_last:
            return
        await asyncio.sleep(0)


_Page: TypeAlias = tuple[list[tuple[Letter | None, LetterPlace]], bool]


def _run_page(runtime: Runtime, wanted: LetterFilter, after: LetterPlace | None) -> _Page:
    kinds = tuple(
        kind
        for kind in runtime.actor_types.by_class.values()
        if isinstance(kind, WorkflowType) and wanted.type in (None, kind.name)
    )
    behind = None if after is None else run_place(cast("str", after))
    failed = RunFilter(kinds, FAILED, tenant=wanted.tenant)
    runs, following = page_runs(runtime, failed, limit=_PAGE, reverse=False, after=behind)
    page: list[tuple[Letter | None, LetterPlace]] = []
    with runtime.reader.view() as view:
        for ref, head in runs:
            owner = view.read(ref.directory_key)
            if owner is None:
                continue  # erased between the two looks
            prefix = journal_prefix(layout.DATA + owner)
            rows = view.scan(prefix, next_prefix(prefix), True, _LAST_RECORDS)
            last = [one for _, one in decode_records(rows, str(ref))]
            place = RunPlace(head.created_ms, ref.type.number_bytes, owner)
            page.append((_run_letter(ref, (head.labels or NO_LABELS).tenant, last), place.text()))
    if following is not None:
        page.append((None, following.text()))
    return page, following is None


def _run_letter(ref: Ref, tenant: str | None, last: list[Record]) -> Letter | None:
    """A failed run by its newest records, the newest first."""
    failed = last[0] if last else None
    if not isinstance(failed, Failed):
        return None
    attempts = None
    for record in last:
        if isinstance(record, StepFailed) and (record.name, record.nth) == (failed.step, failed.nth):
            attempts = record.attempts
    error = failed.error
    return Letter(
        LetterAddress("run", ref.type.name, _listed(ref.key)),
        show_key(ref.key),
        moment(failed.at_ms),
        error.type,
        error.message,
        error.fatal,
        cause_of(str(error)),
        attempts,
        failed.step,
        tenant,
    )


def _listed(key: ActorKey) -> str | int | list[str | int]:
    return cast("list[str | int]", list(key)) if isinstance(key, tuple) else key


def _message_page(runtime: Runtime, wanted: LetterFilter, after: LetterPlace | None) -> _Page:
    page: list[tuple[Letter | None, LetterPlace]] = []
    last: tuple[str, ActorKey] | None = None
    place: DeadPlace | None = None
    if after is not None:
        kind_name, key, place = cast("MessagePlace", after)
        last = (kind_name, tuple(key) if isinstance(key, list) else key)
    if wanted.type is not None and wanted.key is not None:
        page = _dead_messages(runtime, wanted.type, wanted.key, place)
        return page, not page
    if last is not None and place is not None:
        # The queue that the page before ended in.
        page = _dead_messages(runtime, *last, place)
        if page:
            return page, False
    queues = list_queues(runtime, after=last, limit=_PAGE)
    for info in queues:
        if info.dead and wanted.type in (None, info.type) and wanted.key in (None, info.key):
            dead = _dead_messages(runtime, info.type, info.key, None)
            if dead:
                return page + dead, False
        page.append((None, (info.type, _listed(info.key), None)))
    return page, len(queues) < _PAGE


def _queue_class(runtime: Runtime, name: str) -> type[Queue]:
    found = runtime.actor_types.named(name).actor_class
    if not issubclass(found, Queue):
        raise CallerError(f"{name} is no class of queues")
    return found


def _dead_messages(
    runtime: Runtime, type_name: str, key: ActorKey, after: DeadPlace | None
) -> list[tuple[Letter | None, LetterPlace]]:
    ref = cast("Ref", runtime.get(_queue_class(runtime, type_name), key))
    try:
        found = list_dead(runtime, ref, after=after, limit=_PAGE)
    except QueueNotFound:  # removed meanwhile
        found = []
    return [(_message_letter(ref, one), (ref.type.name, _listed(ref.key), one.place)) for one in found]


def _message_letter(ref: Ref, dead: DeadMessage) -> Letter:
    type_name, _, message = dead.error.partition(": ")
    return Letter(
        LetterAddress("message", ref.type.name, _listed(ref.key), place=dead.place),
        dead.id,
        dead.died_at,
        type_name,
        message,
        False,
        cause_of(dead.error),
        dead.attempts,
    )


def _alarm_page(runtime: Runtime, wanted: LetterFilter, after: LetterPlace | None) -> _Page:
    prefix = layout.DEAD_ALARM
    place = b"" if after is None else cast("bytes", after) + b"\x00"
    if len(place) > _MAX_ALARM_PLACE_BYTES:
        raise CallerError("a cursor is what the page before gave")
    start = prefix + place
    rows = runtime.reader.scan(start, next_prefix(prefix), False, _PAGE)
    page: list[tuple[Letter | None, LetterPlace]] = []
    for key, stored in rows:
        page.append((_alarm_letter(runtime, key, stored), key[len(prefix) :]))
    return page, len(rows) < _PAGE


def _alarm_letter(runtime: Runtime, key: bytes, stored: bytes) -> Letter:
    record = decode_dead_alarm(stored)
    _, end = decode_number(key, len(layout.DEAD_ALARM))
    actor_key = cast("ActorKey", decode_key(record.key))
    type_name, _, message = record.error.partition(": ")
    name = key[end:].decode()
    return Letter(
        LetterAddress("alarm", runtime.actor_types.name_of(record.type), _listed(actor_key), name),
        name,
        moment(record.died_ms),
        type_name,
        message,
        False,
        cause_of(record.error),
        record.alarm.retries + 1,
    )


async def read_letter(runtime: Runtime, address: LetterAddress) -> WholeLetter:
    """One letter whole; raises `LetterNotFound` when it isn't there (any more)."""
    found: WholeLetter | None = None
    try:
        match address.kind:
            case "run":
                found = await _read_run(runtime, address)
            case "message":
                found = _read_message(runtime, address)
            case "alarm":
                found = _read_alarm(runtime, address)
    except (RunNotFound, QueueNotFound):
        pass
    if found is None:
        raise _not_found(address)
    return found


def _not_found(address: LetterAddress) -> LetterNotFound:
    where = show_address(address.type, address.actor_key)
    what = f"{address.name!r} " if address.kind == "alarm" else ""
    return LetterNotFound(f"there is no dead {address.kind} {what}of {where}; was it redriven or dropped?")


async def _read_run(runtime: Runtime, address: LetterAddress) -> WholeLetter | None:
    run = _run(runtime, address)
    info = await run.info()
    records = await run.history()
    whole = dead_letter(address.type, run.id, records)
    if whole is None:
        return None
    letter = _run_letter(run.ref, info.tenant, list(reversed(records[-_LAST_RECORDS:])))
    return None if letter is None else WholeLetter(letter, whole.input, whole.history)


def _run(runtime: Runtime, address: LetterAddress) -> Run[object]:
    kind = runtime.actor_types.named(address.type)
    if not isinstance(kind, WorkflowType):
        raise CallerError(f"{address.type} is no workflow")
    return Run[object](runtime, cast("Ref", runtime.get(kind.actor_class, address.actor_key)))


def _queue(runtime: Runtime, address: LetterAddress) -> Ref:
    return cast("Ref", runtime.get(_queue_class(runtime, address.type), address.actor_key))


def _read_message(runtime: Runtime, address: LetterAddress) -> WholeLetter | None:
    ref = _queue(runtime, address)
    dead = None if address.place is None else dead_at(runtime, ref, address.place)
    return None if dead is None else WholeLetter(_message_letter(ref, dead), dead.body)


def _read_alarm(runtime: Runtime, address: LetterAddress) -> WholeLetter | None:
    found = _alarm_row(runtime, address)
    if found is None:
        return None
    payload = decode_dead_alarm(found[1]).alarm.payload
    content = None if payload is None else decode_to_show(payload)
    return WholeLetter(_alarm_letter(runtime, *found), content)


def _alarm_row(runtime: Runtime, address: LetterAddress) -> tuple[bytes, bytes] | None:
    number = type_number(runtime, address.type)
    key_bytes = normal_key(address.actor_key, address.type)[1]
    owner = runtime.reader.read(layout.DIRECTORY + number + key_bytes)
    if owner is None:
        return None
    key = layout.DEAD_ALARM + owner + alarm_name_bytes(address.name)
    stored = runtime.reader.read(key)
    return None if stored is None else (key, stored)


# -- redriving and dropping ---------------------------------------------------------------------------------


async def redrive_letter(
    runtime: Runtime,
    address: LetterAddress,
    *,
    content: object = msgspec.UNSET,
    by: str | None = None,
    reason: str = "",
) -> None:
    """Let one letter go on, with another input or body if that is given.

    Raises `LetterNotFound`, `CallerError` for an alarm with another payload, and what a run's input is
    refused with.
    """
    match address.kind:
        case "run":
            run = _run(runtime, address)
            await _check_failed(run, address)
            await run.redrive(input=content, by=by, reason=reason)
        case "message":
            places = [] if address.place is None else [address.place]
            queue = cast("Queue", _queue(runtime, address))
            body = None if content is msgspec.UNSET else (content,)
            if not await queue.redrive_at(places, body=body, by=by, reason=reason):
                raise _not_found(address)
        case "alarm":
            if content is not msgspec.UNSET:
                raise CallerError("a dead alarm fires again with the payload that it has")
            if _alarm_row(runtime, address) is None:
                raise _not_found(address)
            actor_class = runtime.actor_types.named(address.type).actor_class
            await runtime.redrive_alarm(actor_class, address.actor_key, address.name, by=by, reason=reason)


async def drop_letter(
    runtime: Runtime, address: LetterAddress, *, by: str | None = None, reason: str = ""
) -> None:
    """Delete one letter: a message, an alarm, a failed run with all that is stored of it.

    Raises `LetterNotFound`.
    """
    told = checked_by(by, reason)
    match address.kind:
        case "run":
            run = _run(runtime, address)
            await _check_failed(run, address)
            await run.purge(by=by, reason=reason)
        case "message":
            places = [] if address.place is None else [address.place]
            queue = cast("Queue", _queue(runtime, address))
            if not await queue.drop_at(places, by=by, reason=reason):
                raise _not_found(address)
        case "alarm":
            await _drop_alarm(runtime, address, told)


async def _check_failed(run: Run[object], address: LetterAddress) -> None:
    try:
        info = await run.info()
    except RunNotFound:
        raise _not_found(address) from None
    if info.status != "failed":
        raise _not_found(address)


async def _drop_alarm(runtime: Runtime, address: LetterAddress, told: By) -> None:
    """Not in a turn: nobody needs the actor for it, whose class may be gone."""
    found = _alarm_row(runtime, address)
    if found is None:
        raise _not_found(address)
    key, stored = found
    record = decode_dead_alarm(stored)
    _, end = decode_number(key, len(layout.DEAD_ALARM))
    owner = key[len(layout.DEAD_ALARM) : end]
    writes: Writes = {key: None}
    shown = f"dead alarm {address.name!r}"
    runtime.audit_trail.add_for(writes, record.type, record.key, owner, "drop", told, shown, "deleted")
    await runtime.store.wait_durable(runtime.store.stage(writes, reserve=True))


async def settle_letters(
    runtime: Runtime,
    verb: LetterVerb,
    wanted: LetterFilter,
    *,
    by: str | None = None,
    reason: str = "",
    dry_run: bool = False,
    limit: int = 1_000,
) -> tuple[BulkResult, bool]:
    """Redrive or drop all letters that are meant, at most `limit`; and whether there are more.

    dry_run   only count them

    Each is a commit of its own, or some of one queue share one; what one refuses stops nothing.
    """
    checked_by(by, reason)
    letters: list[Letter] = []
    after: LetterPlace | None = None
    while True:
        page, after = await list_letters(runtime, wanted, after=after, limit=limit + 1 - len(letters))
        letters.extend(page)
        if after is None or len(letters) > limit:
            break
    more = len(letters) > limit
    addresses = [letter.address for letter in letters[:limit]]
    if dry_run:
        return BulkResult(len(addresses), 0), more
    done = 0
    refused: list[tuple[str, str]] = []

    async def settle(address: LetterAddress) -> None:
        nonlocal done
        try:
            do: Awaitable[None]
            if verb == "redrive":
                do = redrive_letter(runtime, address, by=by, reason=reason)
            else:
                do = drop_letter(runtime, address, by=by, reason=reason)
            await do
            done += 1
        except HoldfastError as error:
            told = str(error) if isinstance(error, CallerError) else f"{type(error).__name__}: {error}"
            refused.append((show_address(address.type, address.actor_key), told))

    for start in range(0, len(addresses), _AT_ONCE):
        await asyncio.gather(*(settle(one) for one in addresses[start : start + _AT_ONCE]))
    return BulkResult(len(addresses), done, tuple(refused)), more
