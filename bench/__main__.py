"""``python -m bench``: measure every scenario on both sides, in turn, and report.

Each repetition runs in a fresh folder and a fresh event loop; the sides alternate (floor, Holdfast, floor,
Holdfast ...), so that what else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import importlib.util
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from . import floor
from .machine import describe_machine, describe_versions, git_commit
from .report import FLOOR, HOLDFAST, Result, find_growth, make_growth_table, make_json, make_table
from .scenarios import DEFAULT_SCENARIOS, EXTRA_SCENARIOS, SCALE_SCENARIOS, Case, Sizes, make_cases
from .workload import Sample

# A case of some 30 ms is at the mercy of whatever else the machine does: it is repeated up to five times as
# often as asked, while all its repetitions on all sides together took less than so many seconds.
SHORT_FACTOR = 5
SHORT_SECONDS = 1.5


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m bench", description="Measure Holdfast beside a bare floor.")
    every = (*DEFAULT_SCENARIOS, *EXTRA_SCENARIOS, *SCALE_SCENARIOS)
    parser.add_argument(
        "--quick", action="store_true", help="smaller sizes, one repetition: under 40 seconds"
    )
    parser.add_argument(
        "--scenario", nargs="+", choices=every, metavar="NAME", help=f"only these, of: {', '.join(every)}"
    )
    parser.add_argument(
        "--slow-disk", type=float, default=0.0, metavar="MS", help="added to each sync, on both sides"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there too")
    parser.add_argument(
        "--repeat",
        type=int,
        metavar="N",
        help="repetitions of each case and side (3; quick: 1); short cases get up to five times as many",
    )
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), help="event loop (uvloop where installed)")
    parser.add_argument(
        "--side", choices=(FLOOR, HOLDFAST, "both"), default="both", help="measure one side only"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(), metavar="PATH", help="the temporary folder is made in here (.)"
    )
    options = parser.parse_args(arguments)
    if options.repeat is None:
        options.repeat = 1 if options.quick else 3
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    if options.slow_disk < 0:
        parser.error("--slow-disk must not be negative")
    if options.loop is None:
        options.loop = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
    return options


def load_sides(wanted: str) -> dict[str, ModuleType]:
    """The modules to measure, by name, in the order in which they take turns."""
    sides: dict[str, ModuleType] = {}
    if wanted in (FLOOR, "both"):
        sides[FLOOR] = floor
    if wanted in (HOLDFAST, "both"):
        try:
            sides[HOLDFAST] = importlib.import_module(".holdfast_side", __package__)
        except ImportError as error:
            if wanted == HOLDFAST:
                raise
            print(f"Only the floor is measured, since Holdfast cannot be imported: {error}", file=sys.stderr)
    return sides


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loops."""
    if name == "uvloop":
        import uvloop

        return uvloop.new_event_loop
    return asyncio.new_event_loop


