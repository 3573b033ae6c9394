"""Control: what is done to runs from outside, each verb with an audit record in its commit.

    pause       nothing begins any more and no time passes; steps in progress end first (`pausing`)
    resume      it goes on with as much time left as it had
    cancel      `run()` is cancelled where it waits; its clean-up and the undo of its steps run
    terminate   it ends at once, without clean-up; with `undo`, what its steps did is taken back first
    restart     it begins anew from the top, with the same input or another one
    retry_now   attempts that wait for their time begin now
    redrive     a failed run goes on at the failed step
    purge       a run that has ended is erased
    fork        another run that begins with the history of this one up to a step

Promises
  * A verb that was acknowledged holds over any crash.
  * What a verb did is one commit, its audit record included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec

from ...runtime.alarms import alarm_writes
from ...storage import layout
from ...storage.errors import CallerError, StorageError
from ...storage.group_commit import Writes
from ..audit import By
from ..errors import RunExists, RunNotFound, WrongStatus
from .arrivals import Arrival, add_records, live_run_of, must_go_on
from .children import tell_parent
from .head import ENDED, RunHead, RunStatus
from .journal import (
    AttemptFailed,
    CancelAsked,
    Cancelled,
    Failed,
    Finished,
    Paused,
    Record,
    Redriven,
    Resumed,
    RetriedNow,
    Started,
    StepDone,
    StepFailed,
    Terminated,
    UndoBegan,
    decode_records,
    encode_record,
    journal_prefix,
    position_key,
)
from .retention import keep, purge_now, set_purge
from .starting import labels_of

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...runtime.ref import Ref
    from .engine import Engine
    from .live_run import LiveRun
    from .workflow import Workflow
    from .workflow_type import WorkflowType

_ENDS = (Finished, Failed, Terminated, Cancelled)


class Control:
    """The verbs over the runs of one engine; each returns the commit to wait for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # -- pause and resume ----------------------------------------------------------------------------------

    def pause(self, ref: Ref, by: By) -> int:
        """See `Run.pause`, also for what it raises."""
        engine = self._engine
        activation = must_go_on(engine, ref)
        status = _status(activation)
        if status in ("paused", "pausing"):
            return activation.dep
        if status == "stuck":
            raise WrongStatus(
                f"run {ref} is stuck, so there is nothing to pause; mend its code or terminate it"
            )
        run = live_run_of(activation)
        at_ms = self._now_ms(run)
        works = run is not None and not run.resting and run.working > 0
        writes: Writes = {}
        self._append(activation, run, (Paused(at_ms),), writes)
        writes.update(alarm_writes(activation, b"", None))
        number = self._commit(activation, "pausing" if works else "paused", at_ms, "pause", by, writes)
        if run is not None:
            if works:
                run.begin_pause(at_ms)
            else:
                engine.unmake_live(run)
        return number

    def resume(self, ref: Ref, by: By) -> int:
        """See `Run.resume`, also for what it raises."""
        engine = self._engine
        activation = must_go_on(engine, ref)
        status = _status(activation)
        if status not in ("paused", "pausing"):
            raise WrongStatus(f"run {ref} is {status}, not paused")
        run = live_run_of(activation)
        record = Resumed(self._now_ms(run), self._paused_ms(activation, run))
        return self._let_go_on(activation, run, (record,), "resume", by)

    def _let_go_on(
        self, activation: Activation, run: LiveRun | None, records: tuple[Record, ...], verb: str, by: By
    ) -> int:
        """A paused run goes on with these records."""
        engine = self._engine
        writes: Writes = {}
        self._append(activation, run, records, writes)
        status: RunStatus = "queued" if run is None else "running"
        number = self._commit(activation, status, records[-1].at_ms, verb, by, writes)
        if run is not None:
            run.expect(records)
        else:
            engine.places.expect_queued(cast("WorkflowType", activation.type))
            engine.places.fill_later()
        return number

    def _paused_ms(self, activation: Activation, run: LiveRun | None) -> int:
        if run is not None and run.pausing_ms is not None:
            return run.pausing_ms
        return self._engine.fold(activation).paused_ms

    # -- ends ----------------------------------------------------------------------------------------------

    def cancel(self, ref: Ref, by: By) -> int:
        """See `Run.cancel`, also for what it raises."""
        return self._ask_for_end(ref, "cancel", by, terminate=False)

    def cancel_arrival(self, ref: Ref, record: CancelAsked, writes: Writes) -> Arrival:
        """Add to a write set that is staged at once that a run is asked to end; it must go on."""
        activation = must_go_on(self._engine, ref)
        records: tuple[Record, ...] = (record,)
        if _status(activation) in ("paused", "pausing"):
            run = live_run_of(activation)
            records = (Resumed(record.at_ms, self._paused_ms(activation, run)), record)
        return Arrival(self._engine, ref, records, writes)

    def _ask_for_end(self, ref: Ref, verb: str, by: By, *, terminate: bool) -> int:
        engine = self._engine
        activation = must_go_on(engine, ref)
        status = _status(activation)
        if status == "stuck":
            raise WrongStatus(
                f"run {ref} is stuck, so its clean-up can't run; mend its code, or terminate it without undo"
            )
        run = live_run_of(activation)
        at_ms = self._now_ms(run)
        reason = by.reason or (f"{verb} by {by.who}" if by.who else f"{verb} from outside")
        record = CancelAsked(at_ms, reason, terminate)
        if status in ("paused", "pausing"):
            resumed = Resumed(at_ms, self._paused_ms(activation, run))
            return self._let_go_on(activation, run, (resumed, record), verb, by)
        writes: Writes = {}
        arrival = Arrival(engine, ref, (record,), writes)
        self._audit(activation, verb, by, status, _status(activation), writes)
        return engine.commit_arrival(ref, arrival, writes)

    def terminate(self, ref: Ref, by: By, *, undo: bool) -> int:
        """See `Run.terminate`, also for what it raises."""
        if undo:
            return self._ask_for_end(ref, "terminate", by, terminate=True)
        engine = self._engine
        activation = must_go_on(engine, ref)
        run = live_run_of(activation)
        record = Terminated(self._now_ms(run), by.reason or "terminated from outside")
        writes: Writes = {}
        before = _status(activation)
        self._append(activation, run, (record,), writes)
        for kind in (layout.REPLY, layout.HEARTBEAT):
            for key, _ in engine.system.store.scan_prefix(activation.prefix(kind)):
                writes[key] = None
        writes.update(alarm_writes(activation, b"", None))
        activation.pins += 1  # its family is loaded
        arrivals = engine.starts.cancel_children(activation, writes, "it was terminated")
        started = engine.started_record(activation)
        link = started.parent
        told = None if link is None else tell_parent(engine, activation, link, record, writes)
        activation.pins -= 1
        self._audit(activation, "terminate", by, before, "terminated", writes)
        workflow = cast("Workflow", activation.instance)
        workflow.head = msgspec.structs.replace(
            workflow.head, status="terminated", updated_ms=record.at_ms, error=None
        )
        purge_ms = set_purge(activation, "terminated", record.at_ms, writes)
        every = [*arrivals, *(() if told is None else (told,))]
        number = self._stage(activation, writes, every)
        started_ms = workflow.head.created_ms
        counts = cast("WorkflowType", activation.type).counts
        counts.run_ended("terminated", (record.at_ms - started_ms) / 1000)
        if run is not None:
            engine.messages.done(run)
            engine.unmake_live(run)
        engine.messages.over(ref, "was terminated")
        for arrival in every:
            arrival.committed(number)
        if purge_ms is not None:
            engine.system.scheduler.notice(purge_ms)
        engine.end_when_durable(activation, started, record, number)
        return number

    # -- again ---------------------------------------------------------------------------------------------

    def restart(self, ref: Ref, encoded_input: bytes | None, by: By) -> int:
        """See `Run.restart`, also for what it raises."""
        engine = self._engine
        activation = self._must_exist(ref)
        before = _status(activation)
        writes: Writes = {}
        run = live_run_of(activation)
        if run is not None:
            engine.messages.done(run)
        arrivals = engine.starts.restart(ref, encoded_input, writes)
        self._audit(activation, "restart", by, before, _status(activation), writes)
        number = self._stage(activation, writes, arrivals)
        engine.messages.over(ref, "was restarted")
        for arrival in arrivals:
            arrival.committed(number)
        return number

    def redrive(self, ref: Ref, encoded_input: bytes | None, by: By) -> int:
        """See `Run.redrive`, also for what it raises."""
        engine = self._engine
        activation = self._must_exist(ref)
        status = _status(activation)
        if status != "failed":
            raise WrongStatus(f"run {ref} is {status}; only a failed run can be redriven")
        fold = engine.fold(activation)
        ended = fold.ended
        if isinstance(ended, Failed) and ended.undone:
            raise WrongStatus(
                f"run {ref} has undone {ended.undone} of its steps, so it can't go on behind them; restart it"
            )
        at_ms = max(engine.system.clock.now_ms(), ended.at_ms if ended else 0)
        writes: Writes = {}
        add_records(engine, activation, (Redriven(at_ms, encoded_input),), writes)
        keep(activation, writes)
        number = self._commit(activation, "queued", at_ms, "redrive", by, writes)
        engine.places.expect_queued(cast("WorkflowType", activation.type))
        engine.places.fill_later()
        return number

    def purge(self, ref: Ref, by: By) -> int:
        """A run that has ended is erased, in commits of their own; raises `RunNotFound`, or `CallerError` for
        one that goes on.
        """
        engine = self._engine
        activation = self._must_exist(ref)
        status = _status(activation)
        if status not in ENDED:
            raise WrongStatus(f"run {ref} is {status}; only a run that has ended can be purged")
        at_ms = engine.system.clock.now_ms()
        writes: Writes = {}
        purge_now(activation, at_ms, writes)
        self._audit(activation, "purge", by, status, "purged", writes)
        number = self._stage(activation, writes, ())
        engine.system.scheduler.notice(at_ms)
        return number

    def retry_now(self, ref: Ref, by: By) -> int:
        """Attempts that wait begin now; in a callback of the loop.  Raises `CallerError` when none waits."""
        engine = self._engine
        activation = must_go_on(engine, ref)
        status = _status(activation)
        if status in ("paused", "pausing", "stuck", "queued"):
            raise WrongStatus(f"run {ref} is {status}, so no attempt of it waits for its time")
        run = live_run_of(activation) or engine.resume(ref)
        now_ms = engine.system.clock.now_ms()
        waiting = [] if run is None else [op for op in run.pending.values() if op.next_ms is not None]
        if run is None or not waiting:
            raise WrongStatus(f"no attempt of run {ref} waits for its time; its status is {status}")
        writes: Writes = dict(alarm_writes(run.activation, b"", None))
        self._audit(run.activation, "retry_now", by, status, "running", writes)
        run.add_record(RetriedNow(run.now_ms()), writes)
        run.set_head("running", writes, now_ms)
        number = self._stage(run.activation, writes, ())
        for op in waiting:
            op.next_ms = now_ms
        engine.wake_soon(ref)
        return number

    def fork(
        self,
        ref: Ref,
        new: Ref,
        at: tuple[str, int],
        encoded_input: bytes | None,
        overrides: dict[tuple[str, int], bytes],
        by: By,
    ) -> int:
        """Start `new` with the records of `ref` before step `at`; raises `RunNotFound`, `RunExists`, or
        `CallerError` when there is no such step.
        """
        engine = self._engine
        activation = self._must_exist(ref)
        there = new.activation or engine.system.directory.activate(new)
        if there.stored or new.directory_key in engine.starts.undecided:
            raise RunExists(f"run {new} exists; give the fork another id")
        rows = engine.system.store.scan_prefix(journal_prefix(activation.prefix(b"")))
        records = [record for _, record in decode_records(rows, str(ref))]
        kept = _before(records, at, ref)
        kept = _overridden(kept, overrides, ref)
        first = kept[0]
        assert isinstance(first, Started), "always the first record"
        now_ms = engine.system.clock.now_ms()
        late_ms = None
        if first.deadline_ms is not None:
            late_ms = now_ms + (first.deadline_ms - first.at_ms)
        kept[0] = started = msgspec.structs.replace(
            first,
            input=first.input if encoded_input is None else msgspec.Raw(encoded_input),
            seed=first.seed or f"{ref}@{first.at_ms}",
            deadline_ms=late_ms,
            parent=None,
        )
        writes: Writes = {}
        prefix = journal_prefix(there.prefix(b""))
        for position, record in enumerate(kept):
            writes[position_key(prefix, position)] = encode_record(record)
        kind = cast("WorkflowType", new.type)
        cast("Workflow", there.instance).head = RunHead(
            "queued", now_ms, now_ms, None, started.correlation_id, "", labels=labels_of(started)
        )
        there.stage_fields(writes)
        there.claim_row(writes)
        reason = f"{by.reason}; " if by.reason else ""
        about = msgspec.structs.replace(by, reason=f"{reason}forked as {new} at {at[0]} (use {at[1]})")
        status = _status(activation)
        self._audit(activation, "fork", about, status, status, writes)
        number = there.commit(writes)
        engine.places.expect_queued(kind)
        engine.places.fill_later()
        return number

    # -- what they share -----------------------------------------------------------------------------------

    def _must_exist(self, ref: Ref) -> Activation:
        activation = ref.activation or self._engine.system.directory.activate(ref)
        if not activation.stored:
            raise RunNotFound(f"there is no run {ref}")
        return activation

    def _now_ms(self, run: LiveRun | None) -> int:
        return self._engine.system.clock.now_ms() if run is None else run.now_ms()

    def _append(
        self, activation: Activation, run: LiveRun | None, records: tuple[Record, ...], writes: Writes
    ) -> None:
        if run is None:
            add_records(self._engine, activation, records, writes)
        else:
            for record in records:
                run.add_record(record, writes)

    def _commit(
        self, activation: Activation, status: RunStatus, at_ms: int, verb: str, by: By, writes: Writes
    ) -> int:
        workflow = cast("Workflow", activation.instance)
        self._audit(activation, verb, by, workflow.head.status, status, writes)
        workflow.head = msgspec.structs.replace(workflow.head, status=status, updated_ms=at_ms, error=None)
        return self._stage(activation, writes, ())

    def _stage(self, activation: Activation, writes: Writes, arrivals: Any) -> int:
        try:
            activation.stage_fields(writes)
            return activation.commit(writes, reserve=True)
        except StorageError:
            for arrival in arrivals:
                arrival.failed()
            run = live_run_of(activation)
            if run is not None:
                self._engine.let_go(run)
            else:
                self._engine.system.directory.drop(activation)
                self._engine.again_later([activation.ref])
            raise

    def _audit(
        self, activation: Activation, verb: str, by: By, before: str, after: str, writes: Writes
    ) -> None:
        self._engine.system.audit_trail.add(writes, activation, verb, by, before, after)


