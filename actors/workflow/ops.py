"""What `run()` asked for, from the request to its record: what a step and an actor call have in common.

Steps 1 to 4 of the way of a workflow step; step_op.py and call_op.py are the two kinds.

    asked -> started -> done | failed               (recorded, then delivered)
                     -> retry waits -> started      (the attempt is recorded)
    any   -> abandoned                              (run() gave it up, or the run left memory)

Promises
  * Nothing is recorded for an op that run() gave up.
  * P6: a reply that an attempt got is there for the next one, unless the commit that it rests on failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from ..errors import StepError
from .replay_loop import ReplayFuture

if TYPE_CHECKING:
    from ...storage.group_commit import Writes
    from .live_run import LiveRun


T = TypeVar("T")
D = TypeVar("D")


class StepOutcome(msgspec.Struct, Generic[T], frozen=True):
    """How a step went, as a value: `await self.step(...).outcome()`."""

    value: T | None
    error: StepError | None

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.error is None


class OpFuture(ReplayFuture[T]):
    """A future of run()'s loop that tells its op when run() gives it up."""

    __slots__ = ("attempts", "op")

    # Attempts that were made; there when the outcome is delivered.
    attempts: int
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

    async def optional(self, default: D) -> T | D:
        """The result, or `default` when the step failed for good."""
        try:
            return await self
        except StepError:
            return default

    async def outcome(self) -> StepOutcome[T]:
        """The result or the `StepError`, as a value."""
        try:
            return StepOutcome(await self, None)
        except StepError as error:
            return StepOutcome(None, error)


class Op:
    """What steps and calls have in common."""

    __slots__ = (
        "active", "attempts", "future", "name", "next_ms", "nth", "order", "over", "replies", "result", "run",
        "task", "undo",
    )  # fmt: skip

    # Its outcome is recorded by somebody else, so the live result is decoded from the record, too.
    decodes_live = False

    def __init__(self, run: LiveRun, name: str, nth: int) -> None:
        self.run = run
        self.name = name
        self.nth = nth
        # The how-manyth thing it is that run() asked for.
        self.order = 0
        # What takes its effect back when the run fails.
        self.undo: Callable[..., object] | None = None
        # Attempts that failed so far.
        self.attempts: int = 0
        # When the next attempt is due; None while one is in progress (or none failed).
        self.next_ms: int | None = None
        future: OpFuture[Any] = OpFuture(loop=run.loop)
        self.future = future
        future.op = self
        self.task: asyncio.Future[Any] | None = None
        # An attempt is in progress (it may still wait at the gate) and counts among those at work.
        self.active = False
        self.over = False
        # What run() gets when it is live: what the codec made of the result, as on replay.
        self.result: object = None
        # Rows of the calls that its attempts made, with the replies: see exact_calls.py.
        self.replies: dict[bytes, tuple[bytes, int]] | None = None

    def start(self) -> None:
        """Begin an attempt as soon as that may be; a retry that isn't due yet goes on waiting."""
        if self.next_ms is None:
            self.active = True
            self.run.working += 1
            self.begin()

    def begin(self) -> None:
        """Begin an attempt now."""
        raise AssertionError("each kind begins in its own way")

    def decode_result(self, encoded: msgspec.Raw) -> object:
        """A recorded result as run() gets it."""
        raise AssertionError("each kind decodes in its own way")

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

    def keep_reply(self, row: bytes, reply: bytes, number: int) -> None:
        """Remember what commit `number` keeps under a row."""
        assert self.replies is not None, "it was looked for before"
        self.replies[row] = (reply, number)

    def reply_deletes(self) -> Writes:
        """The rows of its calls, as deletes: for the commit of its outcome."""
        return dict.fromkeys(self.replies) if self.replies else {}

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
        """For messages, as of the attempt that is in progress or next."""
        return self.describe(self.attempts + 1)

    def describe(self, attempt: int) -> str:
        """For messages: run, step and attempt."""
        use = "" if self.nth == 1 else f" (use {self.nth})"
        return f"{self.run.activation.ref}, step {self.name}{use}, attempt {attempt}"


def raise_soon(loop: asyncio.AbstractEventLoop, error: BaseException) -> None:
    """Raise in a callback of the outer loop, where nobody else is stopped by it."""
    loop.call_soon(_raise, error)


def _raise(error: BaseException) -> None:
    raise error