def measure_once(
    case: Case,
    side: ModuleType,
    place: Path,
    slow_sync_seconds: float,
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> Sample:
    """One repetition of one case on one side, in a fresh folder under ``place`` and a fresh loop."""

    async def measure(folder: Path) -> Sample:
        return await case.run(side, folder, slow_sync_seconds)

    folder = Path(tempfile.mkdtemp(dir=place))
    gc.collect()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(measure(folder))
    finally:
        shutil.rmtree(folder)


def measure_in_turn(
    case: Case,
    sides: dict[str, ModuleType],
    place: Path,
    slow_sync_seconds: float,
    factory: Callable[[], asyncio.AbstractEventLoop],
    repeat: int,
) -> Result:
    """All repetitions of one case: A B A B ...; more than ``repeat`` of them where they are short."""
    result = Result(case, {name: [] for name in sides})
    began = time.perf_counter()
    for done in range(repeat * SHORT_FACTOR):
        if done >= repeat and time.perf_counter() - began > SHORT_SECONDS:
            break
        for name, side in sides.items():
            result.samples[name].append(measure_once(case, side, place, slow_sync_seconds, factory))
    return result


def main(arguments: list[str] | None = None) -> None:
    """Measure, print the table, write the JSON."""
    options = parse_options(arguments)
    began = time.perf_counter()
    sides = load_sides(options.side)
    factory = loop_factory(options.loop)
    slow_sync_seconds = options.slow_disk / 1000
    sizes = Sizes(options.quick, slow_sync_seconds)
    scenarios = list(dict.fromkeys(options.scenario or DEFAULT_SCENARIOS))
    scale_scenarios: list[str] = [scenario for scenario in scenarios if scenario in SCALE_SCENARIOS]
    cases = [
        case
        for scenario in scenarios
        if scenario not in SCALE_SCENARIOS
        for case in make_cases(scenario, sizes)
    ]

    place = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    try:
        machine = describe_machine(place)
        # Once through, so that the first figure does not pay for imports and cold caches.
        warm_up = make_cases("pipeline", Sizes(True, 0.0))[0]
        for side in sides.values():
            measure_once(warm_up, side, place, 0.0, factory)
        results = []
        for number, case in enumerate(cases, 1):
            print(f"[{number}/{len(cases)}] {case.scenario}: {case.name}", file=sys.stderr, flush=True)
            results.append(measure_in_turn(case, sides, place, slow_sync_seconds, factory, options.repeat))
        scale_report = measure_scale(scale_scenarios, place, options, factory)
    finally:
        shutil.rmtree(place)

    about: dict[str, object] = {
        "machine": machine,
        "versions": describe_versions(),
        "git_commit": git_commit(),
        "settings": {
            "scenarios": scenarios,
            "quick": options.quick,
            "repeat": options.repeat,
            "loop": options.loop,
            "slow_disk_ms_per_sync": options.slow_disk,
            "sides": list(sides),
        },
        "took_seconds": time.perf_counter() - began,
    }
    if scale_report is not None:
        print(scale_report[0], end="\n\n")
    print_report(about, results)
    if options.json is not None:
        report = make_json(about, results)
        if scale_report is not None:
            report["scale"] = scale_report[1]
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def measure_scale(
    scenarios: list[str],
    place: Path,
    options: argparse.Namespace,
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> tuple[str, list[dict[str, object]]] | None:
    """The tables of the scale scenarios and their plain data; None when none was asked for."""
    if not scenarios:
        return None
    from .scale import Scale, make_scale_tables, scale_to_json

    scale = Scale(place, options.quick, options.loop, factory)
    for scenario in scenarios:
        print(f"scale: {scenario}", file=sys.stderr, flush=True)
        scale.measure(scenario)
    return make_scale_tables(scale.lines), scale_to_json(scale.lines)


def print_report(about: dict[str, object], results: list[Result]) -> None:
    """The table, what its units are, and what it was measured on."""
    if results:
        print_results(results)
    for name in ("machine", "versions", "git_commit", "settings"):
        print(f"{name}: {plain(about[name])}")
    print(f"took {about['took_seconds']:.0f} s")


def print_results(results: list[Result]) -> None:
    """The table of both sides, and what its units are."""
    print(make_table(results))
    growths = find_growth(results)
    if growths:
        print("\n" + make_growth_table(growths))
    print()
    for scenario, unit, meaning in dict.fromkeys(
        (result.case.scenario, result.case.unit, result.case.one_unit_is) for result in results
    ):
        print(f"{scenario}, {unit}: one is {meaning}.")
    print("Rates and latencies are medians over the repetitions; a latency spans:")
    for scenario, meaning in dict.fromkeys(
        (result.case.scenario, result.case.one_latency_is) for result in results
    ):
        print(f"    {scenario}: {meaning}.")
    print("The ratio is Holdfast's rate over the floor's, pair by pair: 1 is the floor, less is slower.")
    print("Commits are those of one repetition; each is two syncs.")


def plain(value: object) -> str:
    """Nested plain data on one line."""
    if isinstance(value, dict):
        return ", ".join(
            f"{key} {plain(item)}" if not isinstance(item, dict) else f"{key} ({plain(item)})"
            for key, item in value.items()
        )
    if isinstance(value, list):
        return " ".join(map(plain, value))
    return f"{value:.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
