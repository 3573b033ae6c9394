"""Bindings: removing a message and starting its run are one commit, so each id runs exactly once."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from holdfast import Actor, Counter, Queue, Retry, Runtime, Workflow
from holdfast.runtime.clock import ManualClock
from holdfast.storage.errors import CallerError
from tests.actors.queue_support import (
    Child,
    CrashLog,
    Inbox,
    Keep,
    Order,
    advance,
    rest,
    runtime,
    until_crash,
)
from tests.runtime.support import FailingLog, HeldLog


class CountOrder(Workflow):
    """Counts its order: an actor call of run() takes effect exactly once."""

    async def run(self, order: Order) -> str:
        await self.runtime.get(Counter, order.order).increment(order.amount)
        return order.order


class Doors:
    """What holds steps until the test opens."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside = 0


class WaitAtDoor(Workflow):
    """Stays at work until the test lets it end."""

    async def run(self, order: Order) -> str:
        return await self.step(wait_at_door, order.order)


doors: Doors


async def wait_at_door(name: str) -> str:
    doors.inside += 1
    await doors.open.wait()
    return name


def order_id(_: str, order: Order) -> str:
    return order.order


def orders(*names: str) -> list[object]:
    return [Order(name) for name in names]


async def test_one_run_for_each_message(tmp_path: Path) -> None:
    """The run's id is the message's, its input the body, and the message is gone."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        ids = await queue.send_batch(orders("a", "b", "c"))
        rt.bind("q", Keep)
        await rest(rt)
        assert [await rt.run(Keep, id_).result() for id_ in ids] == ["a", "b", "c"]
        stats = await queue.stats()
        assert (stats.depth, stats.acked) == (0, 3)
        assert len(rt.runs(Keep)) == 3


async def test_messages_sent_while_it_is_bound(tmp_path: Path) -> None:
    """Each is started as it comes."""
    async with runtime(tmp_path) as rt:
        rt.bind("q", Keep, id=order_id)
        for name in ("a", "b"):
            await rt.get(Queue, "q").send(Order(name))
            await rest(rt)
            assert await rt.run(Keep, name).status() == "complete"


async def test_a_used_id_joins(tmp_path: Path) -> None:
    """Two messages with one id, in one batch, in two, or after a restart: one run."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        rt.bind("q", CountOrder, id=order_id)
        await queue.send_batch(orders("a", "a", "b"))
        await queue.send(Order("a"))
        await rest(rt)
    async with runtime(tmp_path) as rt:
        rt.bind("q", CountOrder, id=order_id)
        await rt.get(Queue, "q").send(Order("a"))
        await rest(rt)
        assert [await rt.get(Counter, name).get() for name in ("a", "b")] == [1, 1]
        assert (await rt.get(Queue, "q").stats()).acked == 5


async def test_the_start_and_the_removal_are_one_commit(tmp_path: Path) -> None:
    """One write set has the run's first record and the delete of the message."""
    log = HeldLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        await rt.get(Queue, "q").send(Order("a"))
        rt.workflow_type(Keep)
        await rest(rt)
        log.hold()
        rt.bind("q", Keep, id=order_id)
        await log.arrived()
        first = log.commits[0]
        assert any(value is None for value in first.values())
        assert any(value is not None and b"\xa5order\xa1a" in value for value in first.values())
        log.release()
        await rest(rt)
        assert await rt.run(Keep, "a").status() == "complete"


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "lost"])
async def test_a_crash_at_every_commit(tmp_path: Path, stored: bool) -> None:
    """Wherever the process ends: nothing that was sent is lost, and no order counts twice."""
    names = [f"o{n}" for n in range(7)]
    at = 0
    crashed = True
    while crashed:
        at += 1
        path, clock = tmp_path / str(at), ManualClock()
        sent: list[str] = []

        async def work(rt: Runtime, sent: list[str] = sent) -> None:
            queue = rt.get(Queue, "q")
            rt.bind("q", CountOrder, id=order_id, batch_size=2)
            for n in range(0, len(names), 2):
                await queue.send_batch([*orders(*names[n : n + 2])])
                sent.extend(names[n : n + 2])
            await rest(rt)

        crashed = await until_crash(work, path, CrashLog(at, stored=stored), clock)
        async with runtime(path, clock) as rt:
            rt.bind("q", CountOrder, id=order_id, batch_size=2)
            await rest(rt)
            counts = [await rt.get(Counter, name).get() for name in names]
            assert all(count == 1 for name, count in zip(names, counts, strict=True) if name in sent)
            assert max(counts) <= 1
            assert sum(counts) == (await rt.get(Queue, "q").stats()).acked == len(rt.runs(CountOrder))
            assert (await rt.get(Queue, "q").stats()).depth == 0
    assert at > 5


