"""Queue, alarms, recovery and growth: both sides do the work that they are timed for."""

import asyncio
from pathlib import Path
from typing import Any

import lmdb
import pytest

from bench import (
    floor,
    floor_alarms,
    floor_queue,
    floor_recovery,
    growth,
    holdfast_alarms,
    holdfast_queue,
    holdfast_recovery,
)
from bench.options import parse_options
from bench.recovery import measure_recovery
from bench.report import FLOOR, HOLDFAST
from bench.scenarios import Sizes, make_cases
from bench.workload import make_events
from holdfast import Queue, Runtime


def read_all(folder: Path) -> dict[bytes, Any]:
    """Everything in a closed folder of the floor."""
    with lmdb.open(str(folder), readonly=True, lock=False, lib_version=0) as env, env.begin() as transaction:
        return {key: floor.unseal(value) for key, value in transaction.cursor()}


@pytest.mark.parametrize("side", [floor_queue, holdfast_queue])
async def test_every_message_is_sent_and_handled_once(tmp_path: Path, side: Any) -> None:
    """Each has a latency, whether it waited or was sent meanwhile."""
    for workload, arguments in (
        ("queue_send", (25, 4)),
        ("queue_consume", (25, 4, 2)),
        ("queue_both", (25, 3, 4, 2)),
    ):
        (folder := tmp_path / workload).mkdir()
        sample = await getattr(side, workload)(folder, *arguments)
        assert (sample.units, len(sample.latencies)) == (25, 25)


async def test_floor_leaves_no_message_and_no_lease(tmp_path: Path) -> None:
    """What was acknowledged is gone from disk, in the same commit as its lease."""
    await floor_queue.queue_both(tmp_path, 25, 3, 4, 2)

    assert set(read_all(tmp_path)) == {floor_queue.NEXT, b"m/end"}
    assert read_all(tmp_path)[floor_queue.NEXT] == 25


async def test_floor_leases_before_the_handler_sees_a_message(tmp_path: Path) -> None:
    """A process that dies in the handler leaves messages and lease."""
    async with floor.Floor(tmp_path) as open_floor:
        queue = floor_queue.FloorQueue(open_floor)
        await asyncio.gather(*map(queue.send, make_events(3)))
        inside = asyncio.Event()

        async def handle(bodies: list[Any]) -> None:
            inside.set()
            await asyncio.Event().wait()

        consuming = asyncio.create_task(queue.consume(2, handle))
        await inside.wait()
        assert open_floor.log.get(b"l/%08d" % 1) is not None
        consuming.cancel()

    assert [key for key in read_all(tmp_path) if key.startswith(b"q/")] == [b"q/%08d" % n for n in range(3)]


async def test_holdfast_leaves_no_message(tmp_path: Path) -> None:
    """The queue is empty when the sample is complete."""
    await holdfast_queue.queue_both(tmp_path, 25, 3, 4, 2)

    async with Runtime(tmp_path) as rt:
        stats = await rt.get(Queue, holdfast_queue.NAME).stats()
        assert (stats.depth, stats.acked, stats.dead) == (0, 25, 0)


@pytest.mark.parametrize("side", [floor_alarms, holdfast_alarms])
async def test_every_alarm_fires_once_and_not_early(
    tmp_path: Path, side: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a lateness, and none is negative."""
    monkeypatch.setattr(side, "lead_seconds", lambda alarms: 2.0)

    sample = await side.alarms(tmp_path, 100, 50)

    assert len(sample.latencies) == 100
    assert sample.latencies[0] >= 0
    if side is floor_alarms:
        assert [key[:2] for key in read_all(tmp_path)] == [b"o/"] * 100


@pytest.mark.parametrize("side", [floor_recovery, holdfast_recovery])
async def test_runs_of_a_killed_process_are_done_by_another(tmp_path: Path, side: Any) -> None:
    """All of them, each with its time since the process was started."""
    sample = await side.recovery(tmp_path, 20)

    assert (sample.units, len(sample.latencies)) == (20, 20)
    assert 0 < sample.latencies[0] <= sample.seconds == sample.latencies[-1]
    if side is floor_recovery:
        heads = [value for key, value in read_all(tmp_path).items() if key.startswith(b"r/")]
        assert [(head["status"], head["result"]) for head in heads] == [("complete", 6)] * 20


def test_a_process_that_ends_too_early_is_no_recovery() -> None:
    """Nothing is measured of it."""
    with pytest.raises(RuntimeError, match="ended before its runs"):
        measure_recovery(["true"], ["true"], 1)


def test_growth_measures_each_size_on_both_sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows behind each size, the folder's size and its opening, and a verdict over the largest size."""
    monkeypatch.setattr(growth, "FIRST_SIZE", 20)
    monkeypatch.setattr(growth, "WINDOW_EVENTS", 10)
    monkeypatch.setattr(growth, "WINDOWS", 2)

    results, lines = growth.measure_growth(
        60, [FLOOR, HOLDFAST], tmp_path, asyncio.new_event_loop, lambda text: None
    )

    assert [result.case.growth for result in results] == [("100 in flight", 20), ("100 in flight", 60)]
    assert all(len(result.samples[side]) == 2 for result in results for side in (FLOOR, HOLDFAST))
    assert len(lines) == 2
    for repetition in lines:
        assert [line.met is None for line in repetition] == [True, True, False]
        assert repetition[0].figures["disk B/event"] > 0
        assert 0 < repetition[0].figures["open to turn ms"] < repetition[0].figures["start to turn ms"]
    assert list(tmp_path.iterdir()) == []


def test_growth_sizes_are_tenfolds_and_what_was_asked_for() -> None:
    """The default run stays short, a million is asked for."""
    assert growth.sizes_up_to(1_000) == [1_000]
    assert growth.sizes_up_to(30_000) == [1_000, 10_000, 30_000]
    assert growth.sizes_up_to(1_000_000) == [1_000, 10_000, 100_000, 1_000_000]
    assert parse_options([]).events == 30_000
    with pytest.raises(SystemExit):
        parse_options(["--events", "10"])


def test_a_slow_disk_is_a_case_of_its_own() -> None:
    """A case adds to a sync, on top of what the command line adds, and has fewer items where it is slow."""
    cases = make_cases("slow-disk", Sizes(False, 0.0))

    assert [case.slow_sync_seconds for case in cases] == [0.0] * 3 + [0.002] * 3 + [0.008] * 3
    assert cases[-2].arguments[2] < cases[1].arguments[2]
