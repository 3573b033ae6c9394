"""A dead letter: a failed run with all that one needs to see why, and to let it go on.

Nothing of it is stored by itself: it is the run's journal, as it stands since the failure.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from ..runtime.clock import moment
from ..runtime.codec import decode_to_show
from .errors import ErrorRecord
from .workflow.fold import Fold
from .workflow.journal import Failed, Record, StepFailed


class DeadLetter(msgspec.Struct, frozen=True):
    """A failed run, kept until it is redriven: input, cause, attempts, history."""

    workflow: str
    id: str
    correlation_id: str
    failed_at: datetime
    input: object
    """As plain data; as its MessagePack bytes where it has keys that are structs or maps."""
    error: ErrorRecord
    step: str | None
    """The step whose failure ended the run; None when the code between steps raised."""
    attempts: int
    history: tuple[Record, ...]


def dead_letter(workflow: str, id_: str, records: list[Record]) -> DeadLetter | None:
    """A run's records as a dead letter; None when they don't end with a failure."""
    failed = records[-1]
    if not isinstance(failed, Failed):
        return None
    fold = Fold(list(enumerate(records)), f"{workflow}/{id_}")
    attempts = 0
    for record in records:
        if isinstance(record, StepFailed) and (record.name, record.nth) == (failed.step, failed.nth):
            attempts = record.attempts
    return DeadLetter(
        workflow,
        id_,
        fold.started.correlation_id,
        moment(failed.at_ms),
        decode_to_show(fold.input),
        failed.error,
        failed.step,
        attempts,
        tuple(records),
    )
