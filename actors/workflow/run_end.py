"""How run() ended, as the last record of its journal.

Between step 5 and 6 of the way of a workflow step: its task is done, and what it left becomes a record.  The
engine commits that with all that follows from it (engine.py, `ended`).
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

import msgspec

from ..errors import DeadlinePassed, ForeignAwait, StepError, record_error
from .journal import CancelAsked, Cancelled, Failed, Finished, Terminated

if TYPE_CHECKING:
    from .replay_loop import ReplayLoop
    from .workflow_type import WorkflowType

# How asyncio says that a future, and that a lock or a queue, belongs to another loop.
_OTHER_LOOP = re.compile("attached to a different loop|bound to a different event loop")


def end_of(
    main: asyncio.Task[object],
    loop: ReplayLoop,
    kind: WorkflowType,
    at_ms: int,
    cancel: CancelAsked | None,
    *,
    overdue: bool,
) -> tuple[Finished | Failed | Cancelled, BaseException | None]:
    """The record of a run() that is done, and what it raised; None when it returned.

    `cancel` is who asked for its end, if anybody did; `overdue` tells that its deadline passed.

    What a callback raised that no task took, and a result that doesn't fit the annotation, count as raised.
    """
    error: BaseException | None = None
    value = b""
    if main.cancelled():
        if cancel is not None:
            return Cancelled(at_ms, cancel.reason), asyncio.CancelledError(cancel.reason)
        error = (
            DeadlinePassed("the run did not end before its deadline")
            if overdue
            else asyncio.CancelledError("run() was cancelled by itself")
        )
    else:
        error = main.exception()
        if error is None:
            error = loop.mistake
        if error is None:
            try:
                value = kind.encode_output(main.result())
            except TypeError as mismatch:
                error = mismatch
    if error is None:
        return Finished(at_ms, msgspec.Raw(value)), None
    step = _failed_step(error)
    if isinstance(error, RuntimeError) and _OTHER_LOOP.search(str(error)):
        foreign = ForeignAwait(
            f"run() awaited something of the outer event loop: I/O belongs in a step ({error})"
        )
        foreign.__cause__ = error
        error = foreign
    name, nth = (None, 0) if step is None else (step.step, step.nth)
    return Failed(at_ms, record_error(error), name, nth), error


def end_of_stopped(cancel: CancelAsked, at_ms: int) -> Terminated:
    """The record of a run that was terminated, for what it did to be undone first."""
    return Terminated(at_ms, cancel.reason)


def _failed_step(error: BaseException) -> StepError | None:
    if isinstance(error, StepError):
        return error
    if isinstance(error, BaseExceptionGroup):
        for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            found = _failed_step(one)
            if found is not None:
                return found
    return None
