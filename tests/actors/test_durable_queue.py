"""The queue itself: what is put in, how it stands, groups, dead letters and where they go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from holdfast import Queue, Retry, Runtime, Workflow
from holdfast.actors.durable_queue import MAX_GROUPS, MAX_MESSAGE_BYTES
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.durations import InvalidDuration
from holdfast.runtime.errors import InvalidArgument
from holdfast.storage.errors import CallerError, InvalidValue, Overloaded, StorageFailed
from tests.actors.queue_support import (
    Child,
    CrashLog,
    Hand,
    Inbox,
    Keep,
    Order,
    advance,
    rest,
    runtime,
    until_crash,
)
from tests.runtime.support import FailingLog, crash


class TinyQueue(Queue):
    """Holds three messages."""

    max_depth = 3


async def all_of(rt: Runtime, name: str, group: str = "") -> list[object]:
    """What a consumer gets that takes all there is."""
    inbox = Inbox()
    consumer = rt.consume(name, inbox, group=group, batch_size=1_000, max_wait=0)
    await rest(rt)
    await consumer.stop()
    return inbox.bodies


# -- sending -------------------------------------------------------------------------------------------------


async def test_a_sent_message_survives(tmp_path: Path) -> None:
    """It is on disk when `send` returns, with the id that it returned."""
    async with runtime(tmp_path) as rt:
        ids = [await rt.get(Queue, "q").send({"n": 1}), await rt.get(Queue, "q").send(None, id="mine")]
        await crash(rt)
    assert ids[1] == "mine"
    async with runtime(tmp_path) as rt:
        inbox = Inbox()
        rt.consume("q", inbox, max_wait=0)
        await rest(rt)
        assert (inbox.bodies, inbox.ids) == ([{"n": 1}, None], ids)


async def test_ids_are_new_for_each_message(tmp_path: Path) -> None:
    """Nobody else gets the same."""
    async with runtime(tmp_path) as rt:
        ids = await rt.get(Queue, "q").send_batch([None] * 1000)
        assert len({*ids, *await rt.get(Queue, "r").send_batch([None] * 1000)}) == 2000


@pytest.mark.parametrize("body", [0, -1, 1.5, "", "ü", b"\x00\xff", [], [1, [2]], {"a": {"b": None}}, True])
async def test_bodies_come_as_they_went(tmp_path: Path, body: object) -> None:
    """Plain values."""
    async with runtime(tmp_path) as rt:
        await rt.get(Queue, "q").send(body)
        await rt.get(Queue, "q").send_batch([body])
        assert await all_of(rt, "q") == [body, body]


async def test_a_body_is_copied(tmp_path: Path) -> None:
    """Changing it after `send` began changes nothing."""
    async with runtime(tmp_path) as rt:
        body = [1]
        sending = asyncio.ensure_future(rt.get(Queue, "q").send(body))
        await asyncio.sleep(0)
        body.append(2)
        await sending
        assert await all_of(rt, "q") == [[1]]


async def test_what_can_not_be_sent(tmp_path: Path) -> None:
    """It raises, and of a batch nothing is sent."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        with pytest.raises(InvalidArgument):
            await queue.send(object())
        with pytest.raises(InvalidArgument):
            await queue.send_batch([1, object()])
        with pytest.raises(InvalidValue, match="a message takes"):
            await queue.send_batch([1, b"x" * MAX_MESSAGE_BYTES])
        with pytest.raises(CallerError, match="2 bodies came with 1 ids"):
            await queue.send_batch([1, 2], ids=["a"])
        for wrong in ("", "x" * 501):
            with pytest.raises(InvalidValue, match="id must have"):
                await queue.send(1, id=wrong)
        assert (await queue.stats()).sent == 0
        assert await queue.send_batch([]) == []


