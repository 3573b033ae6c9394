"""What run() says: progress, business state, data, tags; queries and updates; conditions."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from holdfast import Retry, RunEnded, RunFailed, Runtime, Workflow, query, update
from holdfast.actors.errors import UpdateRefused
from holdfast.actors.workflow.journal import DataSet, StateSet
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import InvalidArgument
from holdfast.storage.check import check
from holdfast.storage.errors import CallerError
from holdfast.testing import simulate
from tests.actors.workflow.support import Folder, pass_time, play, settle, soon, until_status


class Line(msgspec.Struct, frozen=True):
    text: str


async def half(n: int) -> int:
    return n // 2


class Order(Workflow):
    """Says a lot, and can be looked at and changed."""

    states = {"": ("draft",), "draft": ("submitted",), "submitted": ("approved", "rejected")}

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.submitted = False

    @query
    def count(self, times: int = 1) -> int:
        return len(self.lines) * times

    @update
    def add(self, line: str) -> int:
        self.lines.append(line)
        return len(self.lines)

    def validate_add(self, line: str) -> None:
        if not line:
            raise ValueError("a line needs text")
        if self.submitted:
            raise ValueError("it was submitted")

    @update
    async def submit(self) -> str:
        lines = await self.step(half, len(self.lines) * 2)
        self.submitted = True
        return f"{lines} lines"

    async def run(self) -> str:
        self.set_status("draft")
        self.data["lines"] = 0
        await self.until(lambda: self.submitted, timeout="1d")
        self.set_status("submitted")
        self.data["lines"] = len(self.lines)
        self.tags["size"] = str(len(self.lines))
        self.emit("submitted", {"lines": self.lines})
        decision = await self.wait("approve", "reject")
        self.set_status("approved" if decision.name == "approve" else "rejected")
        return ",".join(self.lines)


# -- updates and queries -----------------------------------------------------------------------------------


async def test_updates_change_a_run_and_reply(rt: Runtime) -> None:
    """Plain and async updates; what a condition waits for goes on with them."""
    run = await rt.start(Order, id="o")
    assert await run.update(Order.add, "pear") == 1
    assert await run.update("add", "fig") == 2
    assert await run.query(Order.count) == 2
    assert await run.query(Order.count, times=3) == 6
    assert await soon(run.update(Order.submit)) == "2 lines"
    assert (await run.info()).state == "submitted"
    await run.send("approve")
    assert await soon(run.result()) == "pear,fig"


async def test_a_validator_refuses_before_anything_is_recorded(rt: Runtime) -> None:
    """Its error reaches the sender, and the history is as it was."""
    run = await rt.start(Order, id="o")
    await settle(rt)
    before = len(await run.history())
    with pytest.raises(ValueError, match="needs text"):
        await run.update(Order.add, "")
    with pytest.raises(InvalidArgument):
        await run.update("add", 3)
    with pytest.raises(UpdateRefused, match="no update 'remove'; it has add, submit"):
        await run.update("remove")
    with pytest.raises(CallerError, match="no query 'sum'; it has count"):
        await run.query("sum")
    assert len(await run.history()) == before


async def test_updates_survive_a_crash_and_queries_see_them(folder: Folder) -> None:
    """A run that is only on disk is asked and changed as any other."""
    rt = await folder.open()
    run = await rt.start(Order, id="o")
    await run.update(Order.add, "pear")
    rt = await folder.reopen()
    run = rt.run(Order, "o")
    assert await run.query(Order.count) == 1
    with pytest.raises(ValueError, match="needs text"):
        await run.update(Order.add, "")
    assert await soon(run.update(Order.add, "fig")) == 2
    await soon(run.update(Order.submit))
    with pytest.raises(ValueError, match="was submitted"):
        await run.update(Order.add, "late")
    await run.send("reject")
    assert await soon(run.result()) == "pear,fig"
    assert await run.query(Order.count) == 2
    with pytest.raises(RunEnded):
        await run.update(Order.add, "too late")


async def test_an_update_with_an_id_is_made_once(folder: Folder) -> None:
    """Who asks again with it gets the same reply, also after a crash."""
    rt = await folder.open()
    run = await rt.start(Order, id="o")
    assert await run.update_once(Order.add, "u-1", "pear") == 1
    assert await run.update_once(Order.add, "u-1", "pear") == 1
    rt = await folder.reopen()
    run = rt.run(Order, "o")
    assert await soon(run.update_once(Order.add, "u-1", "pear")) == 1
    assert await run.query(Order.count) == 1


async def test_an_id_of_an_update_means_one_update(folder: Folder) -> None:
    """Used for another method, or with other arguments, it is refused: the first reply isn't this one's."""
    rt = await folder.open()
    run = await rt.start(Order, id="o")
    assert await run.update_once(Order.add, "u-1", "pear") == 1
    for _ in range(2):
        with pytest.raises(UpdateRefused, match="'u-1' of run Order/o was asked for before with other arg"):
            await soon(run.update_once(Order.add, "u-1", "fig"))
        with pytest.raises(UpdateRefused, match="before for 'add'"):
            await soon(run.update_once(Order.submit, "u-1"))
        rt = await folder.reopen()
        run = rt.run(Order, "o")
    assert await run.query(Order.count) == 1


async def test_an_update_that_outlives_its_run_has_an_error(rt: Runtime) -> None:
    """A run that ends before an async update does says so to whoever waits."""

    class Short(Workflow):
        @update
        async def never(self) -> None:
            await self.wait("never")

        async def run(self) -> None:
            await self.wait("end")

    run = await rt.start(Short, id="s")
    work = asyncio.ensure_future(run.update(Short.never))
    await settle(rt)
    await run.send("end")
    with pytest.raises(RunEnded, match="before the update"):
        await soon(work)


async def test_a_paused_run_takes_no_update(rt: Runtime) -> None:
    """It would not be answered before the run goes on."""
    run = await rt.start(Order, id="o")
    await until_status(run, "waiting")
    await run.pause()
    with pytest.raises(CallerError, match="paused, so it takes no update"):
        await run.update(Order.add, "x")


async def test_a_condition_times_out(rt: Runtime, clock: ManualClock) -> None:
    """Durably, as any timeout."""
    run = await rt.start(Order, id="o")
    with pytest.raises(RunFailed, match="did not hold within 86400 s"):
        await play(rt, clock, run)


# -- state, data, tags -------------------------------------------------------------------------------------


async def test_runs_are_found_by_state_and_labels(rt: Runtime) -> None:
    """The indexes follow what the runs say, over workflows and after their ends."""
    for n in range(3):
        run = await rt.start(Order, id=n, ref=("cart", f"c-{n}"), tenant="acme", tags={"n": str(n)})
        await run.update(Order.add, "x")
    await rt.run(Order, 1).update(Order.submit)
    await settle(rt)

    def ids(**wanted: object) -> list[str]:
        return [one.id for one in rt.runs(**wanted)]  # type: ignore[arg-type]

    assert ids(state="draft") == ["0", "2"]
    assert ids(state="submitted", workflow=Order) == ["1"]
    assert ids(ref=("cart", "c-2")) == ["2"]
    assert ids(tenant="acme", reverse=True) == ["2", "1", "0"]
    assert ids(tenant="acme", state="draft", limit=1) == ["0"]
    assert ids(tenant="other") == []
    assert ids(tag=("size", "1")) == ["1"]
    assert ids(tag=("n", "0"), status="waiting") == ["0"]
    assert ids(tag=("n", "0"), status="complete") == []
    await rt.run(Order, 1).send("approve")
    await soon(rt.run(Order, 1).result())
    assert ids(state="submitted") == []
    assert ids(state="approved", status="complete") == ["1"]


async def test_data_is_journaled_and_read_from_outside(rt: Runtime) -> None:
    """`Run.data` is the fold of what run() has set."""
    run = await rt.start(Order, id="o")
    await settle(rt)
    assert await run.data() == {"lines": 0}
    await run.update(Order.add, "x")
    await run.update(Order.submit)
    await settle(rt)
    assert await run.data() == {"lines": 1}
    history = await run.history()
    assert [one.state for one in history if isinstance(one, StateSet)] == ["draft", "submitted"]
    assert len([one for one in history if isinstance(one, DataSet)]) == 2


async def test_data_is_plain_and_a_copy(rt: Runtime) -> None:
    """What is read is not what is stored, and what can't be stored is refused in run()."""

    class Keeps(Workflow):
        async def run(self) -> list[object]:
            given = [1, 2]
            self.data["x"] = given
            given.append(3)
            seen: list[object] = [dict(self.data)]
            self.data["y"] = 1
            del self.data["y"]
            seen.append(dict(self.data))
            for bad in (object(), b"x" * (2 << 20), {Line("a"): 1}):
                try:
                    self.data["bad"] = bad
                except CallerError as error:
                    seen.append(type(error).__name__)
            return seen

    run = await rt.start(Keeps, id="k")
    assert await soon(run.result()) == [{"x": [1, 2]}, {"x": [1, 2]}, *["InvalidValue"] * 3]
    assert await run.data() == {"x": [1, 2]}


