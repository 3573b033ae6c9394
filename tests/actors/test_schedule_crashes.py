"""Schedules wherever the process dies, whatever the wall clock does: a planned time comes exactly once."""

from __future__ import annotations

from collections import Counter as Tally
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from holdfast import Counter, Workflow
from holdfast.runtime.cron import parse_cron
from holdfast.testing import Crash, ProcessDied
from holdfast.testing.simulation import Simulation
from tests.actors.schedule_support import MIDNIGHT, QuickRun, Story, at, story


class Tick(Workflow):
    """Counts itself, exactly once, and takes a while."""

    async def run(self) -> None:
        await self.runtime.get(Counter, "ticks").increment()
        await self.sleep("7m")


def ticking(sim: Simulation, overlap: str) -> list[str]:
    """A schedule of three planned times, set up again in each life, over all crashes; what its runs were."""
    one = Story(sim)
    for _ in range(9):
        one.set_up(Tick, every="5m", max_fires=3, overlap=overlap, max_queued=5, missed="all")
        sim.advance("5m")
    sim.no_more_crashes()
    info, ticks = one.info(), sim.call(Counter, "ticks").get()
    assert info.status == "ended"
    assert (info.runs, info.waiting) == (ticks, ())
    assert sim.pending() == []
    return sorted(one.runs())


@pytest.mark.parametrize(
    ("overlap", "wanted"),
    [
        ("allow", ["00:05", "00:10", "00:15"]),
        ("queue", ["00:05", "00:10", "00:15"]),
        ("skip", ["00:05", "00:15", "00:25"]),
        ("cancel", ["00:05", "00:10", "00:15"]),
    ],
)
def test_every_crash_point(overlap: str, wanted: list[str]) -> None:
    """The process dies once, before or after any commit: no planned time is lost, none comes twice."""

    def play(crash: Crash | None = None) -> list[Crash]:
        with story() as sim:
            if crash is not None:
                sim.crash_at(crash)
            assert ticking(sim, overlap) == wanted, crash
            return sim.places

    places = play()
    assert len(places) > 20
    for place in places:
        play(place)


@pytest.mark.parametrize("seed", range(1, 9))
def test_many_crashes(seed: int) -> None:
    """It dies again and again, between any two callbacks, and the disk refuses commits."""
    with story(seed=seed) as sim:
        sim.crash_at_random(0.15, most=6)
        sim.crash_at("callback", 40 * seed)
        sim.fail_commit(3 + seed)
        assert ticking(sim, "queue") == ["00:05", "00:10", "00:15"]


def minutes_of(cron: str) -> list[int]:
    """The minutes of the first day at which an expression comes in UTC."""
    parsed = parse_cron(cron)
    return [
        minute
        for minute in range(3 * 1440)
        if minute // 60 % 24 in parsed.hours and minute % 60 in parsed.minutes
    ]


