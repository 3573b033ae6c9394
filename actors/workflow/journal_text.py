"""Records of a journal as people read them: one line each.

For `holdfast history` and `dead show`, exported runs, looks behind a record, and the stories of simulations.
"""

from __future__ import annotations

import msgspec

from ...runtime.codec import decode_to_show
from ..errors import ErrorRecord
from .journal import (
    AttemptFailed,
    CancelAsked,
    Cancelled,
    DataSet,
    EventArrived,
    Failed,
    Finished,
    Paused,
    Record,
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


def record_text(record: Record) -> str:
    """A record of a journal as people read it."""
    if isinstance(record, Started):
        return f"started with {_shown(record.input)}"
    if isinstance(record, StepDone):
        return f"{_step(record.name, record.nth)} done at attempt {record.attempts}: {_shown(record.value)}"
    if isinstance(record, StepFailed):
        return (
            f"{_step(record.name, record.nth)} failed for good at attempt {record.attempts}: {record.error}"
        )
    if isinstance(record, AttemptFailed):
        return f"{_step(record.name, record.nth)} attempt {record.attempt} failed: {record.error}"
    if isinstance(record, TimerFired):
        return f"timer {record.nth} fired" if record.nth else "the deadline passed"
    if isinstance(record, Finished):
        return f"complete: {_shown(record.value)}"
    if isinstance(record, Failed):
        return f"failed: {record.error}{_undone(record.undone, record.undo)}"
    if isinstance(record, Terminated):
        return f"terminated: {record.reason}{_undone(record.undone, record.undo)}"
    if isinstance(record, VersionTaken):
        return f"version {record.number} of {record.tag!r}"
    if isinstance(record, EventArrived):
        by = f" from {record.user}" if record.user else ""
        return f"event {record.name}{by}: {_shown(record.payload)}"
    if isinstance(record, UpdateAccepted):
        return f"update {record.name} accepted"
    if isinstance(record, RetriedNow):
        return "attempts that wait begin now"
    if isinstance(record, UndoBegan):
        return "run() ended badly, its steps are undone"
    if isinstance(record, StateSet):
        return f"state {record.state!r}"
    if isinstance(record, DataSet):
        return f"data {record.name!r} " + (
            "taken away" if record.value is None else _shown(msgspec.Raw(record.value))
        )
    if isinstance(record, TagSet):
        return f"tag {record.name!r} " + ("taken away" if record.value is None else repr(record.value))
    if isinstance(record, Paused):
        return "paused"
    if isinstance(record, Resumed):
        return f"resumed after {(record.at_ms - record.paused_ms) / 1000:.3f} s"
    if isinstance(record, CancelAsked):
        return f"{'terminate' if record.terminate else 'cancel'} asked: {record.reason}"
    if isinstance(record, Cancelled):
        return f"cancelled: {record.reason}{_undone(record.undone, record.undo)}"
    return "redriven"


def _undone(count: int, error: ErrorRecord | None) -> str:
    if not count and error is None:
        return ""
    return f"; undone: {count}" + ("" if error is None else f", then {error}")


def _step(name: str, nth: int) -> str:
    return name if nth == 1 else f"{name} (use {nth})"


def _shown(value: msgspec.Raw) -> str:
    raw = bytes(value)
    return "nothing" if not raw else repr(decode_to_show(raw))
