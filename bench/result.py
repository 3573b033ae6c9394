"""The repetitions of a case, and the figures that come of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from .report import FLOOR, HOLDFAST, CaseFigures, Figure, Growth, SideFigures
from .scenarios import Case
from .workload import Sample


@dataclass(slots=True)
class Result:
    """All repetitions of one case, on every side that answered it."""

    case: Case
    # By side, in the order measured.  The n-th samples of all sides ran in one turn.
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def ratio(self, other: str = FLOOR) -> Figure | None:
        """How many times as fast Holdfast is as ``other``, pair by pair; None where one is missing."""
        ours, theirs = self.samples.get(HOLDFAST), self.samples.get(other)
        if not (ours and theirs):
            return None
        pairs = zip(ours, theirs, strict=False)
        if self.case.headline == "p50":
            values = [their.latency_ms(50) / our.latency_ms(50) for our, their in pairs]
        else:
            values = [our.rate / their.rate for our, their in pairs]
        return Figure.of(f"holdfast/{other}", values)

    def figures(self) -> CaseFigures:
        """As plain data."""
        case = self.case
        ratios = {side: self.ratio(side) for side in self.samples if side != HOLDFAST}
        return CaseFigures(
            scenario=case.scenario,
            case=case.name,
            arguments=list(case.arguments),
            one_unit_is=case.one_unit_is,
            one_latency_is=case.one_latency_is,
            headline=case.headline,
            sides={
                side: SideFigures(
                    rate=Figure.of(case.unit, [sample.rate for sample in samples]),
                    p50=Figure.of("ms", [sample.latency_ms(50) for sample in samples]),
                    p99=Figure.of("ms", [sample.latency_ms(99) for sample in samples]),
                    units=samples[-1].units,
                    counts=[dict(sample.counts) for sample in samples],
                )
                for side, samples in self.samples.items()
                if samples
            },
            ratios={side: ratio for side, ratio in ratios.items() if ratio is not None},
        )


def find_growth(results: Sequence[Result]) -> list[Growth]:
    """Pairs of cases that differ only in size: the smallest and the largest of each group."""
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
