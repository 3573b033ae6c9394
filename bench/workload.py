"""What both sides work on: the events, the check of an event, and the record of a whole measured stretch.

The floor and Holdfast get the same events under the same ids and call the same ``validate``, so that what
differs between two figures is the way to durability and nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

Item = TypeVar("Item")

KINDS = ("created", "paid", "shipped", "returned")


class Event(msgspec.Struct, frozen=True):
    """One event as a web hook would deliver it: about 200 bytes as MessagePack."""

    event_id: str
    kind: str
    account: str
    amount: int
    at: float
    note: str


class Validated(msgspec.Struct, frozen=True):
    """What the step ``validate`` returns, and so what its checkpoint holds."""

    event_id: str
    amount: int


class Receipt(msgspec.Struct, frozen=True):
    """What a run of the pipeline returns."""

    event_id: str
    stored: bool
    amount: int


def make_events(count: int, first: int = 0) -> list[Event]:
    """``count`` events with distinct ids, numbered from ``first``."""
    note = "the customer rang and asked for another delivery day, left with the neighbour on the right"
    return [
        Event(
            event_id=f"event-{n:08d}",
            kind=KINDS[n % len(KINDS)],
            account=f"account-{n % 97:04d}",
            amount=1 + n % 50,
            at=1_700_000_000.0 + n,
            note=note,
        )
        for n in range(first, first + count)
    ]


def validate(event: Event) -> Validated:
    """The first step: raises ValueError for an event that nobody should store."""
    if event.kind not in KINDS:
        raise ValueError(f"event {event.event_id}: unknown kind {event.kind!r}, expected one of {KINDS}")
    if event.amount <= 0:
        raise ValueError(f"event {event.event_id}: amount must be positive, got {event.amount}")
    return Validated(event.event_id, event.amount)


@dataclass(slots=True)
class Sample:
    """One repetition: how many units in how many seconds, and how long each item took."""

    # The unit is the scenario's: runs, steps, calls, writes.  An item is what one worker awaited at a time;
    # it is a unit everywhere except in `steps`, where an item is a run of several units.
    units: int
    seconds: float
    # Seconds from before an item was begun until its effect was durable and its result was in hand, sorted.
    latencies: Sequence[float]
    # What else a side knows, such as its number of commits.
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / self.seconds

    def latency_ms(self, percent: float) -> float:
        """The latency that ``percent`` of the items did not exceed, in milliseconds (nearest rank)."""
        rank = min(len(self.latencies) - 1, int(len(self.latencies) * percent / 100))
        return self.latencies[rank] * 1000


async def drive(
    items: Iterable[Item],
    in_flight: int,
    act: Callable[[Item], Awaitable[object]],
    units_per_item: int = 1,
) -> Sample:
    """Run ``act`` once for each item, ``in_flight`` at a time, and time each and all of them.

    A closed loop: each of ``in_flight`` workers takes the next item when its last one is done.
    """
    source = iter(list(items))
    latencies: list[float] = []
    clock = time.perf_counter

    async def work() -> None:
        for item in source:
            began = clock()
            await act(item)
            latencies.append(clock() - began)

    gc.collect()
    began = clock()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())
    seconds = clock() - began
    latencies.sort()
    return Sample(len(latencies) * units_per_item, seconds, latencies)
