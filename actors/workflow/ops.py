"""What `run()` asked for: a step or an actor call, from the request to its record.

asked -> started -> done | failed               (recorded, then delivered)
                 -> retry waits -> started      (the attempt is recorded)
any   -> abandoned                              (run() gave it up, or the run left memory)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ...runtime.call import run as run_turn
from ...runtime.chain import CALLER, Turn, after_commit
from ...runtime.codec import encode, encode_unchecked
from ...runtime.errors import InvalidResult
from ...storage.errors import InvalidValue, Overloaded, StorageError, StorageFailed
from ..errors import BodyExit, Fatal, StepOver, record_error
from .journal import AttemptFailed, StepDone, StepFailed
from .replay_loop import ReplayFuture
from .step_plan import MAX_RESULT_BYTES

if TYPE_CHECKING:
    from ...runtime.methods import MethodPlan
    from ...runtime.ref import Ref
    from .live_run import LiveRun
    from .retry import Retry
    from .step_plan import StepPlan

_log = logging.getLogger("holdfast.workflow")

# Which attempt the running code belongs to; None outside step bodies.
ATTEMPT: ContextVar[StepScope | None] = ContextVar("holdfast_attempt", default=None)
_CALL_DIGEST_BYTES: Final = 16
_CALL_NUMBER_BYTES: Final = 4


class OpFuture(ReplayFuture[Any]):
    """A future of run()'s loop that tells its op when run() gives it up."""

    __slots__ = ("op",)

    # Until the outcome is delivered; taken away then, so that no ring of references is left.
    op: Op | None

    def cancel(self, msg: object | None = None) -> bool:
        """Give the op up; False when it is done."""
        if not super().cancel(msg):
            return False
        op, self.op = self.op, None
        if op is not None:
            op.run.op_cancelled(op)
        return True


class Op:
    """Common to both kinds."""

    __slots__ = ("active", "attempts", "future", "name", "next_ms", "nth", "over", "result", "run", "task")

    def __init__(self, run: LiveRun, name: str, nth: int) -> None:
        self.run = run
        self.name = name
        self.nth = nth
        # Attempts that failed so far.
        self.attempts: int = 0
        # When the next attempt is due; None while one is in progress (or none failed).
        self.next_ms: int | None = None
        future = self.future = OpFuture(loop=run.loop)
        future.op = self
        self.task: asyncio.Future[Any] | None = None
        # An attempt is in progress (it may still wait at the gate) and counts among those at work.
        self.active = False
        self.over = False
        # What run() gets when it is live: what the codec made of the result, as on replay.
        self.result: object = None

    def start(self) -> None:
        """Begin an attempt as soon as that may be; a retry that isn't due yet goes on waiting."""
        if self.next_ms is None:
            self.active = True
            self.run.working += 1
            self.begin()

    def begin(self) -> None:
        raise AssertionError("each kind begins in its own way")

    def decode_result(self, encoded: msgspec.Raw) -> object:
        """A recorded result as run() gets it."""
        raise AssertionError("each kind decodes in its own way")

    def abandon(self) -> None:
        """Stop what is in progress; nothing of it is recorded any more."""
        self.over = True
        if self.active:
            self.active = False
            self.run.working -= 1
        task, self.task = self.task, None
        if task is not None and not task.done():
            task.cancel()

    def __str__(self) -> str:
        """For messages: run, step and attempt."""
        return self.describe(self.attempts + 1)

    def describe(self, attempt: int) -> str:
        """For messages: run, step and attempt."""
        use = "" if self.nth == 1 else f" (use {self.nth})"
        return f"{self.run.activation.ref}, step {self.name}{use}, attempt {attempt}"


