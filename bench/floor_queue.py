"""The floor of `queue`: what a durable queue's promises force.

  * A message is on disk when its send returns.
  * What a handler has in hand also lies on disk as a lease, durable before it sees it, so that a message that
    kills the process counts as tried.
  * An acknowledgement removes messages and lease in one commit.

Left out: retries, dead letters, groups, delays, depth limits.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from .floor import GONE, Floor, counted, stage, unseal
from .workload import Event, Sample, drive, make_events

NEXT = b"m/next_message"


def message_key(number: int) -> bytes:
    """Where a message lies: in the order of sending."""
    return b"q/%08d" % number


class FloorQueue:
    """One queue in an open folder."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.next_number = 0
        self._first_not_leased = 0
        self._leases = 0
        self._sent = asyncio.Event()

    async def send(self, event: Event) -> None:
        """One message, durable."""
        durable = self.floor.turn(self._put, event)
        self.next_number += 1
        self._sent.set()
        await durable

    def _put(self, event: Event) -> None:
        stage(message_key(self.next_number), {"sent_at": time.time(), "attempts": 0, "body": event})
        stage(NEXT, self.next_number + 1)

    async def consume(self, batch_size: int, handle: Any) -> None:
        """Batches, one after the other, until cancelled; several of these may run at a time."""
        while True:
            first = self._first_not_leased
            end = min(first + batch_size, self.next_number)
            if first == end:
                self._sent.clear()
                await self._sent.wait()
                continue
            self._first_not_leased = end
            self._leases += 1
            lease = b"l/%08d" % self._leases
            read = self.floor.log.get
            messages = [unseal(read(message_key(number)) or b"") for number in range(first, end)]
            await self.floor.turn(stage, lease, [first, end])
            await handle([message["body"] for message in messages])
            await self.floor.turn(self._settle, lease, first, end)

    def _settle(self, lease: bytes, first: int, end: int) -> None:
        for number in range(first, end):
            stage(message_key(number), GONE)
        stage(lease, GONE)


async def queue_send(folder: Path, messages: int, senders: int, *, slow_sync_seconds: float = 0.0) -> Sample:
    """One unit: a message, sent and durable."""
    async with Floor(folder, slow_sync_seconds) as floor:
        return counted(floor, await drive(make_events(messages), senders, FloorQueue(floor).send))


class Handled:
    """Notes when each message came to the handler."""

    def __init__(self, messages: int) -> None:
        self.at: dict[str, float] = {}
        self.all = asyncio.Event()
        self._messages = messages

    async def __call__(self, bodies: list[Any]) -> None:
        now = time.perf_counter()
        for body in bodies:
            self.at[body["event_id"]] = now
        if len(self.at) >= self._messages:
            self.all.set()


async def consume_all(queue: FloorQueue, batch_size: int, at_once: int, handled: Handled) -> None:
    """Consume until every message is handled, and its acknowledgement durable."""
    consumers = [asyncio.create_task(queue.consume(batch_size, handled)) for _ in range(at_once)]
    await handled.all.wait()
    # The last acknowledgements are staged when the loop comes round, and durable with what comes behind them.
    await asyncio.sleep(0)
    await queue.floor.turn(stage, b"m/end", 0)
    for consumer in consumers:
        consumer.cancel()
    await asyncio.gather(*consumers, return_exceptions=True)


async def queue_consume(
    folder: Path, messages: int, batch_size: int, at_once: int, *, slow_sync_seconds: float = 0.0
) -> Sample:
    """One unit: a message that waited, handled and acknowledged."""
    async with Floor(folder, slow_sync_seconds) as floor:
        queue = FloorQueue(floor)
        await drive(make_events(messages), 1000, queue.send)
        handled = Handled(messages)
        began = time.perf_counter()
        await consume_all(queue, batch_size, at_once, handled)
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
    async with Floor(folder, slow_sync_seconds) as floor:
        queue = FloorQueue(floor)
        handled = Handled(messages)
        sent: dict[str, float] = {}

        async def send(event: Event) -> None:
            sent[event.event_id] = time.perf_counter()
            await queue.send(event)

        began = time.perf_counter()
        consuming = asyncio.create_task(consume_all(queue, batch_size, at_once, handled))
        await drive(make_events(messages), senders, send)
        await consuming
        seconds = time.perf_counter() - began
        return counted(
            floor, Sample(messages, seconds, sorted(at - sent[id] for id, at in handled.at.items()))
        )