BINDING_CHILD = """
import asyncio, sys
from holdfast import Counter, Queue, Runtime
from tests.actors.test_queue_binding import CountOrder, order_id
from tests.actors.queue_support import Order
async def main():
    async with Runtime(sys.argv[1]) as rt:
        queue = rt.get(Queue, "q")
        rt.bind("q", CountOrder, id=order_id, batch_size=5)
        async def sender(k):
            n = int(sys.argv[2])
            while True:
                n += 1
                name = f"{k}.{n}"
                await queue.send(Order(name))
                print(name, flush=True)
        await asyncio.gather(*(sender(k) for k in range(10)))
asyncio.run(main())
"""


async def test_kill_nine_while_sending_and_starting(tmp_path: Path) -> None:
    """What was acknowledged counts exactly once after three lives; what was not, at most once."""
    sent: set[str] = set()
    for life in range(3):
        child = Child(BINDING_CHILD, tmp_path, life * 1_000_000)
        sent.update(child.line() for _ in range(60 + 40 * life))
        sent.update(child.kill()[:-1])
    async with runtime(tmp_path, ManualClock(time.time_ns() // 1_000_000)) as rt:
        rt.bind("q", CountOrder, id=order_id)
        await rest(rt)
        counted = {str(key): await rt.get(Counter, str(key)).get() for key in rt.keys(Counter, limit=100_000)}
        assert set(counted.values()) == {1}
        assert sent <= set(counted)
        assert len(counted) <= len(sent) + 10 * 3 + 3
        assert (await rt.get(Queue, "q").stats()).depth == 0


async def test_a_body_that_does_not_match_is_dead_at_once(tmp_path: Path) -> None:
    """Trying again would not mend it; the reason names the field, and the others start."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        await queue.send_batch([Order("a"), {"order": 5}, "text", Order("b")])
        rt.bind("q", Keep, id=order_id)
        await rest(rt)
        assert [await rt.run(Keep, name).status() for name in ("a", "b")] == ["complete", "complete"]
        first, second = await queue.dead()
        assert (first.attempts, second.attempts) == (1, 1)
        assert "Expected `str`, got `int` - at `$.order`" in first.error
        assert second.body == "text"
        assert (await queue.stats()).retried == 0


@pytest.mark.parametrize(
    "given", ["", "two words", "x" * 201, None, 1.5, ("a", ""), (), ("a", None), "\n", "é" * 200]
)
async def test_a_run_id_that_breaks_the_rules_is_dead_at_once(tmp_path: Path, given: object) -> None:
    """The message is kept with the reason, and the queue goes on."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        await queue.send_batch(orders("bad", "good"))
        rt.bind("q", Keep, id=lambda _, order: given if order.order == "bad" else "good")  # type: ignore[arg-type, return-value]
        await rest(rt)
        assert await rt.run(Keep, "good").status() == "complete"
        (dead,) = await queue.dead()
        assert (dead.attempts, dead.body) == (1, {"order": "bad", "amount": 1})
        assert dead.error.startswith(("InvalidRunId", "InvalidKey"))


async def test_ids_and_correlation_ids_from_the_message(tmp_path: Path) -> None:
    """A tuple may identify a run; the correlation id is the function's, or a new one."""
    async with runtime(tmp_path) as rt:
        await rt.get(Queue, "q").send_batch([Order("a"), Order("b", 2)], ids=["m1", "m2"])
        rt.bind(
            "q",
            Keep,
            id=lambda message, order: (message, order.order),
            correlation_id=lambda message, order: f"c-{message}" if order.amount == 1 else None,
        )
        await rest(rt)
        infos = [await rt.run(Keep, key).info() for key in (("m1", "a"), ("m2", "b"))]
        assert [info.id for info in infos] == ["m1/a", "m2/b"]
        assert infos[0].correlation_id == "c-m1"
        assert len(infos[1].correlation_id) == 32


async def test_a_failing_start_is_retried_then_dead(tmp_path: Path) -> None:
    """An exception of the `id` function, whatever it is, counts as an attempt; the others are not held up."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        tried: list[str] = []

        def run_id(_: str, order: Order) -> str:
            tried.append(order.order)
            if order.order == "bad":
                raise AttributeError("no customer yet")
            return order.order

        rt.bind("q", Keep, id=run_id, retry=Retry(2, 10, backoff="constant", jitter=0))
        await queue.send_batch(orders("bad", "good"))
        await rest(rt)
        assert tried == ["bad", "good"]
        await advance(rt, 10)
        await advance(rt, 9)
        assert tried == ["bad", "good", "bad"]
        await advance(rt, 1)
        (dead,) = await queue.dead()
        assert (dead.attempts, dead.error) == (3, "AttributeError: no customer yet")
        await queue.send(Order("later"))
        await rest(rt)
        assert await rt.run(Keep, "later").status() == "complete"


async def test_a_start_that_succeeds_in_the_end(tmp_path: Path) -> None:
    """A retried start is one run."""
    async with runtime(tmp_path) as rt:
        failures = iter([True, True, False])

        def run_id(_: str, order: Order) -> str:
            if next(failures):
                raise LookupError("not yet")
            return order.order

        rt.bind("q", CountOrder, id=run_id, retry=Retry(3, 0))
        await rt.get(Queue, "q").send(Order("a"))
        await rest(rt)
        assert await rt.get(Counter, "a").get() == 1
        stats = await rt.get(Queue, "q").stats()
        assert (stats.retried, stats.acked, stats.dead) == (2, 1, 0)


async def test_max_in_flight_holds_messages_back(tmp_path: Path) -> None:
    """No more runs are at work at a time; the others wait in the queue, not as runs."""
    global doors
    doors = Doors()
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        await queue.send_batch(orders(*(f"o{n}" for n in range(7))))
        rt.bind("q", WaitAtDoor, id=order_id, max_in_flight=3)
        await rest(rt)
        assert (doors.inside, (await queue.stats()).depth, len(rt.runs(WaitAtDoor))) == (3, 4, 3)
        doors.open.set()
        await rest(rt)
        assert ((await queue.stats()).depth, doors.inside) == (0, 7)


async def test_places_that_other_workflows_give_back_are_used(tmp_path: Path) -> None:
    """A runtime that is full with other runs lets the binding go on as soon as they end."""
    global doors
    doors = Doors()
    async with runtime(tmp_path, max_running=2) as rt:
        for name in ("x", "y"):
            await rt.start(WaitAtDoor, Order(name), id=name)
        await rest(rt)
        await rt.get(Queue, "q").send(Order("a"))
        rt.bind("q", Keep, id=order_id)
        await rest(rt)
        assert (await rt.get(Queue, "q").stats()).depth == 1
        doors.open.set()
        await rest(rt)
        assert await rt.run(Keep, "a").status() == "complete"


class OneAtATime(WaitAtDoor):
    """Only one run at a time."""

    name = "OneAtATime"
    max_running = 1


async def test_the_limit_of_the_workflow_holds_messages_back_too(tmp_path: Path) -> None:
    """Messages wait in the queue rather than as queued runs."""
    global doors
    doors = Doors()
    async with runtime(tmp_path) as rt:
        await rt.get(Queue, "q").send_batch(orders("a", "b", "c"))
        rt.bind("q", OneAtATime, id=order_id)
        await rest(rt)
        assert (doors.inside, len(rt.runs(OneAtATime)), (await rt.get(Queue, "q").stats()).depth) == (1, 1, 2)
        doors.open.set()
        await rest(rt)
        assert len(rt.runs(OneAtATime, status="complete")) == 3


async def test_max_wait_of_a_binding(tmp_path: Path) -> None:
    """A binding may gather batches too."""
    async with runtime(tmp_path) as rt:
        rt.bind("q", Keep, id=order_id, batch_size=3, max_wait=5)
        await rt.get(Queue, "q").send(Order("a"))
        await rest(rt)
        assert rt.runs(Keep) == []
        await advance(rt, 5)
        assert len(rt.runs(Keep)) == 1


async def test_a_failed_commit_starts_again(tmp_path: Path) -> None:
    """Start and removal are undone together; a moment later the message is started, once."""
    log = FailingLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        queue = rt.get(Queue, "q")
        await queue.send_batch(orders("a", "b"))
        rt.workflow_type(CountOrder)
        await rest(rt)
        log.fail_next = 2
        rt.bind("q", CountOrder, id=order_id)
        for _ in range(6):
            await advance(rt, 1)
        assert [await rt.get(Counter, name).get() for name in ("a", "b")] == [1, 1]
        stats = await queue.stats()
        assert (stats.depth, stats.acked, stats.retried) == (0, 2, 0)
        assert rt.engine.places.running == 0


async def test_a_binding_and_a_handler_share_a_queue(tmp_path: Path) -> None:
    """What one has the other doesn't get."""
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        rt.consume("q", inbox, body=Order, batch_size=3, max_wait=0)
        rt.bind("q", Keep, id=order_id, batch_size=3)
        names = [f"o{n}" for n in range(20)]
        await rt.get(Queue, "q").send_batch(orders(*names))
        await rest(rt)
        handled = [body.order for body in inbox.bodies if isinstance(body, Order)]
        started = [info.id for info in rt.runs(Keep)]
        assert sorted(handled + started) == sorted(names)


async def test_a_stopped_binding_starts_nothing_more(tmp_path: Path) -> None:
    """Its runs go on; the messages wait for the next."""
    async with runtime(tmp_path) as rt:
        consumer = rt.bind("q", Keep, id=order_id)
        await rt.get(Queue, "q").send(Order("a"))
        await rest(rt)
        await consumer.stop()
        await consumer.stop()
        await rt.get(Queue, "q").send(Order("b"))
        await rest(rt)
        assert [info.id for info in rt.runs(Keep)] == ["a"]
        rt.bind("q", Keep, id=order_id)
        await rest(rt)
        assert sorted(info.id for info in rt.runs(Keep)) == ["a", "b"]


async def test_options_of_a_binding(tmp_path: Path) -> None:
    """A limit below one is refused, and so is what is no workflow."""
    async with runtime(tmp_path) as rt:
        with pytest.raises(CallerError, match="max_in_flight"):
            rt.bind("q", Keep, max_in_flight=0)
        with pytest.raises(CallerError, match="not a workflow"):
            rt.bind("q", Counter)  # type: ignore[arg-type]


# -- AC-71 ---------------------------------------------------------------------------------------------------


class Shop(Actor):
    """Writes, then sends."""

    sold: int = 0

    async def sell(self, name: str) -> None:
        self.sold += 1
        self.storage.put("last", name)
        await self.runtime.get(Queue, "q").send(Order(name))


async def test_a_failed_commit_was_never_sent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """AC-71: an actor writes and then sends; when the commit fails, no run was ever started for it."""
    log = HeldLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        rt.bind("q", Keep, id=order_id)
        await rt.get(Shop, "s").sell("first")
        await rest(rt)
        log.hold()
        selling = asyncio.ensure_future(rt.get(Shop, "s").sell("second"))
        await log.arrived()
        with caplog.at_level(logging.CRITICAL):
            log.fail()
            log.release()
            (outcome,) = await asyncio.gather(selling, return_exceptions=True)
            await rest(rt)
        assert isinstance(outcome, Exception)
        await advance(rt, 5)
        assert [info.id for info in rt.runs(Keep)] == ["first"]
        stats = await rt.get(Queue, "q").stats()
        assert (stats.sent, stats.depth) == (1, 0)
        await rt.get(Shop, "s").sell("third")
        await rest(rt)
        assert sorted(info.id for info in rt.runs(Keep)) == ["first", "third"]


async def test_a_workflow_sends_once(tmp_path: Path) -> None:
    """A send by run() or by a step that is tried again is one message (P6)."""
    async with runtime(tmp_path) as rt:
        tries.clear()
        run = await rt.start(Sender, Order("a"), id="s")
        await rest(rt)
        for _ in range(3):
            await advance(rt, 60)
        assert await run.status() == "complete"
        inbox = Inbox()
        rt.consume("q", inbox, max_wait=0)
        await rest(rt)
        assert inbox.bodies == ["from run", "from step"]


class Sender(Workflow):
    """Sends from run() and from a step that fails once after it sent."""

    async def run(self, order: Order) -> str:
        await self.runtime.get(Queue, "q").send("from run")
        await self.step(self.send_and_fail)
        return order.order

    async def send_and_fail(self) -> None:
        await self.runtime.get(Queue, "q").send("from step")
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("after sending")


tries: list[int] = []
