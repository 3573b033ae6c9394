"""From samples to figures, and from figures to a table and to JSON."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from .scenarios import Case
from .workload import Sample

FLOOR = "floor"
HOLDFAST = "holdfast"


@dataclass(frozen=True, slots=True)
class Figure:
    """A median with its spread over the repetitions."""

    unit: str
    median: float
    min: float
    max: float
    runs: list[float]

    @classmethod
    def of(cls, unit: str, runs: Sequence[float]) -> Figure:
        """The figure of ``runs``, one value per repetition."""
        return cls(unit, statistics.median(runs), min(runs), max(runs), list(runs))


@dataclass(slots=True)
class Result:
    """All repetitions of one case, on one or both sides."""

    case: Case
    # By side, in the order measured.  The n-th sample of one side ran right before the n-th of the other.
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def rate(self, side: str) -> Figure:
        """Units per second."""
        return Figure.of(self.case.unit, [sample.rate for sample in self.samples[side]])

    def latency(self, side: str, percent: float) -> Figure:
        """A percentile of the latency."""
        return Figure.of("ms", [sample.latency_ms(percent) for sample in self.samples[side]])

    def ratio(self) -> Figure | None:
        """Holdfast's rate over the floor's, pair by pair: 1 is the floor, less is slower."""
        if not (self.samples.get(FLOOR) and self.samples.get(HOLDFAST)):
            return None
        pairs = zip(self.samples[HOLDFAST], self.samples[FLOOR], strict=False)
        return Figure.of("holdfast/floor", [ours.rate / floors.rate for ours, floors in pairs])


@dataclass(frozen=True, slots=True)
class Growth:
    """What a unit costs at the larger size, relative to the smaller one: 1 is no growth."""

    scenario: str
    group: str
    side: str
    small: int
    large: int
    figure: Figure


def find_growth(results: Sequence[Result]) -> list[Growth]:
    """Pairs of cases that differ only in size."""
    groups: dict[tuple[str, str], list[tuple[int, Result]]] = {}
    for result in results:
        if result.case.growth is not None:
            group, size = result.case.growth
            groups.setdefault((result.case.scenario, group), []).append((size, result))
    found = []
    for (scenario, group), members in groups.items():
        members.sort(key=lambda member: member[0])
        (small, at_small), (large, at_large) = members[0], members[-1]
        if small == large:
            continue
        for side in at_small.samples:
            pairs = zip(at_small.samples[side], at_large.samples.get(side, []), strict=False)
            ratios = [little.rate / much.rate for little, much in pairs]
            if ratios:
                figure = Figure.of("cost per unit, large/small", ratios)
                found.append(Growth(scenario, group, side, small, large, figure))
    return found


# ------------------------------------------------------------------------------------------------------------
# The table.

HEADINGS = (
    "scenario",
    "case",
    "side",
    "rate",
    "min - max",
    "unit",
    "p50 ms",
    "p99 ms",
    "commits",
    "times",
    "ratio (min - max)",
)

# Columns that are read as words stand to the left, numbers to the right.
WORDS = {0, 1, 2, 5}


def make_table(results: Sequence[Result]) -> str:
    """Every case, one line a side; plain text, aligned."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    for result in results:
        first = True
        for side, samples in result.samples.items():
            rate = result.rate(side)
            ratio = result.ratio() if side == HOLDFAST else None
            commits = samples[-1].counts.get("commits")
            rows.append(
                (
                    result.case.scenario if first else "",
                    result.case.name if first else "",
                    side,
                    number(rate.median),
                    f"{number(rate.min)} - {number(rate.max)}",
                    rate.unit,
                    number(result.latency(side, 50).median),
                    number(result.latency(side, 99).median),
                    "" if commits is None else f"{commits}",
                    f"{len(samples)}",
                    "" if ratio is None else f"{ratio.median:.2f} ({ratio.min:.2f} - {ratio.max:.2f})",
                )
            )
            first = False
    return align(rows)


def make_growth_table(growths: Sequence[Growth]) -> str:
    """What a unit costs more when there are more of them."""
    rows: list[tuple[str, ...]] = [("scenario", "case", "side", "growth", "min - max")]
    for growth in growths:
        case = f"cost of one at {growth.large} over at {growth.small}, {growth.group}"
        figure = growth.figure
        rows.append(
            (
                growth.scenario,
                case,
                growth.side,
                f"{figure.median:.2f}",
                f"{figure.min:.2f} - {figure.max:.2f}",
            )
        )
    return align(rows)


def number(value: float) -> str:
    """Three significant digits below 100, whole and grouped above."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def align(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell, a rule under the first row."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place in WORDS else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------------
# JSON.


def make_json(about: dict[str, object], results: Sequence[Result]) -> dict[str, object]:
    """Plain data: ``about`` (machine, versions, commit, settings), then every figure with its unit."""
    return {
        **about,
        "results": [result_to_json(result) for result in results],
        "growth": [asdict(growth) for growth in find_growth(results)],
    }


def result_to_json(result: Result) -> dict[str, object]:
    """One case with both sides."""
    case = result.case
    ratio = result.ratio()
    return {
        "scenario": case.scenario,
        "case": case.name,
        "arguments": list(case.arguments),
        "one_unit_is": case.one_unit_is,
        "one_latency_is": case.one_latency_is,
        "sides": {
            side: {
                "rate": asdict(result.rate(side)),
                "p50": asdict(result.latency(side, 50)),
                "p99": asdict(result.latency(side, 99)),
                "units": samples[-1].units,
                "counts": [sample.counts for sample in samples],
            }
            for side, samples in result.samples.items()
        },
        "ratio": None if ratio is None else asdict(ratio),
    }
