"""Handler consumers: when a batch goes out, how its messages are settled, and what comes again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast import Batch, Counter, Queue, Retry, Runtime
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.durations import InvalidDuration
from holdfast.runtime.errors import NotRunning
from holdfast.storage.errors import CallerError, InvalidValue, Overloaded, StorageFull
from tests.actors.queue_support import Child, Hand, Inbox, Order, advance, rest, runtime
from tests.runtime.support import FailingLog, HeldLog, crash

# -- batches -------------------------------------------------------------------------------------------------


async def test_full_batch_at_once_rest_after_max_wait(tmp_path: Path) -> None:
    """AC-65: batch size 3 and 5 s: of 4 messages 3 come at once and 1 after 5 s; with none, no call."""
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        rt.consume("q", inbox, batch_size=3, max_wait=5)
        await advance(rt, 60)
        assert inbox.batches == []
        for n in range(4):
            await rt.get(Queue, "q").send(n)
        await rest(rt)
        assert inbox.batches == [[0, 1, 2]]
        await advance(rt, 4.999)
        assert inbox.batches == [[0, 1, 2]]
        await advance(rt, 0.001)
        assert inbox.batches == [[0, 1, 2], [3]]
        await advance(rt, 60)
        assert len(inbox.batches) == 2


async def test_the_wait_counts_from_the_first_message(tmp_path: Path) -> None:
    """Later messages do not put the batch off."""
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        rt.consume("q", inbox, batch_size=10, max_wait="5s")
        for n in range(3):
            await rt.get(Queue, "q").send(n)
            await advance(rt, 1.5)
        assert inbox.batches == []
        await advance(rt, 0.5)
        assert inbox.batches == [[0, 1, 2]]


async def test_a_batch_that_fills_up_goes_at_once(tmp_path: Path) -> None:
    """The message that makes it full sends it out."""
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        rt.consume("q", inbox, batch_size=3, max_wait=5)
        for n in range(2):
            await rt.get(Queue, "q").send(n)
        await rest(rt)
        assert inbox.batches == []
        await rt.get(Queue, "q").send(2)
        await rest(rt)
        assert inbox.batches == [[0, 1, 2]]


async def test_a_delayed_message_fills_a_waiting_batch(tmp_path: Path) -> None:
    """What becomes available while a batch waits is part of it."""
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        rt.consume("q", inbox, batch_size=2, max_wait=10)
        queue = rt.get(Queue, "q")
        await queue.send("now")
        await rest(rt)
        await queue.send("later", delay=3)
        await rest(rt)
        assert inbox.batches == []
        await advance(rt, 3)
        assert inbox.batches == [["now", "later"]]


async def test_the_wait_goes_on_over_a_restart(tmp_path: Path) -> None:
    """What waited long enough while nobody consumed goes out at once."""
    clock = ManualClock()
    async with runtime(tmp_path, clock) as rt:
        await rt.get(Queue, "q").send("old")
    clock.advance(5)
    async with runtime(tmp_path, clock) as rt:
        inbox = Inbox()
        rt.consume("q", inbox, batch_size=10, max_wait=5)
        await rest(rt)
        assert inbox.batches == [["old"]]


async def test_messages_come_in_the_order_sent(tmp_path: Path) -> None:
    """One consumer with one batch at a time sees them in order."""
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        await rt.get(Queue, "q").send_batch(list(range(25)))
        rt.consume("q", inbox, batch_size=10, max_wait=0)
        await rest(rt)
        assert inbox.bodies == list(range(25))
        assert [len(batch) for batch in inbox.batches] == [10, 10, 5]


async def test_what_a_message_tells(tmp_path: Path) -> None:
    """Id, body of the wanted type, attempts, time and the queue's name."""
    async with runtime(tmp_path, ManualClock(9_000)) as rt:
        seen: list[tuple[str, str, Order, int, int]] = []

        async def handler(batch: Batch[Order]) -> None:
            assert len(batch) == len(list(batch)) == 1
            for message in batch:
                seen.append((batch.queue, message.id, message.body, message.attempts, message.sent_at_ms))

        rt.consume("q", handler, body=Order, max_wait=0)
        await rt.get(Queue, "q").send(Order("pear", 2), id="first")
        await rest(rt)
        assert seen == [("q", "first", Order("pear", 2), 1, 9_000)]


