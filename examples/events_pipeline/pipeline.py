"""The pipeline on a runtime: `event-queue` feeds `ProcessEvent`, what fails is shown as `event-dlq`.

    send -> event-queue -> (one commit: message removed, run started) -> ProcessEvent

An event that doesn't even decode never becomes a run: its message is a dead letter of the queue.  A run that
failed is one of the workflow.  `dead_letters` shows both under one name.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal, cast

import msgspec

from holdfast import DeadLetter, Queue, Run, RunFailed, Runtime

from .events import ProcessEventInput, ProcessEventOutput, run_key
from .metrics import Figure
from .store import STORE_KEY, EventStore
from .workflow import ProcessEvent

_log = logging.getLogger(__name__)
EVENT_QUEUE: Final = "event-queue"
EVENT_DLQ: Final = "event-dlq"
_ALL: Final = 1_000_000


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How the pipeline takes events out of its queue.

    Starting a batch of runs is one commit, and commits gather by themselves, so waiting for a batch to fill
    gains nothing: `max_wait_seconds` is 0 unless asked for.
    """

    batch_size: int = 100
    max_wait_seconds: float = 0.0
    max_in_flight: int = 1_000


class DeadEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event that went wrong for good, kept until it is redriven."""

    queue: str = EVENT_DLQ
    kind: Literal["message", "run"]
    id: str
    error: str
    attempts: int
    step: str | None
    died_at: datetime
    correlation_id: str | None
    body: object


class Pipeline:
    """The pipeline of a runtime that is open; consuming begins with the object."""

    def __init__(self, runtime: Runtime, settings: Settings | None = None) -> None:
        self.runtime = runtime
        settings = settings or Settings()
        self.queue: Queue = runtime.get(Queue, EVENT_QUEUE)
        self.store: EventStore = runtime.get(EventStore, STORE_KEY)
        runtime.bind(
            EVENT_QUEUE,
            ProcessEvent,
            id=lambda message_id, event: run_key(event.event_id, event.batch_id),
            correlation_id=lambda message_id, event: event.correlation_id,
            batch_size=settings.batch_size,
            max_wait=settings.max_wait_seconds,
            max_in_flight=settings.max_in_flight,
        )

    async def send(self, event: ProcessEventInput | object) -> str:
        """Put one event into the queue; it is on disk when this returns."""
        return await self.queue.send(event)

    async def send_batch(self, events: Sequence[ProcessEventInput | object]) -> list[str]:
        """Put several events into the queue, all or none."""
        return await self.queue.send_batch(list(events))

    async def start(self, event: ProcessEventInput) -> Run[ProcessEventOutput]:
        """Start (or join) the run of an event without the queue; returns at once."""
        return await self.runtime.start(
            ProcessEvent,
            event,
            id=run_key(event.event_id, event.batch_id),
            on_conflict="join",
            correlation_id=event.correlation_id,
        )

    async def process(self, event: ProcessEventInput) -> ProcessEventOutput:
        """Run an event and wait; a failure is returned, not raised."""
        run = await self.start(event)
        try:
            return await run.result()
        except RunFailed as failure:
            return ProcessEventOutput(event_id=event.event_id, status="failure", error=str(failure.cause))

    async def is_idle(self) -> bool:
        """Whether every event that was sent is through."""
        if (await self.queue.stats()).depth:
            return False
        return not self.runtime.runs(ProcessEvent, status=("running", "queued", "retrying"), limit=1)

    async def dead_letters(self, limit: int = 100) -> list[DeadEvent]:
        """What went wrong for good, the oldest first: `event-dlq`."""
        dead = [
            DeadEvent(
                kind="message", id=one.id, error=one.error, attempts=one.attempts, step=None,
                died_at=one.died_at, correlation_id=_correlation_of(one.body), body=one.body,
            )
            for one in await self.queue.dead(min(limit, 10_000))
        ]  # fmt: skip
        dead += [_dead_run(letter) for letter in await self.runtime.dead_letters(ProcessEvent, limit=limit)]
        dead.sort(key=lambda one: one.died_at)
        return dead[:limit]

    async def redrive(self, dead: DeadEvent) -> None:
        """Let a dead letter go on: a run at its failed step, a message from its beginning."""
        if dead.kind == "message":
            await self.queue.redrive([dead.id])
            return
        event_id, _, batch_id = dead.id.rpartition("/")
        await self.runtime.run(ProcessEvent, run_key(event_id, batch_id)).redrive()

    async def figures(self) -> dict[str, Figure]:
        """All counters and gauges under their names."""
        stats = await self.queue.stats()
        failed = self.runtime.runs(ProcessEvent, status="failed", limit=_ALL)
        metrics = await self.store.read_metrics()
        return metrics.figures(queue_depth=stats.depth, dead_letters=stats.dead + len(failed))


def _dead_run(letter: DeadLetter) -> DeadEvent:
    return DeadEvent(
        kind="run", id=letter.id, error=str(letter.error), attempts=letter.attempts, step=letter.step,
        died_at=letter.failed_at, correlation_id=letter.correlation_id, body=letter.input,
    )  # fmt: skip


def _correlation_of(body: object) -> str | None:
    if not isinstance(body, dict):
        return None
    found = cast("dict[object, object]", body).get("correlation_id")
    return found if isinstance(found, str) else None
