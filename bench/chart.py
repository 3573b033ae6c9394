"""The report as an SVG chart: a block a scenario, a group of bars a case, a bar a side, with its spread.

Each case has a scale of its own, from zero to its longest bar: what is compared is the sides of a case.  The
picture follows the viewer's light or dark setting.

Texts never overlap, since every text has a place of its own whose width is reckoned before anything is
drawn: the font is monospaced, so a text is as wide as it is long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from .report import FLOOR, HOLDFAST, CaseFigures, Report
from .table import number

SIZE = 12
# The widest of the fonts named below, in parts of their size (DejaVu Sans Mono: 0.602).
ADVANCE = 0.61
LINE = 18
BAR = 10
MARGIN = 24
GAP = 12
BAR_WIDTH = 420

STYLE = """
svg { --paper: #ffffff; --ink: #1c2430; --soft: #5b6675; --line: #d8dde4;
      --floor: #b3bcc8; --holdfast: #2563c9; --peer: #d08a2e; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #14181f; --ink: #e8ecf2; --soft: #9aa6b5; --line: #2f3845;
        --floor: #566171; --holdfast: #6ea0f5; --peer: #c58a3d; }
}
.paper { fill: var(--paper); }
text { font: 12px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: var(--ink); }
.title { font-weight: bold; }
.soft { fill: var(--soft); }
.rule { stroke: var(--line); }
.floor { fill: var(--floor); }
.holdfast { fill: var(--holdfast); }
.peer { fill: var(--peer); }
.spread { stroke: var(--ink); stroke-width: 1.2; fill: none; }
"""


def width_of(text: str) -> float:
    """Pixels that a text takes at most."""
    return len(text) * SIZE * ADVANCE


@dataclass(slots=True)
class Canvas:
    """Elements, and how far down they reach."""

    width: float
    y: float = MARGIN
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, text: str, kind: str = "") -> None:
        """A text whose line is the current one."""
        of_kind = f' class="{kind}"' if kind else ""
        self.parts.append(f'<text x="{x:.1f}" y="{self.y + 13:.1f}"{of_kind}>{escape(text)}</text>')


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the parts of a row begin, the same in the whole picture."""

    bars: float
    end: float

    @classmethod
    def of(cls, cases: Sequence[CaseFigures]) -> Columns:
        """Wide enough for the longest name and the longest value."""
        names = max((width_of(side) for case in cases for side in case.sides), default=0.0)
        values = max((width_of(value_text(case, side)) for case in cases for side in case.sides), default=0.0)
        bars = MARGIN + names + GAP
        titles = [heading(case) for case in cases] + [f"{case.case}" for case in cases]
        longest = max((width_of(title) for title in titles), default=0.0)
        return cls(bars, max(bars + BAR_WIDTH + GAP + values, MARGIN + longest) + MARGIN)


def heading(case: CaseFigures) -> str:
    """Of a scenario's block."""
    better = "less is better" if case.headline == "p50" else "more is better"
    unit = "median latency in ms" if case.headline == "p50" else next(iter(case.sides.values())).rate.unit
    return f"{case.scenario}: {unit}, {better}"


def value_text(case: CaseFigures, side: str) -> str:
    """What stands behind a bar: the median, and for others than Holdfast how it compares."""
    figure = case.headline_of(side)
    text = f"{number(figure.median)} {figure.unit}"
    ratio = case.ratios.get(side)
    if side == FLOOR or ratio is None:
        own = case.ratios.get(FLOOR) if side == HOLDFAST else None
        return text if own is None else f"{text}, {own.median:.2f} of the floor"
    return f"{text}, Holdfast {number(ratio.median)} x"


def draw_chart(report: Report) -> str:
    """The whole picture."""
    cases = [case for case in report.results if case.sides]
    columns = Columns.of(cases)
    commit = (report.git_commit or "no commit")[:12]
    notes = [
        "Holdfast, its floor and its peers",
        f"{report.machine.get('model')}, {report.machine.get('cores')} cores",
        f"commit {commit}, {report.measured_at}, load {report.load_before} before",
        "bars: medians; lines across: lowest to highest; each case has its own scale",
    ]
    canvas = Canvas(max(columns.end, *(2 * MARGIN + width_of(note) for note in notes)))
    for place, note in enumerate(notes):
        canvas.text(MARGIN, note, "soft" if place else "title")
        canvas.y += LINE
    scenario = ""
    for case in cases:
        if case.scenario != scenario:
            scenario = case.scenario
            draw_heading(canvas, heading(case))
        draw_case(canvas, columns, case)
    height = canvas.y + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {canvas.width:.0f} {height:.0f}" '
            f'width="{canvas.width:.0f}" height="{height:.0f}" role="img">',
            f"<title>{escape(notes[0])}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{canvas.width:.0f}" height="{height:.0f}"/>',
            *canvas.parts,
            "</svg>\n",
        ]
    )


def draw_heading(canvas: Canvas, text: str) -> None:
    """A rule, and the scenario below it."""
    canvas.y += LINE
    canvas.parts.append(f'<path class="rule" d="M{MARGIN} {canvas.y:.1f}H{canvas.width - MARGIN:.1f}"/>')
    canvas.y += LINE / 2
    canvas.text(MARGIN, text, "title")
    canvas.y += LINE


def draw_case(canvas: Canvas, columns: Columns, case: CaseFigures) -> None:
    """The case's name, and a row a side."""
    canvas.y += LINE / 3
    canvas.text(MARGIN, case.case, "soft")
    canvas.y += LINE
    longest = max(case.headline_of(side).max for side in case.sides) or 1.0
    for side in case.sides:
        figure = case.headline_of(side)
        at, low, high = (
            columns.bars + BAR_WIDTH * value / longest for value in (figure.median, figure.min, figure.max)
        )
        kind = side if side in (FLOOR, HOLDFAST) else "peer"
        top, middle = canvas.y + (LINE - BAR) / 2, canvas.y + LINE / 2
        canvas.text(MARGIN, side)
        # At least a pixel, so that a bar that is too short to see is seen to be there.
        canvas.parts.append(
            f'<rect class="{kind}" x="{columns.bars:.1f}" y="{top:.1f}" '
            f'width="{max(at - columns.bars, 1):.1f}" height="{BAR}"/>'
        )
        if high - low >= 1:
            canvas.parts.append(
                f'<path class="spread" d="M{low:.1f} {middle:.1f}H{high:.1f}'
                f'M{low:.1f} {middle - 3:.1f}v6M{high:.1f} {middle - 3:.1f}v6"/>'
            )
        canvas.text(columns.bars + BAR_WIDTH + GAP, value_text(case, side))
        canvas.y += LINE
