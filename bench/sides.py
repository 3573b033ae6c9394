"""Who is measured: a side answers cases, each in a fresh folder.

The floor and Holdfast are measured in this process, in a fresh event loop for each repetition; peers are
sides too (``bench.peers``), in processes of their own.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import ParamSpec, Protocol, TypeVar

from .report import FLOOR, HOLDFAST
from .scenarios import Case
from .workload import Sample

P = ParamSpec("P")
Found = TypeVar("Found")
LoopFactory = Callable[[], asyncio.AbstractEventLoop]

MODULES = {
    FLOOR: ("floor", "floor_queue", "floor_alarms", "floor_recovery"),
    HOLDFAST: ("holdfast_side", "holdfast_queue", "holdfast_alarms", "holdfast_recovery"),
}


class SideFailed(RuntimeError):
    """A side that is no part of the project did not do its work; the others go on."""


class Side(Protocol):
    """Somebody who does the work of cases."""

    def answers(self, case: Case) -> bool:
        """Whether this side can do the work of ``case``."""
        ...

    def measure(self, case: Case, folder: Path, slow_sync_seconds: float) -> Sample:
        """One repetition in ``folder``, which is fresh."""
        ...


class InProcess:
    """A side whose workloads are functions in modules of the bench, by the names of the workloads."""

    def __init__(self, modules: Sequence[ModuleType], factory: LoopFactory) -> None:
        self._modules = modules
        self._factory = factory

    def answers(self, case: Case) -> bool:
        """Whether one of the modules has the workload."""
        return any(hasattr(module, case.workload) for module in self._modules)

    def measure(self, case: Case, folder: Path, slow_sync_seconds: float) -> Sample:
        """One repetition in a fresh loop."""
        workload: Callable[..., Awaitable[Sample]] = next(
            getattr(module, case.workload) for module in self._modules if hasattr(module, case.workload)
        )

        return run_in(self._factory, workload, folder, *case.arguments, slow_sync_seconds=slow_sync_seconds)


def run_in(
    factory: LoopFactory, work: Callable[P, Awaitable[Found]], /, *args: P.args, **kwargs: P.kwargs
) -> Found:
    """What ``work`` finds in an event loop of its own."""

    async def call() -> Found:
        return await work(*args, **kwargs)

    gc.collect()
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(call())


def load_sides(wanted: str, factory: LoopFactory) -> dict[str, Side]:
    """The floor, Holdfast or both, by name, in the order in which they take turns."""
    sides: dict[str, Side] = {}
    for name, modules in MODULES.items():
        if wanted not in (name, "both"):
            continue
        try:
            loaded = [importlib.import_module(f".{module}", __package__) for module in modules]
        except ImportError as error:
            if name == FLOOR or wanted == name:
                raise
            print(f"Only the floor is measured, since Holdfast cannot be imported: {error}", file=sys.stderr)
        else:
            sides[name] = InProcess(loaded, factory)
    return sides


def loop_factory(name: str) -> LoopFactory:
    """What makes the event loops."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop
