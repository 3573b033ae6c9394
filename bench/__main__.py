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
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from . import report as reports
from .chart import draw_chart
from .compare import make_comparison
from .lines import Line, merge_lines
from .machine import describe_machine, describe_syncs, describe_versions, git_commit
from .markdown import NoMarks, find_marks, write_markdown
from .measure import measure_in_turn, measure_once
from .options import parse_options
from .peers.side import load_peers
from .progress import Progress
from .report import Report, read_report, write_report
from .result import Result, find_growth
from .scenarios import GROWTH, SCALE_SCENARIOS, Sizes, make_cases
from .sides import InProcess, LoopFactory, Side, load_sides, loop_factory
from .table import make_text


def main(arguments: list[str] | None = None) -> None:
    """Measure (or read what was measured) and report."""
    options = parse_options(arguments)
    try:
        # What cannot be read or written is told before anything is measured.
        old = None if options.compare is None else read_report(options.compare)
        if options.markdown is not None:
            find_marks(options.markdown)
        report = measure(options) if options.source is None else read_report(options.source)
    except (reports.UnreadableReport, NoMarks, FileNotFoundError) as error:
        sys.exit(f"python -m bench: {error}")
    if options.json is not None:
        write_report(report, options.json)
    if options.svg is not None:
        options.svg.write_text(draw_chart(report), encoding="utf-8")
    if options.markdown is not None:
        write_markdown(report, options.markdown)
    # Last: whoever reads only the beginning of it gets the files all the same.
    print(make_text(report))
    if old is not None:
        print(f"\nCompared with {options.compare}:\n{make_comparison(old, report)}")


@dataclass(slots=True)
class Found:
    """What was measured so far."""

    results: list[Result] = field(default_factory=list)
    # Of scenarios with a target, by repetition.
    lines: list[list[Line]] = field(default_factory=list)
    versions: dict[str, str | None] = field(default_factory=describe_versions)
    skipped: dict[str, str] = field(default_factory=dict)


def measure(options: argparse.Namespace) -> Report:
    """Everything that the options ask for, on a machine that is described before and behind."""
    began, load_before = time.perf_counter(), load_average()
    factory = loop_factory(options.loop)
    sides = load_sides(options.side, factory)
    found = Found()
    place = Path(tempfile.mkdtemp(prefix="bench-", dir=options.folder))
    try:
        machine = describe_machine(place)
        if options.peers is not None:
            peers, versions, found.skipped = load_peers(options.peers, options.peers_python, place)
            found.versions |= versions
            sides |= peers
        try:
            measure_scenarios(options, sides, place, factory, found)
        except KeyboardInterrupt:
            # Whoever stops an hour's run wants what it found.
            found.skipped["the rest"] = "the run was interrupted"
        # A disk that others use too may have become another one on the way.
        machine["fdatasync_after_ms"] = describe_syncs(place)
    finally:
        shutil.rmtree(place)
    return Report(
        format=reports.FORMAT,
        machine=machine,
        versions=found.versions,
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
            "many": options.many,
            "slow_disk_ms_per_sync": options.slow_disk,
            "sides": list(sides),
        },
        took_seconds=time.perf_counter() - began,
        results=[result.figures() for result in found.results],
        growth=find_growth(found.results),
        scale=merge_lines(found.lines),
        skipped=found.skipped,
    )


def measure_scenarios(
    options: argparse.Namespace, sides: dict[str, Side], place: Path, factory: LoopFactory, found: Found
) -> None:
    """First what has cases, then what grows, then what has a target; added to ``found`` one by one."""
    slow_sync_seconds = options.slow_disk / 1000
    with_target = [name for name in options.scenario if name in SCALE_SCENARIOS]
    with_cases = [name for name in options.scenario if name not in (GROWTH, *SCALE_SCENARIOS)]
    sizes = Sizes(options.quick, slow_sync_seconds)
    cases = [case for name in with_cases for case in make_cases(name, sizes)]
    grows = GROWTH in options.scenario
    progress = Progress(len(cases) + grows + len(with_target), sys.stderr)
    ours = {name: side for name, side in sides.items() if isinstance(side, InProcess)}
    try:
        if cases:
            # Once through, so that the first figure does not pay for imports and cold caches.
            warm_up = make_cases("pipeline", Sizes(True, 0.0))[0]
            for side in ours.values():
                measure_once(warm_up, side, place, 0.0)
        for case in cases:
            progress.begin(f"{case.scenario}: {case.name}")
            result, failed = measure_in_turn(
                case, sides, place, slow_sync_seconds, options.repeat, progress.detail
            )
            found.results.append(result)
            found.skipped |= {f"{name} in {case.scenario}": why for name, why in failed.items()}
        if grows:
            from .growth import measure_growth

            progress.begin(GROWTH)
            results, lines = measure_growth(options.events, list(ours), place, factory, progress.detail)
            found.results += results
            found.lines += lines
        for scenario in with_target:
            from .scale import Scale

            progress.begin(scenario)
            for number in range(options.repeat):
                progress.detail(f"{number + 1} of {options.repeat}")
                scale = Scale(place, options.quick, options.loop, factory, options.many)
                scale.measure(scenario)
                found.lines.append(scale.lines)
    finally:
        progress.end()


def load_average() -> float | None:
    """How many processes wanted a core in the last minute, or None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except (OSError, AttributeError):
        return None


if __name__ == "__main__":
    main()