async def test_options_are_given_by_name(tmp_path: Path) -> None:
    """An id or a delay by position is refused, by a caller outside and by a step."""
    async with runtime(tmp_path) as rt:
        with pytest.raises(InvalidArgument, match="too many positional"):
            await rt.get(Queue, "q").send(1, "id", 0)  # type: ignore[call-arg]
        run = await rt.start(SendsByPosition, id="s")
        await rest(rt)
        info = await run.info()
        assert info.error is not None and "InvalidArgument" in str(info.error)
        assert (await rt.get(Queue, "q").stats()).sent == 0


class SendsByPosition(Workflow):
    """Calls a queue in a way that isn't allowed."""

    retry = Retry(0)

    async def run(self) -> None:
        await self.step(self.send_one)

    async def send_one(self) -> None:
        await self.runtime.get(Queue, "q").send(1, "id", 0)  # type: ignore[call-arg]


async def test_the_largest_message(tmp_path: Path) -> None:
    """A mebibyte with its encoding fits."""
    async with runtime(tmp_path) as rt:
        body = b"x" * (MAX_MESSAGE_BYTES - 5)
        await rt.get(Queue, "q").send(body)
        assert await all_of(rt, "q") == [body]


@pytest.mark.parametrize(
    ("delay", "error"),
    [(86_400.5, InvalidValue), ("25h", InvalidValue), (-1, InvalidDuration), ("x", InvalidDuration)],
)
async def test_bad_delays(tmp_path: Path, delay: float | str, error: type[Exception]) -> None:
    """At most a day, and not into the past."""
    async with runtime(tmp_path) as rt:
        with pytest.raises(error):
            await rt.get(Queue, "q").send(1, delay=delay)


async def test_delays(tmp_path: Path) -> None:
    """Each message comes at its time, the day's last moment included."""
    async with runtime(tmp_path) as rt:
        queue, inbox = rt.get(Queue, "q"), Inbox()
        rt.consume("q", inbox, max_wait=0)
        await queue.send("day", delay="1d")
        await queue.send("second", delay=1)
        await queue.send("now")
        await queue.send_batch(["minute", "minute too"], delay="1m")
        await rest(rt)
        assert inbox.batches == [["now"]]
        for seconds in (0.999, 0.001, 58.999, 0.001, 86_339.999, 0.001):
            await advance(rt, seconds)
        assert inbox.batches == [["now"], ["second"], ["minute", "minute too"], ["day"]]


async def test_max_depth(tmp_path: Path) -> None:
    """Beyond it `Overloaded`, for a batch as a whole; delayed messages and those in hand count."""
    async with runtime(tmp_path) as rt:
        queue, hand = rt.get(TinyQueue, "q"), Hand()
        await queue.send_batch([1, 2])
        with pytest.raises(Overloaded):
            await queue.send_batch([3, 4])
        await queue.send(3, delay=60)
        rt.consume(queue, hand, max_wait=0)
        await rest(rt)
        with pytest.raises(Overloaded):
            await queue.send(4)
        await hand.last.finish(rt)
        await queue.send_batch([4, 5])
        assert (await queue.stats()).depth == 3


# -- how it stands -------------------------------------------------------------------------------------------


async def test_stats(tmp_path: Path) -> None:
    """Every number is exact."""
    clock = ManualClock(1_000_000)
    async with runtime(tmp_path, clock) as rt:
        queue, hand = rt.get(Queue, "q"), Hand()
        empty = await queue.stats()
        assert (empty.depth, empty.sent, empty.groups, empty.front_sent_at) == (0, 0, (), None)
        rt.consume("q", hand, batch_size=4, max_wait=0, retry=Retry(1, 5, jitter=0))
        await queue.send_batch(["ack", "retry", "die", "keep"])
        await rest(rt)
        clock.advance(1)
        await queue.send("waits")
        stats = await queue.stats()
        assert (stats.depth, stats.sent, stats.groups) == (5, 5, ("",))
        assert stats.front_sent_at is not None and stats.front_sent_at.timestamp() == 1_000
        hand.last.messages[1].retry(delay=100)
        hand.last.messages[2].retry(delay=0)
        await hand.last.finish(rt)
        stats = await queue.stats()
        assert (stats.depth, stats.acked, stats.retried, stats.dead) == (3, 2, 2, 0)
        await hand.last.fail(rt)
        stats = await queue.stats()
        assert (stats.depth, stats.acked, stats.retried, stats.dead) == (2, 2, 3, 1)
        with pytest.raises(CallerError, match="no consumer group 'other'"):
            await queue.stats("other")


async def test_purge(tmp_path: Path) -> None:
    """All messages go, delayed ones and those in hand too; dead letters stay; late calls count nothing."""
    async with runtime(tmp_path) as rt:
        queue, hand = rt.get(Queue, "q"), Hand()
        rt.consume("q", hand, batch_size=2, max_wait=0, retry=Retry(0))
        await queue.send("dead")
        await rest(rt)
        await hand.last.fail(rt)
        await queue.send_batch(["a", "b", "c"])
        await queue.send("d", delay=60)
        await rest(rt)
        assert await queue.purge() == 4
        hand.last.messages[0].retry()
        await hand.last.finish(rt)
        await advance(rt, 60)
        stats = await queue.stats()
        assert (stats.depth, stats.dead, stats.acked, stats.sent) == (0, 1, 0, 5)
        await queue.send("e")
        await rest(rt)
        assert hand.last.bodies == ["e"]


async def test_purging_more_than_a_page(tmp_path: Path) -> None:
    """In one commit, however many there are."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        await queue.send_batch(list(range(1000)))
        assert await queue.purge() == 1000
        assert await all_of(rt, "q") == []


async def test_dead_letters_and_redrive(tmp_path: Path) -> None:
    """They are listed in order, and put back by id or all together."""
    async with runtime(tmp_path) as rt:
        queue, inbox = rt.get(Queue, "q"), Inbox()
        await queue.send_batch(["a", "b", "c"], ids=["1", "2", "3"])
        consumer = rt.consume("q", inbox, body=int, max_wait=0)
        await rest(rt)
        await consumer.stop()
        assert [dead.body for dead in await queue.dead()] == ["a", "b", "c"]
        assert [dead.body for dead in await queue.dead(2)] == ["a", "b"]
        assert await queue.redrive(["2", "nobody"]) == 1
        assert await all_of(rt, "q") == ["b"]
        assert [dead.id for dead in await queue.dead()] == ["1", "3"]
        assert await queue.redrive() == 2
        assert await all_of(rt, "q") == ["a", "c"]
        assert await queue.redrive() == 0
        with pytest.raises(InvalidArgument):
            await queue.dead(0)


class Sku(msgspec.Struct, frozen=True):
    """A key of a dict; stored, it is a map."""

    code: str


async def test_a_dead_letter_whose_body_has_structs_as_keys(tmp_path: Path) -> None:
    """Plain data can't hold it, so the letter has its bytes; the others are listed all the same."""
    async with runtime(tmp_path) as rt:
        queue, body = rt.get(Queue, "q"), {Sku("tea"): 1}
        await queue.send(body)
        await queue.send("text")
        consumer = rt.consume("q", Inbox(), body=int, max_wait=0)
        await rest(rt)
        await consumer.stop()
        assert [dead.body for dead in await queue.dead()] == [msgspec.msgpack.encode(body), "text"]


async def test_a_failed_commit_sends_nothing(tmp_path: Path) -> None:
    """The caller is told, and the numbers are what they were."""
    log = FailingLog()
    async with runtime(tmp_path, wrap_log=log.wrap) as rt:
        queue = rt.get(Queue, "q")
        await queue.send(1)
        log.fail_next = 1
        with pytest.raises(StorageFailed):
            await queue.send(2)
        await queue.send(3)
        assert (await queue.stats()).depth == 2
        assert await all_of(rt, "q") == [1, 3]


SENDING_CHILD = """
import asyncio, sys
from holdfast import Queue, Runtime
async def main():
    async with Runtime(sys.argv[1]) as rt:
        queue = rt.get(Queue, "q")
        async def sender(k):
            n = 0
            while True:
                n += 1
                await queue.send(f"{k}.{n}")
                print(f"{k}.{n}", flush=True)
        await asyncio.gather(*(sender(k) for k in range(10)))
asyncio.run(main())
"""


async def test_acknowledged_sends_survive_kill_nine(tmp_path: Path) -> None:
    """Each is there once, and the depth is exact."""
    child = Child(SENDING_CHILD, tmp_path)
    sent = [child.line() for _ in range(200)] + child.kill()[:-1]
    async with runtime(tmp_path, ManualClock(1 << 42)) as rt:
        depth = (await rt.get(Queue, "q").stats()).depth
        bodies = await all_of(rt, "q")
        assert set(sent) <= set(map(str, bodies))
        assert len(set(map(str, bodies))) == len(bodies) == depth


# -- groups --------------------------------------------------------------------------------------------------


async def test_every_group_gets_every_message(tmp_path: Path) -> None:
    """Consumers of one group share them; what one group does to a message is nothing to the other."""
    async with runtime(tmp_path) as rt:
        queue, hand, first, second = rt.get(Queue, "q"), Hand(), Inbox(), Inbox()
        rt.consume("q", hand, group="a", max_wait=0, retry=Retry(0))
        rt.consume("q", first, group="b", batch_size=1, max_wait=0)
        rt.consume("q", second, group="b", batch_size=1, max_wait=0)
        await queue.send_batch([1, 2])
        await rest(rt)
        assert hand.bodies == [[1, 2]]
        assert sorted([*first.bodies, *second.bodies], key=str) == [1, 2]
        a, b = await queue.stats("a"), await queue.stats("b")
        assert (a.depth, a.acked, b.depth, b.acked) == (2, 0, 0, 2)
        await hand.last.fail(rt)
        assert [dead.body for dead in await queue.dead(group="a")] == [1, 2]
        assert await queue.dead(group="b") == []
        assert await queue.redrive(group="a") == 2
        await rest(rt)
        await hand.last.finish(rt)
        stats = await queue.stats()
        assert (stats.depth, stats.acked, stats.sent, stats.groups) == (0, 4, 2, ("a", "b"))


async def test_the_first_group_gets_what_waits(tmp_path: Path) -> None:
    """Later groups get what is sent from the moment that they consume, also before their first turn."""
    async with runtime(tmp_path) as rt:
        queue, first, second = rt.get(Queue, "q"), Inbox(), Inbox()
        await queue.send("before")
        rt.consume("q", first, group="first", max_wait=0)
        await queue.send("between")
        rt.consume("q", second, group="second", max_wait=0)
        await queue.send("after")
        await rest(rt)
        assert (first.bodies, second.bodies) == (["before", "between", "after"], ["after"])


async def test_a_group_is_kept_on_disk(tmp_path: Path) -> None:
    """It gets what is sent while it doesn't consume."""
    async with runtime(tmp_path) as rt:
        await rt.get(Queue, "q").add_group("a")
        await rt.get(Queue, "q").add_group("b")
        await rt.get(Queue, "q").add_group("b")
    async with runtime(tmp_path) as rt:
        await rt.get(Queue, "q").send(1)
        assert await all_of(rt, "q", "a") == [1]
    async with runtime(tmp_path) as rt:
        await rt.get(Queue, "q").send(2)
        assert await all_of(rt, "q", "b") == [1, 2]


