"""What the runs and steps of a workflow are counted as, for metrics; nothing is decided by it."""

from __future__ import annotations

from typing import Final

from ...storage.histogram import LONG_SECONDS, Buckets
from .head import RunStatus

# A workflow that makes up names for its steps must not fill the memory: the rest counts together.
MAX_STEP_NAMES: Final = 200
OTHER_STEPS: Final = "(other)"


class StepCounts:
    """The attempts of one step of a workflow: its name in all runs of this process."""

    __slots__ = ("failures", "retries", "seconds")

    def __init__(self) -> None:
        # Of each attempt that ended, well or badly.
        self.seconds = Buckets(LONG_SECONDS)
        self.failures = 0
        # Failures after which another attempt was planned.
        self.retries = 0


class RunCounts:
    """The runs of one workflow in this process."""

    __slots__ = ("ended", "seconds", "started", "steps", "stuck")

    def __init__(self) -> None:
        # Also those that began anew.
        self.started = 0
        self.ended: dict[RunStatus, int] = {"complete": 0, "failed": 0, "cancelled": 0, "terminated": 0}
        self.stuck = 0
        # From the start of a run to its end, waits included.
        self.seconds = Buckets(LONG_SECONDS)
        self.steps: dict[str, StepCounts] = {}

    def step(self, name: str) -> StepCounts:
        """The counts of a step; made when it is first asked for."""
        found = self.steps.get(name)
        if found is None:
            if len(self.steps) >= MAX_STEP_NAMES:
                name = OTHER_STEPS
            found = self.steps.setdefault(name, StepCounts())
        return found

    def run_ended(self, status: RunStatus, seconds: float) -> None:
        """A run is over."""
        self.ended[status] += 1
        self.seconds.observe(seconds)
