"""What meets: events, updates, control, children and undo, with each other and with crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, cast

import msgspec
import pytest

from holdfast import (
    Actor,
    HoldfastError,
    Limits,
    Retry,
    RunEnded,
    Runtime,
    Workflow,
    current_step,
    heartbeat,
    update,
)
from holdfast.actors.workflow.journal import Failed
from holdfast.storage import layout
from holdfast.testing import ProcessDied, Simulation, simulate
from holdfast.testing.sim_run import SimRun
from tests.actors.workflow.support import rows


class Note(msgspec.Struct, frozen=True):
    """An event."""

    n: int


class TakesTwo(Workflow):
    """Waits for two notes."""

    async def run(self) -> list[int]:
        return [(await self.wait(Note)).n, (await self.wait(Note)).n]


async def quick(n: int) -> int:
    """A step that waits for nothing."""
    return n


async def slowly(seconds: float) -> float:
    """A step that takes so long."""
    await asyncio.sleep(seconds)
    return seconds


# -- events --------------------------------------------------------------------------------------------------


class Opener(Actor):
    """Starts a run and sends to it in the same turn."""

    async def open(self) -> None:
        run = await cast("Runtime", self.runtime).start(TakesTwo, id="a")
        await run.send(Note(1))
        await run.send(Note(2))


def test_a_turn_starts_a_run_and_sends_to_it() -> None:
    """Start and events are one commit, and the run gets them, at once and from the disk."""
    for most in (10, 1):
        with simulate(types=[TakesTwo], max_running=most) as sim:
            blocked = sim.start(Blocks, id="b")
            sim.call(Opener, "o").open()
            assert sim.result(SimRun(TakesTwo, "a")) == [1, 2]
            assert len(sim.history(SimRun(TakesTwo, "a"))) == 4
            assert sim.result(blocked) == 50


class Blocks(Workflow):
    """Holds a place for a while."""

    async def run(self) -> float:
        return await self.step(slowly, 50)


class Chatty(Workflow):
    """Sends more often than a stack is deep, to one that is there and to one that isn't."""

    async def run(self, to: str) -> int:
        failed = 0
        for n in range(700):
            failed += (await self.send(TakesTwo, to, "note", n).outcome()).error is not None
        return failed


def test_many_sends_in_a_row() -> None:
    """Each is recorded and delivered; none goes deeper into the stack than the one before."""
    with simulate() as sim:
        sim.start(TakesTwo, id="a")
        assert sim.result(sim.start(Chatty, "a", id="c")) == 0
        assert sim.result(sim.start(Chatty, "nobody", id="d")) == 700
        assert len(sim.history(SimRun(TakesTwo, "a"))) == 701


# -- undo ----------------------------------------------------------------------------------------------------


UNDONE: list[str] = []


async def take_back(n: float) -> None:
    """An undo that takes its time."""
    await asyncio.sleep(50)
    UNDONE.append(f"undid {n:g}")


class LeavesAStep(Workflow):
    """Fails while a step that could be undone is in progress."""

    async def run(self) -> None:
        await self.step(quick, 1, undo=take_back, name="a")
        await self.step(quick, 2, undo=take_back, name="b")
        left = self.step(slowly, 20, undo=take_back, name="left")
        await self.sleep(1)
        raise ValueError(f"left {left.done()}")


def test_a_step_in_progress_is_given_up_where_undo_begins() -> None:
    """It isn't recorded any more, so a replay in the middle of undoing undoes the same steps."""
    for crash in (None, 2, 30, 60, 90):
        UNDONE.clear()
        with simulate() as sim:
            run = sim.start(LeavesAStep, id="a")
            if crash is not None:
                sim.advance(crash)
                sim.crash()
            sim.run_until_idle()
            assert sim.status(run) == "failed"
            last = sim.history(run)[-1]
            assert isinstance(last, Failed)
            assert (last.error.message, last.undone, last.undo) == ("left False", 2, None)
            assert list(dict.fromkeys(UNDONE)) == ["undid 2", "undid 1"]
            assert sim.attempts("left") == 1


class WaitsForBoth(Workflow):
    """A step that can be undone, then two that take long."""

    async def run(self) -> None:
        await self.step(quick, 1, undo=take_back, name="a")
        await asyncio.gather(self.step(slowly, 500, name="b"), self.step(slowly, 600, name="c"))


