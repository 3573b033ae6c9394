"""Growth: what an event costs in a folder that holds more and more of them, its size, and how soon it opens.

A side fills one folder; at each size a few windows of events are timed, and Holdfast's folder is opened in a
fresh process.  Both sides are measured at a size before either goes on to the next.
"""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from .lines import Line
from .machine import disk_bytes
from .report import FLOOR, HOLDFAST
from .result import Result
from .scenarios import GROWTH, Case
from .sides import LoopFactory, run_in
from .workload import Sample

MODULES = {FLOOR: ".growth_floor", HOLDFAST: ".growth_holdfast"}

FIRST_SIZE = 1_000
WINDOWS = 3
WINDOW_EVENTS = 500
IN_FLIGHT = 100
# The cost of an event at the largest size, over that at the smallest.
FLAT = 1.3

# Fills a folder from so many events up to so many, then times windows behind them.
Grow = Callable[[Path, int, int, int, int], Awaitable[list[Sample]]]


def sizes_up_to(events: int) -> list[int]:
    """1 000 and its tenfolds below ``events``, and ``events``."""
    found = [FIRST_SIZE]
    while found[-1] * 10 < events:
        found.append(found[-1] * 10)
    return found + [events] * (events > found[-1])


def measure_growth(
    events: int,
    names: list[str],
    place: Path,
    factory: LoopFactory,
    tell: Callable[[str], None],
) -> tuple[list[Result], list[list[Line]]]:
    """A result for each size, and the lines of what only Holdfast's folder is asked, by repetition."""
    sizes = sizes_up_to(events)
    grows: dict[str, Grow] = {
        name: importlib.import_module(MODULES[name], __package__).grow for name in names
    }
    folders = {name: Path(tempfile.mkdtemp(dir=place)) for name in names}
    stored = dict.fromkeys(names, 0)
    results = []
    lines: list[list[Line]] = [[] for _ in range(WINDOWS)]
    try:
        for size in sizes:
            result = Result(case_at(size))
            for name, grow in grows.items():
                tell(f"{name}, at {size} events")
                result.samples[name] = run_in(
                    factory, grow, folders[name], stored[name], size, WINDOWS, WINDOW_EVENTS
                )
                stored[name] = max(size, stored[name]) + WINDOWS * WINDOW_EVENTS
            results.append(result)
            if HOLDFAST in folders:
                for repetition in lines:
                    repetition.append(line_at(size, stored[HOLDFAST], folders[HOLDFAST]))
    finally:
        for folder in folders.values():
            shutil.rmtree(folder)
    if HOLDFAST in names and len(sizes) > 1:
        for repetition, verdict in zip(lines, cost_lines(results), strict=True):
            repetition.append(verdict)
    return results, lines


def case_at(size: int) -> Case:
    """The pipeline in a folder of ``size`` events."""
    return Case(
        GROWTH,
        f"at {size} events, {IN_FLIGHT} in flight",
        unit="runs/s",
        one_unit_is="an event's run as in `pipeline`, in a folder that holds so many already",
        one_latency_is="a run, from before its start until its result is in hand",
        workload=GROWTH,
        arguments=(size, IN_FLIGHT),
        growth=(f"{IN_FLIGHT} in flight", size),
    )


def line_at(size: int, stored: int, folder: Path) -> Line:
    """Size and reopening of Holdfast's folder, once."""
    from .scale import in_child  # the floor is measured without Holdfast, too

    opened = in_child("asyncio", what="open_grown", folder=str(folder))
    taken = disk_bytes(folder)
    return Line(
        GROWTH,
        f"Holdfast's folder at {size} events",
        {
            "MiB on disk": taken / 2**20,
            "disk B/event": taken / stored,
            "start to turn ms": opened["since_start_seconds"] * 1000,
            "open to turn ms": opened["since_open_seconds"] * 1000,
        },
    )


def cost_lines(results: list[Result]) -> list[Line]:
    """What an event costs at the largest size over the smallest, window by window."""
    first, last = results[0], results[-1]
    found = []
    for few, many in zip(first.samples[HOLDFAST], last.samples[HOLDFAST], strict=True):
        figures = {
            "us/event": 1e6 / many.rate,
            "at first us/event": 1e6 / few.rate,
            "growth": few.rate / many.rate,
        }
        case = f"an event at {last.case.arguments[0]} over one at {first.case.arguments[0]}"
        target = f"growth <= {FLAT:g}"
        found.append(Line(GROWTH, case, figures, target, figures["growth"] <= FLAT))
    return found
