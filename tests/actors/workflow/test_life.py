"""The life of runs: recovery, places, memory, dead letters, divergence, failed commits, closing."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from holdfast import Actor, Counter, Fatal, Limits, Retry, Runtime, StepError, Workflow
from holdfast.actors.errors import InvalidInput, RunExists, RunFailed
from holdfast.actors.workflow.journal import Redriven, StepDone, journal_prefix, position_key
from holdfast.actors.workflow.leaving_memory import UNCLOSED
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import NotRunning
from holdfast.storage import layout
from holdfast.storage.errors import CallerError, StorageError, StorageFailed
from tests.actors.workflow.support import (
    Folder,
    live_runs,
    pass_time,
    play,
    rows,
    settle,
    soon,
    turns,
    until,
)  # fmt: skip
from tests.runtime.support import FailingLog, HeldLog

SEEN: list[Any] = []
GATES: dict[str, asyncio.Event] = {}
BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()
    GATES.clear()
    BROKEN.clear()


def gate(name: str) -> asyncio.Event:
    return GATES.setdefault(name, asyncio.Event())


async def mark(what: str) -> str:
    SEEN.append(what)
    if what in BROKEN:
        raise OSError(f"{what} is broken")
    return what


async def waits(what: str) -> str:
    SEEN.append(what)
    await gate(what).wait()
    return what


class Steps(Workflow):
    async def run(self, name: str) -> str:
        await self.step(mark, f"{name}1")
        await self.step(waits, f"{name}2")
        return await self.step(mark, f"{name}3")


class Nap(Workflow):
    async def run(self, seconds: float) -> str:
        await self.sleep(seconds)
        return await self.step(mark, "awake")


class Retries(Workflow):
    retry = Retry(3, 100, "constant", jitter=0)

    async def run(self, name: str) -> str:
        return await self.step(mark, name)


# -- recovery ------------------------------------------------------------------------------------------------


async def test_a_running_run_goes_on_after_a_crash(folder: Folder, clock: ManualClock) -> None:
    """AC-47: killed while step two runs: one is not called again, two is, then three."""
    rt = await folder.open()
    await rt.start(Steps, "a", id="a")
    await until(lambda: "a2" in SEEN)
    rt = await folder.reopen()
    gate("a2").set()
    assert await play(rt, clock, rt.run(Steps, "a")) == "a3"
    assert SEEN == ["a1", "a2", "a2", "a3"]


async def test_a_run_goes_on_though_nobody_names_its_class(folder: Folder, clock: ManualClock) -> None:
    """Opening the folder is enough: classes that are imported are found by their stored names."""
    rt = await folder.open()
    await rt.start(Steps, "a", id="a")
    await until(lambda: "a2" in SEEN)
    await folder.crash()
    gate("a2").set()
    rt = await folder.open()
    await until(lambda: "a3" in SEEN)


async def test_every_kind_of_run_survives(folder: Folder, clock: ManualClock) -> None:
    """Running, waiting, retrying, queued and ended runs are what they were after a crash."""
    BROKEN.add("r")
    rt = await folder.open(max_running=2)
    ended = await rt.start(Retries, "fine", id="ended")
    await soon(ended.result())
    await rt.start(Nap, 1000, id="waiting")
    await rt.start(Retries, "r", id="retrying")
    await settle(rt)
    await rt.start(Steps, "a", id="running")
    await rt.start(Steps, "b", id="running2")
    await settle(rt)
    await rt.start(Steps, "c", id="queued")
    await settle(rt)

    async def statuses(rt: Runtime) -> list[str]:
        found = [await rt.run(Steps, id_).status() for id_ in ("running", "running2", "queued")]
        return [await rt.run(Nap, "waiting").status(), await rt.run(Retries, "retrying").status(), *found,
                await rt.run(Retries, "ended").status()]  # fmt: skip

    expected = ["waiting", "retrying", "running", "running", "queued", "complete"]
    assert await statuses(rt) == expected
    rt = await folder.reopen(max_running=2)
    await settle(rt)
    assert await statuses(rt) == expected
    BROKEN.clear()
    for name in "abc":
        gate(f"{name}2").set()
    for id_, result in (("running", "a3"), ("running2", "b3"), ("queued", "c3")):
        assert await play(rt, clock, rt.run(Steps, id_)) == result
    assert await play(rt, clock, rt.run(Retries, "retrying")) == "r"
    assert await play(rt, clock, rt.run(Nap, "waiting")) == "awake"


async def test_a_retry_keeps_its_time_and_its_count_over_a_crash(folder: Folder, clock: ManualClock) -> None:
    """A waiting retry comes at its time, and attempts before the crash count."""
    BROKEN.add("x")
    rt = await folder.open()
    run = await rt.start(Retries, "x", id="a")
    await pass_time(rt, clock, 130, step=10)  # two attempts failed, the third is due at 200
    await folder.crash()
    clock.advance(50)
    rt = await folder.open()
    await pass_time(rt, clock, 19)
    assert SEEN == ["x", "x"]
    await pass_time(rt, clock, 2)
    assert SEEN == ["x", "x", "x"]
    run = rt.run(Retries, "a")
    with pytest.raises(RunFailed, match="tried 4 times"):
        await play(rt, clock, run)


async def test_an_alarm_and_a_crash_before_the_run_went_on(folder: Folder, clock: ManualClock) -> None:
    """The alarm is spent and the process dies before the run moves: it is found by its status."""
    log = HeldLog()
    rt = await folder.open(wrap_log=log.wrap)
    await rt.start(Nap, 10, id="a")
    await settle(rt)
    log.hold()
    clock.advance(10)
    await log.arrived()  # the alarm's turn, and whatever came with it
    log.let()
    await turns()
    log.fail()
    await folder.crash()
    rt = await folder.open()
    assert await play(rt, clock, rt.run(Nap, "a"), most_seconds=1) == "awake"
    assert rows(rt, layout.ALARM) == []


async def test_a_second_crash_while_replaying(folder: Folder, clock: ManualClock) -> None:
    """Crashes one upon the other, at any point of recovery, lose and double nothing."""
    rt = await folder.open()
    await rt.start(Steps, "a", id="a")
    await until(lambda: "a2" in SEEN)
    for count in range(5):
        await folder.crash()
        rt = await folder.open()
        await turns(count)
    gate("a2").set()
    assert await play(rt, clock, rt.run(Steps, "a")) == "a3"
    assert SEEN.count("a1") == 1


async def test_a_journal_that_is_damaged_makes_its_run_stuck(folder: Folder, clock: ManualClock) -> None:
    """A record that can't be read stops this run, with a reason, and no other."""
    rt = await folder.open()
    await rt.start(Steps, "a", id="a")
    await rt.start(Steps, "b", id="b")
    await until(lambda: {"a2", "b2"} <= set(SEEN))
    activation = rt.run(Steps, "a")._ref.activation
    assert activation is not None
    rt.store.stage({position_key(journal_prefix(activation.prefix(b"")), 1): b"\xc1"})
    await rt.store.wait_durable(rt.store.newest)
    rt = await folder.reopen()
    gate("b2").set()
    assert await play(rt, clock, rt.run(Steps, "b")) == "b3"
    with pytest.raises(RunFailed, match="can't be read"):
        await soon(rt.run(Steps, "a").result())
    assert rt.engine.places.running == 0


