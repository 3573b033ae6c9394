"""P7: replay is invisible.  Random workflow programs, crashed at commits, end as they do undisturbed.

A program is data; `Interpreter` runs it.  What happens outside is a `World` that crashes leave alone: each
body waits for a job that ends at a fixed time after it was first begun, as jobs elsewhere do.  No two ways
through a program take the same time (each leaf's time is a power of five milliseconds, and what is tried or
done again takes two, four or eight times as long), so which of two things comes first is decided by the
program and not by the machine.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import Counter, Retry, Runtime, StepError, Workflow
from holdfast.actors.current_step import current_step
from holdfast.actors.errors import RunFailed
from holdfast.actors.workflow.journal import AttemptFailed, Record, StepDone, StepFailed, TimerFired
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import NotRunning
from holdfast.storage import layout
from holdfast.storage.errors import StorageError
from tests.actors.workflow.support import CrashLog, Folder, play, rows, settle

Node = list[Any]
MAX_LEAVES = 7
KINDS = (
    "leaf", "seq", "branch", "loop", "try", "gather", "group", "first", "completed", "timeout", "move_on",
    "taskgroup", "anyio",
)  # fmt: skip


class World:
    """What crashes leave alone: the clock, jobs outside, and a note of every body that was begun."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.ends_ms: dict[tuple[str, int, int], int] = {}
        self.begun: list[tuple[str, int, int]] = []
        # What run() got, in order, since it was last begun.
        self.trace: list[str] = []

    async def job(self, key: tuple[str, int, int], took_ms: int) -> None:
        self.begun.append(key)
        end = self.ends_ms.setdefault(key, self.clock.now_ms() + took_ms)
        while (left := end - self.clock.now_ms()) > 0:
            done = asyncio.get_running_loop().create_future()
            timer = self.clock.call_later(left / 1000, partial(done.set_result, None))
            try:
                await done
            finally:
                timer.cancel()


WORLD: list[World] = []
RUNTIME: list[Runtime] = []


async def body(name: str, took_ms: int, fails: int, calls: bool) -> int:
    world, step = WORLD[-1], current_step()
    assert step is not None
    if calls:
        await RUNTIME[-1].get(Counter, name).increment()
    await world.job((step.name, step.nth, step.attempt), took_ms)
    if step.attempt <= fails:
        raise OSError(f"{name} attempt {step.attempt}")
    return took_ms * 10 + step.nth


