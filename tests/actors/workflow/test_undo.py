"""Undo, deadlines, heartbeats, optional steps, too many steps."""

from __future__ import annotations

import asyncio
import re

import pytest

from holdfast import Fatal, Retry, RunFailed, Runtime, Workflow, current_step, heartbeat, last_heartbeat
from holdfast.actors.workflow.journal import Failed
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import InvalidActor
from holdfast.storage import layout
from holdfast.storage.errors import CallerError
from holdfast.testing import simulate
from tests.actors.workflow.support import Folder, pass_time, play, rows, settle, soon, until, until_status

SEEN: list[str] = []
BROKEN: set[str] = set()
GATES: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()
    BROKEN.clear()
    GATES.clear()


async def do(what: str) -> str:
    SEEN.append(what)
    if what in BROKEN:
        raise Fatal(f"{what} is broken")
    return what.upper()


async def undo(result: str) -> None:
    SEEN.append(f"undo {result}")
    if f"undo {result}" in BROKEN:
        raise Fatal(f"can't undo {result}")


class Saga(Workflow):
    """Three steps, each with an undo; a fourth one without."""

    retry = Retry(0)

    async def run(self) -> str:
        await self.step(do, "a", undo=undo)
        await self.step(do, "b", name="b", undo=undo)
        async with self.group() as group:
            group.step(do, "c", name="c", undo=undo)
            group.step(do, "d", name="d")
        return await self.step(do, "e", name="e")


# -- undo --------------------------------------------------------------------------------------------------


async def test_a_failure_undoes_the_steps_in_reverse_order(rt: Runtime) -> None:
    """AC-61: with their results, the last one first; the run is a dead letter that tells how many."""
    BROKEN.add("e")
    run = await rt.start(Saga, id="s")
    with pytest.raises(RunFailed, match="e is broken"):
        await soon(run.result())
    assert SEEN[-3:] == ["undo C", "undo B", "undo A"]
    last = (await run.history())[-1]
    assert isinstance(last, Failed)
    assert (last.undone, last.undo, last.step) == (3, None, "e")


async def test_success_undoes_nothing(rt: Runtime) -> None:
    """AC-61: nothing of it runs."""
    assert await soon((await rt.start(Saga, id="s")).result()) == "E"
    assert [one for one in SEEN if one.startswith("undo")] == []


async def test_the_first_undo_that_fails_stops_the_rest(rt: Runtime) -> None:
    """AC-61: A's is not run, and the last record says so."""
    BROKEN.update(("e", "undo B"))
    run = await rt.start(Saga, id="s")
    with pytest.raises(RunFailed, match="e is broken"):
        await soon(run.result())
    assert SEEN[-2:] == ["undo C", "undo B"]
    last = (await run.history())[-1]
    assert isinstance(last, Failed)
    assert last.undone == 1
    assert "can't undo B" in str(last.undo)


def test_undoing_survives_a_crash_at_every_commit() -> None:
    """AC-61: no undo that is recorded runs again, all of them run, and the end is the same."""
    BROKEN.add("e")
    with simulate() as sim:
        calm = sim.start(Saga, id="s")
        with pytest.raises(RunFailed):
            sim.result(calm)
        commits = sim.commits
    for n in range(1, commits + 1):
        for when in ("before", "after"):
            SEEN.clear()
            with simulate() as sim:
                sim.crash_at("commit", n, when)
                run = sim.start(Saga, id="s")
                with pytest.raises(RunFailed, match="e is broken"):
                    sim.result(run)
                last = sim.history(run)[-1]
                assert isinstance(last, Failed)
                assert last.undone == 3
                assert sim.reran == []
                for one in "CBA":
                    assert f"undo {one}" in SEEN


async def test_changed_code_that_fails_early_undoes_nothing(folder: Folder) -> None:
    """A run that got further than changed code gets is stuck, and not taken back."""

    class Changing(Workflow):
        fails = False

        async def run(self) -> None:
            await self.step(do, "a", undo=undo)
            if type(self).fails:
                raise ValueError("a mistake in new code")
            await self.sleep("1h")

    rt = await folder.open()
    run = await rt.start(Changing, id="c")
    await until_status(run, "waiting")
    Changing.fails = True
    rt = await folder.reopen()
    rt.workflow_type(Changing)
    await settle(rt)
    folder.clock.advance(3700)
    assert await until_status(rt.run(Changing, "c"), "stuck") == "stuck"
    assert SEEN == ["a"]


async def test_cancel_undoes_after_the_clean_up(rt: Runtime) -> None:
    """What run() does in its `finally` comes first."""

    class Cleans(Workflow):
        async def run(self) -> None:
            await self.step(do, "a", undo=undo)
            try:
                await self.sleep("1d")
            finally:
                await self.step(do, "clean")

    run = await rt.start(Cleans, id="c")
    await until_status(run, "waiting")
    await run.cancel()
    await until_status(run, "cancelled")
    assert SEEN == ["a", "clean", "undo A"]