# -- places --------------------------------------------------------------------------------------------------


class One(Workflow):
    max_running = 1

    async def run(self, name: str) -> str:
        return await self.step(waits, name)


async def test_runs_beyond_the_limit_wait_in_order(rt: Runtime) -> None:
    """A type with one place runs one after the other, the oldest first, without harm to other types."""
    runs = [await rt.start(One, name, id=name) for name in "abc"]
    await until(lambda: SEEN == ["a"])
    assert [await run.status() for run in runs] == ["running", "queued", "queued"]
    assert live_runs() == 1
    other = await rt.start(Steps, "x", id="x")
    gate("x2").set()
    assert await soon(other.result()) == "x3"
    for name in "abc":
        gate(name).set()
    assert [await soon(run.result()) for run in runs] == ["a", "b", "c"]
    assert [name for name in SEEN if name in "abc"] == ["a", "b", "c"]


class NapThenWait(Workflow):
    async def run(self, name: str) -> str:
        await self.step(waits, f"{name} first")
        await self.sleep(100)
        return await self.step(waits, f"{name} second")


async def test_sleeping_takes_no_place_and_waking_goes_first(folder: Folder, clock: ManualClock) -> None:
    """AC-63: of five runs two run; one sleeps and the next starts; the woken one goes before those queued."""
    rt = await folder.open(max_running=2)
    for name in "abcde":
        await rt.start(NapThenWait, name, id=name)
        clock.advance(0.001)  # so that their ages differ
    await until(lambda: SEEN == ["a first", "b first"])
    assert [info.id for info in rt.runs(NapThenWait, status="queued")] == ["c", "d", "e"]
    gate("a first").set()
    await until(lambda: SEEN[-1] == "c first")
    assert await rt.run(NapThenWait, "a").status() == "waiting"
    await pass_time(rt, clock, 101)
    assert await rt.run(NapThenWait, "a").status() == "queued"
    gate("b first").set()
    await until(lambda: len(SEEN) == 4)
    assert SEEN[-1] == "a second"
    assert rt.engine.places.running == 2


async def test_a_full_type_keeps_no_other_from_coming_back(folder: Folder, clock: ManualClock) -> None:
    """After a crash a type with more running runs than places doesn't keep other types waiting."""
    rt = await folder.open()
    One.max_running = 3
    try:
        for name in "abc":
            await rt.start(One, name, id=name)
        await until(lambda: len(SEEN) == 3)
        await rt.start(Steps, "x", id="x")
        await until(lambda: "x2" in SEEN)
        await rt.start(Steps, "y", id="y")
        await folder.crash()
    finally:
        One.max_running = 1
    SEEN.clear()
    rt = await folder.open()
    gate("x2").set()
    gate("y2").set()
    assert await play(rt, clock, rt.run(Steps, "x")) == "x3"
    assert await play(rt, clock, rt.run(Steps, "y")) == "y3"
    assert rt.engine.places.running == 1
    for name in "abc":
        gate(name).set()
    for name in "abc":
        assert await play(rt, clock, rt.run(One, name)) == name


async def test_places_are_given_back_whatever_happens(folder: Folder, clock: ManualClock) -> None:
    """Complete, failed, terminated, replaced, stuck: each gives its place back exactly once."""

    class Stuck(Workflow):
        async def run(self) -> None:
            await asyncio.get_running_loop().create_future()

    class Fails(Workflow):
        async def run(self) -> None:
            raise ValueError

    rt = await folder.open(max_running=1)
    for _ in range(3):
        for cls in (Stuck, Fails):
            with pytest.raises(RunFailed):
                await soon((await rt.start(cls)).result())
        run = await rt.start(One, "t", id="t", on_conflict="replace")
        await settle(rt)
        run = await rt.start(One, "t", id="t", on_conflict="replace")
        await settle(rt)
        await run.terminate()
        assert rt.engine.places.running == 0
        assert rt.engine.places.running_of(rt.workflow_type(One)) == 0


# -- memory --------------------------------------------------------------------------------------------------


async def test_p8_sleeping_runs_leave_memory(folder: Folder, clock: ManualClock) -> None:
    """P8: 2 000 runs that sleep for an hour are on disk only, and wake at their time."""
    rt = await folder.open()
    await rt.start_many(Nap, [(n, 3600) for n in range(2000)])
    await settle(rt)
    await until(lambda: len(rt.directory) == 0)
    assert live_runs() == 0
    assert len(rt.runs(Nap, status="waiting", limit=3000)) == 2000
    await pass_time(rt, clock, 3601, step=300)
    await until(lambda: len(SEEN) == 2000)
    await settle(rt)
    assert len(rt.runs(Nap, status="complete", limit=3000)) == 2000


async def test_p8_queued_and_ended_runs_are_not_in_memory(folder: Folder) -> None:
    """P8: of 500 runs with one place, one is in memory; none when all have ended."""
    rt = await folder.open()
    runs = await rt.start_many(One, [(n, "x") for n in range(200)])
    await settle(rt)
    assert live_runs() == 1
    assert len(rt.directory) <= 1
    gate("x").set()
    await soon(asyncio.gather(*[run.result() for run in runs]))
    await settle(rt)
    assert live_runs() == 0
    assert len(rt.directory) == 0


