"""What a run of the bench found, as plain data: the table, the chart, JSON and the comparison are made of it.

A report read from a file is the same as one just measured, so everything can be made of either.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

FLOOR = "floor"
HOLDFAST = "holdfast"

# Of the JSON file; another one is refused, since figures under other names would be missed in silence.
FORMAT = 2


class Figure(msgspec.Struct, frozen=True):
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

    @property
    def spread(self) -> float:
        """From the lowest to the highest, relative to the median; 0 for one repetition."""
        return (self.max - self.min) / self.median if self.median else 0.0


class SideFigures(msgspec.Struct, frozen=True):
    """One side of a case."""

    rate: Figure
    p50: Figure
    p99: Figure
    units: int
    # What else the side knows of each repetition, such as its number of commits.
    counts: list[dict[str, float]]


class CaseFigures(msgspec.Struct, frozen=True):
    """One case with its sides, in the order in which they took turns."""

    scenario: str
    case: str
    arguments: list[int]
    one_unit_is: str
    one_latency_is: str
    # Which figure of a side the case is about, and the ratios are made of: `rate` or `p50`.
    headline: str
    sides: dict[str, SideFigures]
    # By the other side: how many times as fast Holdfast is, pair by pair.
    ratios: dict[str, Figure]

    def headline_of(self, side: str) -> Figure:
        """The figure of ``side`` that the case is about."""
        figures = self.sides[side]
        return figures.p50 if self.headline == "p50" else figures.rate


class Growth(msgspec.Struct, frozen=True):
    """What a unit costs at the larger size, relative to the smaller one: 1 is no growth."""

    scenario: str
    group: str
    side: str
    small: int
    large: int
    figure: Figure


class Line(msgspec.Struct, frozen=True):
    """One line of a scenario that has a target instead of a floor."""

    scenario: str
    case: str
    # By name with the unit in it; lines of a scenario need not have the same ones.
    figures: dict[str, Figure]
    target: str = ""
    # Whether more than half of the repetitions met the target; None where there is none.
    met: bool | None = None


class Report(msgspec.Struct, frozen=True):
    """Everything."""

    format: int
    machine: dict[str, Any]
    versions: dict[str, str | None]
    git_commit: str | None
    # What the machine was doing beside: the system's load averages over one minute.
    load_before: float | None
    load_after: float | None
    measured_at: str
    settings: dict[str, Any]
    took_seconds: float
    results: list[CaseFigures]
    growth: list[Growth]
    scale: list[Line]
    # Peers that could not be measured, and why.
    skipped: dict[str, str]


class UnreadableReport(ValueError):
    """A file that is no report of this bench."""


def write_report(report: Report, file: Path) -> None:
    """As indented JSON."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def read_report(file: Path) -> Report:
    """What ``write_report`` wrote.  Raises UnreadableReport for anything else, OSError for no file."""
    data = file.read_bytes()
    try:
        found = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format", msgspec.Raw(b"1"))
        if bytes(found) != b"%d" % FORMAT:
            raise UnreadableReport(
                f"{file}: expected a report of format {FORMAT}, got format {bytes(found).decode()}; "
                f"measure it again"
            )
        return msgspec.json.decode(data, type=Report)
    except msgspec.MsgspecError as error:
        raise UnreadableReport(
            f"{file}: expected the JSON of `python -m bench --json`, got {error}"
        ) from None
