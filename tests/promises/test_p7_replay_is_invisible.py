"""P7: replay is invisible: wherever it crashed, the resumed run decides and ends as it would have.

Hypothesis makes small programs as data; one workflow interprets them.  Each program runs once undisturbed
and once with the process dying at two commits, and what run() saw is compared:

  * A run that is taken up again sees, entry for entry, what it saw before, as far as the disk knows of it.
    Each entry bears how many outcomes were delivered by then, so "as far as the disk knows" is exact: later
    outcomes are lost, and may come otherwise the next time.
  * The result is the undisturbed run's, unless the program asks the world (a step that returns something else
    each time).  What may come in any order (who of two branches is first) is left out of results.
  * Counters count each call of the program once.

Time stands still until nothing else is to do, so who wins a race doesn't depend on the machine.

Seen to fail when outcomes are delivered in the order of requests, when several are delivered before run()
has come to rest, when timers don't fire on replay, when run()'s time stays behind, when chance isn't seeded
by the run, when a live result doesn't go through the codec, and (before it was mended) when sets of tasks
were in the order of addresses, and when a plain body that ran at once was all that counted as begun.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import tempfile
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import Counter, Retry, Runtime, StepError, Workflow
from holdfast.actors.current_step import current_step
from holdfast.actors.handle import Run
from holdfast.actors.workflow.journal import Outcome
from holdfast.actors.workflow.live_run import LiveRun
from holdfast.runtime.clock import ManualClock
from holdfast.storage import layout
from tests.actors.workflow.support import CrashLog, Folder, play, rows, settle
from tests.promises.workflow_crashes import HUNG, hang, live, read_disk

Op = list[Any]
RETRIES = 2


# -- what run() saw ----------------------------------------------------------------------------------------


class Trace:
    """What one life of `run()` saw: how many outcomes it had been given, and an entry."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, str]] = []
        # Outcomes that will still be known when this run is taken up again.
        self.known = math.inf

    def kept(self) -> list[tuple[int, str]]:
        return [entry for entry in self.entries if entry[0] <= self.known]


TRACES: list[Trace] = []
DELIVERED = [0]
WORLD = itertools.count()


@pytest.fixture
def _count_deliveries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    begin, deliver = LiveRun.begin, LiveRun._deliver

    def counting_begin(self: LiveRun) -> None:
        DELIVERED[0] = 0
        begin(self)

    def counting_deliver(self: LiveRun, outcome: Outcome) -> None:
        DELIVERED[0] += 1
        deliver(self, outcome)

    monkeypatch.setattr(LiveRun, "begin", counting_begin)
    monkeypatch.setattr(LiveRun, "_deliver", counting_deliver)
    yield


# -- bodies ------------------------------------------------------------------------------------------------


def body(value: str, fails: int, rounds: int) -> Any:
    """Fail so many times, then return; each attempt takes so many rounds of the loop, or it is plain."""
    step = current_step()
    assert step is not None
    if rounds:
        return later(value, fails, rounds)
    if step.attempt <= fails:
        raise OSError(value)
    return value


async def later(value: str, fails: int, rounds: int) -> str:
    step = current_step()
    assert step is not None
    for _ in range(rounds):
        await asyncio.sleep(0)
    if step.attempt <= fails:
        raise OSError(value)
    return value


def shapes(value: str):  # without annotation, on purpose
    """Return what the codec doesn't give back as it was."""
    return {value: (1, 2.5, b"x", None), "set": frozenset({1})}


async def hung(value: str) -> None:
    await hang()


async def ask_the_world() -> int:
    """Something else each time."""
    return next(WORLD)


# -- the interpreter ---------------------------------------------------------------------------------------


class Branch:
    """A place in the program; its list is the part of the result that it makes."""

    def __init__(self, trace: Trace, path: str, start: float) -> None:
        self.trace = trace
        self.path = path
        self.start = start
        self.seen: list[Any] = []
        self.count = 0

    def note(self, *what: object) -> None:
        """Something that only this branch decides."""
        self.seen.append(repr(what))
        self.note_order(*what)

    def note_order(self, *what: object) -> None:
        """Something that depends on what other branches do meanwhile."""
        time = asyncio.get_running_loop().time() - self.start
        self.trace.entries.append((DELIVERED[0], f"{self.path} {time:.3f} {what!r}"))

    def fresh(self) -> str:
        """A value that nobody else has."""
        self.count += 1
        return f"{self.path}#{self.count}"

    def branch(self) -> Branch:
        """A branch below; what it makes becomes part of this one's."""
        self.count += 1
        below = Branch(self.trace, f"{self.path}.{self.count}", self.start)
        self.seen.append(below.seen)
        return below


