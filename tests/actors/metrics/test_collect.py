"""What `rt.metrics()` tells is what happened."""

import asyncio
from pathlib import Path

import pytest

from holdfast import (
    Actor,
    Alarm,
    Counter,
    Limits,
    Overloaded,
    Queue,
    Retry,
    RunFailed,
    Runtime,
    WebSocketHub,
    Workflow,
    shared,
)
from holdfast.actors.hub.hub_socket import MAX_OUTBOX_FRAMES
from holdfast.actors.metrics.metrics import HubMetrics, MailboxMetrics
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import NotRunning
from tests.actors.workflow.support import until


class MetricsFails(Actor):
    async def fail(self) -> None:
        raise ValueError("no")

    @shared
    async def look(self) -> int:
        return 1


tries: list[int] = []


def third_time(number: int) -> int:
    tries.append(number)
    if len(tries) < 3:
        raise ValueError("not yet")
    return number


class MetricsRetried(Workflow):
    retry = Retry(2, delay=0)

    async def run(self, number: int) -> int:
        return await self.step(third_time, number)


class MetricsDoomed(Workflow):
    retry = Retry(0)

    async def run(self, number: int) -> int:
        tries.clear()
        return await self.step(third_time, number)


class MetricsSleeper(Workflow):
    async def run(self) -> None:
        await self.sleep("1h")


async def test_turns(tmp_path: Path) -> None:
    """Turns, those that raised, and shared calls are counted by type; one turn in 64 is timed."""
    async with Runtime(tmp_path / "data") as rt:
        for _ in range(128):
            await rt.get(Counter, "one").increment()
        with pytest.raises(ValueError, match="no"):
            await rt.get(MetricsFails, "one").fail()
        await rt.get(MetricsFails, "one").look()
        found = {one.type: one for one in rt.metrics().actors}
    assert (found["Counter"].turns, found["Counter"].failed_turns) == (128, 0)
    assert found["Counter"].turn_seconds.count == 2
    assert (found["MetricsFails"].turns, found["MetricsFails"].failed_turns) == (1, 1)
    assert found["MetricsFails"].shared_calls == 1


async def test_commits(tmp_path: Path) -> None:
    """Each durable commit is in each histogram, and its waiters are those that stood at the gate."""
    async with Runtime(tmp_path / "data") as rt:
        before = rt.metrics().commits
        for _ in range(3):
            await rt.get(Counter, "one").increment()
        commits = rt.metrics().commits
    assert commits.count - before.count >= 3
    assert commits.seconds.count == commits.puts.count == commits.bytes.count == commits.count
    assert commits.seconds.sum > 0
    assert commits.gate_waits - before.gate_waits == 3
    assert commits.failed == 0


async def test_steps_and_runs(tmp_path: Path) -> None:
    """Attempts, failures and retries are told by step; starts, ends and time by workflow."""
    tries.clear()
    async with Runtime(tmp_path / "data") as rt:
        assert await (await rt.start(MetricsRetried, 7)).result() == 7
        doomed = await rt.start(MetricsDoomed, 8)
        with pytest.raises(RunFailed):
            await doomed.result()
        metrics = rt.metrics()
    steps = {(one.workflow, one.step): one for one in metrics.steps}
    retried = steps["MetricsRetried", "third_time"]
    assert (retried.attempts, retried.failures, retried.retries) == (3, 2, 2)
    assert retried.seconds.count == 3
    failed = steps["MetricsDoomed", "third_time"]
    assert (failed.attempts, failed.failures, failed.retries) == (1, 1, 0)
    runs = {one.workflow: one for one in metrics.runs}
    assert (runs["MetricsRetried"].started, runs["MetricsRetried"].ended["complete"]) == (1, 1)
    assert runs["MetricsRetried"].seconds.count == 1
    assert (runs["MetricsDoomed"].ended["failed"], runs["MetricsDoomed"].now["failed"]) == (1, 1)


async def test_replay_counts_nothing(tmp_path: Path) -> None:
    """A run that is taken up again is no start, and a recorded step no attempt."""
    clock = ManualClock()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        await rt.start(MetricsSleeper, id="one")
        await rt.store.wait_durable(rt.store.newest)
    async with Runtime(tmp_path / "data", clock=clock, types=[MetricsSleeper]) as rt:
        await rt.run(MetricsSleeper, "one").info()
        (runs,) = [one for one in rt.metrics().runs if one.workflow == "MetricsSleeper"]
    assert (runs.started, sum(runs.now.values())) == (0, 1)