async def test_an_undo_must_be_a_function(rt: Runtime) -> None:
    """A mistake is told where it is made."""

    class Bad(Workflow):
        async def run(self) -> None:
            await self.step(do, "a", undo="undo")  # type: ignore[call-overload]

    with pytest.raises(RunFailed, match="must be a function of its result"):
        await soon((await rt.start(Bad, id="b")).result())


# -- optional steps ----------------------------------------------------------------------------------------


async def test_an_optional_step_gives_its_default(rt: Runtime) -> None:
    """The failure is recorded and the run goes on; `outcome` gives it as a value."""

    class Goes(Workflow):
        retry = Retry(0)

        async def run(self) -> list[object]:
            first = await self.step(do, "x", name="x").optional("nothing")
            second = await self.step(do, "y", name="y").optional("nothing")
            third = await self.step(do, "x", name="x").outcome()
            fourth = await self.step(do, "y", name="y").outcome()
            return [first, second, third.ok, str(third.error), fourth.ok, fourth.value]

    BROKEN.add("x")
    result = await soon((await rt.start(Goes, id="g")).result())
    assert result[:3] == ["nothing", "Y", False]
    assert "x is broken" in str(result[3])
    assert result[4:] == [True, "Y"]


# -- deadlines ---------------------------------------------------------------------------------------------


class Late(Workflow):
    """Cleans up when its time is over."""

    deadline = "30s"

    async def run(self) -> str:
        await self.step(do, "a", undo=undo)
        try:
            await self.wait("never")
        finally:
            await self.step(do, "clean")
        return "?"


async def test_a_run_fails_at_its_deadline(rt: Runtime, clock: ManualClock) -> None:
    """It is cancelled where it waits, cleans up, is undone, and is a dead letter."""
    run = await rt.start(Late, id="l")
    await until_status(run, "waiting")
    await pass_time(rt, clock, 29)
    assert await run.status() == "waiting"
    await pass_time(rt, clock, 2)
    with pytest.raises(RunFailed, match="DeadlinePassed: the run did not end before its deadline"):
        await soon(run.result())
    assert SEEN == ["a", "clean", "undo A"]


async def test_a_deadline_holds_over_restarts_and_for_steps_in_progress(
    folder: Folder, clock: ManualClock
) -> None:
    """It counts from the start of the run; the step that is in progress is given up."""

    class Busy(Workflow):
        step_timeout = None

        async def run(self) -> None:
            await self.step(gated, "g")

    rt = await folder.open()
    run = await rt.start(Busy, id="b", deadline="1h")
    await until(lambda: SEEN == ["g"])
    await pass_time(rt, clock, 3000, step=1000)
    rt = await folder.reopen()
    run = rt.run(Busy, "b")
    await until(lambda: SEEN == ["g", "g"])
    await pass_time(rt, clock, 590, step=295)
    assert await run.status() == "running"
    await pass_time(rt, clock, 20, step=5)
    with pytest.raises(RunFailed, match="DeadlinePassed"):
        await soon(run.result())
    with pytest.raises(CallerError, match="deadline"):
        await rt.start(Busy, id="c", deadline=0)


async def gated(what: str) -> str:
    SEEN.append(what)
    await GATES.setdefault(what, asyncio.Event()).wait()
    return what


async def test_a_run_that_ends_in_time_leaves_no_deadline_behind(rt: Runtime, clock: ManualClock) -> None:
    """No alarm and no timer are left."""

    class Quick(Workflow):
        deadline = "1h"

        async def run(self) -> str:
            await self.sleep(1)
            return await self.step(do, "x")

    run = await rt.start(Quick, id="q")
    assert await play(rt, clock, run) == "X"
    await settle(rt)
    assert rows(rt, layout.ALARM) == []


def test_deadlines_are_the_same_on_replay() -> None:
    """Crashes around the deadline change nothing of what is cleaned up and undone."""
    for n in range(1, 12):
        for when in ("before", "after"):
            SEEN.clear()
            with simulate() as sim:
                sim.crash_at("commit", n, when)
                run = sim.start(Late, id="l")
                with pytest.raises(RunFailed, match="DeadlinePassed"):
                    sim.result(run)
                assert sim.reran == []
                assert SEEN[-1] == "undo A"


# -- heartbeats --------------------------------------------------------------------------------------------


