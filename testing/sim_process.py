"""The lives of one simulated process: opened on a folder, driven, dead, and opened again.

    open -> drive ... -> the process dies -> bury -> open (the next life, on the same folder)

A life is one process: a loop (sim_loop.py), a clock, a `Runtime`.  When it dies nothing of it runs any more
(graveyard.py).  What a test holds, the objects in `deps` and the stage (stage.py) outlive it.

Promises
  * What was committed before a crash is there after it, and nothing else.
  * Code inside the process can't drive it, nor end it: that is told at once.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

import msgspec

from ..actors.errors import RunFailed
from ..actors.ids import seed_ids
from ..actors.system import Runtime
from ..actors.workflow.head import ALL_STATUSES, ENDED, RunStatus
from ..runtime.actor import Actor
from ..runtime.clock import LOOK_SECONDS
from ..runtime.durations import Duration, to_seconds
from ..runtime.limits import Limits
from ..storage.commit_log import CommitLog
from ..storage.commit_writer import Committed
from ..storage.errors import CallerError, HoldfastError, StorageFailed
from ..storage.store import Store
from .checks import check_callable, check_count, check_seconds
from .crash import CrashPlan
from .errors import NeverAtRest, NotFinished, ProcessDied
from .graveyard import lay_to_rest
from .loop_writer import LoopWriter
from .sim_clock import SimClock
from .sim_loop import LoopEnd, SimLoop, new_loop
from .sim_run import Pending
from .sim_runtime import Plans, SimRuntime, take_apart
from .stage import Stage
from .story import Story

T = TypeVar("T")
P = ParamSpec("P")
# 2030-01-01, a Tuesday: far from any change of clocks.
START_MS: Final = 1_893_456_000_000
_LAST_MS: Final = 253_402_300_799_000
# A story that crashes in each life for ever would never end.
MAX_LIVES: Final = 1_000
_US: Final = 1_000_000
_CANCEL_CALLBACKS: Final = 1_000
_SHARED_MEMORY: Final = Path("/dev/shm")

Deps = Iterable[object] | Callable[[], Iterable[object]]
Setup = Callable[[Runtime], Awaitable[object] | None]


class SimProcess:
    """The process of a story, life after life; a base of `Simulation`."""

    def __init__(
        self,
        *,
        seed: int = 0,
        deps: Deps = (),
        types: Iterable[type[Actor]] = (),
        setup: Setup | None = None,
        path: str | os.PathLike[str] | None = None,
        limits: Limits | None = None,
        max_running: int = 10_000,
        start_ms: int = START_MS,
        plans: Plans | None = None,
    ) -> None:
        """See `simulate`; `plans` are shared by stories that follow each other."""
        check_count(seed, "the seed of a simulation", least=0)
        check_count(start_ms, "start_ms", least=0)
        if start_ms > _LAST_MS:
            raise CallerError(f"start_ms lies behind the year 9999; got {start_ms}")
        if limits is not None and not isinstance(limits, Limits):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CallerError(f"limits must be a Limits(...); got {limits!r}")
        if setup is not None:
            check_callable(setup, "setup")
        self.seed = seed
        self.story = Story()
        self._deps = deps
        self._types: tuple[type[Actor], ...] = tuple(types)
        self._plans = plans or Plans()
        self._setup = setup
        self._given_path = None if path is None else Path(path)
        self._limits = msgspec.structs.replace(limits or Limits(), stall_seconds=None)
        self._max_running = max_running
        # Streams of their own: a crash more or less doesn't change the choices of the schedule.
        self._schedule = random.Random(f"schedule {seed}") if seed else None
        self._mixing = random.Random(f"messages {seed}")
        plan = CrashPlan(random.Random(f"crashes {seed}"))
        self._stage = Stage(plan, die=self._die, note=self._note, jump_clock=self.jump_clock)
        self._wall_zero_us = start_ms * 1000
        self._now_us = 0
        self._watched_callbacks = 0
        self.life = 0
        """The how-manyth life of the process this is, from 1."""
        self._loop = new_loop()
        self._clock = SimClock(self._loop, self._wall_zero_us)
        self._runtime: Runtime | None = None
        self._dead: list[tuple[SimLoop, Runtime]] = []
        self._folder: str | None = None
        self._why = ""

    # -- life ----------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self.life:
            raise CallerError("a simulation is one story: make a new one for the next")
        if self._given_path is None:
            where = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
            self._folder = tempfile.mkdtemp(prefix="holdfast-", dir=where)
            self._path = Path(self._folder) / "data"
        else:
            self._path = self._given_path
        seed_ids(self.seed)
        try:
            self._open()
            self.settle()
            self._stage.plan.begin()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the story.  The process dies with it: nothing is cleaned up, nobody is told.

        Harmless when it has ended; raises `CallerError` inside the process.
        """
        self._refuse_inside("close()")
        self._bury()
        seed_ids(None)
        for loop, runtime in self._dead:
            tasks = list(asyncio.all_tasks(loop))
            for run in runtime.engine.live_runs():
                tasks += asyncio.all_tasks(run.loop)
            if not lay_to_rest(tasks):
                take_apart(loop, runtime)
        self._dead.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    @property
    def runtime(self) -> Runtime:
        """The runtime of the present life; the next life has another one."""
        if self._runtime is None:
            raise CallerError("the story has not begun, or has ended; use the simulation inside `with`")
        return self._runtime

    @property
    def path(self) -> Path:
        """The folder of the store; raises `CallerError` before the story begins."""
        if not self.life:
            raise CallerError("the story has not begun; use the simulation inside `with`")
        return self._path

    def _open(self) -> None:
        """Begin the next life; it may die while it opens."""
        while True:
            self.life += 1
            if self.life > MAX_LIVES:
                raise NeverAtRest(f"the process died {MAX_LIVES} times")
            self._stage.has_refused = False
            loop = self._loop = new_loop(self._now_us, self._schedule)
            loop.on_countdown = self._callback_reached
            clock = self._clock = SimClock(loop, self._wall_zero_us)
            deps = self._deps() if callable(self._deps) else self._deps
            runtime = self._runtime = SimRuntime(
                self._plans,
                self._path,
                clock=clock,
                seed=self.seed,
                deps=deps,
                types=self._types,
                limits=self._limits,
                max_running=self._max_running,
                min_free_bytes=0,
                switch_interval_seconds=None,
                gc_threshold=None,
                make_store=self._make_store,
            )
            runtime.engine.wrap_body = self._stage.bodies.wrapper(loop)
            self._note("opened")
            opening = loop.create_task(self._begin(runtime))
            end = self._drive(opening)
            failed = opening.done() and (opening.cancelled() or opening.exception() is not None)
            if end is LoopEnd.DONE and not failed:
                return
            self._bury()
            # Where the story refused it a commit it is started again, as whoever looks after processes does.
            if failed and not self._stage.has_refused:
                opening.result()
            if end is LoopEnd.AT_REST:
                raise NotFinished("what opens the folder, or setup, waits for what nothing will ever deliver")

    async def _begin(self, runtime: Runtime) -> None:
        await runtime.open()
        if self._setup is not None:
            made = self._setup(runtime)
            if made is not None:
                await made

    def _make_store(self, path: str | os.PathLike[str], **options: Any) -> Store:
        loop = self._loop

        def make_writer(log: CommitLog, committed: Committed) -> LoopWriter:
            return LoopWriter(log, committed, loop=loop, stage=self._stage)

        return Store(path, make_writer=make_writer, sync=False, **options)

    def _bury(self) -> None:
        """The process is dead: what it held is kept until the story ends."""
        runtime, self._runtime = self._runtime, None
        if runtime is None:
            return
        loop = self._loop
        self._now_us = loop.now_us
        loop.die()
        # Tests define classes of the same name side by side; those of the life before are meant.
        self._types = tuple(dict.fromkeys((*self._types, *runtime.actor_types.by_class)))
        if hasattr(runtime, "store"):
            runtime.store.die()
        self._dead.append((loop, runtime))

    def _next_life(self) -> None:
        self._bury()
        self._open()

    def crash(self) -> None:
        """Let the process die now, and open the folder again; raises `CallerError` inside the process."""
        self.runtime  # noqa: B018  # raises when there is none
        self._refuse_inside("crash()")
        self._note("crash", "now")
        self._next_life()

    def _refuse_inside(self, what: str) -> None:
        if self._loop.is_running():
            raise CallerError(
                f"{what} was called inside the process, where what follows it would still run; call it "
                f"outside, or set crash_at(...) before"
            )

    def _die(self, why: str) -> None:
        self._why = why
        self._note("crash", why)
        self._loop.die()

    def _watch_callbacks(self) -> None:
        self._watched_callbacks = self._loop.callbacks
        self._loop.countdown = self._stage.plan.callbacks_left()

    def _count_callbacks(self) -> None:
        if self._stage.plan.waiting:
            self._stage.plan.callbacks_ran(self._loop.callbacks - self._watched_callbacks)
        self._watched_callbacks = self._loop.callbacks

    def _callback_reached(self) -> None:
        self._die(f"after {self._loop.callbacks} callbacks of this life")

    # -- driving -----------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds since the story began."""
        return self._loop.now_us / _US

    @property
    def now_ms(self) -> int:
        """The wall clock of the process, in milliseconds since 1970."""
        return self._clock.now_ms()

    def jump_clock(self, seconds: float) -> None:
        """Set the wall clock back (negative) or forth, as an operator or a time server does.

        Virtual time stands still by that.  A runtime notices within a second, as on a real machine.
        """
        check_seconds(seconds, "what the wall clock is set by")
        self._wall_zero_us += round(seconds * _US)
        self._clock.wall_zero_us = self._wall_zero_us
        self._note("wall clock set", f"{seconds:+g} s")
        runtime = self.runtime
        self._clock.call_later(LOOK_SECONDS, lambda: runtime.scheduler.notice(0))

    def run_until_idle(self, *, limit: Duration = "400d") -> None:
        """Let everything happen that is going to: time moves from one timer to the next.

        Returns when nothing is left but upkeep.  Raises `NeverAtRest` when things still go on after `limit`
        of virtual time (a repeating alarm does), and then use `advance`.
        """
        until_us = self._loop.now_us + round(to_seconds(limit, what="limit") * _US)
        while True:
            next_us = self._settle()
            if next_us is None:
                return
            if next_us > until_us:
                raise NeverAtRest(f"things still happen after {limit}; see what is pending: {self.pending()}")
            self._drive_on(next_us)

    def advance(self, duration: Duration) -> None:
        """Let so much virtual time pass, with all that it brings."""
        seconds = to_seconds(duration, what="advance")
        until_us = self._loop.now_us + round(seconds * _US)
        if seconds:
            self._note("advance", f"{seconds:g} s")
        self._drive_on(until_us)

    def settle(self) -> None:
        """Let everything happen that can without time passing."""
        self._settle()

    @property
    def commits(self) -> int:
        """Commits made so far, in all lives."""
        return self._stage.commits

    def _settle(self) -> int | None:
        self._drive_on(self._loop.now_us)
        return self._loop.next_timer_us

    def _drive_on(self, until_us: int) -> None:
        self.runtime  # noqa: B018  # raises when there is none
        while self._drive(None, until_us) is LoopEnd.DEAD:
            self._next_life()

    def _drive(self, done: asyncio.Future[Any] | None, until_us: int | None = None) -> LoopEnd:
        """Drive the loop of this life; a runtime that closed itself counts as dead."""
        self._watch_callbacks()
        end = self._loop.drive(done, until_us=until_us)
        if self._stage.ends_itself and end is LoopEnd.DONE:
            # Who waited heard of it first; the runtime closes in the callbacks behind that.
            end = self._loop.drive(until_us=self._loop.now_us)
        self._stage.ends_itself = False
        self._count_callbacks()
        runtime = self._runtime
        if end is not LoopEnd.DEAD and runtime is not None and runtime.is_closed:
            self._die("the runtime closed itself")
            end = LoopEnd.DEAD
        return end

    def run(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call an async function inside the process and return its result; time moves as it must.

        Refs made by `get` have such functions: `sim.run(sim.get(Counter, "total").increment, 2)`.

        Raises what the function raises, `ProcessDied` when the process dies first (the next life has begun
        then), and `NotFinished` when nothing is left that could end it.
        """
        self.runtime  # noqa: B018  # raises when there is none
        self._loop.check_drivable()  # else the call would be made later, behind the error
        task = self._loop.create_task(_call(lambda: function(*args, **kwargs)))
        return self._outcome(task, getattr(function, "__qualname__", repr(function)))

    def _outcome(self, task: asyncio.Task[T], what: str) -> T:
        """The result of a task of the present life."""
        end = self._drive(task)
        if end is LoopEnd.DEAD:
            self._next_life()
            raise ProcessDied(f"the process died before {what} ended: {self._why}")
        if end is LoopEnd.DONE:
            return task.result()
        task.cancel()
        # It may refuse, and ask again and again.
        self._loop.drive(task, until_us=self._loop.now_us, most=_CANCEL_CALLBACKS)
        raise NotFinished(f"{what} waits for something that nothing will ever deliver\n{self._state_text()}")

    def _again_and_again(self, make: Callable[[], Coroutine[Any, Any, T]], what: str) -> T:
        """Do what does no harm when it is done twice, until the process lives long enough."""
        while True:
            self.runtime  # noqa: B018  # raises when there is none
            self._loop.check_drivable()
            life = self.life
            try:
                return self._outcome(self._loop.create_task(_call(make)), what)
            except ProcessDied:
                continue
            except RunFailed:
                raise
            except HoldfastError as error:
                # The commit failed, or the runtime closed itself: a client tries again.
                if self._runtime is None or (not isinstance(error, StorageFailed) and self.life == life):
                    raise

    def pending(self) -> list[Pending]:
        """Runs that have not ended, the oldest first, with what they wait for."""
        runtime = self.runtime
        open_statuses: list[RunStatus] = [one for one in ALL_STATUSES if one not in ENDED]
        live = {str(run.activation.ref): run for run in runtime.engine.live_runs()}
        found: list[Pending] = []
        for info in runtime.runs(status=open_statuses, limit=10_000):
            address = f"{info.workflow}/{info.id}"
            run = live.get(address)
            steps = (
                ()
                if run is None
                else tuple(name if nth == 1 else f"{name} (use {nth})" for name, nth in run.pending)
            )
            found.append(Pending(address, info.status, steps, 0 if run is None else len(run.loop.timers)))
        return found

    def _note(self, what: str, text: str = "") -> None:
        self.story.add(self.life, self._loop.now_us, what, text)

    def _state_text(self) -> str:
        pending = "\n".join(map(str, self.pending()))
        return f"pending:\n{pending or 'nothing'}\n{self.story}"


async def _call(function: Callable[[], Awaitable[T]]) -> T:
    return await function()