async def test_terminated(tmp_path: Path) -> None:
    """A run that is terminated where it sleeps counts as one that ended."""
    async with Runtime(tmp_path / "data", clock=ManualClock()) as rt:
        run = await rt.start(MetricsSleeper, id="one")
        await run.terminate()
        (runs,) = rt.metrics().runs
    assert runs.ended == {"complete": 0, "failed": 0, "cancelled": 0, "terminated": 1}
    assert runs.seconds.count == 1


async def test_queue(tmp_path: Path) -> None:
    """Queues are told as they are on disk."""
    async with Runtime(tmp_path / "data") as rt:
        await rt.get(Queue, "metrics-in").send_batch([1, 2, 3])
        (queue,) = rt.metrics().queues
    assert (queue.key, queue.depth, queue.sent, queue.dead) == ("metrics-in", 3, 3, 0)


async def test_only_while_open(tmp_path: Path) -> None:
    """A runtime that isn't open has none."""
    rt = Runtime(tmp_path / "data")
    with pytest.raises(NotRunning):
        rt.metrics()


class MetricsRings(Actor):
    async def ring(self, seconds: int) -> None:
        self.alarms.set(seconds, "ring")

    async def hold(self) -> None:
        await held.wait()

    async def on_alarm(self, alarm: Alarm) -> None:
        rings.append(alarm.name)
        if len(rings) == 1:
            raise ValueError("the first time")


held = asyncio.Event()
rings: list[str] = []


async def test_alarms(tmp_path: Path) -> None:
    """Alarms that fired, those that failed, and how late they were."""
    rings.clear()
    clock = ManualClock()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        await rt.get(MetricsRings, "a").ring(10)
        clock.advance(10)
        await until(lambda: rt.metrics().alarms.failed == 1)
        clock.advance(10)
        await until(lambda: rt.metrics().alarms.fired == 2)
        alarms = rt.metrics().alarms
    assert (alarms.failed, alarms.dead, alarms.lateness_seconds.count) == (1, 0, 2)


async def test_mailbox(tmp_path: Path) -> None:
    """Calls that wait, that waited, and that found the mailbox full."""
    held.clear()
    async with Runtime(tmp_path / "data", limits=Limits(max_mailbox=1)) as rt:
        ref = rt.get(MetricsRings, "a")
        calls = [asyncio.ensure_future(ref.hold()) for _ in range(3)]
        await until(calls[2].done)
        with pytest.raises(Overloaded):
            await calls[2]
        assert rt.metrics().mailboxes == MailboxMetrics(waiting=1, waits=1, refused=1)
        held.set()
        await asyncio.gather(*calls[:2])
        assert rt.metrics().mailboxes.waiting == 0


async def test_memory(tmp_path: Path) -> None:
    """Actors that were loaded, and that left since there were too many."""
    async with Runtime(tmp_path / "data", limits=Limits(max_active=2)) as rt:
        for key in range(10):
            await rt.get(Counter, key).increment()
        memory = rt.metrics().memory
    assert memory.loaded == 10
    assert memory.loaded - memory.evicted == memory.activations


async def test_hub(tmp_path: Path) -> None:
    """Clients that are connected, frames that they took, and those that were too slow."""
    async with Runtime(tmp_path / "data") as rt:
        hub = rt.get(WebSocketHub, "a")
        async with rt.sockets.connect(hub, topics={"t": None}) as socket:
            await hub.publish("t", 1)
            frames = await socket.next_frames() or []
            assert rt.metrics().hub == HubMetrics(sockets=1, frames=len(frames), cut_off=0)
            for _ in range(MAX_OUTBOX_FRAMES + 1):
                await hub.publish("t", 2)
            assert rt.metrics().hub.cut_off == 1
        assert rt.metrics().hub.sockets == 0


async def test_store(tmp_path: Path) -> None:
    """The room that there is."""
    async with Runtime(tmp_path / "data", quota_bytes=1 << 30) as rt:
        await rt.get(Counter, "a").increment()
        store = rt.metrics().store
    assert 0 < store.used_bytes < store.map_bytes
    assert store.quota_bytes == 1 << 30
    assert store.free_bytes > 0