async def test_a_crash_between_groups(tmp_path: Path) -> None:
    """A send is in all groups or in none."""
    at, crashed = 0, True
    while crashed:
        at += 1
        sent: list[int] = []
        path, clock = tmp_path / str(at), ManualClock()

        async def work(rt: Runtime, sent: list[int] = sent) -> None:
            for name in ("a", "b", "c"):
                await rt.get(Queue, "q").add_group(name)
            for n in range(3):
                await rt.get(Queue, "q").send(n)
                sent.append(n)

        crashed = await until_crash(work, path, CrashLog(at, stored=bool(at % 2)), clock)
        async with runtime(path, clock) as rt:
            if (await rt.get(Queue, "q").stats()).groups == ("a", "b", "c"):
                found = [await all_of(rt, "q", name) for name in ("a", "b", "c")]
                assert found[0] == found[1] == found[2]
                assert found[0][: len(sent)] == sent
    assert at > 5


async def test_removing_a_group(tmp_path: Path) -> None:
    """Its messages and dead letters go; the others keep theirs; the queue goes on even without any group."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        consumer = rt.consume("q", Inbox(), group="a", body=int, max_wait=0)
        await queue.add_group("b")
        await queue.send("x")
        await rest(rt)
        with pytest.raises(CallerError, match="being consumed"):
            await queue.remove_group("a")
        await consumer.stop()
        await queue.send("y")
        assert await queue.remove_group("a") == 1
        stats = await queue.stats()
        assert (stats.depth, stats.dead, stats.groups) == (2, 0, ("b",))
        assert await queue.remove_group("b") == 2
        with pytest.raises(CallerError, match="no consumer group"):
            await queue.remove_group("b")
        await queue.send("z")
        assert await all_of(rt, "q", "c") == ["z"]


async def test_groups_are_limited(tmp_path: Path) -> None:
    """Each costs a copy of every message."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        for n in range(MAX_GROUPS):
            await queue.add_group(f"g{n}")
        with pytest.raises(CallerError, match="100 consumer groups"):
            await queue.add_group("one more")


async def test_purge_of_one_group(tmp_path: Path) -> None:
    """The other keeps its messages."""
    async with runtime(tmp_path) as rt:
        queue = rt.get(Queue, "q")
        await queue.add_group("a")
        await queue.add_group("b")
        await queue.send_batch([1, 2])
        assert await queue.purge("a") == 2
        assert (await all_of(rt, "q", "a"), await all_of(rt, "q", "b")) == ([], [1, 2])


# -- dead-letter queues --------------------------------------------------------------------------------------


async def test_a_dead_letter_goes_to_its_queue(tmp_path: Path) -> None:
    """Same id, body and time; its attempts start again at 1; nothing of it stays."""
    async with runtime(tmp_path) as rt:
        hand, last = Hand(), Hand()
        rt.consume("q", hand, max_wait=0, retry=Retry(1, 0), dead_letter_queue="dead")
        rt.consume("dead", last, max_wait=0)
        await rt.get(Queue, "q").send({"a": 1}, id="it")
        await rest(rt)
        sent_at_ms = hand.last.messages[0].sent_at_ms
        await hand.last.fail(rt)
        await hand.last.fail(rt)
        await advance(rt, 0)
        (message,) = last.last.messages
        assert (message.id, message.body, message.attempts) == ("it", {"a": 1}, 1)
        assert message.sent_at_ms == sent_at_ms
        stats = await rt.get(Queue, "q").stats()
        assert (stats.depth, stats.dead, stats.leaving) == (0, 0, 0)
        await last.last.finish(rt)


async def test_a_queue_is_not_its_own_dead_letter_queue(tmp_path: Path) -> None:
    """By name or by ref, for handlers and bindings."""
    async with runtime(tmp_path) as rt:
        with pytest.raises(CallerError, match="own dead-letter queue"):
            rt.consume("q", Inbox(), dead_letter_queue="q")
        with pytest.raises(CallerError, match="own dead-letter queue"):
            rt.bind("q", Keep, dead_letter_queue=rt.get(Queue, "q"))


