"""The simulation: the real runtime on virtual time, whose process dies where a test wants it to.

    with simulate(seed=7) as sim:
        run = sim.start(Fulfil, order, id="o-1")
        sim.crash_at("step", step="charge")
        assert sim.result(run) == "done"

A story is a row of lives.  A life is one process: a loop (sim_loop.py), a clock, a `Runtime` on the folder.
When it dies nothing of it runs any more (graveyard.py) and the next life opens the same folder.  What a test
holds, and the objects in `deps`, stay: they are the world outside.

Promises
  * Nothing sleeps for real, nothing depends on the machine: the same seed and the same calls are the same
    story.
  * What was committed before a crash is there after it, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar, cast, overload

import msgspec

from ..actors.durable_queue import Queue
from ..actors.errors import RunFailed
from ..actors.handle import Run
from ..actors.ids import seed_ids
from ..actors.system import Runtime
from ..actors.workflow.head import ALL_STATUSES, ENDED, RunStatus
from ..actors.workflow.journal import Record
from ..actors.workflow.journal_text import record_text
from ..actors.workflow.protocols import TakesInput, TakesNothing
from ..actors.workflow.start_options import OnConflict
from ..runtime.actor import Actor
from ..runtime.address import GivenKey
from ..runtime.clock import LOOK_SECONDS
from ..runtime.durations import Duration, to_seconds
from ..runtime.error_text import repr_text
from ..runtime.limits import Limits
from ..storage.commit_log import CommitLog, CommitResult, Outcome
from ..storage.commit_writer import Committed
from ..storage.errors import CallerError, HoldfastError, StorageFailed
from ..storage.store import Store
from .bodies import Bodies, BodyKey
from .calls import Calls
from .checks import check_callable, check_count, check_seconds, check_step_name
from .crash import WHENS, Crash, CrashPlan, Place, When
from .errors import NeverAtRest, NotFinished, ProcessDied
from .graveyard import lay_to_rest
from .loop_writer import LoopWriter
from .observer import Observer
from .sim_clock import SimClock
from .sim_loop import LoopEnd, SimLoop, new_loop
from .sim_run import Pending, SimRun
from .sim_runtime import Plans, SimRuntime, take_apart
from .sim_talk import SimTalk
from .storm import ClockJump, Storm, check_storm
from .story import Story

if TYPE_CHECKING:
    from ..storage.group_commit import Batch

A = TypeVar("A", bound=Actor)
T = TypeVar("T")
P = ParamSpec("P")
In = TypeVar("In")
Out = TypeVar("Out")
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


class Simulation(SimTalk):
    """A story: the lives of one simulated process on one folder.  Use it as `with simulate(...) as sim`."""

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
        self._plan = CrashPlan(random.Random(f"crashes {seed}"))
        self._mixing = random.Random(f"messages {seed}")
        self._bodies = Bodies(self)
        self._observer = Observer()
        self._wall_zero_us = start_ms * 1000
        self._now_us = 0
        self._commit_seconds = 0.0
        self._jumps: tuple[ClockJump, ...] = ()
        # Commits to go until the next one that fails, with what the disk says.
        self._failing: list[tuple[int, Outcome]] = []
        # The next commit has no known outcome; such a commit was told, so the runtime is going to close.
        self._unknown = False
        self._ends_itself = False
        # The life in which the story refused a commit last.
        self._refused_life = 0
        self._watched_callbacks = 0
        self._reran: list[str] = []
        self._ids = 0
        self.life = 0
        """The how-manyth life of the process this is, from 1."""
        self.commits = 0
        """Commits made so far, in all lives."""
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
            self._plan.begin()
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
            runtime.engine.wrap_body = self._bodies.wrapper(loop)
            self._note("opened")
            opening = loop.create_task(self._begin(runtime))
            end = self._drive(opening)
            failed = opening.done() and (opening.cancelled() or opening.exception() is not None)
            if end is LoopEnd.DONE and not failed:
                return
            self._bury()
            # Where the story refused it a commit it is started again, as whoever looks after processes does.
            if failed and self._refused_life != self.life:
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
            return LoopWriter(log, committed, loop=loop, stage=self)

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

    # -- crashes to come -----------------------------------------------------------------------------------

    def crash_at(
        self, at: Place | Crash = "commit", n: int = 1, when: When = "after", *, step: str | None = None
    ) -> None:
        """Let the process die at a place, counted from now; then the folder is opened again by itself.

        at, n, when, step   see `Crash`; a `Crash` may be given whole.  With `step`, `at` is "step".

        Raises `CallerError` when there is no such place.
        """
        if isinstance(at, Crash):
            crash = at
        else:
            crash = Crash("step" if step is not None else at, n, when, step)
        self._plan.add([crash])
        self._watch_callbacks()

    def crash_at_random(self, probability: float = 0.1, *, most: int = 3) -> None:
        """From now on let the process die at places chosen by the seed, at most `most` times."""
        self._plan.at_random(probability, most)

    def no_more_crashes(self) -> None:
        """Take back crashes that were not reached yet."""
        self._plan.clear()
        self._watch_callbacks()

    @property
    def crashes_to_come(self) -> list[Crash]:
        """Crashes that were set and not reached yet."""
        return self._plan.waiting

    @property
    def places(self) -> list[Crash]:
        """Where the process could have died since the story began: before and after each commit and body.

        Set one of them in another story of the same kind to see what becomes of it.
        """
        return self._plan.places()

    @property
    def callbacks(self) -> int:
        """Callbacks of the event loop in this life: between any two the process can die, too."""
        return self._loop.callbacks

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
        self._loop.countdown = self._plan.callbacks_left()

    def _count_callbacks(self) -> None:
        if self._plan.waiting:
            self._plan.callbacks_ran(self._loop.callbacks - self._watched_callbacks)
        self._watched_callbacks = self._loop.callbacks

    def _callback_reached(self) -> None:
        self._die(f"after {self._loop.callbacks} callbacks of this life")

    # -- faults --------------------------------------------------------------------------------------------

    def fail_commit(self, n: int = 1, *, unknown: bool = False) -> None:
        """Let the disk refuse the n-th commit from now: everything that rests on it fails (`StorageFailed`).

        With `unknown` nobody can know whether it is on disk (here it is), and the process ends itself.
        """
        check_count(n, "the number of a commit that fails")
        self._failing.append((n, Outcome.UNKNOWN if unknown else Outcome.NOT_HAPPENED))

    def delay_commits(self, duration: Duration) -> None:
        """Let each commit take so long from now on, in virtual time."""
        self._commit_seconds = to_seconds(duration, what="the time of a commit")

    def fail_step(
        self,
        step: str,
        times: int = 1,
        *,
        error: Callable[[], Exception] | None = None,
        when: When = "before",
    ) -> None:
        """Let the next attempts of a step fail.

        error   makes what they raise; a `ConnectionError` by default
        when    "before": the body does not run.  "after": it ran, and its answer is lost
        """
        check_step_name(step)
        check_count(times, "how often a step fails")
        if when not in WHENS:
            raise CallerError(f"a step fails before or after its body; got when={when!r}")
        if error is not None:
            check_callable(error, "error, which makes what a step raises,")
        self._bodies.fail(
            step, times, error or (lambda: ConnectionError(f"step {step} fails in the story")), when
        )

    def delay_step(self, step: str, duration: Duration) -> None:
        """Let each body of a step begin so much later, in virtual time."""
        check_step_name(step)
        self._bodies.delay(step, to_seconds(duration, what=f"the delay of step {step}"))

    def mock_step(self, step: str, function: Callable[..., object]) -> None:
        """Run another function in place of a step's own, with the same arguments, from now on."""
        check_step_name(step)
        check_callable(function, f"what stands in for step {step}")
        self._bodies.replaced[step] = function

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

    def face(self, storm: Storm) -> None:
        """Let a storm come, counted from now; its seed, duplicates and order are the test's business."""
        check_storm(storm)
        self._plan.add(storm.crashes)
        self._bodies.fail_some(storm.failing_bodies, storm.lost_answers)
        for n in storm.failing_commits:
            self.fail_commit(n)
        for n in storm.unknown_commits:
            self.fail_commit(n, unknown=True)
        self._commit_seconds = storm.slow_commits_ms / 1000
        self._jumps = storm.clock_jumps

    # -- driving -------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds since the story began."""
        return self._loop.now_us / _US

    @property
    def now_ms(self) -> int:
        """The wall clock of the process, in milliseconds since 1970."""
        return self._clock.now_ms()

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

    def get(self, actor_type: type[A], key: GivenKey) -> A:
        """A ref to an actor, for `run`; it belongs to the present life."""
        return self.runtime.get(actor_type, key)

    def call(self, actor_type: type[Actor], key: GivenKey) -> Calls:
        """An actor whose methods are called from plain code: `sim.call(Counter, "total").increment(2)`.

        Raises what the method raises, and what `run` raises.  For results with types use `run` and `get`.
        """
        return Calls(self, actor_type, key)

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
        if self._ends_itself and end is LoopEnd.DONE:
            # Who waited heard of it first; the runtime closes in the callbacks behind that.
            end = self._loop.drive(until_us=self._loop.now_us)
        self._ends_itself = False
        self._count_callbacks()
        runtime = self._runtime
        if end is not LoopEnd.DEAD and runtime is not None and runtime.is_closed:
            self._die("the runtime closed itself")
            end = LoopEnd.DEAD
        return end

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

    # -- workflows -----------------------------------------------------------------------------------------

    @overload
    def start(
        self, workflow: type[TakesInput[In, Out]], input: In, *, id: GivenKey | None = ...,
        on_conflict: OnConflict = ..., copies: int = ...,
    ) -> SimRun[Out]: ...  # fmt: skip
    @overload
    def start(
        self, workflow: type[TakesNothing[Out]], *, id: GivenKey | None = ..., on_conflict: OnConflict = ...,
        copies: int = ...,
    ) -> SimRun[Out]: ...  # fmt: skip

    def start(
        self,
        workflow: type[object],
        input: object = msgspec.UNSET,
        *,
        id: GivenKey | None = None,
        on_conflict: OnConflict = "join",
        copies: int = 1,
    ) -> SimRun[Any]:
        """Start a run, as a client outside does: a start that a crash cut off is made again.

        id            identifies the run; "run-1", "run-2" ... by default
        on_conflict   as for `Runtime.start`; a client that starts again has to "join"
        copies        so many clients start it at the same time

        Raises what `Runtime.start` raises.
        """
        check_count(copies, "copies of a start")
        if not isinstance(workflow, type):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CallerError(f"expected a class of a workflow; got {workflow!r}")
        if id is None:
            self._ids += 1
            id = f"run-{self._ids}"
        run = SimRun[Any](workflow, id)

        async def start_once() -> None:
            await self.runtime.start(
                cast("type[TakesInput[object, object]]", workflow),
                input,
                id=id,
                on_conflict=on_conflict,
                correlation_id=f"story-{run.id}",
            )

        async def start() -> None:
            if copies == 1:
                await start_once()
            else:
                await asyncio.gather(*[start_once() for _ in range(copies)])

        self._again_and_again(start, f"the start of {run}")
        return run

    def result(self, run: SimRun[Out]) -> Out:
        """What a run returned; lets happen what must until then, over crashes.

        Raises `RunFailed` when it failed, was terminated or is stuck, `RunNotFound` when there is none, and
        `NotFinished` when nothing is left that could end it.
        """

        async def result() -> Out:
            return await self._handle(run).result()

        return self._again_and_again(result, f"the result of {run}")

    def status(self, run: SimRun[Any]) -> RunStatus:
        """The status of a run at this moment; raises `RunNotFound`."""
        return self._again_and_again(lambda: self._handle(run).status(), f"the status of {run}")

    def history(self, run: SimRun[Any]) -> list[Record]:
        """The records of a run; raises `RunNotFound`."""
        return self._again_and_again(lambda: self._handle(run).history(), f"the history of {run}")

    def journal(self, run: SimRun[Any]) -> str:
        """The records of a run as text, one on a line; raises `RunNotFound`."""
        records = self.history(run)
        return "\n".join(
            f"{place:3}  +{(record.at_ms - records[0].at_ms) / 1000:.3f} s  {record_text(record)}"
            for place, record in enumerate(records)
        )

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

    def attempts(self, step: str, run: SimRun[Any] | None = None) -> int:
        """How often bodies of a step were begun, in all runs or in one."""
        return self._sum(self._bodies.begun, step, run)

    def effects(self, step: str, run: SimRun[Any] | None = None) -> int:
        """How often bodies of a step returned: their effect happened, recorded or not."""
        return self._sum(self._bodies.returned, step, run)

    def bodies_returned(self) -> frozenset[str]:
        """Bodies of steps that returned at least once: run, name and use of each."""
        return frozenset(_shown(body) for body in self._bodies.returned)

    @property
    def reran(self) -> list[str]:
        """Bodies that began after the outcome of their step was recorded: there must not be any (P5)."""
        return list(self._reran)

    def _sum(self, counts: dict[BodyKey, int], step: str, run: SimRun[Any] | None) -> int:
        check_step_name(step)
        address = None if run is None else self._address(run)
        return sum(n for body, n in counts.items() if body.step == step and address in (None, body.run))

    def _address(self, run: SimRun[Any]) -> str:
        return f"{self.runtime.workflow_type(_run(run).workflow).name}/{run.id}"

    def _handle(self, run: SimRun[Out]) -> Run[Out]:
        return self.runtime.run(cast("type[TakesNothing[Out]]", _run(run).workflow), run.key)

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

    # -- queues --------------------------------------------------------------------------------------------

    def send(self, queue: GivenKey, *bodies: object, copies: int = 1, mix: bool = False) -> None:
        """Put messages into a queue, as a sender outside does.

        copies   each message comes so often: senders that got no answer send again
        mix      in an order chosen by the seed
        """
        check_count(copies, "copies of a message")
        messages = [body for body in bodies for _ in range(copies)]
        if mix:
            self._mixing.shuffle(messages)
        for body in messages:
            send = partial(self._send, queue, body)
            self._again_and_again(send, f"sending to {queue!r}")

    async def _send(self, queue: GivenKey, body: object) -> None:
        await self.runtime.get(Queue, queue).send(body)

    # -- what the lives tell -------------------------------------------------------------------------------

    def commit_seconds(self) -> float:
        """See `CommitStage`."""
        return self._commit_seconds

    def before_commit(self, batch: Batch) -> CommitResult | None:
        """See `CommitStage`."""
        if self._plan.reached("commit", "before"):
            self._die(f"before commit {self.commits + 1}")
            return None
        if not self._failing:
            return None
        self._failing = [(n - 1, outcome) for n, outcome in self._failing]
        outcome = next((outcome for n, outcome in self._failing if n == 0), None)
        self._failing = [(n, outcome) for n, outcome in self._failing if n > 0]
        self._unknown = outcome is Outcome.UNKNOWN
        if outcome is not None:
            self._refused_life = self.life
        if outcome is not Outcome.NOT_HAPPENED:
            return None
        return CommitResult(
            outcome, StorageFailed(f"the disk refused commit {self.commits + 1} in the story")
        )

    def after_commit(self, batch: Batch, result: CommitResult) -> CommitResult:
        """See `CommitStage`."""
        if result.outcome is not Outcome.DURABLE:
            self._note("commit failed", str(result.error))
            return result
        self.commits += 1
        for jump in self._jumps:
            if jump.commit == self.commits:
                self.jump_clock(jump.seconds)
        lines = self._observer.committed(batch.writes)
        self._note(f"commit {self.commits}", "; ".join(lines))
        if self._plan.reached("commit", "after"):
            self._die(f"after commit {self.commits}")
        elif self._unknown:
            self._unknown = False
            self._ends_itself = True
            self._note("outcome unknown")
            error = StorageFailed(f"nobody knows whether commit {self.commits} is on disk, in the story")
            return CommitResult(Outcome.UNKNOWN, error)
        return result

    def body_begins(self, body: BodyKey, attempt: int) -> bool:
        """See `BodyStage`."""
        if self._plan.reached("step", "before", body.step):
            self._die(f"before the body of {_shown(body)}")
            return True
        self._note("body", f"{_shown(body)} begins, attempt {attempt}")
        if (body.step, body.nth) in self._observer.recorded.get(body.run, ()):
            self._reran.append(_shown(body))
            self._note("broken promise", f"{_shown(body)} is recorded and runs again")
        return False

    def body_ended(self, body: BodyKey, attempt: int, error: BaseException | None) -> bool:
        """See `BodyStage`."""
        came = "returned" if error is None else f"raised {repr_text(error)}"
        self._note("body", f"{_shown(body)} {came}")
        if self._plan.reached("step", "after", body.step):
            self._die(f"after the body of {_shown(body)}")
            return True
        return False

    def _note(self, what: str, text: str = "") -> None:
        self.story.add(self.life, self._loop.now_us, what, text)

    def _state_text(self) -> str:
        pending = "\n".join(map(str, self.pending()))
        return f"pending:\n{pending or 'nothing'}\n{self.story}"


