"""Control from outside: pause, cancel, terminate, restart, retry_now, fork, redrive; bulk and audit."""

from __future__ import annotations

import asyncio

import pytest

from holdfast import Fatal, Retry, RunEnded, RunFailed, Runtime, Workflow
from holdfast.actors.errors import RunExists, RunNotFound
from holdfast.runtime.clock import ManualClock
from holdfast.storage.errors import CallerError
from tests.actors.workflow.support import Folder, pass_time, play, settle, soon, until, until_status

SEEN: list[str] = []
GATES: dict[str, asyncio.Event] = {}
BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()
    GATES.clear()
    BROKEN.clear()


async def mark(what: str) -> str:
    SEEN.append(what)
    if what in BROKEN:
        raise OSError(f"{what} is broken")
    return what


async def gated(what: str) -> str:
    SEEN.append(what)
    await GATES.setdefault(what, asyncio.Event()).wait()
    return what


class Two(Workflow):
    """A step that is held, and another one."""

    async def run(self) -> str:
        first = await self.step(gated, "held")
        second = await self.step(mark, "second")
        return f"{first} {second}"


class Naps(Workflow):
    """Sleeps for an hour, with a step on each side."""

    async def run(self) -> str:
        await self.step(mark, "before")
        await self.sleep("1h")
        return await self.step(mark, "after")


# -- pause and resume --------------------------------------------------------------------------------------


async def test_a_step_in_progress_ends_before_the_pause(rt: Runtime) -> None:
    """AC-59: pausing, then paused; no other step starts; resumed, it goes on behind the step."""
    run = await rt.start(Two, id="r")
    await until(lambda: SEEN == ["held"])
    await run.pause(by="ann")
    assert await run.status() == "pausing"
    GATES["held"].set()
    assert await until_status(run, "paused") == "paused"
    await settle(rt)
    assert SEEN == ["held"]
    assert rt.engine.places.running == 0
    await run.resume()
    assert await soon(run.result()) == "held second"
    assert SEEN == ["held", "second"]


async def test_resume_while_pausing_takes_the_pause_back(rt: Runtime) -> None:
    """AC-59: before the step ends, resume cancels the pause."""
    run = await rt.start(Two, id="r")
    await until(lambda: SEEN == ["held"])
    await run.pause()
    await run.resume()
    assert await run.status() == "running"
    GATES["held"].set()
    assert await soon(run.result()) == "held second"


async def test_a_pause_freezes_the_time_that_is_left(rt: Runtime, clock: ManualClock) -> None:
    """AC-59: ten minutes left when paused are ten minutes left when resumed an hour later."""
    run = await rt.start(Naps, id="r")
    await until_status(run, "waiting")
    await pass_time(rt, clock, 3000, step=500)
    await run.pause()
    await pass_time(rt, clock, 3600, step=600)
    assert await run.status() == "paused"
    assert SEEN == ["before"]
    await run.resume()
    await pass_time(rt, clock, 590, step=59)
    assert SEEN == ["before"]
    await pass_time(rt, clock, 20, step=5)
    assert await soon(run.result()) == "after"


async def test_a_pause_outlives_the_process(folder: Folder, clock: ManualClock) -> None:
    """Paused before a crash is paused after it, and the time is still frozen."""
    rt = await folder.open()
    run = await rt.start(Naps, id="r")
    await until_status(run, "waiting")
    await pass_time(rt, clock, 3590, step=359)
    await run.pause()
    rt = await folder.reopen()
    await pass_time(rt, clock, 7200, step=600)
    run = rt.run(Naps, "r")
    assert await run.status() == "paused"
    await run.resume()
    rt = await folder.reopen()
    await pass_time(rt, clock, 9, step=3)
    assert SEEN == ["before"]
    await pass_time(rt, clock, 3, step=1)
    assert await soon(rt.run(Naps, "r").result()) == "after"


async def test_a_process_that_dies_while_pausing_leaves_a_paused_run(folder: Folder) -> None:
    """The step that was in progress is not begun again before the run is resumed."""
    rt = await folder.open()
    run = await rt.start(Two, id="r")
    await until(lambda: SEEN == ["held"])
    await run.pause()
    rt = await folder.reopen()
    rt.workflow_type(Two)
    run = rt.run(Two, "r")
    assert await until_status(run, "paused") == "paused"
    await settle(rt)
    assert SEEN == ["held"]
    GATES["held"].set()
    await run.resume()
    assert await soon(run.result()) == "held second"
    assert SEEN == ["held", "held", "second"]


