"""Holdfast's side of every scenario: the work of ``floor``, written as a user of the library would write it.

The functions have the names, the parameters and the units of those in ``floor``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable
from pathlib import Path

from holdfast import Actor, Counter, Runtime, Workflow

from .slow_disk import SlowCommits
from .workload import Event, Receipt, Sample, drive, make_events, validate


def open_runtime(path: Path, slow_sync_seconds: float, deps: Iterable[object] = ()) -> Runtime:
    """A runtime on ``path`` whose disk takes ``slow_sync_seconds`` more for each sync (a commit is two).

    The one place where the slow disk is wired into Holdfast.
    """
    if slow_sync_seconds:
        return Runtime(path, deps=deps, wrap_log=lambda log: SlowCommits(log, slow_sync_seconds))
    return Runtime(path, deps=deps)


# ------------------------------------------------------------------------------------------------------------
# The pipeline.


class Events(Actor):
    """The stored events, by their ids: storing one again changes nothing."""

    async def put(self, event: Event) -> bool:
        """Store the event unless it is there; True if it was new."""
        if self.storage.get(event.event_id) is not None:
            return False
        self.storage.put(event.event_id, event)
        return True


class Metrics(Actor):
    """Two exact counters and the time of the last event."""

    events: int = 0
    amount: int = 0
    last_event_at: float = 0.0

    async def add(self, amount: int) -> None:
        """Count one event."""
        self.events += 1
        self.amount += amount
        self.last_event_at = time.time()


class ProcessEvent(Workflow):
    """One event on its way: validate, store, count; each step is durable before the next one starts."""

    async def run(self, event: Event) -> Receipt:
        """The three steps."""
        validated = await self.step(validate, event)
        stored = await self.step(self.store, event)
        await self.step(self.count, validated.amount)
        return Receipt(event.event_id, stored, validated.amount)

    async def store(self, event: Event) -> bool:
        """Step 2: the event's row."""
        return await self.runtime.get(Events, "all").put(event)

    async def count(self, amount: int) -> None:
        """Step 3: the metrics."""
        await self.runtime.get(Metrics, "all").add(amount)


class ProcessEventByCalls(Workflow):
    """The same, with ``store`` and ``count`` as actor calls of ``run`` itself.

    Such a call is a step too, and takes effect exactly once; its reply and its checkpoint lie in one log, so
    it has to wait for no disk.
    """

    async def run(self, event: Event) -> Receipt:
        """One step and two calls."""
        validated = await self.step(validate, event)
        stored = await self.runtime.get(Events, "all").put(event)
        await self.runtime.get(Metrics, "all").add(validated.amount)
        return Receipt(event.event_id, stored, validated.amount)


async def pipeline(
    folder: Path,
    n_events: int,
    in_flight: int,
    *,
    slow_sync_seconds: float = 0.0,
    workflow: type[ProcessEvent] | type[ProcessEventByCalls] = ProcessEvent,
) -> Sample:
    """One unit: an event, from before its run is started until its receipt is durable and in hand."""
    async with open_runtime(folder, slow_sync_seconds) as rt:
        return await process(rt, make_events(n_events), in_flight, workflow)


async def process(
    rt: Runtime,
    events: list[Event],
    in_flight: int,
    workflow: type[ProcessEvent] | type[ProcessEventByCalls] = ProcessEvent,
) -> Sample:
    """The pipeline in an open runtime."""

    async def act(event: Event) -> Receipt:
        run = await rt.start(workflow, event, id=event.event_id)
        return await run.result()

    return await drive(events, in_flight, act)


async def pipeline_by_calls(
    folder: Path, n_events: int, in_flight: int, *, slow_sync_seconds: float = 0.0
) -> Sample:
    """``pipeline`` with ``ProcessEventByCalls``."""
    return await pipeline(
        folder, n_events, in_flight, slow_sync_seconds=slow_sync_seconds, workflow=ProcessEventByCalls
    )


# ------------------------------------------------------------------------------------------------------------
# The others.


class TrivialSteps(Workflow):
    """A run of steps that cost nothing, each durable before the next one starts."""

    async def run(self, steps: int) -> int:
        """As many steps as the input says."""
        total = 0
        for number in range(1, steps + 1):
            total += await self.step(self.trivial_step, number)
        return total

    async def trivial_step(self, number: int) -> int:
        """Only its checkpoint is measured."""
        return number


async def steps(
    folder: Path, runs: int = 1000, steps: int = 10, in_flight: int = 100, *, slow_sync_seconds: float = 0.0
) -> Sample:
    """One unit: a step.  A latency is that of a run of ``steps`` steps."""
    ids = [f"run-{n:08d}" for n in range(runs)]
    async with open_runtime(folder, slow_sync_seconds) as rt:

        async def act(run_id: str) -> int:
            run = await rt.start(TrivialSteps, steps, id=run_id)
            return await run.result()

        return await drive(ids, in_flight, act, units_per_item=steps)


async def counter(
    folder: Path, keys: int, callers: int, calls: int, *, slow_sync_seconds: float = 0.0
) -> Sample:
    """One unit: a durable increment.  Calls go to the keys in turn."""
    async with open_runtime(folder, slow_sync_seconds) as rt:
        counters = [rt.get(Counter, f"counter-{n:06d}") for n in range(keys)]

        def act(number: int) -> Awaitable[int]:
            return counters[number % keys].increment()

        return await drive(range(calls), callers, act)


class Writes(Actor):
    """An actor that only puts."""

    async def put(self, number: int, value: bytes) -> None:
        """One put under a key of its own."""
        self.storage.put(number, value)


async def commit(
    folder: Path, writers: int, writes: int, value_bytes: int = 100, *, slow_sync_seconds: float = 0.0
) -> Sample:
    """One unit: a put of ``value_bytes`` bytes under a key of its own, awaited until durable."""
    value = bytes(value_bytes)
    async with open_runtime(folder, slow_sync_seconds) as rt:
        actors = [rt.get(Writes, n) for n in range(writers)]
        return await drive(range(writes), writers, lambda number: actors[number % writers].put(number, value))
