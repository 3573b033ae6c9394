"""The report as tables of a Markdown page: what docs/bench.md holds between its marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .report import Figure, Line, Report
from .table import number, plain, ratio_cell

BEGIN = "<!-- figures: written by `python -m bench --markdown` -->"
END = "<!-- /figures -->"

COMPARED = (
    "Holdfast compared: on its own line with the floor, 1 is as fast; on a peer's line how many times as "
    "fast Holdfast is. By rates; in `latency` and `alarms` by median latencies. Peers got fewer items."
)


class NoMarks(ValueError):
    """A page that has no place for the figures."""


def write_markdown(report: Report, file: Path) -> None:
    """Put the figures between the marks of a page, or make a page of them alone.

    Raises NoMarks for a page that is there and has no marks.
    """
    before, after = find_marks(file)
    file.write_text(f"{before}{BEGIN}\n\n{make_markdown(report)}\n{END}\n{after}", encoding="utf-8")


def find_marks(file: Path) -> tuple[str, str]:
    """What stands before and behind the figures of a page; nothing where there is no page yet.

    Raises NoMarks for a page without marks.
    """
    if not file.exists():
        return "", ""
    before, found, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(f"{END}\n")
    if not (found and ended):
        raise NoMarks(f"{file}: expected the lines {BEGIN} and {END}, and the figures go between them")
    return before, after


def make_markdown(report: Report) -> str:
    """What it was measured on, and a table of each kind of scenario."""
    parts = [note(report)]
    if report.results:
        rows: list[tuple[str, ...]] = [
            ("scenario", "case", "side", "rate (min - max)", "p50 ms", "p99 ms", "Holdfast compared")
        ]
        shown = ("", "")
        for case in report.results:
            for side, figures in case.sides.items():
                repeated = (case.scenario, case.case) == shown
                shown = case.scenario, case.case
                rows.append(
                    (
                        "" if repeated else case.scenario,
                        "" if repeated else case.case,
                        side,
                        f"{rate_cell(figures.rate)} {figures.rate.unit}",
                        number(figures.p50.median),
                        number(figures.p99.median),
                        ratio_cell(case, side),
                    )
                )
        parts.append(make_table(rows))
        parts.append(COMPARED)
    if report.growth:
        rows_of_growth: list[tuple[str, ...]] = [
            ("scenario", "what", "side", "cost of one, large over small (min - max)")
        ]
        rows_of_growth += [
            (
                growth.scenario,
                f"{growth.large} over {growth.small}, {growth.group}",
                growth.side,
                rate_cell(growth.figure),
            )
            for growth in report.growth
        ]
        parts.append(make_table(rows_of_growth))
    if report.scale:
        rows_of_lines: list[tuple[str, ...]] = [("scenario", "case", "figures (spread)", "target", "met")]
        rows_of_lines += [line_row(line) for line in report.scale]
        parts.append(make_table(rows_of_lines))
    if report.skipped:
        parts.append("\n".join(f"- Not measured: {side}: {why}." for side, why in report.skipped.items()))
    return "\n\n".join(parts) + "\n"


def note(report: Report) -> str:
    """Commit, machine, load: without them no figure says anything."""
    commit = report.git_commit or "none"
    changed = ", with changes that are not in it" if commit.endswith("+") else ""
    machine = report.machine
    settings = report.settings
    sizes = "small sizes (`--quick`)" if settings.get("quick") else "full sizes"
    return "\n".join(
        [
            f"- Measured {report.measured_at} at commit `{commit.rstrip('+')[:12]}`{changed}; {sizes}, at "
            f"least {settings.get('repeat')} repetitions, {settings.get('loop')}.",
            f"- Machine: {machine.get('model')}, {machine.get('cores')} cores, "
            f"{machine.get('memory_gib')} GiB, {machine.get('system')}, {machine.get('file_system')}.",
            f"- Its disk took {syncs(report, 'fdatasync_ms')} ms for a sync before, "
            f"{syncs(report, 'fdatasync_after_ms')} ms behind it (median, lowest to highest of fifty).",
            f"- Its load average over one minute was {plain(report.load_before)} before and "
            f"{plain(report.load_after)} behind it, the bench itself included: above "
            f"{machine.get('cores')} others took part of the processor.",
            f"- Versions: {plain(report.versions)}.",
        ]
    )


def syncs(report: Report, name: str) -> str:
    """A probe of the disk in short."""
    probe = report.machine.get(name)
    if not probe:
        return "?"
    return f"{number(probe['median'])} ({number(probe['min'])} - {number(probe['max'])})"


def rate_cell(figure: Figure) -> str:
    """Median and spread."""
    return f"{number(figure.median)} ({number(figure.min)} - {number(figure.max)})"


def line_row(line: Line) -> tuple[str, ...]:
    """A line of a scenario with a target."""
    figures = ", ".join(
        f"{name} {number(figure.median)}" + (f" ({figure.spread:.0%})" if len(figure.runs) > 1 else "")
        for name, figure in line.figures.items()
    )
    met = {None: "", True: "yes", False: "**no**"}[line.met]
    return line.scenario, line.case, figures, line.target, met


def make_table(rows: Sequence[tuple[str, ...]]) -> str:
    """The first row is the heading."""
    head, *body = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])