async def test_a_transition_that_is_not_declared_fails_the_run(rt: Runtime) -> None:
    """The message names what is allowed."""

    class Jumps(Workflow):
        states = {"": ("a",), "a": ("b", "c")}

        async def run(self) -> None:
            self.set_status("a")
            self.set_status("d")

    with pytest.raises(RunFailed, match="after 'a' its `states` allow b, c; got 'd'"):
        await soon((await rt.start(Jumps, id="j")).result())


def test_what_is_said_is_there_once_over_crashes() -> None:
    """Progress, states, data and tags, with a crash at every commit."""

    class Says(Workflow):
        retry = Retry(3, 1.0)

        async def run(self) -> int:
            self.emit("begun")
            self.set_status("one")
            total = 0
            for n in range(3):
                self.emit("round", n)
                total += await self.step(half, n)
                self.data["n"] = n
                self.emit("stepped", n)
                await self.sleep(10)
            self.set_status("two")
            self.tags["t"] = "x"
            return total

    with simulate() as sim:
        calm = sim.start(Says, id="s")
        sim.result(calm)
        commits = sim.commits
        journal = sim.journal(calm)
        progress = sim.progress(calm)
    assert [one.name for one in progress] == ["begun", *["round", "stepped"] * 3]
    for n in range(1, commits + 1):
        for when in ("before", "after"):
            with simulate() as sim:
                sim.crash_at("commit", n, when)
                run = sim.start(Says, id="s", on_conflict="join")
                assert sim.result(run) == 1
                assert [(one.number, one.name, one.data) for one in sim.progress(run)] == [
                    (one.number, one.name, one.data) for one in progress
                ], (n, when)
                text = sim.journal(run)
                assert text.count("state") == journal.count("state")
                assert text.count("data") == journal.count("data")
                [info] = sim.runtime.runs(state="two", tag=("t", "x"))
                assert info.id == "s"