async def test_a_waiter_does_not_need_the_run_in_memory(rt: Runtime, clock: ManualClock) -> None:
    """`result()` waits while the run leaves memory and comes back."""
    run = await rt.start(Nap, 3600, id="a")
    waiter = asyncio.ensure_future(run.result())
    await turns()  # who asks loads the actor, also when the run has left by then
    await until(lambda: rt.engine.live_runs() == [], "the run left memory")
    await pass_time(rt, clock, 3600, step=400)
    assert await soon(waiter) == "awake"


async def test_the_cap_on_activations_drops_no_run_at_work(folder: Folder, clock: ManualClock) -> None:
    """With room for ten actors, thirty runs at work stay, and all end well."""
    rt = await folder.open(limits=Limits(max_active=10, stall_seconds=None))
    runs = [await rt.start(Steps, f"{n}-", id=n) for n in range(30)]
    await until(lambda: len([one for one in SEEN if one.endswith("-2")]) == 30)
    for n in range(100):
        await rt.get(Counter, n).increment()
    for n in range(30):
        gate(f"{n}-2").set()
    assert [await soon(run.result()) for run in runs] == [f"{n}-3" for n in range(30)]


class Cleanup(Workflow):
    async def run(self, how: str) -> str:
        counter = self.runtime.get(Counter, "finally")
        try:
            if how == "sleep":
                await self.sleep(3600)
            elif how == "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._nested())
                    group.create_task(self._nested())
            elif how == "stubborn":
                while True:
                    try:
                        await self.sleep(3600)
                        break
                    except BaseException:
                        SEEN.append("caught")
                        await self.step(mark, "stubborn")
                        raise
            elif how == "generator":
                async for _ in self._numbers():
                    await self.sleep(1800)
            elif how == "context":
                async with self._resource():
                    await self.sleep(3600)
            return "slept"
        finally:
            SEEN.append("finally")
            await counter.increment()
            await self.step(mark, "cleaned up")

    async def _nested(self) -> None:
        try:
            await self.sleep(3600)
        finally:
            await self.runtime.get(Counter, "nested").increment()

    async def _numbers(self) -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await self.runtime.get(Counter, "generator").increment()

    @contextlib.asynccontextmanager
    async def _resource(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self.runtime.get(Counter, "context").increment()


@pytest.mark.parametrize("how", ["sleep", "group", "generator", "context", "stubborn"])
async def test_leaving_memory_runs_no_finally_block_with_effect(
    rt: Runtime, clock: ManualClock, how: str
) -> None:
    """A run that leaves memory has not ended: its `finally` blocks change nothing until it gets there."""
    names = ["finally", "nested", "generator", "context"]
    run = await rt.start(Cleanup, how, id="a")
    await settle(rt)
    assert live_runs() == 0
    gc.collect()
    await settle(rt)
    assert [await rt.get(Counter, name).get() for name in names] == [0, 0, 0, 0]
    assert "cleaned up" not in SEEN
    assert "stubborn" not in SEEN
    assert await play(rt, clock, run) == "slept"
    assert [await rt.get(Counter, name).get() for name in names] == [
        1, 2 if how == "group" else 0, 1 if how == "generator" else 0, 1 if how == "context" else 0,
    ]  # fmt: skip
    assert SEEN.count("cleaned up") == 1


async def test_closing_runs_no_finally_block_with_effect(folder: Folder) -> None:
    """The same for a run at work when the runtime closes."""
    rt = await folder.open()
    await rt.start(Cleanup, "group", id="a")
    await settle(rt)
    await rt.close()
    gc.collect()
    rt = await folder.open()
    await settle(rt)
    assert await rt.get(Counter, "finally").get() == 0
    assert await rt.get(Counter, "nested").get() == 0


async def test_a_coroutine_that_can_not_be_closed_is_kept(rt: Runtime, clock: ManualClock) -> None:
    """Code that refuses to end leaves memory with the others, does nothing, and comes back whole."""

    class Never(Workflow):
        async def run(self) -> str:
            while True:
                try:
                    await self.sleep(3600)
                    return "slept"
                except BaseException:
                    SEEN.append("refused")
                    if "end" in BROKEN:
                        raise

    run = await rt.start(Never, id="a")
    await settle(rt)
    assert rt.engine.places.running == 0
    gc.collect()
    refused = len(SEEN)
    assert await play(rt, clock, run) == "slept"
    assert len(SEEN) == refused
    BROKEN.add("end")
    UNCLOSED.clear()


# -- dead letters --------------------------------------------------------------------------------------------


class Order(msgspec.Struct):
    sku: str


class Ships(Workflow):
    retry = Retry(1, 1, jitter=0)

    async def run(self, order: Order) -> str:
        await self.step(mark, "reserve")
        try:
            await self.step(mark, f"ship {order.sku}", name="ship")
        except StepError:
            await self.step(mark, "release")
            await self.sleep(10)
            await self.step(mark, "apologize")
            raise
        await self.sleep(5)
        return await self.step(mark, "bill")


async def fails(rt: Runtime, clock: ManualClock, run: Any) -> RunFailed:
    with pytest.raises(RunFailed) as raised:
        await play(rt, clock, run)
    return raised.value


async def test_a_failed_run_is_a_dead_letter(rt: Runtime, clock: ManualClock) -> None:
    """A dead letter has input, cause, attempts and history, in the commit that ended the run."""
    BROKEN.add("ship pear")
    run = await rt.start(Ships, Order("pear"), id="a", correlation_id="c")
    failure = await fails(rt, clock, run)
    assert (failure.status, failure.cause and failure.cause.type) == ("failed", "StepError")
    (letter,) = await rt.dead_letters()
    assert (letter.workflow, letter.id, letter.correlation_id) == ("Ships", "a", "c")
    assert (letter.step, letter.attempts, letter.input) == ("ship", 2, {"sku": "pear"})
    assert "ship pear is broken" in letter.error.message
    assert [record.name for record in letter.history if isinstance(record, StepDone)] == [
        "mark",
        "mark",
        "mark",
    ]
    info = await run.info()
    assert info.error == letter.error
    assert await rt.dead_letters(Ships, limit=1) == [letter]
    assert await rt.dead_letters(Steps) == []


class Sku(msgspec.Struct, frozen=True):
    """A key of a dict; stored, it is a map."""

    code: str


class Refuses(Workflow):
    async def run(self, stock: dict[Sku, int]) -> None:
        raise ValueError(f"no {min(stock.values())}")


async def test_a_dead_letter_whose_input_has_structs_as_keys(rt: Runtime, clock: ManualClock) -> None:
    """Plain data can't hold it, so the letter has its bytes; the others are listed all the same."""
    BROKEN.add("ship pear")
    await fails(rt, clock, await rt.start(Ships, Order("pear"), id="a"))
    stock = {Sku("tea"): 1}
    run = await rt.start(Refuses, stock, id="b")
    await fails(rt, clock, run)
    assert {letter.workflow for letter in await rt.dead_letters()} == {"Ships", "Refuses"}
    assert (await run.dead_letter()).input == msgspec.msgpack.encode(stock)


async def test_a_run_that_has_not_failed_is_no_dead_letter(rt: Runtime) -> None:
    """`dead_letter` and `redrive` are for failed runs."""
    run = await rt.start(Nap, 0, id="a")
    await soon(run.result())
    with pytest.raises(CallerError, match="complete"):
        await run.dead_letter()
    with pytest.raises(CallerError, match="complete"):
        await run.redrive()


async def test_redrive_goes_on_at_the_failed_step(rt: Runtime, clock: ManualClock) -> None:
    """A redrive runs nothing again that succeeded; the failed step has all its attempts again."""
    BROKEN.add("ship pear")
    run = await rt.start(Ships, Order("pear"), id="a")
    await fails(rt, clock, run)
    BROKEN.clear()
    SEEN.clear()
    await run.redrive()
    assert await play(rt, clock, run) == "bill"
    assert SEEN == ["ship pear", "bill"]
    assert await rt.dead_letters() == []
    assert sum(isinstance(record, Redriven) for record in await run.history()) == 1


async def test_redrive_over_crashes(folder: Folder, clock: ManualClock) -> None:
    """A redriven run whose except-block did clean-up steps is replayed right, whenever the process dies."""
    BROKEN.add("ship pear")
    rt = await folder.open()
    run = await rt.start(Ships, Order("pear"), id="a")
    await fails(rt, clock, run)
    BROKEN.clear()
    await run.redrive()
    rt = await folder.reopen()
    await settle(rt)
    rt = await folder.reopen()  # while it sleeps, after the step
    run = rt.run(Ships, "a")
    assert await play(rt, clock, run) == "bill"
    assert SEEN.count("ship pear") == 3
    assert SEEN.count("bill") == SEEN.count("release") == 1


async def test_redrive_that_fails_again(rt: Runtime, clock: ManualClock) -> None:
    """Redriven without a mend it fails again, with new attempts, and can be redriven again."""
    BROKEN.add("ship pear")
    run = await rt.start(Ships, Order("pear"), id="a")
    for round_ in range(1, 4):
        await fails(rt, clock, run)
        assert SEEN.count("ship pear") == 2 * round_
        assert SEEN.count("release") == round_
        letter = await run.dead_letter()
        assert letter.attempts == 2
        if round_ < 3:
            await run.redrive()
    BROKEN.clear()
    await run.redrive()
    assert await play(rt, clock, run) == "bill"


async def test_redrive_with_edited_input(folder: Folder, clock: ManualClock) -> None:
    """The edited input is what `run()` gets from then on, after a crash too; a dead letter shows it."""
    BROKEN.update(("ship pear", "ship peach"))
    rt = await folder.open()
    run = await rt.start(Ships, Order("pear"), id="a")
    await fails(rt, clock, run)
    with pytest.raises(InvalidInput):
        await run.redrive(input={"sku": 5})
    assert await run.status() == "failed"
    await run.redrive(input=Order("peach"))
    await fails(rt, clock, run)
    assert (await run.dead_letter()).input == {"sku": "peach"}
    await run.redrive(input={"sku": "plum"})
    rt = await folder.reopen()
    assert await play(rt, clock, rt.run(Ships, "a")) == "bill"
    assert "ship plum" in SEEN


async def test_two_redrives_at_once(rt: Runtime, clock: ManualClock) -> None:
    """Of two redrives side by side one is refused, and the journal stays whole."""
    BROKEN.add("ship pear")
    run = await rt.start(Ships, Order("pear"), id="a")
    await fails(rt, clock, run)
    BROKEN.clear()
    outcomes = await asyncio.gather(run.redrive(), run.redrive(), return_exceptions=True)
    assert sorted(type(one).__name__ for one in outcomes) == ["NoneType", "WrongStatus"]
    assert await play(rt, clock, run) == "bill"


async def test_redrive_of_a_mistake_between_steps(folder: Folder, clock: ManualClock) -> None:
    """A run that failed by its own code goes on with fixed code."""

    class Slips(Workflow):
        async def run(self) -> str:
            await self.step(mark, "before")
            if "slip" in BROKEN:
                raise ZeroDivisionError
            return await self.step(mark, "after")

    BROKEN.add("slip")
    rt = await folder.open()
    run = await rt.start(Slips, id="a")
    await fails(rt, clock, run)
    letter = await run.dead_letter()
    assert (letter.step, letter.attempts, letter.error.type) == (None, 0, "ZeroDivisionError")
    BROKEN.clear()
    await run.redrive()
    assert await play(rt, clock, run) == "after"
    assert SEEN == ["before", "after"]


class Twice(Workflow):
    retry = Retry(0)

    async def run(self) -> str:
        with contextlib.suppress(StepError):
            await self.step(mark, "x")
        return await self.step(mark, "x")


async def test_attempts_are_those_of_the_step_that_failed(rt: Runtime, clock: ManualClock) -> None:
    """Other uses of the same name don't count in a dead letter."""
    BROKEN.add("x")
    run = await rt.start(Twice, id="a")
    await fails(rt, clock, run)
    assert (await run.dead_letter()).attempts == 1


async def test_a_redriven_run_waits_for_a_place(folder: Folder, clock: ManualClock) -> None:
    """A redrive beyond the limit is queued, on disk."""
    rt = await folder.open(max_running=1)
    BROKEN.add("ship pear")
    run = await rt.start(Ships, Order("pear"), id="a")
    await fails(rt, clock, run)
    BROKEN.clear()
    other = await rt.start(One, "x", id="x")
    await until(lambda: "x" in SEEN)
    await run.redrive()
    await settle(rt)
    assert await run.status() == "queued"
    gate("x").set()
    assert await play(rt, clock, run) == "bill"
    assert await soon(other.result()) == "x"


async def test_terminate_while_a_call_and_a_step_are_under_way(rt: Runtime, clock: ManualClock) -> None:
    """Terminated in the middle: the body is cancelled, later calls of it are refused, nothing is written."""
    ended = asyncio.Event()

    async def long() -> None:
        try:
            await gate("never").wait()
        finally:
            SEEN.append(await asyncio.gather(rt.get(Counter, "late").increment(), return_exceptions=True))
            ended.set()

    class Long(Workflow):
        async def run(self) -> None:
            await self.runtime.get(Counter, "call").increment()
            await self.step(long)

    run = await rt.start(Long, id="a")
    await settle(rt)
    await run.terminate("stop")
    await soon(ended.wait())
    assert type(SEEN[0][0]).__name__ == "StepOver"
    assert await rt.get(Counter, "late").get() == 0
    length = len(await run.history())
    await pass_time(rt, clock, 1000, step=100)
    assert len(await run.history()) == length
    assert rt.engine.places.running == 0


async def test_terminate_of_an_ending_run(rt: Runtime) -> None:
    """Terminations side by side, and beside the end: one verdict, and the journal has one end."""
    run = await rt.start(Steps, "a", id="a")
    await until(lambda: "a2" in SEEN)
    outcomes = await asyncio.gather(run.terminate(), run.terminate(), return_exceptions=True)
    assert sorted(type(one).__name__ for one in outcomes) == ["NoneType", "RunEnded"]
    assert type((await run.history())[-1]).__name__ == "Terminated"


# -- divergence ----------------------------------------------------------------------------------------------


class Changing(Workflow):
    """Its code is changed between two openings by the test."""

    async def run(self) -> str:
        result: str = await CODE[0](self)
        return result


CODE: list[Callable[[Changing], Any]] = []


async def original(self: Changing) -> str:
    await self.step(mark, "one", name="one")
    await self.step(mark, "two", name="two")
    await self.sleep(3600)
    return "original"


async def renamed(self: Changing) -> str:
    await self.step(mark, "uno", name="uno")
    return "renamed"


async def shortened(self: Changing) -> str:
    await self.step(mark, "one", name="one")
    return "shortened"


async def swapped(self: Changing) -> str:
    await self.step(mark, "two", name="two")
    await self.step(mark, "one", name="one")
    await self.sleep(3600)
    return "swapped"


async def sleeps_first(self: Changing) -> str:
    await self.sleep(1)
    return "sleeps first"


async def raises_early(self: Changing) -> str:
    await self.step(mark, "one", name="one")
    raise ValueError("early")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (renamed, ["one (use 1)", "uno (use 1)"]),
        (shortened, ["two (use 1)", "ended"]),
        (swapped, ["one (use 1)", "two (use 1)"]),
        (sleeps_first, ["one (use 1)", "timer 1"]),
        (raises_early, ["two (use 1)", "ended"]),
    ],
)
async def test_a_divergence_is_named_and_mended(
    folder: Folder, clock: ManualClock, code: Any, says: list[str]
) -> None:
    """Code that doesn't fit the journal: stuck, both sides named, nothing lost; the old code goes on."""
    CODE[:] = [original]
    rt = await folder.open()
    await rt.start(Changing, id="a")
    await settle(rt)
    await pass_time(rt, clock, 10)
    CODE[:] = [code]
    await folder.crash()
    clock.advance(3600)
    rt = await folder.open()
    await settle(rt)
    run = rt.run(Changing, "a")
    with pytest.raises(RunFailed, match="Divergence") as raised:
        await soon(run.result())
    assert raised.value.status == "stuck"
    for side in says:
        assert side in str(raised.value)
    before = len(await run.history())
    CODE[:] = [original]
    rt = await folder.reopen()
    run = rt.run(Changing, "a")
    assert await play(rt, clock, run) == "original", (
        "a waiter that comes at once is not told that it is stuck"
    )
    assert SEEN.count("one") == SEEN.count("two") == 1
    assert len(await run.history()) > before


