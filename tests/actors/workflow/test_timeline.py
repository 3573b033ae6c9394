"""actors/workflow/timeline.py: a run as bars on its line of time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast import Retry, Run, RunFailed, Runtime, Workflow
from holdfast.actors.workflow.timeline import Span, Timeline, timeline
from holdfast.runtime.clock import ManualClock
from tests.actors.workflow.support import play, settle, until_status

GOES: list[bool] = []


async def line(rt: Runtime, run: Run[Any]) -> Timeline:
    return await timeline(rt.engine, run.ref, await run.history(), rt.clock.now_ms())


def span(found: Timeline, name: str) -> Span:
    return next(one for one in found.spans if one.name == name)


async def barred(name: str) -> str:
    if not GOES:
        raise OSError("not yet")
    return name


class LineOfTime(Workflow):
    """Two steps side by side behind a sleep, then an event."""

    retry = Retry(3, "10s", backoff="constant", jitter=0)

    async def run(self) -> str:
        await self.sleep("5s")
        await asyncio.gather(self.step(barred, "a", name="first"), self.step(barred, "b", name="second"))
        await self.wait("go", timeout="1h")
        return "done"


async def test_bars_begin_when_run_asked(rt: Runtime, clock: ManualClock) -> None:
    """Steps side by side begin together, a sleep when it was asked for, a wait behind both."""
    GOES.clear()
    run = await rt.start(LineOfTime, id="l")
    await until_status(run, "waiting")
    begin_ms = clock.now_ms()
    [sleep] = (await line(rt, run)).spans
    assert (sleep.kind, sleep.begin_ms, sleep.end_ms, sleep.due_ms) == (
        "sleep",
        begin_ms,
        None,
        begin_ms + 5_000,
    )
    clock.advance(5)
    await until_status(run, "retrying")
    found = await line(rt, run)
    for name in ("first", "second"):
        one = span(found, name)
        assert (one.status, one.begin_ms, one.due_ms) == ("retrying", begin_ms + 5_000, begin_ms + 15_000)
        assert one.attempts[0].end_ms == begin_ms + 5_000
        assert str(one.attempts[0].error) == "OSError: not yet"
    GOES.append(True)
    clock.advance(10)
    await until_status(run, "waiting")
    await settle(rt)
    found = await line(rt, run)
    assert [one.kind for one in found.spans] == ["sleep", "step", "step", "wait"]
    assert [len(one.attempts) for one in found.spans] == [0, 2, 2, 0]
    assert span(found, "second").attempts[1].begin_ms == begin_ms + 15_000
    wait = span(found, "go")
    assert (wait.status, wait.begin_ms, wait.due_ms) == (
        "waiting",
        begin_ms + 15_000,
        begin_ms + 15_000 + 3_600_000,
    )
    await run.send("go", user="ann")
    assert await play(rt, clock, run) == "done"
    found = await line(rt, run)
    assert found.replayed
    assert [mark.text for mark in found.marks] == ["event go from ann"]
    assert {one.status for one in found.spans} == {"complete"}
    assert found.end_ms is not None


class LineOfParent(Workflow):
    """A child."""

    async def run(self) -> str:
        return await self.child(LineOfChild)


class LineOfChild(Workflow):
    """It waits."""

    async def run(self) -> str:
        await self.wait("go")
        return "x"


async def test_a_child_is_a_bar_that_leads_to_it(rt: Runtime) -> None:
    """The bar of a child has its address; what the run's end leaves open is given up."""
    run = await rt.start(LineOfParent, id="p")
    await until_status(run, "waiting")
    [child] = (await line(rt, run)).spans
    assert (child.kind, child.status, str(child.child)) == ("child", "waiting", "LineOfChild/p/LineOfChild-1")
    await run.terminate()
    await settle(rt)
    [child] = (await line(rt, run)).spans
    assert (child.status, child.end_ms is not None) == ("given up", True)


class LineOfFailure(Workflow):
    """One step that fails for good."""

    retry = Retry(0)

    async def run(self) -> str:
        return await self.step(barred, "x")


async def test_a_redriven_step_has_attempts_of_both_times(rt: Runtime, clock: ManualClock) -> None:
    """A failed step that was redriven goes on as the same bar."""
    GOES.clear()
    run = await rt.start(LineOfFailure, id="f")
    try:
        await run.result()
    except RunFailed:
        pass
    clock.advance(60)
    GOES.append(True)
    await run.redrive()
    assert await run.result() == "x"
    [step] = (await line(rt, run)).spans
    assert step.status == "complete"
    assert [one.error is None for one in step.attempts] == [False, True]
    assert step.attempts[1].begin_ms == step.attempts[0].begin_ms + 60_000


async def test_without_a_replay_bars_begin_with_the_outcome_before(
    rt: Runtime, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that is too long to be replayed for it is drawn from its records alone."""
    GOES.append(True)
    run = await rt.start(LineOfTime, id="l")
    await run.send("go")
    await play(rt, clock, run)
    monkeypatch.setattr("holdfast.actors.workflow.timeline.MAX_REPLAYED_RECORDS", 1)
    found = await line(rt, run)
    assert not found.replayed
    assert [one.kind for one in found.spans] == ["sleep", "step", "step"]
    assert {one.status for one in found.spans} == {"complete"}
