"""Bodies of steps in a simulation: counted, replaced, delayed, failed, and places where the process dies.

The engine asks here what to run in place of a step's function (`Engine.wrap_body`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from ..storage.errors import CallerError
from .crash import When
from .sim_loop import SimLoop

if TYPE_CHECKING:
    from ..actors.workflow.step_op import StepOp


class BodyKey(msgspec.Struct, frozen=True):
    """Which body of a step: of a run ("Type/key"), a step name and the how-manyth use of it."""

    run: str
    step: str
    nth: int


class _Fault(msgspec.Struct):
    times: int
    error: Callable[[], Exception]
    when: When


class BodyStage(Protocol):
    """What hears of bodies: the simulation."""

    def body_begins(self, body: BodyKey, attempt: int) -> bool:
        """A body is about to begin; True when the process died."""
        ...

    def body_ended(self, body: BodyKey, attempt: int, error: BaseException | None) -> bool:
        """A body ended and its outcome is not recorded yet; True when the process died."""
        ...


class Bodies:
    """What the simulation does with bodies; it outlives the process."""

    def __init__(self, stage: BodyStage) -> None:
        self._stage = stage
        # Bodies begun, and bodies that returned: their effect happened, recorded or not.
        self.begun: Counter[BodyKey] = Counter()
        self.returned: Counter[BodyKey] = Counter()
        self.replaced: dict[str, Callable[..., object]] = {}
        self._faults: dict[str, list[_Fault]] = {}
        self._delay_seconds: dict[str, float] = {}
        # Bodies begun so far, and which of them fail before and after their effect.
        self._ordinal = 0
        self._failing: frozenset[int] = frozenset()
        self._losing: frozenset[int] = frozenset()

    def fail_some(self, failing: Iterable[int], losing: Iterable[int]) -> None:
        """Let the n-th bodies from now fail before (after) their effect, where a retry is left."""
        self._ordinal = 0
        self._failing, self._losing = frozenset(failing), frozenset(losing)

    def fail(self, step: str, times: int, error: Callable[[], Exception], when: When) -> None:
        """Let the next attempts of a step fail."""
        self._faults.setdefault(step, []).append(_Fault(times, error, when))

    def delay(self, step: str, seconds: float) -> None:
        """Let each body of a step begin so many virtual seconds later."""
        self._delay_seconds[step] = seconds

    def wrapper(self, loop: SimLoop) -> BodyWrapper:
        """What the engine of one life asks."""
        return BodyWrapper(self, self._stage, loop)

    def next_ordinal(self) -> int:
        """The how-manyth body begins."""
        self._ordinal += 1
        return self._ordinal

    def fault(self, step: str, when: When, ordinal: int, may_retry: bool) -> Exception | None:
        """What the attempt raises here, if anything."""
        if may_retry and ordinal in (self._failing if when == "before" else self._losing):
            return ConnectionError(f"body {ordinal} fails in the story")
        for fault in self._faults.get(step, ()):
            if fault.times and fault.when == when:
                fault.times -= 1
                return fault.error()
        return None

    def delay_seconds(self, step: str) -> float:
        """How much later the bodies of a step begin."""
        return self._delay_seconds.get(step, 0.0)


class BodyWrapper:
    """What the engine of one life asks for the function of each attempt."""

    def __init__(self, bodies: Bodies, stage: BodyStage, loop: SimLoop) -> None:
        self.bodies = bodies
        self.stage = stage
        self.loop = loop

    def __call__(self, op: StepOp, function: Callable[..., object]) -> Callable[..., object]:
        """The function to run in place of a step's own."""
        return _Body(self, op, self.bodies.replaced.get(op.name, function))

    def forget(self) -> None:
        """Let go of the simulation: bodies of a dead process may be kept for good."""
        vars(self).clear()


class _Body:
    """One attempt: called in place of the step's function."""

    __slots__ = ("_attempt", "_function", "_life", "_may_retry", "_ordinal", "_thread", "key")

    def __init__(self, life: BodyWrapper, op: StepOp, function: Callable[..., object]) -> None:
        self._life = life
        self._function = function
        self._attempt = op.attempts + 1
        self._thread = op.thread
        self._may_retry = op.attempts < op.retry.limit
        self._ordinal = 0
        self.key = BodyKey(str(op.run.activation.ref), op.name, op.nth)

    def __call__(self, *args: object) -> object:
        seconds = self._life.bodies.delay_seconds(self.key.step)
        if seconds:
            if self._thread:
                raise CallerError(f"step {self.key.step} runs in a thread, so it can't be delayed")
            return self._later(seconds, args)
        if self._life.stage.body_begins(self.key, self._attempt):
            return self._life.loop.never()
        return self._run(args)

    async def _later(self, seconds: float, args: tuple[object, ...]) -> object:
        await asyncio.sleep(seconds)
        if self._life.stage.body_begins(self.key, self._attempt):
            await self._life.loop.never()
        result = self._run(args)
        return await cast("Awaitable[object]", result) if hasattr(result, "__await__") else result

    def _run(self, args: tuple[object, ...]) -> object:
        self._life.bodies.begun[self.key] += 1
        self._ordinal = self._life.bodies.next_ordinal()
        try:
            fault = self._fault("before")
            if fault is not None:
                raise fault
            result = self._function(*args)
        except Exception as error:
            if self._life.stage.body_ended(self.key, self._attempt, error):
                return self._life.loop.never()
            raise
        if hasattr(result, "__await__"):
            return self._wait(cast("Awaitable[object]", result))
        return self._life.loop.never() if self._returned() else result

    async def _wait(self, running: Awaitable[object]) -> object:
        try:
            result = await running
        except BaseException as error:
            # A dead process gets here by nothing, and a body that was given up has no outcome.
            if isinstance(error, Exception) and self._life.stage.body_ended(self.key, self._attempt, error):
                await self._life.loop.never()
            raise
        if self._returned():
            await self._life.loop.never()
        return result

    def _fault(self, when: When) -> Exception | None:
        return self._life.bodies.fault(self.key.step, when, self._ordinal, self._may_retry)

    def _returned(self) -> bool:
        """The effect happened: raises where the answer is to be lost; True when the process died."""
        self._life.bodies.returned[self.key] += 1
        fault = self._fault("after")
        died = self._life.stage.body_ended(self.key, self._attempt, fault)
        if fault is not None and not died:
            raise fault
        return died
