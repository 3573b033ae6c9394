"""The floor does honest work: what it acknowledges is on disk, once, and exact."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest

from bench import floor
from bench.workload import Sample, make_events

CHECKOUT = Path(__file__).parent.parent.parent


def read_all(folder: Path) -> dict[bytes, Any]:
    """Everything in a closed folder, each checksum looked at."""
    with lmdb.open(str(folder), readonly=True, lock=False, lib_version=0) as env, env.begin() as transaction:
        return {key: floor.unseal(value) for key, value in transaction.cursor()}


def under(prefix: bytes, found: dict[bytes, Any]) -> dict[bytes, Any]:
    """The part of ``found`` below ``prefix``."""
    return {key: value for key, value in found.items() if key.startswith(prefix)}


@pytest.mark.parametrize("workload", [floor.pipeline, floor.pipeline_by_calls])
@pytest.mark.parametrize("in_flight", [1, 7, 50])
async def test_pipeline_stores_every_event_once(
    tmp_path: Path, in_flight: int, workload: Callable[[Path, int, int], Awaitable[Sample]]
) -> None:
    """Each event has one row, a complete run and three checkpoints; both counters are exact; no reply to a
    step's call is left.
    """
    events = make_events(50)

    sample = await workload(tmp_path, len(events), in_flight)

    found = read_all(tmp_path)
    assert set(under(b"e/", found)) == {floor.row_key(event.event_id) for event in events}
    assert [head["status"] for head in under(b"r/", found).values()] == ["complete"] * len(events)
    assert len(under(b"j/", found)) == 3 * len(events)
    assert not under(b"p/", found)
    assert found[floor.EVENTS_COUNTER] == len(events)
    assert found[floor.AMOUNT_COUNTER] == sum(event.amount for event in events)
    assert floor.LAST_EVENT_STAMP in found
    assert (sample.units, len(sample.latencies)) == (len(events), len(events))


async def test_pipeline_by_calls_waits_four_times_per_run(tmp_path: Path) -> None:
    """One run at a time cannot share commits, so each run costs four of them."""
    sample = await floor.pipeline_by_calls(tmp_path, 5, 1)

    assert sample.counts["commits"] == 4 * 5


async def test_a_step_that_calls_an_actor_waits_twice(tmp_path: Path) -> None:
    """For the reply to its body, and for its checkpoint; two of the three steps call one."""
    sample = await floor.pipeline(tmp_path, 5, 1)

    assert sample.counts["commits"] == (4 + 2) * 5


async def test_steps_checkpoints_every_step(tmp_path: Path) -> None:
    """Every step of every run has a checkpoint, and the result rests on all of them."""
    sample = await floor.steps(tmp_path, runs=6, steps=4, in_flight=3)

    found = read_all(tmp_path)
    assert sorted(under(b"j/", found).values()) == sorted([1, 2, 3, 4] * 6)
    assert [head["result"] for head in under(b"r/", found).values()] == [1 + 2 + 3 + 4] * 6
    assert sample.units == 6 * 4


async def test_counter_is_exact(tmp_path: Path) -> None:
    """No increment is lost or doubled, whoever called."""
    await floor.counter(tmp_path, keys=3, callers=10, calls=300)

    assert list(read_all(tmp_path).values()) == [100, 100, 100]


async def test_counter_goes_on_after_reopening(tmp_path: Path) -> None:
    """A counter starts where the folder left it."""
    await floor.counter(tmp_path, keys=1, callers=4, calls=30)
    await floor.counter(tmp_path, keys=1, callers=4, calls=30)

    assert list(read_all(tmp_path).values()) == [60]


async def test_commit_puts_every_value(tmp_path: Path) -> None:
    """Each write lies under a key of its own, whole."""
    await floor.commit(tmp_path, writers=5, writes=40, value_bytes=100)

    assert list(read_all(tmp_path).values()) == [bytes(100)] * 40


async def test_failed_turn_writes_nothing(tmp_path: Path) -> None:
    """What a turn staged before it raised is neither on disk nor in memory."""
    key = floor.counter_key("x")
    async with floor.Floor(tmp_path) as open_floor:

        def increment_and_fail() -> None:
            open_floor.increment(key)
            raise RuntimeError("after the write")

        await open_floor.turn(open_floor.increment, key)
        with pytest.raises(RuntimeError, match="after the write"):
            open_floor.turn(increment_and_fail)
        assert open_floor.count(key) == 1

    assert read_all(tmp_path) == {key: 1}


async def test_a_turn_that_cannot_be_encoded_writes_nothing(tmp_path: Path) -> None:
    """A value without an encoding fails its turn, with all that the turn wrote beside it."""
    key = floor.counter_key("x")
    async with floor.Floor(tmp_path) as open_floor:

        def stage_both() -> None:
            open_floor.increment(key)
            floor.stage(b"w/1", object())

        with pytest.raises(TypeError):
            open_floor.turn(stage_both)
        assert open_floor.count(key) == 0

    assert read_all(tmp_path) == {}


async def test_a_run_starts_once(tmp_path: Path) -> None:
    """A second start is refused, whether the first is staged, or on disk."""
    async with floor.Floor(tmp_path) as open_floor:
        started = open_floor.turn(floor.start_run, open_floor, "w", "a", None)
        with pytest.raises(ValueError, match="started before"):
            open_floor.turn(floor.start_run, open_floor, "w", "a", None)
        await started
        with pytest.raises(ValueError, match="started before"):
            open_floor.turn(floor.start_run, open_floor, "w", "a", None)


async def test_a_stored_event_is_not_stored_again(tmp_path: Path) -> None:
    """An event whose row is there already keeps that row, and its receipt says so."""
    event = make_events(1)[0]
    async with floor.Floor(tmp_path) as open_floor:
        await open_floor.turn(floor.stage, floor.row_key(event.event_id), "stored earlier")
        receipt = await floor.PipelineRun(open_floor, event).go()

    assert receipt.stored is False
    assert read_all(tmp_path)[floor.row_key(event.event_id)] == "stored earlier"


async def test_turns_before_a_commit_share_it(tmp_path: Path) -> None:
    """Turns that run before the writer is handed a batch wait for one future and one commit."""
    async with floor.Floor(tmp_path) as open_floor:
        durable = {open_floor.turn(floor.stage, b"w/%d" % n, n) for n in range(10)}
        assert len(durable) == 1
        await durable.pop()
        assert open_floor.log.commits == 1

    assert len(read_all(tmp_path)) == 10


class FullDisk:
    """Stands where LMDB's environment stands; every commit fails."""

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env

    def close(self) -> None:
        self._env.close()

    def begin(self, write: bool = False) -> Any:
        if write:
            raise lmdb.DiskError("no space")
        return self._env.begin()


