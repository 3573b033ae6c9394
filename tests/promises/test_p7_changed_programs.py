"""P7 with changed code: a run goes on as its code says, or it is stuck; it never fails by the change, and
nothing that was recorded is given to something else.

A program is data, as in test_p7_random_programs.py.  It is crashed somewhere, changed somewhere, and goes on.
Each leaf knows what it must get: a step its own number, a sleep and a timeout their whole time, a call the
first number of its own counter.
"""

from __future__ import annotations

import asyncio
import copy
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import Counter, Retry, RunFailed, StepError, Workflow
from holdfast.actors.current_step import current_step
from holdfast.actors.workflow.divergence import DIVERGENCE
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import NotRunning
from holdfast.storage.errors import StorageError
from tests.actors.workflow.support import CrashLog, Folder, play, settle

Node = list[Any]
MAX_LEAVES = 6
FRESH_LEAVES = (7, 8)
CONTAINERS = ("seq", "gather", "first")
LEAVES = ("step", "step", "fail", "sleep", "call")


class World:
    """What crashes and changes leave alone: the clock, and jobs outside that end at their own time."""

    def __init__(self, program: Node) -> None:
        self.clock = ManualClock()
        self.program = program
        self.ends_ms: dict[tuple[str, int, int], int] = {}
        self.wrong: list[str] = []

    async def job(self, took_ms: int) -> int:
        step = current_step()
        assert step is not None
        end = self.ends_ms.setdefault((step.name, step.nth, step.attempt), self.clock.now_ms() + took_ms)
        while (left := end - self.clock.now_ms()) > 0:
            done = asyncio.get_running_loop().create_future()
            timer = self.clock.call_later(left / 1000, partial(done.set_result, None))
            try:
                await done
            finally:
                timer.cancel()
        return step.attempt


WORLD: list[World] = []


async def body(leaf: int, fails: bool) -> int:
    await WORLD[-1].job(4**leaf)
    if fails:
        raise OSError(f"s{leaf}")
    return leaf


class Changed(Workflow):
    """Runs the program of the world; what a leaf gets and should not get is noted there."""

    name = "P7Changed"
    retry = Retry(1, 0.0, "constant", jitter=0)

    async def run(self) -> Any:
        return await self.node(WORLD[-1].program)

    async def node(self, node: Node) -> Any:
        kind, *rest = node
        run: Callable[..., Awaitable[Any]] = getattr(self, f"do_{kind}")
        return await run(*rest)

    def at_ms(self) -> int:
        return round(self.now().timestamp() * 1000)

    def expect(self, true: bool, what: str) -> None:
        if not true:
            WORLD[-1].wrong.append(what)

    async def do_step(self, leaf: int) -> int:
        got = await self.step(body, leaf, False, name=f"s{leaf}")
        self.expect(got == leaf, f"step {leaf} got {got}")
        return got

    async def do_fail(self, leaf: int) -> str:
        try:
            await self.step(body, leaf, True, name=f"s{leaf}")
        except StepError as error:
            self.expect(error.cause.message == f"s{leaf}", f"step {leaf} got {error}")
        else:
            self.expect(False, f"step {leaf} did not fail")
        return f"failed {leaf}"

    async def do_sleep(self, leaf: int) -> str:
        begin = self.at_ms()
        await self.sleep(4**leaf / 1000)
        self.expect(self.at_ms() - begin >= 4**leaf, f"sleep {leaf} took {self.at_ms() - begin} ms")
        return f"slept {leaf}"

    async def do_call(self, leaf: int) -> int:
        got = await self.runtime.get(Counter, f"c{leaf}").increment()
        self.expect(got == 1, f"call {leaf} got {got}")
        return got

    async def do_timeout(self, leaf: int, node: Node) -> Any:
        begin = self.at_ms()
        try:
            async with asyncio.timeout(4**leaf / 1000):
                return await self.node(node)
        except TimeoutError:
            self.expect(self.at_ms() - begin >= 4**leaf, f"timeout {leaf} after {self.at_ms() - begin} ms")
            return f"timeout {leaf}"

    async def do_seq(self, *nodes: Node) -> list[Any]:
        return [await self.node(node) for node in nodes]

    async def do_gather(self, *nodes: Node) -> list[Any]:
        return list(await asyncio.gather(*[self.node(node) for node in nodes]))

    async def do_first(self, *nodes: Node) -> list[Any]:
        tasks = [asyncio.create_task(self.node(node)) for node in nodes]
        if not tasks:
            return []
        done, losers = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for loser in losers:
            loser.cancel()
        await asyncio.gather(*losers, return_exceptions=True)
        return [(tasks.index(task), task.result()) for task in tasks if task in done]


# -- programs and changes ----------------------------------------------------------------------------------


@st.composite
def programs(draw: st.DrawFn) -> Node:
    """A program whose leaves are all different."""
    left = list(draw(st.permutations(range(1, MAX_LEAVES + 1))))

    def tree(depth: int) -> Node:
        if depth >= 3 or len(left) < 2:
            return [draw(st.sampled_from(LEAVES)), left.pop()] if left else ["seq"]
        kind = draw(st.sampled_from([*CONTAINERS, "leaf", "timeout"]))
        if kind == "leaf":
            return [draw(st.sampled_from(LEAVES)), left.pop()]
        if kind == "timeout":
            return ["timeout", left.pop(), tree(depth + 1)]
        return [kind, *[tree(depth + 1) for _ in range(draw(st.integers(1, 3))) if left]]

    return ["seq", tree(0), tree(0), tree(1)]


