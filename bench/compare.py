"""This report beside an older one: what got faster or slower beyond the spread of both.

A figure changed when all its repetitions lie on one side of all the older ones.  One repetition has no
spread; it is widened by an eighth to both sides, since repetitions differ by that on a machine that does
something else too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .report import HOLDFAST, Figure, Report
from .table import align, number

ALONE = 0.125

# Where these differ no figure can be compared without a word about it.
SETTINGS = ("quick", "loop", "slow_disk_ms_per_sync")


class Place(NamedTuple):
    """Which figure it is."""

    scenario: str
    case: str
    side: str
    figure: str


def make_comparison(old: Report, new: Report) -> str:
    """What differs in how they were measured, a table of what changed, and how many figures did not."""
    before, after = dict(find_figures(old)), dict(find_figures(new))
    rows: list[tuple[str, ...]] = [("scenario", "case", "side", "figure", "old", "new", "new/old", "verdict")]
    unchanged = 0
    for place, figure in after.items():
        if place not in before:
            continue
        verdict = judge(place, before[place], figure)
        if not verdict:
            unchanged += 1
            continue
        was = before[place].median
        ratio = f"{figure.median / was:.2f}" if was else ""
        rows.append((*place, number(was), number(figure.median), ratio, verdict))
    parts = warnings(old, new)
    if len(rows) > 1:
        parts.append(align(rows, {0, 1, 2, 3, 7}))
    only_old, only_new = len(before.keys() - after.keys()), len(after.keys() - before.keys())
    parts.append(
        f"{len(rows) - 1} figures changed beyond their spread, {unchanged} did not; {only_old} are only in "
        f"the old report, {only_new} only in the new one."
    )
    return "\n".join(parts)


def find_figures(report: Report) -> Iterator[tuple[Place, Figure]]:
    """Every figure that a change of the code can move; those of the floor and the peers show the machine."""
    for case in report.results:
        for side, figures in case.sides.items():
            yield Place(case.scenario, case.case, side, figures.rate.unit), figures.rate
            yield Place(case.scenario, case.case, side, "p50 ms"), figures.p50
            yield Place(case.scenario, case.case, side, "p99 ms"), figures.p99
    for line in report.scale:
        for name, figure in line.figures.items():
            yield Place(line.scenario, line.case, HOLDFAST, name), figure


def judge(place: Place, old: Figure, new: Figure) -> str:
    """`faster`, `slower`, `more` or `less`; empty where the spreads overlap."""
    old_low, old_high = bounds(old)
    new_low, new_high = bounds(new)
    if new_low <= old_high and old_low <= new_high:
        return ""
    is_more = new_low > old_high
    if place.figure.endswith("/s"):
        return "faster" if is_more else "slower"
    if place.figure.endswith((" ms", " us")) or place.figure in ("ms", "us"):
        return "slower" if is_more else "faster"
    return "more" if is_more else "less"


def bounds(figure: Figure) -> tuple[float, float]:
    """Between what it lies."""
    if len(figure.runs) > 1:
        return figure.min, figure.max
    return figure.median * (1 - ALONE), figure.median * (1 + ALONE)


def warnings(old: Report, new: Report) -> list[str]:
    """What else than the code differs."""
    found = [
        f"Note: {name} is {new.settings.get(name)} now and was {old.settings.get(name)}."
        for name in SETTINGS
        if old.settings.get(name) != new.settings.get(name)
    ]
    found += [
        f"Note: {name} is {new.machine.get(name)} now and was {old.machine.get(name)}: only ratios compare."
        for name in ("model", "cores", "file_system")
        if old.machine.get(name) != new.machine.get(name)
    ]
    found += [
        f"Note: {name} is {new.versions.get(name)} now and was {version}."
        for name, version in old.versions.items()
        if name != "holdfast" and new.versions.get(name) != version
    ]
    return found
