"""Children, runs started by runs, and runs that continue as new."""

from __future__ import annotations

import asyncio

import pytest

from holdfast import Counter, Fatal, Retry, RunFailed, Runtime, StepError, Workflow
from holdfast.actors.errors import RunNotFound
from holdfast.runtime.clock import ManualClock
from holdfast.storage import layout
from holdfast.storage.check import check
from holdfast.testing import simulate
from tests.actors.workflow.support import Folder, play, rows, settle, soon, until, until_status

SEEN: list[str] = []
BROKEN: set[str] = set()
GATES: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()
    BROKEN.clear()
    GATES.clear()


async def mark(what: str) -> str:
    SEEN.append(what)
    if what in BROKEN:
        raise Fatal(f"{what} is broken")
    return what


async def gated(what: str) -> str:
    SEEN.append(what)
    await GATES.setdefault(what, asyncio.Event()).wait()
    return what


class Part(Workflow):
    """What a parent has made for it."""

    async def run(self, what: str) -> str:
        await self.sleep("1m")
        return await self.step(mark, what)


class Whole(Workflow):
    """Two parts side by side, then one more."""

    async def run(self, name: str) -> list[str]:
        a, b = self.child(Part, f"{name} a"), self.child(Part, f"{name} b")
        both = [await a, await b]
        return [*both, await self.child(Part, f"{name} c", id="named")]


class Holds(Workflow):
    """Lives until it is cancelled."""

    async def run(self, what: str) -> None:
        try:
            await self.sleep("1d")
        finally:
            await self.step(mark, f"end of {what}")


async def test_children_run_and_give_their_results(rt: Runtime, clock: ManualClock) -> None:
    """Their ids are made from the parent's unless given; nothing is left over."""
    run = await rt.start(Whole, "x", id="w", tenant="acme", correlation_id="c-1")
    assert await play(rt, clock, run) == ["x a", "x b", "x c"]
    runs = rt.runs(Part)
    assert sorted(one.id for one in runs) == ["named", "w/Part-1", "w/Part-2"]
    assert {(one.tenant, one.correlation_id) for one in runs} == {("acme", "c-1")}
    assert rows(rt, layout.CHILD) == []
    assert rt.engine.places.running == 0


async def test_a_waiting_parent_holds_no_place(folder: Folder, clock: ManualClock) -> None:
    """With one place for all, parent and children get through."""
    rt = await folder.open(max_running=1)
    run = await rt.start(Whole, "x", id="w")
    assert await play(rt, clock, run) == ["x a", "x b", "x c"]


async def test_a_failed_child_is_a_step_error(rt: Runtime, clock: ManualClock) -> None:
    """It may be caught, as that of a step; the child is a dead letter of its own."""

    class Careful(Workflow):
        async def run(self) -> str:
            try:
                return await self.child(Part, "bad")
            except StepError as error:
                return str(error.cause)

    BROKEN.add("bad")
    run = await rt.start(Careful, id="c")
    assert "RunFailed: run Part/c/Part-1 is failed" in await play(rt, clock, run)
    assert len(await rt.dead_letters(Part)) == 1


def test_parents_and_children_survive_a_crash_at_every_commit() -> None:
    """Each child runs once, each result comes once, whatever commit the process dies at."""
    with simulate() as sim:
        calm = sim.result(sim.start(Whole, "x", id="w"))
        commits = sim.commits
    assert calm == ["x a", "x b", "x c"]
    for n in range(1, commits + 1):
        for when in ("before", "after"):
            SEEN.clear()
            with simulate() as sim:
                sim.crash_at("commit", n, when)
                assert sim.result(sim.start(Whole, "x", id="w", on_conflict="join")) == calm
                assert len(sim.runtime.runs(Part, status="complete")) == 3


async def test_the_end_of_a_parent_cancels_its_children(rt: Runtime) -> None:
    """Attached children are asked to end, and clean up; detached ones go on."""

    class Leaves(Workflow):
        async def run(self) -> None:
            self.child(Holds, "attached")
            self.child(Holds, "detached", detached=True)
            await self.sleep(0.01)
            raise Fatal("enough")

    run = await rt.start(Leaves, id="p")
    await until_status(run, "waiting")
    await settle(rt)
    await run.cancel()
    await until_status(run, "cancelled")
    assert await until_status(rt.run(Holds, ("p", "Holds-1")), "cancelled") == "cancelled"
    await settle(rt)
    assert SEEN == ["end of attached"]
    assert await rt.run(Holds, ("p", "Holds-2")).status() == "waiting"
    await rt.run(Holds, ("p", "Holds-2")).cancel()
    await until(lambda: SEEN == ["end of attached", "end of detached"])


async def test_a_terminated_parent_takes_its_children_along(rt: Runtime) -> None:
    """Terminate runs no code of the parent; its children still clean up."""

    class Waits(Workflow):
        async def run(self) -> None:
            await self.child(Holds, "c")

    run = await rt.start(Waits, id="p")
    await until_status(run, "waiting")
    child = rt.run(Holds, ("p", "Holds-1"))
    await until_status(child, "waiting")
    await run.terminate()
    assert await until_status(child, "cancelled") == "cancelled"


