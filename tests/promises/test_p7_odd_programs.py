"""P7 with odd programs: whatever happened on the way, the journal replays to the very run that it tells of.

Programs of all that asyncio and anyio offer, with steps of few names, timeouts that come together with other
things, tasks that refuse to be cancelled and clean up with steps.  So what they come to depends on time, and
a stormy story can't be compared with a calm one.  In its place the journal of the ended run is replayed as
`holdfast replay` does it: run() must decide, get and return what it did.  And no story may hang, get stuck,
run a recorded step again, or leave replies behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import Actor, Retry, RunFailed, Runtime, Workflow
from holdfast.actors.current_step import current_step
from holdfast.actors.folder_replay import replay_folder
from holdfast.testing import ClockJump, Crash, Storm, simulate
from holdfast.testing.stored_state import kept_replies

Node = list[Any]
RUNTIME: list[Runtime] = []
# What run() decided and got since it was last begun.
TRACE: list[Any] = []
MS = (0, 1, 2, 3, 5, 5, 8, 10, 10, 15, 20, 30, 60_000)


KINDS = (
    "leaf", "seq", "seq", "try", "finally", "shielded", "catch", "timeout", "move_on", "shield", "cancel",
    "gather", "gather", "task_group", "anyio", "first", "completed", "generator", "lock", "leave",
)  # fmt: skip


class Ledger(Actor):
    rows: int = 0

    async def add(self) -> int:
        self.rows += 1
        return self.rows

    async def refuse(self) -> int:
        self.rows += 1
        raise ValueError("refused")

    async def via(self, other: str) -> int:
        return await self.runtime.get(Ledger, other).add()


async def body(ms: int, fails: int, calls: bool) -> str:
    step = current_step()
    assert step is not None
    if calls:
        await RUNTIME[-1].get(Ledger, step.name).via("all")
    await asyncio.sleep(ms / 1000)
    if step.attempt <= fails:
        raise OSError(f"{step.name} attempt {step.attempt}")
    return f"{step.name}.{step.nth}"


def note() -> str:
    step = current_step()
    assert step is not None
    return f"{step.name}.{step.nth}"


class Odd(Workflow):
    """Runs a program."""

    retry = Retry(2, 0.01, "constant", jitter=0)

    async def run(self, program: Node) -> list[Any]:
        TRACE.clear()
        self.locks: list[Any] = [asyncio.Lock(), anyio.Lock(), asyncio.Semaphore(2)]
        self.left: list[asyncio.Task[Any]] = []
        result = await self.node(program)
        TRACE.append("end")
        return [repr(result), self.random.random(), round(self.now().timestamp() * 1000)]

    async def node(self, node: Node) -> Any:
        kind, *rest = node
        try:
            result = await getattr(self, f"do_{kind}")(*rest)
        except BaseException as error:
            TRACE.append((kind, type(error).__name__))
            raise
        TRACE.append((kind, repr(result)))
        return result

    async def do_step(self, name: str, ms: int, fails: int, calls: bool, wait: float) -> Any:
        policy = Retry(2, wait, "constant", jitter=0)
        return await self.step(body, ms, fails, calls, name=name, retry=policy)

    async def do_sleep(self, ms: int) -> int:
        await asyncio.sleep(ms / 1000)
        return ms

    async def do_call(self, key: str, how: str) -> int:
        ledger = self.runtime.get(Ledger, key)
        return await (ledger.via("all") if how == "via" else getattr(ledger, how)())

    async def do_version(self, tag: str) -> int:
        return self.version(tag, 1)

    async def do_drop(self, name: str, ms: int) -> str:
        self.step(body, ms, 0, True, name=name)
        return "dropped"

    async def do_twice(self, name: str, ms: int) -> list[str]:
        step = self.step(body, ms, 0, False, name=name)

        async def wait() -> object:
            return await step

        first, second = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0.003)
        first.cancel()
        return names(await asyncio.gather(first, second, return_exceptions=True))

    async def do_callback(self, name: str, ms: int) -> Any:
        step: Any = self.step(body, ms, 0, False, name=name)
        made: list[Any] = []
        step.add_done_callback(lambda _: made.append(self.step(note, name="called back")))
        return [await step, await made[0] if made else None]

    async def do_seq(self, *nodes: Node) -> list[Any]:
        return [await self.node(node) for node in nodes]

    async def do_try(self, node: Node, otherwise: Node) -> Any:
        try:
            return await self.node(node)
        except Exception as error:
            return [type(error).__name__, await self.node(otherwise)]

    async def do_finally(self, node: Node, behind: Node) -> Any:
        try:
            return await self.node(node)
        finally:
            await self.node(behind)

    async def do_shielded(self, node: Node, behind: Node) -> Any:
        try:
            return await self.node(node)
        finally:
            with anyio.CancelScope(shield=True):
                await self.node(behind)

    async def do_catch(self, node: Node, otherwise: Node) -> Any:
        try:
            return await self.node(node)
        except asyncio.CancelledError:
            return ["caught", await self.node(otherwise)]

    async def do_timeout(self, ms: int, node: Node) -> Any:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ms / 1000):
                return await self.node(node)

    async def do_move_on(self, ms: int, node: Node) -> Any:
        with anyio.move_on_after(ms / 1000):
            return await self.node(node)

    async def do_shield(self, ms: int, node: Node) -> Any:
        task = asyncio.ensure_future(self.node(node))
        try:
            return await asyncio.wait_for(asyncio.shield(task), ms / 1000)
        except TimeoutError:
            return await task

    async def do_cancel(self, ms: int, node: Node) -> Any:
        me = asyncio.current_task()
        assert me is not None
        timer = asyncio.get_running_loop().call_later(ms / 1000, me.cancel)
        try:
            return await self.node(node)
        except asyncio.CancelledError:
            me.uncancel()
            return "cancelled itself"
        finally:
            timer.cancel()

    async def do_gather(self, kept: int, *nodes: Node) -> list[Any]:
        return names(await asyncio.gather(*map(self.node, nodes), return_exceptions=bool(kept)))

    async def do_task_group(self, *nodes: Node) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.node(node)) for node in nodes]
        return [task.result() for task in tasks]

    async def do_anyio(self, *nodes: Node) -> None:
        async with anyio.create_task_group() as group:
            for node in nodes:
                group.start_soon(self.node, node)

    async def do_first(self, how: int, *nodes: Node) -> list[str]:
        tasks = {asyncio.create_task(self.node(node)) for node in nodes}
        when = asyncio.FIRST_EXCEPTION if how == 2 else asyncio.FIRST_COMPLETED
        done, losers = await asyncio.wait(tasks, timeout=0.02 if how else None, return_when=when)
        for task in losers:
            task.cancel()
        if losers:
            await asyncio.wait(losers)
        return ["cancelled" if task.cancelled() else repr(task.exception()) for task in done]

    async def do_completed(self, ms: int, *nodes: Node) -> list[Any]:
        results: list[Any] = []
        with contextlib.suppress(TimeoutError):
            for coming in asyncio.as_completed(list(map(self.node, nodes)), timeout=ms / 1000 or None):
                results += names(await asyncio.gather(coming, return_exceptions=True))
        return results

    async def do_generator(self, most: int, *nodes: Node) -> list[Any]:
        async def each() -> AsyncIterator[Any]:
            try:
                for node in nodes:
                    yield await self.node(node)
            finally:
                await self.step(note, name="generator left")

        results: list[Any] = []
        async for result in each():
            results.append(result)
            if len(results) >= most:
                break
        return results

    async def do_lock(self, which: int, node: Node) -> Any:
        async with self.locks[which]:
            return await self.node(node)

    async def do_leave(self, node: Node) -> str:
        task = asyncio.create_task(self.node(node))
        self.left.append(task)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return "left"


def names(results: Iterable[Any]) -> list[Any]:
    return [type(result).__name__ if isinstance(result, BaseException) else result for result in results]


def program(chance: random.Random) -> Node:
    """A program of at most so many leaves."""
    left = chance.randint(4, 14)
    pick = chance.choice

    def leaf() -> Node:
        nonlocal left
        left -= 1
        kind = pick(["step"] * 4 + ["sleep", "call", "version", "twice", "drop", "callback"])
        if kind == "step":
            return [
                kind,
                pick("abcd"),
                pick(MS),
                pick([0, 0, 0, 1, 2, 5]),
                pick([0, 0, 1]) == 1,
                pick([0, 0.01, 40]),
            ]
        if kind == "sleep":
            return [kind, pick(MS)]
        if kind == "call":
            return [kind, pick("xy"), pick(["add", "refuse", "via"])]
        return [kind, pick("tu")] if kind == "version" else [kind, pick("abcd"), pick(MS)]

    def tree(depth: int) -> Node:
        if depth > 4 or left <= 0:
            return leaf()
        kind = pick(KINDS)
        if kind == "leaf":
            return leaf()
        if kind in ("try", "finally", "shielded", "catch"):
            return [kind, tree(depth + 1), tree(depth + 1)]
        if kind in ("timeout", "move_on", "shield", "cancel"):
            return [kind, pick(MS), tree(depth + 1)]
        if kind == "leave":
            return [kind, tree(depth + 1)]
        if kind == "lock":
            return [kind, pick([0, 1, 2]), tree(depth + 1)]
        nodes = [tree(depth + 1) for _ in range(chance.randint(2, 3))]
        how = {"gather": (0, 1, 1), "first": (0, 1, 2), "completed": (0, 5, 12), "generator": (1, 2, 3)}
        return [kind, pick(how[kind]), *nodes] if kind in how else [kind, *nodes]

    return ["try", ["seq", tree(0), tree(0), tree(0)], ["sleep", 1]]


def storm(chance: random.Random) -> Storm:
    """What goes wrong in a story."""

    def some(most: int, last: int) -> tuple[int, ...]:
        return tuple(chance.randint(1, last) for _ in range(chance.randint(0, most)))

    return Storm(
        seed=chance.choice([0, chance.randint(1, 9_999)]),
        crashes=tuple(
            Crash(chance.choice(["commit", "step", "callback", "any"]), n, chance.choice(["before", "after"]))
            for n in some(3, 40)
        ),
        failing_bodies=some(1, 9),
        lost_answers=some(1, 9),
        failing_commits=some(1, 20),
        unknown_commits=some(1, 20),
        clock_jumps=tuple(
            ClockJump(n, chance.choice([-86_400.0, -1.0, -0.004, 0.004, 1.0, 3_600.0])) for n in some(1, 20)
        ),
        slow_commits_ms=chance.choice([0, 0, 1, 7, 1_000]),
    )


def story(number: int) -> None:
    """One program in one storm; its journal is replayed."""
    chance = random.Random(number)
    given, stormy = program(chance), storm(chance)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/data"
        with simulate(
            seed=stormy.seed,
            path=path,
            types=[Odd],
            setup=lambda runtime: RUNTIME.__setitem__(slice(None), [runtime]),
        ) as sim:
            sim.face(stormy)
            run = sim.start(Odd, given, id="odd")
            try:
                sim.result(run)
            except RunFailed as failure:
                # Programs that wait for each other are the only ones that may not end.
                assert failure.status == "failed" or "nothing will ever deliver" in str(failure), (
                    f"{sim.story}"
                )
                if failure.status == "stuck":
                    return
            live = decided()
            sim.no_more_crashes()
            sim.run_until_idle()
            assert sim.reran == []
            assert kept_replies(sim.runtime) == []
            assert sim.runtime.engine.places.running == 0
        (replayed,) = asyncio.run(replay_folder(path, workflows=[Odd], ended=True))
        assert replayed.verdict == "fits", f"{replayed.reason}\n{sim.story}"
        assert decided() == live, str(sim.story)


def enter(runtime: Runtime) -> None:
    """The runtime of a new life of the process."""
    RUNTIME[:] = [runtime]


def decided() -> list[Any]:
    """What run() decided until it ended; what its tasks got when they were closed doesn't count."""
    return TRACE[: TRACE.index("end")] if "end" in TRACE else list(TRACE)


@pytest.fixture(autouse=True)
def _left_to_the_collector(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What code that refuses to be closed says when it is freed is not what is looked for here."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    yield
    # The errors among the log's records hold frames of dead runs, beyond the end of this test.
    caplog.get_records("call").clear()
    RUNTIME.clear()
    gc.collect()
    sys.unraisablehook = hook


QUICK = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@QUICK
@given(number=st.integers(0, 1 << 32))
def test_p7_odd_programs_replay_as_they_ran(number: int) -> None:
    """Thirty stories, others each time."""
    story(number)


@pytest.mark.slow
@pytest.mark.parametrize("half", [0, 1])
@settings(QUICK, max_examples=2_500)
@given(number=st.integers(0, 1 << 31))
def test_p7_five_thousand_odd_programs(half: int, number: int) -> None:
    """The same for longer; in halves, since what is kept of dead processes makes a long row slower."""
    story(2 * number + half)
