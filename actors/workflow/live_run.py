"""One run in memory: its loop, what it asked for, and the delivery of outcomes, live and on replay.

    run() asks -> pending op -> gate -> body or call -> record, staged -> delivered to run() -> at rest
    events, updates, control (arrivals.py) ------------> record, staged ^
                                                       ^ on replay the records come from here

Promises
  * Outcomes are delivered in the order of the journal, one at a time, each after the code woken by the one
    before has come to rest.  Live and replay take the same way.
  * P3: a step's body starts when everything recorded before is durable.
  * P5: what is recorded is never asked for again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from contextvars import Context
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ...runtime.chain import CALLER
from ...storage import layout
from ...storage.errors import CallerError, StorageError, StorageFailed
from ...storage.group_commit import Writes
from ..errors import ErrorRecord, ForeignAwait, RunEnded, StepError, UpdateRefused, record_error
from .arrivals import forget_position
from .asking import Asking
from .continuing import ContinueAsNew
from .divergence import Divergence, ReplayCheck, UnreadableResult
from .fold import Fold
from .head import RunHead, RunStatus
from .journal import (
    POSITION_BYTES,
    CancelAsked,
    End,
    EventArrived,
    Outcome,
    Paused,
    Record,
    Resumed,
    Started,
    StepDone,
    StepFailed,
    TimerFired,
    UndoBegan,
    UpdateAccepted,
    encode_record,
    journal_prefix,
)
from .leaving_memory import close_tasks
from .ops import Op, raise_soon
from .replay_loop import MainTask, ReplayLoop, ReplayTimer
from .run_end import end_of, end_of_stopped
from .run_log import RunLog, run_fields
from .step_op import StepOp
from .undo import Undo, Undoing, undo_of
from .updates import Update, begin_update

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from .engine import Engine
    from .saying import Saying
    from .workflow import Workflow

_log = logging.getLogger("holdfast.workflow")
# In place of the context of a run that left memory.
_NO_CONTEXT = Context()
# The deadline of a run is a timer that run() didn't set.
DEADLINE_TIMER = 0

# The rest of what asyncio asks of a loop is refused by methods that `refuse_the_rest` adds to the class,
# which a type checker can't see.
_NEW_LOOP: Callable[[int, int], ReplayLoop] = cast("Any", ReplayLoop)


class LiveRun(Asking):
    """The working part of a run, and the caller in `run()`; dropped and made anew from the journal."""

    __slots__ = (
        "_cancel",
        "_clock_ms",
        "_context",
        "_delivering",
        "_inbox",
        "_journal",
        "_main",
        "_random",
        "_run_log",
        "_starting",
        "_timer",
        "_undoing",
        "_undos",
        "_updates",
        "correlation_id",
        "first_input",
        "fold",
        "has_slot",
        "next_position",
        "overdue",
        "pausing_ms",
        "replaying",
        "replies",
        "reply_prefix",
        "resting",
        "silent",
        "started",
        "working",
    )

    def __init__(
        self,
        engine: Engine,
        activation: Activation,
        started: Started,
        fold: Fold | None = None,
        *,
        instance: Workflow | None = None,
    ) -> None:
        """`fold` is what the journal holds beyond the first record; None for a run that is just started.

        `instance` takes the place of the activation's own: for a look at the run beside it.
        """
        loop: ReplayLoop = _NEW_LOOP(started.at_ms, activation.number or 0)
        if fold is None:
            super().__init__(engine, activation, loop, None, None, instance)
        else:
            super().__init__(engine, activation, loop, fold.versions, fold.said, instance)
        self.started = started
        self.fold = fold
        self.correlation_id = started.correlation_id
        self._clock_ms = engine.system.clock.now_ms
        self._random: random.Random | None = None
        self._run_log: RunLog | None = None
        self.next_position = 1 if fold is None else fold.next_position
        # Attempts and calls in progress outside.
        self.working = 0
        self.has_slot = False
        # It waits for an alarm, or for what comes from outside: it holds no place, and may leave memory.
        self.resting = False
        # When it was paused, while steps that were in progress then still run.
        self.pausing_ms: int | None = fold.paused_ms if fold is not None and fold.is_paused else None
        self.replaying = True
        # What run() logs now was logged before; always so where it is only looked at.
        self.silent = instance is not None
        # The input of a run that was just started, decoded already.
        self.first_input: object = msgspec.UNSET
        # Replies to calls that unfinished steps made before a crash, by row key; also the rows of heartbeats
        # and those of steps that were given up.  What is left of them is deleted with the run's end.
        self.replies: dict[bytes, bytes] = {}
        self._journal = journal_prefix(activation.base)
        self.reply_prefix = activation.base + layout.REPLY
        self._inbox: list[Outcome] = []
        self._context = Context()  # what the starter's context variables held is not there on replay
        self._main: asyncio.Task[object] | None = None
        self._delivering = False
        # Attempts begin one after the other.  Until all have, run() is not at rest, whatever a plain body
        # brought meanwhile.
        self._starting = False
        self._timer: Any = None  # the clock's, while steps are in progress beside timers
        self._updates: dict[str, Update] | None = None
        # Steps that are done and can be undone; from the bad end of run() on, who undoes them.
        self._undos: list[Undo] | None = None
        self._undoing: Undoing | None = None
        # Somebody outside asked for the end.
        self._cancel: CancelAsked | None = None
        # The deadline passed, and run() was told.
        self.overdue = False
        if fold is not None and instance is None:
            forget_position(activation)
        self.workflow._live = self  # pyright: ignore[reportPrivateUsage]

    @property
    def random(self) -> random.Random:
        """Chance that is the same on replay; made when it is first asked for."""
        if CALLER.get() is not self:
            raise CallerError(
                f"{self.activation.ref}: self.random and self.uuid are for run() itself: what a step or a "
                f"query draws isn't drawn on replay"
            )
        chance = self._random
        if chance is None:
            started = self.started
            seed = started.seed or f"{self.activation.ref}@{started.at_ms}"
            chance = self._random = random.Random(seed)  # replayable, not secret
        return chance

    @property
    def log(self) -> RunLog:
        """See `Workflow.log`."""
        log = self._run_log
        if log is None:
            log = self._run_log = RunLog(self)
        return log

    # -- replay --------------------------------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether `begin` was called."""
        return self._main is not None

    def begin(self) -> None:
        """Start run() and deliver what is recorded; afterwards the run is live."""
        context = self._context
        context.run(CALLER.set, self)
        kind, fold, started = self.type, self.fold, self.started
        if started.tags:
            self.said.tags.begin(started.tags)
        workflow: Any = self.workflow
        run: Callable[..., CoroutineType[Any, Any, object]] = workflow.run
        if not kind.takes_input:
            coroutine = run()
        elif fold is None:
            coroutine = run(self.first_input)  # fresh from the codec, as it would be from disk
            self.first_input = msgspec.UNSET
        else:
            coroutine = run(kind.decode_input(fold.input))
        self._main = MainTask(coroutine, loop=self.loop, name="run", context=context)
        if started.deadline_ms is not None:
            due_ms = started.deadline_ms
            self.loop.timers[DEADLINE_TIMER] = ReplayTimer(
                self._deadline_passed,
                (),
                context,
                self.loop,
                DEADLINE_TIMER,
                due_ms,
                due_ms / 1000,
                started.at_ms,
            )
        if fold is None:
            self._run_to_rest()
        else:
            self.fold = None
            self._replay(fold, coroutine.cr_frame)
        if self.dropped:
            return
        self.replaying = False
        self._after_delivery()
        if self._inbox and not self.dropped:  # it came while run() had not begun
            self.engine.system.loop.call_soon(self.deliver_all)

    def _replay(self, fold: Fold, frame: FrameType | None) -> None:
        """Deliver what is recorded, in order; run() ends up where it was, or the run is stuck."""
        check = self.check = ReplayCheck(self, fold, frame)
        self.loop.timer_given_up = check.given_up
        self._delivering = True
        only_looked_at = self.silent
        new_from = fold.next_position if only_looked_at else self._new_from(fold)
        self.silent = new_from > 0
        try:
            self._run_to_rest()
            differs = None if self.dropped else self._deliver_recorded(fold, check, new_from)
        finally:
            self._delivering = False
            self.check = self.loop.timer_given_up = None
            self.silent = only_looked_at
        if differs is not None:
            self.diverged(differs)
        if self.dropped:
            return
        for key, (attempts, next_ms) in fold.attempts.items():
            op = self.pending.get(key)
            if op is not None:
                op.attempts, op.next_ms = attempts, next_ms
        head = self.workflow.head
        if head.fingerprint != self.type.fingerprint:  # the code fits; stored with the head's next change
            self.workflow.head = msgspec.structs.replace(head, fingerprint=self.type.fingerprint)
        self._replayed()

    def _new_from(self, fold: Fold) -> int:
        """The position of the first record whose delivery no life of the process has seen.

        Since it rested last it was not driven if nothing but what comes from outside was recorded.
        """
        rested = self.workflow.head.rested
        if fold.attempts and not rested:
            return fold.next_position
        for position, outcome in reversed(fold.outcomes):
            if position < rested:
                break
            if isinstance(outcome, (StepDone, StepFailed, TimerFired, UndoBegan)):
                return fold.next_position
        return rested

    def _replayed(self) -> None:
        """What an earlier life of the process may have left undone."""
        if self.children is not None:
            self.engine.cancel_given_up(self)

    def _deliver_recorded(self, fold: Fold, check: ReplayCheck, new_from: int) -> Divergence | None:
        for index, (position, outcome) in enumerate(fold.outcomes):
            main = self._main  # another one once steps are undone
            assert main is not None
            if main.done() and self._continues():
                self._inbox = [one for _, one in fold.outcomes[index:]]
                return None
            differs = check.next_is(position, outcome, has_ended=main.done())
            if differs is not None:
                return differs
            if position >= new_from:
                self.silent = False
            try:
                self._deliver(outcome)
            except UnreadableResult as error:
                return check.unreadable(error)
            if self.dropped:
                return None
        return check.end()

    def diverged(self, divergence: Divergence) -> None:
        """run() doesn't ask for what is recorded."""
        self.stuck(divergence.record())

    # What the check asks about run().

    @property
    def main(self) -> asyncio.Task[object] | None:
        """The task of run(); None before it begins and when the run left memory."""
        return self._main

    @property
    def asked_count(self) -> int:
        """How many steps and calls run() has asked for since replay began."""
        return len(self._unstarted)

    def asked(self, count: int) -> list[tuple[str, int]]:
        """The first `count` of them in order, by name and use."""
        return [(op.name, op.nth) for op in self._unstarted[:count]]

    def uses(self, name: str) -> int:
        """How often run() has used a name."""
        return self._uses.get(name, 0)

    # -- delivery ------------------------------------------------------------------------------------------

    def arrived(self, outcome: Outcome) -> None:
        """An outcome was recorded (in journal order); deliver it now.

        Call it from a callback of the outer loop.
        """
        self._inbox.append(outcome)
        self.deliver_all()

    def arrives_later(self, outcome: Outcome) -> None:
        """The same where run() can't be driven now; whoever says so sees to it that it is delivered.

        From inside a task: a callback of the task that ends with it calls `deliver_all`.  From an op that is
        done when it begins: when all that was asked for has begun, or a loop of sends would go one call
        deeper with each.
        """
        self._inbox.append(outcome)

    def record_here(self, outcome: Outcome) -> None:
        """Record the outcome of such an op."""
        try:
            self.record(outcome)
        except StorageError as error:
            self.engine.cannot_record(self, error)
            return
        self.arrives_later(outcome)

    def expect(self, records: Iterable[Record]) -> None:
        """Records from outside were staged; they are delivered in a callback of the loop, unless it rests."""
        for record in records:
            if isinstance(record, Paused):
                self.pausing_ms = record.at_ms
            else:
                self._inbox.append(cast("Outcome", record))
        if not self.resting:
            self.engine.system.loop.call_soon(self.deliver_all)

    def deliver_all(self) -> None:
        """Deliver what was recorded, one after the other, and act on what run() asks for then."""
        if self._delivering or self.dropped or self._main is None:
            return
        self._deliver_inbox()
        if not self.dropped:
            self._after_delivery()

    def _deliver_inbox(self) -> None:
        self._delivering = True
        try:
            while self._inbox and not self.dropped and not self._continues():
                self._deliver(self._inbox.pop(0))
        finally:
            self._delivering = False

    def _continues(self) -> bool:
        """Whether run() has ended to begin anew: what comes is for the one that begins."""
        main = self._main
        return (
            main is not None
            and main.done()
            and not main.cancelled()
            and isinstance(main.exception(), ContinueAsNew)
        )

    def record_outcome(self, outcome: Outcome, writes: Writes) -> None:
        """Record the outcome of a step beside what `writes` holds, and deliver it.

        Where nothing recorded before waits, it is delivered first, and if run() ends by that, the end is in
        the same commit.  Nobody outside can see the delivery before the writes are staged, so this is
        recording first, in one commit less.
        """
        try:
            self.add_record(outcome, writes)
            if self._delivering or self._inbox:
                self.activation.commit(writes, reserve=True)
                self.arrived(outcome)
                return
            self._delivering = True
            try:
                self._deliver(outcome)
            finally:
                self._delivering = False
            main = self._main
            if main is not None and main.done():
                self._end(main, writes)
                return
            saying = self._saying
            if saying is not None and not saying.is_silent and not self.dropped:
                saying.write(writes)
            self.activation.commit(writes, reserve=True)
            if not self.dropped:
                self._after_delivery()
        except StorageError as error:
            ref = self.activation.ref
            _log.error("a step of %s could not be recorded: %s", ref, error, extra=run_fields(ref))
            self.engine.let_go(self)

    def _deliver(self, outcome: Outcome) -> None:
        """Hand an outcome to the code that waits for it, if there is any, and run that to rest."""
        loop = self.loop
        if outcome.at_ms > loop.now_ms:
            loop.now_ms = outcome.at_ms
        kind = outcome.__class__
        if kind is TimerFired:
            if not loop.fire(outcome.nth):  # type: ignore[union-attr]
                return
        elif kind is StepDone or kind is StepFailed:
            answer: StepDone | StepFailed = outcome  # type: ignore[assignment]
            op = self.pending.pop((answer.name, answer.nth), None)
            if op is None:
                return
            future = op.future
            future.op = None
            future.attempts = answer.attempts
            if future.done():
                pass
            elif isinstance(answer, StepFailed):
                future.set_exception(StepError(answer.name, answer.nth, answer.attempts, answer.error))
            else:
                check = self.check
                if check is not None:
                    value = check.decode(op, answer)
                else:
                    value = op.decode_result(answer.value) if op.decodes_live else op.result
                future.set_result(value)
                undo = op.undo
                if undo is not None and self._undoing is None:
                    if self._undos is None:
                        self._undos = []
                    self._undos.append(undo_of(cast("StepOp", op), undo, answer.value))
        else:
            self._deliver_from_outside(outcome)
        self._run_to_rest()

    def _deliver_from_outside(self, outcome: Outcome) -> None:
        if isinstance(outcome, EventArrived):
            self.box.arrived(outcome)
        elif isinstance(outcome, UpdateAccepted):
            self._begin_update(outcome)
        elif isinstance(outcome, Resumed):
            self._put_off(outcome)
        elif isinstance(outcome, CancelAsked):
            self._cancel_asked(outcome)
        elif isinstance(outcome, UndoBegan) and self.ended_badly():
            assert self._main is not None
            self._begin_undoing(*self._end_of(self._main))

    def _begin_update(self, record: UpdateAccepted) -> None:
        if self._updates is None:
            self._updates = {}
        found = self.type.updates.get(record.name)
        update = self._updates[record.id] = Update(record)
        if self._undoing is not None:
            at = self.activation.ref
            update.done(None, RunEnded(f"run {at} is having its steps undone; no update begins any more"))
        elif found is None:
            update.done(None, UpdateRefused(f"{self.type.name} has no update {record.name!r} any more"))
        else:
            self.loop.call_soon(
                begin_update, update, found, record, self.workflow, self.loop, context=self._context
            )

    def update_reply(self, id_: str) -> Update | None:
        """What became of an update; None when it was not delivered."""
        return None if self._updates is None else self._updates.get(id_)

    def knows_update(self, id_: str) -> bool:
        """Whether an update was accepted since the run began (anew)."""
        return self.update_reply(id_) is not None or any(
            isinstance(one, UpdateAccepted) and one.id == id_ for one in self._inbox
        )

    def _put_off(self, record: Resumed) -> None:
        """The run was paused: its timers have as much time left as they had then."""
        for timer in self.loop.timers.values():
            timer.put_off(record.paused_ms, record.at_ms)
        if not self.replaying:
            for op in self.pending.values():
                if op.next_ms is not None and op.next_ms > record.paused_ms:
                    op.next_ms += record.at_ms - record.paused_ms
            self.pausing_ms = None

    # -- an end from outside -------------------------------------------------------------------------------

    def _cancel_asked(self, record: CancelAsked) -> None:
        if self._cancel is not None or self._undoing is not None:
            return
        main = self._main
        if main is None or main.done():
            return
        self._cancel = record
        if record.terminate:
            self._stop_code()
        else:
            main.cancel()

    def _deadline_passed(self) -> None:
        main = self._main
        if main is not None and not main.done() and self._undoing is None and self._cancel is None:
            self.overdue = True
            main.cancel()

    def _stop_code(self) -> None:
        """run() goes no further, without any clean-up of its own; what it did is undone."""
        cancel = self._cancel
        assert cancel is not None, "who stops the code says why"
        self._begin_undoing(end_of_stopped(cancel, self.now_ms()), None)

    def _give_all_up(self) -> None:
        """Whatever run() and its tasks have asked for is given up, and the tasks are closed."""
        main, replaying = self._main, self.replaying
        self.dropped = True
        try:
            close_tasks(self.loop, main, self)
        finally:
            self.dropped = False
        for key, op in list(self.pending.items()):
            del self.pending[key]
            if self.check is not None:
                self.check.given_up(key)
            op.future.op = None
            op.over = True  # not begun, either, when the replay is over
            if not replaying:
                op.abandon()
                self._keep_rows_of(op)
        for timer in list(self.loop.timers.values()):
            timer.cancel()
        self._unstarted = [op for op in self._unstarted if replaying]
        self._box = self._conditions = None

    def ended_badly(self) -> bool:
        """Whether run() has ended, and not by returning."""
        main = self._main
        return (
            main is not None and main.done() and self._undoing is None and self._end_of(main)[1] is not None
        )

    def _end_of(self, main: asyncio.Task[object]) -> tuple[End, BaseException | None]:
        return end_of(main, self.loop, self.type, self.now_ms(), self._cancel, overdue=self.overdue)

    def _begin_undoing(self, record: End, raised: BaseException | None) -> None:
        self._give_all_up()
        undoing = self._undoing = Undoing(self._undos or [], record, raised)
        self._undos = None
        self.loop.mistake = None
        context = self._context.copy()
        self._main = MainTask(undoing.run(self), loop=self.loop, name="undo", context=context)

    # -- rest of a delivery --------------------------------------------------------------------------------

    def _run_to_rest(self) -> None:
        loop = self.loop
        try:
            loop.run_until_rest()
            conditions = self._conditions
            if conditions is not None:
                while len(conditions) and self._context.copy().run(conditions.look):
                    loop.run_until_rest()
        except ForeignAwait as error:
            self.stuck(record_error(error))
        except KeyboardInterrupt as error:  # not run()'s doing: it goes on when the folder is opened again
            raise_soon(self.engine.system.loop, error)
            self.engine.let_go(self)

    def _after_delivery(self) -> None:
        """run() is at rest: it ended, or new steps begin, or it sleeps."""
        while True:
            main = self._main
            assert main is not None
            if main.done():
                self._end(main, {})
                return
            saying = self._saying
            if saying is not None and not saying.is_silent and not self._write_said():
                return
            if self._updates is not None:
                self.engine.messages.done(self)
            if self.pausing_ms is not None:
                if not self.working and not self._inbox:
                    self.engine.paused(self)
                return
            if self._starting:
                return  # whoever starts the others begins what run() asked for by this, and settles
            while self._unstarted:
                unstarted, self._unstarted = self._unstarted, []
                self._start(unstarted)
            if self.dropped:
                return
            if not self._inbox:
                break
            self._deliver_inbox()  # what was done at once
            if self.dropped:
                return  # type: ignore[unreachable]  # what was delivered may have ended the run
        # Most often everything asked for is in progress and there is nothing to be woken for.
        working = self.working
        if not working or working < len(self.pending) or self.loop.timers or self._timer is not None:
            self._settle()

    def _write_said(self) -> bool:
        writes: Writes = {}
        try:
            self.said.write(writes)
            self.activation.commit(writes, reserve=True)
        except StorageError as error:
            self.engine.cannot_record(self, error)
            return False
        return True

    def _start(self, ops: list[Op]) -> None:
        """Begin an attempt of each.

        Where nothing that is recorded waits for the disk, a plain body runs at once and its outcome is
        delivered in here: run() may give up others by that, or end.
        """
        self._starting = True
        try:
            for op in ops:
                if not (op.over or op.future.done() or self.dropped):
                    op.start()
        finally:
            self._starting = False

    def op_cancelled(self, op: Op) -> None:
        """run() gave an op up."""
        key = (op.name, op.nth)
        if self.pending.pop(key, None) is not None and self.check is not None:
            self.check.given_up(key)
        if not self.replaying:
            op.abandon()
            self._keep_rows_of(op)

    def _keep_rows_of(self, op: Op) -> None:
        """Rows that an op left behind are deleted with the run's end."""
        self.replies.update(dict.fromkeys(op.reply_deletes(), b""))

    # -- recording -----------------------------------------------------------------------------------------

    def record(self, record: Record, writes: Writes | None = None) -> int:
        """Stage a record (with other writes of the same turn); returns the commit's number."""
        writes = {} if writes is None else writes
        self.add_record(record, writes)
        return self.activation.commit(writes, reserve=True)

    def add_record(self, record: Record, writes: Writes) -> None:
        """See `Asking`."""
        if self._versions_unwritten is not None:
            self.write_versions(writes)
        position = self.next_position
        writes[self._journal + position.to_bytes(POSITION_BYTES, "big")] = encode_record(record)
        self.next_position = position + 1

    def now_ms(self) -> int:
        """The time for a record: the wall clock's, but never before the record before it."""
        now_ms = self._clock_ms()
        before_ms = self.loop.now_ms
        return now_ms if now_ms > before_ms else before_ms

    def set_head(
        self,
        status: RunStatus,
        writes: Writes,
        at_ms: int,
        error: ErrorRecord | None = None,
        rested: int | None = None,
    ) -> None:
        """Change the head within a write set."""
        head = self.workflow.head
        if rested is None:
            rested = head.rested
        self.workflow.head = RunHead(
            status,
            head.created_ms,
            at_ms,
            error,
            head.correlation_id,
            head.fingerprint,
            rested,
            head.labels,
        )
        self.activation.stage_fields(writes)

    # -- rest ----------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Nothing is ready.

        With work in progress the clock wakes the timers; at rest an alarm on disk does.
        """
        if self.resting:
            return  # what was delivered on the way here led to that
        timers = self.loop.timers
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = min([timer.due_ms for timer in timers.values()]) if timers else None
        retry_ms: int | None = None
        for op in self.pending.values():
            if op.next_ms is not None and (retry_ms is None or op.next_ms < retry_ms):
                retry_ms = op.next_ms
        if not self.pending and self._waits_for_nothing():
            if not self.working and not self._inbox:
                self.stuck(
                    ErrorRecord(
                        "ForeignAwait",
                        "run() waits for something that nothing will ever deliver: I/O belongs in a step",
                    )
                )
            return
        if due_ms is None and retry_ms is None:
            if not self.working and not self._inbox:
                self.engine.rest(self, "waiting", None)  # for an event, a child, an update
            return
        wake_ms = min(ms for ms in (due_ms, retry_ms) if ms is not None)
        if self.working or self._inbox or wake_ms <= self.engine.system.clock.now_ms():
            system = self.engine.system
            seconds = (wake_ms - system.clock.now_ms()) / 1000
            self._timer = (
                system.clock.call_later(seconds, self._wake_soon)
                if seconds > 0
                else system.loop.call_soon(self.wake)
            )
            return
        self.engine.rest(self, "retrying" if retry_ms == wake_ms else "waiting", wake_ms)

    def _waits_for_nothing(self) -> bool:
        timers = self.loop.timers
        return (
            (not timers or (len(timers) == 1 and DEADLINE_TIMER in timers))
            and (self._box is None or not self._box.waits)
            and not self._conditions
        )

    def _wake_soon(self) -> None:
        # A clock that is moved by hand calls from inside a task, where run()'s loop must not be driven.
        self.engine.system.loop.call_soon(self.wake)

    def wake(self) -> None:
        """Fire the timers and the retries that are due; the others go on waiting."""
        if self.dropped or self._delivering or self._main is None or self.pausing_ms is not None:
            return
        now_ms = self.engine.system.clock.now_ms()
        due = sorted(
            (timer.due_ms, timer.nth) for timer in self.loop.timers.values() if timer.due_ms <= now_ms
        )
        for due_ms, nth in due:
            if nth in self.loop.timers:
                outcome = TimerFired(max(due_ms, self.loop.now_ms), nth)
                try:
                    self.record(outcome)
                except StorageError as error:
                    ref = self.activation.ref
                    _log.error("a sleep of %s could not be recorded: %s", ref, error, extra=run_fields(ref))
                    self.engine.let_go(self)
                    return
                self._inbox.append(outcome)
                self.deliver_all()
                if self.dropped:
                    return  # type: ignore[unreachable]  # what was delivered may have ended the run
        retried = [op for op in self.pending.values() if op.next_ms is not None and op.next_ms <= now_ms]
        for op in retried:
            op.next_ms = None
        self._start(retried)
        if not self.dropped:
            self._after_delivery()

    # -- the end -------------------------------------------------------------------------------------------

    def _end(self, main: asyncio.Task[object], writes: Writes) -> None:
        if self.dropped:  # halted while it ran
            if writes:
                self.activation.commit(writes, reserve=True)
            return
        undoing = self._undoing
        if undoing is not None:
            self.engine.ended(self, undoing.end(self.now_ms()), undoing.raised, writes)
            return
        error = None if main.cancelled() else main.exception()
        if isinstance(error, ContinueAsNew):
            self.engine.starts.continue_as_new(self, error, writes)
            return
        record, raised = self._end_of(main)
        if raised is None or not self._undos:
            self.engine.ended(self, record, raised, writes)
            return
        began = UndoBegan(self.now_ms())
        try:
            if self.said_anything() is not None:
                self.said.write(writes)
            self.record(began, writes)
        except StorageError as failure:
            self.engine.cannot_record(self, failure)
            return
        self._deliver(began)
        if not self.dropped:
            self._after_delivery()

    def stuck(self, error: ErrorRecord) -> None:
        """The run can't go on with this code; nothing of it is lost."""
        self.engine.stuck(self, error)

    def begin_pause(self, at_ms: int) -> None:
        """Nothing begins any more; what is in progress ends first."""
        self.pausing_ms = at_ms
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def updates_done(self) -> list[Update]:
        """Updates that have a reply."""
        return [] if self._updates is None else [one for one in self._updates.values() if one.is_done]

    def said_anything(self) -> Saying | None:
        """What run() said and is not staged yet; None when that is nothing."""
        saying = self._saying
        return None if saying is None or saying.is_silent else saying

    def go_on(self) -> None:
        """It has a place again: deliver what came while it rested, and look at the clock."""
        if self._inbox:
            self.deliver_all()
        if not self.dropped:
            self.wake()

    def carried(self) -> list[Record]:
        """What the run that begins anew is to get: events that nobody waited for, what was not delivered, and
        a pause that was asked for.
        """
        early: list[Record] = [] if self._box is None else [*self._box.early()]
        early += [one for one in self._inbox if isinstance(one, (EventArrived, UpdateAccepted, CancelAsked))]
        resumed = any(isinstance(one, Resumed) for one in self._inbox)
        if self.pausing_ms is not None and not resumed:
            early.append(Paused(self.pausing_ms))
        return early

    @property
    def generation(self) -> int:
        """How often the run was begun anew under its id."""
        return self.started.generation

    def drop(self) -> None:
        """Leave memory: bodies in progress are cancelled, the coroutine is closed."""
        if self.dropped:
            return
        self.dropped = True
        if self._timer is not None:
            self._timer.cancel()
        for op in list(self.pending.values()):
            op.abandon()
            op.future.op = None
        self.pending.clear()
        self._unstarted.clear()
        self.loop.closed = True
        close_tasks(self.loop, self._main, self)
        # Take the rings of references apart, so that memory comes back without the collector.
        self._main = None
        self._context = _NO_CONTEXT
        self.loop.timers.clear()
        if self._box is not None:
            self._box.clear()
        self._conditions = self._saying = self._undoing = self._updates = self._run_log = None
        self.workflow.__dict__.pop("_live", None)

    def failed_commit(self) -> StorageFailed | None:
        """Why a commit that this run rests on failed, if one did."""
        return self.engine.system.store.group_commit.failure(self.activation.dep)
