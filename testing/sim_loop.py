"""The event loop of a simulation: virtual time, no I/O, and a seeded choice among the tasks that are ready.

Everything of one simulated process lives in one such loop: the runtime, step bodies, code under test.  Time
stands still while anything is ready and moves to the next timer when nothing is, so a sleep of a year costs
nothing.  What needs a thread runs in the loop itself.  What would reach outside is refused.

    ready --run--> ready ... --nothing is ready--> time moves to the next timer --> ready ...
    any   --die--> dead: nothing of it ever runs again

Promises
  * The same calls in the same order and the same seed give the same run, whatever the machine, the hash seed
    or the addresses of objects.
  * A dead loop runs nothing: neither what was ready, nor what would become ready by a future that somebody
    outside still holds.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import itertools
import logging
import math
import random
import sys
from asyncio.events import (  # what a loop that is no policy's uses to say that it runs
    _get_running_loop,  # pyright: ignore[reportPrivateUsage]
    _set_running_loop,  # pyright: ignore[reportPrivateUsage]
)
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextvars import Context, copy_context
from threading import get_ident
from typing import Any, Final, TypeVar, cast

from ..runtime.own_loop import (
    HASH_MASK,
    HASH_STRIDE,
    LoopHandle,
    NumberedFuture,
    NumberedTask,
    refuse_the_rest,
)
from ..storage.errors import CallerError
from .graveyard import keep_for_good

T = TypeVar("T")
_log = logging.getLogger("asyncio")
# A process whose tasks never wait makes no virtual time; so many callbacks without any are a loop for ever.
MAX_CALLBACKS: Final = 500_000
# Upkeep (see Clock.call_later) that runs before the time of what somebody waits for: enough for an idle actor
# to leave memory, and a month passes in no time.
_UPKEEP_CALLS: Final = 16
_US: Final = 1_000_000


class LoopEnd(enum.Enum):
    """Why a loop returned."""

    DONE = "what was waited for is done"
    AT_REST = "nothing will happen any more by itself"
    TIME_UP = "the time is up"
    DEAD = "the process died"


class SimTimer(LoopHandle, eq=False):
    """A callback for a moment."""

    due_us: int

    def when(self) -> float:
        """When it is due, in the loop's time (seconds)."""
        return self.due_us / _US


