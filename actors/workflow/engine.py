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
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import msgspec

from ...runtime.actor import activation_of
from ...runtime.alarms import AlarmRecord, alarm_writes
from ...runtime.chain import after_commit
from ...runtime.errors import NotRunning
from ...storage import layout
from ...storage.errors import Damaged, StorageError, StorageFailed
from ...storage.group_commit import Writes
from ..errors import ErrorRecord, RunFailed, RunNotFound, record_error
from .arrivals import RESTING, Arrival, NothingArrives, live_run_of
from .children import children_of, first_record, parent_of, tell_parent
from .control import Control
from .deadlines import Deadlines
from .fold import Fold
from .head import ENDED, RunStatus
from .journal import (
    AttemptFailed,
    CancelAsked,
    Cancelled,
    End,
    Failed,
    Finished,
    ParentLink,
    Started,
    Terminated,
    decode_records,
    journal_prefix,
)
from .live_run import LiveRun
from .messages import Messages
from .places import Places
from .progress import Progress
from .results import Results, failure
from .retention import set_purge
from .run_log import run_fields
from .starting import Starts
from .step_op import StepOp
from .step_plan import StepPlan

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...runtime.ref import Ref
    from ..system import Runtime
    from .workflow import Workflow
    from .workflow_type import WorkflowType

T = TypeVar("T")

_log = logging.getLogger("holdfast.workflow")

_ALARM_NAME: Final = b""
_SETTLED: Final = ENDED | {"stuck"}
# After a failed commit the runs it undid begin anew: not at once, since the disk may still refuse.
_FIRST_AGAIN_SECONDS: Final = 0.5
_LAST_AGAIN_SECONDS: Final = 30.0


_STATUS_OF: Final[dict[type, RunStatus]] = {
    Finished: "complete",
    Failed: "failed",
    Cancelled: "cancelled",
    Terminated: "terminated",
}