def failure(end: object) -> str:
    """What a branch ended with, but not the how-manyth use of a name: others count too, in any order."""
    return f"{end.step}: {end.cause.message}" if isinstance(end, StepError) else str(end)


class Interpreter(Workflow):
    """Runs a program."""

    retry = Retry(RETRIES, 1.0, "constant", jitter=0)

    async def run(self, program: list[Any]) -> list[Any]:
        trace = Trace()
        TRACES.append(trace)
        root = Branch(trace, "", asyncio.get_running_loop().time())
        try:
            await self.block(root, program)
        except StepError as error:
            root.note("ended by", failure(error))
        return root.seen

    async def block(self, at: Branch, ops: list[Op]) -> None:
        for kind, *rest in ops:
            await getattr(self, f"do_{kind}")(at, *rest)

    def begin(self, at: Branch, fails: int, rounds: int, name: str = "body") -> Awaitable[str]:
        return self.step(body, at.fresh(), fails, rounds, name=name)

    async def noted(self, at: Branch, what: str, work: Awaitable[object]) -> None:
        try:
            at.note(what, await work)
        except StepError as error:
            at.note(what, error.cause.type, error.cause.message, error.attempts)
            raise

    async def do_step(self, at: Branch, fails: int, rounds: int) -> None:
        await self.noted(at, "step", self.begin(at, fails, rounds))

    async def do_thread(self, at: Branch) -> None:
        await self.noted(at, "thread", self.step(shapes, at.fresh(), thread=True))

    async def do_shapes(self, at: Branch) -> None:
        await self.noted(at, "shapes", self.step(shapes, at.fresh()))

    async def do_call(self, at: Branch) -> None:
        at.note_order("call", await self.runtime.get(Counter, "calls").increment())

    async def do_call_in_step(self, at: Branch, fails: int) -> None:
        at.note_order("call in a step", await self.step(self.count_and_fail, fails))

    async def count_and_fail(self, fails: int) -> int:
        step = current_step()
        assert step is not None
        count = await self.runtime.get(Counter, "calls in steps").increment()
        if step.attempt <= fails:
            raise OSError("after the call")
        return count

    async def do_sleep(self, at: Branch, seconds: float) -> None:
        await self.sleep(seconds)
        at.note("slept", seconds)

    async def do_chance(self, at: Branch) -> None:
        at.note_order("chance", self.random.random(), self.uuid(), self.now())

    async def do_world(self, at: Branch, even: list[Op], odd: list[Op]) -> None:
        """Let the world decide."""
        answer = await self.step(ask_the_world)
        at.note("the world says", answer)
        await self.block(at.branch(), odd if answer % 2 else even)

    async def do_branch(self, at: Branch, threshold: int, low: list[Op], high: list[Op]) -> None:
        """Decide by a result."""
        answer = await self.step(len, "#" * at.count, name="measure")
        at.note("measured", answer)
        await self.block(at.branch(), high if answer > threshold else low)

    async def do_loop(self, at: Branch, count: int, ops: list[Op]) -> None:
        for _ in range(count):
            await self.block(at, ops)

    async def do_attempt(self, at: Branch, ops: list[Op]) -> None:
        try:
            await self.block(at.branch(), ops)
        except StepError as error:
            at.note("caught", error.step)
        finally:
            await self.noted(at, "finally", self.begin(at, 0, 0, name="finally"))

    async def do_gather(self, at: Branch, blocks: list[list[Op]]) -> None:
        branches = [at.branch() for _ in blocks]
        ends = await asyncio.gather(*map(self.block, branches, blocks), return_exceptions=True)
        at.note("gathered", [type(end).__name__ for end in ends])

    async def do_group(self, at: Branch, steps: list[tuple[int, int]]) -> None:
        try:
            async with self.group() as group:
                parts = [group.step(body, at.fresh(), fails, rounds, name="body") for fails, rounds in steps]
            at.note("group", [part.result() for part in parts])
        except StepError as error:
            at.note("group failed", error.cause.message)

    async def racer(self, at: Branch, fails: int, rounds: int) -> str:
        """A step that cleans up by a step when it loses."""
        try:
            found = await self.begin(at, fails, rounds)
        except asyncio.CancelledError:
            at.note("cleaned up", await self.begin(at, 0, 0, name="clean up"))
            raise
        at.note("raced", found)
        return found

    async def do_race(self, at: Branch, steps: list[tuple[int, int]], hangs: bool) -> None:
        """The first one wins; the others are cancelled in the order of a set, and clean up."""
        tasks = [asyncio.create_task(self.racer(at.branch(), *step)) for step in steps]
        if hangs:
            tasks.append(asyncio.ensure_future(self.step(hung, at.fresh())))  # type: ignore[arg-type]
        done, losers = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for loser in losers:
            loser.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        at.note("race", [task in done for task in tasks], [failure(end) for end in ends])

    async def do_completed(self, at: Branch, steps: list[tuple[int, int]]) -> None:
        """Steps in the order in which they end."""
        found: list[str] = []
        for step in asyncio.as_completed([self.begin(at, *step) for step in steps]):
            try:
                found.append(await step)
            except StepError as error:
                found.append(error.cause.message)
            at.note_order("completed", found[-1])
        at.note("all completed", sorted(found))

    async def do_task_group(self, at: Branch, steps: list[tuple[int, int]]) -> None:
        """If one fails, the others are cancelled in the order of a set, and clean up."""
        try:
            async with asyncio.TaskGroup() as group:
                for step in steps:
                    group.create_task(self.racer(at.branch(), *step))
        except* StepError as errors:
            at.note("task group failed", sorted(map(failure, errors.exceptions)))

    async def do_queue(self, at: Branch, steps: list[tuple[int, int]]) -> None:
        """One task hands results to two others."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(1)

        async def consume(below: Branch) -> None:
            while (value := await queue.get()) is not None:
                at.note_order("got", below.path, value)
                await self.step(body, value, 0, 1)
            await queue.put(None)

        consumers = [asyncio.create_task(consume(at.branch())) for _ in range(2)]
        for _, rounds in steps:
            await queue.put(await self.begin(at, 0, rounds))
        await queue.put(None)
        await asyncio.gather(*consumers)
        at.note("queue is empty")

    async def do_timeout(self, at: Branch, seconds: float, fails: int, rounds: int, hangs: bool) -> None:
        try:
            async with asyncio.timeout(seconds):
                work: Awaitable[object] = (
                    self.step(hung, at.fresh()) if hangs else self.begin(at, fails, rounds)
                )
                await self.noted(at, "in time", work)
        except TimeoutError:
            at.note("too late")


# -- programs ----------------------------------------------------------------------------------------------

FAILS = st.integers(0, RETRIES + 1)
ROUNDS = st.integers(0, 4)
STEP = st.tuples(FAILS, ROUNDS).map(list)
STEPS = st.lists(STEP, min_size=1, max_size=4)
# No two timers may be due together: who of them is first isn't the program's to say.
SLEEPS = st.sampled_from([0, 0.001, 0.75, 7.3, 5000.1])
TIMEOUTS = st.sampled_from([0.5, 1.5, 3.5])


def op(kind: str, *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Op]:
    return st.tuples(st.just(kind), *parts).map(list)


LEAF = st.one_of(
    op("step", FAILS, ROUNDS),
    op("shapes"),
    op("thread"),
    op("call"),
    op("call_in_step", st.integers(0, RETRIES)),
    op("sleep", SLEEPS),
    op("chance"),
    op("group", STEPS),
    op("race", STEPS, st.booleans()),
    op("completed", STEPS),
    op("task_group", STEPS),
    op("queue", STEPS),
    op("timeout", TIMEOUTS, FAILS, ROUNDS, st.booleans()),
)


def blocks_of(inner: st.SearchStrategy[list[Op]]) -> st.SearchStrategy[list[Op]]:
    compound = st.one_of(
        op("world", inner, inner),
        op("branch", st.integers(0, 2), inner, inner),
        op("loop", st.integers(1, 3), inner),
        op("attempt", inner),
        op("gather", st.lists(inner, min_size=1, max_size=3)),
    )
    return st.lists(st.one_of(LEAF, compound), min_size=1, max_size=3)


PROGRAMS = st.recursive(st.lists(LEAF, min_size=1, max_size=3), blocks_of, max_leaves=6)
POINTS = st.tuples(st.integers(0, 10_000), st.booleans())


def uses(program: list[Any], kind: str) -> bool:
    return any(part == kind or (isinstance(part, list) and uses(part, kind)) for part in program)


# -- the order of sets -------------------------------------------------------------------------------------


class Sets(Workflow):
    """Goes through sets of what it made."""

    async def run(self) -> list[list[int]]:
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(20)]
        steps = [asyncio.ensure_future(self.step(body, str(n), 0, 0)) for n in range(20)]
        futures = [asyncio.get_running_loop().create_future() for _ in range(20)]
        found: list[list[int]] = []
        for made in (tasks, steps, futures):
            order: list[Any] = list(made)
            found.append([order.index(one) for one in {*order}])
        ORDERS.append(found)
        await asyncio.gather(*tasks, *steps)
        done, _ = await asyncio.wait(steps)
        found.append([steps.index(one) for one in done])
        await self.sleep(1)
        return found


ORDERS: list[list[list[int]]] = []


async def test_sets_of_tasks_and_steps_keep_their_order(tmp_path: Path) -> None:
    """asyncio hands out sets: going through one asks for the same things in the same order on replay."""
    ORDERS.clear()
    folder = Folder(tmp_path / "data", ManualClock())
    for name in "ab":  # runs of the same code
        rt = await folder.open()
        run = await rt.start(Sets, id=name)
        await settle(rt)
        await folder.crash()
        keep = [object() for _ in range(1000)]  # other addresses
        rt = await folder.open()
        found = await play(rt, folder.clock, rt.run(Sets, run.id))
        await folder.end()
        del keep
        assert len(ORDERS) == 2
        assert ORDERS[0][:3] == ORDERS[1][:3] == found[:3]
        assert ORDERS[0][3] == ORDERS[1][3] == found[3]
        ORDERS.clear()


# -- the comparison ----------------------------------------------------------------------------------------


class Story:
    """One run of a program over its lives."""

    def __init__(self, path: Path, program: list[Op]) -> None:
        self.folder = Folder(path, ManualClock())
        self.program = program
        self.commits = 0
        self.traces: list[Trace] = []

    async def live(self, log: CrashLog) -> list[Any] | None:
        """One life; returns the result, or None when it ended by a crash."""
        TRACES.clear()
        found = await live(self.folder, log, self.start)
        assert HUNG == []
        self.commits = log.commits
        self.traces += TRACES
        if self.traces:
            self.traces[-1].known = len((await read_disk(self.folder.path)).outcomes("a"))
        return found

    async def start(self, rt: Runtime) -> Run[list[Any]]:
        return await rt.start(Interpreter, self.program, id="a", on_conflict="join")

    async def check(self) -> None:
        """Each life of run() saw what the one before had seen; all calls counted once."""
        for before, after in itertools.pairwise(self.traces):
            kept = before.kept()
            assert after.entries[: len(kept)] == kept
        entries = [entry for _, entry in self.traces[-1].entries]
        rt = await self.folder.open()
        for name, mark in (("calls", "('call',"), ("calls in steps", "('call in a step',")):
            assert await rt.get(Counter, name).get() == sum(mark in entry for entry in entries)
        assert rows(rt, layout.REPLY) == []
        await self.folder.end()


async def run_and_compare(program: list[Op], points: list[tuple[int, bool]]) -> int:
    """Returns how many crashes there were."""
    with tempfile.TemporaryDirectory(prefix="holdfast-p7-") as path:
        calm = Story(Path(path, "calm"), program)
        expected = await calm.live(CrashLog(None))
        await calm.check()
        story = Story(Path(path, "crashed"), program)
        found: list[Any] | None = None
        crashes = 0
        for number, kept in points:
            log = CrashLog(number % calm.commits, kept=kept)
            found = await story.live(log)
            crashes += log.crashed
            if found is not None:
                break
        if found is None:
            found = await story.live(CrashLog(None))
        await story.check()
        if not uses(program, "world"):
            assert found == expected
        return crashes


SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
        HealthCheck.data_too_large,
    ],
)


@pytest.mark.usefixtures("_count_deliveries")
@settings(SETTINGS, max_examples=150)
@given(PROGRAMS, st.lists(POINTS, min_size=2, max_size=2))
def test_a_crash_changes_nothing_that_run_sees(program: list[Op], points: list[tuple[int, bool]]) -> None:
    """Whatever the program and wherever the process dies: the same decisions, the same result."""
    asyncio.run(run_and_compare(program, points))


@pytest.mark.slow
@pytest.mark.usefixtures("_count_deliveries")
@settings(SETTINGS, max_examples=800)
@given(PROGRAMS, st.lists(POINTS, min_size=2, max_size=4))
def test_crashes_change_nothing_that_run_sees(program: list[Op], points: list[tuple[int, bool]]) -> None:
    """The same, with more programs and more crashes."""
    asyncio.run(run_and_compare(program, points))