class SimLoop(asyncio.AbstractEventLoop):
    """The loop of one simulated process."""

    def __init__(self, now_us: int = 0, chance: random.Random | None = None) -> None:
        """`chance` chooses among the tasks that are ready; None takes them in order, as asyncio does."""
        # Virtual time in whole microseconds: a timer must not miss its moment by a rounding error.
        self.now_us = now_us
        # Callbacks run so far.
        self.callbacks = 0
        # Callbacks until `on_countdown` is called; None for never.
        self.countdown: int | None = None
        self.on_countdown: Callable[[], None] = _nothing
        self.dead = False
        self._chance = chance
        self._ready: list[LoopHandle] = []
        self._order = itertools.count()
        self._timers: list[tuple[int, int, SimTimer]] = []
        self._upkeep: list[tuple[int, int, SimTimer]] = []
        self._upkeep_left = _UPKEEP_CALLS
        self._hash = 0
        self._running = False
        # Callbacks that had run when time moved last.
        self._moved_at = 0
        self._in_thread = False
        self._thread_id = get_ident()

    def next_hash(self) -> int:
        """The hash of one more future or task."""
        self._hash += HASH_STRIDE
        return self._hash & HASH_MASK

    # -- driven by the simulation --------------------------------------------------------------------------

    def drive(
        self,
        done: asyncio.Future[Any] | None = None,
        *,
        until_us: int | None = None,
        most: int | None = None,
    ) -> LoopEnd:
        """Run until `done` is done, or all is at rest, or virtual time reaches `until_us`.

        With `until_us` time ends there; without it time moves as far as there are timers.  After `most`
        callbacks (more or less) it gives up.
        """
        self.check_drivable()
        hooks = sys.get_asyncgen_hooks()
        self._running = True
        _set_running_loop(self)
        sys.set_asyncgen_hooks(None, self._generator_left)
        began = self.callbacks
        try:
            while not self.dead:
                if done is not None and done.done():
                    return LoopEnd.DONE
                if self._ready:
                    self._run_round(done)
                    if most is not None and self.callbacks - began > most:
                        return LoopEnd.TIME_UP
                    if self.callbacks - max(began, self._moved_at) > MAX_CALLBACKS:
                        raise CallerError(f"{MAX_CALLBACKS} callbacks ran and the process never came to rest")
                elif not self._move_time(until_us):
                    return LoopEnd.AT_REST if until_us is None else LoopEnd.TIME_UP
            return LoopEnd.DEAD
        finally:
            sys.set_asyncgen_hooks(*hooks)
            _set_running_loop(None)
            self._running = False

    def check_drivable(self) -> None:
        """Raises `CallerError` where a loop runs already: this one, or another one in this thread."""
        if self._running:
            raise CallerError("the simulation runs already: code inside it can't drive it")
        if _get_running_loop() is not None:
            raise CallerError(
                "a simulation is driven by a plain `def` test: an event loop runs in this thread already; "
                "give async test code to Simulation.run"
            )

    def die(self) -> None:
        """Nothing of this loop ever runs again."""
        self.dead = True

    def forget(self) -> None:
        """Let go of all that a dead loop holds."""
        self.on_countdown = _nothing
        self._ready.clear()
        self._timers.clear()
        self._upkeep.clear()

    def never(self) -> asyncio.Future[Any]:
        """What code of a process that died just now waits for."""
        return NumberedFuture(loop=self)

    def set_timer(
        self,
        due_us: int,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context,
        upkeep: bool,
    ) -> SimTimer:
        """Call back at a moment; see `Clock.call_later` for `upkeep`."""
        timer = SimTimer(callback, args, context, due_us)
        heapq.heappush(self._upkeep if upkeep else self._timers, (due_us, next(self._order), timer))
        return timer

    @property
    def next_timer_us(self) -> int | None:
        """When the next thing happens that somebody waits for; None when nothing will."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        return timers[0][0] if timers else None

    def _run_round(self, done: asyncio.Future[Any] | None) -> None:
        """Run what is ready now, until `done` is; what becomes ready by that comes in the next round."""
        batch, self._ready = self._ready, []
        if self._chance is not None and len(batch) > 1:
            self._mix(batch, self._chance)
        for place, handle in enumerate(batch):
            callback = handle.callback
            if callback is None:
                continue
            self.callbacks += 1
            try:
                handle.context.run(callback, *handle.args)
            except (KeyboardInterrupt, SystemExit):
                self._ready[:0] = batch[place + 1 :]
                raise
            except BaseException as error:
                self.call_exception_handler(
                    {"message": f"Exception in callback {callback!r}", "exception": error}
                )
            if self.countdown is not None and not self.dead:
                self.countdown -= 1
                if self.countdown <= 0:
                    self.countdown = None
                    self.on_countdown()
            if self.dead or (done is not None and done.done()):
                # Of a dead process: kept until the story ends, as all that it holds.
                self._ready[:0] = batch[place + 1 :]
                return

    @staticmethod
    def _mix(batch: list[LoopHandle], chance: random.Random) -> None:
        """Tasks that are ready may go on in any order.

        Other callbacks stay where they are: that they run in order is promised by asyncio, and used.
        """
        places = [
            place
            for place, handle in enumerate(batch)
            if isinstance(getattr(handle.callback, "__self__", None), asyncio.Task)
        ]
        if len(places) > 1:
            mixed = [batch[place] for place in places]
            chance.shuffle(mixed)
            for place, handle in zip(places, mixed, strict=True):
                batch[place] = handle

    def _move_time(self, until_us: int | None) -> bool:
        """Nothing is ready: go to the next timer and make it ready; False when there is none in time."""
        due_us = self.next_timer_us
        if due_us is None or (until_us is not None and due_us > until_us):
            goal_us = until_us
        else:
            goal_us = due_us
        if goal_us is None:
            return False
        self._moved_at = self.callbacks
        upkeep = self._upkeep
        while upkeep and upkeep[0][2].callback is None:
            heapq.heappop(upkeep)
        if upkeep and upkeep[0][0] <= goal_us:
            upkeep_us, _, timer = heapq.heappop(upkeep)
            if self._upkeep_left:
                self._upkeep_left -= 1
                goal_us = upkeep_us
            self.now_us = max(self.now_us, goal_us)
            self._ready.append(timer)
            return True
        self._upkeep_left = _UPKEEP_CALLS
        self.now_us = max(self.now_us, goal_us)
        if due_us is None or due_us > goal_us:
            return False
        # All that are due now, so that the order among their tasks is open.
        while self._timers and self._timers[0][0] <= self.now_us:
            _, _, timer = heapq.heappop(self._timers)
            if timer.callback is not None:
                self._ready.append(timer)
        return True

    def _generator_left(self, generator: AsyncGenerator[Any, Any]) -> None:
        """Nobody will go on with an async generator."""
        if self.dead:
            keep_for_good(generator)
        else:
            self.create_task(generator.aclose())

    # -- what asyncio asks of a loop -----------------------------------------------------------------------

    def time(self) -> float:
        """Virtual seconds since the story began."""
        return self.now_us / _US

    def call_soon(  # type: ignore[override]  # a lighter handle than asyncio's
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        handle = LoopHandle(callback, args, copy_context() if context is None else context)
        if not self.dead:
            self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        if self._in_thread or get_ident() != self._thread_id:
            raise CallerError(
                "code in a thread called into the simulation, which has none: run it with "
                "asyncio.to_thread and give it what it needs as arguments"
            )
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        return self._call_at_us(self.now_us + _whole_us(max(0.0, delay)), callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        return self._call_at_us(max(self.now_us, _whole_us(when)), callback, args, context)

    def _call_at_us(
        self, due_us: int, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> SimTimer:
        context = copy_context() if context is None else context
        if due_us >= _FOREVER_US:  # `anyio.sleep(math.inf)`: nothing that time could move to
            return SimTimer(callback, args, context, due_us)
        return self.set_timer(due_us, callback, args, context, False)

    def create_future(self) -> asyncio.Future[Any]:
        return NumberedFuture(loop=self)

    def create_task(  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        coro: Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        return NumberedTask(coro, loop=self, name=name, context=context, **options)

    def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """Run a function that wants a thread, in the loop itself."""
        future: asyncio.Future[T] = NumberedFuture(loop=self)
        self.call_soon(self._run_in_place, future, func, args)
        return future

    def _run_in_place(
        self, future: asyncio.Future[Any], function: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        if future.cancelled():
            return
        result: object = None
        error: BaseException | None = None
        _set_running_loop(None)  # as in a thread
        self._in_thread = True
        try:
            result = function(*args)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as raised:  # the future's
            error = raised
        finally:
            self._in_thread = False
            _set_running_loop(self)
        if self.dead or future.done():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, StopIteration):  # no future takes it
            future.set_exception(RuntimeError("the function raised StopIteration"))
        else:
            future.set_exception(error)

    def get_task_factory(self) -> None:
        return None

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self.dead

    def get_exception_handler(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Log it, as asyncio does; what happens to the remains of a dead process is nobody's."""
        if not self.dead:
            error = context.get("exception")
            _log.error(
                "%s", context.get("message"), exc_info=error if isinstance(error, BaseException) else None
            )

    async def shutdown_asyncgens(self) -> None:
        """There is nothing to do: who leaves a generator is told at once."""

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is no executor."""


# See `refuse_the_rest`, which makes it a whole one.
new_loop: Callable[..., SimLoop] = cast("Any", SimLoop)
_FOREVER_US: Final = 253_402_300_799 * _US


def _whole_us(seconds: float) -> int:
    return _FOREVER_US if math.isinf(seconds) else min(_FOREVER_US, round(seconds * _US))


def _nothing() -> None:
    pass


def _refusal(name: str) -> CallerError:
    return CallerError(
        f"{name} of the event loop was used in a simulation, which has no network, files or processes: "
        f"give the code an object that stands in for them (deps, or a mocked step)"
    )


refuse_the_rest(SimLoop, _refusal)