async def test_a_step_that_is_added_at_the_end_is_no_divergence(folder: Folder, clock: ManualClock) -> None:
    """What the journal hasn't reached may change freely."""

    async def longer(self: Changing) -> str:
        await original(self)
        return await self.step(mark, "three", name="three")

    CODE[:] = [original]
    rt = await folder.open()
    await rt.start(Changing, id="a")
    await settle(rt)
    CODE[:] = [longer]
    rt = await folder.reopen()
    assert await play(rt, clock, rt.run(Changing, "a")) == "three"


async def test_a_stored_result_that_no_longer_fits_makes_the_run_stuck(
    folder: Folder, clock: ManualClock
) -> None:
    """A step whose annotation changed so that its stored result can't be read: stuck with the reason."""

    async def number() -> Any:
        return "a text"

    async def strict() -> int:
        return 1

    async def old(self: Changing) -> str:
        await self.step(number, name="n")
        await self.sleep(10)
        return "old"

    async def new(self: Changing) -> str:
        await self.step(strict, name="n")
        await self.sleep(10)
        return "new"

    CODE[:] = [old]
    rt = await folder.open()
    await rt.start(Changing, id="a")
    await settle(rt)
    CODE[:] = [new]
    rt = await folder.reopen()
    clock.advance(20)
    await settle(rt)
    with pytest.raises(RunFailed, match=r"Expected `int`"):
        await soon(rt.run(Changing, "a").result())
    CODE[:] = [old]
    rt = await folder.reopen()
    assert await play(rt, clock, rt.run(Changing, "a")) == "old"