# -- settling ------------------------------------------------------------------------------------------------


async def test_returning_acknowledges_all(tmp_path: Path) -> None:
    """Without a word each message is done when the handler returns."""
    async with runtime(tmp_path) as rt:
        rt.consume("q", Inbox(), max_wait=0)
        await rt.get(Queue, "q").send_batch([1, 2])
        await rest(rt)
        stats = await rt.get(Queue, "q").stats()
        assert (stats.depth, stats.acked, stats.retried) == (0, 2, 0)


async def test_raising_retries_what_is_not_acknowledged(tmp_path: Path) -> None:
    """A message acknowledged by itself before the handler raised doesn't come again; the others do."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0, retry=Retry(3, 1, backoff="constant", jitter=0))
        await rt.get(Queue, "q").send_batch(["a", "b", "c"])
        await rest(rt)
        hand.last.messages[1].ack()
        await hand.last.fail(rt)
        await advance(rt, 1)
        assert hand.last.bodies == ["a", "c"]
        assert hand.last.attempts == [2, 2]


@pytest.mark.parametrize(
    ("calls", "comes_again"),
    [
        (["ack", "retry"], False),
        (["retry", "ack"], True),
        (["ack", "retry_all"], False),
        (["retry", "ack_all"], True),
        (["ack_all", "retry"], False),
        (["retry_all", "ack"], True),
        (["retry_all", "ack_all"], True),
        ([], False),
    ],
)
async def test_the_first_call_wins(tmp_path: Path, calls: list[str], comes_again: bool) -> None:
    """AC-67: for one message the first call counts, whether it was for it alone or for all."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0, retry=Retry(3, 0))
        await rt.get(Queue, "q").send("x")
        await rest(rt)
        for call in calls:
            getattr(hand.last.batch if call.endswith("_all") else hand.last.messages[0], call)()
        await hand.last.finish(rt)
        assert len(hand.deliveries) == 1 + comes_again


async def test_ack_all_leaves_the_one_that_was_retried(tmp_path: Path) -> None:
    """AC-67: retry on one and then ack-all: that one comes again, the others do not."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0, retry=Retry(3, 0))
        await rt.get(Queue, "q").send_batch([1, 2, 3])
        await rest(rt)
        hand.last.messages[1].retry()
        hand.last.batch.ack_all()
        await hand.last.finish(rt)
        assert hand.bodies == [[1, 2, 3], [2]]


async def test_calls_after_the_end_change_nothing(tmp_path: Path) -> None:
    """Once the handler has returned its batch is settled."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0)
        await rt.get(Queue, "q").send(1)
        await rest(rt)
        await hand.last.finish(rt)
        hand.last.messages[0].retry()
        await advance(rt, 100)
        assert len(hand.deliveries) == 1


async def test_a_retry_comes_after_its_delay(tmp_path: Path) -> None:
    """AC-69: retry with a delay of 30 s comes 30 s later; the call beats the policy of the consumer."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0, retry=Retry(3, 5, jitter=0))
        await rt.get(Queue, "q").send("x")
        await rest(rt)
        hand.last.messages[0].retry(delay="30s")
        await hand.last.finish(rt)
        await advance(rt, 29.999)
        assert len(hand.deliveries) == 1
        await advance(rt, 0.001)
        assert hand.last.attempts == [2]
        hand.last.messages[0].retry()
        await hand.last.finish(rt)
        await advance(rt, 10)  # exponential: 5 s after the first attempt, 10 s after the second
        assert hand.last.attempts == [3]


@pytest.mark.parametrize(
    ("delay", "error"),
    [(86_401, InvalidValue), ("2 days", InvalidValue), (-1, InvalidDuration), ("soon", InvalidDuration)],
)
async def test_a_bad_delay_settles_nothing(
    tmp_path: Path, delay: float | str, error: type[Exception]
) -> None:
    """The call raises and the message is as it was."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0)
        await rt.get(Queue, "q").send("x")
        await rest(rt)
        with pytest.raises(error):
            hand.last.messages[0].retry(delay=delay)
        hand.last.messages[0].ack()
        await hand.last.finish(rt)
        assert (await rt.get(Queue, "q").stats()).acked == 1