def test_steps_given_up_by_terminate_dont_begin_after_a_crash() -> None:
    """What run() had asked for when it was terminated with undo is over, also on replay."""
    with simulate() as sim:
        run = sim.start(WaitsForBoth, id="a")
        sim.advance(1)
        sim.run(sim.runtime.run(WaitsForBoth, "a").terminate, "stop", undo=True)
        sim.advance(1)
        sim.crash()
        sim.run_until_idle()
        assert sim.status(run) == "terminated"
        assert (sim.attempts("b"), sim.attempts("c"), sim.effects("b")) == (1, 1, 0)


# -- children ------------------------------------------------------------------------------------------------


class CleansUpSlowly(Workflow):
    """Sleeps for days, and takes two hours to clean up when it is cancelled."""

    async def run(self, n: int) -> int:
        try:
            await self.sleep("10d")
        except asyncio.CancelledError:
            await self.step(slowly, 7200, timeout="3h", name="clean up")
            raise
        return n


class GivesChildUp(Workflow):
    """Waits five seconds for a child, and goes on without it."""

    async def run(self, detached: bool) -> str:
        try:
            async with asyncio.timeout(5):
                await self.child(CleansUpSlowly, 1, detached=detached)
        except TimeoutError:
            pass
        await self.step(quick, 1)
        await self.sleep("20d")
        return "went on"


def test_a_child_that_was_given_up_may_end_whenever_it_likes() -> None:
    """Its outcome comes while its parent lies on disk, behind other records; the parent is not stuck."""
    for detached in (False, True):
        with simulate() as sim:
            run = sim.start(GivesChildUp, detached, id="p")
            sim.advance(60)
            sim.crash()
            assert sim.result(run) == "went on"
            child = SimRun[int](CleansUpSlowly, ("p", "CleansUpSlowly-1"))
            assert sim.status(child) == ("complete" if detached else "cancelled")


class Begins(Workflow):
    """A child, under an id of its own or one that is made."""

    async def run(self, id: str | None) -> int:
        return await self.child(CleansUpSlowly, 5, id=id)


def test_a_restarted_parent_has_nothing_to_do_with_its_former_child() -> None:
    """The cancel of the former child is not the outcome of the new one, in memory or on disk."""
    for id_ in (None, "mine"):
        for wait in (None, 0, 60):
            with simulate() as sim:
                run = sim.start(Begins, id_, id="p")
                sim.advance(60)
                sim.restart(run)
                if wait is not None:
                    sim.advance(wait)
                    sim.crash()
                assert sim.result(run) == 5


def test_a_parent_that_is_restarted_after_its_end_begins_its_child_anew() -> None:
    """A child with a fixed id that ended with the former beginning is begun anew."""
    with simulate() as sim:
        run = sim.start(Begins, "mine", id="p")
        assert sim.result(run) == 5
        sim.restart(run)
        assert sim.result(run) == 5
        assert len(sim.history(SimRun(CleansUpSlowly, "mine"))) == 3


class GivesUpAtOnce(Workflow):
    """Asks for a child under an id that is another's, and gives it up before it is begun."""

    async def run(self) -> int:
        await self.step(quick, 1)
        self.child(CleansUpSlowly, 1, id="other").cancel()
        await self.sleep(1)
        return 1


def test_giving_up_a_child_that_never_began_leaves_others_alone() -> None:
    """The run that has the id is nobody's child."""
    with simulate() as sim:
        other = sim.start(CleansUpSlowly, 7, id="other")
        assert sim.result(sim.start(GivesUpAtOnce, id="p")) == 1
        assert sim.result(other) == 7


# -- updates -------------------------------------------------------------------------------------------------


class Tallies(Workflow):
    """Counts by updates, and begins anew whenever it is told to."""

    def __init__(self) -> None:
        self.total = 0

    async def run(self, n: int) -> int:
        await self.wait("go")
        await self.step(slowly, 10)
        if n:
            self.continue_as_new(n - 1)
        return self.total

    @update
    async def add(self, n: int) -> int:
        self.total += n
        return self.total

    @update
    async def add_slowly(self, n: int) -> int:
        await self.step(slowly, 100)
        self.total += n
        return self.total

    def validate_add_slowly(self, n: int) -> None:
        """Whatever it is."""


async def outcome(work: Awaitable[object]) -> object:
    """What came of a request that must come to something."""
    try:
        return await asyncio.wait_for(work, 1000)
    except HoldfastError as error:
        return f"{type(error).__name__}: {error}"


