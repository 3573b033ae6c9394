"""actors/actions/built_in.py: log_event, emit, notify, sleep, approve."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from holdfast import CallerError, Node, Retry, Run, Runtime, Workflow, run_graph
from holdfast.actions import Approval, Notification, Notifier, approve, emit, log_event, notify, sleep
from holdfast.testing import simulate


class Post(Notifier):
    """Delivers at the second try."""

    def __init__(self) -> None:
        self.tried: list[Notification] = []

    async def notify(self, notification: Notification) -> None:
        self.tried.append(notification)
        if len(self.tried) == 1:
            raise ConnectionError("the post is closed")


async def test_log_event_writes_a_line_with_the_run(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a step, so once; fields of its own are one field."""

    class Logs(Workflow):
        async def run(self) -> None:
            await self.run_action(log_event, "paid", "warning", fields={"cents": 3})

    async with Runtime(folder) as rt:
        await (await rt.start(Logs, id="l", tenant="acme", correlation_id="c")).result()
    (line,) = [record for record in caplog.records if record.name == "holdfast.action"]
    told = vars(line)
    assert (line.levelno, line.getMessage()) == (logging.WARNING, "paid")
    assert (told["run_id"], told["tenant"], told["correlation_id"]) == ("Logs/l", "acme", "c")
    assert (told["step"], told["action"], told["fields"]) == ("log_event", "log_event", {"cents": 3})


async def test_notify_goes_through_the_notifier_in_deps(folder: Path) -> None:
    """With the same key in each attempt."""

    class Tells(Workflow):
        retry = Retry(1, "1ms")

        async def run(self) -> None:
            await self.run_action(notify, "ann", "your parcel is there", subject="parcel")

    post = Post()
    async with Runtime(folder, deps=[post]) as rt:
        await (await rt.start(Tells, tenant="acme")).result()
    first, second = post.tried
    assert first == second
    assert (first.to, first.text, first.subject, first.tenant) == (
        "ann",
        "your parcel is there",
        "parcel",
        "acme",
    )
    assert "#notify#1" in first.idempotency_key


def test_sleep_in_a_run_is_the_run_s_own() -> None:
    """Durable, and no step."""

    class Sleeps(Workflow):
        async def run(self) -> float:
            before = self.now()
            await self.run_action(sleep, "1h")
            await self.actions.sleep(duration=1800)
            return (self.now() - before).total_seconds()

    with simulate() as sim:
        run = sim.start(Sleeps)
        sim.advance("30m")
        sim.crash()
        assert sim.result(run) == 5400
        assert sim.bodies_returned() == frozenset()


def test_approve_waits_for_somebody() -> None:
    """By subject, with who it was and what they said; over a crash, and with a timeout."""

    class Asks(Workflow):
        async def run(self) -> list[str]:
            chair = await self.run_action(approve, "chair", None)
            desk = await self.actions.approve(subject="desk", timeout="1h")
            assert isinstance(desk, Approval)
            said = [f"{one.approved} {one.by} {one.note}" for one in (chair, desk)]
            try:
                await self.run_action(approve, "lamp", "1h")
            except TimeoutError:
                said.append("nobody")
            return said

    with simulate() as sim:
        run = sim.start(Asks)
        sim.send_event(run, "reject desk", "too dear", user="bob")
        sim.crash()
        sim.send_event(run, "approve chair", user="ann")
        sim.advance("2h")
        assert sim.result(run) == ["True ann ", "False bob too dear", "nobody"]


def test_emit_is_the_run_s_own() -> None:
    """Called in run(), and as a node of a graph; told once, whatever crashes."""

    class Emits(Workflow):
        async def run(self) -> bool:
            await self.run_action(emit, "began", 1)
            (outcome,) = await run_graph(self, [Node("half", emit, {"name": "half", "data": [2]})])
            await self.sleep("1h")
            return outcome.success

    with simulate() as sim:
        run = sim.start(Emits, id="e")
        sim.advance("1m")
        sim.crash()
        assert sim.result(run) is True
        assert sim.bodies_returned() == frozenset()
        told = sim.run(lambda: all_events(sim.runtime.run(Emits, "e")))
        assert told == [("began", 1), ("half", [2])]


async def all_events(run: Run[bool]) -> list[tuple[str, object]]:
    """What a run told."""
    return [(event.name, event.data) async for event in run.events()]


async def test_outside_of_runs(folder: Path) -> None:
    """sleep waits, emit says why it can't."""
    await sleep(0)
    with pytest.raises(CallerError, match=r"emit\('began'\): only a run has followers"):
        await emit("began", None)
    async with Runtime(folder) as rt:
        with pytest.raises(CallerError, match=r"rt.deps holds no Notifier"):
            await rt.actions.execute("notify", {"to": "ann", "text": "hello"})