# -- failed commits ------------------------------------------------------------------------------------------


class Mixed(Workflow):
    retry = Retry(3, 0.1, jitter=0)

    async def run(self, name: str) -> int:
        await self.step(mark, f"{name}1")
        first = await self.runtime.get(Counter, name).increment()
        await self.step(increment, name)
        await self.sleep(1)
        last = await self.runtime.get(Counter, name).increment()
        return first * 100 + last


async def increment(name: str) -> int:
    return await RUNTIME[-1].get(Counter, name).increment()


RUNTIME: list[Runtime] = []


@pytest.mark.parametrize("failing", range(1, 14))
async def test_p9_a_failed_commit_undoes_and_doubles_nothing(
    folder: Folder, clock: ManualClock, failing: int
) -> None:
    """Whichever commit fails, runs begin anew from the disk, and every call takes effect once."""
    log = FailingLog()
    rt = await folder.open(wrap_log=log.wrap)
    RUNTIME[:] = [rt]
    await rt.get(Counter, "warm").increment()
    commit, passed = log.commit, 0

    def counting(writes: Any, staged: Any) -> Any:
        nonlocal passed
        passed += 1
        if passed == failing:
            log.fail_next = 1
        return commit(writes, staged)

    log.commit = counting  # type: ignore[method-assign]
    names = ["a", "b"]
    for name in names:
        try:
            await rt.start(Mixed, name, id=name)
        except StorageFailed:
            await settle(rt)
            await rt.start(Mixed, name, id=name)
    for name in names:
        assert await play(rt, clock, rt.run(Mixed, name)) == 103
        assert await rt.get(Counter, name).get() == 3
    assert rows(rt, layout.REPLY) == []
    assert rt.engine.places.running == 0
    assert passed >= failing or failing > 8