async def test_a_failed_commit_is_not_acknowledged(tmp_path: Path) -> None:
    """Its waiters get the error, and so does everybody after them."""
    async with floor.Floor(tmp_path) as open_floor:
        await open_floor.turn(floor.stage, b"w/1", 1)
        open_floor.log._env = FullDisk(open_floor.log._env)  # type: ignore[assignment]

        with pytest.raises(lmdb.DiskError, match="no space"):
            await open_floor.turn(floor.stage, b"w/2", 2)
        with pytest.raises(lmdb.DiskError, match="no space"):
            open_floor.turn(floor.stage, b"w/3", 3)

    assert read_all(tmp_path) == {b"w/1": 1}


async def test_closing_waits_for_what_was_handed_in(tmp_path: Path) -> None:
    """A turn nobody waited for is on disk when the folder is closed."""
    async with floor.Floor(tmp_path) as open_floor:
        open_floor.turn(floor.stage, b"w/1", 1)
        await asyncio.sleep(0)
        open_floor.turn(floor.stage, b"w/2", 2)

    assert read_all(tmp_path) == {b"w/1": 1, b"w/2": 2}


async def test_slow_disk_sleeps_two_syncs_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow disk costs twice its delay for each commit, however many writes are in it."""
    slept: list[float] = []
    monkeypatch.setattr("bench.floor.time.sleep", slept.append)

    sample = await floor.commit(tmp_path, 4, 12, 10, slow_sync_seconds=3.0)

    assert slept == [6.0] * sample.counts["commits"]


def test_a_flipped_bit_is_noticed() -> None:
    """A value whose bytes changed on disk is not returned."""
    data = bytearray(floor.seal({"a": 1}))
    data[-1] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        floor.unseal(bytes(data))


WRITE_AND_TELL = """
import asyncio, pathlib, sys
from bench import floor

async def main():
    async with floor.Floor(pathlib.Path(sys.argv[1])) as open_floor:
        async def write(writer):
            number = 0
            while True:
                await open_floor.turn(floor.stage, b"w/%d/%d" % (writer, number), number)
                print(writer, number, flush=True)
                number += 1
        await asyncio.gather(*map(write, range(4)))

asyncio.run(main())
"""


def test_what_was_acknowledged_survives_kill_nine(tmp_path: Path) -> None:
    """Every write that was told before the process was killed is there afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_TELL, str(tmp_path)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(200)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().splitlines(keepends=True)
    process.stdout.close()
    process.wait()

    found = read_all(tmp_path)
    whole = [line.split() for line in told if line.endswith("\n")]
    assert len(whole) >= 200
    assert {b"w/%d/%d" % (int(writer), int(number)) for writer, number in whole} <= set(found)
