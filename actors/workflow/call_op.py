"""An actor call of `run()` in progress: its record lies in the very commit of its effect.

Steps 2 to 4 of the way of a workflow step.  It waits for no disk, since effect and record are in one log.

Promises
  * P6: the call took effect if and only if it is recorded.
  * An error of the actor is an answer, recorded and not tried again; when the actor didn't answer (an
    overload, the disk), the call is tried again as the workflow's `retry` says.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from ...runtime.call import run as run_turn
from ...runtime.chain import CALLER, Turn, after_commit
from ...runtime.codec import encode
from ...storage.errors import InvalidValue, Overloaded, StorageError, StorageFailed
from ..errors import StepOver, record_error
from .exact_calls import AnsweredCall, TurnCalls, encode_reply, op_id
from .journal import AttemptFailed, StepDone, StepFailed
from .ops import Op

if TYPE_CHECKING:
    from ...runtime.methods import MethodPlan
    from ...runtime.ref import Ref
    from .live_run import LiveRun


class CallOp(Op):
    """An actor call of run() itself: its reply is recorded in the very commit of its effect, so it happens
    exactly once.  What that turn calls keeps its replies, as the calls of a step do.
    """

    __slots__ = ("args", "committed", "kwargs", "plan", "ref", "rests_on")

    def __init__(
        self,
        run: LiveRun,
        name: str,
        nth: int,
        ref: Ref,
        plan: MethodPlan,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> None:
        super().__init__(run, name, nth)
        self.ref = ref
        self.plan = plan
        self.args = args
        self.kwargs = kwargs
        self.committed = False
        # The newest commit that a shared method's reply rests on.
        self.rests_on = 0

    def begin(self) -> None:
        """Make the call in a task of its own; nothing waits for the disk, both lie in one log."""
        token = CALLER.set(None)
        try:
            self.task = self.run.engine.system.loop.create_task(self._call())
        finally:
            CALLER.reset(token)
        self.task.add_done_callback(self._done)

    async def _call(self) -> BaseException | None:
        answer = RecordedReply(self)
        try:
            dep, reply, error = await run_turn(self.ref, self.plan, self.args, self.kwargs, None, answer)
        except BaseException as raised:
            answer.ended(raised)
            raise
        if answer.calls is not None or error is not None:
            answer.ended(error)
        if self.plan.shared and error is None:
            # Commits are ordered, so the record that is staged next can't be durable before what the reply
            # rests on.
            self.result, self.rests_on = reply, dep
        return error

    def record_within(self, turn: Turn, reply: object) -> None:
        """Just before the callee's turn ends: the run's record joins its commit."""
        run = self.run
        if self.over or run.dropped:
            raise StepOver(f"{self}: the run gave the call up")
        self.result = reply
        outcome = StepDone(
            run.now_ms(), self.name, self.nth, self.attempts + 1, msgspec.Raw(encode_reply(turn, reply))
        )
        writes = turn.root.writes
        if self.replies:
            writes.update(self.reply_deletes())
        run.add_record(outcome, writes)
        if not run.activation.stored:
            raise AssertionError("a run is stored before it calls anybody")

        def committed(number: int) -> None:
            self.committed = True
            run.activation.dep = max(run.activation.dep, number)
            if not run.dropped:
                self._over()
                run.arrives_later(outcome)

        after_commit(turn, committed)

    def _over(self) -> None:
        self.task = None
        self.active = False
        self.run.working -= 1

    def _done(self, task: asyncio.Future[Any]) -> None:
        run = self.run
        if self.committed or self.over or run.dropped:
            if not task.cancelled():
                task.exception()
            if self.committed:
                run.deliver_all()
            return
        error: BaseException | None = (
            asyncio.CancelledError("the call's task was cancelled")
            if task.cancelled()
            else task.exception() or task.result()
        )
        if error is None:
            error = run.engine.system.store.group_commit.failure(self.rests_on)
        value = b""
        if error is None:
            try:  # a shared method's reply: plain scalars come here unencoded
                value = encode(self.result, f"the reply to {self}")
            except InvalidValue as mistake:
                error = mistake
        self._over()
        self.attempts += 1
        now_ms = run.now_ms()
        if error is None:
            outcome = StepDone(now_ms, self.name, self.nth, self.attempts, msgspec.Raw(value))
            run.record_outcome(outcome, self.reply_deletes())
        elif isinstance(error, (Overloaded, StorageError)) and self.attempts <= run.type.retry.limit:
            if isinstance(error, StorageFailed) and run.failed_commit() is not None:
                return
            # The actor didn't answer; its own errors are answers and are not tried again.
            seconds = run.type.retry.wait_seconds(self.attempts, run.engine.system.random)
            self.next_ms = now_ms + round(seconds * 1000)
            run.engine.attempt_failed(
                run,
                AttemptFailed(now_ms, self.name, self.nth, self.attempts, record_error(error), self.next_ms),
            )
        else:
            run.record_outcome(
                StepFailed(now_ms, self.name, self.nth, self.attempts, record_error(error)),
                self.reply_deletes(),
            )

    def decode_result(self, encoded: msgspec.Raw) -> object:
        """See `Op.decode_result`."""
        return self.plan.decode_result(bytes(encoded))


class RecordedReply(AnsweredCall):
    """An attempt of a call of run(), in the hands of the turn that answers it: see `ExactCall`."""

    __slots__ = ("op",)

    def __init__(self, op: CallOp) -> None:
        self.calls = None
        self.undone = False
        self.op = op

    @property
    def over(self) -> bool:
        """See `Attempt`."""
        return self.op.over or self.op.run.dropped

    def __str__(self) -> str:
        """For messages: run, call and attempt."""
        return str(self.op)

    def _make_calls(self, turn: Turn) -> TurnCalls:
        return TurnCalls(self, op_id(self.op), turn)

    def keep(self, turn: Turn, reply: object) -> None:
        """See `ExactCall`; raises `StepOver` when run() gave the call up."""
        self.op.record_within(turn, reply)
