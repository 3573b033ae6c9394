"""Holdfast's side of `queue`: the library's own queue and consumer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from holdfast import Batch, Queue, Runtime
from holdfast.actors.queue_consumer import Consumer

from .holdfast_side import open_runtime
from .workload import Event, Sample, drive, make_events

NAME = "events"


async def queue_send(folder: Path, messages: int, senders: int, *, slow_sync_seconds: float = 0.0) -> Sample:
    """One unit: a message, sent and durable."""
    async with open_runtime(folder, slow_sync_seconds) as rt:
        return await drive(make_events(messages), senders, rt.get(Queue, NAME).send)


class Handled:
    """A handler that notes when each message came."""

    def __init__(self, messages: int) -> None:
        self.at: dict[str, float] = {}
        self.all = asyncio.Event()
        self._messages = messages

    async def __call__(self, batch: Batch[Event]) -> None:
        now = time.perf_counter()
        for message in batch:
            self.at[message.body.event_id] = now
        if len(self.at) >= self._messages:
            self.all.set()


def consume(rt: Runtime, batch_size: int, at_once: int, handled: Handled) -> Consumer:
    """The consumer: a batch is delivered as soon as there is anything for it."""
    return rt.consume(NAME, handled, body=Event, batch_size=batch_size, max_wait=0, concurrency=at_once)


async def until_settled(rt: Runtime, consumer: Consumer, handled: Handled) -> None:
    """Until every message is handled, and its acknowledgement durable."""
    await handled.all.wait()
    queue = rt.get(Queue, NAME)
    while (await queue.stats()).depth:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.001)
    await consumer.stop()


async def queue_consume(
    folder: Path, messages: int, batch_size: int, at_once: int, *, slow_sync_seconds: float = 0.0
) -> Sample:
    """One unit: a message that waited, handled and acknowledged."""
    async with open_runtime(folder, slow_sync_seconds) as rt:
        await drive(make_events(messages), 1000, rt.get(Queue, NAME).send)
        handled = Handled(messages)
        began = time.perf_counter()
        await until_settled(rt, consume(rt, batch_size, at_once, handled), handled)
        seconds = time.perf_counter() - began
        return Sample(messages, seconds, sorted(at - began for at in handled.at.values()))


async def queue_both(
    folder: Path,
    messages: int,
    senders: int,
    batch_size: int,
    at_once: int,
    *,
    slow_sync_seconds: float = 0.0,
) -> Sample:
    """One unit: a message, sent, handled and acknowledged."""
    async with open_runtime(folder, slow_sync_seconds) as rt:
        queue = rt.get(Queue, NAME)
        handled = Handled(messages)
        sent: dict[str, float] = {}

        async def send(event: Event) -> None:
            sent[event.event_id] = time.perf_counter()
            await queue.send(event)

        began = time.perf_counter()
        consumer = consume(rt, batch_size, at_once, handled)
        await drive(make_events(messages), senders, send)
        await until_settled(rt, consumer, handled)
        seconds = time.perf_counter() - began
        return Sample(messages, seconds, sorted(at - sent[id] for id, at in handled.at.items()))
