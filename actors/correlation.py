"""Correlation ids: one id ties together everything that one outside event caused, in every log line.

The id lives in a context variable.  A run starts with the caller's id (or a new one), keeps it in its
journal, and its steps run with it. `CorrelationFilter` puts it, and the run and step, on log records.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar

from .workflow.step_op import ATTEMPT

CORRELATION_ID: ContextVar[str | None] = ContextVar("holdfast_correlation_id", default=None)


def current_correlation_id() -> str | None:
    """The id of the running code: of the step's run, else what was set outside."""
    attempt = ATTEMPT.get()
    return attempt.op.run.correlation_id if attempt is not None else CORRELATION_ID.get()


class CorrelationFilter(logging.Filter):
    """Adds `correlation_id`, `workflow`, `run_id`, `step` and `attempt` to log records that don't have them.

    Add it to a handler.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the record through."""
        attempt = ATTEMPT.get()
        fields: dict[str, object] = {
            "correlation_id": current_correlation_id(),
            "workflow": None,
            "run_id": None,
            "step": None,
            "attempt": None,
        }
        if attempt is not None:
            op = attempt.op
            ref = op.run.activation.ref
            fields.update(workflow=ref.type.name, run_id=str(ref), step=op.name, attempt=attempt.attempt)
        for name, value in fields.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True