async def test_dead_letters_of_a_binding(tmp_path: Path) -> None:
    """What can't be started goes to the dead-letter queue too."""
    async with runtime(tmp_path) as rt:
        rt.bind("q", Keep, id=lambda _, order: order.order, dead_letter_queue=rt.get(TinyQueue, "dead"))
        await rt.get(Queue, "q").send_batch([Order("a"), {"bad": 1}])
        await rest(rt)
        await advance(rt, 0)
        assert (await rt.get(TinyQueue, "dead").stats()).depth == 1
        assert (await rt.get(Queue, "q").stats()).dead == 0


async def test_a_full_dead_letter_queue(tmp_path: Path) -> None:
    """The dead letter waits in its queue and is moved when there is room."""
    async with runtime(tmp_path) as rt:
        dead, hand = rt.get(TinyQueue, "dead"), Hand()
        await dead.send_batch([1, 2, 3])
        rt.consume("q", hand, max_wait=0, retry=Retry(0), dead_letter_queue=dead)
        await rt.get(Queue, "q").send(4)
        await rest(rt)
        await hand.last.fail(rt)
        await advance(rt, 0)
        assert (await rt.get(Queue, "q").stats()).leaving == 1
        await dead.purge()
        await advance(rt, 30)
        assert (await rt.get(Queue, "q").stats()).leaving == 0
        assert (await dead.stats()).depth == 1


async def test_more_dead_letters_than_move_at_once(tmp_path: Path) -> None:
    """All of them arrive, in order."""
    async with runtime(tmp_path) as rt:
        hand = Hand()
        rt.consume("q", hand, batch_size=200, max_wait=0, retry=Retry(0), dead_letter_queue="dead")
        await rt.get(Queue, "q").send_batch(list(range(120)))
        await rest(rt)
        await hand.last.fail(rt)
        for _ in range(4):
            await advance(rt, 0)
        assert await all_of(rt, "dead") == list(range(120))


async def test_queues_that_are_each_others_dead_letter_queue(tmp_path: Path) -> None:
    """A message that nobody wants goes round, one at a time."""
    async with runtime(tmp_path) as rt:
        hands = {"a": Hand(), "b": Hand()}
        rt.consume("a", hands["a"], max_wait=0, retry=Retry(0), dead_letter_queue="b")
        rt.consume("b", hands["b"], max_wait=0, retry=Retry(0), dead_letter_queue="a")
        await rt.get(Queue, "a").send("hot")
        await rest(rt)
        for name in ("a", "b", "a"):
            await hands[name].last.fail(rt)
            await advance(rt, 0)
        assert [len(hand.deliveries) for hand in hands.values()] == [2, 2]
        await hands["b"].last.finish(rt)


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "lost"])
async def test_moving_is_exactly_once(tmp_path: Path, stored: bool) -> None:
    """Wherever the process ends, each dead letter is in the other queue once and nowhere else."""
    at, crashed = 0, True
    while crashed:
        at += 1
        path, clock = tmp_path / str(at), ManualClock()

        async def work(rt: Runtime) -> None:
            await rt.get(Queue, "q").send_batch(["a", "b", "c"])
            rt.consume("q", refuse, batch_size=2, max_wait=0, retry=Retry(1, 0), dead_letter_queue="dead")
            await rest(rt)
            await advance(rt, 0)

        crashed = await until_crash(work, path, CrashLog(at, stored=stored), clock)
        async with runtime(path, clock) as rt:
            sent = (await rt.get(Queue, "q").stats()).sent
            rt.consume("q", refuse, max_wait=0, retry=Retry(1, 0), dead_letter_queue="dead")
            for _ in range(4):
                await advance(rt, 3)
            stats = await rt.get(Queue, "q").stats()
            assert (stats.depth, stats.dead, stats.leaving) == (0, 0, 0)
            found = await all_of(rt, "dead")
            assert sorted(map(str, found)) == ["a", "b", "c"][:sent]
    assert at > 6


async def refuse(batch: object) -> None:
    """A handler that never succeeds."""
    raise ValueError("no")
