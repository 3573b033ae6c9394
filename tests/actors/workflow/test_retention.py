"""Retention: ended runs are erased after their time, wholly, and nothing else is."""

from __future__ import annotations

import logging

import pytest

from holdfast import Fatal, Retry, RunFailed, Workflow
from holdfast.actors.errors import RunNotFound
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import InvalidActor
from holdfast.storage import layout
from holdfast.storage.check import check
from holdfast.storage.errors import CallerError
from holdfast.testing import simulate
from tests.actors.workflow.support import Folder, pass_time, soon, until_status


async def work(n: int) -> int:
    if n < 0:
        raise Fatal("negative")
    return n


class Kept(Workflow):
    """Kept for a day when complete, for a week when failed."""

    retry = Retry(0)
    retention = {"complete": "1d", "failed": "7d"}

    async def run(self, n: int) -> int:
        self.set_status("counting")
        self.emit("begun")
        self.data["n"] = n
        for one in range(n):
            await self.step(work, one)
        await self.step(work, n, name="last")
        if n == 2:
            await self.wait("go")
        return n


def own_rows(folder_rows: list[tuple[bytes, bytes]]) -> list[bytes]:
    """Keys that belong to runs."""
    kinds = (layout.DIRECTORY, layout.DATA, layout.FIELD_INDEX, layout.RUN_LABEL, layout.DUE)
    return [key for key, _ in folder_rows if key[:1] in kinds]


async def test_ended_runs_are_erased_after_their_time(folder: Folder, clock: ManualClock) -> None:
    """Each end has its own; what goes on stays; nothing is left of what went."""
    rt = await folder.open()
    done = await rt.start(Kept, 3, id="done", tenant="acme", tags={"a": "b"})
    await soon(done.result())
    failed = await rt.start(Kept, -1, id="failed")
    with pytest.raises(RunFailed):
        await soon(failed.result())
    waits = await rt.start(Kept, 2, id="waits")
    await until_status(waits, "waiting")
    await pass_time(rt, clock, 86_000, step=21_500)
    assert await done.status() == "complete"
    await pass_time(rt, clock, 800, step=200)
    with pytest.raises(RunNotFound):
        await done.status()
    assert rt.runs(tenant="acme") == []
    assert {one.id for one in rt.runs(Kept)} == {"failed", "waits"}
    await pass_time(rt, clock, 6 * 86_400, step=86_400)
    assert {one.id for one in rt.runs(Kept)} == {"waits"}
    await waits.send("go")
    await soon(waits.result())
    rt = await folder.reopen()
    await pass_time(rt, clock, 2 * 86_400, step=43_200)
    assert rt.runs() == []
    assert own_rows(rt.store.scan_prefix(b"")) == []
    await rt.close()
    assert check(folder.path) == []


async def test_a_run_of_that_id_can_be_started_again(folder: Folder, clock: ManualClock) -> None:
    """After the purge the id is free, and the new run is one of its own."""
    rt = await folder.open()
    await soon((await rt.start(Kept, 1, id="r")).result())
    await pass_time(rt, clock, 90_000, step=45_000)
    again = await rt.start(Kept, 3, id="r")
    assert await soon(again.result()) == 3
    assert len(await again.history()) == 8


async def test_what_begins_anew_is_not_purged(folder: Folder, clock: ManualClock) -> None:
    """Restarted and redriven runs have their time from their next end on."""
    rt = await folder.open()
    run = await rt.start(Kept, -1, id="r")
    with pytest.raises(RunFailed):
        await soon(run.result())
    await pass_time(rt, clock, 6 * 86_400, step=86_400)
    await run.redrive(input=2)
    await until_status(run, "waiting")
    await pass_time(rt, clock, 2 * 86_400, step=86_400)
    assert await run.status() == "waiting"
    await run.restart(input=2)
    await until_status(run, "waiting")
    await run.send("go")
    assert await soon(run.result()) == 2
    await pass_time(rt, clock, 2 * 86_400, step=86_400)
    assert rt.runs() == []


async def test_purge_by_hand_and_by_filter(folder: Folder, clock: ManualClock) -> None:
    """Only what has ended; the audit stays."""
    rt = await folder.open()
    for n in (0, 1, 3):
        await soon((await rt.start(Kept, n, id=n)).result())
    waits = await rt.start(Kept, 2, id="w")
    await until_status(waits, "waiting")
    with pytest.raises(CallerError, match="waiting; only a run that has ended"):
        await waits.purge()
    result = await rt.control("purge", rt.run_filter(Kept), by="ann")
    assert (result.matched, result.done) == (4, 3)
    await pass_time(rt, clock, 1)
    assert [one.id for one in rt.runs()] == ["w"]
    assert [(one.verb, one.target) for one in rt.audit()] == [
        ("purge", "Kept/3"),
        ("purge", "Kept/1"),
        ("purge", "Kept/0"),
    ]
    await rt.close()
    assert check(folder.path) == []


def test_a_purge_survives_a_crash_at_every_commit() -> None:
    """Slice after slice, whatever commit the process dies at: in the end nothing is left."""

    class Long(Workflow):
        retention = "1h"

        async def run(self) -> None:
            for n in range(2_500):
                self.data["n"] = n

    for n in range(1, 9):
        for when in ("before", "after"):
            with simulate() as sim:
                sim.start(Long, id="l")
                sim.crash_at("commit", n, when)
                sim.advance("2h")
                sim.run_until_idle()
                assert sim.runtime.runs() == []
                assert own_rows(sim.runtime.store.scan_prefix(b"")) == []


async def test_a_bad_retention_is_told(folder: Folder) -> None:
    """With what was expected."""

    class Bad(Workflow):
        retention = {"done": "1d"}

        async def run(self) -> None:
            """Nothing."""

    rt = await folder.open()
    with pytest.raises(InvalidActor, match="retention maps complete, failed, cancelled, terminated"):
        rt.workflow_type(Bad)


async def test_the_budget_of_steps_is_told_in_time(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    """At four fifths a line in the log, not again on replay; `steps_left` is for the run to look at."""

    class Loops(Workflow):
        max_steps = 10

        async def run(self) -> list[int]:
            left = [self.steps_left]
            for n in range(8):
                await self.step(work, n)
            left.append(self.steps_left)
            await self.wait("go")
            return left

    rt = await folder.open()
    with caplog.at_level(logging.WARNING):
        run = await rt.start(Loops, id="l")
        await until_status(run, "waiting")
        rt = await folder.reopen()
        run = rt.run(Loops, "l")
        await run.send("go")
        assert await soon(run.result()) == [10, 2]
    assert len([one for one in caplog.records if "max_steps=10" in one.getMessage()]) == 1
