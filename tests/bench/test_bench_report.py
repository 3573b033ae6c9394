"""The harness: cases fit the sides that answer them, figures carry spread and unit, no folder is left."""

import json
from pathlib import Path

import pytest

from bench import __main__ as bench_main
from bench import floor
from bench.report import FLOOR, HOLDFAST, Result, find_growth, make_growth_table, make_table
from bench.scenarios import DEFAULT_SCENARIOS, EXTRA_SCENARIOS, Case, Sizes, make_cases
from bench.workload import Sample, drive


def make_case(size: int = 10) -> Case:
    """A case of a few writes."""
    return Case(
        "commit", f"{size} writes", "writes/s", "a put", "a write", "commit", (2, size, 10), ("2", size)
    )


def sample_of(rate: float) -> Sample:
    """A repetition of ``rate`` units in one second."""
    return Sample(int(rate), 1.0, [0.001, 0.002, 0.003])


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


@pytest.mark.parametrize("scenario", [*DEFAULT_SCENARIOS, *EXTRA_SCENARIOS])
@pytest.mark.parametrize("quick", [False, True])
def test_every_case_has_a_workload(scenario: str, quick: bool) -> None:
    """The floor answers each case."""
    for case in make_cases(scenario, Sizes(quick, 0.0)):
        assert callable(getattr(floor, case.workload))


def test_a_slow_disk_gets_fewer_items_but_one_for_each_worker() -> None:
    """A repetition on a slow disk stays short."""
    sizes = Sizes(False, slow_sync_seconds=0.010)

    assert sizes.items(300, 100, in_flight=1, waits=4) == 37
    assert Sizes(False, 100.0).items(300, 100, in_flight=8, waits=4) == 8


def test_ratio_is_taken_pair_by_pair() -> None:
    """The n-th repetition of one side is set against the n-th of the other."""
    result = Result(
        make_case(), {FLOOR: list(map(sample_of, (100, 200))), HOLDFAST: list(map(sample_of, (50, 50)))}
    )

    ratio = result.ratio()

    assert ratio is not None
    assert (ratio.median, ratio.min, ratio.max) == (0.375, 0.25, 0.5)


def test_growth_is_the_cost_at_the_larger_size() -> None:
    """Half the rate at ten times the size is twice the cost."""
    small = Result(make_case(10), {FLOOR: [sample_of(100)]})
    large = Result(make_case(100), {FLOOR: [sample_of(50)]})

    (growth,) = find_growth([large, small])

    assert (growth.small, growth.large, growth.figure.median) == (10, 100, 2.0)
    assert "2.00" in make_growth_table([growth])


def test_table_lines_are_aligned() -> None:
    """Every column begins and ends where its heading does."""
    results = [Result(make_case(), {FLOOR: [sample_of(123456)], HOLDFAST: [sample_of(100)]})]

    heading, rule, *lines = make_table(results).splitlines()

    assert len(lines) == 2
    assert len(rule) == len(heading)
    assert lines[0].index(FLOOR) == heading.index("side")


def test_main_measures_in_turn_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both sides run the same number of times, each figure carries its unit, and no folder is left."""
    monkeypatch.setattr(bench_main, "make_cases", lambda scenario, sizes: [make_case(10), make_case(20)])
    monkeypatch.setattr(bench_main, "load_sides", lambda wanted: {FLOOR: floor, HOLDFAST: floor})
    monkeypatch.setattr(bench_main, "SHORT_FACTOR", 1)
    file = tmp_path / "figures.json"

    bench_main.main(
        [
            "--scenario",
            "commit",
            "--repeat",
            "2",
            "--loop",
            "asyncio",
            "--folder",
            str(tmp_path),
            "--json",
            str(file),
        ]
    )

    report = json.loads(file.read_text())
    assert [len(side["rate"]["runs"]) for side in report["results"][0]["sides"].values()] == [2, 2]
    assert report["results"][0]["sides"][HOLDFAST]["rate"]["unit"] == "writes/s"
    assert report["results"][0]["sides"][FLOOR]["p99"]["unit"] == "ms"
    assert report["results"][0]["ratio"]["unit"] == "holdfast/floor"
    assert report["machine"]["fdatasync_ms"]["tries"] == 50
    assert report["settings"]["repeat"] == 2
    assert "writes/s" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [file]
