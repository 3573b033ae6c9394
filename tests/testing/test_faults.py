"""What a simulation lets go wrong beside crashes: steps, commits, messages, clocks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from holdfast import (
    Actor,
    Alarm,
    Batch,
    Counter,
    Retry,
    RunFailed,
    Runtime,
    StepError,
    StorageFailed,
    Workflow,
    shared,
)
from holdfast.testing import NeverAtRest, NotFinished, ProcessDied, simulate
from tests.testing.support import RESULT_OF_FIVE, FiveSteps


def test_a_step_fails_so_often() -> None:
    """Its attempts are counted, the waits between them are virtual, and the run goes on."""
    with simulate() as sim:
        run = sim.start(FiveSteps, 5, id="1")
        sim.fail_step("add", 2)
        sim.fail_step("slowly", 1, when="after", error=lambda: TimeoutError("no answer"))
        assert sim.result(run) == RESULT_OF_FIVE
        assert (sim.attempts("add", run), sim.effects("add", run)) == (4, 2)
        assert (sim.attempts("slowly", run), sim.effects("slowly", run)) == (2, 2)
        assert "add attempt 2 failed: ConnectionError" in sim.journal(run)
        assert "slowly attempt 1 failed: TimeoutError: no answer" in sim.journal(run)
        assert sim.journal(run).splitlines()[0] == "  0  +0.000 s  started with 5"


def test_a_step_fails_for_good() -> None:
    """Without a retry left the run fails, and `result` says so."""
    with simulate() as sim:
        run = sim.start(FiveSteps, 5, id="1")
        sim.fail_step("double", 4)
        with pytest.raises(RunFailed, match="step double was tried 4 times"):
            sim.result(run)
        assert sim.status(run) == "failed"


def test_steps_are_mocked() -> None:
    """By name, sync for async and the other way round; what they return is checked as the step's own."""

    async def doubled(n: int) -> int:
        await asyncio.sleep(1)
        return 100

    with simulate() as sim:
        sim.mock_step("slowly", lambda n: n)
        sim.mock_step("double", doubled)
        assert sim.result(sim.start(FiveSteps, 5, id="1")) == 110
        sim.mock_step("add", lambda n, by: object())
        with pytest.raises(RunFailed, match="can't be stored"):
            sim.result(sim.start(FiveSteps, 5, id="2"))


def test_deps_are_the_world_outside() -> None:
    """They are the same in all lives; a function makes new ones for each life."""
    post, made = Post(), list[Post]()

    def fresh() -> list[Post]:
        made.append(Post())
        return made[-1:]

    def story(deps: list[Post] | Callable[[], list[Post]]) -> None:
        with simulate(deps=deps) as sim:
            for n in range(2):
                sim.call(Postman, "p").deliver(n)
                sim.crash()

    story([post])
    assert post.sent == [0, 1]
    story(fresh)
    assert [one.sent for one in made] == [[0], [1], []]


class Post:
    """A dep."""

    def __init__(self) -> None:
        self.sent: list[int] = []


class Postman(Actor):
    """Uses a dep."""

    async def deliver(self, n: int) -> None:
        self.runtime.deps.get(Post).sent.append(n)


def test_a_commit_fails() -> None:
    """The caller gets `StorageFailed`, nothing of it is there, and the next call is served (P9)."""
    with simulate(types=[Counter]) as sim:
        sim.call(Counter, "a").increment()
        sim.fail_commit()
        with pytest.raises(StorageFailed, match="refused commit 3"):
            sim.call(Counter, "a").increment()
        assert sim.call(Counter, "a").increment() == 2
        assert sim.life == 1


def test_a_commit_of_unknown_outcome() -> None:
    """The runtime closes itself, and the next life shows that the commit is there."""
    with simulate(types=[Counter]) as sim:
        sim.fail_commit(unknown=True)
        with pytest.raises(ProcessDied, match="closed itself"):
            sim.call(Counter, "a").increment()
        assert sim.call(Counter, "a").get() == 1
        assert sim.life == 2


@pytest.mark.parametrize("n", range(1, 10))
@pytest.mark.parametrize("unknown", [False, True])
def test_a_run_goes_on_behind_a_failed_commit(n: int, unknown: bool) -> None:
    """Whichever commit of a run fails, it ends as it does undisturbed."""
    with simulate() as sim:
        sim.fail_commit(n, unknown=unknown)
        assert sim.result(sim.start(FiveSteps, 5, id="1")) == RESULT_OF_FIVE
        assert sim.call(Counter, "total").get() == 11
        assert sim.reran == []


def test_delays() -> None:
    """Bodies begin later and commits take long, in virtual time."""
    with simulate() as sim:
        sim.delay_step("add", "1m")
        sim.delay_commits("2s")
        assert sim.result(sim.start(FiveSteps, 5, id="1")) == RESULT_OF_FIVE
        assert 86_400 + 2 * 60 + 5 + 2 * 7 <= sim.now < 86_400 + 3 * 60


# -- time -------------------------------------------------------------------------------------------------


class Bell(Actor):
    """Rings at a time, or each hour."""

    rung_ms: list[int] = []

    async def ring_in(self, seconds: float) -> None:
        self.alarms.set(seconds, "ring")

    async def ring_each_hour(self) -> None:
        self.alarms.set("1h", "ring", every="1h")

    async def on_alarm(self, alarm: Alarm) -> None:
        self.rung_ms.append(self.runtime.clock.now_ms())

    @shared
    async def rings(self) -> list[int]:
        return self.rung_ms


