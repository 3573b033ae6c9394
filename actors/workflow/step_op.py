"""A step in progress: attempt after attempt of a function, until its outcome is recorded.

Steps 2 to 4 of the way of a workflow step.  The body runs in the outer loop, or in a thread, with a
`StepScope` as the caller of all that it calls.

Promises
  * P3: a body begins when everything that was recorded before is durable.
  * P6: an actor call in a body takes effect exactly once, over all attempts; see exact_calls.py.
  * Whatever a body raises fails the attempt and stops nobody else; only a KeyboardInterrupt goes on, to the
    outer loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from ...runtime.call import run as run_turn
from ...runtime.call import wait_gate
from ...runtime.chain import CALLER
from ...storage.errors import StorageFailed
from ..errors import BodyExit, Fatal, RetryAfter, StepOver, record_error
from .exact_calls import ExactCaller, KeptReply, call_identity, op_id
from .heartbeats import Heartbeat, heartbeat_key
from .journal import AttemptFailed, StepDone, StepFailed
from .ops import Op, raise_soon
from .run_log import run_fields

if TYPE_CHECKING:
    from ...runtime.methods import MethodPlan
    from ...runtime.ref import Ref
    from ...storage.group_commit import Writes
    from ..tracing import AttemptSpan
    from .live_run import LiveRun
    from .retry import Retry
    from .step_plan import StepPlan

_log = logging.getLogger("holdfast.workflow")

# Which attempt the running code belongs to; None outside step bodies.
ATTEMPT: ContextVar[StepScope | None] = ContextVar("holdfast_attempt", default=None)


class StepOp(Op):
    """A step: a function outside the journal, at least once until its outcome is recorded, never after."""

    __slots__ = (
        "_beat", "args", "function", "has_beaten", "heartbeat_seconds", "plan", "retry", "scope",
        "span_before", "thread", "timeout_seconds",
    )  # fmt: skip

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
        # An attempt that doesn't tell that it goes on for so long has failed; see heartbeats.py.
        self.heartbeat_seconds: float | None = None
        self.has_beaten = False
        self._beat: Heartbeat | None = None
        # The span of the attempt before this one, where somebody traces.
        self.span_before: AttemptSpan | None = None

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
        span: AttemptSpan | None = None
        if run.engine.system.telemetry is not None:
            span = scope.span = run.engine.system.telemetry.attempt_begins(scope)
            span.enter()
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
                    if asyncio.iscoroutine(result):
                        # Nobody awaits it when the task is cancelled before it begins.
                        task.add_done_callback(lambda _: result.close())
        except BaseException as error:  # what left here would stop the commits of all
            if isinstance(error, KeyboardInterrupt):
                raise_soon(loop, error)
            self._failed(scope, error)
            return
        finally:
            ATTEMPT.reset(attempt_token)
            CALLER.reset(token)
            if span is not None:
                span.leave()
        if task is None:
            self._succeeded(scope, result)
            return
        self.task = task
        task.add_done_callback(scope.body_done)
        if self.timeout_seconds is not None:
            run.engine.deadlines.begin(self, self.timeout_seconds)
        if self.heartbeat_seconds is not None:
            self._beat = Heartbeat(self, self.heartbeat_seconds)

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

    def stopped_beating(self) -> None:
        """The attempt in progress didn't tell for too long that it goes on."""
        scope, task = self.scope, self.task
        if scope is None or self.over or self.run.dropped:
            return
        self._failed(scope, TimeoutError(f"the attempt sent no heartbeat for {self.heartbeat_seconds:g} s"))
        if task is not None:
            task.cancel()

    def beat(self, scope: StepScope, data: bytes | None) -> None:
        """An attempt tells that it goes on, with what a later one should know; in the loop's thread."""
        if scope is not self.scope or self.over or self.run.dropped:
            return
        if self._beat is not None:
            self._beat.beat()
        if data is not None:
            self.has_beaten = True
            self.run.activation.commit({heartbeat_key(self): data}, reserve=True)

    def last_beat(self) -> bytes | None:
        """What an attempt told last, also before a crash."""
        stored = self.run.engine.system.store.get(heartbeat_key(self))
        if stored is not None:
            self.has_beaten = True
        return stored

    def reply_deletes(self) -> Writes:
        """See `Op.reply_deletes`."""
        if not self.has_beaten:
            return dict.fromkeys(self.replies) if self.replies else {}
        return {**super().reply_deletes(), heartbeat_key(self): None}

    def _attempt_over(self, scope: StepScope) -> None:
        counts = self.run.type.counts
        step = counts.steps.get(self.name) or counts.step(self.name)
        step.seconds.observe(perf_counter() - scope.began)
        if scope.span is not None:
            scope.span.end()
            self.span_before = scope.span
        scope.over = True
        self.scope = None
        self.active = False
        self.run.working -= 1
        if self.task is not None:
            self.task = None
            self.run.engine.deadlines.end(self)
        if self._beat is not None:
            self._beat.stop()
            self._beat = None

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
            self.reply_deletes(),
        )

    def _failed(self, scope: StepScope, error: BaseException) -> None:
        where, seconds_taken = str(self), perf_counter() - scope.began
        if scope.span is not None:
            scope.span.failed(error)
        self._attempt_over(scope)
        run = self.run
        if isinstance(error, StorageFailed) and run.failed_commit() is not None:
            return  # the run itself is undone and begins anew from the disk
        self.attempts += 1
        now_ms = run.now_ms()
        record = record_error(error)
        final = isinstance(error, Fatal) or self.attempts > self.retry.limit
        counts = run.type.counts.step(self.name)
        counts.failures += 1
        counts.retries += not final
        fields = run_fields(
            run.activation.ref,
            correlation_id=run.correlation_id,
            step=self.name,
            attempt=self.attempts,
            duration_ms=round(seconds_taken * 1000),
        )
        if final:
            _log.warning("%s failed for good: %s", where, record, extra=fields)
            run.record_outcome(
                StepFailed(now_ms, self.name, self.nth, self.attempts, record),
                self.reply_deletes(),
            )
            return
        seconds = self.retry.wait_seconds(self.attempts, run.engine.system.random)
        if isinstance(error, RetryAfter):
            seconds = max(seconds, min(error.seconds, self.retry.cap_seconds))
        self.next_ms = now_ms + round(seconds * 1000)
        _log.info("%s failed, next in %.3f s: %s", where, seconds, record, extra=fields)
        run.engine.attempt_failed(
            run, AttemptFailed(now_ms, self.name, self.nth, self.attempts, record, self.next_ms)
        )

    def decode_result(self, encoded: msgspec.Raw) -> object:
        """See `Op.decode_result`."""
        return self.plan.decode_result(encoded)

    def abandon(self) -> None:
        """See `Op.abandon`."""
        if self.scope is not None:
            if self.scope.span is not None:
                self.scope.span.end()
            self.scope.over = True
            self.scope = None
            self.run.engine.deadlines.end(self)
        if self._beat is not None:
            self._beat.stop()
            self._beat = None
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