async def test_a_retried_message_comes_in_a_later_batch(tmp_path: Path) -> None:
    """It is mixed with others, behind those that wait."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        await rt.get(Queue, "q").send_batch(["a", "b", "c"])
        rt.consume("q", hand, batch_size=2, max_wait=0, retry=Retry(3, 0))
        await rest(rt)
        hand.last.messages[0].retry()
        await hand.last.finish(rt)
        assert hand.bodies == [["a", "b"], ["c", "a"]]


async def test_retries_are_spent(tmp_path: Path) -> None:
    """Retry(2) is three deliveries; then the message is a dead letter with the last error."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0, retry=Retry(2, 0))
        await rt.get(Queue, "q").send("x", id="it")
        await rest(rt)
        for _ in range(3):
            await hand.last.fail(rt, ValueError("no luck"))
        assert [delivery.attempts for delivery in hand.deliveries] == [[1], [2], [3]]
        (dead,) = await rt.get(Queue, "q").dead()
        assert (dead.id, dead.body, dead.attempts, dead.error) == ("it", "x", 3, "ValueError: no luck")
        stats = await rt.get(Queue, "q").stats()
        assert (stats.depth, stats.dead, stats.retried, stats.acked) == (0, 1, 2, 0)


async def test_the_error_of_a_retry_is_kept(tmp_path: Path) -> None:
    """What the handler said of a message beats what it raised."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0, retry=Retry(0))
        await rt.get(Queue, "q").send_batch([1, 2])
        await rest(rt)
        hand.last.messages[0].retry(error="no such customer")
        await hand.last.fail(rt, ValueError("later"))
        assert [dead.error for dead in await rt.get(Queue, "q").dead()] == [
            "no such customer",
            "ValueError: later",
        ]


async def test_a_redriven_message_has_all_its_attempts(tmp_path: Path) -> None:
    """It comes again as at first."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0, retry=Retry(1, 0))
        queue = rt.get(Queue, "q")
        await queue.send("x")
        await rest(rt)
        await hand.last.fail(rt)
        await hand.last.fail(rt)
        assert await queue.redrive() == 1
        await rest(rt)
        assert hand.last.attempts == [1]
        await hand.last.finish(rt)
        assert (await queue.stats()).dead == 0


async def test_a_body_that_does_not_decode_is_dead_at_once(tmp_path: Path) -> None:
    """The others of its batch are delivered; nobody tries it again."""
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        queue = rt.get(Queue, "q")
        await queue.send_batch([Order("pear"), {"order": 1}, Order("fig")], ids=["a", "b", "c"])
        rt.consume("q", inbox, body=Order, max_wait=0)
        await rest(rt)
        assert inbox.batches == [[Order("pear"), Order("fig")]]
        (dead,) = await queue.dead()
        assert (dead.id, dead.attempts) == ("b", 1)
        assert "Expected `str`, got `int`" in dead.error


async def test_a_batch_of_bad_bodies_calls_nobody(tmp_path: Path) -> None:
    """The handler never gets an empty batch."""
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        await rt.get(Queue, "q").send_batch([1, 2])
        rt.consume("q", inbox, body=Order, max_wait=0)
        await rest(rt)
        assert inbox.batches == []
        assert (await rt.get(Queue, "q").stats()).dead == 2


async def test_huge_bodies(tmp_path: Path) -> None:
    """Batches of the largest bodies go through."""
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        bodies = [bytes([n]) * 1_000_000 for n in range(8)]
        await rt.get(Queue, "q").send_batch(list(bodies))
        rt.consume("q", inbox, batch_size=3, max_wait=0)
        await rest(rt)
        assert inbox.bodies == bodies


# -- several -------------------------------------------------------------------------------------------------


