"""A run of a workflow as a test holds it, and what is told of one that has not ended."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, cast

import msgspec

from ..actors.workflow.head import RunStatus
from ..runtime.address import GivenKey, show_key
from ..storage.errors import CallerError

Out = TypeVar("Out")


class SimRun(Generic[Out]):
    """A run of a workflow in a story: the same over crashes, where a `Run` belongs to one runtime."""

    __slots__ = ("id", "key", "workflow")

    def __init__(self, workflow: type[object], key: GivenKey) -> None:
        self.workflow = workflow
        self.key = key
        self.id = show_key(cast("Any", key)) if isinstance(key, (str, int, tuple)) else str(key)

    def __repr__(self) -> str:
        return f"<SimRun {self.workflow.__name__}/{self.id}>"


def checked_run(run: SimRun[Out]) -> SimRun[Out]:
    """Itself; raises `CallerError` when it is something else."""
    if not isinstance(run, SimRun):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CallerError(f"expected a run as Simulation.start returns it; got {run!r}")
    return run


class Pending(msgspec.Struct, frozen=True):
    """A run that has not ended, and what it waits for."""

    run: str
    """Its address: "Workflow/id"."""
    status: RunStatus
    steps: tuple[str, ...] = ()
    """Steps and calls that it asked for and has not got; empty when it isn't in memory."""
    timers: int = 0
    """Sleeps and timeouts that it waits for."""