async def test_p9_a_start_whose_commit_fails_never_was(folder: Folder) -> None:
    """The starter hears of it, the run never runs, and a waiter isn't left alone."""
    log = HeldLog()
    rt = await folder.open(wrap_log=log.wrap)
    rt.workflow_type(Steps)
    await settle(rt)
    log.hold()
    start = asyncio.ensure_future(rt.start(Steps, "a", id="a"))
    await log.arrived()
    waiter = asyncio.ensure_future(rt.run(Steps, "a").result())
    await turns()
    log.fail()
    with pytest.raises(StorageFailed):
        await soon(start)
    log.release()
    await turns()
    folder.clock.advance(2)
    with pytest.raises(StorageFailed):
        await soon(waiter)
    assert SEEN == []
    assert rt.engine.places.running == 0
    await rt.start(Steps, "a", id="a")


async def test_p3_a_body_does_not_begin_before_the_start_is_durable(folder: Folder) -> None:
    """P3: the first step's body waits for the disk; the second for the first one's record."""
    log = HeldLog()
    rt = await folder.open(wrap_log=log.wrap)
    rt.workflow_type(Steps)
    await settle(rt)
    log.hold()
    start = asyncio.ensure_future(rt.start(Steps, "a", id="a"))
    await log.arrived()
    await turns()
    assert SEEN == []
    log.let()
    await soon(start)
    await until(lambda: SEEN == ["a1"])
    await log.arrived()
    await turns()
    assert SEEN == ["a1"]
    log.release()
    await until(lambda: SEEN == ["a1", "a2"])


async def test_p3_a_result_waits_for_the_disk(folder: Folder) -> None:
    """P3: `result()`, `status()` and `info()` tell what is durable."""
    log = HeldLog()
    rt = await folder.open(wrap_log=log.wrap)
    run = await rt.start(Steps, "a", id="a")
    await until(lambda: "a2" in SEEN)
    await settle(rt)
    log.hold()
    waiter = asyncio.ensure_future(run.result())
    gate("a2").set()
    for _ in range(3):
        await log.arrived()
        await turns()
        assert not waiter.done()
        status = asyncio.ensure_future(run.status())
        await turns()
        done = SEEN[-1] == "a3"
        log.let()
        if done:
            break
        await soon(status)
    log.release()
    assert await soon(waiter) == "a3"


async def test_a_full_store_keeps_runs_going(folder: Folder, clock: ManualClock) -> None:
    """When growth is refused no run is started, and those that are there end: completions use the reserve."""
    rt = await folder.open()
    run = await rt.start(Steps, "a", id="a")
    await until(lambda: "a2" in SEEN)
    rt.store.quota_bytes = 1
    with pytest.raises(StorageError):
        await rt.start(Steps, "b", id="b")
    assert rt.engine.places.running == 1
    gate("a2").set()
    assert await play(rt, clock, run) == "a3"
    assert rt.engine.places.running == 0


async def test_a_replace_that_is_refused_harms_nothing(folder: Folder, clock: ManualClock) -> None:
    """When the store refuses the new run, the one that was to be replaced goes on."""
    rt = await folder.open()
    run = await rt.start(Steps, "a", id="a")
    await until(lambda: "a2" in SEEN)
    rt.store.quota_bytes = 1
    with pytest.raises(StorageError):
        await rt.start(Steps, "b", id="a", on_conflict="replace")
    rt.store.quota_bytes = None
    gate("a2").set()
    assert await play(rt, clock, run) == "a3"


# -- closing -------------------------------------------------------------------------------------------------


async def test_closing_cancels_bodies_and_waits_for_them(folder: Folder, clock: ManualClock) -> None:
    """A body in progress is cancelled at close and may let go of what it holds; it runs again later."""

    class Held(Workflow):
        async def run(self) -> str:
            return await self.step(holds)

    rt = await folder.open()
    await rt.start(Held, id="a")
    await until(lambda: SEEN == ["taken"])
    await rt.close()
    assert SEEN == ["taken", "let go"]
    rt = await folder.open()
    await until(lambda: len(SEEN) == 3)
    gate("held").set()
    assert await play(rt, clock, rt.run(Held, "a")) == "held"


async def holds() -> str:
    SEEN.append("taken")
    try:
        await gate("held").wait()
        return "held"
    finally:
        await asyncio.sleep(0)
        SEEN.append("let go")


async def test_closing_tells_those_who_wait(folder: Folder) -> None:
    """Whoever waits in `result()` hears that the runtime closed; nobody is cancelled for it."""
    rt = await folder.open()
    run = await rt.start(Steps, "a", id="a")
    waiters = [asyncio.ensure_future(run.result()) for _ in range(3)]
    await settle(rt)
    await rt.close()
    for waiter in waiters:
        with pytest.raises(NotRunning):
            await soon(waiter)
    with pytest.raises(NotRunning):
        await run.result()
    with pytest.raises(NotRunning):
        await rt.start(Steps, "b")


async def test_a_cancelled_waiter_leaves_others_waiting(rt: Runtime) -> None:
    """A waiter that gives up harms neither the run nor the other waiters."""
    run = await rt.start(Steps, "a", id="a")
    first, second = asyncio.ensure_future(run.result()), asyncio.ensure_future(run.result())
    await settle(rt)
    first.cancel()
    await turns()
    gate("a2").set()
    assert await soon(second) == "a3"


