"""What `run()` asks for: steps, calls, waits, children; the first half of a run in memory (live_run.py).

Step 1 of the way of a workflow step.  Each request gives `run()` a future of its own loop.  Steps and calls
become ops, known by name and use, and begin when `run()` has come to rest; waits are met from what the
journal delivers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from ...runtime.chain import CALLER, Turn, after_rollback
from ...runtime.durations import Duration, to_seconds
from ...storage.errors import CallerError, InvalidKey
from ..errors import TooManySteps
from .call_op import CallOp
from .children import ChildOp, SendOp, StartOp
from .conditions import Conditions, ConditionWait
from .divergence import newer_version
from .events import EventBox, EventKinds, EventWait
from .journal import Record, VersionTaken
from .ops import Op, OpFuture
from .retry import Retry
from .run_log import run_fields
from .saying import Saying
from .step_op import StepOp
from .undo import UNDO, Undo
from .versions import check_version

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...runtime.methods import MethodPlan
    from ...runtime.ref import Ref
    from ...storage.group_commit import Writes
    from .children import ChildStart
    from .divergence import Divergence, ReplayCheck
    from .engine import Engine
    from .live_run import LiveRun
    from .replay_loop import ReplayLoop
    from .workflow import Workflow
    from .workflow_type import WorkflowType

_log = logging.getLogger("holdfast.workflow")
MAX_STEP_NAME_CHARACTERS: Final = 256


class Asking:
    """The requests of one run."""

    __slots__ = (
        "_box",
        "_conditions",
        "_requested",
        "_said_before",
        "_saying",
        "_unstarted",
        "_uses",
        "_versions",
        "_versions_unwritten",
        "activation",
        "check",
        "children",
        "dropped",
        "engine",
        "loop",
        "pending",
        "type",
        "workflow",
    )

    def __init__(
        self,
        engine: Engine,
        activation: Activation,
        loop: ReplayLoop,
        versions: dict[str, int] | None,
        said: dict[type, int] | None,
        instance: Workflow | None,
    ) -> None:
        """`versions` and `said` are what the journal has; None for a run that is just started."""
        self.engine = engine
        self.activation = activation
        self.type: WorkflowType = activation.type  # type: ignore[assignment]
        self.workflow: Workflow = instance or activation.instance  # type: ignore[assignment]
        # Children that run() asked for, by name and use; most runs ask for none.
        self.children: set[tuple[str, int]] | None = None
        self.loop = loop
        # What run() asked for and hasn't got, by name and use.
        self.pending: dict[tuple[str, int], Op] = {}
        # Follows the delivery of what is recorded; None when that is over.
        self.check: ReplayCheck | None = None
        self.dropped = False
        self._unstarted: list[Op] = []
        self._uses: dict[str, int] = {}
        # How much run() has asked for so far: what gives each its place in the order of undoing.
        self._requested = 0
        # What `version` gave for each tag, and the records of it that wait for the next commit.
        self._versions = versions
        self._versions_unwritten: list[VersionTaken] | None = None
        # Most runs need none of these.
        self._box: EventBox | None = None
        self._conditions: Conditions | None = None
        self._saying: Saying | None = None
        self._said_before = said

    def request_step(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        given_name: str | None,
        retry: Retry | None,
        timeout: Duration | None,
        thread: bool,
        undo: Callable[..., object] | None = None,
        heartbeat: Duration | None = None,
    ) -> OpFuture[Any]:
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
        if retry is not None and not isinstance(cast("object", retry), Retry):
            raise CallerError(
                f"{self.activation.ref}: the retry of step {name} must be a Retry; got {retry!r}"
            )
        requested = self._requested = self._requested + 1
        if requested >= kind.warn_steps:
            self._check_budget(requested)
        uses = self._uses
        nth = uses[name] = uses.get(name, 0) + 1
        # A call for the cast would be one of the dearer things that a step does here.
        me: LiveRun = self  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
        op = StepOp(me, name, nth, function, plan, args, retry or kind.retry, thread, timeout_seconds)
        op.order = requested
        if undo is not None:
            self._check_undo(undo, name)
            op.undo = undo
        if heartbeat is not None:
            seconds = to_seconds(heartbeat, what=f"heartbeat of step {name}")
            if seconds == 0:
                raise CallerError(f"{self.activation.ref}: the heartbeat of step {name} must be more than 0")
            op.heartbeat_seconds = seconds
        self.pending[name, nth] = op
        self._unstarted.append(op)
        return op.future

    def request_undo(self, undo: Undo, value: object) -> OpFuture[Any]:
        """The undo of a step begins: a step by itself."""
        plan = self.engine.step_plan(undo.function)
        name = UNDO + undo.name
        thread = undo.thread and not plan.is_async
        seconds = self.type.step_timeout_seconds
        nth = self._next_use(name)
        return self._ask(
            StepOp(self._me(), name, nth, undo.function, plan, (value,), undo.retry, thread, seconds)
        )

    def _me(self) -> LiveRun:
        return cast("LiveRun", self)

    def _check_undo(self, undo: object, name: str) -> None:
        if not callable(undo):
            raise CallerError(
                f"{self.activation.ref}: the undo of step {name} must be a function of its result; "
                f"got {undo!r}"
            )

    @property
    def steps_left(self) -> int:
        """See `Workflow.steps_left`."""
        return max(0, self.type.max_steps - self._requested)

    def _check_budget(self, requested: int) -> None:
        kind = self.type
        if requested <= kind.max_steps:
            if requested == kind.warn_steps and self.check is None:
                _log.warning(
                    "run %s has asked for %d of max_steps=%d steps; it should continue as new",
                    self.activation.ref,
                    requested,
                    kind.max_steps,
                    extra=run_fields(self.activation.ref),
                )
            return
        raise TooManySteps(
            f"{self.activation.ref}: run() asked for more than max_steps={self.type.max_steps} steps; begin "
            f"a new history with continue_as_new, or raise the class's max_steps"
        )

    def _ask(self, op: Op) -> OpFuture[Any]:
        """Add an op that is neither a step nor the call of a method."""
        op.order = self._requested = self._requested + 1
        if op.order >= self.type.warn_steps and not isinstance(op, StepOp):
            self._check_budget(op.order)
        self.pending[op.name, op.nth] = op
        self._unstarted.append(op)
        return op.future

    def _next_use(self, name: str) -> int:
        nth = self._uses[name] = self._uses.get(name, 0) + 1
        return nth

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
    ) -> OpFuture[Any]:
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
        return self._ask(CallOp(self._me(), name, self._next_use(name), ref, plan, args, kwargs))

    def request_child(self, start: ChildStart) -> OpFuture[Any]:
        """run() starts a child and wants its result."""
        if CALLER.get() is not self:
            raise self._not_inside()
        if self.dropped:
            return self._never()
        name = f"child {start.kind.name}"
        nth = self._next_use(name)
        if self.children is None:
            self.children = set()
        self.children.add((name, nth))
        return self._ask(ChildOp(self._me(), name, nth, start))

    def request_start(self, start: ChildStart) -> OpFuture[Any]:
        """run() starts a run that goes its own way."""
        if CALLER.get() is not self:
            raise self._not_inside()
        if self.dropped:
            return self._never()
        name = f"start {start.kind.name}"
        nth = self._next_use(name)
        return self._ask(StartOp(self._me(), name, nth, start))

    def request_send(
        self, ref: Ref, name: str, payload: bytes, id_: str | None, user: str | None
    ) -> OpFuture[Any]:
        """run() sends an event to another run."""
        if CALLER.get() is not self:
            raise self._not_inside()
        if self.dropped:
            return self._never()
        what = f"send {name} to {ref}"
        return self._ask(SendOp(self._me(), what, self._next_use(what), ref, name, payload, id_, user))

    def request_wait(
        self, kinds: EventKinds, timeout: Duration | None, *, whole: bool
    ) -> EventWait | OpFuture[Any]:
        """run() waits for an event."""
        if CALLER.get() is not self:
            raise self._not_inside()
        if self.dropped:
            return self._never()
        seconds = None if timeout is None else to_seconds(timeout, what="timeout of a wait")
        return self.box.wait(self.loop, kinds, seconds, whole)

    def request_until(
        self, predicate: Callable[[], object], timeout: Duration | None
    ) -> ConditionWait | OpFuture[Any]:
        """run() waits until a condition holds."""
        if CALLER.get() is not self:
            raise self._not_inside()
        if self.dropped:
            return self._never()
        if not callable(predicate):
            raise CallerError(f"{self.activation.ref}: until() takes a function; got {predicate!r:.200}")
        seconds = None if timeout is None else to_seconds(timeout, what="timeout of a condition")
        if self._conditions is None:
            self._conditions = Conditions()
        return self._conditions.wait(self.loop, predicate, seconds)

    @property
    def box(self) -> EventBox:
        """The events of the run."""
        box = self._box
        if box is None:
            box = self._box = EventBox()
        return box

    def saying(self) -> Saying:
        """What run() says; raises `CallerError` outside of it."""
        if CALLER.get() is not self:
            raise self._not_inside()
        return self.said

    @property
    def said(self) -> Saying:
        """What run() said so far."""
        saying = self._saying
        if saying is None:
            saying = self._saying = Saying(self._me(), self._said_before or {})
        return saying

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
            self._halt(newer_version(self._me(), tag, taken, number))
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

    def add_record(self, record: Record, writes: Writes) -> None:
        """Add a record to a write set that the caller stages at once."""
        raise AssertionError("the other half of the run does it")

    def diverged(self, divergence: Divergence) -> None:
        """run() doesn't ask for what is recorded."""
        raise AssertionError("the other half of the run says what comes of it")

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
            self.engine.let_go(self._me())
        else:
            self.diverged(divergence)

    def _not_inside(self) -> CallerError:
        return CallerError(
            f"{self.activation.ref}: steps are begun by run() itself, not inside a step or after the run"
        )

    def _never(self) -> OpFuture[Any]:
        """What a `finally` block of a run that leaves memory waits for."""
        future: OpFuture[Any] = OpFuture(loop=self.loop)
        future.op = None
        return future
