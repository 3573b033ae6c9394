"""A real queue on a real folder against a model of it: what is delivered, how often, and every number.

The consumer takes by itself what it can (3 batches of 2); the machine sends, ends batches, moves the clock,
and ends the process in several ways.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Literal, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast import Queue, Retry, Runtime
from holdfast.actors.errors import QueueDraining
from holdfast.actors.queue_consumer import Consumer
from holdfast.actors.queue_info import queue_info
from holdfast.actors.queue_purge import purge_in_slices
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.ref import Ref
from holdfast.storage.errors import HoldfastError
from tests.actors.queue_support import CrashLog, Delivery, Hand, rest
from tests.runtime.support import crash

T = TypeVar("T")
LIMIT = 2
DELAY_SECONDS = 1
BATCH_SIZE = 2
CONCURRENCY = 3
Decision = Literal["none", "ack", "retry", "retry later"]
DECISIONS: list[Decision] = ["none", "ack", "retry", "retry later"]


class Known:
    """What the model knows of a message."""

    def __init__(self, available_ms: int) -> None:
        self.available_ms = available_ms
        self.attempts = 1
        self.deliveries = 0
        self.state: Literal["waiting", "held", "dead", "done", "purged"] = "waiting"


class QueueMachine(RuleBasedStateMachine):
    """Rules are what users, handlers, time and bad luck do."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="holdfast-queue-"))
        self.clock = ManualClock()
        self.messages: dict[str, Known] = {}
        self.sent = self.acked = self.retried = 0
        self.paused = self.draining = False
        self.number = 0
        self.seen = 0

    def do(self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    # -- the real one ----------------------------------------------------------------------------------------

    @initialize()
    def open(self) -> None:
        self.do(self._open())
        self.look()

    async def _open(self) -> None:
        self.log = CrashLog()
        self.rt = Runtime(self.folder, clock=self.clock, seed=1, min_free_bytes=0, wrap_log=self.log.wrap)
        await self.rt.open()
        self.queue = self.rt.get(Queue, "q")
        self._consume()

    def _consume(self) -> None:
        self.hand = Hand()
        self.seen = 0
        self.consumer: Consumer = self.rt.consume(
            "q",
            self.hand,
            batch_size=BATCH_SIZE,
            max_wait=0,
            concurrency=CONCURRENCY,
            retry=Retry(LIMIT, DELAY_SECONDS, backoff="constant", jitter=0),
        )

    def teardown(self) -> None:
        try:
            if hasattr(self, "rt"):
                if self.paused:
                    self.resume()
                self.drain()
                self.do(self.rt.close())
        finally:
            self.loop.close()
            shutil.rmtree(self.folder)

    def drain(self) -> None:
        """In the end every message was delivered, unless it was purged."""
        while any(known.state in ("waiting", "held") for known in self.messages.values()):
            self.advance(86_400.0)
            for delivery in self.open_deliveries():
                self.end_batch(delivery, ["ack"] * BATCH_SIZE, False)
        assert all(known.deliveries for known in self.messages.values() if known.state in ("done", "dead"))

    # -- what is compared ------------------------------------------------------------------------------------

    def open_deliveries(self) -> list[Delivery]:
        return [delivery for delivery in self.hand.deliveries if not delivery.end.done()]

    def look(self) -> None:
        """Let everything happen, and check what was delivered, and that nothing was held back."""
        self.do(rest(self.rt))
        now_ms = self.clock.now_ms()
        for delivery in self.hand.deliveries[self.seen :]:
            assert not self.paused
            assert 1 <= len(delivery.messages) <= BATCH_SIZE
            for message in delivery.messages:
                known = self.messages[message.id]
                assert known.state == "waiting", f"{message.id} is {known.state} and was delivered"
                assert known.available_ms <= now_ms
                assert known.attempts == message.attempts
                assert message.body == message.id
                known.state = "held"
                known.deliveries += 1
        self.seen = len(self.hand.deliveries)
        if not self.paused and len(self.open_deliveries()) < CONCURRENCY:
            late = [
                id_
                for id_, known in self.messages.items()
                if known.state == "waiting" and known.available_ms <= now_ms
            ]
            assert not late, f"{late} could be delivered"

    @invariant()
    def numbers_are_exact(self) -> None:
        if not hasattr(self, "rt"):
            return
        stats = self.do(self.queue.stats())
        states = [known.state for known in self.messages.values()]
        assert stats.depth == states.count("waiting") + states.count("held")
        assert (stats.dead, stats.sent, stats.acked, stats.retried) == (
            states.count("dead"), self.sent, self.acked, self.retried,
        )  # fmt: skip
        assert stats.paused == self.paused
        told = queue_info(self.rt, cast("Ref", self.queue))
        waiting = [known for known in self.messages.values() if known.state in ("waiting", "held")]
        assert told.retrying == sum(known.attempts > 1 for known in waiting)
        assert told.in_flight == states.count("held")
        assert told.draining == self.draining
        dead = self.do(self.queue.dead(10_000))
        assert sorted(letter.id for letter in dead) == sorted(self.ids("dead"))

    def ids(self, state: str) -> list[str]:
        return [id_ for id_, known in self.messages.items() if known.state == state]

    # -- rules -----------------------------------------------------------------------------------------------

    def new_ids(self, count: int) -> list[str]:
        self.number += count
        return [f"m{n}" for n in range(self.number - count, self.number)]

    def put(self, ids: list[str], delay: float) -> None:
        self.sent += len(ids)
        available_ms = self.clock.now_ms() + round(delay * 1000)
        self.messages.update({id_: Known(available_ms) for id_ in ids})

    @precondition(lambda self: not self.draining)
    @rule(delay=st.sampled_from([0, 0, 1, 60]))
    def send(self, delay: int) -> None:
        (id_,) = self.new_ids(1)
        self.do(self.queue.send(id_, id=id_, delay=delay))
        self.put([id_], delay)
        self.look()

    @precondition(lambda self: not self.draining)
    @rule(count=st.integers(0, 7), delay=st.sampled_from([0, 0, 1, 60]))
    def send_batch(self, count: int, delay: int) -> None:
        ids = self.new_ids(count)
        self.do(self.queue.send_batch(list(ids), ids=ids, delay=delay))
        self.put(ids, delay)
        self.look()

    @rule(seconds=st.sampled_from([0.001, 0.999, 1.0, 59.0, 3600.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.look()

    @precondition(lambda self: self.open_deliveries())
    @rule(
        which=st.integers(0, CONCURRENCY - 1),
        decisions=st.lists(st.sampled_from(DECISIONS), min_size=BATCH_SIZE, max_size=BATCH_SIZE),
        fails=st.booleans(),
    )
    def end_one(self, which: int, decisions: list[Decision], fails: bool) -> None:
        deliveries = self.open_deliveries()
        self.end_batch(deliveries[which % len(deliveries)], decisions, fails)

    def end_batch(self, delivery: Delivery, decisions: list[Decision], fails: bool) -> None:
        for message, decision in zip(delivery.messages, decisions, strict=False):
            known = self.messages[message.id]
            if decision == "ack":
                message.ack()
            elif decision != "none":
                message.retry(delay=10 if decision == "retry later" else None)
            if known.state == "held":
                if decision == "ack" or (decision == "none" and not fails):
                    self.done(known)
                else:
                    self.again(known, 10 if decision == "retry later" else DELAY_SECONDS)
        if fails:
            delivery.end.set_exception(ValueError("the test failed this batch"))
        else:
            delivery.end.set_result(None)
        self.look()

    def done(self, known: Known) -> None:
        known.state = "done"
        self.acked += 1

    def again(self, known: Known, delay_seconds: int) -> None:
        if known.attempts > LIMIT:
            known.state = "dead"
            return
        known.state = "waiting"
        known.attempts += 1
        known.available_ms = self.clock.now_ms() + delay_seconds * 1000
        self.retried += 1

    @rule()
    def pause(self) -> None:
        self.do(self.queue.pause())
        self.paused = True
        self.look()

    @rule()
    def drain_it(self) -> None:
        self.do(self.queue.drain())
        self.paused, self.draining = False, True
        with pytest.raises(QueueDraining):
            self.do(self.queue.send("not taken"))
        self.look()

    @precondition(lambda self: self.paused or self.draining)
    @rule()
    def resume(self) -> None:
        self.do(self.queue.resume())
        self.paused = self.draining = False
        self.look()

    @rule(in_slices=st.booleans())
    def purge(self, in_slices: bool) -> None:
        gone = [known for known in self.messages.values() if known.state in ("waiting", "held")]
        purge = purge_in_slices(cast("Ref", self.queue)) if in_slices else self.queue.purge()
        assert self.do(purge) == len(gone)
        for known in gone:
            known.state = "purged"
        self.look()

    @rule(all_of_them=st.booleans())
    def redrive(self, all_of_them: bool) -> None:
        ids = self.ids("dead")
        if not all_of_them:
            ids = ids[::2]
        assert self.do(self.queue.redrive(None if all_of_them else ids)) == len(ids)
        for id_ in ids:
            known = self.messages[id_]
            known.state, known.attempts, known.available_ms = "waiting", 1, self.clock.now_ms()
        self.look()

    @precondition(lambda self: self.ids("dead"))
    @rule(drops=st.booleans())
    def settle_one(self, drops: bool) -> None:
        letter = self.do(self.queue.dead(1))[0]
        known = self.messages[letter.id]
        for count in (1, 0):  # once, and not again
            if drops:
                assert self.do(self.queue.drop_at([letter.place])) == count
            else:
                assert self.do(self.queue.redrive_at([letter.place])) == count
        if drops:
            known.state = "purged"
        else:
            known.state, known.attempts, known.available_ms = "waiting", 1, self.clock.now_ms()
        self.look()

    # -- ends ------------------------------------------------------------------------------------------------

    def hand_back(self) -> None:
        for id_ in self.ids("held"):
            self.messages[id_].state = "waiting"  # where it was, and no attempt

    @rule()
    def restart_the_consumer(self) -> None:
        self.do(self.consumer.stop())
        self.hand_back()
        self._consume()
        self.look()

    @rule()
    def close_and_open(self) -> None:
        self.do(self.rt.close())
        self.hand_back()
        self.open()

    @rule()
    def kill(self) -> None:
        self.do(crash(self.rt))
        self._reopen()

    @precondition(lambda self: not self.draining)
    @rule(stored=st.booleans())
    def kill_while_sending(self, stored: bool) -> None:
        (id_,) = self.new_ids(1)
        self.log.at, self.log.stored = self.log.commits + 1, stored
        with pytest.raises(HoldfastError):
            self.do(self.queue.send(id_, id=id_))
        if stored:
            self.put([id_], 0)
        self._reopen()

    def _reopen(self) -> None:
        self.do(self.rt.close())
        for id_ in self.ids("held"):
            self.again(self.messages[id_], 0)
        self.open()


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.slow
class TestQueueForLong(QueueMachine.TestCase):  # type: ignore[misc, valid-type]
    """The same for many more lives."""

    settings = settings(
        max_examples=250, stateful_step_count=60, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