async def test_concurrency_is_the_most_batches_at_a_time(tmp_path: Path) -> None:
    """So many handlers run side by side, and the next batch goes out when one ends."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        await rt.get(Queue, "q").send_batch([1, 2, 3, 4])
        rt.consume("q", hand, batch_size=1, max_wait=0, concurrency=3)
        await rest(rt)
        assert hand.bodies == [[1], [2], [3]]
        await hand.deliveries[1].finish(rt)
        assert hand.bodies == [[1], [2], [3], [4]]


async def test_consumers_of_one_queue_get_disjoint_messages(tmp_path: Path) -> None:
    """Three consumers share the messages; each message goes to one of them."""
    async with runtime(tmp_path) as rt:
        hands = [Hand(), Hand(), Hand()]
        for hand in hands:
            rt.consume("q", hand, batch_size=2, max_wait=0)
        await rt.get(Queue, "q").send_batch(list(range(6)))
        await rest(rt)
        got = [body for hand in hands for body in hand.last.bodies]
        assert sorted(got, key=str) == list(range(6))
        for hand in hands:
            await hand.last.finish(rt)
        assert (await rt.get(Queue, "q").stats()).acked == 6


async def test_a_busy_consumer_does_not_take_the_wake_up_of_another(tmp_path: Path) -> None:
    """A message that comes while one consumer's handler works goes to the other at once."""
    async with runtime(tmp_path) as rt:
        busy, free = Hand(), Hand()
        rt.consume("q", busy, batch_size=1, max_wait=0)
        await rt.get(Queue, "q").send(1)
        await rest(rt)
        rt.consume("q", free, batch_size=1, max_wait=0)
        await rest(rt)
        for n in (2, 3):
            await rt.get(Queue, "q").send(n)
            await rest(rt)
            if n == 2:
                await free.last.finish(rt)
        assert (busy.bodies, free.bodies) == ([[1]], [[2], [3]])


async def test_queues_are_apart(tmp_path: Path) -> None:
    """One consumer function may serve two queues, and sees which."""
    async with runtime(tmp_path) as rt:
        seen: list[tuple[str, object]] = []

        async def handler(batch: Batch[object]) -> None:
            seen.extend((batch.queue, message.body) for message in batch)

        for name in ("a", "b"):
            rt.consume(name, handler, max_wait=0)
        await rt.get(Queue, "a").send(1)
        await rt.get(Queue, "b").send(2)
        await rest(rt)
        assert sorted(seen, key=str) == [("a", 1), ("b", 2)]


# -- pause, stop, restart ------------------------------------------------------------------------------------


async def test_pause_stops_delivery_not_sending(tmp_path: Path) -> None:
    """Also over a restart, and what is in a handler's hands is settled all the same."""
    async with runtime(tmp_path) as rt:
        hand, queue = Hand(), rt.get(Queue, "q")
        rt.consume("q", hand, batch_size=1, max_wait=0)
        await queue.send(1)
        await rest(rt)
        await queue.pause()
        await queue.send(2)
        await hand.last.finish(rt)
        assert (await queue.stats()).depth == 1
        assert hand.bodies == [[1]]
    async with runtime(tmp_path) as rt:
        hand, queue = Hand(), rt.get(Queue, "q")
        rt.consume("q", hand, batch_size=1, max_wait=0)
        await advance(rt, 100)
        assert hand.bodies == []
        await queue.resume()
        await rest(rt)
        assert hand.bodies == [[2]]


async def test_a_stopped_consumer_gives_its_messages_back(tmp_path: Path) -> None:
    """Stopped and started again in one runtime: what was not settled comes again, and that was no attempt."""
    async with runtime(tmp_path) as rt:
        first, second, queue = Hand(), Hand(), rt.get(Queue, "q")
        consumer = rt.consume("q", first, max_wait=0)
        await queue.send_batch(["done", "again", "open"])
        await rest(rt)
        first.last.messages[0].ack()
        first.last.messages[1].retry(delay=10)
        await consumer.stop()
        assert first.last.cancelled
        await queue.send("new")
        await rest(rt)
        assert len(first.deliveries) == 1
        rt.consume("q", second, max_wait=0)
        await rest(rt)
        assert (second.last.bodies, second.last.attempts) == (["open", "new"], [1, 1])
        await second.last.finish(rt)
        await advance(rt, 10)
        assert (second.last.bodies, second.last.attempts) == (["again"], [2])


