"""Starts of runs: new ones, and those that begin anew under their id (replaced, restarted, continued as new).

    start -> first record and head, in somebody's commit -> a place? -> run() begins in the next callback
                                                         -> none: queued on disk

Promises
  * A start is whole: first record, head, index entries and what is erased of a former run are one commit.
  * While a turn starts a run, nobody else starts one under its id.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ...runtime.alarms import alarm_writes
from ...runtime.chain import Turn, after_commit, after_rollback
from ...storage import layout
from ...storage.errors import StorageError
from ...storage.group_commit import Writes
from ..errors import RunExists, WorkflowRetired
from .arrivals import Arrival, forget_position, has_arrivals, live_run_of
from .children import children_of, first_record
from .continuing import ContinueAsNew
from .head import RunHead, RunStatus
from .journal import (
    CancelAsked,
    ParentLink,
    Paused,
    Started,
    UpdateAccepted,
    encode_record,
    journal_prefix,
    position_key,
)
from .labels import NO_LABELS, RunLabels
from .live_run import LiveRun
from .retention import keep as keep_run
from .start_options import StartOptions

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...runtime.address import ActorKey
    from ...runtime.ref import Ref
    from .engine import Engine
    from .workflow import Workflow
    from .workflow_type import WorkflowType


class StartArrival:
    """A start on its way into a commit that somebody stages."""

    __slots__ = ("_activation", "_decoded_input", "_has_place", "_started", "_starts")

    def __init__(
        self,
        starts: Starts,
        activation: Activation,
        started: Started,
        decoded_input: object,
        writes: Writes,
        *,
        paused: bool = False,
        is_new: bool = False,
    ) -> None:
        """`is_new`: nothing goes on, also where the id had a run before."""
        # A cast is a call, and what is done here is done for every run.
        kind: WorkflowType = activation.type  # type: ignore[assignment]
        places = starts.engine.places
        self._starts = starts
        self._activation = activation
        self._started = started
        self._decoded_input = decoded_input
        self._has_place = not paused and places.has(kind)
        if activation.stored:
            activation.renew()
        status: RunStatus = "paused" if paused else "running" if self._has_place else "queued"
        workflow: Workflow = activation.instance  # type: ignore[assignment]
        writes[position_key(journal_prefix(activation.prefix(b"")), 0)] = encode_record(started)
        forget_position(activation)
        created_ms = workflow.head.created_ms if started.generation and not is_new else started.at_ms
        workflow.head = RunHead(
            status,
            created_ms,
            started.at_ms,
            None,
            started.correlation_id,
            kind.fingerprint,
            labels=labels_of(started),
        )
        if self._has_place:
            places.take(kind)
        elif not paused:
            places.expect_queued(kind)
        activation.pins += 1
        activation.stage_fields(writes)
        if not activation.stored:
            activation.claim_row(writes)

    def committed(self, number: int) -> None:
        """The write set was staged as (part of) this commit."""
        activation = self._activation
        activation.stored = True
        if number > activation.dep:
            activation.dep = number
        self._starts.begin(activation, self._started, self._decoded_input, has_place=self._has_place)

    def failed(self) -> None:
        """The write set was not staged."""
        activation, engine = self._activation, self._starts.engine
        activation.pins -= 1
        if self._has_place:
            engine.places.free(cast("WorkflowType", activation.type))
        engine.system.directory.drop(activation)


class Starts:
    """The starts of one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # Runs that were just started and whose run() begins in the next callback.
        self._beginning: deque[Ref] = deque()
        self._begin_scheduled = False
        # Runs started by turns that haven't ended, by the keys of their rows in the directory.
        self.undecided: dict[bytes, asyncio.Future[None]] = {}

    async def wait_decided(self, kind: WorkflowType, key_bytes: bytes) -> None:
        """Return when no turn is about to start the run with this key."""
        directory_key = layout.DIRECTORY + kind.number_bytes + key_bytes
        while (undecided := self.undecided.get(directory_key)) is not None:
            await asyncio.wait((undecided,))

    def start_in(
        self,
        writes_of: Turn | None,
        kind: WorkflowType,
        key: ActorKey,
        key_bytes: bytes,
        encoded_input: bytes,
        decoded_input: object,
        options: StartOptions,
        extra: Writes | None = None,
    ) -> tuple[Ref, int, bool]:
        """Start a run, in a commit of its own (with `extra` writes) or in that of a turn.

        Returns the run's ref, the commit to wait for, and whether it was started (False: joined).  Raises
        `RunExists`.
        """
        system = self.engine.system
        ref = system.make_ref(kind, key, key_bytes)
        turn_writes = None if writes_of is None else writes_of.root.writes
        if ref.directory_key in self.undecided and (
            turn_writes is None or ref.directory_key not in turn_writes
        ):
            raise RunExists(
                f"run {ref} is being started by a turn that hasn't ended; use another id, or start it "
                f"again later"
            )
        activation = ref.activation
        if activation is None:
            activation = system.directory.activate(ref)
        replaced: list[Arrival] | None = None
        writes: Writes = {}
        if activation.stored or (turn_writes is not None and ref.directory_key in turn_writes):
            if _tenant_of(activation) != (None if options.labels is None else options.labels.tenant):
                raise RunExists(f"run {ref} exists; use another id")
            if options.on_conflict == "join":
                return ref, activation.dep, False
            if options.on_conflict != "replace" or writes_of is not None:
                raise RunExists(
                    f"run {ref} exists (on_conflict={options.on_conflict!r}); use another id, or "
                    f"on_conflict='join' or 'replace'"
                )
            check_not_retired(kind)
            replaced = self.erase(activation, writes, "it was replaced")
        elif kind.standing != "active":
            check_not_retired(kind)
        if extra:
            writes.update(extra)
        started = self._started(ref, encoded_input, options, None)
        if replaced is not None:  # its children have ids of their own: those of the former run may still end
            generation = first_record(self.engine, activation).generation + 1
            started = msgspec.structs.replace(started, generation=generation)
        arrival = StartArrival(self, activation, started, decoded_input, writes, is_new=True)
        if writes_of is None:
            try:
                number = activation.commit(writes)
            except BaseException:
                for one in (arrival, *(replaced or ())):
                    one.failed()
                if replaced is not None:
                    self.engine.again_later([ref])  # the run that was to be replaced goes on
                raise
            arrival.committed(number)
            for child in replaced or ():
                child.committed(number)
            if replaced is not None:
                self.engine.messages.over(ref, "was replaced")
            return ref, number, True
        writes_of.root.writes.update(writes)
        undecided = self.undecided[ref.directory_key] = system.loop.create_future()

        def committed(number: int) -> None:
            del self.undecided[ref.directory_key]
            undecided.set_result(None)
            arrival.committed(number)

        def rolled_back() -> None:
            del self.undecided[ref.directory_key]
            undecided.set_result(None)
            arrival.failed()

        after_commit(writes_of, committed)
        after_rollback(writes_of, rolled_back)
        return ref, 0, True

    def start_arrival(
        self,
        ref: Ref,
        encoded_input: bytes,
        decoded_input: object,
        options: StartOptions,
        writes: Writes,
        *,
        parent: ParentLink | None,
        join: bool,
        replaces: bool = False,
    ) -> StartArrival | None:
        """Add a start to a write set that is staged at once; None when the run is there and `join` is set.

        `replaces` says that what was there is erased in the write set.  Raises `RunExists`.
        """
        activation = ref.activation or self.engine.system.directory.activate(ref)
        if (activation.stored and not replaces) or ref.directory_key in self.undecided:
            if join and activation.stored:
                return None
            raise RunExists(f"run {ref} exists; use another id")
        check_not_retired(cast("WorkflowType", activation.type))
        started = self._started(ref, encoded_input, options, parent)
        return StartArrival(self, activation, started, decoded_input, writes)

    def _started(
        self, ref: Ref, encoded_input: bytes, options: StartOptions, parent: ParentLink | None
    ) -> Started:
        now_ms = self.engine.system.clock.now_ms()
        labels = options.labels or NO_LABELS
        seconds = options.deadline_seconds
        telemetry = self.engine.system.telemetry
        return Started(
            now_ms,
            msgspec.Raw(encoded_input),
            options.correlation_id,
            labels.ref,
            labels.tenant,
            labels.tags,
            deadline_ms=None if seconds is None else now_ms + round(seconds * 1000),
            parent=parent,
            traceparent=None if telemetry is None else telemetry.run_starts(ref, options),
        )

    # -- what was started begins ---------------------------------------------------------------------------

    def begin(
        self, activation: Activation, started: Started, decoded_input: object, *, has_place: bool
    ) -> LiveRun | None:
        """A start was staged: `run()` begins in the next callback, or waits on disk for a place."""
        engine = self.engine
        activation.type.counts.started += 1  # type: ignore[attr-defined]
        activation.pins -= 1
        if not has_place:
            engine.system.directory.drop(activation)
            return None
        # What was sent to it in the turn that started it lies behind the first record.
        fold = engine.fold(activation) if has_arrivals(activation) else None
        run = engine.make_live(LiveRun(engine, activation, started, fold))
        run.first_input = decoded_input
        run.has_slot = True
        self._beginning.append(activation.ref)
        if not self._begin_scheduled:
            self._begin_scheduled = True
            engine.system.loop.call_soon(self._begin_all)
        return run

    def _begin_all(self) -> None:
        self._begin_scheduled = False
        beginning, self._beginning = self._beginning, deque()
        for ref in beginning:
            activation = ref.activation
            run = None if activation is None else live_run_of(activation)
            if run is not None and not run.has_begun:
                self.engine.begin(run)

    # -- beginning anew ------------------------------------------------------------------------------------

    def erase(
        self, activation: Activation, writes: Writes, why: str, *, keep: tuple[bytes, ...] = ()
    ) -> list[Arrival]:
        """Add to `writes` what erases a run but for its head, and ask its children to end.

        Its work in progress stops.  `keep` are kinds of keys that stay.  What is returned is to be told of
        the commit.
        """
        engine = self.engine
        run = live_run_of(activation)
        if run is not None:
            engine.unmake_live(run)
        activation.pins += 1  # its children are loaded
        arrivals = self.cancel_children(activation, writes, why)
        activation.pins -= 1
        base = activation.prefix(b"")
        for key, _ in engine.system.store.scan_prefix(base):
            if key != activation.fields_key and key[len(base) : len(base) + 1] not in keep:
                writes[key] = None
        writes.update(alarm_writes(activation, b"", None))
        keep_run(activation, writes)
        return arrivals

    def cancel_children(self, activation: Activation, writes: Writes, why: str) -> list[Arrival]:
        """Add to `writes` that the children of a run are asked to end."""
        engine = self.engine
        arrivals: list[Arrival] = []
        now_ms = engine.system.clock.now_ms()
        for child in children_of(engine, activation):
            there = child.activation or engine.system.directory.activate(child)
            if there.stored and not engine.has_ended(there):
                reason = f"its parent {activation.ref} ended: {why}"
                arrivals.append(engine.control.cancel_arrival(child, CancelAsked(now_ms, reason), writes))
        return arrivals

    def restart(self, ref: Ref, encoded_input: bytes | None, writes: Writes) -> list[Any]:
        """Add to `writes` that a run begins anew, from the top.

        What is returned is to be told of the commit.
        """
        activation = ref.activation or self.engine.system.directory.activate(ref)
        first = first_record(self.engine, activation)
        arrivals: list[Any] = list(self.erase(activation, writes, "it was restarted"))
        now_ms = self.engine.system.clock.now_ms()
        length_ms = None if first.deadline_ms is None else first.deadline_ms - first.at_ms
        started = msgspec.structs.replace(
            first,
            at_ms=now_ms,
            input=first.input if encoded_input is None else msgspec.Raw(encoded_input),
            deadline_ms=None if length_ms is None else now_ms + length_ms,
            generation=first.generation + 1,
            emitted=0,
            seed=None,
            state=None,
        )
        kind = cast("WorkflowType", activation.type)
        decoded = kind.decode_input(started.input)
        arrivals.append(StartArrival(self, activation, started, decoded, writes))
        return arrivals

    def continue_as_new(self, run: LiveRun, asked: ContinueAsNew, writes: Writes) -> None:
        """`run()` ended to begin anew: one commit erases its history and starts it again."""
        engine, activation = self.engine, run.activation
        carried, said, first = run.carried(), run.said, run.started
        paused = any(isinstance(one, Paused) for one in carried)
        engine.messages.done(run)
        journal = journal_prefix(activation.prefix(b""))
        for key in [key for key in writes if key.startswith(journal)]:
            del writes[key]  # the last outcome: it is history, too
        if not said.is_silent:
            said.write(writes)
            for key in [key for key in writes if key.startswith(journal)]:
                del writes[key]
        now_ms = run.now_ms()
        arrivals: list[Any] = list(
            self.erase(activation, writes, "it continued as new", keep=(layout.EMITTED, layout.EVENT_ID))
        )
        started = msgspec.structs.replace(
            first,
            at_ms=now_ms,
            input=msgspec.Raw(asked.encoded_input),
            tags=dict(said.tags),
            # Of the whole run, and told once: code that was told and went on may begin anew.
            deadline_ms=None if run.overdue else first.deadline_ms,
            generation=first.generation + 1,
            emitted=said.emitted,
            seed=None,
            state=said.state,
        )
        start = StartArrival(self, activation, started, asked.decoded_input, writes, paused=paused)
        for nth, record in enumerate(carried):
            writes[position_key(journal, nth + 1)] = encode_record(record)
        try:
            number = activation.commit(writes, reserve=True)
        except StorageError as error:
            for arrival in (start, *arrivals):
                arrival.failed()
            engine.could_not_record(activation, error)
            return
        start.committed(number)
        for arrival in arrivals:
            arrival.committed(number)
        updates = [one.id for one in carried if isinstance(one, UpdateAccepted)]
        engine.messages.over(activation.ref, "continued as new", updates)
        again = live_run_of(activation)
        if again is not None and carried:
            again.next_position += len(carried)
            again.expect(carried)


def check_not_retired(kind: WorkflowType) -> None:
    """Raise `WorkflowRetired` when nothing new of a workflow is started."""
    if kind.standing == "retired":
        raise WorkflowRetired(f"workflow {kind.name} is retired: nothing new of it is started")


def _tenant_of(activation: Activation) -> str | None:
    """Whose run it is: nobody joins or replaces another's."""
    labels = cast("Workflow", activation.instance).head.labels
    return None if labels is None else labels.tenant


def labels_of(started: Started) -> RunLabels | None:
    """The labels that a run has when it begins; most have none."""
    if not started.tags and started.ref is None and started.tenant is None and started.state is None:
        return None
    return RunLabels(started.ref, started.tenant, started.tags, started.state)