async def test_a_waiting_retry_is_frozen_too(rt: Runtime, clock: ManualClock) -> None:
    """The next attempt comes after as much time as was left."""

    class Retries(Workflow):
        retry = Retry(1, 100.0, "constant", jitter=0)

        async def run(self) -> str:
            return await self.step(mark, "x")

    BROKEN.add("x")
    run = await rt.start(Retries, id="r")
    await until_status(run, "retrying")
    await pass_time(rt, clock, 60, step=20)
    await run.pause()
    await pass_time(rt, clock, 1000, step=250)
    assert SEEN == ["x"]
    await run.resume()
    await pass_time(rt, clock, 38, step=19)
    assert SEEN == ["x"]
    BROKEN.clear()
    await pass_time(rt, clock, 5, step=1)
    assert await soon(run.result()) == "x"


async def test_events_that_come_in_a_pause_are_kept(rt: Runtime) -> None:
    """A paused run takes events, and sees them when it goes on."""

    class Waits(Workflow):
        async def run(self) -> object:
            return (await self.wait("go")).payload

    run = await rt.start(Waits, id="r")
    await until_status(run, "waiting")
    await run.pause()
    await run.send("go", 7)
    await settle(rt)
    assert await run.status() == "paused"
    await run.resume()
    assert await soon(run.result()) == 7


async def test_what_can_not_be_paused_or_resumed_says_so(rt: Runtime) -> None:
    """Ended runs, runs that aren't paused, and unknown ones."""
    run = await rt.start(Naps, id="r")
    await until_status(run, "waiting")
    with pytest.raises(CallerError, match="waiting, not paused"):
        await run.resume()
    await run.terminate()
    with pytest.raises(RunEnded, match="terminated already"):
        await run.pause()
    with pytest.raises(RunNotFound):
        await rt.run(Naps, "nobody").pause()


# -- cancel and terminate ----------------------------------------------------------------------------------


class Cleans(Workflow):
    """Cleans up when it is cancelled."""

    async def run(self) -> str:
        try:
            await self.sleep("1d")
        finally:
            await self.step(mark, "clean-up")
        return "slept"


async def test_cancel_lets_the_clean_up_run(rt: Runtime) -> None:
    """run() is cancelled where it waits; what its `finally` asks for is done; the run is cancelled."""
    run = await rt.start(Cleans, id="r")
    await until_status(run, "waiting")
    await run.cancel(by="ann", reason="not needed")
    with pytest.raises(RunFailed, match="cancelled: Cancelled: not needed"):
        await soon(run.result())
    assert SEEN == ["clean-up"]
    assert await run.status() == "cancelled"


async def test_cancel_is_durable_and_the_clean_up_goes_on_after_a_crash(folder: Folder) -> None:
    """A crash in the middle of the clean-up: it goes on, and what was done is not done again."""

    class Long(Workflow):
        async def run(self) -> None:
            try:
                await self.sleep("1d")
            finally:
                await self.step(mark, "one")
                await self.step(gated, "two")

    rt = await folder.open()
    run = await rt.start(Long, id="r")
    await until_status(run, "waiting")
    await run.cancel()
    await until(lambda: SEEN == ["one", "two"])
    rt = await folder.reopen()
    rt.workflow_type(Long)
    await until(lambda: SEEN == ["one", "two", "two"])
    GATES["two"].set()
    assert await until_status(rt.run(Long, "r"), "cancelled") == "cancelled"


async def test_a_run_that_catches_the_cancel_is_complete(rt: Runtime) -> None:
    """What run() returns is its result, whatever was asked of it."""

    class Stubborn(Workflow):
        async def run(self) -> str:
            try:
                await self.sleep("1d")
            except asyncio.CancelledError:
                return "had enough"
            return "?"

    run = await rt.start(Stubborn, id="r")
    await until_status(run, "waiting")
    await run.cancel()
    assert await soon(run.result()) == "had enough"


async def test_a_queued_and_a_paused_run_can_be_cancelled(folder: Folder) -> None:
    """Both get the chance to clean up when they have a place."""
    rt = await folder.open(max_running=1)
    first = await rt.start(Two, id="first")
    await until(lambda: SEEN == ["held"])
    queued = await rt.start(Cleans, id="queued")
    assert await queued.status() == "queued"
    await queued.cancel()
    assert await queued.status() == "queued"
    GATES["held"].set()
    await soon(first.result())
    assert await until_status(queued, "cancelled") == "cancelled"
    paused = await rt.start(Cleans, id="paused")
    await until_status(paused, "waiting")
    await paused.pause()
    await paused.cancel()
    assert await until_status(paused, "cancelled") == "cancelled"


async def test_terminate_with_undo_takes_back_what_was_done(rt: Runtime) -> None:
    """No clean-up of run() itself runs, the undo of its steps does."""

    class Undoes(Workflow):
        async def run(self) -> None:
            await self.step(mark, "a", undo=unmark)
            await self.step(mark, "b", name="mark b", undo=unmark)
            try:
                await self.sleep("1d")
            finally:
                await self.step(mark, "never")

    run = await rt.start(Undoes, id="r")
    await until_status(run, "waiting")
    await run.terminate("stop", undo=True)
    with pytest.raises(RunFailed, match="terminated: Terminated: stop"):
        await soon(run.result())
    assert SEEN == ["a", "b", "undo b", "undo a"]