def test_time_moves_by_hand() -> None:
    """`advance` moves so far and no further; at rest nothing moves by itself but in `run_until_idle`."""
    with simulate(start_ms=0) as sim:
        sim.call(Bell, "b").ring_in(60)
        sim.advance(59)
        assert sim.call(Bell, "b").rings() == []
        sim.advance(1)
        assert sim.call(Bell, "b").rings() == [60_000]
        sim.call(Bell, "b").ring_in(3600)
        sim.run_until_idle()
        assert sim.call(Bell, "b").rings() == [60_000, 3_660_000]
        assert sim.now == 3660


def test_what_never_ends_is_told() -> None:
    """A repeating alarm: `run_until_idle` stops at its limit, `advance` goes through it."""
    with simulate(start_ms=0) as sim:
        sim.call(Bell, "b").ring_each_hour()
        with pytest.raises(NeverAtRest, match="1d"):
            sim.run_until_idle(limit="1d")
        assert len(sim.run(sim.get(Bell, "b").rings)) == 24
        sim.advance("30d")
        assert len(sim.run(sim.get(Bell, "b").rings)) == 24 + 720


def test_what_waits_for_nothing_is_told() -> None:
    """Not by waiting for ever."""

    async def wait() -> None:
        await asyncio.Event().wait()

    with simulate() as sim, pytest.raises(NotFinished, match="nothing will ever deliver"):
        sim.run(wait)


@pytest.mark.parametrize("jump", [-7200.0, 7200.0])
def test_the_wall_clock_is_set(jump: float) -> None:
    """An alarm goes by the wall clock: it rings once, at or after its time, and not lost."""
    with simulate(start_ms=1_000_000_000_000) as sim:
        due_ms = sim.now_ms + 3_600_000
        sim.call(Bell, "b").ring_in(3600)
        sim.advance(10)
        sim.jump_clock(jump)
        sim.advance("4h")
        (rung_ms,) = sim.run(sim.get(Bell, "b").rings)
        assert rung_ms >= due_ms
        # Forth: noticed within a second.  Back: when that wall time comes again.
        assert sim.now == 4 * 3600 + 10
        expected = due_ms if jump < 0 else 1_000_000_000_000 + 10_000 + round(jump * 1000)
        assert expected <= rung_ms <= expected + 1000


def test_idle_actors_leave_memory() -> None:
    """Upkeep runs while time moves, also when nothing else happens."""
    with simulate() as sim:
        sim.call(Counter, "a").increment()
        assert len(sim.runtime.directory) == 1
        sim.advance("5m")
        assert len(sim.runtime.directory) == 0


# -- queues -----------------------------------------------------------------------------------------------


class Handle(Workflow):
    """One message."""

    retry = Retry(3, "1s")

    async def run(self, text: str) -> str:
        await self.runtime.get(Counter, "handled").increment()
        return text.upper()


def bind(rt: Runtime) -> None:
    rt.bind("letters", Handle, id=lambda message, text: text)


@pytest.mark.parametrize("seed", range(4))
def test_duplicate_and_mixed_messages(seed: int) -> None:
    """Each text is handled once, however often and in which order it comes, over a crash."""
    texts = ["a", "b", "c"]
    with simulate(seed=seed, setup=bind) as sim:
        sim.crash_at("commit", 4)
        sim.send("letters", *texts, copies=3, mix=True)
        sim.run_until_idle()
        assert sim.life == 2
        assert sim.call(Counter, "handled").get() == 3
        assert {info.id: info.status for info in sim.runtime.runs(Handle)} == dict.fromkeys(texts, "complete")


def test_a_consumer_is_there_in_each_life() -> None:
    """`setup` may be async, and is called with the runtime of each life."""
    got: list[str] = []

    async def consume(rt: Runtime) -> None:
        async def handler(batch: Batch[str]) -> None:
            got.extend(message.body for message in batch)

        rt.consume("letters", handler, max_wait="1h")

    with simulate(setup=consume) as sim:
        sim.send("letters", "a", "b")
        sim.advance("30m")
        assert got == []
        sim.crash()
        sim.advance("31m")
        assert sorted(got) == ["a", "b"]


# -- pending ----------------------------------------------------------------------------------------------


class Waits(Workflow):
    """Waits for a step, and for time."""

    async def run(self) -> str:
        async with asyncio.timeout(3600):
            try:
                await self.step(long)
            except StepError:
                return "failed"
        return "done"


async def long() -> None:
    """Takes half an hour."""
    await asyncio.sleep(1800)


class Naps(Workflow):
    """Only sleeps."""

    async def run(self) -> str:
        await self.sleep("7d")
        return "awake"


def test_pending() -> None:
    """What has not ended, in memory or not, and what it waits for."""
    with simulate() as sim:
        waits, naps = sim.start(Waits, id="w"), sim.start(Naps, id="n")
        sim.advance(60)
        pending = {one.run: one for one in sim.pending()}
        assert pending["Waits/w"].steps == ("long",)
        assert (pending["Waits/w"].status, pending["Waits/w"].timers) == ("running", 1)
        assert (pending["Naps/n"].status, pending["Naps/n"].steps) == ("waiting", ())
        assert (sim.result(naps), sim.pending()) == ("awake", [])
        assert sim.result(waits) == "failed"  # attempts of ten minutes, half an hour each