async def test_closing_right_after_a_start(folder: Folder, clock: ManualClock) -> None:
    """A run that was started and never moved goes on when the folder is opened."""
    rt = await folder.open()
    await rt.start(Steps, "a", id="a")
    await rt.close()
    gate("a2").set()
    rt = await folder.open()
    assert await play(rt, clock, rt.run(Steps, "a")) == "a3"


# -- what nobody tried ---------------------------------------------------------------------------------------


async def test_a_replaced_run_with_a_step_in_progress(rt: Runtime) -> None:
    """The body of the replaced run is cancelled; what it returns, and whom it calls, changes nothing."""
    ended = asyncio.Event()

    async def old() -> str:
        try:
            await gate("old").wait()
        except asyncio.CancelledError:
            SEEN.append(await asyncio.gather(rt.get(Counter, "late").increment(), return_exceptions=True))
            ended.set()
        return "old"

    class Replaced(Workflow):
        async def run(self, what: str) -> str:
            return await self.step(old) if what == "old" else await self.step(mark, what)

    await rt.start(Replaced, "old", id="a")
    await settle(rt)
    new = await rt.start(Replaced, "new", id="a", on_conflict="replace")
    await soon(ended.wait())
    assert await soon(new.result()) == "new"
    assert type(SEEN[-1][0] if isinstance(SEEN[-1], list) else SEEN[0][0]).__name__ == "StepOver"
    assert [type(record).__name__ for record in await new.history()] == ["Started", "StepDone", "Finished"]
    assert await rt.get(Counter, "late").get() == 0


class Slow(Actor):
    value: int = 0

    async def add(self, name: str) -> int:
        await gate(name).wait()
        self.value += 1
        return self.value


async def test_a_call_that_is_given_up(rt: Runtime, clock: ManualClock) -> None:
    """A call of `run()` that loses a race is undone, and doesn't keep the run from resting."""

    class GivesUp(Workflow):
        async def run(self) -> str:
            try:
                async with asyncio.timeout(5):
                    await self.runtime.get(Slow, "s").add("never")
            except TimeoutError:
                await self.sleep(100)
                return "given up"
            return "called"

    run = await rt.start(GivesUp)
    await settle(rt)
    clock.advance(5)
    await settle(rt)
    assert await run.status() == "waiting"
    gate("never").set()
    assert await play(rt, clock, run) == "given up"
    assert await rt.get(Slow, "s").add("never") == 1


class Stubborn(Workflow):
    async def run(self) -> str:
        task = asyncio.create_task(self._work())
        await self.step(mark, "first")
        task.cancel()
        return await task

    async def _work(self) -> str:
        try:
            await self.sleep(1000)
        except asyncio.CancelledError:
            return await self.step(mark, "after the cancellation")
        return "slept"


async def test_code_that_catches_its_cancellation(folder: Folder, clock: ManualClock) -> None:
    """A task of `run()` may catch CancelledError and go on with steps, live and on replay."""
    rt = await folder.open()
    assert await play(rt, clock, await rt.start(Stubborn)) == "after the cancellation"


async def test_run_that_raises_strange_things(rt: Runtime) -> None:
    """SystemExit, CancelledError, GeneratorExit, any BaseException of `run()` fail the run, not the loop."""

    class Odd(BaseException):
        pass

    class Strange(Workflow):
        async def run(self, what: str) -> None:
            await self.step(mark, "x")
            if what == "exit":
                raise SystemExit(1)
            if what == "cancelled":
                raise asyncio.CancelledError
            if what == "generator":
                raise GeneratorExit
            if what == "odd":
                raise Odd("\ud800")
            if what == "stop":
                raise StopIteration
            if what == "callback":
                asyncio.get_running_loop().call_soon(self._odd)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if what == "child":
                task = asyncio.create_task(self._exit())
                await asyncio.wait([task])
                task.exception()

        def _odd(self) -> None:
            raise SystemExit(1)

        async def _exit(self) -> None:
            raise SystemExit(1)

    for what in ("exit", "cancelled", "generator", "odd", "stop", "callback", "child"):
        with pytest.raises(RunFailed):
            await soon((await rt.start(Strange, what)).result())
    assert await rt.get(Counter, "still").increment() == 1
    assert rt.engine.places.running == 0


async def test_a_recorded_outcome_of_a_cancelled_op_is_skipped(folder: Folder, clock: ManualClock) -> None:
    """A call whose effect was recorded just when `run()` gave it up: skipped, and the same on replay."""

    class Overtakes(Workflow):
        async def run(self) -> str:
            call = asyncio.create_task(self.runtime.get(Counter, "c").increment())
            step = asyncio.ensure_future(self.step(mark, "s"))
            both: list[asyncio.Future[Any]] = [call, step]
            done, rest = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for one in rest:
                one.cancel()
            await self.sleep(100)
            return "call" if call in done else "step"

    rt = await folder.open()
    for n in range(20):
        await rt.start(Overtakes, id=n)
    await settle(rt)
    before = await rt.get(Counter, "c").get()
    rt = await folder.reopen()
    for n in range(20):
        await play(rt, clock, rt.run(Overtakes, n))
    assert await rt.get(Counter, "c").get() == before


async def test_an_alarm_that_comes_for_a_live_run(folder: Folder, clock: ManualClock) -> None:
    """A short sleep stays in memory: its alarm wakes it there, once, also when a restart lies between."""
    rt = await folder.open()
    run = await rt.start(Nap, 5, id="a")
    await settle(rt)
    assert live_runs() == 1
    clock.advance(5)
    await settle(rt)
    assert await soon(run.result()) == "awake"
    assert SEEN == ["awake"]
    assert rows(rt, layout.ALARM) == []


async def test_a_call_to_another_runtime(folder: Folder, rt: Runtime, tmp_path: Any) -> None:
    """Another runtime has its own log: `run()` may not call it, a step may, and neither folder is harmed."""
    async with Runtime(tmp_path / "other", min_free_bytes=0) as other:

        async def calls_elsewhere() -> int:
            return await other.get(Counter, "o").increment()

        class Elsewhere(Workflow):
            async def run(self) -> str:
                first = await self.step(calls_elsewhere)
                try:
                    await other.get(Counter, "o").increment()
                except CallerError as error:
                    return f"{first} {error}"
                return "called"

        assert "1 " in await soon((await rt.start(Elsewhere)).result())
        assert await other.get(Counter, "o").get() == 1
        assert rows(other, layout.REPLY) == rows(other, layout.JOURNAL) == []


