"""The journal: a run's records, append only; the run's state is the fold of them (fold.py).

One put for each record, under the run's number and the record's position.  A record of an outcome bears the
name of what was asked for and the how-manyth use of that name; replay delivers the outcomes in the order of
positions.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from ...storage import layout
from ...storage.errors import Damaged
from ..errors import ErrorRecord


class ParentLink(msgspec.Struct, array_like=True, frozen=True):
    """Where the outcome of a child goes: the parent's address, and the call that made it."""

    type: bytes
    key: bytes
    name: str
    nth: int
    # Which of the parent's beginnings it was, when it was restarted or continued as new.
    generation: int = 0


class Started(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Always the first record."""

    at_ms: int
    input: msgspec.Raw
    correlation_id: str
    ref: tuple[str, str] | None = None
    tenant: str | None = None
    tags: dict[str, str] = {}
    # What chance comes from; None for the run's address and the time.  A fork keeps that of its origin.
    seed: str | None = None
    deadline_ms: int | None = None
    # The run that this one is a child of.
    parent: ParentLink | None = None
    # How often the run was begun anew under its id, and how much progress it had told by then.
    generation: int = 0
    emitted: int = 0
    state: str | None = None
    # What is kept of the trace that it belongs to, as the header of that name.
    traceparent: str | None = None


class StepDone(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """A step, or an actor call of `run()`, succeeded."""

    at_ms: int
    name: str
    nth: int
    attempts: int
    value: msgspec.Raw


class StepFailed(msgspec.Struct, array_like=True, frozen=True, tag=2):
    """A step, or an actor call of `run()`, failed for good."""

    at_ms: int
    name: str
    nth: int
    attempts: int
    error: ErrorRecord


class AttemptFailed(msgspec.Struct, array_like=True, frozen=True, tag=3):
    """An attempt failed; the next one is due at `next_ms`.  Nothing is delivered to `run()`."""

    at_ms: int
    name: str
    nth: int
    attempt: int
    error: ErrorRecord
    next_ms: int


class TimerFired(msgspec.Struct, array_like=True, frozen=True, tag=4):
    """A sleep or a timeout of `run()` ended: the n-th timer that it set."""

    at_ms: int
    nth: int


class Finished(msgspec.Struct, array_like=True, frozen=True, tag=5):
    """`run()` returned."""

    at_ms: int
    value: msgspec.Raw


class Failed(msgspec.Struct, array_like=True, frozen=True, tag=6):
    """`run()` raised; the run is a dead letter from here on."""

    at_ms: int
    error: ErrorRecord
    step: str | None = None  # the step whose uncaught failure it was
    nth: int = 0
    undo: ErrorRecord | None = None  # why undoing stopped
    undone: int = 0  # steps that were undone


class Redriven(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """A failed run goes on: the failure before this record doesn't count any more."""

    at_ms: int
    input: bytes | None = None  # in place of the input so far, as it is stored


class Terminated(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """The run was stopped from outside."""

    at_ms: int
    reason: str
    undo: ErrorRecord | None = None
    undone: int = 0


class VersionTaken(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """`run()` passed `self.version(tag, number)` for the first time."""

    at_ms: int
    tag: str
    number: int


class EventArrived(msgspec.Struct, array_like=True, frozen=True, tag=10):
    """An event was sent to the run: the next wait for its name gets it."""

    at_ms: int
    name: str
    payload: msgspec.Raw
    user: str | None = None
    tenant: str | None = None
    id: str | None = None


class UpdateAccepted(msgspec.Struct, array_like=True, frozen=True, tag=11):
    """An `@update` method was called from outside: it runs in `run()`'s loop from here on."""

    at_ms: int
    name: str
    arguments: msgspec.Raw
    id: str
    user: str | None = None


class StateSet(msgspec.Struct, array_like=True, frozen=True, tag=12):
    """`run()` said `self.set_status(state)`."""

    at_ms: int
    state: str


class DataSet(msgspec.Struct, array_like=True, frozen=True, tag=13):
    """`run()` changed `self.data[name]`; None took it away."""

    at_ms: int
    name: str
    value: bytes | None


class TagSet(msgspec.Struct, array_like=True, frozen=True, tag=14):
    """`run()` changed `self.tags[name]`; None took it away."""

    at_ms: int
    name: str
    value: str | None


class Paused(msgspec.Struct, array_like=True, frozen=True, tag=15):
    """The run was paused: nothing begins and no time passes for it until it is resumed."""

    at_ms: int


class Resumed(msgspec.Struct, array_like=True, frozen=True, tag=16):
    """A paused run goes on: its timers move by the length of the pause."""

    at_ms: int
    paused_ms: int  # when it was paused


class CancelAsked(msgspec.Struct, array_like=True, frozen=True, tag=17):
    """Somebody outside wants the run to end: `cancel`, or `terminate` with undo."""

    at_ms: int
    reason: str
    terminate: bool = False


class Cancelled(msgspec.Struct, array_like=True, frozen=True, tag=18):
    """`run()` ended by a cancel from outside, after its clean-up."""

    at_ms: int
    reason: str
    undo: ErrorRecord | None = None
    undone: int = 0


class UndoBegan(msgspec.Struct, array_like=True, frozen=True, tag=19):
    """`run()` ended badly: all that it had asked for is given up here, and its steps are undone."""

    at_ms: int


class RetriedNow(msgspec.Struct, array_like=True, frozen=True, tag=20):
    """Somebody outside said `retry_now`: attempts that wait for a later time are due."""

    at_ms: int


Record: TypeAlias = (
    Started
    | StepDone
    | StepFailed
    | AttemptFailed
    | TimerFired
    | Finished
    | Failed
    | Redriven
    | Terminated
    | VersionTaken
    | EventArrived
    | UpdateAccepted
    | StateSet
    | DataSet
    | TagSet
    | Paused
    | Resumed
    | CancelAsked
    | Cancelled
    | UndoBegan
    | RetriedNow
)
# What `run()` asked for, by name and use or by number: replay looks whether it still does.
Answer: TypeAlias = StepDone | StepFailed | TimerFired
# What comes from outside, whenever it likes.
FromOutside: TypeAlias = EventArrived | UpdateAccepted | Resumed | CancelAsked
Outcome: TypeAlias = Answer | FromOutside | UndoBegan
End: TypeAlias = Finished | Failed | Terminated | Cancelled
# What `run()` said without waiting for anything; counted, so that it isn't written again on replay.
Said: TypeAlias = StateSet | DataSet | TagSet

encode_record: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Record).decode
POSITION_BYTES: Final = 4


def position_key(prefix: bytes, position: int) -> bytes:
    """Where the record at `position` lies; `prefix` is the run's own for its journal."""
    return prefix + position.to_bytes(POSITION_BYTES, "big")


def decode_records(rows: list[tuple[bytes, bytes]], run: str) -> list[tuple[int, Record]]:
    """Positions and records in order; raises `Damaged` when a record can't be read."""
    records: list[tuple[int, Record]] = []
    for key, stored in rows:
        try:
            records.append((int.from_bytes(key[-POSITION_BYTES:], "big"), _decode(stored)))
        except msgspec.MsgspecError as error:
            raise Damaged(f"record {key.hex()} of run {run} can't be read: {error}") from error
    return records


def journal_prefix(base: bytes) -> bytes:
    """What the keys of a run's records begin with, from the run's own prefix."""
    return base + layout.JOURNAL
