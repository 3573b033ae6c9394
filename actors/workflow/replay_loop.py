"""The event loop that `run()` lives in: no I/O, no clock of its own, only what the journal delivers.

It runs whatever is ready until nothing is: then the run is at rest, exactly.  Its time stands still between
deliveries and moves to the time of each record, so `time()`, `asyncio.sleep`, `asyncio.timeout` and
everything built on them are the same on replay. A timer is a durable sleep.  What would reach outside raises
at once.

It is driven from callbacks of the outer loop, never from inside a task of it (newer Pythons don't nest
running tasks).
"""

from __future__ import annotations

import asyncio
import gc
import sys
from asyncio.events import (  # what a loop that is no policy's uses to say that it runs
    _get_running_loop,  # pyright: ignore[reportPrivateUsage]
    _set_running_loop,  # pyright: ignore[reportPrivateUsage]
)
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context, copy_context
from types import AsyncGeneratorType, CoroutineType
from typing import Any, Final, TypeVar, cast

from ...runtime.own_loop import (
    HASH_MASK,
    HASH_STRIDE,
    LoopHandle,
    NumberedFuture,
    NumberedTask,
    refuse_the_rest,
)
from ..errors import ForeignAwait
from .completion_order import made_among
from .scope_order import order_cancel_scopes

T = TypeVar("T")
# Callbacks run between two deliveries; more means that `run()` spins without ever waiting for anything.
MAX_CALLBACKS: Final = 1_000_000
# anyio cancels a task that doesn't end by that again and again, in each round of the loop.  After so many
# rounds it goes on with the next delivery: what the task waits for comes only then.
_CANCEL_ROUNDS: Final = 100
# A `finally` block that waits keeps a coroutine from being closed; nested ones do so one after the other.
_CLOSE_TRIES: Final = 100
# What is awaited while an async generator is iterated, by the name of its type.
_OF_GENERATORS: Final = frozenset({"async_generator_asend", "async_generator_athrow"})
# "For ever" is a time too (`anyio.sleep_forever` sleeps for infinity): the year 9999.
_FOREVER_SECONDS: Final = 253_402_300_799.0


class ReplayTimer(LoopHandle, eq=False):
    """A callback for a moment; its number is its identity in the journal."""

    loop: ReplayLoop
    nth: int
    due_ms: int
    due: float
    set_ms: int

    def when(self) -> float:
        """When it is due, in the loop's time, as exactly as it was asked for."""
        return self.due

    def put_off(self, paused_ms: int, resumed_ms: int) -> None:
        """The run was paused meanwhile: what was left of the time is left now."""
        by_ms = resumed_ms - max(paused_ms, self.set_ms)
        self.due_ms += by_ms
        self.due += by_ms / 1000

    def cancel(self) -> None:
        """Don't call it."""
        self.callback = None
        loop = self.loop
        if loop.timers.pop(self.nth, None) is not None and loop.timer_given_up is not None:
            loop.timer_given_up(self.nth)


class ReplayFuture(NumberedFuture[T]):
    """A future of a run's loop."""

    __slots__ = ()


class MainTask(asyncio.Task[T]):  # pyright: ignore[reportGeneralTypeIssues]
    """The task of `run()` itself: the first of its loop, so its hash needs no counting."""

    __slots__ = ()

    def __hash__(self) -> int:
        loop: ReplayLoop = self.get_loop()  # type: ignore[assignment]
        return loop.first_hash


