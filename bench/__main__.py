"""``python -m bench``: measure every scenario on all sides, in turn, and report.

options -> sides and cases -> measured in turn -> report -> table, JSON, chart, comparison
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from . import report as reports
from .chart import draw_chart
from .compare import make_comparison
from .lines import Line, merge_lines
from .machine import describe_machine, describe_syncs, describe_versions, git_commit
from .markdown import NoMarks, write_markdown
from .measure import measure_in_turn, measure_once
from .options import parse_options
from .peers.side import PeerSide, load_peers
from .progress import Progress
from .report import Report, read_report, write_report
from .result import Result, find_growth
from .scenarios import GROWTH, SCALE_SCENARIOS, Sizes, make_cases
from .sides import load_sides, loop_factory
from .table import make_text


def main(arguments: list[str] | None = None) -> None:
    """Measure (or read what was measured) and report."""
    options = parse_options(arguments)
    try:
        old = None if options.compare is None else read_report(options.compare)
        report = measure(options) if options.source is None else read_report(options.source)
    except reports.UnreadableReport as error:
        sys.exit(f"python -m bench: {error}")
    print(make_text(report))
    if options.json is not None:
        write_report(report, options.json)
    if options.svg is not None:
        options.svg.write_text(draw_chart(report), encoding="utf-8")
    if options.markdown is not None:
        try:
            write_markdown(report, options.markdown)
        except NoMarks as error:
            sys.exit(f"python -m bench: {error}")
    if old is not None:
        print(f"\nCompared with {options.compare}:\n{make_comparison(old, report)}")


def measure(options: argparse.Namespace) -> Report:
    """Everything that the options ask for."""
    began, load_before = time.perf_counter(), load_average()
    factory = loop_factory(options.loop)
    sides = load_sides(options.side, factory)
    slow_sync_seconds = options.slow_disk / 1000
    sizes = Sizes(options.quick, slow_sync_seconds)
    scale_scenarios: list[str] = [name for name in options.scenario if name in SCALE_SCENARIOS]
    cases = [
        case
        for name in options.scenario
        if name not in (GROWTH, *SCALE_SCENARIOS)
        for case in make_cases(name, sizes)
    ]
    grows = GROWTH in options.scenario
    results: list[Result] = []
    repetitions: list[list[Line]] = []
    peers: dict[str, PeerSide] = {}
    versions, skipped = describe_versions(), dict[str, str]()
    progress = Progress(len(cases) + grows + len(scale_scenarios), sys.stderr)
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    try:
        machine = describe_machine(place)
        if options.peers is not None:
            peers, peer_versions, skipped = load_peers(options.peers, options.peers_python, place)
            versions |= peer_versions
        if cases:
            # Once through, so that the first figure does not pay for imports and cold caches.
            warm_up = make_cases("pipeline", Sizes(True, 0.0))[0]
            for side in sides.values():
                measure_once(warm_up, side, place, 0.0)
        try:
            for case in cases:
                progress.begin(f"{case.scenario}: {case.name}")
                result, failed = measure_in_turn(
                    case, {**sides, **peers}, place, slow_sync_seconds, options.repeat, progress.detail
                )
                results.append(result)
                skipped |= {f"{name} in {case.scenario}": why for name, why in failed.items()}
            if grows:
                from .growth import measure_growth

                progress.begin(GROWTH)
                grown, repetitions = measure_growth(
                    options.events, list(sides), place, factory, progress.detail
                )
                results += grown
            for scenario in scale_scenarios:
                from .scale import Scale

                progress.begin(scenario)
                for number in range(options.repeat):
                    progress.detail(f"{number + 1} of {options.repeat}")
                    scale = Scale(place, options.quick, options.loop, factory)
                    scale.measure(scenario)
                    repetitions.append(scale.lines)
        except KeyboardInterrupt:
            # Whoever stops an hour's run wants what it found.
            skipped["the rest"] = "the run was interrupted"
        # A disk that others use too may have become another one on the way.
        machine["fdatasync_after_ms"] = describe_syncs(place)
    finally:
        progress.end()
        shutil.rmtree(place)
    return Report(
        format=reports.FORMAT,
        machine=machine,
        versions=versions,
        git_commit=git_commit(),
        load_before=load_before,
        load_after=load_average(),
        measured_at=datetime.now(UTC).isoformat(timespec="minutes"),
        settings={
            "scenarios": options.scenario,
            "quick": options.quick,
            "repeat": options.repeat,
            "loop": options.loop,
            "growth_events": options.events,
            "slow_disk_ms_per_sync": options.slow_disk,
            "sides": [*sides, *peers],
        },
        took_seconds=time.perf_counter() - began,
        results=[result.figures() for result in results],
        growth=find_growth(results),
        scale=merge_lines(repetitions),
        skipped=skipped,
    )


def load_average() -> float | None:
    """How many processes wanted a core in the last minute, or None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


if __name__ == "__main__":
    main()