class Interpreter(Workflow):
    """Runs a program; its result tells everything that was decided."""

    retry = Retry(1, 0.0, "constant", jitter=0)

    async def run(self, program: Node) -> Any:
        WORLD[-1].trace.clear()
        result = await self.node(program)
        return [result, round(self.now().timestamp() * 1000), self.random.randint(0, 1000)]

    async def node(self, node: Node) -> Any:
        kind, *rest = node
        run: Callable[..., Awaitable[Any]] = getattr(self, f"do_{kind}")
        result = await run(*rest)
        WORLD[-1].trace.append(f"{kind} {result}")
        return result

    # -- leaves

    async def do_step(self, leaf: int, fails: int, calls: bool) -> Any:
        return await self.step(body, f"s{leaf}", 5**leaf, fails, calls, name=f"s{leaf}")

    async def do_sleep(self, leaf: int) -> str:
        await self.sleep(5**leaf / 1000)
        return f"slept {leaf}"

    async def do_call(self, leaf: int) -> int:
        await self.sleep(5**leaf / 1000)  # so that nothing else comes at the same time
        return await self.runtime.get(Counter, f"c{leaf}").increment()

    async def do_version(self, leaf: int) -> int:
        return self.version(f"v{leaf}", leaf)

    # -- one after the other

    async def do_seq(self, *nodes: Node) -> list[Any]:
        return [await self.node(node) for node in nodes]

    async def do_branch(self, first: Node, yes: Node, no: Node) -> Any:
        result = await self.node(first)
        return await self.node(yes if len(str(result)) % 2 else no)

    async def do_loop(self, node: Node) -> list[Any]:
        return [await self.node(node) for _ in range(2)]

    async def do_try(self, node: Node, otherwise: Node) -> Any:
        try:
            return await self.node(node)
        except (StepError, ExceptionGroup) as error:
            return [f"caught {type(error).__name__}", await self.node(otherwise)]

    # -- side by side

    async def do_gather(self, *nodes: Node) -> list[Any]:
        results = await asyncio.gather(*[self.node(node) for node in nodes], return_exceptions=True)
        return [shown(result) for result in results]

    async def do_group(self, *leaves: int) -> list[Any]:
        async with self.group() as group:
            steps = [group.step(body, f"s{leaf}", 5**leaf, 0, False, name=f"s{leaf}") for leaf in leaves]
        return [step.result() for step in steps]

    async def do_first(self, *nodes: Node) -> list[Any]:
        tasks = [asyncio.create_task(self.node(node)) for node in nodes]
        done, losers = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for loser in losers:
            loser.cancel()
        await asyncio.gather(*losers, return_exceptions=True)
        return [
            (tasks.index(task), shown(task.exception() or task.result())) for task in tasks if task in done
        ]

    async def do_completed(self, *nodes: Node) -> list[Any]:
        results: list[Any] = []
        for coming in asyncio.as_completed([self.node(node) for node in nodes]):
            try:
                results.append(await coming)
            except (StepError, ExceptionGroup) as error:
                results.append(shown(error))
        return results

    async def do_timeout(self, leaf: int, node: Node) -> Any:
        try:
            async with asyncio.timeout(5**leaf / 1000):
                return await self.node(node)
        except TimeoutError:
            return f"timeout {leaf}"

    async def do_move_on(self, leaf: int, node: Node) -> Any:
        with anyio.move_on_after(5**leaf / 1000):
            return await self.node(node)
        return f"moved on {leaf}"

    async def do_taskgroup(self, *nodes: Node) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.node(node)) for node in nodes]
        return [task.result() for task in tasks]

    async def do_anyio(self, *nodes: Node) -> list[Any]:
        results: list[Any] = [None] * len(nodes)

        async def one(index: int, node: Node) -> None:
            results[index] = await self.node(node)

        async with anyio.create_task_group() as group:
            for index, node in enumerate(nodes):
                group.start_soon(one, index, node)
        return results


def shown(result: object) -> object:
    return f"raised {type(result).__name__}" if isinstance(result, BaseException) else result


# -- programs ---------------------------------------------------------------------------------------------


@st.composite
def programs(draw: st.DrawFn) -> Node:
    """A program whose leaves are all different."""
    leaves = draw(st.permutations(range(1, MAX_LEAVES + 1)))
    left = list(leaves)

    def leaf() -> Node:
        which = left.pop()
        kind = draw(st.sampled_from(["step", "step", "step", "fail", "sleep", "call", "version"]))
        if kind == "step":
            return ["step", which, draw(st.sampled_from([0, 0, 1])), draw(st.booleans())]
        if kind == "fail":
            return ["step", which, 5, draw(st.booleans())]
        return [kind, which]

    def several(depth: int) -> list[Node]:
        return [tree(depth + 1) for _ in range(draw(st.integers(2, 3))) if left]

    def tree(depth: int) -> Node:
        if depth >= 3 or len(left) < 2:
            return leaf() if left else ["seq"]
        kind = draw(st.sampled_from(KINDS))
        if kind == "leaf":
            return leaf()
        if kind == "branch":
            return ["branch", tree(depth + 1), tree(depth + 1), tree(depth + 1)]
        if kind == "loop":
            return ["loop", tree(depth + 1)]
        if kind == "try":
            return ["try", tree(depth + 1), tree(depth + 1)]
        if kind == "group":
            return ["group", left.pop(), left.pop()]
        if kind in ("timeout", "move_on"):
            return [kind, left.pop(), tree(depth + 1)]
        nodes = several(depth)
        return [kind, *nodes] if nodes else ["seq"]

    return ["seq", tree(0), tree(0)]


