"""What a runtime offers for starting runs: one, or many at once.

    in a turn    part of the turn's commit
    in a step    once, however often the step is tried: its id is kept under the step, as a reply is
    else         a commit of its own, waited for

The engine (workflow/starting.py) starts them.  `Runtime` (system.py) adds schedules and queues.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

import msgspec

from ..runtime.address import normal_key
from ..runtime.codec import BAD_VALUE, ENCODER, reason
from ..runtime.durations import Duration, to_seconds
from ..storage.errors import CallerError, InvalidValue
from .correlation import current_correlation_id
from .errors import RunExists
from .handle import Run
from .ids import new_id, new_uuid
from .who_asks import who_asks
from .workflow.labels import NO_LABELS, RunLabels, check_labels, given_tags
from .workflow.protocols import TakesInput, TakesNothing
from .workflow.run_id import check_run_id
from .workflow.start_options import ON_CONFLICT, OnConflict, StartOptions
from .workflow_calls import WorkflowCalls

if TYPE_CHECKING:
    from ..runtime.address import ActorKey, GivenKey
    from ..storage.group_commit import Writes
    from .workflow.workflow_type import WorkflowType

In = TypeVar("In")
Out = TypeVar("Out")


class StartCalls(WorkflowCalls):
    """Starts of runs on one folder; a base of `Runtime`."""

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
                      there, "replace" stops and erases it
        correlation_id   ties the run to its cause in logs; the caller's own, or a new one, by default
        ref, tenant, tags   kept with the run, which is found by them
        deadline      how long the run may take, in place of the class's

        Called in an actor's turn, the start is part of the turn's commit; called in a step, it happens once
        however often the step is tried.  Raises `InvalidRunId`, `InvalidInput`, `InvalidValue` (a label) or
        `RunExists`.
        """
        kind = self.workflow_type(workflow)
        if on_conflict not in ON_CONFLICT:
            raise CallerError(f"on_conflict must be one of {', '.join(ON_CONFLICT)}; got {on_conflict!r}")
        scope, turn = who_asks(self, "start runs")
        if id is not None:
            normal, key_bytes = normal_key(check_run_id(id), kind.name)
        else:
            normal, key_bytes = normal_key(new_uuid(), kind.name)
        encoded, decoded = kind.encode_input(input)
        labels = NO_LABELS
        if ref is not None or tenant is not None or tags:
            labels = RunLabels(ref, tenant, given_tags(tags))
        options = _start_options(on_conflict, correlation_id, labels)
        if deadline is not None or kind.deadline_seconds is not None:
            options = _with_deadline(options, kind, deadline)
        row: bytes | None = None
        if scope is not None:
            row = scope.effect_row(kind.number_bytes + (b"" if id is None else key_bytes))
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
            # As `wait_durable` does it, without a coroutine of its own for each start.
            waiter = self.store.group_commit.waiter(number)
            if waiter is not None:
                await waiter
        else:
            run_ref, number, _ = self.engine.starts.start_in(
                turn, kind, normal, key_bytes, encoded, decoded, options
            )
            if number > turn.root.dep:
                turn.root.dep = number
        return Run(self, run_ref)

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
        scope, turn = who_asks(self, "start runs")
        runs: list[Run[Out]] = []
        newest = 0
        for normal, key_bytes, encoded, decoded in checked:
            if correlation_id is None:
                options = msgspec.structs.replace(
                    options, correlation_id=current_correlation_id() or new_id()
                )
            if turn is None and self.engine.starts.undecided:
                await self.engine.starts.wait_decided(kind, key_bytes)
            row = None if scope is None else scope.effect_row(kind.number_bytes + key_bytes)
            if scope is not None and row is not None and (known := scope.op.known_reply(row)) is not None:
                newest = max(newest, known[1])
                runs.append(Run(self, self.ref_from_bytes(kind.number_bytes, known[0])))
                continue
            extra: Writes | None = None if row is None else {row: key_bytes}
            try:
                ref, number, started = self.engine.starts.start_in(
                    turn, kind, normal, key_bytes, encoded, decoded, options, extra
                )
            except RunExists:  # a tenant's run: its id is in use, too
                if turn is not None:
                    raise
                continue
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
