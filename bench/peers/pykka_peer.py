# pyright: reportMissingImports=false, reportMissingModuleSource=false
"""pykka: actors on threads, in memory.  Nothing is durable; it shows what actors alone cost.

The caller keeps so many futures outstanding and takes the oldest: pykka's futures, no thread for each caller.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any

import pykka

from ..workload import Sample, make_events, validate
from .protocol import Task, serve


def check(task: Task) -> dict[str, str]:
    """Its version."""
    return {"pykka": version("pykka")}


def drive_futures(items: Iterable[Any], in_flight: int, begin: Callable[[Any], Any]) -> Sample:
    """``begin`` gives the future of an item; ``in_flight`` of them are outstanding."""
    clock = time.perf_counter
    outstanding: deque[tuple[float, Any]] = deque()
    latencies: list[float] = []

    def take() -> None:
        began, future = outstanding.popleft()
        future.get()
        latencies.append(clock() - began)

    began_all = clock()
    for item in items:
        outstanding.append((clock(), begin(item)))
        if len(outstanding) >= in_flight:
            take()
    while outstanding:
        take()
    return Sample(len(latencies), clock() - began_all, sorted(latencies))


class Counter(pykka.ThreadingActor):  # type: ignore[misc,unused-ignore]
    """A number."""

    def __init__(self) -> None:
        super().__init__()
        self.value = 0

    def increment(self) -> int:
        """One more."""
        self.value += 1
        return self.value


class Events(pykka.ThreadingActor):  # type: ignore[misc,unused-ignore]
    """The events by their ids."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, Any] = {}

    def put(self, event: Any) -> bool:
        """True if it was new."""
        new = event.event_id not in self.rows
        self.rows.setdefault(event.event_id, event)
        return new


class Metrics(pykka.ThreadingActor):  # type: ignore[misc,unused-ignore]
    """Two counters and a time."""

    def __init__(self) -> None:
        super().__init__()
        self.events, self.amount, self.last_event_at = 0, 0, 0.0

    def add(self, amount: int) -> None:
        """One event."""
        self.events += 1
        self.amount += amount
        self.last_event_at = time.time()


class Pipeline(pykka.ThreadingActor):  # type: ignore[misc,unused-ignore]
    """Validates, and has the others store and count; one event at a time, as actors do."""

    def __init__(self, events: Any, metrics: Any) -> None:
        super().__init__()
        self.events, self.metrics = events, metrics

    def process(self, event: Any) -> bool:
        """The three steps."""
        validated = validate(event)
        stored: bool = self.events.put(event).get()
        self.metrics.add(validated.amount).get()
        return stored


def counter(task: Task) -> Sample:
    """One unit: an increment that was answered."""
    keys, callers, calls = task.arguments
    counters = [Counter.start().proxy() for _ in range(keys)]
    try:
        return drive_futures(range(calls), callers, lambda number: counters[number % keys].increment())
    finally:
        pykka.ActorRegistry.stop_all()


def pipeline(task: Task) -> Sample:
    """One unit: an event."""
    n_events, in_flight = task.arguments
    try:
        events, metrics = Events.start().proxy(), Metrics.start().proxy()
        # A few of them, as a pool: with one for each event the threads would fight for the interpreter.
        pool = [Pipeline.start(events, metrics).proxy() for _ in range(min(in_flight, 8))]
        sample = drive_futures(
            list(enumerate(make_events(n_events))),
            in_flight,
            lambda one: pool[one[0] % len(pool)].process(one[1]),
        )
        if metrics.events.get() != n_events:
            raise AssertionError("an event was not counted")
        return sample
    finally:
        pykka.ActorRegistry.stop_all()


if __name__ == "__main__":
    serve({"counter": counter, "pipeline": pipeline}, check)
