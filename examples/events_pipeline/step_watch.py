"""Who looks on when a step begins: nobody, as a rule; in tests a witness, or one that raises.

A watch is one of the runtime's `deps`, so the workflow knows nothing of tests.
"""

from __future__ import annotations

import os

from holdfast import StepInfo, current_step


class StepWatch:
    """Told of each attempt of a step at the beginning of its body; what it raises fails the attempt."""

    def begins(self, step: StepInfo) -> None:
        """An attempt begins."""


class OracleFile(StepWatch):
    """Appends a line `run step attempt` for each attempt, which survives the process whatever becomes of it.

    With it a test can prove that no checkpointed step ran again.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def begins(self, step: StepInfo) -> None:
        """One write, so lines stay whole."""
        os.write(self._fd, f"{step.run} {step.name} {step.attempt}\n".encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Faults(StepWatch):
    """Fails the first attempts of a step: the debug switch for trying the error path."""

    def __init__(self, step: str, times: int, *, run: str | None = None) -> None:
        """`times` attempts of `step` fail in each run, or only in the run with this id."""
        self._step = step
        self._run = run
        self._times = times
        self._left: dict[str, int] = {}
        self.raised = 0

    def begins(self, step: StepInfo) -> None:
        """Raise `ConnectionError` while attempts have to fail."""
        if step.name != self._step or self._run not in (None, step.run):
            return
        left = self._left.get(step.run, self._times)
        self._left[step.run] = left - 1
        if left > 0:
            self.raised += 1
            raise ConnectionError(f"{step.name}: made to fail, {left - 1} more to come")


def tell_watch(watch: StepWatch | None) -> None:
    """Called by each step's body."""
    if watch is not None:
        step = current_step()
        assert step is not None
        watch.begins(step)