async def unmark(what: str) -> None:
    SEEN.append(f"undo {what}")
    if f"undo {what}" in BROKEN:
        raise Fatal(f"can't undo {what}")


# -- again -------------------------------------------------------------------------------------------------


async def test_restart_begins_anew_with_an_empty_history(rt: Runtime) -> None:
    """From the top, in any status, with the same input or another."""

    class Echo(Workflow):
        async def run(self, what: str) -> str:
            return await self.step(mark, what)

    run = await rt.start(Echo, "x", id="r", tags={"k": "v"})
    assert await soon(run.result()) == "x"
    await run.restart()
    assert await soon(run.result()) == "x"
    await run.restart(input="y", by="ann")
    assert await soon(run.result()) == "y"
    assert SEEN == ["x", "x", "y"]
    assert len(await run.history()) == 3
    assert (await run.info()).tags == {"k": "v"}
    assert rt.engine.places.running == 0


async def test_restart_in_the_middle_drops_what_was_in_progress(rt: Runtime) -> None:
    """The step in progress is cancelled, and the run waits for a new one."""
    run = await rt.start(Two, id="r")
    await until(lambda: SEEN == ["held"])
    await run.restart()
    await until(lambda: SEEN == ["held", "held"])
    GATES["held"].set()
    assert await soon(run.result()) == "held second"
    assert rt.engine.places.running == 0


async def test_retry_now_does_not_wait(folder: Folder) -> None:
    """A retry that is hours away begins at once, in memory or not."""

    class Patient(Workflow):
        retry = Retry(3, 10_000.0, "constant")

        async def run(self) -> str:
            return await self.step(mark, "x")

    rt = await folder.open()
    BROKEN.add("x")
    run = await rt.start(Patient, id="r")
    await until_status(run, "retrying")
    await run.retry_now()
    await until(lambda: len(SEEN) == 2)
    await until_status(run, "retrying")
    rt = await folder.reopen()
    run = rt.run(Patient, "r")
    BROKEN.clear()
    await run.retry_now(by="ann")
    assert await soon(run.result()) == "x"
    with pytest.raises(RunEnded):
        await run.retry_now()


async def test_retry_now_without_a_waiting_attempt_is_refused(rt: Runtime) -> None:
    """There is nothing to do for a sleeping run."""
    run = await rt.start(Naps, id="r")
    await until_status(run, "waiting")
    with pytest.raises(CallerError, match="no attempt of run"):
        await run.retry_now()


class Chain(Workflow):
    """Three steps; the second one's result decides."""

    async def run(self, who: str) -> str:
        one = await self.step(mark, f"one {who}", name="one")
        number = self.random.randrange(10**9)
        two = await self.step(mark, f"two of {one}", name="two")
        three = await self.step(mark, f"three after {two}", name="three")
        return f"{three} {number}"


async def test_fork_goes_on_from_a_step_and_leaves_the_old_run(rt: Runtime) -> None:
    """Earlier results stay, chance is the same, the rest is done again under another id."""
    run = await rt.start(Chain, "ann", id="r", tenant="acme")
    result = await soon(run.result())
    history = await run.history()
    SEEN.clear()
    fork = await run.fork("three", id="f", by="bob")
    assert await soon(fork.result()) == result
    assert SEEN == ["three after two of one ann"]
    assert await run.history() == history
    assert (await fork.info()).tenant == "acme"


async def test_fork_with_overrides(rt: Runtime) -> None:
    """Another result for an earlier step is what the fork goes on with."""
    run = await rt.start(Chain, "ann", id="r")
    await soon(run.result())
    SEEN.clear()
    fork = await run.fork(("three", 1), id="f", overrides={"two": "something else"})
    assert (await soon(fork.result())).startswith("three after something else")
    assert SEEN == ["three after something else"]
    with pytest.raises(CallerError, match=r"no step 'four' \(use 1\); it has one \(use 1\)"):
        await run.fork("four", id="g")
    with pytest.raises(CallerError, match="no outcome of three"):
        await run.fork("three", id="g", overrides={"three": 1})
    with pytest.raises(RunExists):
        await run.fork("three", id="f")


async def test_fork_of_a_run_that_failed_and_was_redriven(rt: Runtime) -> None:
    """What a redrive took back is not part of the fork's history."""
    BROKEN.add("two of one ann")

    class Fails(Chain):
        retry = Retry(0)

    run = await rt.start(Fails, "ann", id="r")
    with pytest.raises(RunFailed):
        await soon(run.result())
    BROKEN.clear()
    await run.redrive()
    result = await soon(run.result())
    fork = await run.fork("three", id="f")
    assert await soon(fork.result()) == result


