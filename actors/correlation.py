"""Correlation ids: one id ties together everything that one outside event caused, in every log line.

The id lives in a context variable.  A run starts with the caller's id (or a new one), keeps it in its
journal, and its steps run with it. `CorrelationFilter` puts it, and the run and step, on log records.
"""

from __future__ import annotations

import logging
import random
import uuid
from contextvars import ContextVar

from .workflow.ops import ATTEMPT

# From the system's source once; a UUID for each run would ask it again and again.
_random = random.Random()  # ids, not secrets
CORRELATION_ID: ContextVar[str | None] = ContextVar("holdfast_correlation_id", default=None)


def current_correlation_id() -> str | None:
    """The id of the running code: of the step's run, else what was set outside."""
    attempt = ATTEMPT.get()
    return attempt.op.run.correlation_id if attempt is not None else CORRELATION_ID.get()


def new_correlation_id() -> str:
    """A fresh id."""
    return f"{_random.getrandbits(128):032x}"


def new_run_id() -> str:
    """The id of a run that was started without one: a UUID."""
    return uuid.UUID(int=_random.getrandbits(128), version=4).hex


def seed_ids(seed: int | None) -> None:
    """Fix the ids that this process gives from now on; None takes that back.  For simulations."""
    _random.seed(seed)


class CorrelationFilter(logging.Filter):
    """Adds `correlation_id`, `run_id`, `step` and `attempt` to log records that don't have them; add it to a
    handler.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Always lets the record through."""
        attempt = ATTEMPT.get()
        fields: dict[str, object] = {
            "correlation_id": current_correlation_id(),
            "run_id": None,
            "step": None,
            "attempt": None,
        }
        if attempt is not None:
            op = attempt.op
            fields.update(run_id=str(op.run.activation.ref), step=op.name, attempt=attempt.attempt)
        for name, value in fields.items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True
