"""The workflow engine: starts runs, gives them places, puts them to rest, takes them up again, ends them.

It stands on the runtime: a run is an actor keyed by its id, its head a declared field, its journal rows under
its number, its waking an alarm.  A change of a run is whole in one commit.

Promises
  * A run that was acknowledged is found again after any crash: running ones by their status, sleeping ones by
    their alarm, queued ones when a place is free.
  * P8: a run at rest for long leaves memory; one that is queued when it is started is not even there.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from ...runtime.actor import activation_of
from ...runtime.alarms import AlarmRecord, alarm_writes
from ...runtime.chain import Turn, after_commit, after_rollback
from ...runtime.errors import NotRunning
from ...storage import layout
from ...storage.errors import CallerError, Damaged, StorageError, StorageFailed
from ...storage.group_commit import Writes
from ..errors import ErrorRecord, RunExists, RunFailed, record_error
from .deadlines import Deadlines
from .head import ENDED, RunHead, RunStatus
from .journal import (
    AttemptFailed,
    Failed,
    Finished,
    Fold,
    Redriven,
    Started,
    Terminated,
    decode_records,
    encode_record,
    journal_prefix,
    position_key,
)
from .live_run import LiveRun
from .ops import Op
from .places import Places
from .results import Results, failure
from .step_op import StepOp
from .step_plan import StepPlan

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...runtime.address import ActorKey
    from ...runtime.ref import Ref
    from ..system import Runtime
    from .workflow import Workflow
    from .workflow_type import WorkflowType

_log = logging.getLogger("holdfast.workflow")

_ALARM_NAME: Final = b""
_SETTLED: Final = ENDED | {"stuck"}
# After a failed commit the runs it undid begin anew: not at once, since the disk may still refuse.
_FIRST_AGAIN_SECONDS: Final = 0.5
_LAST_AGAIN_SECONDS: Final = 30.0


class StartOptions(msgspec.Struct, frozen=True):
    """What a run is started with beside its input."""

    on_conflict: str
    correlation_id: str
    ref: tuple[str, str] | None = None
    tenant: str | None = None
    tags: dict[str, str] = {}


class Engine:
    """The workflows of one runtime."""

    def __init__(self, system: Runtime, *, max_running: int) -> None:
        self.system = system
        self.places = Places(system, max_running=max_running, resume=self._resume)
        self.deadlines = Deadlines(system.clock)
        self._plans: dict[Any, StepPlan] = {}
        # Runs that were just started and whose run() begins in the next callback.
        self._beginning: deque[Ref] = deque()
        self._begin_scheduled = False
        self.results = Results()
        # Runs started by turns that haven't ended, by the keys of their rows in the directory.
        self.starting: dict[bytes, asyncio.Future[None]] = {}
        self._again_seconds = _FIRST_AGAIN_SECONDS
        # Runs that got stuck since the runtime was opened: they are not tried again, as older ones will be.
        self._stuck_now: set[bytes] = set()
        self._stopped = False
        # What runs in place of a step's function; a simulation counts, replaces and fails bodies with it.
        self.wrap_body: Callable[[StepOp, Callable[..., object]], Callable[..., object]] | None = None
        self._live: set[LiveRun] = set()

    # -- opening and closing -------------------------------------------------------------------------------

    def stop(self) -> None:
        """Begin nothing more; what is in progress is dropped and goes on when the folder is opened again."""
        self._stopped = True
        self.places.stop()
        self.deadlines.stop()
        bodies = [op.task for run in self._live for op in run.pending.values() if op.task is not None]
        for run in list(self._live):
            run.drop()
        if bodies:  # cancelled now; closing waits until they have let go of what they hold
            self.system.spawn(_wait_all(bodies), "steps that were in progress")
        self.results.stop(
            NotRunning("the runtime was closed before the run ended; it goes on when the folder is opened")
        )

    # -- starting ------------------------------------------------------------------------------------------

    async def wait_started(self, kind: WorkflowType, key_bytes: bytes) -> None:
        """Return when no turn is about to start the run with this key."""
        directory_key = layout.DIRECTORY + kind.number_bytes + key_bytes
        while (undecided := self.starting.get(directory_key)) is not None:
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
        ref = self.system.make_ref(kind, key, key_bytes)
        if ref.directory_key in self.starting and (
            writes_of is None or ref.directory_key not in writes_of.root.writes
        ):
            raise RunExists(
                f"run {ref} is being started by a turn that hasn't ended; use another id, or start it "
                f"again later"
            )
        activation = ref.activation
        if activation is None:
            activation = self.system.directory.activate(ref)
        replaced: Writes = {}
        turn_writes = None if writes_of is None else writes_of.root.writes
        if activation.stored or (turn_writes is not None and ref.directory_key in turn_writes):
            if options.on_conflict == "join":
                return ref, activation.dep, False
            if options.on_conflict != "replace" or writes_of is not None:
                raise RunExists(
                    f"run {ref} exists (on_conflict={options.on_conflict!r}); use another id, or "
                    f"on_conflict='join' or 'replace'"
                )
            replaced = self._erase(activation)
        now_ms = self.system.clock.now_ms()
        workflow = cast("Workflow", activation.instance)
        place = self.places.has(kind)
        status: RunStatus = "running" if place else "queued"
        started = Started(
            now_ms,
            msgspec.Raw(encoded_input),
            options.correlation_id,
            options.ref,
            options.tenant,
            options.tags,
        )
        writes = replaced
        if extra:
            writes.update(extra)
        writes[position_key(journal_prefix(activation.prefix(b"")), 0)] = encode_record(started)
        workflow.head = RunHead(status, now_ms, now_ms, None, options.correlation_id, kind.fingerprint)
        if place:
            self.places.take(kind)
        else:
            self.places.expect_queued(kind)
        activation.pins += 1
        if writes_of is None:
            try:
                activation.stage_fields(writes)
                number = activation.commit(writes)
            except BaseException:
                self._not_started(activation, kind, place)
                if replaced:
                    self._again_later([ref])  # the run that was to be replaced goes on
                raise
            self._started(activation, started, decoded_input, place)
            return ref, number, True
        activation.stage_fields(writes)
        activation.claim_row(writes)
        writes_of.root.writes.update(writes)
        undecided = self.starting[ref.directory_key] = self.system.loop.create_future()

        def committed(number: int) -> None:
            del self.starting[ref.directory_key]
            undecided.set_result(None)
            activation.stored = True
            activation.dep = number
            self._started(activation, started, decoded_input, place)

        def rolled_back() -> None:
            del self.starting[ref.directory_key]
            undecided.set_result(None)
            self._not_started(activation, kind, place)

        after_commit(writes_of, committed)
        after_rollback(writes_of, rolled_back)
        return ref, 0, True

    def _started(self, activation: Activation, started: Started, decoded_input: object, place: bool) -> None:
        activation.pins -= 1
        if not place:
            self.system.directory.drop(activation)
            return
        run = self._make_live(LiveRun(self, activation, started))
        run.first_input = decoded_input
        run.has_slot = True
        self._beginning.append(activation.ref)
        if not self._begin_scheduled:
            self._begin_scheduled = True
            self.system.loop.call_soon(self._begin_all)

    def live_runs(self) -> list[LiveRun]:
        """Runs whose working part is in memory."""
        return list(self._live)

    def _make_live(self, run: LiveRun) -> LiveRun:
        self._live.add(run)
        run.activation.pins += 1
        return run

    def _unmake_live(self, run: LiveRun) -> None:
        """A run leaves memory (its activation may stay): its place is free, its pin is gone."""
        self._live.discard(run)
        self._release(run)
        run.drop()
        run.activation.pins -= 1

    def _not_started(self, activation: Activation, kind: WorkflowType, place: bool) -> None:
        activation.pins -= 1
        if place:
            self.places.free(kind)
        self.system.directory.drop(activation)

    def _begin_all(self) -> None:
        self._begin_scheduled = False
        beginning, self._beginning = self._beginning, deque()
        for ref in beginning:
            activation = ref.activation
            run = None if activation is None else live_run(activation)
            if run is not None and not run.has_begun:
                self._begin(run)

    def _begin(self, run: LiveRun) -> None:
        try:
            run.begin()
        except StorageError as error:
            _log.error("run %s can't go on: %s", run.activation.ref, error)
            self.let_go(run)
        except Exception as error:
            _log.exception("run %s can't be replayed", run.activation.ref)
            self.stuck(run, record_error(error))

    def _erase(self, activation: Activation) -> Writes:
        """Everything of a run that is replaced, as deletes; its work in progress stops."""
        run = live_run(activation)
        if run is not None:
            self._unmake_live(run)
        writes: Writes = {}
        for key, _ in self.system.store.scan_prefix(activation.prefix(b"")):
            if key != activation.fields_key:
                writes[key] = None
        writes.update(alarm_writes(activation, _ALARM_NAME, None))
        return writes

    def _release(self, run: LiveRun) -> None:
        if run.has_slot:
            run.has_slot = False
            self.places.free(run.type)

    def _resume(self, kind: WorkflowType, key_bytes: bytes) -> None:
        ref = self.system.ref_from_bytes(kind.number_bytes, key_bytes)
        try:
            self.resume(ref)
        except Exception as error:
            _log.exception("run %s can't be taken up again: %s", ref, error)

    def resume(self, ref: Ref) -> LiveRun | None:
        """Take a run from disk (or memory) and let it go on; None when it has ended or isn't there."""
        activation = ref.activation
        if activation is None:
            activation = self.system.directory.activate(ref)
        run = live_run(activation)
        if run is not None:
            return run
        head = cast("Workflow", activation.instance).head
        if not activation.stored or head.status in ENDED:
            return None
        try:
            fold = self._fold(activation)
        except Damaged as error:
            self._stuck(activation, record_error(error))
            return None
        kind = cast("WorkflowType", activation.type)
        run = self._make_live(LiveRun(self, activation, fold.started, fold))
        run.has_slot = True
        self.places.take(kind)
        for key, stored in self.system.store.scan_prefix(activation.prefix(layout.REPLY)):
            run.replies[key] = stored
        if head.status != "running":
            writes: Writes = {}
            try:
                run.set_head("running", writes, run.now_ms())
                activation.commit(writes, reserve=True)
            except StorageError:
                self.let_go(run)
                raise
        _log.info("run %s goes on", ref, extra={"run_id": str(ref), "correlation_id": run.correlation_id})
        self._begin(run)
        return run

    def _fold(self, activation: Activation) -> Fold:
        rows = self.system.store.scan_prefix(journal_prefix(activation.prefix(b"")))
        return Fold(decode_records(rows, str(activation.ref)), str(activation.ref))

    # -- what becomes of steps -----------------------------------------------------------------------------

    def attempt_failed(self, run: LiveRun, record: AttemptFailed) -> None:
        """Record a failed attempt; the next one waits on disk."""
        try:
            run.record(record)
        except StorageError as error:
            _log.error("a step of %s could not be recorded: %s", run.activation.ref, error)
            self.let_go(run)
            return
        run.deliver_all()

    def step_plan(self, function: Callable[..., object]) -> StepPlan:
        """How a function is called as a step; bound methods share the plan of their function."""
        target = getattr(function, "__func__", function)
        try:
            plan = self._plans.get(target)
        except TypeError:  # a callable that can't be hashed
            return StepPlan(function)
        if plan is None:
            plan = StepPlan(target)
            if len(self._plans) < 10_000:  # lambdas made in a loop must not pile up
                self._plans[target] = plan
        return plan

    def rest(self, run: LiveRun, status: RunStatus, wake_ms: int) -> None:
        """Nothing to do before `wake_ms`: an alarm wakes the run, its place is free, memory lets it go."""
        activation = run.activation
        writes: Writes = {}
        try:
            run.write_versions(writes)
            run.set_head(status, writes, run.now_ms(), rested=run.next_position)
            writes.update(alarm_writes(activation, _ALARM_NAME, AlarmRecord(wake_ms, wake_ms)))
            number = activation.commit(writes, reserve=True)
        except StorageError as error:
            _log.error("run %s could not be put to rest: %s", activation.ref, error)
            self.let_go(run)
            return
        self.system.scheduler.notice(wake_ms)
        self._release(run)
        if wake_ms - self.system.clock.now_ms() > self.system.limits.idle_seconds * 1000:
            self.system.store.on_durable(number, lambda error: self._forget(run) if error is None else None)

    def _forget(self, run: LiveRun) -> None:
        """Let a run at rest leave memory."""
        head = cast("Workflow", run.activation.instance).head
        if not run.dropped and not run.has_slot and head.status in ("waiting", "retrying"):
            self._unmake_live(run)
            if run.activation.evictable():
                self.system.directory.drop(run.activation)

    def alarm_fired(self, workflow: Workflow) -> None:
        """A run's alarm is due (called in its turn): it counts as running from that commit on, then it goes
        on.
        """
        activation = activation_of(workflow)
        head = workflow.head
        if head.status in ENDED:
            return
        kind = cast("WorkflowType", activation.type)
        run = live_run(activation)
        place = (run is not None and run.has_slot) or self.places.has(kind)
        status: RunStatus = "running" if place else "queued"
        workflow.head = msgspec.structs.replace(head, status=status, updated_ms=self.system.clock.now_ms())
        if not place:
            self.places.expect_queued(kind)
        ref = activation.ref

        def committed(number: int) -> None:
            if place:
                self.system.loop.call_soon(self._woken, ref)
            else:
                self.places.fill_later()

        after_commit(activation.current_turn(), committed)

    def _woken(self, ref: Ref) -> None:
        if self._stopped:
            return
        activation = ref.activation
        run = None if activation is None else live_run(activation)
        if run is None:
            self._resume(cast("WorkflowType", ref.type), ref.key_bytes)
            return
        if not run.has_slot:
            run.has_slot = True
            self.places.take(run.type)
        run.wake()

    # -- ends ----------------------------------------------------------------------------------------------

    def ended(
        self,
        run: LiveRun,
        status: RunStatus,
        record: Finished | Failed,
        raised: BaseException | None,
        writes: Writes,
    ) -> None:
        """run() returned or raised: the last record, the head and the index, and what `writes` holds already,
        in one commit.
        """
        activation = run.activation
        error = record.error if isinstance(record, Failed) else None
        try:
            for row in run.replies:
                writes[row] = None
            for op in run.pending.values():  # begun by tasks that end with run()
                writes.update(op.reply_deletes())
            run.set_head(status, writes, record.at_ms, error)
            number = run.record(record, writes)
        except StorageError as failure:
            _log.error("the end of %s could not be recorded: %s", activation.ref, failure)
            self.let_go(run)
            return
        self._unmake_live(run)
        started_ms = cast("Workflow", activation.instance).head.created_ms
        if error is not None or _log.isEnabledFor(logging.INFO):
            fields = {
                "run_id": str(activation.ref),
                "correlation_id": run.correlation_id,
                "duration_ms": record.at_ms - started_ms,
            }
            if error is not None:
                _log.error(
                    "run %s failed and is kept as a dead letter: %s",
                    activation.ref,
                    error,
                    extra=fields,
                    exc_info=raised,
                )
            else:
                _log.info("run %s is complete", activation.ref, extra=fields)
        self.system.store.on_durable(
            number, lambda failure: self._end_is_durable(activation, record, failure)
        )

    def _end_is_durable(
        self, activation: Activation, record: Finished | Failed | Terminated, failure: StorageFailed | None
    ) -> None:
        if failure is not None:
            return  # undone; the run goes on from the disk
        if not activation.gone and activation.evictable():
            self.system.directory.drop(activation)
        self._again_seconds = _FIRST_AGAIN_SECONDS
        self.results.ended(activation.ref, record)

    def stuck(self, run: LiveRun, error: ErrorRecord) -> None:
        """The code doesn't fit the journal: nothing is lost, nothing goes on until other code is there."""
        self._stuck(run.activation, error)
        self._unmake_live(run)

    def _stuck(self, activation: Activation, error: ErrorRecord) -> None:
        workflow = cast("Workflow", activation.instance)
        workflow.head = msgspec.structs.replace(
            workflow.head, status="stuck", updated_ms=self.system.clock.now_ms(), error=error
        )
        writes: Writes = {}
        try:
            activation.stage_fields(writes)
            activation.commit(writes, reserve=True)
        except StorageError as failure:
            _log.error("run %s: %s", activation.ref, failure)
        _log.error("run %s is stuck: %s", activation.ref, error, extra={"run_id": str(activation.ref)})
        self._stuck_now.add(activation.ref.directory_key)
        self.results.failed(activation.ref, RunFailed(str(activation.ref), "stuck", error))

    def let_go(self, run: LiveRun) -> None:
        """The store refuses what the run must write: drop it and try again later from the disk."""
        if run.dropped:
            return
        self._unmake_live(run)
        self.system.directory.drop(run.activation)
        self._again_later([run.activation.ref])

    def lost(self, activations: list[Activation]) -> None:
        """A failed commit undid these; the runs among them begin anew from the disk."""
        refs: list[Ref] = []
        for activation in activations:
            run = live_run(activation)
            if run is not None:
                self._unmake_live(run)
            if isinstance(activation.type, _workflow_type()):
                refs.append(activation.ref)
        if refs:
            self._again_later(refs)

    def _again_later(self, refs: list[Ref]) -> None:
        if self._stopped:
            return
        seconds = self._again_seconds
        self._again_seconds = min(seconds * 2, _LAST_AGAIN_SECONDS)

        def again() -> None:
            for ref in refs:
                if not self._stopped:
                    self._again(ref)

        self.system.clock.call_later(seconds, again)

    def _again(self, ref: Ref) -> None:
        try:
            activation = ref.activation or self.system.directory.activate(ref)
            head = cast("Workflow", activation.instance).head
            if activation.stored and head.status in ("running", "queued"):
                if self.places.has(cast("WorkflowType", activation.type)):
                    self.resume(ref)
                else:
                    self.places.expect_running(cast("WorkflowType", activation.type))
            elif not activation.stored:
                self.results.failed(ref, StorageFailed(f"the start of run {ref} did not reach the disk"))
        except StorageError as error:
            _log.error("run %s can't go on yet: %s", ref, error)
            self._again_later([ref])

    # -- from outside --------------------------------------------------------------------------------------

    def result_waiter(self, ref: Ref) -> asyncio.Future[bytes] | None:
        """A future of the stored result of a run that goes on; None when it has ended or is stuck."""
        activation = ref.activation or self.system.directory.activate(ref)
        status = cast("Workflow", activation.instance).head.status
        if (
            status == "stuck"
            and ref.directory_key not in self._stuck_now
            and self.places.will_resume(cast("WorkflowType", activation.type))
        ):
            return self.results.waiter(ref)
        return None if status in _SETTLED else self.results.waiter(ref)

    async def stored_result(self, ref: Ref) -> bytes:
        """The stored result of a run that has ended; raises `RunFailed` when it failed, was terminated or is
        stuck.
        """
        activation = ref.activation or self.system.directory.activate(ref)
        head = cast("Workflow", activation.instance).head
        await self.system.store.wait_durable(activation.dep)
        if head.status == "stuck":
            raise RunFailed(str(ref), "stuck", head.error)
        record = self._fold(activation).ended
        if isinstance(record, Finished):
            return bytes(record.value)
        raise failure(ref, record)

    def redrive(self, ref: Ref, encoded_input: bytes | None) -> int:
        """Let a failed run go on at the failed step; returns the commit to wait for."""
        activation = ref.activation or self.system.directory.activate(ref)
        status = cast("Workflow", activation.instance).head.status
        if status != "failed":
            raise CallerError(f"run {ref} is {status}; only a failed run can be redriven")
        fold = self._fold(activation)
        at_ms = max(self.system.clock.now_ms(), fold.ended.at_ms if fold.ended else 0)
        record = Redriven(at_ms, encoded_input)
        writes: Writes = {
            position_key(journal_prefix(activation.prefix(b"")), fold.next_position): encode_record(record)
        }
        workflow = cast("Workflow", activation.instance)
        workflow.head = msgspec.structs.replace(workflow.head, status="queued", updated_ms=at_ms, error=None)
        try:
            activation.stage_fields(writes)
            number = activation.commit(writes)
        except StorageError:
            self.system.directory.drop(activation)
            raise
        self.places.expect_queued(cast("WorkflowType", activation.type))
        self.places.fill_later()
        return number

    def terminate(self, ref: Ref, reason: str) -> int:
        """Stop a run for good; returns the commit to wait for."""
        activation = ref.activation or self.system.directory.activate(ref)
        run = live_run(activation)
        status = cast("Workflow", activation.instance).head.status
        if status in ENDED:
            raise CallerError(f"run {ref} is {status} already")
        fold = self._fold(activation)
        record = Terminated(max(self.system.clock.now_ms(), fold.started.at_ms), reason)
        position = fold.next_position if run is None else run.next_position
        writes: Writes = {
            position_key(journal_prefix(activation.prefix(b"")), position): encode_record(record)
        }
        for key, _ in self.system.store.scan_prefix(activation.prefix(layout.REPLY)):
            writes[key] = None
        writes.update(alarm_writes(activation, _ALARM_NAME, None))
        workflow = cast("Workflow", activation.instance)
        workflow.head = msgspec.structs.replace(
            workflow.head, status="terminated", updated_ms=record.at_ms, error=None
        )
        activation.stage_fields(writes)
        number = activation.commit(writes, reserve=True)
        if run is not None:
            self._unmake_live(run)
        self.system.store.on_durable(
            number, lambda failure: self._end_is_durable(activation, record, failure)
        )
        return number

    def log_fields(self, run: LiveRun, op: Op) -> Mapping[str, object]:
        """Fields for a log line of a step."""
        return {
            "run_id": str(run.activation.ref),
            "correlation_id": run.correlation_id,
            "step": op.name,
            "attempt": op.attempts,
        }


async def _wait_all(tasks: list[asyncio.Future[Any]]) -> None:
    await asyncio.wait(tasks)


def live_run(activation: Activation) -> LiveRun | None:
    """The working part of a run that is in memory, None when there is none."""
    run: LiveRun | None = activation.instance.__dict__.get("_live")
    return None if run is None or run.dropped else run


def _workflow_type() -> type[WorkflowType]:
    from .workflow_type import WorkflowType

    return WorkflowType
