"""Who asks for a start or an event: a step, a turn, or code outside.

What it does then belongs to the caller: it joins the turn's commit, or is kept under the step, so that it
takes effect once.  `run()` itself may not ask the runtime: what it does to other runs is recorded as its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..runtime.chain import CALLER, Turn
from ..storage.errors import CallerError
from .workflow.live_run import LiveRun
from .workflow.step_op import StepScope

if TYPE_CHECKING:
    from .workflow_calls import WorkflowCalls


def who_asks(system: WorkflowCalls, what: str) -> tuple[StepScope | None, Turn | None]:
    """The step, or the turn, of this runtime that the calling code belongs to; neither for code outside.

    Raises `CallerError` when the caller can't do `what`, and `StepOver` for what a turn that is repeated left
    behind.
    """
    caller = CALLER.get()
    if caller is None:
        return None, None
    if isinstance(caller, LiveRun):
        raise CallerError(
            f"run() can't {what} through the runtime: it has self.child(), self.start() and self.send(); "
            f"or do it in a step"
        )
    if isinstance(caller, StepScope):
        return (caller, None) if caller.op.run.engine is system.engine else (None, None)
    if isinstance(caller, Turn) and caller.activation.system is system:
        if caller.over:
            if caller.exact is not None:
                caller.exact.check_left_behind(caller)
            return None, None
        if caller.shared:
            raise CallerError(f"a @shared method can't {what}; take the mark away")
        return None, caller
    return None, None