def containers(node: Node) -> Iterator[Node]:
    if node[0] in CONTAINERS:
        yield node
    for part in node[1:]:
        if isinstance(part, list):
            yield from containers(part)


def leaves(node: Node) -> Iterator[Node]:
    if node[0] in LEAVES:
        yield node
    for part in node[1:]:
        if isinstance(part, list):
            yield from leaves(part)


@st.composite
def changes(draw: st.DrawFn) -> tuple[Node, Node]:
    """A program, and what somebody made of it."""
    program = draw(programs())
    changed = copy.deepcopy(program)
    fresh = list(FRESH_LEAVES)
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(["drop", "insert", "insert", "swap", "rename", "retype", "turn"]))
        inner = draw(st.sampled_from(list(containers(changed))))
        if kind == "drop" and len(inner) > 1:
            del inner[draw(st.integers(1, len(inner) - 1))]
        elif kind == "insert" and fresh:
            inner.insert(draw(st.integers(1, len(inner))), [draw(st.sampled_from(LEAVES)), fresh.pop()])
        elif kind == "swap" and len(inner) > 2:
            one = draw(st.integers(1, len(inner) - 2))
            inner[one], inner[one + 1] = inner[one + 1], inner[one]
        elif kind == "turn":
            inner[0] = draw(st.sampled_from(CONTAINERS))
        elif kind in ("rename", "retype") and (found := list(leaves(changed))):
            leaf = draw(st.sampled_from(found))
            if kind == "rename" and fresh:
                leaf[1] = fresh.pop()
            elif leaf[0] not in ("step", "fail"):  # a step that fails now is the same step
                leaf[0] = draw(st.sampled_from(LEAVES))
    return program, changed


# -- stories -----------------------------------------------------------------------------------------------


async def life(home: Folder, world: World, commits: int | None) -> tuple[Any, str]:
    """Open the folder and let the run go on until it ends, is stuck, or the process dies."""
    log = CrashLog(commits, kept=True)
    rt = await home.open(wrap_log=log.wrap)
    try:
        run = await rt.start(Changed, id="r", on_conflict="join")
        result = await play(rt, world.clock, run, most_seconds=1_000)
        await settle(rt)
        return result, "complete"
    except RunFailed as error:
        assert error.status == "stuck", f"it is {error.status}: {error}"
        assert error.cause is not None
        assert error.cause.type == DIVERGENCE, error
        return None, "stuck"
    except (StorageError, NotRunning):
        if not log.crashed:
            raise
        return None, "crashed"
    finally:
        await home.end()


async def story(path: Path, program: Node, changed: Node, commits: int) -> str:
    """Crash a program, go on with the changed one, and put the first back when that is stuck."""
    world = World(program)
    WORLD[:] = [world]
    home = Folder(path / "crashed", world.clock)
    _, how = await life(home, world, commits)
    if how != "crashed":
        return how
    world.program = changed
    _, how = await life(home, world, None)
    assert world.wrong == []
    if how == "stuck":
        world.program = program
        result, end = await life(home, world, None)
        assert end == "complete"
        undisturbed = World(program)
        WORLD[:] = [undisturbed]
        expected, _ = await life(Folder(path / "undisturbed", undisturbed.clock), undisturbed, None)
        assert result == expected
        assert undisturbed.wrong == []
    assert world.wrong == []
    return how


def play_story(program: Node, changed: Node, commits: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(story(Path(folder), program, changed, commits))


QUICK = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@QUICK
@given(programs=changes(), commits=st.integers(1, 9))
def test_p7_changed_programs(programs: tuple[Node, Node], commits: int) -> None:
    """Whatever was changed, and wherever it was cut off."""
    play_story(*programs, commits)


@pytest.mark.slow
@settings(QUICK, max_examples=2_000, derandomize=False)
@given(programs=changes(), commits=st.integers(1, 12))
def test_p7_many_changed_programs(programs: tuple[Node, Node], commits: int) -> None:
    """The same for longer, with other programs each time."""
    play_story(*programs, commits)


WRITTEN: list[tuple[str, Node, Node, set[str]]] = [
    (
        "a race of sleeps whose places were swapped",
        ["seq", ["first", ["sleep", 4], ["sleep", 5]], ["sleep", 6]],
        ["seq", ["first", ["sleep", 5], ["sleep", 4]], ["sleep", 6]],
        {"stuck"},
    ),
    (
        "a sleep taken away before a timeout",
        ["seq", ["sleep", 5], ["timeout", 3, ["step", 1]], ["sleep", 6]],
        ["seq", ["timeout", 3, ["step", 1]], ["sleep", 6]],
        {"stuck"},
    ),
    (
        "a step given up that was waited for",
        ["seq", ["gather", ["step", 3], ["seq", ["step", 1], ["step", 2]]], ["sleep", 6]],
        ["seq", ["first", ["step", 3], ["step", 1]], ["sleep", 6]],
        {"stuck"},
    ),
    (
        "one more at the end",
        ["seq", ["step", 1], ["sleep", 6]],
        ["seq", ["step", 1], ["sleep", 6], ["step", 7]],
        {"complete"},
    ),
]


@pytest.mark.parametrize("case", WRITTEN, ids=lambda case: case[0])
def test_p7_written_changes(case: tuple[str, Node, Node, set[str]]) -> None:
    """Changes of the shapes that go wrong most easily, behind the last outcome before the last sleep."""
    _, program, changed, expected = case
    found = {play_story(program, changed, commits) for commits in range(1, 12)}
    assert expected <= found
