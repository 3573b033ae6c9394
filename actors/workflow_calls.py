"""What a runtime offers for workflows: starting runs, finding them, sending to them, controlling them.

The engine (workflow/engine.py) does it; here is who may ask for what, and what of it belongs to the commit of
a turn or is done once for a step.  `Runtime` (system.py) adds the queues.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, overload

import msgspec

from ..runtime.address import ActorKey, GivenKey, normal_key
from ..runtime.chain import CALLER, Caller, Turn, after_commit, after_rollback, before_stage
from ..runtime.codec import BAD_VALUE, ENCODER, reason
from ..runtime.durations import Duration, to_seconds
from ..runtime.ref import Ref
from ..runtime.system import ActorSystem
from ..storage.errors import CallerError, InvalidValue
from ..storage.group_commit import Writes
from .bulk import BulkResult, Verb, control_many
from .correlation import current_correlation_id
from .dead_letter import DeadLetter
from .handle import Run
from .ids import new_id, new_uuid
from .run_info import RunInfo, run_info
from .tenant import Tenant
from .workflow.audit import Deed, read_audit
from .workflow.debugging import DebugView, debug_view
from .workflow.head import ALL_STATUSES, FAILED, RunStatus
from .workflow.journal import EventArrived
from .workflow.labels import NO_LABELS, RunLabels, check_labels
from .workflow.listing import WorkflowInfo, list_workflows
from .workflow.live_run import LiveRun
from .workflow.protocols import TakesInput, TakesNothing
from .workflow.run_id import check_run_id
from .workflow.run_index import RunFilter, list_runs
from .workflow.start_options import StartOptions
from .workflow.step_op import StepScope
from .workflow.workflow import Workflow
from .workflow.workflow_type import WorkflowType

if TYPE_CHECKING:
    from .workflow.engine import Engine

In = TypeVar("In")
Out = TypeVar("Out")
OnConflict = Literal["join", "reject", "replace"]
_ON_CONFLICT: Final = ("reject", "join", "replace")
# What a step keeps of an event that it sent.
_SENT: Final = b"\xc0"


class WorkflowCalls(ActorSystem):
    """Workflows on one folder; the base of `Runtime`."""

    engine: Engine

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
        deadline: Duration | None = ...,
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
        deadline: Duration | None = ...,
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
        deadline: Duration | None = None,
    ) -> Run[Any]:
        """Start a run and return its handle once the start is durable; `run()` goes on by itself.

        id            identifies the run among those of the workflow; a new UUID by default.  A tuple is shown
                      with slashes
        on_conflict   when the id is in use: "reject" raises `RunExists`, "join" returns the run that is
                      there, "replace" stops
                      and erases it
        correlation_id   ties the run to its cause in logs; the caller's own, or a new one, by default
        ref, tenant, tags   kept with the run, which is found by them
        deadline      how long the run may take, in place of the class's

        Called in an actor's turn, the start is part of the turn's commit; called in a step, it happens once
        however often the step is tried.  Raises `InvalidRunId`, `InvalidInput`, `InvalidValue` (a label) or
        `RunExists`.
        """
        kind = self.workflow_type(workflow)
        if on_conflict not in _ON_CONFLICT:
            raise CallerError(f"on_conflict must be one of {', '.join(_ON_CONFLICT)}; got {on_conflict!r}")
        caller = CALLER.get()
        scope, turn = (None, None) if caller is None else self._belongs_to(caller)
        if id is not None:
            normal, key_bytes = normal_key(check_run_id(id), kind.name)
        else:
            normal, key_bytes = normal_key(new_uuid(), kind.name)
        encoded, decoded = kind.encode_input(input)
        labels = NO_LABELS
        if ref is not None or tenant is not None or tags:
            labels = RunLabels(ref, tenant, dict(tags or {}))
        options = _start_options(on_conflict, correlation_id, labels)
        if deadline is not None or kind.deadline_seconds is not None:
            options = _with_deadline(options, kind, deadline)
        row: bytes | None = None
        if scope is not None:
            row = scope.start_row(kind.number_bytes + (b"" if id is None else key_bytes))
            known = scope.op.known_reply(row)
            if known is not None:
                await self.store.wait_durable(known[1])
                return Run(self, self.ref_from_bytes(kind.number_bytes, known[0]))
        if turn is None:
            if self.engine.starts.undecided:
                await self.engine.starts.wait_decided(kind, key_bytes)
            extra: Writes | None = None if row is None else {row: key_bytes}
            run_ref, number, started = self.engine.starts.start_in(
                None, kind, normal, key_bytes, encoded, decoded, options, extra
            )
            if scope is not None and row is not None and started:
                scope.op.keep_reply(row, key_bytes, number)
            await self.store.wait_durable(number)
        else:
            run_ref, number, _ = self.engine.starts.start_in(
                turn, kind, normal, key_bytes, encoded, decoded, options
            )
            if number > turn.root.dep:
                turn.root.dep = number
        return Run(self, run_ref)

    def _belongs_to(
        self, caller: Turn | Caller, what: str = "start runs"
    ) -> tuple[StepScope | None, Turn | None]:
        """The step or the turn of this runtime that a start or an event belongs to; raises when the caller
        can't do that.
        """
        if isinstance(caller, LiveRun):
            raise CallerError(
                f"run() can't {what} through the runtime: it has self.child(), self.start() and self.send(); "
                f"or do it in a step"
            )
        if isinstance(caller, StepScope):
            return (caller, None) if caller.op.run.engine is self.engine else (None, None)
        if isinstance(caller, Turn) and not caller.over and caller.activation.system is self:
            if caller.shared:
                raise CallerError(f"a @shared method can't {what}; take the mark away")
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
        options = _with_deadline(_start_options("join", correlation_id, NO_LABELS), kind, None)
        caller = CALLER.get()
        scope, turn = (None, None) if caller is None else self._belongs_to(caller)
        runs: list[Run[Out]] = []
        newest = 0
        for normal, key_bytes, encoded, decoded in checked:
            if correlation_id is None:
                options = msgspec.structs.replace(
                    options, correlation_id=current_correlation_id() or new_id()
                )
            if turn is None and self.engine.starts.undecided:
                await self.engine.starts.wait_decided(kind, key_bytes)
            row = None if scope is None else scope.start_row(kind.number_bytes + key_bytes)
            if scope is not None and row is not None and (known := scope.op.known_reply(row)) is not None:
                newest = max(newest, known[1])
                runs.append(Run(self, self.ref_from_bytes(kind.number_bytes, known[0])))
                continue
            extra: Writes | None = None if row is None else {row: key_bytes}
            ref, number, started = self.engine.starts.start_in(
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
        state: str | None = None,
        ref: tuple[str, str] | None = None,
        tenant: str | None = None,
        tag: tuple[str, str] | None = None,
        limit: int = 100,
        reverse: bool = False,
    ) -> list[RunInfo]:
        """Runs, the oldest first (`reverse`: the newest), at most `limit`.

        workflow, status   of this workflow, with this status or one of several
        state      business state, as `set_status` gave it
        ref, tenant, tag   labels of the start, or tags that `run()` set
        """
        wanted = self.run_filter(workflow, status=status, state=state, ref=ref, tenant=tenant, tag=tag)
        return [run_info(ref, head) for ref, head in list_runs(self, wanted, limit=limit, reverse=reverse)]

    def run_filter(
        self,
        workflow: type[Workflow] | None = None,
        *,
        status: RunStatus | Collection[RunStatus] | None = None,
        state: str | None = None,
        ref: tuple[str, str] | None = None,
        tenant: str | None = None,
        tag: tuple[str, str] | None = None,
    ) -> RunFilter:
        """Which runs are meant, as `runs` has it; for `control`."""
        return RunFilter(tuple(self._kinds(workflow)), _statuses(status), ref, tenant, tag, state)

    def workflows(self) -> list[WorkflowInfo]:
        """All workflows that are imported, by name: what people are told of them, JSON Schemas of input and
        result, and options.
        """
        return list_workflows(self.actor_types.by_class)

    async def dead_letters(
        self, workflow: type[Workflow] | None = None, *, tenant: str | None = None, limit: int = 100
    ) -> list[DeadLetter]:
        """Failed runs with input, cause, attempts and history, the oldest first.

        `Run.redrive` lets one go on.
        """
        wanted = self.run_filter(workflow, status=FAILED, tenant=tenant)
        runs = list_runs(self, wanted, limit=limit, reverse=False)
        letters = [await Run[object](self, ref).dead_letter() for ref, _ in runs]
        letters.sort(key=lambda letter: letter.failed_at)
        return letters[:limit]

    def tenant(self, name: str) -> Tenant:
        """What belongs to one tenant: through it no run of another is listed, found, sent to or changed.

        Raises `InvalidValue` for a name that can't be one.
        """
        return Tenant(self, name)

    # -- events --------------------------------------------------------------------------------------------

    async def submit_event(
        self,
        workflow: type[object],
        id: GivenKey,
        event: object,
        payload: object = msgspec.UNSET,
        *,
        user: str | None = None,
        tenant: str | None = None,
        event_id: str | None = None,
    ) -> RunInfo:
        """Send an event to a run and return what the run is when it has come to rest behind it.

        It returns also when the run needs long for what the event led to: then the run is `running`.  The
        parameters are those of `Run.send`.
        """
        run = self.run(cast("type[TakesNothing[object]]", workflow), id)
        await run.send(event, payload, user=user, tenant=tenant, id=event_id)
        await self.engine.processed(run.ref)
        return await run.info()

    async def enqueue_event(
        self,
        workflow: type[object],
        id: GivenKey,
        event: object,
        payload: object = msgspec.UNSET,
        *,
        user: str | None = None,
        tenant: str | None = None,
        event_id: str | None = None,
    ) -> None:
        """Accept an event for a run and return when that is durable; it is processed later.

        The parameters are those of `Run.send`.
        """
        run = self.run(cast("type[TakesNothing[object]]", workflow), id)
        await run.send(event, payload, user=user, tenant=tenant, id=event_id)

    async def send_event(self, ref: Ref, record: EventArrived) -> None:
        """Send an event as whoever calls: in a turn as part of its commit, in a step exactly once."""
        self.check_open()
        caller = CALLER.get()
        scope, turn = (None, None) if caller is None else self._belongs_to(caller, "send events")
        messages = self.engine.messages
        if turn is not None:
            messages.check_event(ref, record, turn.root.writes)
            self._send_in_turn(turn, ref, record)
            return
        if scope is None:
            await self.store.wait_durable(messages.send(ref, record))
            return
        row = scope.start_row(b"event " + ref.directory_key + record.name.encode() + bytes(record.payload))
        known = scope.op.known_reply(row)
        if known is not None:
            await self.store.wait_durable(known[1])
            return
        try:
            number = messages.send(ref, record, {row: _SENT})
        except BaseException:
            scope.take_back(row)
            raise
        scope.op.keep_reply(row, _SENT, number)
        await self.store.wait_durable(number)

    def _send_in_turn(self, turn: Turn, ref: Ref, record: EventArrived) -> None:
        def add(writes: Writes) -> None:
            arrival = self.engine.messages.event_arrival(ref, record, writes)
            after_commit(turn, arrival.committed)
            after_rollback(turn, arrival.failed)

        before_stage(turn, add)

    # -- control -------------------------------------------------------------------------------------------

    async def control(
        self,
        verb: Verb,
        wanted: RunFilter,
        *,
        by: str | None = None,
        reason: str = "",
        dry_run: bool = False,
        limit: int = 10_000,
        rate: float | None = None,
    ) -> BulkResult:
        """Do something to all runs that a filter (`run_filter`) means, the oldest first.

        verb       one of pause, resume, cancel, terminate, restart, retry_now, redrive, purge
        dry_run    only count them
        rate       at most so many a second, so that what they need is not overrun

        What a run refuses is told in the result and stops nothing.
        """
        return await control_many(
            self, verb, wanted, by=by, reason=reason, dry_run=dry_run, limit=limit, rate=rate
        )

    def audit(
        self, *, run: Run[Any] | None = None, since: datetime | None = None, limit: int = 100
    ) -> list[Deed]:
        """What was done to runs from outside, the newest first: to one run, or from a moment on."""
        return read_audit(self, None if run is None else run.ref, since, limit)

    async def debug(self, workflow: type[object], id: GivenKey, *, at: int | None = None) -> DebugView:
        """A run as it was behind record `at` of its history (None: the last), without effects.

        Its code is replayed up to there: state, data, what it waited for, and the local variables of `run()`.
        Raises `RunNotFound`.
        """
        run = self.run(cast("type[TakesNothing[object]]", workflow), id)
        await run.info()
        return await debug_view(self.engine, run.ref, at)

    def _kinds(self, workflow: type[Workflow] | None) -> list[WorkflowType]:
        return [self.workflow_type(workflow)] if workflow is not None else self._workflow_types()

    def workflow_type(self, workflow: type[object]) -> WorkflowType:
        """What is known of a workflow class; raises `UnknownActorType` or `InvalidActor`."""
        kind = self.type_of(workflow)
        if not isinstance(kind, WorkflowType):
            raise CallerError(f"{kind.name} is an actor, not a workflow; call it through get()")
        return kind

    def _workflow_types(self) -> list[WorkflowType]:
        return [kind for kind in self.actor_types.by_class.values() if isinstance(kind, WorkflowType)]


_decode_options: Final = msgspec.msgpack.Decoder(StartOptions).decode


def _start_options(on_conflict: OnConflict, correlation_id: str | None, labels: RunLabels) -> StartOptions:
    """The options of a start; raises `InvalidValue` for a label that could not be read again."""
    if correlation_id is None and labels is NO_LABELS:
        return StartOptions(on_conflict, current_correlation_id() or new_id())
    given = StartOptions(on_conflict, correlation_id or current_correlation_id() or new_id(), labels)
    try:
        options = _decode_options(ENCODER.encode(given))
    except BAD_VALUE as error:
        raise InvalidValue(
            f"the labels of a run are texts: correlation_id, ref (two), tenant, tags; {reason(error)}"
        ) from error
    return msgspec.structs.replace(options, labels=check_labels(options.labels or NO_LABELS))


def _with_deadline(options: StartOptions, kind: WorkflowType, deadline: Duration | None) -> StartOptions:
    seconds = kind.deadline_seconds
    if deadline is not None:
        seconds = to_seconds(deadline, what="deadline")
        if seconds == 0:
            raise CallerError(f"the deadline of a run of {kind.name} must be more than 0")
    return options if seconds is None else msgspec.structs.replace(options, deadline_seconds=seconds)


def _statuses(given: RunStatus | Collection[RunStatus] | None) -> tuple[RunStatus, ...]:
    if given is None:
        return ALL_STATUSES
    return (given,) if isinstance(given, str) else tuple(given)