class StepScope(ExactCaller):
    """The caller in a step's body: an actor call takes effect exactly once, also over the step's retries
    (P6); see exact_calls.py.

    A call's id is the run, the step and the how-manyth call of that method with those arguments.  A later
    attempt that makes the same call gets the reply that was kept.
    """

    __slots__ = ("attempt", "began", "over", "span")

    op: StepOp

    def __init__(self, op: StepOp) -> None:
        # As the base class does it, in one call less for each step.
        self.op = op
        self._uses = None
        self._unused = None
        # Its own, also when it goes on while a later one runs.
        self.attempt = op.attempts + 1
        self.began = perf_counter()
        self.over = False
        self.span: AttemptSpan | None = None

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
        system = ref.system
        if system is not op.run.engine.system:
            return await _call_elsewhere(ref, plan, args, kwargs)
        commits = system.store.group_commit
        if plan.shared:
            args, kwargs = plan.check_arguments(args, kwargs, ref)
            # What it calls counts as called by the body.
            dep, reply, error = await run_turn(ref, plan, args, kwargs, None, self)
        else:
            args, kwargs, encoded = plan.encode_arguments(args, kwargs, ref)
            row = self.row_of(call_identity(ref, plan, encoded))
            known = op.known_reply(row)
            if known is not None:
                await commits.wait_durable(known[1])
                return plan.decode_result(known[0])
            kept = KeptReply(self, row)
            try:
                dep, reply, error = await run_turn(ref, plan, args, kwargs, None, kept)
            except BaseException as raised:
                kept.ended(raised)
                self.take_back(row)
                raise
            if kept.calls is not None or error is not None:
                kept.ended(error)
            if error is None:
                op.keep_reply(row, kept.encoded, dep)
            else:
                self.take_back(row)
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

    def attempt_of(self) -> StepScope:
        """See `ExactCaller`."""
        return self

    def id(self) -> bytes:
        """See `ExactCaller`."""
        return op_id(self.op)

    def effect_row(self, what: bytes) -> bytes:
        """The row under which this attempt's next start of a run, or event for one, is remembered."""
        if self.over:
            raise StepOver(f"{self}: the attempt is over, so it starts no run and sends no event")
        return self.row_of(b"start " + what)


async def _call_elsewhere(
    ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]
) -> object:
    """A call to an actor of another runtime: its commits can't keep this run's rows, so it is made at least
    once.
    """
    args, kwargs = plan.check_arguments(args, kwargs, ref)
    dep, reply, error = await run_turn(ref, plan, args, kwargs, None, None)
    await wait_gate(ref.system, dep, error)
    if error is not None:
        raise error
    return reply
