"""`ActionContext`: what a handler may know of the execution that it is part of.

A handler gets it when its first parameter is annotated with it.  The idempotency key is what an effect
outside is tied to: the same key, given to another system, means the same effect.

    in a step                  run, step and the how-manyth use of the step's name: see workflow/step_key.py
    called in a step's body    the same, and the how-manyth such call of the step
    by `once`                  the action and the caller's key
    called plainly             a fresh one
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ...runtime.address import show_key
from ...storage.errors import CallerError
from ..correlation import current_correlation_id
from ..ids import new_id
from ..workflow.step_key import step_key

if TYPE_CHECKING:
    from ...runtime.deps import Deps
    from ..system import Runtime
    from ..workflow.step_op import StepScope

# Of a row for a call in a step: what tells it from other calls.
_CALL_BYTES: Final = 20
_log = logging.getLogger("holdfast.action")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionContext:
    """What a handler may know of its execution."""

    action: str
    """Name of the action."""
    idempotency_key: str
    """The same in all attempts: printable ASCII, at most 255 characters."""
    is_keyed: bool = True
    """Whether the key ties attempts together; not in a plain call, which is one by itself."""
    workflow: str | None = None
    """Name of the workflow; None outside of runs."""
    execution_id: str | None = None
    """The run's id as text; None outside of runs."""
    step: str | None = None
    """Name of the step; None outside of runs."""
    tenant: str | None = None
    event_id: str | None = None
    """The event that the action answers, where whoever asked for the action said so."""
    correlation_id: str = ""
    attempt: int = 1
    """1 for the first attempt; one that a crash cut off isn't counted."""
    runtime: Runtime | None = None
    """The runtime; None where the action was called as a plain function."""

    @property
    def deps(self) -> Deps:
        """The user's own objects, by type; raises `CallerError` outside of a runtime."""
        if self.runtime is None:
            raise CallerError(
                f"action {self.action} was called as a plain function, so there is no runtime whose deps it "
                f"could use; run it in a step, or by once(rt, key, ...)"
            )
        return self.runtime.deps

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines bear action, run, step, attempt, tenant, event and correlation id."""
        return logging.LoggerAdapter(_log, self.log_fields())

    def log_fields(self) -> Mapping[str, object]:
        """What the lines of `logger` bear."""
        run = None if self.workflow is None else f"{self.workflow}/{self.execution_id}"
        return {
            "action": self.action,
            "run_id": run,
            "step": self.step,
            "attempt": self.attempt,
            "tenant": self.tenant,
            "event_id": self.event_id,
            "correlation_id": self.correlation_id,
        }


def step_context(
    action: str, scope: StepScope, *, event_id: str | None, within: bytes | None = None
) -> ActionContext:
    """The context in an attempt of a step; `within` tells calls in a body from each other."""
    op = scope.op
    run = op.run
    ref = run.activation.ref
    below = ""
    if within is not None:
        below = f"/{action}/{scope.row_of(b'action ' + within)[-_CALL_BYTES:].hex()}"
    return ActionContext(
        action=action,
        idempotency_key=step_key(op, below),
        workflow=ref.type.name,
        execution_id=show_key(ref.key),
        step=op.name,
        tenant=run.started.tenant,
        event_id=event_id,
        correlation_id=run.correlation_id,
        attempt=scope.attempt,
        runtime=run.engine.system,
    )


def plain_context(action: str, *, tenant: str | None, event_id: str | None) -> ActionContext:
    """The context of a plain call: nothing ties it to another one."""
    return ActionContext(
        action=action,
        idempotency_key=new_id(),
        is_keyed=False,
        tenant=tenant,
        event_id=event_id,
        correlation_id=current_correlation_id() or new_id(),
    )