async def test_stop_waits_for_what_is_being_settled(tmp_path: Path) -> None:
    """A handler that has returned is not undone: its acknowledgement is durable when `stop` returns."""
    log = HeldLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        hand, queue = Hand(), rt.get(Queue, "q")
        consumer = rt.consume("q", hand, max_wait=0)
        await queue.send(1)
        await rest(rt)
        log.hold()
        hand.last.end.set_result(None)
        await log.arrived()
        stopping = asyncio.ensure_future(consumer.stop())
        for _ in range(20):
            await asyncio.sleep(0)
        assert not stopping.done()
        log.release()
        await stopping
        assert (await queue.stats()).depth == 0


async def test_stop_twice_and_within_the_handler(tmp_path: Path) -> None:
    """A handler may stop its own consumer; it is settled as usual."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        seen: list[object] = []

        async def handler(batch: Batch[object]) -> None:
            seen.extend(message.body for message in batch)
            await consumer.stop()

        consumer = rt.consume("q", handler, batch_size=1, max_wait=0)
        await queue.send_batch([1, 2])
        await rest(rt)
        await consumer.stop()
        assert seen == [1]
        assert (await queue.stats()).depth == 1


async def test_close_cancels_handlers_and_their_messages_come_again(tmp_path: Path) -> None:
    """Closing the runtime is no attempt; what was acknowledged by then is done."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0)
        await rt.get(Queue, "q").send_batch([1, 2])
        await rest(rt)
        hand.last.messages[0].ack()
    assert hand.last.cancelled
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, max_wait=0)
        await rest(rt)
        assert (hand.last.bodies, hand.last.attempts) == ([2], [1])


async def test_stopping_while_the_lease_is_on_its_way(tmp_path: Path) -> None:
    """No handler sees the batch, and another consumer gets it as new."""
    log = HeldLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        first, second = Inbox(), Inbox()
        await rt.get(Queue, "q").send(1)
        log.hold()
        consumer = rt.consume("q", first, max_wait=0)
        await log.arrived()
        stopping = asyncio.ensure_future(consumer.stop())
        for _ in range(20):
            await asyncio.sleep(0)
        log.release()
        await stopping
        assert first.batches == []
        rt.consume("q", second, max_wait=0)
        await rest(rt)
        assert (second.batches, second.attempts) == ([[1]], [[1]])


async def test_a_handler_that_cancels_itself_has_failed(tmp_path: Path) -> None:
    """Only a stop is no attempt: awaiting something that was cancelled is an error like others."""
    async with runtime(tmp_path) as rt:
        attempts: list[int] = []

        async def handler(batch: Batch[object]) -> None:
            attempts.extend(message.attempts for message in batch)
            raise asyncio.CancelledError

        rt.consume("q", handler, max_wait=0, retry=Retry(1, 0))
        await rt.get(Queue, "q").send(1)
        await rest(rt)
        assert attempts == [1, 2]
        assert (await rt.get(Queue, "q").stats()).dead == 1


async def test_nothing_stays_in_memory_of_a_queue_that_nobody_consumes(tmp_path: Path) -> None:
    """P8: neither sending nor a consumer that has stopped leaves a trace."""
    async with runtime(tmp_path) as rt:
        for n in range(20):
            await rt.get(Queue, n).send(n)
        consumer = rt.consume(3, Inbox(), max_wait=0)
        await rest(rt)
        await consumer.stop()
        assert (rt.queues._lanes, rt.queues._groups, rt.queues._consumers) == ({}, {}, [])


# -- crashes and failed commits ------------------------------------------------------------------------------