def test_the_same_update_by_several_at_the_same_time() -> None:
    """One acceptance, and the same reply for all, validated or not."""

    async def several() -> list[object]:
        run = sim.runtime.run(Tallies, "a")
        return await asyncio.gather(
            *[outcome(run.update_once("add_slowly", "u", 5)) for _ in range(3)],
            *[outcome(run.update_once("add", "v", 1)) for _ in range(3)],
        )

    with simulate() as sim:
        sim.start(Tallies, 0, id="a")
        assert sim.run(several) == [6, 6, 6, 1, 1, 1]


def test_an_update_over_continue_as_new() -> None:
    """One in progress is told that it is over, and so is who asks again; a later one is for the next."""

    async def story() -> list[object]:
        run = sim.runtime.run(Tallies, "a")
        begun = asyncio.ensure_future(outcome(run.update_once("add_slowly", "u", 5)))
        await asyncio.sleep(1)
        await run.send("go")
        told = [await begun]
        told.append(await outcome(run.update_once("add_slowly", "u", 5)))
        told.append(await outcome(run.update_once("add", "v", 2)))
        return told

    with simulate() as sim:
        sim.start(Tallies, 1, id="a")
        first, second, third = sim.run(story)
        assert first == "RunEnded: run Tallies/a continued as new before the update 'u' did"
        assert str(second).startswith("UpdateRefused: run Tallies/a took update 'u' before")
        assert third == 2


def test_an_update_of_a_run_that_lies_on_disk_and_is_ended_there() -> None:
    """Terminated or restarted while it is queued, with an update that it never saw: who waits is told."""

    async def story(verb: str) -> object:
        run = sim.runtime.run(Tallies, "a")
        waiting = asyncio.ensure_future(outcome(run.update("add", 5)))
        await asyncio.sleep(1)
        await getattr(run, verb)()
        return await waiting

    for verb, how in (("terminate", "was terminated"), ("restart", "was restarted")):
        with simulate(max_running=1) as sim:
            sim.start(Blocks, id="b")
            sim.start(Tallies, 0, id="a")
            assert str(sim.run(story, verb)).startswith(f"RunEnded: run Tallies/a {how} before the update")


def test_an_update_of_a_run_that_gets_stuck() -> None:
    """Who waits is told, and gets the reply under the same id when the run goes on."""

    async def ask(seconds: float) -> object:
        run = sim.runtime.run(Stumbles, "a")
        waiting = asyncio.ensure_future(outcome(run.update_once("slowly", "u")))
        await asyncio.sleep(seconds)
        return await waiting

    STUMBLES.append(True)
    with simulate() as sim:
        sim.start(Stumbles, id="a")
        assert "is stuck" in str(sim.run(ask, 1))
        STUMBLES.clear()
        sim.crash()
        assert sim.run(ask, 1) == "done"


STUMBLES: list[bool] = []


class Stumbles(Workflow):
    """Waits for something foreign once it is called, as long as a test says so."""

    def __init__(self) -> None:
        self.called = False

    async def run(self) -> None:
        await self.until(lambda: self.called)
        if STUMBLES:
            await asyncio.get_running_loop().create_future()
        await self.wait("go")

    @update
    async def slowly(self) -> str:
        self.called = True
        await self.step(slowly, 1)
        if STUMBLES:
            await asyncio.get_running_loop().create_future()
        return "done"


def test_what_was_acknowledged_while_a_run_continues_as_new_holds() -> None:
    """A pause during its last step is for the run that begins anew."""
    with simulate() as sim:
        run = sim.start(Tallies, 1, id="a")
        sim.send_event(run, "go")
        sim.advance(5)
        sim.pause(run)
        sim.send_event(run, "go")
        sim.advance(60)
        assert sim.status(run) == "paused"
        sim.crash()
        sim.advance(60)
        assert sim.status(run) == "paused"
        sim.resume(run)
        assert sim.result(run) == 0


class Ends(Workflow):
    """Begins anew by the very event that a cancel comes behind."""

    async def run(self, n: int) -> int:
        await self.wait("go")
        if n:
            self.continue_as_new(n - 1)
        return n


