"""`Runtime`, the wiring of everything: the runtime's parts, the workflow engine, queue consumers, schedules.

This file alone knows them all; they know only what they need.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar, cast

from ..runtime.actor import Actor
from ..runtime.actor_type import ActorType
from ..runtime.address import GivenKey
from ..runtime.clock import Clock
from ..runtime.durations import Duration
from ..runtime.limits import Limits
from ..runtime.ref import Ref
from ..runtime.system import GC_THRESHOLD, SWITCH_INTERVAL_SECONDS
from ..storage.commit_log import CommitLog
from ..storage.errors import CallerError
from ..storage.store import MIN_FREE_BYTES, Store
from .actions.once import ActionHub
from .audit import AuditTrail, checked_by, note_deed
from .blobs.blobs import Blobs
from .blobs.local_blobs import LocalBlobs
from .durable_queue import Queue
from .embedding import EmbeddingCalls
from .hub.sockets import Sockets
from .metrics.alert_rules import AlertLimits
from .metrics.alerts import AlertHandler, Alerts
from .metrics.collect import collect
from .metrics.course import Course, Recorder
from .metrics.metrics import Metrics
from .queue_batch import Batch
from .queue_binding import BindingConsumer
from .queue_consumer import Consumer, ConsumerOptions
from .queue_handler import HandlerConsumer
from .queue_hub import QueueHub
from .schedule_watch import ScheduleWatch
from .tracing import RunTracing
from .workflow.change_feed import ChangeFeed
from .workflow.engine import Engine
from .workflow.protocols import TakesInput
from .workflow.retry import Retry
from .workflow.standing import stored_standing
from .workflow.workflow import Workflow
from .workflow.workflow_type import WorkflowType

In = TypeVar("In")
Out = TypeVar("Out")
Body = TypeVar("Body")


class Runtime(EmbeddingCalls):
    """Actors, workflows, queues and schedules on one folder.

        async with Runtime("data") as rt:
            await rt.get(Counter, "visits").increment()
            run = await rt.start(ProcessEvent, event, id=event.event_id)
            print(await run.result())

    max_running   runs that work at the same time; those beyond it wait on disk as `queued`
    telemetry     who traces calls, runs and steps: a `holdfast.telemetry.Telemetry`
    The other options are those of `ActorSystem`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] = ".holdfast",
        *,
        max_running: int = 10_000,
        deps: Iterable[object] = (),
        types: Iterable[type[Actor]] = (),
        clock: Clock | None = None,
        seed: int | None = None,
        limits: Limits | None = None,
        quota_bytes: int | None = None,
        min_free_bytes: int = MIN_FREE_BYTES,
        wrap_log: Callable[[CommitLog], CommitLog] | None = None,
        switch_interval_seconds: float | None = SWITCH_INTERVAL_SECONDS,
        gc_threshold: int | None = GC_THRESHOLD,
        make_store: Callable[..., Store] = Store,
        wait_for_folder_seconds: float = 0.0,
        telemetry: RunTracing | None = None,
    ) -> None:
        super().__init__(
            path,
            deps=deps,
            types=types,
            clock=clock,
            seed=seed,
            limits=limits,
            quota_bytes=quota_bytes,
            min_free_bytes=min_free_bytes,
            wrap_log=wrap_log,
            switch_interval_seconds=switch_interval_seconds,
            gc_threshold=gc_threshold,
            make_store=make_store,
            wait_for_folder_seconds=wait_for_folder_seconds,
        )
        if max_running < 1:
            raise CallerError(f"max_running must be at least 1; got {max_running}")
        self.audit_trail = AuditTrail(self)
        self.tracing = self.telemetry = telemetry
        self.engine = Engine(self, max_running=max_running)
        self.queues = QueueHub()
        self.actions = ActionHub(self)
        self._local_blobs = LocalBlobs(self)
        self.sockets = Sockets(self)
        self.schedule_watch = ScheduleWatch(self)
        self.changes = ChangeFeed(self)
        self.recorder = Recorder(self)
        self.alerts = Alerts(self, self.recorder)

    @property
    def blobs(self) -> Blobs:
        """Bytes by name: the `Blobs` among the deps, else files beside the store."""
        return self.deps.find(Blobs) or self._local_blobs  # type: ignore[type-abstract]

    # -- queues --------------------------------------------------------------------------------------------

    def consume(
        self,
        queue: GivenKey | Queue,
        handler: Callable[[Batch[Body]], Awaitable[None]],
        *,
        body: type[Body] | None = None,
        group: str = "",
        batch_size: int = 10,
        max_wait: Duration = 5.0,
        retry: Retry | None = None,
        concurrency: int = 1,
        dead_letter_queue: GivenKey | Queue | None = None,
    ) -> Consumer:
        """Give the messages of a queue to `handler`, in batches, until the runtime closes or the consumer is
        stopped.

        queue         its name, or a ref (for a subclass of `Queue`)
        body          type of the bodies; one that doesn't decode becomes a dead letter.  Plain values by
                      default
        group         each group gets every message sent since it first consumed (the first group of a queue
                      also what waits already); consumers of one group share them.  A group is kept on disk
                      until `Queue.remove_group`
        batch_size, max_wait   a batch is delivered when it is full or so long after its first message
        retry         how often and when a message comes again that was retried or whose handler raised;
                      `Retry(3)` by default
        concurrency   batches at the same time
        dead_letter_queue   where a message goes whose retries are spent; by default it is kept in the queue

        When the handler returns, messages not settled are acknowledged; when it raises, they are retried.
        Raises `CallerError`.
        """
        ref = self._queue_ref(queue)
        options = self._consumer_options(group, batch_size, max_wait, retry, dead_letter_queue)
        consumer = HandlerConsumer(self, ref, options, handler, body_type=body, concurrency=concurrency)
        self.queues.add(consumer)
        return consumer

    def bind(
        self,
        queue: GivenKey | Queue,
        workflow: type[TakesInput[In, Out]],
        *,
        id: Callable[[str, In], GivenKey] | None = None,
        correlation_id: Callable[[str, In], str | None] | None = None,
        group: str = "",
        batch_size: int = 100,
        max_wait: Duration = 0,
        retry: Retry | None = None,
        max_in_flight: int = 1_000,
        dead_letter_queue: GivenKey | Queue | None = None,
    ) -> Consumer:
        """Start a run of `workflow` for each message of a queue; removing the message and starting the run
        are one commit.

        id              the run's id from the message's id and body; the message's id by default.  A used id
                        joins that run
        correlation_id  likewise; a new one by default
        max_in_flight   runs of the workflow at work; further messages wait in the queue
        queue, group, batch_size, max_wait, retry, dead_letter_queue   as for `consume`
        """
        ref, kind = self._queue_ref(queue), self.workflow_type(workflow)
        options = self._consumer_options(group, batch_size, max_wait, retry, dead_letter_queue)
        consumer = BindingConsumer(
            self,
            ref,
            options,
            kind,
            run_id=id,
            correlation_id=correlation_id,
            max_in_flight=max_in_flight,
        )
        self.queues.add(consumer)
        return consumer

    def _consumer_options(
        self,
        group: str,
        batch_size: int,
        max_wait: Duration,
        retry: Retry | None,
        dead_letter_queue: GivenKey | Queue | None,
    ) -> ConsumerOptions:
        return ConsumerOptions(
            group=group,
            batch_size=batch_size,
            max_wait=max_wait,
            retry=retry or Retry(3),
            dead_letters=None if dead_letter_queue is None else self._queue_ref(dead_letter_queue),
        )

    def _queue_ref(self, queue: GivenKey | Queue) -> Ref:
        self.check_open()
        given: object = queue  # a ref, for type checkers a queue
        if not isinstance(given, Ref):
            return cast("Ref", self.get(Queue, cast("GivenKey", queue)))
        if given.system is not self or not issubclass(given.type.actor_class, Queue):
            raise CallerError(f"expected a queue of this runtime; got {given}")
        return given

    # -- dead alarms ---------------------------------------------------------------------------------------

    async def redrive_alarm(
        self,
        actor_type: type[Actor],
        key: GivenKey,
        name: str = "",
        *,
        by: str | None = None,
        reason: str = "",
    ) -> None:
        """Fire a dead alarm again, with all its retries; raises `CallerError` when there is none.

        `by` and `reason` are for the audit.
        """
        told = checked_by(by, reason)

        def note(actor: Actor) -> None:
            note_deed(actor, "redrive", told, f"dead alarm {name!r}", "fires again")

        await self.scheduler.redrive(cast("Ref", self.get(actor_type, key)), name, note)

    # -- looking at itself ---------------------------------------------------------------------------------

    def metrics(self) -> Metrics:
        """What is counted in this runtime, and how it stands now: plain data (docs/observability.md).

        Runs and queues are counted on disk, which takes the loop a few milliseconds with ten thousands of
        them.  Raises `NotRunning`.
        """
        return collect(self)

    def metrics_course(self) -> Course:
        """How it went over the last hour and the last day, for charts; plain data.

        Recorded from the first time on that somebody asks; asking before the runtime is open counts.
        """
        return self.recorder.course()

    def on_alert(self, handler: AlertHandler, limits: AlertLimits | None = None) -> Callable[[], None]:
        """Call `handler`, a plain or an async function, with each `Alert`: once when something is wrong, and
        once when it is over.  Returns what ends that.

        What is looked at each 10 s: failed runs, retries, dead letters, how long runs take, a blocked loop,
        a disk that is nearly full; `limits` says how much is too much (`AlertLimits`).  What `handler` raises
        is logged.  Raises `CallerError`.
        """
        return self.alerts.add(handler, limits or AlertLimits())

    # -- wiring --------------------------------------------------------------------------------------------

    def _make_type(self, actor_class: type[Actor], number: int) -> ActorType:
        if issubclass(actor_class, Workflow):
            return WorkflowType(actor_class, number)
        return super()._make_type(actor_class, number)

    def _type_added(self, kind: ActorType) -> None:
        self.changes.add_type(kind)
        if self.tracing is not None:
            self.tracing.trace_methods(kind)
        if isinstance(kind, WorkflowType):
            kind.standing = stored_standing(self, kind.name)[0]
            self.engine.places.add_type(kind)
            self.schedule_watch.class_known(kind)

    def _lost(self, activations: list[Any]) -> None:
        self.engine.lost(activations)
        self.queues.lost()

    async def close(self) -> None:
        """Stop consumers and runs, let turns end, make everything durable, give the folder back.

        Steps in progress are cancelled; they run again when the folder is opened.
        """
        await super().close()

    async def _stop_consuming(self) -> None:
        self._local_blobs.stop()
        self.changes.stop()
        await self.sockets.close(self.limits.close_seconds)
        await self.queues.stop()
        await self.actions.stop()

    def _stop_parts(self) -> None:
        self.changes.stop()
        self.recorder.stop()
        self.alerts.stop()
        self.sockets.stop()
        self._local_blobs.stop()
        self.queues.abandon()
        self.actions.abandon()
        super()._stop_parts()
        self.engine.stop()

    def _start_parts(self) -> None:
        super()._start_parts()
        self.changes.start()
        self.actor_types.load_known()
        self._local_blobs.start()
        self.recorder.start()