def simulate(
    *,
    seed: int = 0,
    deps: Deps = (),
    types: Iterable[type[Actor]] = (),
    setup: Setup | None = None,
    path: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    max_running: int = 10_000,
    start_ms: int = START_MS,
) -> Simulation:
    """A simulation, for `with`: the real runtime on virtual time, from a plain `def test_...`.

    seed        chooses among tasks that are ready, random crashes, the order of mixed messages.  0 lets ready
                tasks go on in order, as asyncio does
    deps        objects for `runtime.deps`; they are the world outside and survive crashes.  A function makes
                new ones for each life
    types       as for `Runtime`
    setup       called with the runtime at the beginning of each life: consumers and bindings of queues belong
                here.  May be async
    path        the folder; by default a temporary one, in memory where the system has /dev/shm
    limits, max_running   as for `Runtime`
    start_ms    the wall clock at the beginning, in milliseconds since 1970; 2030-01-01 by default
    """
    return Simulation(
        seed=seed,
        deps=deps,
        types=types,
        setup=setup,
        path=path,
        limits=limits,
        max_running=max_running,
        start_ms=start_ms,
    )


async def _call(function: Callable[[], Awaitable[T]]) -> T:
    return await function()


def _run(run: SimRun[T]) -> SimRun[T]:
    """Itself; raises `CallerError` when it is something else."""
    if not isinstance(run, SimRun):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise CallerError(f"expected a run as Simulation.start returns it; got {run!r}")
    return run


def _shown(body: BodyKey) -> str:
    return f"{body.run} step {body.step}" + ("" if body.nth == 1 else f" (use {body.nth})")