def test_events_and_a_cancel_in_one_moment_with_continue_as_new() -> None:
    """What was recorded and not delivered goes to the run that begins."""

    async def at_once() -> None:
        run = sim.runtime.run(Ends, "a")
        await asyncio.gather(run.send("go"), run.cancel(reason="enough"))

    for crash in (None, *range(1, 6)):
        with simulate() as sim:
            run = sim.start(Ends, 3, id="a")
            if crash is not None:
                sim.crash_at("commit", crash)
            try:
                sim.run(at_once)
            except ProcessDied:
                sim.cancel(run, "enough")
            sim.run_until_idle()
            assert sim.status(run) == "cancelled", sim.journal(run)


# -- places --------------------------------------------------------------------------------------------------


class AtWork:
    """How many bodies run, and how many ran at most."""

    now = most = 0


async def work() -> None:
    """A step that counts itself."""
    AtWork.now += 1
    AtWork.most = max(AtWork.most, AtWork.now)
    await asyncio.sleep(10)
    AtWork.now -= 1


class WokenByEvent(Workflow):
    """Works when it is told to."""

    async def run(self) -> None:
        await self.wait("go")
        await self.step(work)


class WokenByTime(Workflow):
    """Works after a while."""

    async def run(self) -> None:
        await self.sleep(100)
        await self.step(work)


def test_runs_that_are_woken_in_one_moment_keep_to_the_places() -> None:
    """By events or by alarms: no more of them work than there are places, and all get their turn."""

    async def wake() -> None:
        await asyncio.gather(*[sim.runtime.run(WokenByEvent, f"r{n}").send("go") for n in range(8)])

    for kind in (WokenByEvent, WokenByTime):
        AtWork.now = AtWork.most = 0
        with simulate(max_running=2) as sim:
            runs = [sim.start(kind, id=f"r{n}") for n in range(8)]
            sim.advance(1)
            if kind is WokenByEvent:
                sim.run(wake)
            sim.run_until_idle()
            assert [sim.status(run) for run in runs] == ["complete"] * 8
            assert AtWork.most == 2


# -- attempts ------------------------------------------------------------------------------------------------


async def fails() -> None:
    """A body that always fails."""
    raise OSError("not today")


class RetriesHourly(Workflow):
    """Tries again after an hour."""

    async def run(self) -> None:
        await self.step(fails, retry=Retry(1, "1h", "constant"))


def test_retry_now_holds_over_a_crash() -> None:
    """Once it is acknowledged the attempt begins, also when the process dies before it could."""
    with simulate() as sim:
        run = sim.start(RetriesHourly, id="a")
        sim.advance(10)
        sim.crash_at("commit", 1, "after")
        sim.retry_now(run)
        sim.advance(10)
        assert sim.status(run) == "failed"
        assert sim.attempts("fails") == 2


async def beats(seconds: float) -> None:
    """A body that tells how far it is, the first time."""
    step = current_step()
    assert step is not None
    if not BEATEN:
        BEATEN.append(True)
        heartbeat({"at": 1})
    await asyncio.sleep(seconds)


BEATEN: list[bool] = []


