"""The class a user writes a workflow as: `run()` and what it may use.

    class Greet(Workflow):
        async def run(self, name: str) -> str:
            text = await self.step(compose, name, retry=Retry(3, "1s"), timeout="10s")
            await self.sleep("1h")
            await self.runtime.get(Counter, "greetings").increment()
            return text

`run()` is replayed from its beginning whenever the run comes back to memory, so what it does between steps
must follow from its input and from what steps returned; time, chance and ids come from `now`, `random` and
`uuid`.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, TypeVarTuple, cast, overload

from ...runtime.actor import Actor
from ...runtime.alarms import Alarm
from ...runtime.durations import Duration, to_due_ms, to_seconds
from ...storage.errors import CallerError
from .head import RunHead
from .retry import Retry

if TYPE_CHECKING:
    from ..system import Runtime
    from .live_run import LiveRun

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class _NoRun:
    """Stands in for the working part of a run that isn't running."""

    def __getattr__(self, name: str) -> NoReturn:
        raise CallerError("steps, sleeps and the rest are for run() itself, while it runs; not after the run")


class Workflow(Actor):
    """Base of workflows.  A run of it is an actor keyed by the run's id.

    Class options
      retry          the retry policy of its steps: `Retry(3, 1.0, "exponential")` by default
      step_timeout   how long an attempt may take: 10 minutes by default, None for ever
      max_running    runs of this type at the same time; None for as many as the runtime allows
    """

    retry: ClassVar[Retry] = Retry()
    step_timeout: ClassVar[Duration | None] = 600.0
    max_running: ClassVar[int | None] = None
    indexes: ClassVar[tuple[tuple[str, ...] | str, ...]] = (("head.status", "head.created_ms"),)

    head: RunHead = RunHead()
    # A run's fields are the engine's, so `version` is free to be a method here.
    _fields_version: ClassVar[int] = 1

    # The instance's own while the run is in memory.
    _live: LiveRun = cast("LiveRun", _NoRun())

    @overload
    def step(
        self,
        function: Callable[[*Ts], Awaitable[T]],
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
    ) -> Awaitable[T]: ...
    @overload
    def step(
        self,
        function: Callable[[*Ts], T],
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
    ) -> Awaitable[T]: ...

    def step(
        self,
        function: Callable[..., object],
        *args: object,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
    ) -> Awaitable[object]:
        """Run `function(*args)` as a step: once it succeeded it never runs again, whatever crashes.

        function   async, or plain (then it runs in the loop, so keep it short, or set `thread`)
        name       identifies the step together with the how-manyth use of it; the function's name by default
        retry      policy in place of the class's
        timeout    for each attempt, in place of the class's `step_timeout`
        thread     run a plain function in a thread

        The result is what the function returned, as its annotation says; awaiting raises `StepError` when all
        attempts failed.
        """
        return self._live.request_step(function, args, name, retry, timeout, thread)

    async def sleep(self, duration: Duration) -> None:
        """Sleep durably: the end is fixed when it begins, also over restarts."""
        await asyncio.sleep(to_seconds(duration, what="sleep"))

    async def sleep_until(self, moment: datetime) -> None:
        """Sleep until a moment (a datetime with a zone); not at all when it passed."""
        loop = self._live.loop
        due_ms = to_due_ms(moment, loop.now_ms, what="sleep_until")
        await asyncio.sleep(max(0, due_ms - loop.now_ms) / 1000)

    def now(self) -> datetime:
        """The time (UTC) of what was last recorded for this run: the same on replay."""
        return datetime.fromtimestamp(self._live.loop.now_ms / 1000, UTC)

    @property
    def random(self) -> random.Random:
        """Chance that is the same on replay."""
        return self._live.random

    def uuid(self) -> uuid.UUID:
        """A fresh UUID that is the same on replay."""
        return uuid.UUID(int=self._live.random.getrandbits(128), version=4)

    def version(self, tag: str, number: int) -> int:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Which way to go where the code was changed: for a run that comes here now `number`, and for a run
        that was further on before this call was in the code 0.

        tag      names the change: 1 to 256 printable characters, for each place one of its own
        number   of this code's way, from 1 on; raise it when the code changes there again

        The first call with a tag is recorded, with what is recorded next; it costs no commit.  From then on
        all calls with it return the same number in this run, also on replay and with a higher `number`.  A
        run that has a higher number than this code knows is stuck until newer code is there.  Raises
        `CallerError` for a tag or a number that break the rules, and outside of `run()`.

            if self.version("charge after packing", 1) >= 1:
                await self.step(pack, order)
                await self.step(charge, order)
            else:
                await self.step(charge, order)
                await self.step(pack, order)
        """
        return self._live.version(tag, number)

    def group(self) -> Group:
        """Steps side by side: `async with self.group() as g: a = g.step(f, x); b = g.step(h, y)`, then
        `a.result()`.
        """
        return Group(self)

    @property
    def runtime(self) -> Runtime:
        """The runtime that the run lives in."""
        return cast("Runtime", super().runtime)

    @property
    def id(self) -> str:
        """The run's id as text."""
        key = self.key
        return "/".join(str(part) for part in key) if isinstance(key, tuple) else str(key)

    @property
    def correlation_id(self) -> str:
        """The id that ties the run to what started it; in every log line of its steps."""
        return self._live.correlation_id

    async def on_alarm(self, alarm: Alarm) -> None:
        """A sleep or a retry is due: the run counts as running from this commit on."""
        self._activation.system.engine.alarm_fired(self)  # type: ignore[attr-defined]


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
    ) -> asyncio.Future[T]: ...
    @overload
    def step(
        self,
        function: Callable[[*Ts], T],
        *args: *Ts,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
    ) -> asyncio.Future[T]: ...

    def step(
        self,
        function: Callable[..., object],
        *args: object,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        thread: bool = False,
    ) -> asyncio.Future[Any]:
        """Begin a step; see `Workflow.step`.  Its `result()` is there after the block."""
        step = self._workflow.step(function, *args, name=name, retry=retry, timeout=timeout, thread=thread)
        future = cast("asyncio.Future[Any]", step)
        self._steps.append(future)
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
