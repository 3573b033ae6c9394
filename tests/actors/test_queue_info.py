"""actors/queue_info.py, and steering queues: drain, remove, dead letters one by one, each in the audit."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import CallerError, Queue, Retry, Runtime
from holdfast.actors import queue_purge
from holdfast.actors.errors import QueueDraining, QueueNotFound
from holdfast.actors.queue_info import QueueInfo, dead_at, list_dead, list_queues, peek, queue_info
from holdfast.actors.queue_purge import purge_in_slices
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.ref import Ref
from holdfast.storage.check import check
from tests.actors.queue_support import Hand, Inbox, advance, rest, runtime


class SideQueue(Queue):
    max_depth = 7


def ref_of(rt: Runtime, name: str) -> Ref:
    ref: object = rt.get(Queue, name)
    assert isinstance(ref, Ref)
    return ref


def info(rt: Runtime, name: str = "q") -> QueueInfo:
    return queue_info(rt, ref_of(rt, name))


async def _bury(rt: Runtime, *bodies: object, name: str = "q") -> None:
    """Send messages that become dead letters at once."""
    hand = Hand()
    consumer = rt.consume(name, hand, batch_size=10, max_wait=0, retry=Retry(0))
    await rt.get(Queue, name).send_batch(list(bodies), ids=[f"id-{body}" for body in bodies])
    await rest(rt)
    await hand.last.fail(rt)
    await consumer.stop()


async def test_what_is_told_of_a_queue(folder: Path) -> None:
    """Depth, what is in hands, what is tried again, dead letters, groups with their consumers."""
    async with runtime(folder) as rt:
        hand, other = Hand(), Hand()
        rt.consume("q", hand, batch_size=2, max_wait=0, retry=Retry(1, 10, jitter=0))
        rt.consume("q", other, batch_size=1, max_wait=0, group="b")
        rt.consume("q", other, batch_size=1, max_wait=0, group="b")
        await rest(rt)
        await rt.get(Queue, "q").send_batch([1, 2, 3])
        await rest(rt)
        told = info(rt)
        assert (told.status, told.depth, told.in_flight, told.retrying, told.sent) == ("open", 6, 4, 0, 3)
        assert [(one.group, one.in_flight, one.consumers) for one in told.groups] == [("", 2, 1), ("b", 2, 2)]
        await hand.last.fail(rt)
        assert (info(rt).groups[0].retrying, info(rt).groups[0].retried) == (2, 2)
        await hand.last.finish(rt)  # the third
        await advance(rt, 10)
        assert hand.last.attempts == [2, 2]
        assert info(rt).groups[0].retrying == 2
        hand.last.messages[0].ack()
        await hand.last.fail(rt)
        first = info(rt).groups[0]
        assert (first.depth, first.retrying, first.dead, first.acked) == (0, 0, 1, 2)


async def test_all_queues_are_listed_without_loading_one(folder: Path) -> None:
    """By type and key, page by page; also those of subclasses."""
    async with runtime(folder) as rt:
        for key in ("b", "a", 7, ("t", 1)):
            await rt.get(Queue, key).send(1)
        await rt.get(SideQueue, "a").send(1)
    async with runtime(folder) as rt:
        rt.type_of(SideQueue)
        found = list_queues(rt)
        assert [(one.type, one.key) for one in found] == [
            ("Queue", "a"), ("Queue", "b"), ("Queue", 7), ("Queue", ("t", 1)), ("SideQueue", "a"),
        ]  # fmt: skip
        assert len(rt.directory) == 0
        assert [one.key for one in list_queues(rt, limit=2)] == ["a", "b"]
        behind = list_queues(rt, after=("Queue", "b"))
        assert [one.key for one in behind] == [7, ("t", 1), "a"]
        assert behind[-1].max_depth == 7
        assert list_queues(rt, after=("SideQueue", "a")) == []
        with pytest.raises(QueueNotFound, match="there is no queue 'none'"):
            info(rt, "none")


async def test_peeking_changes_nothing(folder: Path) -> None:
    """Messages in the order in which they come, with what is in whose hands, page by page."""
    async with runtime(folder) as rt:
        queue = rt.get(Queue, "q")
        await queue.send("late", delay=60)
        await queue.send_batch(["a", {"b": 1}], ids=["1", "2"])
        hand = Hand()
        rt.consume("q", hand, batch_size=1, max_wait=0)
        await rest(rt)
        found = peek(rt, ref_of(rt, "q"))
        assert [(one.body, one.in_flight, one.attempts) for one in found] == [
            ("a", True, 1), ({"b": 1}, False, 1), ("late", False, 1),
        ]  # fmt: skip
        assert (found[2].available_at - found[1].available_at).total_seconds() == 60
        assert [one.id for one in peek(rt, ref_of(rt, "q"), limit=1, after=found[0].place)] == ["2"]
        assert [one.body for one in peek(rt, ref_of(rt, "q"), group="", after=found[1].place)] == ["late"]
        with pytest.raises(CallerError, match="no consumer group 'x'"):
            peek(rt, ref_of(rt, "q"), group="x")
        await hand.last.finish(rt)


async def test_a_page_of_large_bodies_is_shorter(folder: Path) -> None:
    """Not more bytes than a page may have, and one message, however many are asked for."""
    async with runtime(folder) as rt:
        for n in range(6):
            await rt.get(Queue, "q").send(f"{n}" + "x" * 1_000_000)
        found = peek(rt, ref_of(rt, "q"))
        assert [str(one.body)[0] for one in found] == ["0", "1", "2", "3", "4"]
        rest_of = peek(rt, ref_of(rt, "q"), after=found[-1].place)
        assert [str(one.body)[0] for one in rest_of] == ["5"]


async def test_a_queue_that_is_drained_takes_in_nothing_more(folder: Path) -> None:
    """What is there is delivered, also when it was paused; then it can be removed, and begins anew."""
    async with runtime(folder) as rt:
        queue = rt.get(Queue, "q")
        await queue.send(1)
        await queue.pause()
        await queue.drain(by="ann", reason="the new one is there")
        with pytest.raises(QueueDraining, match="queue q is being drained"):
            await queue.send(2)
        assert info(rt).status == "draining"
        with pytest.raises(CallerError, match="holds 1 messages and dead letters"):
            await queue.remove()
        inbox = Inbox()
        consumer = rt.consume("q", inbox, max_wait=0)
        await rest(rt)
        assert inbox.bodies == [1]
        with pytest.raises(CallerError, match="is being consumed"):
            await queue.remove()
        await consumer.stop()
        await queue.remove(by="ann")
        with pytest.raises(QueueNotFound):
            info(rt)
        assert [(deed.verb, deed.before, deed.after, deed.target) for deed in rt.audit()] == [
            ("remove", "draining", "removed", "Queue/q"),
            ("drain", "paused", "draining", "Queue/q"),
            ("pause", "open", "paused", "Queue/q"),
        ]
        await queue.send(3)  # a new one of this name
        assert (info(rt).status, info(rt).sent) == ("open", 1)
    assert check(folder) == []


async def test_a_drained_queue_takes_in_again_after_resume(folder: Path) -> None:
    """Over a restart, too."""
    clock = ManualClock()
    async with runtime(folder, clock) as rt:
        await rt.get(Queue, "q").drain()
    async with runtime(folder, clock) as rt:
        with pytest.raises(QueueDraining):
            await rt.get(Queue, "q").send(1)
        await rt.get(Queue, "q").resume()
        await rt.get(Queue, "q").send(1)


async def test_dead_letters_one_by_one(folder: Path) -> None:
    """One goes back with another body, one is dropped; both in the audit, and nothing twice."""
    async with runtime(folder) as rt:
        await _bury(rt, 1, 2, 3)
        queue = rt.get(Queue, "q")
        letters = list_dead(rt, ref_of(rt, "q"))
        assert [(one.id, one.body, one.error) for one in letters] == [
            (f"id-{n}", n, "ValueError: the test failed this batch") for n in (1, 2, 3)
        ]
        assert list_dead(rt, ref_of(rt, "q"), after=letters[0].place, limit=1) == letters[1:2]
        assert dead_at(rt, ref_of(rt, "q"), letters[1].place) == letters[1]
        places = [letters[0].place] * 2
        assert await queue.redrive_at(places, body=("one",), by="ann", reason="typing error") == 1
        assert await queue.drop_at([letters[1].place], by="ann") == 1
        assert await queue.redrive_at(places) == await queue.drop_at([letters[1].place, (9, 9)]) == 0
        assert dead_at(rt, ref_of(rt, "q"), letters[1].place) is None
        assert [(deed.verb, deed.who, deed.before, deed.after, deed.reason) for deed in rt.audit()] == [
            ("drop", "ann", "dead letter id-2", "deleted", ""),
            ("redrive", "ann", "dead letter id-1", "sent again with another body", "typing error"),
        ]
        stats = await queue.stats()
        assert (stats.dead, stats.depth) == (1, 1)
        inbox = Inbox()
        rt.consume("q", inbox, max_wait=0)
        await rest(rt)
        assert (inbox.bodies, inbox.ids, inbox.attempts) == (["one"], ["id-1"], [[1]])
    assert check(folder) == []


async def test_a_queue_is_purged_in_slices(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it or one group, leases too, with one deed; what is dead stays, what comes later is taken."""
    monkeypatch.setattr(queue_purge, "_MESSAGES", 3)
    async with runtime(folder) as rt:
        await _bury(rt, "dead")
        hand = Hand()
        rt.consume("q", hand, batch_size=2, max_wait=0, retry=Retry(5, 100, jitter=0))
        rt.consume("q", Hand(), batch_size=1, max_wait=0, group="b")
        await rest(rt)
        await rt.get(Queue, "q").send_batch(list(range(10)))
        await rest(rt)
        await hand.last.fail(rt)
        held = hand.last
        assert (info(rt).groups[0].retrying, info(rt).groups[0].in_flight) == (2, 2)
        assert await purge_in_slices(ref_of(rt, "q"), "", by="ann", reason="test data") == 10
        one, other = info(rt).groups
        assert (one.depth, one.retrying, one.in_flight, one.dead, other.depth) == (0, 0, 0, 1, 10)
        await held.finish(rt)  # nobody's any more
        assert info(rt).groups[0].depth == 0
        await rt.get(Queue, "q").send("new")
        await rest(rt)
        assert hand.last.bodies == ["new"]
        assert await purge_in_slices(ref_of(rt, "q")) == 12
        with pytest.raises(CallerError, match="no consumer group 'x'"):
            await purge_in_slices(ref_of(rt, "q"), "x")
        assert [(deed.verb, deed.who, deed.before) for deed in rt.audit()] == [
            ("purge", None, "12 messages"),
            ("purge", "ann", "10 messages of group ''"),
        ]
    assert check(folder) == []
