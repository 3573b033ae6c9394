"""Figures carry spread and unit, ratios are taken pair by pair, a report's file gives it back."""

from pathlib import Path

import pytest

from bench.report import FLOOR, HOLDFAST, Figure, Line, UnreadableReport, read_report, write_report
from bench.result import Result, find_growth
from bench.workload import Sample, drive
from tests.bench.support import make_case, make_report, sample_of


async def test_drive_takes_each_item_once() -> None:
    """Workers share the items: none is taken twice, none is left."""
    taken: list[int] = []

    async def act(item: int) -> None:
        taken.append(item)

    sample = await drive(range(25), 4, act, units_per_item=10)

    assert sorted(taken) == list(range(25))
    assert sample.units == 250
    assert len(sample.latencies) == 25


def test_latencies_are_percentiles_in_milliseconds() -> None:
    """Nearest rank of the sorted seconds."""
    sample = Sample(100, 1.0, [n / 1000 for n in range(100)])

    assert (sample.latency_ms(50), sample.latency_ms(99)) == (50, 99)


def test_a_figure_is_a_median_with_its_spread() -> None:
    """The spread is from the lowest to the highest, relative to the median."""
    figure = Figure.of("runs/s", [90, 100, 130])

    assert (figure.median, figure.min, figure.max, figure.spread) == (100, 90, 130, 0.4)


def test_ratio_is_taken_pair_by_pair() -> None:
    """The n-th repetition of one side is set against the n-th of the other."""
    result = Result(
        make_case(), {FLOOR: list(map(sample_of, (100, 200))), HOLDFAST: list(map(sample_of, (50, 50)))}
    )

    ratio = result.ratio()

    assert ratio is not None
    assert (ratio.median, ratio.min, ratio.max) == (0.375, 0.25, 0.5)


def test_a_ratio_of_latencies_is_also_more_when_holdfast_is_faster() -> None:
    """Where the case is about a latency, half the latency is twice as fast."""
    result = Result(make_case(headline="p50"), {FLOOR: [sample_of(100, 1.0)], HOLDFAST: [sample_of(1, 2.0)]})

    assert result.figures().ratios[FLOOR].median == 0.5
    assert result.figures().headline_of(HOLDFAST).median == 2.0


def test_growth_is_the_cost_at_the_larger_size() -> None:
    """Half the rate at ten times the size is twice the cost."""
    small = Result(make_case(10), {FLOOR: [sample_of(100)]})
    large = Result(make_case(100), {FLOOR: [sample_of(50)]})

    (growth,) = find_growth([large, small])

    assert (growth.small, growth.large, growth.figure.median) == (10, 100, 2.0)


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    """What is read is what was written, ratios and scale lines too."""
    line = Line("actors", "a", {"x/s": Figure.of("x/s", [1.0, 2.0])}, "x < 2", True)
    report = make_report({FLOOR: (100, 200), HOLDFAST: (50, 60)}, (line,))
    file = tmp_path / "report.json"

    write_report(report, file)

    assert read_report(file) == report
    assert file.read_text().endswith("}\n")


@pytest.mark.parametrize("text", ["", "[]", '{"results": []}', '{"format": 3}', '{"format": 2}'])
def test_another_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    """Neither an older format nor something else is taken for a report."""
    file = tmp_path / "old.json"
    file.write_text(text)

    with pytest.raises(UnreadableReport, match=r"old\.json: expected"):
        read_report(file)
