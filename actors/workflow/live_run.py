"""One run in memory: its loop, what it asked for, and the delivery of outcomes, live and on replay.

    run() asks -> pending op -> gate -> body or call -> record, staged -> delivered to run() -> at rest
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
from collections.abc import Callable
from contextvars import Context
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ...runtime.chain import CALLER, Turn, after_rollback
from ...runtime.durations import Duration, to_seconds
from ...storage import layout
from ...storage.errors import CallerError, InvalidKey, StorageError, StorageFailed
from ...storage.group_commit import Writes
from ..errors import ErrorRecord, ForeignAwait, StepError, record_error
from .call_op import CallOp
from .divergence import Divergence, ReplayCheck, UnreadableResult, newer_version
from .head import RunHead, RunStatus
from .journal import (
    POSITION_BYTES,
    Fold,
    Outcome,
    Record,
    Started,
    StepDone,
    StepFailed,
    TimerFired,
    VersionTaken,
    encode_record,
    journal_prefix,
)
from .leaving_memory import close_tasks
from .ops import Op, OpFuture, raise_soon
from .replay_loop import MainTask, ReplayLoop
from .retry import Retry
from .run_end import end_of
from .step_op import StepOp
from .versions import check_version

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...runtime.methods import MethodPlan
    from ...runtime.ref import Ref
    from .engine import Engine
    from .workflow import Workflow
    from .workflow_type import WorkflowType

_log = logging.getLogger("holdfast.workflow")
MAX_STEP_NAME_CHARACTERS = 256

# The rest of what asyncio asks of a loop is refused by methods that are added to the class in a loop of its
# file, which a type checker can't see.
_NEW_LOOP: Callable[[int, int], ReplayLoop] = cast("Any", ReplayLoop)


class LiveRun:
    """The working part of a run, and the caller in `run()`; dropped and made anew from the journal."""

    __slots__ = (
        "_clock_ms",
        "_delivering",
        "_inbox",
        "_journal",
        "_main",
        "_random",
        "_started_ms",
        "_timer",
        "_unstarted",
        "_uses",
        "activation",
        "check",
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
        "reply_prefix",
        "type",
        "_versions",
        "_versions_unwritten",
        "workflow",
        "working",
    )

    def __init__(
        self, engine: Engine, activation: Activation, started: Started, fold: Fold | None = None
    ) -> None:
        """`fold` is what the journal holds beyond the first record; None for a run that is just started."""
        self.engine = engine
        self.activation = activation
        self.type: WorkflowType = activation.type  # type: ignore[assignment]
        self.workflow: Workflow = activation.instance  # type: ignore[assignment]
        self.fold = fold
        self.loop: ReplayLoop = _NEW_LOOP(started.at_ms, activation.number or 0)
        self.correlation_id = started.correlation_id
        self._clock_ms = engine.system.clock.now_ms
        self._random: random.Random | None = None
        self._started_ms = started.at_ms
        self.next_position = 1 if fold is None else fold.next_position
        # What run() asked for and hasn't got, by name and use.
        self.pending: dict[tuple[str, int], Op] = {}
        # Follows the delivery of what is recorded; None when that is over.
        self.check: ReplayCheck | None = None
        # Attempts and calls in progress outside.
        self.working = 0
        self.has_slot = False
        self.dropped = False
        self.replaying = True
        # The input of a run that was just started, decoded already.
        self.first_input: object = msgspec.UNSET
        # Replies to calls that unfinished steps made before a crash, by row key.
        self.replies: dict[bytes, bytes] = {}
        self._journal = journal_prefix(activation.base)
        self.reply_prefix = activation.base + layout.REPLY
        self._inbox: list[Outcome] = []
        self._unstarted: list[Op] = []
        self._uses: dict[str, int] = {}
        self._main: asyncio.Task[object] | None = None
        self._delivering = False
        # What `version` gave for each tag, and the records of it that wait for the next commit.
        self._versions: dict[str, int] | None = None if fold is None else fold.versions
        self._versions_unwritten: list[VersionTaken] | None = None
        self._timer: Any = None  # the clock's, while steps are in progress beside timers
        self.workflow._live = self  # pyright: ignore[reportPrivateUsage]

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
        given_name: str | None,
        retry: Retry | None,
        timeout: Duration | None,
        thread: bool,
    ) -> OpFuture:
        """A step begins; its future is run()'s."""
        if CALLER.get() is not self:
            raise self._not_inside()
        if self.dropped:
            return self._never()
        kind = self.type
        plan = self.engine.step_plan(function)
        name = plan.name if given_name is None else self._checked_name(given_name)
        if thread and plan.is_async:
            raise CallerError(f"{self.activation.ref}: step {name} is async, so it can't run in a thread")
        if timeout is None:
            timeout_seconds = kind.step_timeout_seconds
        else:
            timeout_seconds = to_seconds(timeout, what=f"timeout of step {name}")
            if timeout_seconds == 0:
                raise CallerError(f"{self.activation.ref}: the timeout of step {name} must be more than 0")
        uses = self._uses
        nth = uses[name] = uses.get(name, 0) + 1
        op = StepOp(self, name, nth, function, plan, args, retry or kind.retry, thread, timeout_seconds)
        self.pending[name, nth] = op
        self._unstarted.append(op)
        return op.future

    def _checked_name(self, name: object) -> str:
        if (
            not isinstance(name, str)
            or not 0 < len(name) <= MAX_STEP_NAME_CHARACTERS
            or not name.isprintable()
        ):
            raise InvalidKey(
                f"{self.activation.ref}: the name of a step must have 1 to {MAX_STEP_NAME_CHARACTERS} "
                f"printable characters; got {name!r}"
            )
        return name

    async def call(
        self, ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        """See `Caller`: in run()'s context the run is the caller, and an actor call becomes an op of it."""
        return await self.request_call(ref, plan, args, kwargs)

    def request_call(
        self, ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> OpFuture:
        """run() calls an actor; that is a step by itself."""
        if CALLER.get() is not self:
            raise self._not_inside()
        if self.dropped:
            return self._never()
        if ref.system is not self.engine.system:
            raise CallerError(
                f"{self.activation.ref}: {ref} lives in another runtime, whose commits are not this "
                f"run's; call it in a step"
            )
        name = f"{ref}.{plan.name}"
        args, kwargs = plan.check_arguments(args, kwargs, ref)
        nth = self._uses[name] = self._uses.get(name, 0) + 1
        op = CallOp(self, name, nth, ref, plan, args, kwargs)
        self.pending[name, nth] = op
        self._unstarted.append(op)
        return op.future

    def version(self, tag: str, number: int) -> int:
        """See `Workflow.version`."""
        if CALLER.get() is not self:
            raise self._not_inside()
        check_version(tag, number, str(self.activation.ref))
        if self.dropped:
            return number
        if self._versions is None:
            self._versions = {}
        taken = self._versions.get(tag)
        if taken is None:
            # Nothing has happened behind this point, or else it happened before the call was in the code.
            taken = 0 if self.check is not None and self.check.has_passed() else number
            self._versions[tag] = taken
            if taken:
                if self._versions_unwritten is None:
                    self._versions_unwritten = []
                self._versions_unwritten.append(VersionTaken(self.loop.now_ms, tag, number))
        if taken > number:
            self._halt(newer_version(self, tag, taken, number))
        return taken

    def write_versions(self, writes: Writes) -> None:
        """Add the records of what `version` gave to a write set that the caller stages at once."""
        versions, self._versions_unwritten = self._versions_unwritten, None
        if versions is None:
            return
        for record in versions:
            self.add_record(record, writes)
        caller = CALLER.get()
        if isinstance(caller, Turn) and not caller.over and caller.root.writes is writes:
            # The turn of an actor that run() called, which may still roll back.
            after_rollback(caller, lambda: self._write_again(versions))

    def _write_again(self, versions: list[VersionTaken]) -> None:
        self._versions_unwritten = versions + (self._versions_unwritten or [])

    def _halt(self, divergence: Divergence) -> None:
        """run() may not go on: whatever it asks for from here on never ends, and the run is stuck at once.

        Not in this very moment, since its code is running.
        """
        self.dropped = True
        self.engine.system.loop.call_soon(self._halted, divergence)

    def _halted(self, divergence: Divergence) -> None:
        self.dropped = False
        if self.activation.gone:  # a failed commit undid it meanwhile: it begins anew from the disk
            self.engine.let_go(self)
        else:
            self.diverged(divergence)

    def _not_inside(self) -> CallerError:
        return CallerError(
            f"{self.activation.ref}: steps are begun by run() itself, not inside a step or after the run"
        )

    def _never(self) -> OpFuture:
        """What a `finally` block of a run that leaves memory waits for."""
        future = OpFuture(loop=self.loop)
        future.op = None
        return future

    # -- replay --------------------------------------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether `begin` was called."""
        return self._main is not None

    def begin(self) -> None:
        """Start run() and deliver what is recorded; afterwards the run is live."""
        context = Context()  # what the starter's context variables held is not there on replay
        context.run(CALLER.set, self)
        kind, fold = self.type, self.fold
        run = cast("Callable[..., CoroutineType[Any, Any, object]]", cast("Any", self.workflow).run)
        if not kind.takes_input:
            coroutine = run()
        elif fold is None:
            coroutine = run(self.first_input)  # fresh from the codec, as it would be from disk
            self.first_input = msgspec.UNSET
        else:
            coroutine = run(kind.decode_input(fold.input))
        self._main = MainTask(coroutine, loop=self.loop, name="run", context=context)
        if fold is None:
            self._run_to_rest()
        else:
            self.fold = None
            self._replay(fold, coroutine.cr_frame)
        if self.dropped:
            return
        self.replaying = False
        self._after_delivery()

    def _replay(self, fold: Fold, frame: FrameType | None) -> None:
        """Deliver what is recorded, in order; run() ends up where it was, or the run is stuck."""
        check = self.check = ReplayCheck(self, fold, frame)
        self.loop.timer_given_up = check.given_up
        self._delivering = True
        try:
            self._run_to_rest()
            differs = None if self.dropped else self._deliver_recorded(fold, check)
        finally:
            self._delivering = False
            self.check = self.loop.timer_given_up = None
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

    def _deliver_recorded(self, fold: Fold, check: ReplayCheck) -> Divergence | None:
        main = self._main
        assert main is not None
        for position, outcome in fold.outcomes:
            differs = check.next_is(position, outcome, has_ended=main.done())
            if differs is not None:
                return differs
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

    def arrived_in_task(self, outcome: Outcome) -> None:
        """The same from inside a task; a callback of the task that ends with it calls `deliver_all`."""
        self._inbox.append(outcome)

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
            self.activation.commit(writes, reserve=True)
            if not self.dropped:
                self._after_delivery()
        except StorageError as error:
            _log.error("a step of %s could not be recorded: %s", self.activation.ref, error)
            self.engine.let_go(self)

    def _deliver(self, outcome: Outcome) -> None:
        """Hand an outcome to the code that waits for it, if there is any, and run that to rest."""
        loop = self.loop
        if outcome.at_ms > loop.now_ms:
            loop.now_ms = outcome.at_ms
        if outcome.__class__ is TimerFired:
            if not loop.fire(outcome.nth):
                return
        else:
            answer: StepDone | StepFailed = outcome  # type: ignore[assignment]
            op = self.pending.pop((answer.name, answer.nth), None)
            if op is None:
                return
            future = op.future
            future.op = None
            if future.done():
                pass
            elif isinstance(answer, StepFailed):
                future.set_exception(StepError(answer.name, answer.nth, answer.attempts, answer.error))
            else:
                check = self.check
                future.set_result(op.result if check is None else check.decode(op, answer))
        self._run_to_rest()

    def _run_to_rest(self) -> None:
        try:
            self.loop.run_until_rest()
        except ForeignAwait as error:
            self.stuck(record_error(error))
        except KeyboardInterrupt as error:  # not run()'s doing: it goes on when the folder is opened again
            raise_soon(self.engine.system.loop, error)
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
        if self.dropped:
            return
        # Most often everything asked for is in progress and there is nothing to be woken for.
        working = self.working
        if not working or working < len(self.pending) or self.loop.timers or self._timer is not None:
            self._settle()

    def op_cancelled(self, op: Op) -> None:
        """run() gave an op up."""
        key = (op.name, op.nth)
        if self.pending.pop(key, None) is not None and self.check is not None:
            self.check.given_up(key)
        if not self.replaying:
            op.abandon()
            if op.replies:
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
            status, head.created_ms, at_ms, error, head.correlation_id, head.fingerprint, rested
        )
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
        if self.dropped:  # halted while it ran
            if writes:
                self.activation.commit(writes, reserve=True)
            return
        record, raised = end_of(main, self.loop, self.type, self.now_ms())
        self.engine.ended(self, "complete" if raised is None else "failed", record, raised, writes)

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
        close_tasks(self.loop, self._main, self)
        # Take the rings of references apart, so that memory comes back without the collector.
        self._main = None
        self.workflow.__dict__.pop("_live", None)

    def failed_commit(self) -> StorageFailed | None:
        """Why a commit that this run rests on failed, if one did."""
        return self.engine.system.store.group_commit.failure(self.activation.dep)