class ScheduleMachine(RuleBasedStateMachine):
    """Any life of a schedule against a model: planned times as minutes since the beginning, and which came.

    All that happens is half a minute away from planned times, so that the order is never a matter of seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sim = story(start_ms=int(MIDNIGHT.timestamp() * 1000) + 30_000).__enter__()
        self.one = Story(self.sim)
        self.planned: list[int] = []
        self.wall = 0  # the minute of the last half-minute
        self.next = 0  # no planned time before this minute comes any more
        self.paused = False
        self.left: int | None = None
        self.wanted: Tally[int] = Tally()
        self.options: dict[str, Any] = {}

    # The model ----------------------------------------------------------------------------------------------

    def keep(self, minute: int) -> None:
        if self.left != 0:
            self.wanted[minute] += 1
            if self.left is not None:
                self.left -= 1

    def pass_to(self, wall: int, jumps: bool, missed: str | None = None) -> None:
        """The wall clock goes, or jumps, to another minute."""
        due = [minute for minute in self.planned if self.next <= minute <= wall]
        self.wall = wall
        if self.paused or not due:
            return
        if jumps:
            missed = missed or self.options.get("missed", "one")
            if missed == "one":
                due = due[-1:]
            elif missed == "skip":
                due = [minute for minute in due[-1:] if minute == wall]
        for minute in due:
            self.keep(minute)
        self.next = wall + 1

    # Rules --------------------------------------------------------------------------------------------------

    @initialize(
        every=st.sampled_from([None, 1, 5, 60]),
        cron=st.sampled_from(["*/7 * * * *", "0,3 */2 * * *", "30 5 * * *"]),
        missed=st.sampled_from(["one", "all", "skip"]),
        most=st.sampled_from([None, None, 3]),
    )
    def begin(self, every: int | None, cron: str, missed: str, most: int | None) -> None:
        self.define(every, cron, missed, most)

    @rule(
        every=st.sampled_from([None, 5, 61]),
        cron=st.sampled_from(["*/7 * * * *", "59 * * * *"]),
        missed=st.sampled_from(["one", "all", "skip"]),
        most=st.sampled_from([None, 2]),
    )
    def change(self, every: int | None, cron: str, missed: str, most: int | None) -> None:
        """Another definition."""
        self.define(every, cron, missed, most)

    def define(self, every: int | None, cron: str, missed: str, most: int | None) -> None:
        options: dict[str, Any] = {"missed": missed, "max_fires": most, "max_missed": 1_000}
        if every is None:
            options["cron"] = cron
        else:
            options["every"] = every * 60
            options["start"] = at(minutes=-60)
        times = ("cron", "every", "max_fires")
        changed = [options.get(word) for word in times] != [self.options.get(word) for word in times]
        self.options = options
        if changed:
            self.planned = (
                minutes_of(cron)
                if every is None
                else [minute for minute in range(3 * 1440) if (minute + 60) % every == 0]
            )
            self.next, self.left = self.wall + 1, most
        self.one.set_up(QuickRun, **options)

    @rule()
    def set_up_again(self) -> None:
        """The same definition."""
        before = self.sim.commits
        self.one.set_up(QuickRun, **self.options)
        assert self.sim.commits == before

    @rule(minutes=st.integers(1, 130))
    def wait(self, minutes: int) -> None:
        """Time passes."""
        if self.wall + minutes < 3 * 1440 - 1:
            self.sim.advance(minutes * 60)
            self.pass_to(self.wall + minutes, False)

    @rule(minutes=st.integers(-200, 400))
    def jump(self, minutes: int) -> None:
        """The wall clock is set, as it seems to a process that was down."""
        if 0 <= self.wall + minutes < 3 * 1440 - 1:
            self.one.jump(minutes=minutes)
            self.sim.jump_clock(-1)
            self.sim.advance(1)
            self.sim.jump_clock(-1)
            self.sim.settle()
            self.pass_to(self.wall + minutes, True)

    @rule()
    def crash(self) -> None:
        """The process dies."""
        self.sim.crash()

    @rule(n=st.integers(1, 5))
    def crash_soon(self, n: int) -> None:
        """The process dies in something that comes."""
        self.sim.crash_at("any", n)

    @precondition(lambda self: not self.paused)
    @rule()
    def pause(self) -> None:
        if self.again("info").status != "ended":
            self.again("pause")
            self.paused = True

    @precondition(lambda self: self.paused)
    @rule(missed=st.sampled_from(["skip", "one", "all"]))
    def resume(self, missed: str) -> None:
        self.again("resume", missed=missed)
        self.paused = False
        if missed == "skip":
            self.next = max(self.next, self.wall + 1)
        else:
            self.pass_to(self.wall, True, missed)

    @rule()
    def trigger(self) -> None:
        """A run out of order; one that was cut off may have happened."""
        self.again("trigger")

    def again(self, method: str, **options: Any) -> Any:
        """Call as a client does that tries again; all but `trigger` may be called twice."""
        while True:
            try:
                return self.one.call(method, **options)
            except ProcessDied:
                pass

    # Compared -----------------------------------------------------------------------------------------------

    @invariant()
    def each_planned_time_once(self) -> None:
        self.sim.settle()
        runs = self.sim.runtime.runs(QuickRun, limit=10_000)
        found: Tally[int] = Tally()
        for run in runs:
            planned, _, trigger = run.id.removeprefix("s/").partition("/")
            assert run.status == "complete"
            if not trigger:
                minutes = sum(
                    int(part) * unit
                    for part, unit in ((planned[8:10], 1440), (planned[11:13], 60), (planned[14:16], 1))
                )
                found[minutes - 1440] += 1
        assert found == self.wanted

    def teardown(self) -> None:
        self.sim.close()


def test_any_life() -> None:
    """Definitions, time, clocks that are set, crashes, pauses, triggers: what the model says comes."""
    run_state_machine_as_test(
        ScheduleMachine, settings=settings(max_examples=25, stateful_step_count=14, deadline=None)
    )
