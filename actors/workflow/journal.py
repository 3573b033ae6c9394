"""The journal: a run's records, append only; the run's state is the fold of them.

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


class Started(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Always the first record."""

    at_ms: int
    input: msgspec.Raw
    correlation_id: str
    ref: tuple[str, str] | None = None
    tenant: str | None = None
    tags: dict[str, str] = {}


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


class Redriven(msgspec.Struct, array_like=True, frozen=True, tag=7):
    """A failed run goes on: the failure before this record doesn't count any more."""

    at_ms: int
    input: bytes | None = None  # in place of the input so far, as it is stored


class Terminated(msgspec.Struct, array_like=True, frozen=True, tag=8):
    """The run was stopped from outside."""

    at_ms: int
    reason: str


class VersionTaken(msgspec.Struct, array_like=True, frozen=True, tag=9):
    """`run()` passed `self.version(tag, number)` for the first time."""

    at_ms: int
    tag: str
    number: int


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
)
Outcome: TypeAlias = StepDone | StepFailed | TimerFired

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


class Fold:
    """What a run's records add up to."""

    __slots__ = (
        "attempts",
        "ended",
        "input",
        "next_position",
        "outcomes",
        "started",
        "versions",
        "_attempt_positions",
        "_waived",
    )

    def __init__(self, records: list[tuple[int, Record]], run: str) -> None:
        if not records or not isinstance(records[0][1], Started):
            raise Damaged(f"the journal of run {run} has no first record")
        self.started: Started = records[0][1]
        self.input: msgspec.Raw = self.started.input
        # To be delivered, in order, with their positions.
        self.outcomes: list[tuple[int, Outcome]] = []
        # Attempts so far and the time of the next one, by name and use.
        self.attempts: dict[tuple[str, int], tuple[int, int]] = {}
        self.ended: Finished | Failed | Terminated | None = None
        # The numbers that `self.version` gave, by tag.
        self.versions: dict[str, int] = {}
        # Records from the first to before the last of such positions may belong to code that a redrive took
        # back: clean-up after the failure, or all of it when the redrive came with another input.
        self._waived: list[tuple[int, int]] = []
        self._attempt_positions: dict[tuple[str, int], int] = {}
        self.next_position = records[-1][0] + 1
        for position, record in records[1:]:
            if isinstance(record, AttemptFailed):
                self.attempts[record.name, record.nth] = (record.attempt, record.next_ms)
                self._attempt_positions[record.name, record.nth] = position
            elif isinstance(record, (StepDone, StepFailed, TimerFired)):
                self.outcomes.append((position, record))
            elif isinstance(record, Redriven):
                self._take_back(record, position)
            elif isinstance(record, VersionTaken):
                self.versions[record.tag] = record.number
            elif not isinstance(record, Started):
                self.ended = record

    def _take_back(self, record: Redriven, position: int) -> None:
        failed, self.ended = self.ended, None
        waived_from = 0
        if isinstance(failed, Failed) and failed.step is not None:
            self.attempts.pop((failed.step, failed.nth), None)
            for at, outcome in self.outcomes:
                if (
                    isinstance(outcome, StepFailed)
                    and (outcome.name, outcome.nth) == (failed.step, failed.nth)
                ):  # fmt: skip
                    waived_from = at
                    self.outcomes.remove((at, outcome))
                    break
        if record.input is not None:
            self.input = msgspec.Raw(record.input)
            waived_from = 0
        self._waived.append((waived_from, position))

    @property
    def just_redriven(self) -> bool:
        """Whether nothing was recorded since the run was redriven."""
        return bool(self._waived) and self._waived[-1][1] == self.next_position - 1

    def waives(self, position: int) -> bool:
        """Whether nobody need ask for the record at a position any more, after a redrive."""
        return any(first <= position < last for first, last in self._waived)

    def open_attempts(self) -> list[tuple[str, int]]:
        """Steps and calls that were tried and not finished, by name and use, in the order of their last
        attempts; without those that a redrive took back.
        """
        ended = {(one.name, one.nth) for _, one in self.outcomes if not isinstance(one, TimerFired)}
        return [
            key
            for key, position in sorted(self._attempt_positions.items(), key=lambda item: item[1])
            if key in self.attempts and key not in ended and not self.waives(position)
        ]


def journal_prefix(base: bytes) -> bytes:
    """What the keys of a run's records begin with, from the run's own prefix."""
    return base + layout.JOURNAL
