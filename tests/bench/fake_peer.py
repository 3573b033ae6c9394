"""A peer that does what its arguments say: waits, fails, or is not there."""

from __future__ import annotations

import sys
import time

from bench.peers.protocol import Task, Unavailable, drive_threads, serve
from bench.recovery import BLOCKED, since_start
from bench.workload import Sample


def check(task: Task) -> dict[str, str]:
    """As its variant has it."""
    if task.variant == "missing":
        raise Unavailable("its server is not here")
    if task.variant == "not-installed":
        import a_package_that_nobody_has  # type: ignore[import-not-found]  # noqa: F401  # pyright: ignore
    if task.variant == "broken":
        sys.exit("it does not work")
    return {"fake": "1.0"}


def counter(task: Task) -> Sample:
    """Fails for a negative number of calls."""
    keys, callers, calls = task.arguments
    if calls < 0:
        raise ValueError("calls must not be negative")
    print("something that it says")
    (task.folder / "note").write_text("it was here")
    return drive_threads(range(calls), callers, lambda number: number, units_per_item=keys)


def block(task: Task) -> None:
    """At once."""
    (task.folder / "runs").write_text(str(task.arguments[0]))
    print(BLOCKED, flush=True)
    time.sleep(60)


def resume(task: Task) -> list[float]:
    """As many as ``block`` was asked for."""
    return [since_start()] * int((task.folder / "runs").read_text())


if __name__ == "__main__":
    serve({"counter": counter}, check, resume, block)
