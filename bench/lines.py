"""Figures of scenarios that have a target instead of a floor, and what comes of several repetitions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import report
from .report import Figure


@dataclass(frozen=True, slots=True)
class Line:
    """One case of one repetition."""

    scenario: str
    case: str
    # By name with the unit in it; lines of a scenario need not have the same ones.
    figures: dict[str, float]
    target: str = ""
    met: bool | None = None


def merge_lines(repetitions: Sequence[Sequence[Line]]) -> list[report.Line]:
    """The lines of all repetitions, each case once: its figures with their spread, met when most met it."""
    by_case: dict[tuple[str, str], list[Line]] = {}
    for lines in repetitions:
        for line in lines:
            by_case.setdefault((line.scenario, line.case), []).append(line)
    return [
        report.Line(
            scenario=scenario,
            case=case,
            figures={
                name: Figure.of(name, [line.figures[name] for line in lines if name in line.figures])
                for name in dict.fromkeys(name for line in lines for name in line.figures)
            },
            target=lines[-1].target,
            met=None if lines[-1].met is None else 2 * sum(line.met is True for line in lines) > len(lines),
        )
        for (scenario, case), lines in by_case.items()
    ]
