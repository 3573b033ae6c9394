"""What a run's records add up to: the state that the journal is the history of.

Made when a run comes to memory, from the records that lie on disk; replay then delivers its outcomes.
"""

from __future__ import annotations

import msgspec

from ...storage.errors import Damaged
from .journal import (
    AttemptFailed,
    CancelAsked,
    Cancelled,
    DataSet,
    End,
    EventArrived,
    Failed,
    Finished,
    Outcome,
    Paused,
    Record,
    Redriven,
    Resumed,
    RetriedNow,
    Started,
    StateSet,
    StepDone,
    StepFailed,
    TagSet,
    Terminated,
    TimerFired,
    UndoBegan,
    UpdateAccepted,
    VersionTaken,
)

# As tuples: a test against a union takes several times as long, and a journal may have thousands.
_OUTCOMES = (StepDone, StepFailed, TimerFired, EventArrived, UpdateAccepted, Resumed, CancelAsked, UndoBegan)
_SAID = (StateSet, DataSet, TagSet)
_ENDS = (Finished, Failed, Terminated, Cancelled)


class Fold:
    """What a run's records add up to."""

    __slots__ = (
        "attempts",
        "ended",
        "input",
        "next_position",
        "outcomes",
        "said",
        "started",
        "versions",
        "_attempt_positions",
        "_paused_ms",
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
        self.ended: End | None = None
        # How often `run()` said something, by the type of the record.
        self.said: dict[type, int] = {}
        self._paused_ms: int | None = None
        # The numbers that `self.version` gave, by tag.
        self.versions: dict[str, int] = {}
        # Records from the first to before the last of such positions may belong to code that a redrive took
        # back: clean-up after the failure, or all of it when the redrive came with another input.
        self._waived: list[tuple[int, int]] = []
        self._attempt_positions: dict[tuple[str, int], int] = {}
        self.next_position = records[-1][0] + 1
        for position, record in records[1:]:
            self._add(position, record)

    def _add(self, position: int, record: Record) -> None:
        if isinstance(record, AttemptFailed):
            self.attempts[record.name, record.nth] = (record.attempt, record.next_ms)
            self._attempt_positions[record.name, record.nth] = position
        elif isinstance(record, _OUTCOMES):
            self.outcomes.append((position, record))
            if isinstance(record, Resumed):
                self._resumed(record)
        elif isinstance(record, _SAID):
            kind = type(record)
            self.said[kind] = self.said.get(kind, 0) + 1
        elif isinstance(record, Redriven):
            self._take_back(record, position)
        elif isinstance(record, VersionTaken):
            self.versions[record.tag] = record.number
        elif isinstance(record, _ENDS):
            self.ended = record
        elif isinstance(record, Paused):
            self._paused_ms = record.at_ms
        elif isinstance(record, RetriedNow):
            for key, (attempt, next_ms) in self.attempts.items():
                self.attempts[key] = (attempt, min(next_ms, record.at_ms))

    @property
    def is_paused(self) -> bool:
        """Whether the run was paused and not resumed since."""
        return self._paused_ms is not None

    @property
    def paused_ms(self) -> int:
        """When the run was paused; it must be."""
        assert self._paused_ms is not None, "asked only of a paused run"
        return self._paused_ms

    def _resumed(self, record: Resumed) -> None:
        """Waits for the next attempt move by the length of the pause."""
        self._paused_ms = None
        by_ms = record.at_ms - record.paused_ms
        for key, (attempt, next_ms) in self.attempts.items():
            # Those that were due before had been begun, or have an outcome by now.
            self.attempts[key] = (attempt, next_ms + by_ms if next_ms > record.paused_ms else next_ms)

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
            self.said.clear()  # with another input run() may say something else
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
        ended = {(one.name, one.nth) for _, one in self.outcomes if isinstance(one, (StepDone, StepFailed))}
        return [
            key
            for key, position in sorted(self._attempt_positions.items(), key=lambda item: item[1])
            if key in self.attempts and key not in ended and not self.waives(position)
        ]