# -- stories ----------------------------------------------------------------------------------------------


class Story:
    """What one way of running a program came to."""

    def __init__(self) -> None:
        self.result: Any = None
        self.trace: list[str] = []
        self.counters: dict[str, int] = {}
        self.journal: list[Any] = []
        self.effects: set[tuple[str, int, int]] = set()
        self.commits = 0
        self.crashes = 0


def outcomes(records: list[Record]) -> list[Any]:
    """The deliveries of a journal, without the times that a crash may shift, and the failed attempts."""
    found: list[Any] = []
    for record in records:
        if isinstance(record, (StepDone, StepFailed)):
            found.append((type(record).__name__, record.name, record.nth, record.attempts, record.at_ms))
        elif isinstance(record, TimerFired):
            found.append(("TimerFired", record.nth, record.at_ms))
        elif isinstance(record, AttemptFailed):
            found.append(("AttemptFailed", record.name, record.nth, record.attempt, record.next_ms))
    return found


async def live(program: Node, path: Path, crashes: list[tuple[int, bool]]) -> Story:
    """Run a program; the process dies after so many commits of each opening, then it is left alone."""
    story, world = Story(), World()
    WORLD[:] = [world]
    home = Folder(path, world.clock)
    for number in range(len(crashes) + 1):
        commits, kept = crashes[number] if number < len(crashes) else (None, False)
        log = CrashLog(commits, kept=kept)
        rt = await home.open(wrap_log=log.wrap)
        RUNTIME[:] = [rt]
        try:
            begun = len(world.begun)
            ended = await finished_steps(rt)
            run = rt.run(Interpreter, "r")
            try:
                await rt.start(Interpreter, program, id="r", on_conflict="join")
                story.result = await play(rt, world.clock, run, most_seconds=3_000)
            except RunFailed as error:
                story.result = str(error)  # the program failed; that is a result too
            except (StorageError, NotRunning):
                if not log.crashed:
                    raise
            again = {(name, nth) for name, nth, _ in world.begun[begun:]} & ended
            assert not again, f"steps that were on disk ran again: {again}"
            if not log.crashed:
                await settle(rt)
            if log.crashed:
                story.crashes += 1
                continue
            story.commits = log.commits
            story.trace = list(world.trace)
            story.journal = outcomes(await run.history())
            for n in range(1, MAX_LEAVES + 1):
                for name in (f"s{n}", f"c{n}"):
                    story.counters[name] = await rt.get(Counter, name).get()
            assert rows(rt, layout.REPLY) == []
            assert rt.engine.places.running == 0
            break
        finally:
            await home.end()
    story.effects = set(world.begun)
    return story


async def finished_steps(rt: Runtime) -> set[tuple[str, int]]:
    """Steps whose outcome is on disk."""
    if not rt.keys(Interpreter):
        return set()
    records = await rt.run(Interpreter, "r").history()
    return {(record.name, record.nth) for record in records if isinstance(record, (StepDone, StepFailed))}


def same(story: Story, undisturbed: Story) -> None:
    """A crashed run decided, delivered, called and ended as the undisturbed one did."""
    for what in ("result", "trace", "journal", "counters", "effects"):
        got, expected = getattr(story, what), getattr(undisturbed, what)
        assert got == expected, f"{what} with crashes: {got}\n{what} undisturbed: {expected}"