def _status(activation: Activation) -> RunStatus:
    return cast("Workflow", activation.instance).head.status


def _before(records: list[Record], at: tuple[str, int], ref: Ref) -> list[Record]:
    """The records before the first one that belongs to a step, as if nobody had acted from outside."""
    kept: list[Record] = []
    failed: Failed | None = None
    for record in records:
        if isinstance(record, (StepDone, StepFailed, AttemptFailed)) and (record.name, record.nth) == at:
            return _without_open_pause(kept)
        if isinstance(record, Redriven):
            _take_back(kept, failed, record)
        elif isinstance(record, Failed):
            failed = record
        elif not isinstance(record, (*_ENDS, CancelAsked, UndoBegan)):
            kept.append(record)
    steps = sorted({(one.name, one.nth) for one in records if isinstance(one, (StepDone, StepFailed))})
    known = ", ".join(f"{name} (use {nth})" for name, nth in steps[:20]) or "none"
    raise CallerError(f"run {ref} has no step {at[0]!r} (use {at[1]}); it has {known}")


def _take_back(kept: list[Record], failed: Failed | None, record: Redriven) -> None:
    """What a redrive took back is not part of the history any more."""
    if failed is not None and failed.step is not None:
        step = (failed.step, failed.nth)
        kept[:] = [
            one
            for one in kept
            if not (isinstance(one, (StepFailed, AttemptFailed)) and (one.name, one.nth) == step)
        ]
    if record.input is not None:
        first = kept[0]
        assert isinstance(first, Started), "always the first record"
        kept[0] = msgspec.structs.replace(first, input=msgspec.Raw(record.input))


def _without_open_pause(kept: list[Record]) -> list[Record]:
    last = next((one for one in reversed(kept) if isinstance(one, (Paused, Resumed))), None)
    return [one for one in kept if one is not last] if isinstance(last, Paused) else kept


def _overridden(records: list[Record], overrides: dict[tuple[str, int], bytes], ref: Ref) -> list[Record]:
    """The records with other results for some steps."""
    left = dict(overrides)
    changed: list[Record] = []
    for record in records:
        if isinstance(record, (StepDone, StepFailed)) and (record.name, record.nth) in left:
            value = left.pop((record.name, record.nth))
            record = StepDone(record.at_ms, record.name, record.nth, record.attempts, msgspec.Raw(value))
        changed.append(record)
    if left:
        names = ", ".join(f"{name} (use {nth})" for name, nth in left)
        raise CallerError(f"run {ref} has no outcome of {names} before that step, so none can be overridden")
    return changed
