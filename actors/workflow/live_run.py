"""One run in memory: its loop, what it asked for, and the delivery of outcomes, live and on replay.

    run() asks  ->  pending op  ->  (gate)  ->  body or call  ->  record, staged  ->  delivered to run()  ->
    at rest
                                                                 ^ on replay the records come from here

Promises
  * Outcomes are delivered in the order of the journal, one at a time, each after the code woken by the one
    before has come to rest.
    Live and replay take the same way.
  * P3: a step's body starts when everything recorded before is durable.
  * P5: what is recorded is never asked for again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ...runtime.chain import CALLER
from ...runtime.durations import Duration, to_seconds
from ...storage.errors import CallerError, InvalidKey, StorageError, StorageFailed
from ...storage.group_commit import Writes
from ..errors import ErrorRecord, ForeignAwait, StepError, record_error
from .head import RunHead, RunStatus
from .journal import (
    Failed,
    Finished,
    Fold,
    Outcome,
    Record,
    StepDone,
    StepFailed,
    TimerFired,
    encode_record,
    journal_prefix,
    position_key,
)
from .ops import CallOp, Op, OpFuture, RunScope, StepOp
from .replay_loop import ReplayLoop, ReplayTask
from .retry import Retry

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...runtime.methods import MethodPlan
    from ...runtime.ref import Ref
    from .engine import Engine
    from .workflow import Workflow
    from .workflow_type import WorkflowType

_log = logging.getLogger("holdfast.workflow")
MAX_STEP_NAME_CHARACTERS = 256
# Coroutines of runs that left memory and refuse to be closed: kept, so that the collector doesn't run them
# on.
UNCLOSED: list[Coroutine[Any, Any, object]] = []

# The rest of what asyncio asks of a loop is refused by methods that are added to the class in a loop of its
# file, which a type checker can't see.
_NEW_LOOP: Callable[[int, int], ReplayLoop] = cast("Any", ReplayLoop)


class LiveRun:
    """The working part of a run; dropped and made anew from the journal at will."""

    __slots__ = (
        "_alarm_ms",
        "_delivering",
        "_inbox",
        "_journal",
        "_main",
        "_random",
        "_started_ms",
        "_timer",
        "_unstarted",
        "_uses",
        "_waived",
        "activation",
        "cancelled",
        "correlation_id",
        "dropped",
        "engine",
        "first_input",
        "fold",
        "has_slot",
        "loop",
        "next_position",
        "pending",
        "replies",
        "replaying",
        "type",
        "working",
    )

    def __init__(self, engine: Engine, activation: Activation, fold: Fold) -> None:
        self.engine = engine
        self.activation = activation
        self.type = cast("WorkflowType", activation.type)
        self.fold: Fold | None = fold
        self.loop: ReplayLoop = _NEW_LOOP(fold.started.at_ms, activation.number or 0)
        self.correlation_id = fold.started.correlation_id
        self._random: random.Random | None = None
        self._started_ms = fold.started.at_ms
        self.next_position = fold.next_position
        # What run() asked for and hasn't got, by name and use; ops that run() gave up are remembered as
        # cancelled.
        self.pending: dict[tuple[str, int], Op] = {}
        self.cancelled: set[tuple[str, int]] | None = None
        # Attempts and calls in progress outside.
        self.working = 0
        self.has_slot = False
        self.dropped = False
        self.replaying = True
        # The input of a run that was just started, decoded already.
        self.first_input: object = msgspec.UNSET
        # Replies to calls that unfinished steps made before a crash, by row key.
        self.replies: dict[bytes, bytes] = {}
        self._journal = journal_prefix(activation.prefix(b""))
        self._inbox: list[Outcome] = []
        self._unstarted: list[Op] = []
        self._uses: dict[str, int] = {}
        self._main: asyncio.Task[object] | None = None
        self._delivering = False
        self._waived = fold.waived_until
        self._timer: Any = None  # the clock's, while steps are in progress beside timers
        self._alarm_ms: int | None = None  # what the alarm on disk is set to
        activation.instance._live = self  # type: ignore[attr-defined]

    @property
    def random(self) -> random.Random:
        """Chance that is the same on replay; made when it is first asked for."""
        chance = self._random
        if chance is None:
            seed = f"{self.activation.ref}@{self._started_ms}"
            chance = self._random = random.Random(seed)  # replayable, not secret
        return chance

    # -- what run() asks for -------------------------------------------------------------------------------

    def request_step(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        name: str | None,
        retry: Retry | None,
        timeout: Duration | None,
        thread: bool,
    ) -> OpFuture:
        """A step begins; its future is run()'s."""
        if not self._check_inside():
            return self._never()
        plan = self.engine.step_plan(function)
        given: object = name
        if name is None:
            used = plan.name
        elif (
            not isinstance(given, str)
            or not 0 < len(name) <= MAX_STEP_NAME_CHARACTERS
            or not name.isprintable()
        ):
            raise InvalidKey(
                f"{self.activation.ref}: the name of a step must have 1 to {MAX_STEP_NAME_CHARACTERS} "
                f"printable characters; got {name!r}"
            )
        else:
            used = given
        if thread and plan.is_async:
            raise CallerError(f"{self.activation.ref}: step {used} is async, so it can't run in a thread")
        kind = self.type
        op = StepOp(self, used, self._use(used), function, plan, args, retry or kind.retry, thread)
        op.timeout_seconds = (
            kind.step_timeout_seconds
            if timeout is None
            else to_seconds(timeout, what=f"timeout of step {used}")
        )
        if op.timeout_seconds == 0:
            raise CallerError(f"{self.activation.ref}: the timeout of step {used} must be more than 0")
        self._ask(op)
        return op.future

    def request_call(
        self, ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> OpFuture:
        """run() calls an actor; that is a step by itself."""
        if not self._check_inside():
            return self._never()
        if ref.system is not self.engine.system:
            raise CallerError(
                f"{self.activation.ref}: {ref} lives in another runtime, whose commits are not this "
                f"run's; call it in a step"
            )
        name = f"{ref}.{plan.name}"
        args, kwargs = plan.check_arguments(args, kwargs, ref)
        op = CallOp(self, name, self._use(name), ref, plan, args, kwargs)
        self._ask(op)
        return op.future

    def _use(self, name: str) -> int:
        nth = self._uses.get(name, 0) + 1
        self._uses[name] = nth
        return nth

    def _ask(self, op: Op) -> None:
        self.pending[op.name, op.nth] = op
        self._unstarted.append(op)

    def _check_inside(self) -> bool:
        """Raise unless run() itself asks; False when it is being closed."""
        scope = CALLER.get()
        if not isinstance(scope, RunScope) or scope.run is not self:
            raise CallerError(
                f"{self.activation.ref}: steps are begun by run() itself, not inside a step or after the run"
            )
        return not self.dropped

    def _never(self) -> OpFuture:
        """What a `finally` block of a run that leaves memory waits for."""
        future = OpFuture(loop=self.loop)
        future.op = None
        return future

    # -- replay --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start run() and deliver what is recorded; afterwards the run is live."""
        fold = self.fold
        assert fold is not None
        self.fold = None
        context = Context()  # what the starter's context variables held is not there on replay
        context.run(CALLER.set, RunScope(self))
        workflow = cast("Workflow", self.activation.instance)
        run = cast("Callable[..., Coroutine[Any, Any, object]]", cast("Any", workflow).run)
        if not self.type.takes_input:
            coroutine = run()
        elif self.first_input is not msgspec.UNSET:
            coroutine = run(self.first_input)  # fresh from the codec, as it would be from disk
            self.first_input = msgspec.UNSET
        else:
            coroutine = run(self.type.decode_input(fold.input))
        self._main = ReplayTask(coroutine, loop=self.loop, name="run", context=context)
        self._delivering = True
        try:
            self._run_to_rest()
            for position, outcome in fold.outcomes:
                if self.dropped:
                    break
                if not self._deliver(outcome) and position > self._waived:
                    self._diverged(outcome)
                    return
        finally:
            self._delivering = False
        if self.dropped:
            return
        self.replaying = False
        if self.pending:
            for (name, nth), (attempts, next_ms) in fold.attempts.items():
                op = self.pending.get((name, nth))
                if op is not None:
                    op.attempts, op.next_ms = attempts, next_ms
        self.loop.now_ms = max(self.loop.now_ms, fold.started.at_ms)
        self._after_delivery()

    def _diverged(self, outcome: Outcome) -> None:
        asked = ", ".join(f"{name} (use {nth})" for name, nth in self.pending)
        timers = ", ".join(f"timer {nth}" for nth in self.loop.timers)
        waits = f"the code waits for {', '.join(part for part in (asked, timers) if part) or 'nothing'}"
        if self._main is not None and self._main.done():
            waits = "run() has ended already"
        what = (
            f"timer {outcome.nth}"
            if isinstance(outcome, TimerFired)
            else f"step {outcome.name} (use {outcome.nth})"
        )
        self.stuck(
            ErrorRecord(
                "Divergence",
                f"the journal has {what} next, but {waits}; put back the code that asked for it, or fix "
                f"the change, and open the folder again",
            )
        )

    # -- delivery ------------------------------------------------------------------------------------------

    def arrived(self, outcome: Outcome) -> None:
        """An outcome was recorded (in journal order); deliver it now.

        Call it from a callback of the outer loop.
        """
        self._inbox.append(outcome)
        self.deliver_all()

    def arrived_later(self, outcome: Outcome) -> None:
        """The same from inside a task: deliver it from a callback."""
        self._inbox.append(outcome)
        self.engine.system.loop.call_soon(self.deliver_all)

    def deliver_all(self) -> None:
        """Deliver what was recorded, one after the other, and act on what run() asks for then."""
        if self._delivering or self.dropped:
            return
        self._delivering = True
        try:
            while self._inbox and not self.dropped:
                self._deliver(self._inbox.pop(0))
        finally:
            self._delivering = False
        if not self.dropped:
            self._after_delivery()

    @property
    def can_deliver(self) -> bool:
        """Nothing recorded waits to be delivered before."""
        return not (self._delivering or self._inbox or self.dropped)

    def deliver_one(self, outcome: Outcome, writes: Writes) -> None:
        """Deliver an outcome whose record is in `writes`, then stage these, with the end of the run if run()
        ended.

        Nobody outside can see the delivery before the writes are staged, so this is recording first, in one
        commit less.
        """
        self._delivering = True
        try:
            self._deliver(outcome)
        finally:
            self._delivering = False
        main = self._main
        if main is not None and main.done():
            self._end(main, writes)
            return
        self.activation.commit(writes, reserve=True)
        if not self.dropped:
            self._after_delivery()

    def _deliver(self, outcome: Outcome) -> bool:
        """Hand an outcome to the code that waits for it and run that to rest; False when nobody ever asked
        for it.
        """
        loop = self.loop
        if outcome.at_ms > loop.now_ms:
            loop.now_ms = outcome.at_ms
        if outcome.__class__ is TimerFired:
            if not loop.fire(outcome.nth):
                return outcome.nth <= loop.timer_count
        else:
            answer = cast("StepDone | StepFailed", outcome)
            key = (answer.name, answer.nth)
            op = self.pending.pop(key, None)
            if op is None:
                return self.cancelled is not None and key in self.cancelled
            op.future.op = None
            if isinstance(outcome, StepDone):
                if not op.future.done():
                    op.future.set_result(op.take_result(outcome))
            elif not op.future.done():
                failed = cast("StepFailed", outcome)
                op.future.set_exception(StepError(failed.name, failed.nth, failed.attempts, failed.error))
        self._run_to_rest()
        return True

    def _run_to_rest(self) -> None:
        try:
            self.loop.run_until_rest()
        except ForeignAwait as error:
            self.stuck(record_error(error))
        except KeyboardInterrupt as error:  # not run()'s doing: it goes on when the folder is opened again
            self.engine.system.loop.call_soon(_raise, error)
            self.engine.let_go(self)

    def _after_delivery(self) -> None:
        """run() is at rest: it ended, or new steps begin, or it sleeps."""
        main = self._main
        assert main is not None
        if main.done():
            self._end(main, {})
            return
        if self._unstarted:
            unstarted, self._unstarted = self._unstarted, []
            for op in unstarted:
                if not op.future.done() and not self.dropped:
                    op.start()
        if not self.dropped and not main.done():
            self._settle()

    def op_cancelled(self, op: Op) -> None:
        """run() gave an op up."""
        key = (op.name, op.nth)
        if self.pending.pop(key, None) is not None:
            if self.cancelled is None:
                self.cancelled = set()
            self.cancelled.add(key)
        if not self.replaying:
            op.abandon()
            if isinstance(op, StepOp) and op.replies:
                self.replies.update(
                    {row: reply for row, (reply, _) in op.replies.items()}
                )  # deleted with the run's end

    # -- recording -----------------------------------------------------------------------------------------

    def record(self, record: Record, writes: Writes | None = None) -> int:
        """Stage a record (with other writes of the same turn); returns the commit's number."""
        writes = {} if writes is None else writes
        self.add_record(record, writes)
        return self.activation.commit(writes, reserve=True)

    def add_record(self, record: Record, writes: Writes) -> None:
        """Add a record to a write set that the caller stages at once."""
        writes[position_key(self._journal, self.next_position)] = encode_record(record)
        self.next_position += 1

    def now_ms(self) -> int:
        """The time for a record: the wall clock's, but never before the record before it."""
        return max(self.engine.system.clock.now_ms(), self.loop.now_ms)

    def set_head(
        self, status: RunStatus, writes: Writes, at_ms: int, error: ErrorRecord | None = None
    ) -> None:
        """Change the head within a write set."""
        workflow = cast("Workflow", self.activation.instance)
        head = workflow.head
        workflow.head = RunHead(status, head.created_ms, at_ms, error, head.correlation_id)
        self.activation.stage_fields(writes)

    # -- rest ----------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Nothing is ready.

        With work in progress the clock wakes the timers; at rest an alarm on disk does.
        """
        timers = self.loop.timers
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = min([timer.due_ms for timer in timers.values()]) if timers else None
        retry_ms: int | None = None
        for op in self.pending.values():
            if op.next_ms is not None and (retry_ms is None or op.next_ms < retry_ms):
                retry_ms = op.next_ms
        if due_ms is None and retry_ms is None:
            if not self.working and not self._inbox:
                self.stuck(
                    ErrorRecord(
                        "ForeignAwait",
                        "run() waits for something that nothing will ever deliver: I/O belongs in a step",
                    )
                )
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

    def _wake_soon(self) -> None:
        # A clock that is moved by hand calls from inside a task, where run()'s loop must not be driven.
        self.engine.system.loop.call_soon(self.wake)

    def wake(self) -> None:
        """Fire the timers and the retries that are due; the others go on waiting."""
        if self.dropped or self._delivering:
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
                    _log.error("a sleep of %s could not be recorded: %s", self.activation.ref, error)
                    self.engine.let_go(self)
                    return
                self._inbox.append(outcome)
                self.deliver_all()
                if self.dropped:
                    return  # type: ignore[unreachable]  # what was delivered may have ended the run
        for op in list(self.pending.values()):
            if op.next_ms is not None and op.next_ms <= now_ms:
                op.next_ms = None
                op.start()
                if self.dropped:
                    return  # type: ignore[unreachable]  # a plain body ran at once, and run() ended with it
        self._settle()

    # -- the end -------------------------------------------------------------------------------------------

    def _end(self, main: asyncio.Task[object], writes: Writes) -> None:
        at_ms = self.now_ms()
        error: BaseException | None = None
        value = b""
        if main.cancelled():
            error = asyncio.CancelledError("run() was cancelled by itself")
        else:
            error = main.exception()
            if error is None:
                error = self.loop.mistake
            if error is None:
                try:
                    value = self.type.encode_output(main.result())
                except TypeError as mismatch:
                    error = mismatch
        if error is None:
            self.engine.ended(self, "complete", Finished(at_ms, msgspec.Raw(value)), None, writes)
            return
        step = _failed_step(error)
        if isinstance(error, RuntimeError) and _OTHER_LOOP.search(str(error)):
            foreign = ForeignAwait(
                f"run() awaited something of the outer event loop: I/O belongs in a step ({error})"
            )
            foreign.__cause__ = error
            error = foreign
        record = record_error(error)
        failed = Failed(at_ms, record, None if step is None else step.step, 0 if step is None else step.nth)
        self.engine.ended(self, "failed", failed, error, writes)

    def stuck(self, error: ErrorRecord) -> None:
        """The run can't go on with this code; nothing of it is lost."""
        self.engine.stuck(self, error)

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
        self._close_tasks()
        # Take the rings of references apart, so that memory comes back without the collector.
        self._main = None
        self.activation.instance.__dict__.pop("_live", None)

    def _close_tasks(self) -> None:
        """Close what run() waits in, here and not whenever the collector comes: `finally` blocks run now,
        without any effect.

        A dead process would not run them at all.  Steps and calls that they begin never end, and what they
        raise is nobody's.
        """
        tasks = [task for task in {self._main, *self.loop.tasks} if task is not None and not task.done()]
        self.loop.tasks.clear()
        if (
            self._main is not None and not self._main.done()
        ):  # made past the loop's create_task, so it isn't among them
            tasks.append(self._main)
        if not tasks:
            return
        context = Context()
        context.run(CALLER.set, RunScope(self))
        for task in tasks:
            cast("Any", task)._log_destroy_pending = False  # known to asyncio alone
            coroutine = cast("Coroutine[Any, Any, object]", task.get_coro())
            if not self.loop.close_coroutine(coroutine, context):
                UNCLOSED.append(coroutine)
            _stop_waiting(task)

    def failed_commit(self) -> StorageFailed | None:
        """Why a commit that this run rests on failed, if one did."""
        return self.engine.system.store.group_commit.failure(self.activation.dep)


def _stop_waiting(task: asyncio.Task[Any]) -> None:
    """Take apart the ring of a task whose coroutine was closed: it, the future it waited for, its callback.

    The ring holds the whole run by its context.  Left to the collector, ended runs pile up in memory first.
    """
    future: Any = getattr(task, "_fut_waiter", None)  # known to asyncio alone, as the callbacks are
    if future is not None:
        for callback, _ in getattr(future, "_callbacks", None) or ():
            future.remove_done_callback(callback)


def _raise(error: BaseException) -> None:
    raise error


# How asyncio says that a future, and that a lock or a queue, belongs to another loop.
_OTHER_LOOP = re.compile("attached to a different loop|bound to a different event loop")


def _failed_step(error: BaseException) -> StepError | None:
    if isinstance(error, StepError):
        return error
    if isinstance(error, BaseExceptionGroup):
        for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            found = _failed_step(one)
            if found is not None:
                return found
    return None
