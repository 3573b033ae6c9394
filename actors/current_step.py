"""`current_step()`: which step, of which run, in which attempt the running code belongs to."""

from __future__ import annotations

import msgspec

from ..runtime.address import show_key
from .workflow.step_op import ATTEMPT


class StepInfo(msgspec.Struct, frozen=True):
    """One attempt of a step, as its body sees it."""

    workflow: str
    run: str
    """The run's id as text."""
    name: str
    nth: int
    """The how-manyth use of the name in the run, from 1."""
    attempt: int
    """1 for the first attempt; a try that a crash cut off isn't counted."""
    correlation_id: str


def current_step() -> StepInfo | None:
    """The step that calls this, also from functions that its body calls; None outside steps."""
    scope = ATTEMPT.get()
    if scope is None:
        return None
    op = scope.op
    ref = op.run.activation.ref
    return StepInfo(ref.type.name, show_key(ref.key), op.name, op.nth, scope.attempt, op.run.correlation_id)