async def test_followers_get_progress_as_it_comes_and_from_any_number_on(rt: Runtime) -> None:
    """Early, late and again: each event once, in order, until the run has ended."""

    class Tells(Workflow):
        async def run(self) -> None:
            for n in range(3):
                self.emit("n", n)
                await self.wait("next")

    async def follow(since: int = 0) -> list[tuple[int, object]]:
        return [(one.number, one.data) async for one in run.events(since)]

    run = await rt.start(Tells, id="t")
    early = asyncio.ensure_future(follow())
    await settle(rt)
    for _ in range(3):
        await run.send("next")
        await settle(rt)
    assert await soon(early) == [(1, 0), (2, 1), (3, 2)]
    assert await soon(follow(2)) == [(3, 2)]
    assert await soon(follow(3)) == []


async def test_progress_is_durable_before_a_step_begins(rt: Runtime) -> None:
    """What a body sees outside of the run is what run() said before it."""
    seen: list[list[str]] = []

    async def look() -> None:
        seen.append([one.name for one in rt.engine.progress.read(run.ref, 0, 10)])

    class Looks(Workflow):
        async def run(self) -> None:
            self.emit("first")
            await self.step(look)
            self.emit("second")
            await self.step(look)

    run = await rt.start(Looks, id="l")
    await soon(run.result())
    assert seen == [["first"], ["first", "second"]]


async def test_the_folder_is_sound_after_all_that(folder: Folder, clock: ManualClock) -> None:
    """`check` knows what runs say."""
    rt = await folder.open()
    run = await rt.start(Order, id="o", tenant="acme", tags={"a": "b"})
    await run.update(Order.add, "x")
    await run.update(Order.submit)
    await pass_time(rt, clock, 1)
    await rt.close()
    assert check(folder.path) == []