async def test_a_step_without_a_heartbeat_is_tried_again_with_what_it_told(
    rt: Runtime, clock: ManualClock
) -> None:
    """Silence fails the attempt; the next one begins where the last one was."""
    told: list[object] = []

    async def long() -> int:
        told.append(last_heartbeat(int))
        begin = last_heartbeat(int) or 0
        for n in range(begin, 3):
            heartbeat(n + 1)
            await gated(f"{n} {len(told)}")
        return 3

    class Long(Workflow):
        retry = Retry(3, 1.0, "constant", jitter=0)

        async def run(self) -> int:
            return await self.step(long, heartbeat="10s")

    run = await rt.start(Long, id="l")
    await until(lambda: SEEN == ["0 1"])
    await pass_time(rt, clock, 8)
    GATES["0 1"].set()
    await until(lambda: len(SEEN) == 2)
    await pass_time(rt, clock, 8)
    assert await run.status() == "running"
    await pass_time(rt, clock, 4)
    await until(lambda: len(told) == 2)
    assert told == [None, 2]
    for name in ("2 2",):
        GATES.setdefault(name, asyncio.Event()).set()
    assert await soon(run.result()) == 3
    await settle(rt)
    assert rows(rt, layout.HEARTBEAT) == []


async def test_a_step_of_a_group_has_a_heartbeat(rt: Runtime, clock: ManualClock) -> None:
    """A group begins steps with all that `self.step` takes."""
    began: list[int] = []

    async def silent() -> str:
        began.append(1)
        if len(began) == 1:
            await asyncio.Event().wait()
        return "done"

    class Grouped(Workflow):
        retry = Retry(1, 1.0, "constant", jitter=0)

        async def run(self) -> str:
            async with self.group() as group:
                step = group.step(silent, heartbeat="10s")
            return step.result()

    run = await rt.start(Grouped, id="g")
    await until(lambda: len(began) == 1)
    await pass_time(rt, clock, 12)
    await until(lambda: len(began) == 2)
    assert await soon(run.result()) == "done"


async def test_a_heartbeat_survives_a_crash(folder: Folder) -> None:
    """The attempt after it knows what the one before told, also from a thread."""
    told: list[object] = []
    gate = asyncio.Event()

    async def long() -> str:
        told.append(last_heartbeat())
        await asyncio.to_thread(heartbeat, {"page": 7})
        await gate.wait()
        return "done"

    class Long(Workflow):
        async def run(self) -> str:
            return await self.step(long)

    rt = await folder.open()
    run = await rt.start(Long, id="l")
    await until(lambda: told == [None])
    await until(lambda: bool(rows(rt, layout.HEARTBEAT)))
    await settle(rt)
    rt = await folder.reopen()
    rt.workflow_type(Long)
    await until(lambda: len(told) == 2)
    assert told[1] == {"page": 7}
    gate.set()
    run = rt.run(Long, "l")
    assert await soon(run.result()) == "done"
    await settle(rt)
    assert rows(rt, layout.HEARTBEAT) == []


async def test_heartbeats_outside_of_steps_are_refused() -> None:
    """There is nobody to tell."""
    with pytest.raises(CallerError, match="for the body of a step"):
        heartbeat()
    with pytest.raises(CallerError, match="for the body of a step"):
        last_heartbeat()


# -- budgets -----------------------------------------------------------------------------------------------


async def test_too_many_steps_are_told(rt: Runtime) -> None:
    """At `max_steps` the run is told so, on replay as live; what was done before stays done."""

    class Greedy(Workflow):
        max_steps = 3

        async def run(self) -> list[str]:
            done: list[str] = []
            try:
                for n in range(10):
                    done.append(await self.step(do, str(n)))
            except Exception as error:
                done.append(str(error))
            return done

    result = await soon((await rt.start(Greedy, id="g")).result())
    assert result[:3] == ["0", "1", "2"]
    assert "max_steps=3 steps" in result[3]


async def test_bad_class_options_are_told_when_the_class_is_used(rt: Runtime) -> None:
    """Each with what was expected."""
    for options, match in (
        ({"max_steps": 0}, "max_steps"),
        ({"deadline": 0}, "deadline"),
        ({"states": ["a"]}, "states"),
        ({"states": {"a": ("b",)}}, "states"),
        ({"events": (3,)}, "events"),
    ):

        async def run(self: Workflow) -> None:
            """Nothing."""

        kind = type(f"Bad{match.title()}{len(options)}{id(options)}", (Workflow,), {**options, "run": run})
        with pytest.raises(InvalidActor, match=match):
            rt.workflow_type(kind)


async def test_the_idempotency_key_is_the_same_in_all_attempts(rt: Runtime) -> None:
    """And no other step's; not that of a run which has the id later."""
    keys: list[str] = []

    async def pay() -> None:
        step = current_step()
        assert step is not None
        keys.append(step.idempotency_key)
        if len(keys) == 1:
            raise OSError("again")

    class Pays(Workflow):
        retry = Retry(1, 0.0)

        async def run(self) -> None:
            await self.step(pay)
            await self.step(pay)

    await soon((await rt.start(Pays, id="p")).result())
    first, again, second = keys
    assert first == again
    assert re.fullmatch(r"Pays/p@\d+-[0-9a-f]{12}#pay#1", first)
    assert second == first[:-1] + "2"
    await (rt.run(Pays, "p")).restart()
    await soon(rt.run(Pays, "p").result())
    assert len(set(keys)) == 4