async def test_a_handler_sees_only_durable_leases(tmp_path: Path) -> None:
    """P3: the handler is outside code, so it starts after the commit of the lease."""
    log = HeldLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        inbox = Inbox()
        await rt.get(Queue, "q").send(1)
        log.hold()
        rt.consume("q", inbox, max_wait=0)
        await log.arrived()
        for _ in range(20):
            await asyncio.sleep(0)
        assert inbox.batches == []
        log.release()
        await rest(rt)
        assert inbox.batches == [[1]]


async def test_a_lease_that_failed_is_no_delivery(tmp_path: Path) -> None:
    """The messages can be taken again, a moment later."""
    log = FailingLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        inbox = Inbox()
        await rt.get(Queue, "q").send(1)
        log.fail_next = 1
        rt.consume("q", inbox, max_wait=0)
        await rest(rt)
        assert inbox.batches == []
        await advance(rt, 1)
        assert (inbox.batches, inbox.attempts) == ([[1]], [[1]])


async def test_a_settlement_that_failed_is_a_delivery(tmp_path: Path) -> None:
    """The message comes again, as tried once; the other consumer's messages stay where they are."""
    log = FailingLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        first, second = Hand(), Hand()
        rt.consume("q", first, batch_size=1, max_wait=0)
        rt.consume("q", second, batch_size=1, max_wait=0)
        queue = rt.get(Queue, "q")
        await queue.send_batch([1, 2])
        await rest(rt)
        log.fail_next = 1
        first.last.end.set_result(None)
        await rest(rt)
        await advance(rt, 1)
        assert [body for hand in (first, second) for body in hand.bodies] in (
            [[1], [1], [2]],
            [[2], [2], [1]],
        )
        assert first.last.attempts == [2]
        await first.last.finish(rt)
        await second.last.finish(rt)
        stats = await queue.stats()
        assert (stats.depth, stats.acked) == (0, 2)


async def test_a_crash_counts_as_an_attempt(tmp_path: Path) -> None:
    """Messages that were in a handler's hands come again with one attempt more, the others as they were."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, batch_size=1, max_wait=0)
        await rt.get(Queue, "q").send_batch([1, 2])
        await rest(rt)
        await crash(rt)
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        rt.consume("q", inbox, max_wait=0)
        await rest(rt)
        assert (inbox.bodies, inbox.attempts) == ([2, 1], [[1, 2]])


POISON_CHILD = """
import asyncio, os, signal, sys
from holdfast import Queue, Retry, Runtime
async def handler(batch):
    for message in batch:
        print(message.body, message.attempts, flush=True)
        if message.body == "poison":
            os._exit(3) if sys.argv[2] == "exit" else os.kill(os.getpid(), signal.SIGKILL)
async def main():
    async with Runtime(sys.argv[1]) as rt:
        queue = rt.get(Queue, "q")
        rt.consume("q", handler, batch_size=1, max_wait=0, retry=Retry(2, 0))
        while (await queue.stats()).depth:
            await asyncio.sleep(0.005)
