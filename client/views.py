"""What a service tells, as types.  What a newer service tells beyond that is left out."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

import msgspec

ENDED: Final = frozenset({"complete", "failed", "cancelled", "terminated"})


class RunError(msgspec.Struct, frozen=True):
    """Why a run or a step failed."""

    type: str
    message: str
    fatal: bool = False
    """It is not tried again."""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class RunState(msgspec.Struct, frozen=True):
    """A run without its steps."""

    workflow: str
    id: str
    status: str
    created_at: datetime
    updated_at: datetime
    correlation_id: str = ""
    error: RunError | None = None
    state: str | None = None
    """Its business state."""
    ref: tuple[str, str] | None = None
    tenant: str | None = None
    tags: dict[str, str] = {}

    @property
    def metadata(self) -> dict[str, str]:
        """What it was started with as metadata, and what it noted itself: its tags."""
        return self.tags

    @property
    def has_ended(self) -> bool:
        """Nothing more comes of it by itself."""
        return self.status in ENDED


class Step(msgspec.Struct, frozen=True):
    """A step of which at least one attempt has ended."""

    name: str
    nth: int
    """The how-manyth use of the name, from 1."""
    status: Literal["retrying", "complete", "failed"]
    attempts: int
    at: datetime
    """When the last attempt ended."""
    output: object = None
    """Not in updates of a stream."""
    error: RunError | None = None
    next_attempt_at: datetime | None = None


class RunDetails(msgspec.Struct, frozen=True):
    """A run with its steps, and what went in and came out."""

    run: RunState
    input: object
    output: object
    steps: list[Step]


class HistoryRecord(msgspec.Struct, frozen=True):
    """One record of a run's history."""

    number: int
    kind: str
    at: datetime
    text: str


class WorkflowState(msgspec.Struct, frozen=True):
    """A workflow as a whole."""

    name: str
    status: Literal["active", "paused", "retired"]
    metadata: dict[str, str] = {}
    imported: bool | None = None
    """Whether its class is there; None where that isn't told."""
    counts: dict[str, int] | None = None
    """Runs by status; None where they aren't told."""


class ProgressEvent(msgspec.Struct, frozen=True):
    """A progress event of a run."""

    number: int
    name: str
    at: datetime
    data: object = None


class RunUpdate(msgspec.Struct, frozen=True):
    """How a run stands, and which of its steps have changed."""

    run: RunState
    begins: bool
    """Forget what was known of its steps: these are all, or the last ones."""
    steps: list[Step]
    progress: list[ProgressEvent] = []


class GoneRun(msgspec.Struct, frozen=True):
    """A run that was erased."""

    workflow: str
    id: str


class TrackerFrame(msgspec.Struct, frozen=True):
    """What the tracker told at once."""

    kind: Literal["initial_data", "update"]
    seq: int
    """Who has this frame may come back with this number, and gets what is behind it."""
    runs: list[RunUpdate]
    gone: list[GoneRun]
    workflows: list[WorkflowState]
    more: bool = False
    """Another frame comes at once, and runs may be further on already than their steps tell."""


class RunList(msgspec.Struct, frozen=True):
    """A listing of runs."""

    runs: list[RunState]


class Started(msgspec.Struct, frozen=True):
    """What a start gives."""

    run_id: str


class History(msgspec.Struct, frozen=True):
    """The history of a run."""

    history: list[HistoryRecord]


class Workflows(msgspec.Struct, frozen=True):
    """A listing of workflows."""

    workflows: list[WorkflowState]


class Reply(msgspec.Struct, frozen=True):
    """What an update method replied."""

    reply: msgspec.Raw