class ReplayLoop(asyncio.AbstractEventLoop):
    """One run's loop."""

    def __init__(self, now_ms: int, run_number: int = 0) -> None:
        self.now_ms = now_ms
        # The first hash and the last one that was given: far from those of other runs, since asyncio also has
        # one set of all tasks.
        self.first_hash = self._hash = run_number * HASH_STRIDE & HASH_MASK
        # Timers that are set, by number; set, fired and cancelled ones are all that ever had a number up to
        # `timer_count`.
        self.timers: dict[int, ReplayTimer] = {}
        self.timer_count = 0
        self._fired_at = 0.0
        # Called with the number of a timer that is cancelled before it fired; for replay.
        self.timer_given_up: Callable[[int], None] | None = None
        # Tasks that were made before they were asked for, by their coroutines: see completion_order.py.
        self._made_together: dict[int, asyncio.Task[Any]] | None = None
        # Tasks that run() started and that go on; most runs start none.
        self.tasks: set[asyncio.Task[Any]] | None = None
        self.closed = False
        # What a callback raised that no task took.
        self.mistake: BaseException | None = None
        self._ready: list[LoopHandle] = []
        # Callbacks of anyio that go on cancelling with the next delivery.
        self._put_off: list[LoopHandle] = []

    def next_hash(self) -> int:
        """The hash of one more future or task."""
        self._hash += 1
        return self._hash

    # -- driven by the engine ------------------------------------------------------------------------------

    def run_until_rest(self) -> None:
        """Run everything that is ready, and what becomes ready by that."""
        ready = self._ready
        if not ready:
            return
        if "anyio" in sys.modules:
            order_cancel_scopes()
        outer, hooks = _get_running_loop(), sys.get_asyncgen_hooks()
        _set_running_loop(self)
        sys.set_asyncgen_hooks(None, self._generator_left)
        count = rounds = 0
        if self._put_off:
            ready += self._put_off
            self._put_off = []
        try:
            while ready:
                rounds += 1
                if rounds > _CANCEL_ROUNDS:
                    ready = self._without_cancelling(ready)
                # A list taken whole is in the same order as a deque, and a deque takes 600 bytes for each
                # run.
                self._ready = []
                count += len(ready)
                if count > MAX_CALLBACKS:
                    raise ForeignAwait(
                        f"run() went round {MAX_CALLBACKS} times without waiting for a step, a sleep "
                        f"or a call"
                    )
                for handle in ready:
                    callback = handle.callback
                    if callback is not None:
                        try:
                            handle.context.run(callback, *handle.args)
                        except KeyboardInterrupt:
                            raise
                        except BaseException as mistake:
                            # Of a callback: it ends the run; a SystemExit also of a task.
                            self.mistake = self.mistake or mistake
                ready = self._ready
        finally:
            sys.set_asyncgen_hooks(*hooks)
            _set_running_loop(outer)

    def _without_cancelling(self, ready: list[LoopHandle]) -> list[LoopHandle]:
        """Put off what would only cancel once more, and return the others."""
        others: list[LoopHandle] = []
        for handle in ready:
            cancels = getattr(handle.callback, "__name__", None) == "_deliver_cancellation"
            (self._put_off if cancels else others).append(handle)
        return others

    def _generator_left(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Nobody will go on with an async generator: close it in this loop, and not in the outer one.

        Not when the run is leaving memory, nor when the collector found it who knows when: neither is there
        on replay.
        """
        if _get_running_loop() is self and not self.closed:
            self.create_task(generator.aclose())

    def fire(self, nth: int) -> bool:
        """Make timer `nth` ready; False when it was cancelled or isn't set."""
        timer = self.timers.pop(nth, None)
        if timer is None:
            return False
        # Due times are whole milliseconds.  Who looks at the clock when called must not find a bit missing
        # and ask for the same moment again: a timeout of anyio would do so for ever.
        self._fired_at = max(self._fired_at, timer.due)
        self._ready.append(timer)
        return True

    def close_coroutine(self, coroutine: Coroutine[Any, Any, object], context: Context) -> bool:
        """Close a coroutine that lives here, whatever its `finally` blocks do; False when it won't end.

        The innermost of those that it awaits comes first: one that waits for something more would else raise
        a `RuntimeError` into the code that awaits it, and be left to the collector, which complains.
        """
        outer = _get_running_loop()
        _set_running_loop(self)
        chain = [coroutine]
        tries = 0
        try:
            while chain:
                _follow(chain)
                innermost = chain[-1]
                try:
                    context.run(innermost.close)
                except BaseException:  # it waited for something more, or raised
                    tries += 1
                if _has_ended(innermost):
                    del chain[-1]
                elif tries >= _CLOSE_TRIES:
                    return False
            return True
        finally:
            _set_running_loop(outer)

    # -- what asyncio asks of a loop -----------------------------------------------------------------------

    def time(self) -> float:
        """Seconds since 1970 as of the last delivery, and never before a timer that has fired was due."""
        now = self.now_ms / 1000
        return now if now > self._fired_at else self._fired_at

    def call_soon(  # type: ignore[override]  # a lighter handle than asyncio's
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        handle = LoopHandle(callback, args, copy_context() if context is None else context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        due_ms = self.now_ms + max(0, _whole_ms(delay))
        return self._set_timer(due_ms, due_ms / 1000, callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        when = min(when, _FOREVER_SECONDS)
        return self._set_timer(max(self.now_ms, _whole_ms(when)), when, callback, args, context)

    def _set_timer(
        self,
        due_ms: int,
        due: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> ReplayTimer:
        self.timer_count += 1
        if context is None:
            context = copy_context()
        timer = ReplayTimer(callback, args, context, self, self.timer_count, due_ms, due, self.now_ms)
        self.timers[timer.nth] = timer
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return ReplayFuture(loop=self)

    def create_task(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        together = made_among(coro)
        if together is None:
            return self._new_task(coro, name, context)
        made = self._made_together
        if made is None:
            made = self._made_together = {}
        if id(coro) not in made:
            made.update({id(one): self._new_task(one, None, None) for one in together})
        return made.pop(id(coro))

    def _new_task(
        self, coro: Coroutine[Any, Any, T], name: str | None, context: Context | None
    ) -> asyncio.Task[T]:
        given: object = coro
        if isinstance(given, asyncio.Future):
            raise TypeError(
                "create_task takes a coroutine; steps, calls and sleeps of run() begin when they are made, "
                "so await them, or give them to asyncio.gather or asyncio.wait as they are"
            )
        task = NumberedTask(coro, loop=self, name=name or "task of a run", context=context)
        if self.tasks is None:
            self.tasks = set()
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self.closed

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if "never retrieved" in str(context.get("message")):
            return  # a step that run() did not look at again; its failure is in the journal
        if isinstance(error, BaseException) and self.mistake is None:
            self.mistake = error


def _follow(chain: list[Coroutine[Any, Any, object]]) -> None:
    """Add to a chain of coroutines what its last one awaits, and so on, as far as they can be closed."""
    while True:
        awaited: object = getattr(chain[-1], "cr_await", None)
        while type(awaited).__name__ in _OF_GENERATORS:
            # What an async generator that is iterated waits for; it keeps itself to itself.
            held: list[Any] = [
                one for one in gc.get_referents(awaited) if isinstance(one, AsyncGeneratorType)
            ]
            awaited = held[0].ag_await if held else None
        if not isinstance(awaited, CoroutineType) or _has_ended(cast("Any", awaited)):
            return
        chain.append(cast("Coroutine[Any, Any, object]", awaited))


def _has_ended(coroutine: Coroutine[Any, Any, object]) -> bool:
    return getattr(coroutine, "cr_frame", None) is None


def _whole_ms(seconds: float) -> int:
    return round(min(seconds, _FOREVER_SECONDS) * 1000)


def _refusal(name: str) -> ForeignAwait:
    return ForeignAwait(f"run() used {name} of the event loop: I/O belongs in a step")


refuse_the_rest(ReplayLoop, _refusal)