async def test_redrive_after_undo_is_refused(rt: Runtime) -> None:
    """Steps that were undone can't be gone on behind."""

    class Saga(Workflow):
        retry = Retry(0)

        async def run(self) -> None:
            await self.step(mark, "a", undo=unmark)
            await self.step(mark, "b", name="b")

    BROKEN.add("b")
    run = await rt.start(Saga, id="r")
    with pytest.raises(RunFailed):
        await soon(run.result())
    assert SEEN == ["a", "b", "undo a"]
    with pytest.raises(CallerError, match="has undone 1 of its steps"):
        await run.redrive()
    BROKEN.clear()
    await run.restart()
    await soon(run.result())


# -- many at once, and the audit ---------------------------------------------------------------------------


async def test_a_verb_over_a_filter_with_a_counted_dry_run(rt: Runtime) -> None:
    """The dry run counts, the real one tells what it did and what refused."""
    for n in range(5):
        run = await rt.start(Naps, id=n, tags={"half": str(n % 2)})
        await until_status(run, "waiting")
    wanted = rt.run_filter(Naps, status="waiting", tag=("half", "0"))
    result = await rt.control("pause", wanted, dry_run=True)
    assert (result.matched, result.done) == (3, 0)
    result = await rt.control("pause", wanted, by="ann")
    assert (result.matched, result.done, result.refused) == (3, 3, ())
    result = await rt.control("resume", rt.run_filter(Naps), by="ann")
    assert (result.matched, result.done) == (5, 3)
    assert {address for address, _ in result.refused} == {"Naps/1", "Naps/3"}
    with pytest.raises(CallerError, match="no verb 'explode'"):
        await rt.control("explode", wanted)  # type: ignore[arg-type]


async def test_dead_letters_are_redriven_by_filter_at_a_rate(rt: Runtime, clock: ManualClock) -> None:
    """Two a second: ten need four and a half seconds."""

    class Fails(Workflow):
        retry = Retry(0)

        async def run(self, n: int) -> str:
            return await self.step(mark, "x")

    BROKEN.add("x")
    for n in range(10):
        with pytest.raises(RunFailed):
            await soon((await rt.start(Fails, n, id=n)).result())
    BROKEN.clear()
    work = asyncio.ensure_future(
        rt.control("redrive", rt.run_filter(Fails, status="failed"), rate=2, by="ann")
    )
    await settle(rt)
    await pass_time(rt, clock, 2.1, step=0.1)
    assert not work.done()
    done = len(rt.runs(Fails, status="complete"))
    assert 4 <= done <= 6
    await pass_time(rt, clock, 3, step=0.1)
    assert (await soon(work)).done == 10
    assert len(rt.runs(Fails, status="complete")) == 10


async def test_each_verb_is_in_the_audit(rt: Runtime) -> None:
    """Who, what, before and after, the newest first."""
    run = await rt.start(Naps, id="r")
    other = await rt.start(Naps, id="s")
    await until_status(run, "waiting")
    await until_status(other, "waiting")
    await run.pause(by="ann", reason="lunch")
    await run.resume(by="ann")
    await other.cancel(by="bob")
    await settle(rt)
    await run.terminate("enough", by="carl")
    await run.restart(by="dora")
    deeds = rt.audit(run=run)
    assert [(one.who, one.verb, one.before, one.after) for one in deeds] == [
        ("dora", "restart", "terminated", "running"),
        ("carl", "terminate", deeds[1].before, "terminated"),
        ("ann", "resume", "paused", "queued"),
        ("ann", "pause", "waiting", "paused"),
    ]
    assert deeds[3].reason == "lunch"
    assert [one.target for one in rt.audit(limit=2)] == ["Naps/r", "Naps/r"]
    assert len(rt.audit()) == 5
    assert rt.audit(since=deeds[0].at)[0].verb == "restart"


async def test_control_from_run_itself_is_refused(rt: Runtime) -> None:
    """What run() would see differs on replay."""

    class Meddles(Workflow):
        async def run(self) -> str:
            try:
                await self.runtime.run(Naps, "x").pause()
            except CallerError as error:
                return str(error)
            return "?"

    assert "ask in a step" in await soon((await rt.start(Meddles, id="r")).result())


async def test_a_played_run_can_be_paused_at_any_moment(rt: Runtime, clock: ManualClock) -> None:
    """Paused and resumed again and again, a run does what it would have done."""
    run = await rt.start(Naps, id="r")
    for _ in range(5):
        await run.pause()
        await settle(rt)
        await run.resume()
        await settle(rt)
    assert await play(rt, clock, run) == "after"
    assert SEEN == ["before", "after"]
