"""The report as text: aligned tables for a terminal."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .report import FLOOR, HOLDFAST, CaseFigures, Figure, Growth, Line, Report

HEADINGS = (
    "scenario",
    "case",
    "side",
    "rate",
    "min - max",
    "spread",
    "unit",
    "p50 ms",
    "p99 ms",
    "commits",
    "times",
    "ratio (min - max)",
)

# Columns that are read as words stand to the left, numbers to the right.
WORDS = {0, 1, 2, 6}


def make_text(report: Report) -> str:
    """All tables, what their units are, and what it was measured on."""
    parts = [make_scale_tables(report.scale)] if report.scale else []
    if report.results:
        parts.append(make_table(report.results))
        if report.growth:
            parts.append(make_growth_table(report.growth))
        parts.append(explain(report.results))
    parts += ["\n".join(f"not measured: {side}: {why}" for side, why in report.skipped.items())]
    about = [
        f"{name}: {plain(getattr(report, name))}"
        for name in ("machine", "versions", "git_commit", "measured_at", "settings")
    ]
    load = f"load: {plain(report.load_before)} before, {plain(report.load_after)} after (the bench is in it)"
    parts.append("\n".join([*about, load, f"took {report.took_seconds:.0f} s"]))
    return "\n\n".join(part for part in parts if part)


def make_table(results: Sequence[CaseFigures]) -> str:
    """Every case, one line a side."""
    rows: list[tuple[str, ...]] = [HEADINGS]
    for case in results:
        first = True
        for side, figures in case.sides.items():
            rate = figures.rate
            commits = figures.counts[-1].get("commits")
            rows.append(
                (
                    case.scenario if first else "",
                    case.case if first else "",
                    side,
                    number(rate.median),
                    f"{number(rate.min)} - {number(rate.max)}",
                    f"{rate.spread:.0%}" if len(rate.runs) > 1 else "",
                    rate.unit,
                    number(figures.p50.median),
                    number(figures.p99.median),
                    "" if commits is None else f"{commits:.0f}",
                    f"{len(rate.runs)}",
                    ratio_cell(case, side),
                )
            )
            first = False
    return align(rows)


def ratio_cell(case: CaseFigures, side: str) -> str:
    """Holdfast's line carries its ratio to the floor, a peer's line Holdfast's ratio to that peer."""
    if side == FLOOR:
        return ""
    ratio = case.ratios.get(FLOOR if side == HOLDFAST else side)
    if ratio is None:
        return ""
    if side == HOLDFAST:
        return f"{ratio.median:.2f} ({ratio.min:.2f} - {ratio.max:.2f})"
    return f"{number(ratio.median)} x ({number(ratio.min)} - {number(ratio.max)})"


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
    return align(rows, {0, 1, 2})


def explain(results: Sequence[CaseFigures]) -> str:
    """What the units are and what the columns mean."""
    lines = [
        f"{scenario}, {unit}: one is {meaning}."
        for scenario, unit, meaning in dict.fromkeys(
            (case.scenario, figures.rate.unit, case.one_unit_is)
            for case in results
            for figures in case.sides.values()
        )
    ]
    lines.append("Rates and latencies are medians over the repetitions; a latency spans:")
    lines += [
        f"    {scenario}: {meaning}."
        for scenario, meaning in dict.fromkeys((case.scenario, case.one_latency_is) for case in results)
    ]
    lines.append("The spread is from the lowest rate to the highest, relative to the median.")
    sides = {side for case in results for side in case.sides}
    by_latency = dict.fromkeys(case.scenario for case in results if case.headline == "p50")
    if sides >= {FLOOR, HOLDFAST}:
        lines.append(
            "The ratio is Holdfast's rate over the floor's, pair by pair: 1 is the floor, less is slower."
        )
    if sides - {FLOOR, HOLDFAST}:
        lines.append("On a peer's line it says how many times as fast Holdfast is.")
    if by_latency:
        lines.append(
            f"In {', '.join(by_latency)} it is that of the latencies' medians, the other's over Holdfast's."
        )
    lines.append("Commits are those of one repetition; each is two syncs.")
    return "\n".join(lines)


def make_scale_tables(lines: Sequence[Line]) -> str:
    """One table for each scenario that has a target instead of a floor."""
    tables = []
    for scenario in dict.fromkeys(line.scenario for line in lines):
        mine = [line for line in lines if line.scenario == scenario]
        names = list(dict.fromkeys(name for line in mine for name in line.figures))
        rows: list[tuple[str, ...]] = [("scenario", "case", "target met", *names)]
        for line in mine:
            met = "" if line.met is None else "yes" if line.met else "NO"
            cells = [with_spread(line.figures[name]) if name in line.figures else "" for name in names]
            rows.append((line.scenario, line.case, met, *cells))
        targets = dict.fromkeys(line.target for line in mine if line.target)
        tables.append("\n".join([align(rows, {0, 1, 2}), *(f"target: {target}" for target in targets)]))
        if scenario == "saturated":
            tables[-1] += (
                "\nof idle: calls/s over those beside an idle loop.  of left: over callers / (time of a call "
                "beside an idle loop + one round).\ncommit: from staging a write set until the loop hears "
                "that it is durable."
            )
    return "\n\n".join(tables)


def with_spread(figure: Figure) -> str:
    """A median, with its spread where it was measured more than once."""
    return number(figure.median) + (f" ({figure.spread:.0%})" if len(figure.runs) > 1 else "")


def number(value: float) -> str:
    """Three significant digits below 100, whole and grouped above."""
    if value >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def align(rows: Sequence[Sequence[str]], words: Collection[int] = WORDS) -> str:
    """Columns as wide as their widest cell, a rule under the first row; ``words`` are flush left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if place in words else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


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