class Recalls(Workflow):
    retry = Retry(2, 0.1, jitter=0)

    async def run(self) -> int:
        return await self.step(increment, "lost")


async def test_a_call_whose_commit_was_lost_is_made_again(folder: Folder, clock: ManualClock) -> None:
    """The commit of a call made by a step fails: the next attempt makes the call anew, and it counts once."""
    log = HeldLog()
    rt = await folder.open(wrap_log=log.wrap)
    RUNTIME[:] = [rt]
    await rt.get(Counter, "lost").increment(0)
    run = await rt.start(Recalls, id="a")
    assert await play(rt, clock, run) == 1
    log.hold()
    run = await _start_held(rt, log)
    await log.arrived()  # the call's own commit
    log.fail()
    await turns()
    log.release()
    assert await play(rt, clock, run) == 2
    assert await rt.get(Counter, "lost").get() == 2
    assert rows(rt, layout.REPLY) == []


async def _start_held(rt: Runtime, log: HeldLog) -> Any:
    start = asyncio.ensure_future(rt.start(Recalls, id="b"))
    await log.arrived()
    log.let()
    return await soon(start)


async def test_a_loser_leaves_no_replies_behind(rt: Runtime, clock: ManualClock) -> None:
    """A step that made calls and was given up: its kept replies go with the run's end."""
    RUNTIME[:] = [rt]

    async def calls_then_hangs() -> None:
        await rt.get(Counter, "loser").increment()
        SEEN.append("called")
        await asyncio.Event().wait()

    class Loses(Workflow):
        async def run(self) -> str:
            try:
                async with asyncio.timeout(5):
                    await self.step(calls_then_hangs)
            except TimeoutError:
                pass
            return "done"

    run = await rt.start(Loses)
    await until(lambda: SEEN == ["called"])
    await settle(rt)
    assert len(rows(rt, layout.REPLY)) == 1
    clock.advance(5)
    assert await play(rt, clock, run) == "done"
    await settle(rt)
    assert rows(rt, layout.REPLY) == []


async def test_a_step_that_ends_with_run_leaves_no_replies_behind(rt: Runtime, clock: ManualClock) -> None:
    """A step that made calls and is still in progress when run() returns, in a task or awaited by nobody."""
    RUNTIME[:] = [rt]

    async def calls_then_hangs(name: str) -> None:
        await rt.get(Counter, name).increment()
        SEEN.append(name)
        await asyncio.Event().wait()

    class Leaves(Workflow):
        async def in_a_task(self) -> None:
            await self.step(calls_then_hangs, "task")

        async def run(self) -> str:
            task = asyncio.create_task(self.in_a_task())
            self.step(calls_then_hangs, "nobody")
            await self.sleep(5)
            return "done" if not task.done() else "too early"

    run = await rt.start(Leaves)
    await until(lambda: sorted(SEEN) == ["nobody", "task"])
    await settle(rt)
    assert len(rows(rt, layout.REPLY)) == 2
    clock.advance(5)
    assert await play(rt, clock, run) == "done"
    await settle(rt)
    assert rows(rt, layout.REPLY) == []


async def test_a_name_with_a_used_id_in_every_state(rt: Runtime, clock: ManualClock) -> None:
    """An id is taken in every state of its run."""
    BROKEN.add("x")
    await rt.start(Retries, "x", id="retrying")
    await settle(rt)
    with pytest.raises(RunExists):
        await rt.start(Retries, "x", id="retrying")
    run = await rt.start(Nap, 0, id="ended")
    await soon(run.result())
    with pytest.raises(RunExists):
        await rt.start(Nap, 0, id="ended")


async def test_logs_name_run_step_and_attempt(
    rt: Runtime, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Log lines of failed attempts carry run, step, attempt and correlation id, and none comes on replay."""
    caplog.set_level(logging.INFO, "holdfast.workflow")
    BROKEN.add("x")
    await rt.start(Retries, "x", id="a", correlation_id="c7")
    await settle(rt)
    lines = [record for record in caplog.records if getattr(record, "step", None) == "mark"]
    assert [(line.run_id, line.correlation_id, line.attempt) for line in lines] == [("Retries/a", "c7", 1)]  # type: ignore[attr-defined]


async def test_fatal_in_the_code_between_steps(rt: Runtime) -> None:
    """`Fatal` raised by `run()` itself fails the run like any other error."""

    class Gives(Workflow):
        async def run(self) -> None:
            raise Fatal("no")

    with pytest.raises(RunFailed, match="Fatal: no"):
        await soon((await rt.start(Gives)).result())


async def test_run_may_not_ask_for_other_runs(rt: Runtime) -> None:
    """A handle tells what is there now, which is another thing on replay: it is refused in `run()`."""
    other = await rt.start(Nap, 3600, id="other")

    class Asks(Workflow):
        async def run(self) -> list[str]:
            said: list[str] = []
            for ask in (other.status, other.result, other.history, other.terminate):
                try:
                    await ask()
                except CallerError as error:
                    said.append(str(error))
            return said

    said = await soon((await rt.start(Asks)).result())
    assert len(said) == 4
    assert all("in a step" in one for one in said)
    assert await other.status() in ("running", "waiting")


async def test_an_overloaded_actor_is_asked_again(folder: Folder, clock: ManualClock) -> None:
    """A call of `run()` that a full mailbox refuses is tried again by the class's policy, and counts once."""

    class Asks(Workflow):
        retry = Retry(3, 5, "constant", jitter=0)

        async def run(self) -> int:
            return await self.runtime.get(Slow, "s").add("open")

    rt = await folder.open(limits=Limits(max_mailbox=1, stall_seconds=None))
    calls = [asyncio.ensure_future(rt.get(Slow, "s").add("gate")) for _ in range(2)]
    await settle(rt)
    run = await rt.start(Asks)
    await settle(rt)
    assert await run.status() == "retrying"
    gate("gate").set()
    gate("open").set()
    assert sorted(await soon(asyncio.gather(*calls))) == [1, 2]
    assert await play(rt, clock, run) == 3
    assert await rt.get(Slow, "s").add("open") == 4