def in_loop(work: Callable[[Path], Coroutine[Any, Any, None]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(work(Path(folder)))


QUICK = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@QUICK
@given(
    program=programs(),
    crashes=st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=5),
)
def test_p7_random_programs_crashed_again_and_again(program: Node, crashes: list[tuple[int, bool]]) -> None:
    """Crash upon crash, each some commits after the one before."""

    async def story(folder: Path) -> None:
        undisturbed = await live(program, folder / "undisturbed", [])
        same(await live(program, folder / "crashed", crashes), undisturbed)

    in_loop(story)


@settings(QUICK, max_examples=12)
@given(program=programs())
def test_p7_random_programs_crashed_at_every_commit(program: Node) -> None:
    """One crash at each commit of the program, before or after the commit is on disk."""

    async def story(folder: Path) -> None:
        undisturbed = await live(program, folder / "undisturbed", [])
        for at in range(undisturbed.commits + 1):
            same(await live(program, folder / str(at), [(at, at % 2 == 1)]), undisturbed)

    in_loop(story)


WRITTEN: dict[str, Node] = {
    "a race whose losers clean up": [
        "seq",
        ["first", ["step", 3, 0, True], ["seq", ["step", 1, 1, True], ["sleep", 2]]],
        ["step", 4, 0, True],
    ],
    "a timeout around a failing step": ["try", ["timeout", 5, ["step", 3, 5, True]], ["call", 1]],
    "a timeout that comes first": ["seq", ["timeout", 2, ["step", 5, 0, True]], ["step", 1, 0, False]],
    "groups in groups": [
        "anyio",
        ["taskgroup", ["step", 1, 0, True], ["sleep", 2]],
        ["gather", ["call", 3], ["step", 4, 1, True]],
    ],
    "a task group with a failure": [
        "try",
        ["taskgroup", ["step", 2, 5, True], ["step", 5, 0, True]],
        ["step", 1, 0, True],
    ],
    "an anyio group with a failure": [
        "try",
        ["anyio", ["step", 2, 5, True], ["step", 5, 0, True]],
        ["step", 1, 0, True],
    ],
    "as completed with a failure": ["completed", ["step", 4, 0, True], ["step", 2, 5, True], ["sleep", 3]],
    "loops and branches": ["loop", ["branch", ["step", 1, 1, True], ["step", 2, 0, True], ["call", 3]]],
    "versions in branches and behind calls": [
        "seq",
        ["gather", ["seq", ["version", 1], ["call", 2], ["version", 3]], ["step", 4, 1, True]],
        ["seq", ["version", 5], ["sleep", 6], ["version", 7]],
    ],
    "a group and a sleep": ["gather", ["group", 1, 5], ["sleep", 3], ["call", 2]],
    "moved on from a call": ["seq", ["move_on", 2, ["call", 4]], ["call", 1], ["step", 3, 0, True]],
    # The second deadline is not a whole millisecond by a rounding error.
    "moved on twice behind a sleep": ["seq", ["sleep", 7], ["loop", ["move_on", 4, ["step", 5, 0, False]]]],
    "a race of races": [
        "first",
        ["first", ["step", 5, 0, True], ["sleep", 4]],
        ["completed", ["step", 3, 1, True], ["step", 1, 0, True]],
    ],
    "an uncaught failure": [
        "seq",
        ["step", 1, 0, True],
        ["gather", ["step", 2, 0, True]],
        ["step", 3, 5, True],
    ],
}


@pytest.mark.parametrize("name", list(WRITTEN))
def test_p7_written_programs_crashed_at_every_commit(name: str) -> None:
    """Programs of the shapes that go wrong most easily, one crash at each commit, on disk or not."""

    async def story(folder: Path) -> None:
        undisturbed = await live(WRITTEN[name], folder / "undisturbed", [])
        for at in range(undisturbed.commits + 1):
            for kept in (False, True):
                same(await live(WRITTEN[name], folder / f"{at}{kept}", [(at, kept)]), undisturbed)

    in_loop(story)


@pytest.mark.slow
@settings(QUICK, max_examples=600, derandomize=False)
@given(
    program=programs(),
    crashes=st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=8),
)
def test_p7_many_random_programs(program: Node, crashes: list[tuple[int, bool]]) -> None:
    """The same as the quick one, for longer and with other programs each time."""

    async def story(folder: Path) -> None:
        undisturbed = await live(program, folder / "undisturbed", [])
        same(await live(program, folder / "crashed", crashes), undisturbed)

    in_loop(story)
