"""Log lines about runs: the fields that each of them bears, and `self.log`, which is silent on replay.

workflow, run_id, correlation_id            every line about a run
step, attempt, duration_ms                  and about an attempt of a step
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ...runtime.ref import Ref
    from .live_run import LiveRun
    from .workflow import Workflow

_log = logging.getLogger("holdfast.run")


def run_fields(ref: Ref, **more: object) -> dict[str, object]:
    """The fields of a line about a run, with `more`; None as correlation id where it isn't in memory."""
    activation = ref.activation
    known = None if activation is None else cast("Workflow", activation.instance).head.correlation_id
    return {"workflow": ref.type.name, "run_id": str(ref), "correlation_id": known or None, **more}


class RunLog(logging.LoggerAdapter[logging.Logger]):
    """What `run()` logs with: `Workflow.log`."""

    def __init__(self, run: LiveRun) -> None:
        super().__init__(_log, run_fields(run.activation.ref, correlation_id=run.correlation_id))
        self._run = run

    def isEnabledFor(self, level: int) -> bool:
        """Never on replay: what is said there was said before."""
        return not self._run.silent and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Add the run's fields to those of the line."""
        given: Mapping[str, object] = kwargs.get("extra") or {}
        kwargs["extra"] = {**(self.extra or {}), **given}
        return msg, kwargs
