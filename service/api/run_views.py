"""A run as clients see it: its head, its steps with their attempts, what went in and came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from ...actors.errors import ErrorRecord
from ...actors.run_info import RunInfo
from ...actors.workflow.head import RunStatus
from ...actors.workflow.journal import (
    AttemptFailed,
    Finished,
    Record,
    Redriven,
    Started,
    StepDone,
    StepFailed,
)
from ...actors.workflow.journal_text import record_text
from ...runtime.clock import moment
from ...runtime.codec import decode_to_show


class ErrorView(msgspec.Struct, frozen=True):
    """What was raised, without where in the code that was: a trace is for whoever has the folder."""

    type: str
    message: str
    fatal: bool
    """It is not tried again."""


class StepView(msgspec.Struct):
    """One step of which at least one attempt has ended."""

    name: str
    nth: int
    status: Literal["retrying", "complete", "failed"]
    attempts: int
    at: datetime
    """When the last attempt ended."""
    output: Any = None
    error: ErrorView | None = None
    next_attempt_at: datetime | None = None


class InfoView(msgspec.Struct, frozen=True):
    """A run's head; without times and status when it is erased by the time that it is told of."""

    workflow: str
    id: str
    status: RunStatus | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    correlation_id: str | None = None
    error: ErrorView | None = None
    fingerprint: str = ""
    state: str | None = None
    ref: tuple[str, str] | None = None
    tenant: str | None = None
    tags: dict[str, str] = {}


class RunView(msgspec.Struct):
    """One run with what its journal tells."""

    run: InfoView
    input: Any
    output: Any
    steps: list[StepView]


class RecordView(msgspec.Struct, frozen=True):
    """One record of a run's history."""

    number: int
    kind: str
    at: datetime
    text: str


def view_error(error: ErrorRecord | None) -> ErrorView | None:
    """An error as clients see it."""
    return None if error is None else ErrorView(error.type, error.message, error.fatal)


def view_info(info: RunInfo) -> InfoView:
    """A run's head as clients see it."""
    told = msgspec.structs.asdict(info)
    told["error"] = view_error(info.error)
    return InfoView(**told)


def view_run(info: RunInfo, records: Sequence[Record]) -> RunView:
    """A run by its head and its journal."""
    view = RunView(view_info(info), None, None, view_steps(records))
    for record in records:
        if isinstance(record, Started | Redriven):
            if record.input is not None:
                view.input = decode_to_show(record.input)
        elif isinstance(record, Finished):
            view.output = decode_to_show(record.value)
    return view


def view_steps(records: Iterable[Record], *, outputs: bool = True) -> list[StepView]:
    """Each step that records tell of, as the last of them has it."""
    steps: dict[tuple[str, int], StepView] = {}
    for record in records:
        if isinstance(record, StepDone | StepFailed | AttemptFailed):
            steps[record.name, record.nth] = _view_step(record, outputs=outputs)
    return list(steps.values())


def _view_step(record: StepDone | StepFailed | AttemptFailed, *, outputs: bool) -> StepView:
    at = moment(record.at_ms)
    if isinstance(record, StepDone):
        output = decode_to_show(record.value) if outputs else None
        return StepView(record.name, record.nth, "complete", record.attempts, at, output)
    if isinstance(record, StepFailed):
        return StepView(
            record.name, record.nth, "failed", record.attempts, at, error=view_error(record.error)
        )
    return StepView(
        record.name,
        record.nth,
        "retrying",
        record.attempt,
        at,
        error=view_error(record.error),
        next_attempt_at=moment(record.next_ms),
    )


def view_history(records: Sequence[Record]) -> list[RecordView]:
    """The history of a run as people read it."""
    return [
        RecordView(number, type(record).__name__, moment(record.at_ms), record_text(record))
        for number, record in enumerate(records)
    ]