class StepOp(Op):
    """A step: a function outside the journal, at least once until its outcome is recorded, never after."""

    __slots__ = (
        "args",
        "function",
        "plan",
        "replies",
        "retry",
        "scope",
        "thread",
        "timeout_seconds",
    )

    def __init__(
        self,
        run: LiveRun,
        name: str,
        nth: int,
        function: Callable[..., object],
        plan: StepPlan,
        args: tuple[object, ...],
        retry: Retry,
        thread: bool,
        timeout_seconds: float | None,
    ) -> None:
        super().__init__(run, name, nth)
        self.function = function
        self.plan = plan
        self.args = args
        self.retry = retry
        self.thread = thread
        self.timeout_seconds = timeout_seconds
        # The attempt in progress.
        self.scope: StepScope | None = None
        # Rows of the calls that its attempts made, with the replies: see StepScope.
        self.replies: dict[bytes, tuple[bytes, int]] | None = None

    def begin(self) -> None:
        """Wait at the gate, then run the body."""
        run = self.run
        run.engine.system.store.group_commit.on_durable(run.activation.dep, self._run_body)

    def _run_body(self, failure: StorageFailed | None) -> None:
        run = self.run
        if failure is not None or self.over or run.dropped:
            return  # the run was dropped with the commit, or gave the step up
        loop, plan = run.engine.system.loop, self.plan
        scope = self.scope = StepScope(self)
        function = self.function
        if run.engine.wrap_body is not None:
            function = run.engine.wrap_body(self, function)
        result: object = None
        task: asyncio.Future[Any] | None = None
        token = CALLER.set(scope)
        attempt_token = ATTEMPT.set(scope)
        try:
            args = plan.copy_arguments(self.args, self) if self.args else ()
            if self.thread:
                context = copy_context()
                call: Callable[[], object] = lambda: context.run(_in_thread, function, args)  # noqa: E731
                task = loop.run_in_executor(None, call)
            elif plan.is_async:
                task = loop.create_task(_in_task(function, args))
            else:
                result = function(*args)
                if hasattr(result, "__await__"):
                    task = loop.create_task(_in_task(lambda: result, ()))
                    if asyncio.iscoroutine(
                        result
                    ):  # nobody awaits it when the task is cancelled before it begins
                        task.add_done_callback(lambda _: result.close())
        except BaseException as error:  # what left here would stop the commits of all
            if isinstance(error, KeyboardInterrupt):
                loop.call_soon(_raise, error)
            self._failed(scope, error)
            return
        finally:
            ATTEMPT.reset(attempt_token)
            CALLER.reset(token)
        if task is None:
            self._succeeded(scope, result)
            return
        self.task = task
        task.add_done_callback(scope.body_done)
        if self.timeout_seconds is not None:
            run.engine.deadlines.begin(self, self.timeout_seconds)

    def body_done(self, scope: StepScope, task: asyncio.Future[Any]) -> None:
        """The task of an attempt's body ended."""
        if scope is not self.scope or self.over or self.run.dropped:
            if not task.cancelled():
                task.exception()  # a late outcome changes nothing
        elif task.cancelled():
            self._failed(scope, asyncio.CancelledError("the step's task was cancelled"))
        elif (error := task.exception()) is not None:
            self._failed(scope, error)
        else:
            self._succeeded(scope, task.result())

    def timed_out(self) -> None:
        """The time of the attempt in progress is up."""
        scope, task = self.scope, self.task
        if scope is None or self.over or self.run.dropped:
            return
        self._failed(scope, TimeoutError(f"the attempt took longer than {self.timeout_seconds:g} s"))
        if task is not None:
            task.cancel()

    def _attempt_over(self, scope: StepScope) -> None:
        scope.over = True
        self.scope = None
        self.active = False
        self.run.working -= 1
        if self.task is not None:
            self.task = None
            self.run.engine.deadlines.end(self)

    def _succeeded(self, scope: StepScope, result: object) -> None:
        try:
            encoded, self.result = self.plan.encode_result(result, self)
        except Fatal as error:
            self._failed(scope, error)
            return
        self._attempt_over(scope)
        run = self.run
        run.record_outcome(
            StepDone(run.now_ms(), self.name, self.nth, self.attempts + 1, msgspec.Raw(encoded)),
            dict.fromkeys(self.replies) if self.replies else {},
        )

    def _failed(self, scope: StepScope, error: BaseException) -> None:
        where = str(self)
        self._attempt_over(scope)
        run = self.run
        if isinstance(error, StorageFailed) and run.failed_commit() is not None:
            return  # the run itself is undone and begins anew from the disk
        self.attempts += 1
        now_ms = run.now_ms()
        record = record_error(error)
        final = isinstance(error, Fatal) or self.attempts > self.retry.limit
        if final:
            _log.warning("%s failed for good: %s", where, record, extra=run.engine.log_fields(run, self))
            run.record_outcome(
                StepFailed(now_ms, self.name, self.nth, self.attempts, record),
                dict.fromkeys(self.replies) if self.replies else {},
            )
            return
        seconds = self.retry.wait_seconds(self.attempts, run.engine.system.random)
        self.next_ms = now_ms + round(seconds * 1000)
        _log.info(
            "%s failed, next in %.3f s: %s", where, seconds, record, extra=run.engine.log_fields(run, self)
        )
        run.engine.attempt_failed(
            run, AttemptFailed(now_ms, self.name, self.nth, self.attempts, record, self.next_ms)
        )

    def known_reply(self, row: bytes) -> tuple[bytes, int] | None:
        """What an attempt before got under a row, and the commit it rests on; None when that didn't happen.

        Replies from before a crash were loaded with the run.
        """
        replies = self.replies
        if replies is None:
            replies = self.replies = {}
        known = replies.get(row)
        loaded = self.run.replies
        if known is None and loaded and row in loaded:
            known = replies[row] = (loaded.pop(row), 0)
        if known is not None and self.run.engine.system.store.group_commit.failure(known[1]) is not None:
            del replies[row]  # the commit was lost, and the effect with it
            return None
        return known

    def decode_result(self, encoded: msgspec.Raw) -> object:
        """See `Op.decode_result`."""
        return self.plan.decode_result(encoded)

    def abandon(self) -> None:
        """See `Op.abandon`."""
        if self.scope is not None:
            self.scope.over = True
            self.scope = None
            self.run.engine.deadlines.end(self)
        super().abandon()


