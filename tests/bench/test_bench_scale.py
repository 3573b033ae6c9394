"""The scale scenarios measure what they say, and their lines carry target and verdict."""

import asyncio
from pathlib import Path

import pytest

from bench import __main__ as bench_main
from bench import hub, neighbours, scale, schedules
from bench.lines import Line, merge_lines
from bench.report import Figure, read_report
from bench.scale import Scale, in_child, load
from bench.scenarios import SCALE_SCENARIOS

proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this system does not tell its memory"
)


async def test_a_load_counts_calls_commits_and_rounds(tmp_path: Path) -> None:
    """Callers get on beside tasks that never wait, and all three are timed."""
    found = await load(tmp_path / "data", 5, 0.0005, 4, 0.3, {})

    assert found.calls_per_second > 0
    assert 0 < found.call_ms[0] <= found.call_ms[1]
    assert 0 < found.commit_ms[0] <= found.commit_ms[1]
    assert 0 < found.rounds_per_second <= 2100


def test_saturated_judges_every_round_but_not_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each length of a round has a verdict; the idle loop and the plain switch interval have none."""

    async def fake_load(
        folder: Path,
        callers: int,
        round_seconds: float,
        tasks: int,
        seconds: float,
        options: dict[str, object],
    ) -> scale.Load:
        rate = callers / (0.001 + round_seconds * (4 if options else 1))
        return scale.Load(rate, (1.0, 2.0), (1.0, 2.0), 0.0)

    monkeypatch.setattr(scale, "load", fake_load)
    measured = Scale(tmp_path, True, "asyncio", asyncio.new_event_loop)
    measured.measure("saturated")

    judged = [line for line in measured.lines if line.met is not None]
    assert len(measured.lines) == 2 * 7
    assert len(judged) == 2 * len(scale.ROUNDS)
    assert all(line.met and line.figures["of left"] == pytest.approx(1) for line in judged)
    assert [line.figures["of left"] < 0.5 for line in measured.lines if "None" in line.case] == [True, True]
    assert list(tmp_path.iterdir()) == []


@proc
def test_sleepers_start_in_one_process_and_are_found_by_another(tmp_path: Path) -> None:
    """Runs of either way of starting take disk, and wait in the folder that is opened again."""
    for how in ("start_many", "start"):
        folder = str(tmp_path / how)
        started = in_child("asyncio", what="start_sleepers", folder=folder, runs=3_000, how=how)
        opened = in_child("asyncio", what="open_sleepers", folder=folder)

        assert started["disk_bytes"] > 0
        assert 0 < opened["since_open_seconds"] < opened["since_start_seconds"]
        assert opened["bytes"] > 1 << 20


@proc
def test_actors_are_touched_once_each(tmp_path: Path) -> None:
    """Four looks at memory, the bound of active ones held."""
    found = in_child(
        "asyncio", what="touch_actors", folder=str(tmp_path / "data"), actors=400, max_active=100
    )

    assert [step["touched"] for step in found["steps"]] == [100, 200, 300, 400]
    assert max(step["active"] for step in found["steps"]) <= 400


@proc
@pytest.mark.slow
def test_poison_actors_are_measured_alone_and_beside_neighbours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of poison has its ratio and its share of the processor, and the log its lines."""
    found = in_child("asyncio", what="poison", folder=str(tmp_path / "data"), actors=3, seconds=0.2)

    assert [kind["name"] for kind in found["kinds"]] == list(neighbours.POISONS)
    assert all(kind["call_p99_ms"] > 0 and kind["quiet_call_p99_ms"] > 0 for kind in found["kinds"])
    assert found["log_lines"] > 0

    monkeypatch.setattr(scale, "in_child", lambda loop, **task: found)
    measured = Scale(tmp_path, True, "asyncio", asyncio.new_event_loop)
    measured.measure("poison")
    assert len(measured.lines) == len(neighbours.POISONS) + 1
    assert all(line.met is not None for line in measured.lines)


@proc
@pytest.mark.slow
def test_large_values_are_measured_by_others_commits_and_by_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each load stands beside the whiles without it; the last line is memory."""
    found = in_child("asyncio", what="large_values", folder=str(tmp_path / "data"), values=8, seconds=0.2)

    assert len(found["loads"]) == len(neighbours.WRITERS) + 2
    assert all(load["commit_p99_ms"] > 0 and load["quiet_commit_p99_ms"] > 0 for load in found["loads"])
    assert found["bytes_after"] > 1 << 20

    monkeypatch.setattr(scale, "in_child", lambda loop, **task: found)
    measured = Scale(tmp_path, True, "asyncio", asyncio.new_event_loop)
    measured.measure("large-values")
    assert [line.case for line in measured.lines][-1] == "memory after it all"
    assert all(line.met is not None for line in measured.lines)


def test_repetitions_become_figures_with_their_spread() -> None:
    """A case is met when most of its repetitions met it; one without a target is not judged."""
    found = merge_lines(
        [
            [Line("s", "a", {"x": value}, "x < 3", value < 3), Line("s", "b", {"y": 1.0})]
            for value in (1.0, 2.0, 4.0)
        ]
    )

    assert [line.figures for line in found] == [
        {"x": Figure.of("x", [1.0, 2.0, 4.0])},
        {"y": Figure.of("y", [1.0, 1.0, 1.0])},
    ]
    assert [line.met for line in found] == [True, None]


@pytest.mark.parametrize("scenario", SCALE_SCENARIOS)
def test_main_runs_a_scale_scenario_alone(
    scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its lines are printed and written as JSON, without a floor."""
    monkeypatch.setattr(
        Scale, "measure", lambda self, name: self.lines.append(Line(name, "case", {"x": 1.0}, "x < 2", True))
    )
    file = tmp_path / "figures.json"

    bench_main.main(["--quick", "--scenario", scenario, "--folder", str(tmp_path), "--json", str(file)])

    (line,) = read_report(file).scale
    assert (line.scenario, line.figures["x"].median, line.met) == (scenario, 1.0, True)
    assert "target: x < 2" in capsys.readouterr().out


@proc
async def test_schedules_are_set_up_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take disk and leave memory; set up again as they are, nothing is written; due ones are in time."""
    for name, value in {
        "WARM": 10, "DUE": 10, "AHEAD_SECONDS": 0.3, "SPREAD_SECONDS": 0.05, "SETTLE_SECONDS": 0.0,
    }.items():  # fmt: skip
        monkeypatch.setattr(schedules, name, value)
    made = await schedules.set_up_schedules(str(tmp_path / "data"), 300)
    assert made["disk_bytes"] > 0
    assert min(made["seconds"], made["again_seconds"], made["list_seconds"]) > 0
    opened = await schedules.open_schedules(str(tmp_path / "data"))
    assert set(opened["lateness"]) == {"in one second", "at one moment"}
    assert all(0 <= late["p50_ms"] <= late["p99_ms"] for late in opened["lateness"].values())


async def test_a_hub_delivers_to_all(tmp_path: Path) -> None:
    """Holdfast's and the bare one: nothing is missing, and each latency is one."""
    scale = Scale(tmp_path, quick=True, loop="asyncio", factory=asyncio.new_event_loop)
    for side in ("bare broadcast", "holdfast"):
        got = await hub.deliver(scale, side, clients=3, messages=5, per_second=200)
        assert got.missing == 0
        assert 0 < got.ms[0] <= got.ms[1] <= got.ms[2]
        assert got.per_second > 0
