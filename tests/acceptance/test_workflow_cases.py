"""Acceptance cases of workflows, by their numbers: what a user of durable workflows may take for granted."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holdfast import Retry, RunFailed, Runtime, StepError, Workflow
from holdfast.actors.errors import InvalidRunId, RunExists
from holdfast.runtime.clock import ManualClock
from holdfast.testing import Simulation, simulate
from tests.actors.workflow.support import Folder, pass_time, settle, soon, until, until_status

SEEN: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    one = Folder(tmp_path / "data", ManualClock())
    yield one
    await one.end()


async def mark(what: str) -> str:
    SEEN.append(what)
    return what


async def fails(what: str) -> None:
    SEEN.append(what)
    raise OSError(what)


def test_ac_47_steps_before_a_crash_are_not_called_again() -> None:
    """Three steps, killed after the second was recorded: the third is called, the output is the same."""

    class Three(Workflow):
        async def run(self) -> list[str]:
            return [await self.step(mark, name, name=name) for name in ("one", "two", "three")]

    with simulate() as sim:
        sim.crash_at("step", step="two", when="after")
        sim.crash_at("commit", 4, "after")
        run = sim.start(Three, id="t")
        assert sim.result(run) == ["one", "two", "three"]
        assert sim.reran == []
        assert sim.effects("three") == 1


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [("exponential", [10, 20, 40, 80]), ("linear", [10, 20, 30, 40]), ("constant", [10, 10, 10, 10])],
)
def test_ac_49_waits_between_attempts(backoff: str, waits: list[float]) -> None:
    """A delay of 10 s, four failures."""
    times: list[float] = []

    class Tries(Workflow):
        retry = Retry(4, 10.0, backoff, jitter=0)  # type: ignore[arg-type]

        async def run(self) -> None:
            await self.step(self.attempt)

        async def attempt(self) -> None:
            times.append(SIM[0].now)
            raise OSError("again")

    with simulate() as sim:
        SIM[:] = [sim]
        with pytest.raises(RunFailed):
            sim.result(sim.start(Tries, id="t"))
    assert [round(b - a, 3) for a, b in itertools.pairwise(times)] == waits


SIM: list[Simulation] = []


async def test_ac_51_a_late_result_changes_nothing(folder: Folder) -> None:
    """An attempt past its timeout failed, is retried, and what it returns later is ignored."""
    gates = [asyncio.Event(), asyncio.Event()]

    async def slow() -> int:
        n = len(SEEN)
        SEEN.append("attempt")
        try:
            await gates[n].wait()
        except asyncio.CancelledError:
            await gates[n].wait()  # it refuses to end
        return n

    class Slow(Workflow):
        retry = Retry(1, 1.0, jitter=0)

        async def run(self) -> int:
            return await self.step(slow, timeout="5s")

    rt = await folder.open()
    run = await rt.start(Slow, id="s")
    await until(lambda: len(SEEN) == 1)
    await pass_time(rt, folder.clock, 7)
    await until(lambda: len(SEEN) == 2)
    gates[0].set()
    await settle(rt)
    assert await run.status() == "running"
    gates[1].set()
    assert await soon(run.result()) == 1


@pytest.mark.parametrize(("down_seconds", "left_seconds"), [(40 * 60, 20 * 60), (2 * 3600, 0)])
@pytest.mark.parametrize("until_a_time", [False, True])
async def test_ac_53_a_sleep_ends_at_its_original_time(
    folder: Folder, down_seconds: int, left_seconds: int, until_a_time: bool
) -> None:
    """An hour of sleep, the process down for 40 minutes of it, or for two hours; also until now() + 1 h."""

    class Sleeps(Workflow):
        async def run(self, until_a_time: bool) -> datetime:
            if until_a_time:
                await self.sleep_until(self.now() + timedelta(hours=1))
            else:
                await self.sleep("1h")
            return self.now()

    rt = await folder.open()
    begin_ms = folder.clock.now_ms()
    run = await rt.start(Sleeps, until_a_time, id="s")
    await until_status(run, "waiting")
    await folder.crash()
    folder.clock.advance(down_seconds)
    rt = await folder.open()
    await pass_time(rt, folder.clock, max(0, left_seconds - 1), step=300)
    if left_seconds:
        assert await rt.run(Sleeps, "s").status() == "waiting"
    await pass_time(rt, folder.clock, 2)
    ended = await soon(rt.run(Sleeps, "s").result())
    assert ended >= datetime.fromtimestamp(begin_ms / 1000 + 3600, UTC)
    if left_seconds:
        assert ended == datetime.fromtimestamp(begin_ms / 1000 + 3600, UTC)


def test_ac_55_a_wait_that_timed_out_takes_no_event() -> None:
    """Timed out and caught: an event that comes then is the second wait's."""

    class Waits(Workflow):
        async def run(self) -> object:
            with pytest.raises(TimeoutError):
                await self.wait("go", timeout=10)
            return (await self.wait("go")).payload

    with simulate() as sim:
        run = sim.start(Waits, id="w")
        sim.advance(11)
        sim.send_event(run, "go", 7)
        assert sim.result(run) == 7