class Beats(Workflow):
    """A step that beats; it is awaited for so long at most."""

    async def run(self, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                await self.step(beats, 100)
        except TimeoutError:
            return "gave up"
        return "done"


def test_heartbeats_leave_nothing_behind() -> None:
    """Their rows go with the step, with a step that was given up, and with a run that is terminated."""
    for seconds, verb in ((1000.0, None), (50.0, None), (1000.0, "terminate"), (1000.0, "restart")):
        for crash in (False, True):
            BEATEN.clear()
            with simulate() as sim:
                sim.start(Beats, seconds, id="a")
                sim.advance(10)
                assert len(rows(sim.runtime, layout.HEARTBEAT)) == 1
                if crash:
                    sim.crash()
                    sim.advance(1)
                if verb is not None:
                    sim.run(getattr(sim.runtime.run(Beats, "a"), verb))
                sim.run_until_idle()
                assert rows(sim.runtime, layout.HEARTBEAT) == []


# -- rest ----------------------------------------------------------------------------------------------------


def pins(sim: Simulation, run: SimRun[Any]) -> int:
    """How often a run is held in memory."""
    ref = sim.runtime.run(cast("Any", run.workflow), run.key).ref
    return 0 if ref.activation is None else ref.activation.pins


class SleepsThenCalls(Workflow):
    """A sleep, then a child, then a step that takes long."""

    async def run(self) -> float:
        await self.sleep("1h")
        await self.child(Blocks)
        return await self.step(slowly, 100_000, timeout="10d")


def test_a_run_rests_once() -> None:
    """Woken by its alarm it goes to rest again for its child, and is held in memory while a step runs."""
    with simulate() as sim:
        run = sim.start(SleepsThenCalls, id="a")
        sim.advance(3601)
        assert pins(sim, run) == 0
        sim.advance(60)
        assert pins(sim, run) == 1
        assert sim.result(run) == 100_000
        assert sim.runtime.engine.places.running == 0


def plain(n: int) -> int:
    """A plain body."""
    return n


class PlainAndLong(Workflow):
    """A plain step beside one that takes long, behind a sleep."""

    async def run(self) -> list[float]:
        await self.sleep(10)
        long = self.step(slowly, 100_000, timeout="10d")
        return [*await asyncio.gather(self.step(plain, 1), long)]


def test_a_plain_body_beside_another_does_not_put_the_run_to_rest() -> None:
    """After a crash plain bodies run at once: the run is at rest only when all it asked for has begun."""
    with simulate() as sim:
        run = sim.start(PlainAndLong, id="a")
        sim.advance(9)
        sim.crash_at("step", when="before", step="plain")
        sim.advance(10)
        assert sim.life == 2
        assert (sim.status(run), pins(sim, run)) == ("running", 1)
        assert sim.result(run) == [1, 100_000]
        assert sim.attempts("slowly") <= 2


def test_an_event_that_is_sent_again_after_the_end() -> None:
    """By its id it is known as accepted, so the sender whom a crash left without an answer gets it."""
    with simulate() as sim:
        run = sim.start(TakesTwo, id="a")
        sim.send_event(run, Note(1), id="one")
        sim.send_event(run, Note(2), id="two")
        assert sim.result(run) == [1, 2]
        sim.send_event(run, Note(2), id="two")
        with pytest.raises(RunEnded):
            sim.send_event(run, Note(2), id="three")


class SaysItsInput(Workflow):
    """Says what it was given, and fails when a test says so."""

    retry = Retry(0)

    async def run(self, n: int) -> int:
        self.set_status(f"state {n}")
        self.data[f"given {n}"] = n
        self.tags["given"] = str(n)
        return await self.step(stumbles, n)


async def stumbles(n: int) -> int:
    """Fails as long as a test says so."""
    if STUMBLES:
        raise OSError("not yet")
    return n


def test_a_run_that_is_redriven_with_another_input_says_so() -> None:
    """State, data and tags are what run() says now; what it said before doesn't count as said."""

    async def redrive() -> None:
        await sim.runtime.run(SaysItsInput, "a").redrive(input=2)

    for crash in (False, True):
        STUMBLES.append(True)
        with simulate() as sim:
            run = sim.start(SaysItsInput, 1, id="a")
            sim.run_until_idle()
            assert sim.status(run) == "failed"
            STUMBLES.clear()
            sim.run(redrive)
            if crash:
                sim.crash()
            assert sim.result(run) == 2
            info = sim.run(sim.runtime.run(SaysItsInput, "a").info)
            assert (info.state, info.tags) == ("state 2", {"given": "2"})
            assert sim.run(sim.runtime.run(SaysItsInput, "a").data) == {"given 2": 2}


# -- memory --------------------------------------------------------------------------------------------------


class HasChildren(Workflow):
    """Three children side by side."""

    async def run(self) -> list[int]:
        return await asyncio.gather(*[self.child(CleansUpSlowly, n) for n in range(3)])


def test_a_family_in_a_memory_for_one() -> None:
    """Restarted and terminated where each that is loaded pushes out another, also with the family on disk."""
    for crash in (False, True):
        with simulate(limits=Limits(max_active=1)) as sim:
            run = sim.start(HasChildren, id="a")
            sim.advance(10)
            if crash:
                sim.crash()
            sim.restart(run)
            sim.advance(10)
            sim.restart(run)
            assert sim.result(run) == [0, 1, 2]
            other = sim.start(HasChildren, id="b")
            sim.advance(10)
            if crash:
                sim.crash()
            sim.terminate(other)
            sim.run_until_idle()
            assert sim.pending() == []
            assert sim.runtime.engine.places.running == 0
            assert [activation.pins for activation in sim.runtime.directory._live.values()] == [0] * len(
                sim.runtime.directory
            )