class Engine:
    """The workflows of one runtime."""

    def __init__(self, system: Runtime, *, max_running: int) -> None:
        self.system = system
        self.places = Places(system, max_running=max_running, resume=self._resume)
        self.deadlines = Deadlines(system.clock)
        self._plans: dict[Any, StepPlan] = {}
        self.starts = Starts(self)
        self.control = Control(self)
        self.messages = Messages(self)
        self.progress = Progress(self)
        self.results = Results()
        self._again_seconds = _FIRST_AGAIN_SECONDS
        # Runs that got stuck since the runtime was opened: they are not tried again, as older ones will be.
        self._stuck_now: set[bytes] = set()
        self._stopped = False
        # What runs in place of a step's function; a simulation counts, replaces and fails bodies with it.
        self.wrap_body: Callable[[StepOp, Callable[..., object]], Callable[..., object]] | None = None
        self._live: set[LiveRun] = set()
        # Children that are to be asked to end.
        self._given_up: list[tuple[Ref, ParentLink, str]] = []

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
        self.messages.stop()
        self.progress.stop()
        self.results.stop(
            NotRunning("the runtime was closed before the run ended; it goes on when the folder is opened")
        )

    # -- runs in memory ------------------------------------------------------------------------------------

    def live_runs(self) -> list[LiveRun]:
        """Runs whose working part is in memory."""
        return list(self._live)

    def live(self, activation: Activation) -> LiveRun | None:
        """The working part of a run that is in memory, None when there is none."""
        return live_run_of(activation)

    def has_ended(self, activation: Activation) -> bool:
        """Whether a run is over."""
        workflow: Workflow = activation.instance  # type: ignore[assignment]
        return workflow.head.status in ENDED

    def make_live(self, run: LiveRun) -> LiveRun:
        """A run comes to memory, and is kept there while it works."""
        self._live.add(run)
        run.activation.pins += 1
        return run

    def unmake_live(self, run: LiveRun) -> None:
        """A run leaves memory (its activation may stay): its place is free, its pin is gone."""
        self._live.discard(run)
        self._release(run)
        if not run.resting:
            run.activation.pins -= 1
        run.drop()

    def left_memory(self, run: LiveRun) -> None:
        """The directory let a run go that rested: it is taken up from the disk when it is needed."""
        self._live.discard(run)
        run.drop()

    def begin(self, run: LiveRun) -> None:
        """Start `run()`, and deliver what is recorded; in a callback of the loop."""
        try:
            run.begin()
        except StorageError as error:
            ref = run.activation.ref
            _log.error("run %s can't go on: %s", ref, error, extra=run_fields(ref))
            self.let_go(run)
        except Exception as error:
            ref = run.activation.ref
            _log.exception("run %s can't be replayed", ref, extra=run_fields(ref))
            self.stuck(run, record_error(error))

    def _release(self, run: LiveRun) -> None:
        if run.has_slot:
            run.has_slot = False
            self.places.free(run.type)

    def _resume(self, kind: WorkflowType, key_bytes: bytes) -> None:
        ref = self.system.ref_from_bytes(kind.number_bytes, key_bytes)
        try:
            self.resume(ref)
        except Exception as error:
            _log.exception("run %s can't be taken up again: %s", ref, error, extra=run_fields(ref))

    def resume(self, ref: Ref) -> LiveRun | None:
        """Take a run from disk (or memory) and let it go on; None when it has ended or isn't there."""
        activation = ref.activation
        if activation is None:
            activation = self.system.directory.activate(ref)
        run = live_run_of(activation)
        head = cast("Workflow", activation.instance).head
        if run is not None:
            if run.resting and head.status in ("queued", "running"):
                self._go_on(run)
            return run
        if not activation.stored or head.status in ENDED or head.status == "paused":
            return None
        try:
            fold = self.fold(activation)
        except Damaged as error:
            self._stuck(activation, record_error(error))
            return None
        kind = cast("WorkflowType", activation.type)
        activation.renew()  # what run() left in `self` when it was in memory before is made anew by replay
        run = self.make_live(LiveRun(self, activation, fold.started, fold))
        run.has_slot = True
        self.places.take(kind)
        for rows in (layout.REPLY, layout.HEARTBEAT):
            run.replies.update(self.system.store.scan_prefix(activation.prefix(rows)))
        if head.status not in ("running", "pausing"):
            writes: Writes = {}
            try:
                run.set_head("running", writes, run.now_ms())
                activation.commit(writes, reserve=True)
            except StorageError:
                self.let_go(run)
                raise
        if _log.isEnabledFor(logging.INFO):
            _log.info("run %s goes on", ref, extra=run_fields(ref))
        self.begin(run)
        return run

    def _go_on(self, run: LiveRun) -> None:
        """A run that rested in memory works again."""
        if run.resting:
            run.resting = False
            run.activation.pins += 1
        if not run.has_slot:
            run.has_slot = True
            self.places.take(run.type)
        if run.workflow.head.status == "queued":
            writes: Writes = {}
            try:
                run.set_head("running", writes, run.now_ms())
                run.activation.commit(writes, reserve=True)
            except StorageError as error:
                self.cannot_record(run, error)
                return
        run.go_on()

    def fold(self, activation: Activation) -> Fold:
        """What the journal of a run adds up to; raises `Damaged`."""
        rows = self.system.store.scan_prefix(journal_prefix(activation.prefix(b"")))
        return Fold(decode_records(rows, str(activation.ref)), str(activation.ref))

    # -- what becomes of steps -----------------------------------------------------------------------------

    def attempt_failed(self, run: LiveRun, record: AttemptFailed) -> None:
        """Record a failed attempt; the next one waits on disk."""
        try:
            run.record(record)
        except StorageError as error:
            self.cannot_record(run, error)
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

    def rest(self, run: LiveRun, status: RunStatus, wake_ms: int | None) -> None:
        """Nothing to do before `wake_ms` (None: before something comes).

        An alarm wakes the run, its place is free, memory may let it go.
        """
        self._cancel_all()
        activation = run.activation
        writes: Writes = {}
        try:
            run.write_versions(writes)
            run.set_head(status, writes, run.now_ms(), rested=run.next_position)
            if wake_ms is not None:
                writes.update(alarm_writes(activation, _ALARM_NAME, AlarmRecord(wake_ms, wake_ms)))
            number = activation.commit(writes, reserve=True)
        except StorageError as error:
            ref = activation.ref
            _log.error("run %s could not be put to rest: %s", ref, error, extra=run_fields(ref))
            self.let_go(run)
            return
        self._release(run)
        run.resting = True
        activation.pins -= 1
        if wake_ms is None:
            return
        self.system.scheduler.notice(wake_ms)
        if wake_ms - self.system.clock.now_ms() > self.system.limits.idle_seconds * 1000:
            self.system.store.on_durable(number, lambda error: self._forget(run) if error is None else None)

    def _forget(self, run: LiveRun) -> None:
        """Let a run at rest leave memory."""
        head = cast("Workflow", run.activation.instance).head
        if not run.dropped and run.resting and head.status in RESTING:
            self.unmake_live(run)
            if run.activation.evictable():
                self.system.directory.drop(run.activation)

    def paused(self, run: LiveRun) -> None:
        """Nothing of a run that was paused is in progress any more: it leaves memory."""
        self._cancel_all()
        activation = run.activation
        writes: Writes = {}
        try:
            run.write_versions(writes)
            run.set_head("paused", writes, run.now_ms(), rested=run.next_position)
            activation.commit(writes, reserve=True)
        except StorageError as error:
            self.cannot_record(run, error)
            return
        self.unmake_live(run)

    def alarm_fired(self, workflow: Workflow) -> None:
        """A run's alarm is due (called in its turn): it counts as running from that commit on, then it goes
        on.
        """
        activation = activation_of(workflow)
        head = workflow.head
        if head.status not in RESTING:
            return  # it has ended, is paused, or something else woke it
        kind = cast("WorkflowType", activation.type)
        run = live_run_of(activation)
        place = (run is not None and run.has_slot) or self.places.has(kind)
        status: RunStatus = "running" if place else "queued"
        workflow.head = msgspec.structs.replace(head, status=status, updated_ms=self.system.clock.now_ms())
        if not place:
            self.places.expect_queued(kind)
        ref = activation.ref

        def committed(number: int) -> None:
            if place:
                self.wake_soon(ref)
            else:
                self.places.fill_later()

        after_commit(activation.current_turn(), committed)

    def wake_soon(self, ref: Ref) -> None:
        """A run that rested counts as running: it goes on in the next callback."""
        self.system.loop.call_soon(self._woken, ref)

    def _woken(self, ref: Ref) -> None:
        if self._stopped:
            return
        activation = ref.activation
        run = None if activation is None else live_run_of(activation)
        kind = cast("WorkflowType", ref.type)
        if run is not None and not run.resting:
            run.deliver_all()
            run.wake()
        elif not self.places.has(kind):  # others that were woken in the same moment have them all
            self._queue(ref)
        elif run is None:
            self._resume(kind, ref.key_bytes)
        else:
            self._go_on(run)

    def _queue(self, ref: Ref) -> None:
        """A run that was woken waits on disk for a place."""
        try:
            activation = ref.activation or self.system.directory.activate(ref)
            workflow = cast("Workflow", activation.instance)
            if workflow.head.status != "running":
                return
            now_ms = self.system.clock.now_ms()
            workflow.head = msgspec.structs.replace(workflow.head, status="queued", updated_ms=now_ms)
            writes: Writes = {}
            activation.stage_fields(writes)
            activation.commit(writes, reserve=True)
        except StorageError as error:
            _log.error("run %s could not be queued: %s", ref, error, extra=run_fields(ref))
            if ref.activation is not None:
                self.system.directory.drop(ref.activation)
            self.again_later([ref])
            return
        self.places.expect_queued(cast("WorkflowType", ref.type))

    # -- ends ----------------------------------------------------------------------------------------------

    def ended(self, run: LiveRun, record: End, raised: BaseException | None, writes: Writes) -> None:
        """run() is over: the last record, the head and the index, what its parent and its children are told,
        and what `writes` holds already, in one commit.
        """
        activation = run.activation
        error = record.error if isinstance(record, Failed) else None
        arrivals: list[Arrival] = []
        purge_ms: int | None = None
        try:
            for row in run.replies:
                writes[row] = None
            for op in run.pending.values():  # begun by tasks that end with run()
                writes.update(op.reply_deletes())
            run.set_head(_STATUS_OF[type(record)], writes, record.at_ms, error)
            saying = run.said_anything()
            if saying is not None:
                saying.write(writes)
            if run.started.parent is not None or run.children is not None:
                arrivals += self._tell_family(run, record, writes)
            if run.type.retention_seconds:
                purge_ms = set_purge(activation, _STATUS_OF[type(record)], record.at_ms, writes)
            number = run.record(record, writes)
        except StorageError as failure:
            ref = activation.ref
            _log.error("the end of %s could not be recorded: %s", ref, failure, extra=run_fields(ref))
            for arrival in arrivals:
                arrival.failed()
            self.let_go(run)
            return
        seconds = (record.at_ms - run.started.at_ms) / 1000
        run.type.counts.run_ended(_STATUS_OF[type(record)], seconds)
        self.messages.ended(run)
        self.unmake_live(run)
        for arrival in arrivals:
            arrival.committed(number)
        if purge_ms is not None:
            self.system.scheduler.notice(purge_ms)
        self._log_end(run, record, raised)
        self.end_when_durable(activation, run.started, record, number)

    def end_when_durable(self, activation: Activation, started: Started, record: End, number: int) -> None:
        """Tell who waits for the result of a run when its end is on disk."""
        self.system.store.on_durable(
            number, lambda failure: self._end_is_durable(activation, started, record, failure)
        )

    def _tell_family(self, run: LiveRun, record: End, writes: Writes) -> list[Arrival]:
        """Add to the commit of an end what the parent gets, and that the children are to end."""
        arrivals: list[Arrival] = []
        link = run.started.parent
        if link is not None:
            told = tell_parent(self, run.activation, link, record, writes)
            if told is not None:
                arrivals.append(told)
        if run.children is not None:
            why = f"it is {_STATUS_OF[type(record)]}"
            arrivals += self.starts.cancel_children(run.activation, writes, why)
        return arrivals

    def _log_end(self, run: LiveRun, record: End, raised: BaseException | None) -> None:
        if raised is None and not _log.isEnabledFor(logging.INFO):
            return
        fields = run_fields(run.activation.ref, duration_ms=record.at_ms - run.started.at_ms)
        if isinstance(record, Failed):
            _log.error(
                "run %s failed and is kept as a dead letter: %s",
                run.activation.ref,
                record.error,
                extra=fields,
                exc_info=raised,
            )
        else:
            _log.info("run %s is %s", run.activation.ref, _STATUS_OF[type(record)], extra=fields)

    def _end_is_durable(
        self, activation: Activation, started: Started, record: End, failure: StorageFailed | None
    ) -> None:
        if failure is not None:
            return  # undone; the run goes on from the disk
        if self.system.telemetry is not None:
            self.system.telemetry.run_ended(activation.ref, started, record)
        if not self.has_ended(activation):
            return  # restarted meanwhile
        if not activation.gone and activation.evictable():
            self.system.directory.drop(activation)
        self._again_seconds = _FIRST_AGAIN_SECONDS
        self.results.ended(activation.ref, record)
        self.progress.ended(activation.ref)

    def stuck(self, run: LiveRun, error: ErrorRecord) -> None:
        """The code doesn't fit the journal: nothing is lost, nothing goes on until other code is there."""
        self._stuck(run.activation, error)
        self.unmake_live(run)

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
            _log.error("run %s: %s", activation.ref, failure, extra=run_fields(activation.ref))
        _log.error("run %s is stuck: %s", activation.ref, error, extra=run_fields(activation.ref))
        cast("WorkflowType", activation.type).counts.stuck += 1
        self._stuck_now.add(activation.ref.directory_key)
        self.results.failed(activation.ref, RunFailed(str(activation.ref), "stuck", error))
        self.messages.stuck(activation.ref)

    def cannot_record(self, run: LiveRun, error: StorageError) -> None:
        """The store refused what the run wanted to record."""
        ref = run.activation.ref
        _log.error("a step of %s could not be recorded: %s", ref, error, extra=run_fields(ref))
        self.let_go(run)

    def could_not_record(self, activation: Activation, error: StorageError) -> None:
        """The same for a run that isn't in memory any more."""
        ref = activation.ref
        _log.error("a change of %s could not be recorded: %s", ref, error, extra=run_fields(ref))
        self.again_later([activation.ref])

    def let_go(self, run: LiveRun) -> None:
        """The store refuses what the run must write: drop it and try again later from the disk."""
        if run.dropped:
            return
        self.unmake_live(run)
        self.system.directory.drop(run.activation)
        self.again_later([run.activation.ref])

    def lost(self, activations: list[Activation]) -> None:
        """A failed commit undid these; the runs among them begin anew from the disk."""
        refs: list[Ref] = []
        for activation in activations:
            run = live_run_of(activation)
            if run is not None:
                self.unmake_live(run)
            if isinstance(activation.type, _workflow_type()):
                refs.append(activation.ref)
                self.messages.lost(activation.ref)
        if refs:
            self.again_later(refs)

    def again_later(self, refs: list[Ref]) -> None:
        """Take runs up again from the disk after a while, more slowly each time that it refuses."""
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
            if activation.stored and head.status in ("running", "queued", "pausing"):
                if self.places.has(cast("WorkflowType", activation.type)):
                    self.resume(ref)
                else:
                    self.places.expect_running(cast("WorkflowType", activation.type))
            elif not activation.stored:
                self.results.failed(ref, StorageFailed(f"the start of run {ref} did not reach the disk"))
        except StorageError as error:
            _log.error("run %s can't go on yet: %s", ref, error, extra=run_fields(ref))
            self.again_later([ref])

    # -- from outside --------------------------------------------------------------------------------------

    def result_waiter(self, ref: Ref) -> asyncio.Future[bytes] | None:
        """A future of the stored result of a run that goes on; None when it has ended or is stuck."""
        activation = ref.activation or self.system.directory.activate(ref)
        workflow: Workflow = activation.instance  # type: ignore[assignment]
        status = workflow.head.status
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
        if self.system.store.get(ref.directory_key) is None:
            raise RunNotFound(f"there is no run {ref} any more; it was purged")
        record = self.fold(activation).ended
        if isinstance(record, Finished):
            return bytes(record.value)
        raise failure(ref, record)

    # -- what the parts share ------------------------------------------------------------------------------

    def commit_arrival(self, ref: Ref, arrival: Arrival | NothingArrives, writes: Writes) -> int:
        """Stage what arrives at a run in a commit of its own; returns the commit to wait for."""
        activation = ref.activation
        assert activation is not None, "it was loaded to see whether it goes on"
        try:
            number = activation.commit(writes)
        except BaseException:
            arrival.failed()
            raise
        arrival.committed(number)
        return number

    def started_record(self, activation: Activation) -> Started:
        """How a run was started."""
        run = live_run_of(activation)
        return first_record(self, activation) if run is None else run.started

    def cancel_later(self, ref: Ref, link: ParentLink, reason: str) -> None:
        """Ask a child to end, in the next callback: who gives it up has no write set to do it in.

        Sooner when its parent comes to rest before: only a parent that counts as running on disk is taken up
        again after a crash, and tells the child then.
        """
        if not self._given_up:
            self.system.loop.call_soon(self._cancel_all)
        self._given_up.append((ref, link, reason))

    def _cancel_all(self) -> None:
        given_up, self._given_up = self._given_up, []
        for ref, link, reason in given_up:
            self._cancel_now(ref, link, reason)

    def _cancel_now(self, ref: Ref, link: ParentLink, reason: str) -> None:
        if self._stopped or parent_of(self, ref) != link:
            return  # never started: the id is another run's, if anybody's
        activation = ref.activation or self.system.directory.activate(ref)
        if self.has_ended(activation):
            return
        writes: Writes = {}
        record = CancelAsked(self.system.clock.now_ms(), reason)
        try:
            self.commit_arrival(ref, self.control.cancel_arrival(ref, record, writes), writes)
        except StorageError as error:
            _log.error("run %s could not be asked to end: %s", ref, error, extra=run_fields(ref))

    def cancel_given_up(self, run: LiveRun) -> None:
        """After a replay: children that run() gave up before the process died may not have been told."""
        for child in children_of(self, run.activation):
            link = parent_of(self, child)
            if link is not None and (link.name, link.nth) not in run.pending:
                self.cancel_later(child, link, f"{run.activation.ref} gave it up")

    async def processed(self, ref: Ref) -> None:
        """Return when the run has been given what was accepted before, if it is in memory or had to be."""
        await self.in_callback(lambda: None)  # behind the callbacks that wake it and that deliver

    async def in_callback(self, work: Callable[[], T]) -> T:
        """Do something in a callback of the loop, where a run's own loop may be driven."""
        done: asyncio.Future[T] = self.system.loop.create_future()

        def call() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        self.system.loop.call_soon(call)
        return await done


async def _wait_all(tasks: list[asyncio.Future[Any]]) -> None:
    await asyncio.wait(tasks)


def _workflow_type() -> type[WorkflowType]:
    from .workflow_type import WorkflowType

    return WorkflowType