async def test_ac_57_ids(folder: Folder) -> None:
    """A used id is refused and the run unharmed; a batch skips it; bad ids are refused."""

    class Echo(Workflow):
        async def run(self, what: str) -> str:
            return what

    rt = await folder.open()
    first = await rt.start(Echo, "first", id="a")
    with pytest.raises(RunExists):
        await rt.start(Echo, "second", id="a")
    assert await soon(first.result()) == "first"
    made = await rt.start_many(Echo, [("a", "again"), ("b", "b")])
    assert [run.id for run in made] == ["b"]
    for bad in ("", "with blank", "x" * 201, "new\nline"):
        with pytest.raises(InvalidRunId):
            await rt.start(Echo, "x", id=bad)


async def test_ac_59_pause(folder: Folder) -> None:
    """The step in progress ends: pausing, then paused, and no other begins; ten minutes left stay ten."""
    gate = asyncio.Event()

    async def held() -> None:
        SEEN.append("held")
        await gate.wait()

    class Works(Workflow):
        async def run(self) -> str:
            await self.step(held)
            await self.step(mark, "next")
            await self.sleep("10m")
            return "done"

    rt = await folder.open()
    run = await rt.start(Works, id="w")
    await until(lambda: SEEN == ["held"])
    await run.pause()
    assert await run.status() == "pausing"
    gate.set()
    assert await until_status(run, "paused") == "paused"
    assert SEEN == ["held"]
    await run.resume()
    await until_status(run, "waiting")
    await run.pause()
    await pass_time(rt, folder.clock, 3600, step=600)
    await run.resume()
    await pass_time(rt, folder.clock, 598, step=299)
    assert await run.status() == "waiting"
    await pass_time(rt, folder.clock, 4)
    assert await soon(run.result()) == "done"


async def test_ac_61_rollback(folder: Folder) -> None:
    """A and B are undone in reverse, with their outputs; after a failing undo of B, A's is not run."""

    async def undo(output: str) -> None:
        SEEN.append(f"undo {output}")
        if output == BROKEN[0]:
            raise OSError("can't")

    class Saga(Workflow):
        retry = Retry(0)

        async def run(self, ends_well: bool) -> str:
            await self.step(mark, "A", name="A", undo=undo)
            await self.step(mark, "B", name="B", undo=undo)
            if not ends_well:
                await self.step(fails, "C")
            return "well"

    BROKEN = [""]
    rt = await folder.open()
    assert await soon((await rt.start(Saga, True, id=1)).result()) == "well"
    assert SEEN == ["A", "B"]
    SEEN.clear()
    with pytest.raises(RunFailed):
        await soon((await rt.start(Saga, False, id=2)).result())
    assert SEEN == ["A", "B", "C", "undo B", "undo A"]
    SEEN.clear()
    BROKEN[0] = "B"
    with pytest.raises(RunFailed):
        await soon((await rt.start(Saga, False, id=3)).result())
    assert SEEN == ["A", "B", "C", "undo B"]


async def test_ac_63_places(folder: Folder) -> None:
    """Two places, five runs: three are queued; one that sleeps gives its place; a woken one comes first."""

    class Naps(Workflow):
        async def run(self, n: int) -> int:
            try:
                await self.step(gated, n)
            except StepError:
                pass
            await self.sleep("1m")
            SEEN.append(f"woke {n}")
            await self.step(gated, n + 100)
            return n

    gates: dict[int, asyncio.Event] = {}

    async def gated(n: int) -> None:
        SEEN.append(str(n))
        await gates.setdefault(n, asyncio.Event()).wait()

    rt: Runtime = await folder.open(max_running=2)
    runs = [await rt.start(Naps, n, id=n) for n in range(5)]
    await until(lambda: SEEN == ["0", "1"])
    assert [await run.status() for run in runs] == ["running", "running", "queued", "queued", "queued"]
    gates.setdefault(0, asyncio.Event()).set()
    await until(lambda: SEEN[2:] == ["2"])
    assert await until_status(runs[0], "waiting") == "waiting"
    await pass_time(rt, folder.clock, 61, step=30.5)
    assert await runs[0].status() == "queued"
    gates.setdefault(1, asyncio.Event()).set()
    await until(lambda: "woke 0" in SEEN)
    assert SEEN[3] == "woke 0"
    assert await runs[3].status() == "queued"
