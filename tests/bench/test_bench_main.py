"""The command: cases fit the sides that answer them, sides take turns, no folder is left."""

import io
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as bench_main
from bench import measure
from bench.options import EVERY_SCENARIO, parse_options
from bench.progress import Progress
from bench.report import FLOOR, HOLDFAST, read_report, write_report
from bench.scenarios import DEFAULT_SCENARIOS, EXTRA_SCENARIOS, Case, Sizes, make_cases
from bench.sides import load_sides, loop_factory
from bench.workload import Sample
from tests.bench.support import make_case, make_report


@pytest.mark.parametrize("scenario", [*DEFAULT_SCENARIOS, *EXTRA_SCENARIOS])
@pytest.mark.parametrize("quick", [False, True])
def test_every_case_has_both_sides(scenario: str, quick: bool) -> None:
    """The floor answers each case, and Holdfast."""
    sides = load_sides("both", loop_factory("asyncio"))
    assert list(sides) == [FLOOR, HOLDFAST]
    for case in make_cases(scenario, Sizes(quick, 0.0)):
        assert all(side.answers(case) for side in sides.values())


def test_a_slow_disk_gets_fewer_items_but_one_for_each_worker() -> None:
    """A repetition on a slow disk stays short."""
    sizes = Sizes(False, slow_sync_seconds=0.010)

    assert sizes.items(300, 100, in_flight=1, waits=4) == 37
    assert Sizes(False, 100.0).items(300, 100, in_flight=8, waits=4) == 8


def test_main_measures_in_turn_and_writes_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both sides run the same number of times, each figure carries its unit, and no folder is left."""
    floor = load_sides(FLOOR, loop_factory("asyncio"))[FLOOR]
    monkeypatch.setattr(bench_main, "make_cases", lambda scenario, sizes: [make_case(10), make_case(20)])
    monkeypatch.setattr(bench_main, "load_sides", lambda wanted, factory: {FLOOR: floor, HOLDFAST: floor})
    monkeypatch.setattr(measure, "SHORT_FACTOR", 1)
    file, chart = tmp_path / "figures.json", tmp_path / "chart.svg"

    bench_main.main(
        f"--scenario commit --repeat 2 --loop asyncio --folder {tmp_path} --json {file} --svg {chart}".split()
    )

    report = read_report(file)
    first = report.results[0]
    assert [len(side.rate.runs) for side in first.sides.values()] == [2, 2]
    assert first.sides[HOLDFAST].rate.unit == "writes/s"
    assert first.sides[FLOOR].p99.unit == "ms"
    assert first.ratios[FLOOR].unit == "holdfast/floor"
    assert report.machine["fdatasync_ms"]["tries"] == report.machine["fdatasync_after_ms"]["tries"] == 50
    assert report.settings["repeat"] == 2
    assert [growth.side for growth in report.growth] == [FLOOR, HOLDFAST]
    assert chart.read_text().startswith("<svg")
    captured = capsys.readouterr()
    assert "writes/s" in captured.out
    assert "[2/2]" in captured.err
    assert sorted(tmp_path.iterdir()) == [chart, file]


def test_sides_take_turns_to_and_fro(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of them always comes behind the same one, and each has as many repetitions."""
    order: list[str] = []

    class Recording:
        def __init__(self, name: str) -> None:
            self.name = name

        def answers(self, case: Case) -> bool:
            return True

        def measure(self, case: Case, folder: Path, slow_sync_seconds: float) -> Sample:
            order.append(self.name)
            return Sample(1, 1.0, [1.0])

    monkeypatch.setattr(measure, "SHORT_FACTOR", 1)
    result, failed = measure.measure_in_turn(
        make_case(), {name: Recording(name) for name in "abc"}, tmp_path, 0.0, 3, lambda text: None
    )

    assert "".join(order) == "abccbaabc"
    assert [len(samples) for samples in result.samples.values()] == [3, 3, 3]
    assert failed == {}


def test_an_interrupted_run_reports_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cases before it, and that there were to be more; no folder is left."""
    floor = load_sides(FLOOR, loop_factory("asyncio"))[FLOOR]
    monkeypatch.setattr(bench_main, "make_cases", lambda scenario, sizes: [make_case(10), make_case(20)])
    monkeypatch.setattr(bench_main, "load_sides", lambda wanted, factory: {FLOOR: floor})
    measured = measure.measure_in_turn

    def interrupted(case: Case, *rest: Any) -> Any:
        if case.name == "20 writes":
            raise KeyboardInterrupt
        return measured(case, *rest)

    monkeypatch.setattr(bench_main, "measure_in_turn", interrupted)
    bench_main.main(f"--scenario commit --repeat 1 --loop asyncio --folder {tmp_path}".split())

    said = capsys.readouterr().out
    assert "10 writes" in said
    assert "20 writes" not in said
    assert "the run was interrupted" in said
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_shown_and_compared_without_measuring(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of files alone; a slower figure is no failure of the command."""
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    write_report(make_report({HOLDFAST: (100, 110)}), old)
    write_report(make_report({HOLDFAST: (50, 60)}), new)

    bench_main.main(["--from", str(new), "--compare", str(old)])

    assert "slower" in capsys.readouterr().out


def test_a_file_that_is_no_report_ends_with_a_sentence(tmp_path: Path) -> None:
    """Before anything is measured."""
    file = tmp_path / "old.json"
    file.write_text("{}")

    with pytest.raises(SystemExit, match=r"old\.json: expected"):
        bench_main.main(["--compare", str(file)])
    with pytest.raises(SystemExit, match=r"nowhere\.json"):
        bench_main.main(["--compare", str(tmp_path / "nowhere.json")])


def test_all_means_every_scenario() -> None:
    """And none is asked for twice."""
    assert parse_options(["--scenario", "commit", "all"]).scenario == list(EVERY_SCENARIO)
    assert parse_options(["--scenario", "commit", "steps", "commit"]).scenario == ["commit", "steps"]
    assert parse_options([]).scenario == list(DEFAULT_SCENARIOS)


class Terminal(io.StringIO):
    """Says that it is one."""

    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_on_a_terminal() -> None:
    """It is written over, never wraps, and is gone at the end."""
    stream = Terminal()
    progress = Progress(2, stream)
    progress.begin("a case of a long name " * 10)
    progress.detail("floor, 1 of 3")
    progress.end()

    lines = stream.getvalue().split("\r\x1b[K")
    assert "\n" not in stream.getvalue()
    assert max(map(len, lines)) == 100
    assert lines[-1] == ""


def test_progress_is_a_line_a_case_elsewhere() -> None:
    """A log stays readable."""
    stream = io.StringIO()
    progress = Progress(1, stream)
    progress.begin("pipeline")
    progress.detail("floor, 1 of 3")
    progress.end()

    assert stream.getvalue().split() == ["[1/1]", "0", "s", "pipeline"]