class GivesUp(Workflow):
    """Gives a child up after a timeout."""

    async def run(self) -> str:
        try:
            async with asyncio.timeout(5):
                await self.child(Holds, "late")
        except TimeoutError:
            await self.sleep("1h")
        return "went on"


def test_a_child_that_was_given_up_is_cancelled_over_crashes() -> None:
    """Also when the process dies between giving up and telling the child."""
    for n in range(1, 16):
        SEEN.clear()
        with simulate() as sim:
            sim.crash_at("commit", n, "after")
            run = sim.start(GivesUp, id="p", on_conflict="join")
            assert sim.result(run) == "went on"
            sim.run_until_idle()
            [child] = sim.runtime.runs(Holds)
            assert child.status == "cancelled", n


async def test_start_lets_a_run_go_its_own_way(rt: Runtime) -> None:
    """The id comes back once it is started; a run that is there is left alone."""

    class Starts(Workflow):
        async def run(self) -> list[str]:
            return [await self.start(Holds, "h", id=("h", 1)), await self.start(Holds, "again", id=("h", 1))]

    assert await soon((await rt.start(Starts, id="s")).result()) == ["h/1", "h/1"]
    assert await until_status(rt.run(Holds, ("h", 1)), "waiting") == "waiting"
    assert len(rt.runs(Holds)) == 1


async def test_a_child_under_a_used_id_is_an_error_of_the_call(rt: Runtime) -> None:
    """Somebody else's run is not taken for a child."""
    await rt.start(Holds, "mine", id="taken")

    class Takes(Workflow):
        retry = Retry(0)

        async def run(self) -> str:
            return str((await self.child(Holds, "x", id="taken").outcome()).error)

    assert "RunExists" in await soon((await rt.start(Takes, id="t")).result())


# -- continue as new ---------------------------------------------------------------------------------------


class Counts(Workflow):
    """Counts down, ten at a time, and tells; begins anew until it is done."""

    async def run(self, left: int) -> str:
        self.set_status(f"left {left}")
        for _ in range(2):
            await self.runtime.get(Counter, "rounds").increment()
        event = await self.wait("tick")
        self.emit("ticked", event.payload)
        if left > 1:
            self.continue_as_new(left - 1)
        return f"done in generation {self._live.generation}"


async def test_a_run_continues_as_new_under_its_id(rt: Runtime) -> None:
    """Its history is short again; events that came early, progress and state are kept."""
    run = await rt.start(Counts, 4, id="c", tags={"a": "b"})
    for n in range(4):
        await run.send("tick", n)
    assert await soon(run.result()) == "done in generation 3"
    assert await rt.get(Counter, "rounds").get() == 8
    history = await run.history()
    assert len(history) < 10
    progress = [event async for event in run.events()]
    assert [(one.number, one.data) for one in progress] == [(1, 0), (2, 1), (3, 2), (4, 3)]
    info = await run.info()
    assert (info.state, info.tags) == ("left 1", {"a": "b"})
    await settle(rt)
    assert rt.engine.places.running == 0


def test_continuing_as_new_survives_a_crash_at_every_commit() -> None:
    """Every round counts once."""
    for n in range(1, 26):
        for when in ("before", "after"):
            with simulate() as sim:
                run = sim.start(Counts, 3, id="c", on_conflict="join")
                for tick in range(3):
                    sim.send_event(run, "tick", tick)
                sim.crash_at("commit", n, when)
                assert sim.result(run).startswith("done"), (n, when)
                assert sim.call(Counter, "rounds").get() == 6


async def test_continue_as_new_cancels_children_and_leaves_no_rows(folder: Folder) -> None:
    """What belonged to the old history goes with it."""

    class Again(Workflow):
        async def run(self, n: int) -> str:
            if n:
                self.child(Holds, "c")
                await self.sleep(0)
                await self.step(gated, "g")
                self.continue_as_new(n - 1)
            return "end"

    rt = await folder.open()
    run = await rt.start(Again, 1, id="a")
    await until(lambda: SEEN == ["g"])
    child = rt.run(Holds, ("a", "Holds-1"))
    await until_status(child, "waiting")
    GATES["g"].set()
    assert await soon(run.result()) == "end"
    assert await until_status(child, "cancelled") == "cancelled"
    await settle(rt)
    assert rows(rt, layout.CHILD) == []
    await rt.close()
    assert check(folder.path) == []


async def test_continue_as_new_checks_the_input(rt: Runtime) -> None:
    """A bad input fails the run with the sentence that says so."""

    class Bad(Workflow):
        async def run(self, n: int) -> None:
            self.continue_as_new("x")

    with pytest.raises(RunFailed, match="InvalidInput"):
        await soon((await rt.start(Bad, 1, id="b")).result())
    with pytest.raises(RunNotFound):
        await rt.run(Bad, "nobody").info()
