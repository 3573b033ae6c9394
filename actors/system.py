"""`Runtime`, the wiring of everything: the runtime's parts, the workflow engine, the queue consumers.

This file alone knows them all; they know only what they need.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Literal, Protocol, TypeVar, cast, overload

import msgspec

from ..runtime.actor import Actor
from ..runtime.actor_type import ActorType
from ..runtime.address import ActorKey, GivenKey, normal_key
from ..runtime.chain import CALLER, Caller, Turn
from ..runtime.clock import Clock
from ..runtime.codec import BAD_VALUE, ENCODER, reason
from ..runtime.durations import Duration
from ..runtime.limits import Limits
from ..runtime.ref import Ref
from ..runtime.system import GC_THRESHOLD, SWITCH_INTERVAL_SECONDS, ActorSystem
from ..storage.commit_log import CommitLog
from ..storage.errors import CallerError, InvalidValue
from ..storage.group_commit import Writes
from ..storage.store import MIN_FREE_BYTES, Store
from .correlation import current_correlation_id
from .durable_queue import Queue
from .handle import DeadLetter, Run, RunInfo, run_info
from .ids import new_id, new_uuid
from .queue_batch import Batch
from .queue_binding import BindingConsumer
from .queue_consumer import Consumer, ConsumerOptions
from .queue_handler import HandlerConsumer
from .queue_hub import QueueHub
from .workflow.engine import Engine, StartOptions
from .workflow.head import ALL_STATUSES, FAILED, RunStatus
from .workflow.live_run import LiveRun
from .workflow.retry import Retry
from .workflow.run_id import check_run_id
from .workflow.run_index import list_runs
from .workflow.step_op import StepScope
from .workflow.workflow import Workflow
from .workflow.workflow_type import WorkflowType

In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)
In = TypeVar("In")
Out = TypeVar("Out")
Body = TypeVar("Body")
OnConflict = Literal["join", "reject", "replace"]


class TakesInput(Protocol[In_contra, Out_co]):
    """A workflow whose `run()` takes an input; only for type checkers."""

    async def run(self, input: In_contra, /) -> Out_co: ...


class TakesNothing(Protocol[Out_co]):
    """A workflow whose `run()` takes nothing; only for type checkers."""

    async def run(self) -> Out_co: ...


class Runtime(ActorSystem):
    """Actors, workflows and queues on one folder.

        async with Runtime("data") as rt:
            await rt.get(Counter, "visits").increment()
            run = await rt.start(ProcessEvent, event, id=event.event_id)
            print(await run.result())

    max_running   runs that work at the same time; those beyond it wait on disk as `queued`
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
        )
        if max_running < 1:
            raise CallerError(f"max_running must be at least 1; got {max_running}")
        self.engine = Engine(self, max_running=max_running)
        self.queues = QueueHub()

    # -- workflows -----------------------------------------------------------------------------------------

    @overload
    async def start(
        self,
        workflow: type[TakesInput[In, Out]],
        input: In,
        *,
        id: GivenKey | None = ...,
        on_conflict: OnConflict = ...,
        correlation_id: str | None = ...,
        ref: tuple[str, str] | None = ...,
        tenant: str | None = ...,
        tags: Mapping[str, str] | None = ...,
    ) -> Run[Out]: ...
    @overload
    async def start(
        self,
        workflow: type[TakesNothing[Out]],
        *,
        id: GivenKey | None = ...,
        on_conflict: OnConflict = ...,
        correlation_id: str | None = ...,
        ref: tuple[str, str] | None = ...,
        tenant: str | None = ...,
        tags: Mapping[str, str] | None = ...,
    ) -> Run[Out]: ...

    async def start(
        self,
        workflow: type[object],
        input: object = msgspec.UNSET,
        *,
        id: GivenKey | None = None,
        on_conflict: OnConflict = "reject",
        correlation_id: str | None = None,
        ref: tuple[str, str] | None = None,
        tenant: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> Run[Any]:
        """Start a run and return its handle once the start is durable; `run()` goes on by itself.

        id            identifies the run among those of the workflow; a new UUID by default.  A tuple is shown
                      with slashes
        on_conflict   when the id is in use: "reject" raises `RunExists`, "join" returns the run that is
                      there, "replace" stops
                      and erases it
        correlation_id   ties the run to its cause in logs; the caller's own, or a new one, by default
        ref, tenant, tags   kept with the run

        Called in an actor's turn, the start is part of the turn's commit; called in a step, it happens once
        however often the step is tried.  Raises `InvalidRunId`, `InvalidInput`, `InvalidValue` (a label) or
        `RunExists`.
        """
        kind = self.workflow_type(workflow)
        if on_conflict not in _ON_CONFLICT:
            raise CallerError(f"on_conflict must be one of {', '.join(_ON_CONFLICT)}; got {on_conflict!r}")
        caller = CALLER.get()
        scope, turn = (None, None) if caller is None else self._starts_from(caller)
        if id is not None:
            normal, key_bytes = normal_key(check_run_id(id), kind.name)
        else:
            normal, key_bytes = normal_key(new_uuid(), kind.name)
        encoded, decoded = kind.encode_input(input)
        options = _start_options(on_conflict, correlation_id, ref, tenant, tags)
        row: bytes | None = None
        if scope is not None:
            row = scope.start_row(kind.number_bytes + (b"" if id is None else key_bytes))
            known = scope.op.known_reply(row)
            if known is not None:
                await self.store.wait_durable(known[1])
                return Run(self, self.ref_from_bytes(kind.number_bytes, known[0]))
        if turn is None:
            if self.engine.starting:
                await self.engine.wait_started(kind, key_bytes)
            extra: Writes | None = None if row is None else {row: key_bytes}
            run_ref, number, started = self.engine.start_in(
                None, kind, normal, key_bytes, encoded, decoded, options, extra
            )
            if scope is not None and row is not None and started:
                scope.op.keep_reply(row, key_bytes, number)
            await self.store.wait_durable(number)
        else:
            run_ref, number, _ = self.engine.start_in(
                turn, kind, normal, key_bytes, encoded, decoded, options
            )
            if number > turn.root.dep:
                turn.root.dep = number
        return Run(self, run_ref)

    def _starts_from(self, caller: Turn | Caller) -> tuple[StepScope | None, Turn | None]:
        """The step or the turn of this runtime that a start belongs to; raises when the caller can't start
        runs.
        """
        if isinstance(caller, LiveRun):
            raise CallerError("run() can't start other runs by itself; start them in a step")
        if isinstance(caller, StepScope):
            return (caller, None) if caller.op.run.engine is self.engine else (None, None)
        if isinstance(caller, Turn) and not caller.over and caller.activation.system is self:
            if caller.shared:
                raise CallerError("a @shared method can't start runs; take the mark away")
            return None, caller
        return None, None

    async def start_many(
        self,
        workflow: type[TakesInput[In, Out]],
        inputs: Iterable[tuple[GivenKey, In]],
        *,
        correlation_id: str | None = None,
    ) -> list[Run[Out]]:
        """Start a batch of (id, input) in as few commits as they fit in; ids in use are left out of what is
        returned.

        In a turn and in a step it is what `start` is there.  Everything is checked before anything is
        started.  Raises `InvalidRunId` or `InvalidInput`.
        """
        kind = self.workflow_type(workflow)
        checked: list[tuple[ActorKey, bytes, bytes, object]] = []
        for id_, input_ in inputs:
            normal, key_bytes = normal_key(check_run_id(id_), kind.name)
            checked.append((normal, key_bytes, *kind.encode_input(input_)))
        options = _start_options("join", correlation_id, None, None, None)
        caller = CALLER.get()
        scope, turn = (None, None) if caller is None else self._starts_from(caller)
        runs: list[Run[Out]] = []
        newest = 0
        for normal, key_bytes, encoded, decoded in checked:
            if correlation_id is None:
                options = msgspec.structs.replace(
                    options, correlation_id=current_correlation_id() or new_id()
                )
            if turn is None and self.engine.starting:
                await self.engine.wait_started(kind, key_bytes)
            row = None if scope is None else scope.start_row(kind.number_bytes + key_bytes)
            if scope is not None and row is not None and (known := scope.op.known_reply(row)) is not None:
                newest = max(newest, known[1])
                runs.append(Run(self, self.ref_from_bytes(kind.number_bytes, known[0])))
                continue
            extra: Writes | None = None if row is None else {row: key_bytes}
            ref, number, started = self.engine.start_in(
                turn, kind, normal, key_bytes, encoded, decoded, options, extra
            )
            newest = max(newest, number)
            if started:
                if scope is not None and row is not None:
                    scope.op.keep_reply(row, key_bytes, number)
                runs.append(Run(self, ref))
        if turn is None:
            await self.store.wait_durable(newest)
        elif newest > turn.root.dep:
            turn.root.dep = newest
        return runs

    @overload
    def run(self, workflow: type[TakesInput[Any, Out]], id: GivenKey) -> Run[Out]: ...
    @overload
    def run(self, workflow: type[TakesNothing[Out]], id: GivenKey) -> Run[Out]: ...

    def run(self, workflow: type[object], id: GivenKey) -> Run[Any]:
        """A handle of the run with this id; nothing is touched by that."""
        kind = self.workflow_type(workflow)
        normal, key_bytes = normal_key(check_run_id(id), kind.name)
        return Run(self, self.make_ref(kind, normal, key_bytes))

    def runs(
        self,
        workflow: type[Workflow] | None = None,
        *,
        status: RunStatus | Collection[RunStatus] | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> list[RunInfo]:
        """Runs by workflow and status (one or several), the oldest first (`reverse`: the newest)."""
        runs = list_runs(self, self._kinds(workflow), _statuses(status), limit=limit, reverse=reverse)
        return [run_info(ref, head) for ref, head in runs]

    async def dead_letters(
        self, workflow: type[Workflow] | None = None, *, limit: int = 100
    ) -> list[DeadLetter]:
        """Failed runs with input, cause, attempts and history, the oldest first.

        `Run.redrive` lets one go on.
        """
        runs = list_runs(self, self._kinds(workflow), FAILED, limit=limit, reverse=False)
        letters = [await Run[object](self, ref).dead_letter() for ref, _ in runs]
        letters.sort(key=lambda letter: letter.failed_at)
        return letters[:limit]

    def _kinds(self, workflow: type[Workflow] | None) -> list[WorkflowType]:
        return [self.workflow_type(workflow)] if workflow is not None else self._workflow_types()

    def workflow_type(self, workflow: type[object]) -> WorkflowType:
        """What is known of a workflow class; raises `UnknownActorType` or `InvalidActor`."""
        kind = self.type_of(workflow)
        if not isinstance(kind, WorkflowType):
            raise CallerError(f"{kind.name} is an actor, not a workflow; call it through get()")
        return kind

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

    # -- wiring --------------------------------------------------------------------------------------------

    def _make_type(self, actor_class: type[Actor], number: int) -> ActorType:
        if issubclass(actor_class, Workflow):
            return WorkflowType(actor_class, number)
        return super()._make_type(actor_class, number)

    def _type_added(self, kind: ActorType) -> None:
        if isinstance(kind, WorkflowType):
            self.engine.places.add_type(kind)

    def _lost(self, activations: list[Any]) -> None:
        self.engine.lost(activations)
        self.queues.lost()

    async def close(self) -> None:
        """Stop consumers and runs, let turns end, make everything durable, give the folder back.

        Steps in progress are cancelled; they run again when the folder is opened.
        """
        await super().close()

    async def _stop_consuming(self) -> None:
        await self.queues.stop()

    def _stop_parts(self) -> None:
        self.queues.abandon()
        super()._stop_parts()
        self.engine.stop()

    def _start_parts(self) -> None:
        super()._start_parts()
        self.actor_types.load_known()

    def _workflow_types(self) -> list[WorkflowType]:
        return [kind for kind in self.actor_types.by_class.values() if isinstance(kind, WorkflowType)]


_ON_CONFLICT = ("reject", "join", "replace")
_decode_options = msgspec.msgpack.Decoder(StartOptions).decode


def _start_options(
    on_conflict: OnConflict,
    correlation_id: str | None,
    ref: tuple[str, str] | None,
    tenant: str | None,
    tags: Mapping[str, str] | None,
) -> StartOptions:
    """The options of a start; raises `InvalidValue` for a label that could not be read again."""
    given = correlation_id is not None or ref is not None or tenant is not None or tags is not None
    if correlation_id is None:
        correlation_id = current_correlation_id() or new_id()
    if given:
        try:
            labels = StartOptions(
                on_conflict, correlation_id, ref, tenant, {} if tags is None else dict(tags)
            )
            return _decode_options(ENCODER.encode(labels))
        except BAD_VALUE as error:
            raise InvalidValue(
                f"the labels of a run are texts: correlation_id, ref (two), tenant, tags; {reason(error)}"
            ) from error
    return StartOptions(on_conflict, correlation_id)


def _statuses(given: RunStatus | Collection[RunStatus] | None) -> Collection[RunStatus]:
    if given is None:
        return ALL_STATUSES
    return (given,) if isinstance(given, str) else given