asyncio.run(main())
"""


@pytest.mark.parametrize("how", ["exit", "kill"])
async def test_a_message_that_kills_the_process_becomes_a_dead_letter(tmp_path: Path, how: str) -> None:
    """Each death is an attempt; when they are spent the queue goes on with the others."""
    async with runtime(tmp_path) as rt:
        await rt.get(Queue, "q").send_batch(["poison", "bread"])
    lines: list[str] = []
    for _ in range(10):
        child = Child(POISON_CHILD, tmp_path, how)
        lines.append(" ".join(child.wait()))
        if child.returncode == 0:
            break
    assert " ".join(lines).split() == ["poison", "1", "bread", "1", "poison", "2", "poison", "3"]
    async with runtime(tmp_path) as rt:
        (dead,) = await rt.get(Queue, "q").dead()
        assert (dead.body, dead.attempts, dead.error) == ("poison", 3, "the process ended during a delivery")
        assert (await rt.get(Queue, "q").stats()).depth == 0


async def test_delivery_never_fails_for_good(tmp_path: Path) -> None:
    """While the disk refuses everything consumers try again now and then, and then go on."""
    log = FailingLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        inbox = Inbox()
        await rt.get(Queue, "q").send(1)
        log.fail_next = 5
        rt.consume("q", inbox, max_wait=0)
        for _ in range(8):
            await advance(rt, 1)
        assert inbox.batches == [[1]]


async def test_a_full_store_can_be_emptied(tmp_path: Path) -> None:
    """When nothing more can be sent, what is there can still be taken and settled; then there is room."""
    made = Runtime(tmp_path, clock=ManualClock(), min_free_bytes=0, quota_bytes=2 << 20)
    async with made as rt:
        queue, inbox = rt.get(Queue, "q"), Inbox()
        sent = 0
        with pytest.raises(StorageFull):
            while True:
                await queue.send(bytes(50_000))
                sent += 1
        rt.consume("q", inbox, max_wait=0)
        await rest(rt)
        assert len(inbox.bodies) == sent > 20
        assert (await queue.stats()).depth == 0
        await queue.send(1)


# -- options -------------------------------------------------------------------------------------------------


async def nobody(batch: Batch[object]) -> None:
    """A handler that is never called."""


@pytest.mark.parametrize(
    "options",
    [{"batch_size": 0}, {"batch_size": 1_001}, {"concurrency": 0}, {"max_wait": -1}, {"group": "a\nb"}],
)
async def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, int]) -> None:
    """They are refused at once, and nobody consumes."""
    async with runtime(tmp_path) as rt:
        with pytest.raises((CallerError, InvalidDuration)):
            rt.consume("q", nobody, **options)  # type: ignore[arg-type]
        assert rt.queues._consumers == []


async def test_consuming_needs_an_open_runtime(tmp_path: Path) -> None:
    """After close nothing starts."""
    async with runtime(tmp_path) as rt:
        pass
    with pytest.raises(NotRunning):
        rt.consume("q", nobody)


async def test_a_queue_class_of_ones_own(tmp_path: Path) -> None:
    """A subclass is consumed through its ref, and holds no more than its depth."""
    async with runtime(tmp_path) as rt:
        queue, inbox = rt.get(SmallQueue, "q"), Inbox()
        await queue.send_batch([1, 2])
        with pytest.raises(Overloaded, match="max_depth=2"):
            await queue.send(3)
        rt.consume(queue, inbox, max_wait=0)
        await rest(rt)
        await queue.send(3)
        await rest(rt)
        assert inbox.bodies == [1, 2, 3]


async def test_a_ref_to_something_else_is_no_queue(tmp_path: Path) -> None:
    """Only queues of this runtime can be consumed."""
    async with runtime(tmp_path / "a") as rt, runtime(tmp_path / "b") as other:
        for wrong in (rt.get(Counter, "x"), other.get(Queue, "q")):
            with pytest.raises(CallerError, match="expected a queue"):
                rt.consume(wrong, nobody)  # type: ignore[arg-type]


class SmallQueue(Queue):
    """Holds two messages."""

    max_depth = 2


class SlowQueue(Queue):
    """Delays what is sent."""

    delay = "60s"


async def test_the_delay_of_a_queue(tmp_path: Path) -> None:
    """AC-69: queue delay 60 s: one sent with 0 comes at once, one sent without after 60 s."""
    async with runtime(tmp_path) as rt:
        queue, inbox = rt.get(SlowQueue, "q"), Inbox()
        rt.consume(queue, inbox, max_wait=0)
        await queue.send("now", delay=0)
        await queue.send("later")
        await rest(rt)
        assert inbox.bodies == ["now"]
        await advance(rt, 59.999)
        assert inbox.bodies == ["now"]
        await advance(rt, 0.001)
        assert inbox.bodies == ["now", "later"]


async def test_a_wall_clock_that_is_set_back(tmp_path: Path) -> None:
    """What was put with an earlier time is found though later ones were taken already."""
    clock = ManualClock()
    async with runtime(tmp_path, clock) as rt:
        inbox = Inbox()
        rt.consume("q", inbox, max_wait=0)
        await rt.get(Queue, "q").send(1)
        await rest(rt)
        clock.set_wall(clock.now_ms() - 3_600_000)
        await rt.get(Queue, "q").send(2)
        await rest(rt)
        assert inbox.bodies == [1, 2]
