"""Groups: steps of a run that go on side by side, and are all done at the end of a block.

    async with self.group() as g:
        paid, packed = g.step(pay, order), g.step(pack, order)
    paid.result()

Step 1 of the way of a workflow step, several times at once.  What it decides follows from the order in which
outcomes are delivered, so it is the same on replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, cast, overload

from ...runtime.durations import Duration
from .ops import OpFuture as StepFuture
from .retry import Retry

if TYPE_CHECKING:
    from .workflow import Workflow

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Group:
    """Steps that run side by side.

    At the end of the block all are done; if one failed the others are cancelled.
    """

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        self._steps: list[asyncio.Future[Any]] = []

    @overload
    def step(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        undo: Callable[[T], object] | None = None,
        heartbeat: Duration | None = None,
    ) -> StepFuture[T]: ...
    @overload
    def step(
        self,
        function: Callable[[*Ts], T],
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        undo: Callable[[T], object] | None = None,
        heartbeat: Duration | None = None,
    ) -> StepFuture[T]: ...

    def step(
        self,
        function: Callable[..., object],
        *args: object,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
        undo: Callable[[Any], object] | None = None,
        heartbeat: Duration | None = None,
    ) -> StepFuture[Any]:
        """Begin a step; see `Workflow.step`.  Its `result()` is there after the block."""
        step: StepFuture[Any] = self._workflow.step(
            function,
            *args,
            name=name,
            retry=retry,
            timeout=timeout,
            thread=thread,
            undo=undo,
            heartbeat=heartbeat,
        )
        self._steps.append(step)
        return step

    def add(self, future: Awaitable[T]) -> Awaitable[T]:
        """Let a child, a call or a wait that was begun count as part of the group; returns it."""
        self._steps.append(cast("asyncio.Future[Any]", future))
        return future

    async def __aenter__(self) -> Group:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._steps:
            done, _ = await asyncio.wait(self._steps, return_when=asyncio.FIRST_EXCEPTION)
            error = next(
                (failed for step in self._steps if step in done and (failed := step.exception())), None
            )
            if error is None:
                return
            self._cancel()
            raise error
        self._cancel()

    def _cancel(self) -> None:
        for step in self._steps:
            step.cancel()
