"""P8 at length: memory follows activity.  The measurements of the benchmarks, with generous bounds."""

from pathlib import Path

import pytest

from bench.scale import in_child

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell its memory"),
]

SLEEPERS = 20_000
MOST_BYTES_PER_RUN = 600


@pytest.mark.parametrize("how", ["start_many", "start"])
def test_a_sleeping_run_costs_no_memory(tmp_path: Path, how: str) -> None:
    """20 000 runs that sleep for a day: what each leaves in memory is no more than a trace."""
    found = in_child("asyncio", what="start_sleepers", folder=str(tmp_path / "data"), runs=SLEEPERS, how=how)

    assert (found["bytes_after"] - found["bytes_before"]) / SLEEPERS < MOST_BYTES_PER_RUN


def test_a_folder_of_sleeping_runs_opens_at_once(tmp_path: Path) -> None:
    """A fresh process answers soon, and holds no more than it does beside few sleepers."""
    few, many = tmp_path / "few", tmp_path / "many"
    for folder, runs in ((few, 100), (many, SLEEPERS)):
        in_child("asyncio", what="start_sleepers", folder=str(folder), runs=runs, how="start_many")

    beside_few = in_child("asyncio", what="open_sleepers", folder=str(few))
    beside_many = in_child("asyncio", what="open_sleepers", folder=str(many))

    assert beside_many["since_open_seconds"] < 2
    assert beside_many["bytes"] < beside_few["bytes"] + (4 << 20)


def test_actors_that_come_and_go_leave_memory_flat(tmp_path: Path) -> None:
    """100 000 distinct actors, 10 000 in memory: the last quarter takes what the first took."""
    found = in_child(
        "asyncio", what="touch_actors", folder=str(tmp_path / "data"), actors=100_000, max_active=10_000
    )

    first, *_, last = found["steps"]
    assert last["active"] <= 11_000
    assert last["bytes"] < 1.5 * first["bytes"]