async def _in_task(function: Callable[..., Any], args: tuple[object, ...]) -> object:
    """A body as a task: a `SystemExit` fails the attempt in place of ending the event loop."""
    try:
        result = function(*args)
        return await result if hasattr(result, "__await__") else result
    except SystemExit as error:
        raise BodyExit(f"the body raised SystemExit({error.code!r})") from error


def _in_thread(function: Callable[..., object], args: tuple[object, ...]) -> object:
    try:
        return function(*args)
    except StopIteration as error:  # no future takes it
        raise RuntimeError("the body raised StopIteration") from error


def _raise(error: BaseException) -> None:
    raise error


class CallOp(Op):
    """An actor call of run() itself: its reply is recorded in the very commit of its effect, so it happens
    exactly once.
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
        dep, reply, error = await run_turn(
            self.ref, self.plan, self.args, self.kwargs, None, None if self.plan.shared else self._attach
        )
        if self.plan.shared and error is None:
            # Commits are ordered, so the record that is staged next can't be durable before what the reply
            # rests on.
            self.result, self.rests_on = reply, dep
        return error

    def _attach(self, turn: Turn, reply: object) -> None:
        """Just before the callee's turn ends: the run's record joins its commit."""
        run = self.run
        if self.over or run.dropped:
            raise StepOver(f"{self}: the run gave the call up")
        self.result = reply
        outcome = StepDone(
            run.now_ms(), self.name, self.nth, self.attempts + 1, msgspec.Raw(_encode_reply(turn, reply))
        )
        writes = turn.root.writes
        run.add_record(outcome, writes)
        if not run.activation.stored:
            raise AssertionError("a run is stored before it calls anybody")

        def committed(number: int) -> None:
            self.committed = True
            run.activation.dep = max(run.activation.dep, number)
            if not run.dropped:
                self._over()
                run.arrived_in_task(outcome)

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
            run.record_outcome(outcome, {})
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
                StepFailed(now_ms, self.name, self.nth, self.attempts, record_error(error)), {}
            )

    def decode_result(self, encoded: msgspec.Raw) -> object:
        """See `Op.decode_result`."""
        return self.plan.decode_result(bytes(encoded))


class StepScope:
    """The caller in a step's body: an actor call takes effect exactly once, also over the step's retries
    (P6).

    A call's id is the run, the step and the how-manyth call of that method with those arguments.  The
    callee's commit keeps the reply under that id; a later attempt that makes the same call gets the reply;
    the commit of the step's outcome deletes it.  A call that raised took no effect and isn't counted: when
    the body makes it again and it succeeds, that reply is what the same call of a later attempt gets.
    """

    __slots__ = ("_unused", "_uses", "attempt", "op", "over")

    def __init__(self, op: StepOp) -> None:
        self.op = op
        # Its own, also when it goes on while a later one runs.
        self.attempt = op.attempts + 1
        self.over = False
        self._uses: dict[bytes, int] | None = None
        # Rows of calls that raised, by the digest of the call: for the next calls of that kind.
        self._unused: dict[bytes, list[bytes]] | None = None

    def __str__(self) -> str:
        """For messages: run, step and attempt."""
        return self.op.describe(self.attempt)

    def body_done(self, task: asyncio.Future[Any]) -> None:
        """The body's task ended."""
        self.op.body_done(self, task)

    async def call(
        self, ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> object:
        op = self.op
        if self.over:
            raise StepOver(f"{self}: the attempt is over, so {ref}.{plan.name} is not called")
        if ref.system is not op.run.engine.system:
            return await _call_elsewhere(ref, plan, args, kwargs)
        commits = op.run.engine.system.store.group_commit
        if plan.shared:
            args, kwargs = plan.check_arguments(args, kwargs, ref)
            dep, reply, error = await run_turn(ref, plan, args, kwargs, None, None)
        else:
            args, kwargs, encoded = plan.encode_arguments(args, kwargs, ref)
            row = self._row(ref.directory_key + plan.name.encode() + encoded)
            known = op.known_reply(row)
            if known is not None:
                await commits.wait_durable(known[1])
                return plan.decode_result(known[0])
            kept = KeptReply(self, row)
            try:
                dep, reply, error = await run_turn(ref, plan, args, kwargs, None, kept)
            except BaseException:
                self._take_back(row)
                raise
            if error is None:
                self.keep(row, kept.encoded, dep)
            else:
                self._take_back(row)
        try:  # the gate
            waiter = commits.waiter(dep)
            if waiter is not None:
                await waiter
        except StorageFailed as failure:
            raise failure from error
        if error is not None:
            try:
                raise error
            finally:
                del error  # its trace holds this frame, and with it all that the call was given
        return reply

    def _row(self, identity: bytes) -> bytes:
        op = self.op
        digest = blake2b(
            b"%d %b\0%b" % (op.nth, op.name.encode(), identity), digest_size=_CALL_DIGEST_BYTES
        ).digest()
        uses = self._uses
        if uses is None:
            uses = self._uses = {}
        if self._unused is not None and (unused := self._unused.get(digest)):
            unused.sort()
            return unused.pop(0)
        nth = uses[digest] = uses.get(digest, 0) + 1
        return op.run.reply_prefix + digest + nth.to_bytes(_CALL_NUMBER_BYTES, "big")

    def _take_back(self, row: bytes) -> None:
        """The call of this row raised: the next one of its kind has the number."""
        if self._unused is None:
            self._unused = {}
        digest = row[-_CALL_NUMBER_BYTES - _CALL_DIGEST_BYTES : -_CALL_NUMBER_BYTES]
        self._unused.setdefault(digest, []).append(row)

    def start_row(self, what: bytes) -> bytes:
        """The row under which this attempt's next start of a run is remembered."""
        if self.over:
            raise StepOver(f"{self}: the attempt is over, so it starts no run")
        return self._row(b"start " + what)

    def keep(self, row: bytes, reply: bytes, number: int) -> None:
        """Remember what commit `number` keeps under a row."""
        assert self.op.replies is not None
        self.op.replies[row] = (reply, number)


async def _call_elsewhere(
    ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]
) -> object:
    """A call to an actor of another runtime: its commits can't keep this run's rows, so it is made at least
    once.
    """
    args, kwargs = plan.check_arguments(args, kwargs, ref)
    dep, reply, error = await run_turn(ref, plan, args, kwargs, None, None)
    try:
        await ref.system.store.wait_durable(dep)
    except StorageFailed as failure:
        raise failure from error
    if error is not None:
        raise error
    return reply


def _encode_reply(turn: Turn, reply: object) -> bytes:
    """A reply as it is kept with its call's id; raises `InvalidResult` when it is too large for that."""
    encoded = encode_unchecked(reply)
    if len(encoded) > MAX_RESULT_BYTES:
        raise InvalidResult(
            f"{turn} returned {len(encoded)} bytes to a workflow, which keeps at most {MAX_RESULT_BYTES}: "
            f"store them elsewhere"
        )
    return encoded


class KeptReply:
    """Adds the reply to the callee's commit, just before its turn ends."""

    __slots__ = ("_row", "_scope", "encoded")

    def __init__(self, scope: StepScope, row: bytes) -> None:
        self._scope = scope
        self._row = row
        self.encoded = b""

    def __call__(self, turn: Turn, reply: object) -> None:
        if self._scope.over:
            raise StepOver(f"{self._scope}: the attempt is over, so {turn} is undone")
        self.encoded = turn.root.writes[self._row] = _encode_reply(turn, reply)
