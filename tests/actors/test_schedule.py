"""Schedules in a simulated process: times, missed times, overlap, steering, and what is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

from holdfast import Actor, CallerError, Schedule, Workflow
from holdfast.actors.errors import InvalidInput, InvalidSchedule, ScheduleNotFound
from holdfast.actors.schedule import MAX_BACKFILL
from holdfast.runtime.durations import InvalidDuration
from holdfast.runtime.errors import InvalidArgument, InvalidCron
from holdfast.testing import Crash
from tests.actors.schedule_support import MIDNIGHT, QuickRun, SlowRun, Story, at, story

# -- times ---------------------------------------------------------------------------------------------------


def test_cron_starts_runs_with_their_planned_time() -> None:
    """A planned time is a run with id, correlation id and tags of it; `scheduled_at` tells it in `run()`."""
    with story() as sim:
        one = Story(sim, "nightly")
        one.set_up(
            QuickRun, "tidy", cron="30 2 * * *", tz="Europe/Berlin", tenant="acme", tags={"team": "ops"}
        )
        sim.advance("2d")
        ids = ["nightly/2030-01-01T01:30:00Z", "nightly/2030-01-02T01:30:00Z"]
        runs = sim.runtime.runs(QuickRun)
        assert [(run.id, run.correlation_id) for run in runs] == [(id_, id_) for id_ in ids]
        run = sim.runtime.run(QuickRun, ids[0])
        assert sim.run(run.result) == "tidy 2030-01-01 01:30:00+00:00"
        started: Any = sim.run(run.history)[0]
        assert started.tenant == "acme"
        assert started.tags == {"team": "ops", "schedule": "nightly", "scheduled_at": "2030-01-01T01:30:00Z"}
        assert started.at_ms == int(at(1.5).timestamp() * 1000)
        assert [one.id for one in sim.runtime.runs(tag=("schedule", "nightly"))] == ids


def test_a_run_of_nobodys_schedule() -> None:
    """A run that was started otherwise has no planned time."""
    with story() as sim:
        assert sim.result(sim.start(QuickRun, "x")) == "x None"


def test_every() -> None:
    """An interval counts from the moment of the set-up, or from `start`."""
    with story() as sim:
        sim.advance("7m")
        one, other, later = Story(sim, "now"), Story(sim, "since"), Story(sim, "later")
        one.set_up(every="30m")
        other.set_up(every="30m", start=at(-100))
        later.set_up(every="30m", start=at(1, 5), end=at(2, 5))
        sim.advance("3h")
        assert one.runs() == ["00:37", "01:07", "01:37", "02:07", "02:37", "03:07"]
        assert other.runs() == ["00:30", "01:00", "01:30", "02:00", "02:30", "03:00"]
        assert later.runs() == ["01:05", "01:35", "02:05"]
        assert later.info().status == "ended"


def test_an_end_of_cron() -> None:
    """Times lie between `start` and `end`, both included."""
    with story() as sim:
        one = Story(sim)
        one.set_up(cron="0 * * * *", start=at(2), end=at(4))
        sim.advance("6h")
        assert one.runs() == ["02:00", "03:00", "04:00"]
        assert one.info().next_at is None


def test_max_fires() -> None:
    """After so many planned times it has ended; triggers don't count."""
    with story() as sim:
        one = Story(sim)
        one.set_up(every="1h", max_fires=2)
        one.call("trigger")
        assert one.call("next_fires", 9) == [at(1), at(2)]
        sim.advance("5h")
        assert one.runs() == ["00:00!", "01:00", "02:00"]
        assert one.info().status == "ended"
        assert one.call("next_fires") == []


def test_once() -> None:
    """One moment is one run; one that passed means now."""
    with story() as sim:
        coming, passed = Story(sim, "coming"), Story(sim, "passed")
        coming.set_up(at=at(1, 2, 3.5).astimezone(timezone(timedelta(hours=-7))))
        passed.set_up(at=at(-24))
        sim.advance("3h")
        assert [run.id for run in sim.runtime.runs(QuickRun)] == [
            "passed/2029-12-31T00:00:00Z",
            "coming/2030-01-01T01:02:03.500Z",
        ]
        assert coming.info().status == passed.info().status == "ended"


def test_jitter_is_a_delay_of_the_start_alone() -> None:
    """A run begins up to so much later, at the same moment whenever it is asked; its planned time stays."""
    with story() as sim:
        names = [f"s{n}" for n in range(20)]
        for name in names:
            Story(sim, name).set_up(cron="0 1 * * *", jitter="10m")
        sim.advance("1h")
        begun = len(sim.runtime.runs(QuickRun))
        sim.advance("5m")
        middle = len(sim.runtime.runs(QuickRun))
        sim.advance("5m")
        runs = sim.runtime.runs(QuickRun)
        assert begun <= 2 and 4 < middle < 16 and len(runs) == 20
        assert {run.id.partition("/")[2] for run in runs} == {"2030-01-01T01:00:00Z"}
        delays = {(run.created_at - at(1)).total_seconds() for run in runs}
        assert len(delays) > 15 and max(delays) <= 600


# -- setting up again ----------------------------------------------------------------------------------------


def test_the_same_again_writes_nothing() -> None:
    """A program that sets its schedules up whenever it starts doesn't move or write anything."""
    with story() as sim:
        one = Story(sim)
        options: dict[str, Any] = {"every": "1h", "tags": {"a": "b"}, "overlap": "skip"}
        one.set_up(QuickRun, "x", **options)
        sim.advance("30m")
        before, commits = one.info(), sim.commits
        one.set_up(QuickRun, "x", **options)
        sim.crash()
        one.set_up(QuickRun, "x", **options)
        assert (one.info(), sim.commits) == (before, commits)
        sim.advance("2h")
        assert one.runs() == ["01:00", "02:00"]


def test_another_input_keeps_the_times() -> None:
    """What doesn't concern the times leaves them as they are."""
    with story() as sim:
        one = Story(sim)
        one.set_up(QuickRun, "x", every="1h")
        sim.advance("90m")
        one.set_up(QuickRun, "y", every="1h")
        sim.advance("1h")
        assert one.runs() == ["01:00", "02:00"]
        run = sim.runtime.run(QuickRun, "s/2030-01-01T02:00:00Z")
        assert sim.run(run.result) == "y 2030-01-01 02:00:00+00:00"
        assert one.call("input") == "y"


def test_other_times_count_from_now_and_history_stays() -> None:
    """A changed schedule keeps what it knows of the past; what was due before comes in the old way."""
    with story() as sim:
        one = Story(sim)
        one.set_up(QuickRun, "x", every="1h", max_fires=1)
        sim.advance("90m")
        assert one.info().status == "ended"
        one.set_up(SlowRun, cron="15 * * * *", overlap="queue")
        info = one.info()
        assert (info.status, info.runs, info.workflow) == ("active", 1, "SlowRun")
        assert (info.created_at, info.updated_at, info.next_at) == (MIDNIGHT, at(1.5), at(2.25))
        assert [(fire.workflow, fire.planned_at) for fire in info.recent] == [("QuickRun", at(1))]
        # The wall clock jumps over a planned time, and the program is changed before that was noticed.
        sim.jump_clock(7200)
        one.set_up(SlowRun, cron="45 * * * *", overlap="queue")
        assert one.runs()[1:] == ["03:15"]
        assert one.info().next_at == at(3.75)


def test_a_paused_one_stays_paused() -> None:
    """To set a schedule up anew doesn't wake it."""
    with story() as sim:
        one = Story(sim)
        one.set_up(every="1h")
        one.call("pause", by="ann")
        one.set_up(every="2h")
        assert one.info().status == "paused"
        sim.advance("5h")
        assert one.runs() == []


# -- missed times --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("missed", "wanted", "count"),
    [
        ("one", ["02:30", "03:00"], 4),
        ("all", ["00:30", "01:00", "01:30", "02:00", "02:30", "03:00"], 0),
        ("skip", ["03:00"], 5),
    ],
)
@pytest.mark.parametrize("by", [{"cron": "*/30 * * * *"}, {"every": "30m"}])
def test_missed(missed: str, wanted: list[str], count: int, by: dict[str, Any]) -> None:
    """Times that passed while nobody could keep them: the newest is made up, or all are, or none is."""
    with story() as sim:
        one = Story(sim)
        one.set_up(missed=missed, **by)
        one.jump(hours=2, minutes=35)
        one.wait_until(3, 1)
        assert one.runs() == wanted
        assert one.info().times_missed == count


def test_skip_is_lenient() -> None:
    """A time that passed less than a minute ago was not missed."""
    with story() as sim:
        one = Story(sim)
        one.set_up(every="30m", missed="skip")
        one.jump(minutes=60, seconds=50)
        assert one.runs() == ["01:00"]
        once = Story(sim, "once")
        once.set_up(at=at(0), missed="skip")
        sim.advance(1)
        assert (once.runs(), once.info().status, once.info().times_missed) == ([], "ended", 1)


def test_all_has_a_bound() -> None:
    """Of very many missed times the newest `max_missed` are made up."""
    with story() as sim:
        one = Story(sim)
        one.set_up(every="1m", missed="all", max_missed=3)
        one.jump(hours=1)
        assert one.runs() == ["00:58", "00:59", "01:00"]
        assert one.info().times_missed == 57
        one.jump(days=365)
        assert one.info().runs == 6
        assert one.info().times_missed == 57 + 997  # no more than a thousand are looked at


def test_a_clock_that_is_set_back_doubles_nothing() -> None:
    """Planned times that come again by the wall clock don't come again."""
    with story() as sim:
        one = Story(sim)
        one.set_up(every="1h")
        sim.advance("2h")
        sim.jump_clock(-7200)
        sim.advance("3h")
        assert one.runs() == ["01:00", "02:00", "03:00"]


# -- overlap -------------------------------------------------------------------------------------------------


def test_allow() -> None:
    """By default runs may overlap."""
    with story() as sim:
        one = Story(sim)
        one.set_up(SlowRun, every="10m")
        sim.advance("34m")
        assert one.runs() == ["00:10", "00:20", "00:30"]
        assert len(sim.pending()) == 3


def test_skip() -> None:
    """While a run goes on none is started beside it."""
    with story() as sim:
        one = Story(sim)
        one.set_up(SlowRun, every="10m", overlap="skip")
        sim.advance("1h")
        assert one.runs() == ["00:10", "00:40"]
        info = one.info()
        assert (info.times_skipped, info.runs) == (4, 2)
        assert info.running == ("s/2030-01-01T00:40:00Z",)


@pytest.mark.parametrize("crash", [False, True])
def test_queue(crash: bool) -> None:
    """Planned times wait for the end of the run, in order, no more than the bound; also over a restart."""
    with story() as sim:
        one = Story(sim)
        one.set_up(SlowRun, every="10m", overlap="queue", max_queued=2, end=at(0, 50))
        sim.advance("41m")
        info = one.info()
        assert one.runs() == ["00:10", "00:20"]
        assert (info.waiting, info.times_skipped) == ((at(0, 30), at(0, 40)), 0)
        one.wait_until(0, 59)
        assert one.info().times_skipped == 1
        if crash:
            sim.crash()
        one.wait_until(1, 55)
        assert one.runs() == ["00:10", "00:20", "00:30", "00:40"]
        starts = [fire.started_at for fire in one.info().recent]
        if not crash:
            # Each at once behind the one before: this process hears of the end.
            assert starts == [at(0, 10), at(0, 35), at(1), at(1, 25)]
        assert one.info().status == "ended"
        assert all(later - sooner >= timedelta(minutes=25) for sooner, later in pairwise(starts))


def test_cancel() -> None:
    """The run before is terminated, and its place is taken."""
    with story() as sim:
        one = Story(sim)
        one.set_up(SlowRun, every="10m", overlap="cancel", missed="all")
        sim.advance("25m")
        statuses = {run.id[-9:-4]: run.status for run in sim.runtime.runs(SlowRun)}
        assert statuses == {"00:10": "terminated", "00:20": "waiting"}
        # Of several at once the others would end as they begin.
        one.jump(minutes=30)
        assert sorted(one.runs()) == ["00:10", "00:20", "00:50"]
        assert one.info().times_missed == 2


def test_a_run_that_ended_is_in_nobodys_way() -> None:
    """Only runs that go on count, failed ones don't."""
    with story() as sim:
        one = Story(sim)
        one.set_up(SlowRun, every="10m", overlap="skip")
        sim.advance("11m")
        sim.run(sim.runtime.run(SlowRun, "s/2030-01-01T00:10:00Z").terminate)
        sim.advance("10m")
        assert sorted(one.runs()) == ["00:10", "00:20"]


# -- steering ------------------------------------------------------------------------------------------------


def test_pause_and_resume() -> None:
    """While it is paused times pass; who paused it, and why, is kept, also over a crash."""
    with story() as sim:
        one = Story(sim)
        one.set_up(every="1h")
        sim.advance("90m")
        one.call("pause", by="ann", reason="moving house")
        sim.advance("3h")
        sim.crash()
        sim.advance("1h")
        info = one.info()
        assert info.pause is not None
        assert (info.status, info.pause.by, info.pause.reason, info.pause.at) == (
            "paused",
            "ann",
            "moving house",
            at(1.5),
        )
        one.call("resume")
        one.call("resume")
        assert one.info().next_at == at(6)
        sim.advance("1h")
        assert one.runs() == ["01:00", "06:00"]
        assert (one.info().times_missed, one.info().pause) == (0, None)


@pytest.mark.parametrize(("missed", "wanted"), [("one", ["03:00"]), ("all", ["01:00", "02:00", "03:00"])])
def test_resume_may_make_up(missed: str, wanted: list[str]) -> None:
    """What passed meanwhile is made up when that is wished."""
    with story() as sim:
        one = Story(sim)
        one.set_up(every="1h")
        one.call("pause")
        sim.advance("3.5h")
        one.call("resume", missed=missed)
        sim.settle()
        assert one.runs() == wanted


def test_a_single_time_is_kept_for_later() -> None:
    """A paused schedule for one moment starts its run when it goes on."""
    with story() as sim:
        one = Story(sim)
        one.set_up(at=at(1))
        one.call("pause")
        sim.advance("2h")
        assert one.runs() == []
        one.call("resume")
        assert one.runs() == ["01:00"]
        with pytest.raises(InvalidSchedule, match="has ended"):
            one.call("pause")


def test_a_paused_one_starts_nothing_that_waits() -> None:
    """Planned times in line stay there until it goes on."""
    with story() as sim:
        one = Story(sim)
        one.set_up(SlowRun, every="10m", overlap="queue", max_queued=5)
        sim.advance("25m")
        one.call("pause")
        sim.advance("2h")
        assert (one.runs(), len(one.info().waiting)) == (["00:10"], 1)
        one.call("resume")
        assert one.runs() == ["00:10", "00:20"]


def test_trigger() -> None:
    """A run now, beside the planned ones, each with an id of its own."""
    with story() as sim:
        one = Story(sim)
        one.set_up(QuickRun, "x", every="1h")
        sim.advance("30m")
        first, second = one.call("trigger"), one.call("trigger")
        assert (first, second) == ("s/2030-01-01T00:30:00Z/trigger-1", "s/2030-01-01T00:30:00Z/trigger-2")
        assert sim.run(sim.runtime.run(QuickRun, first).result) == "x 2030-01-01 00:30:00+00:00"
        one.call("pause")
        assert one.call("trigger").endswith("trigger-3")
        one.call("delete")
        one.set_up(every="1h")
        assert one.call("trigger") == "s/2030-01-01T00:30:00Z/trigger-1"
        assert one.info().runs == 0  # at the same moment, after it was made anew: the run is there


def test_trigger_and_overlap() -> None:
    """It obeys the schedule's word on overlap, or another one."""
    with story() as sim:
        one = Story(sim)
        one.set_up(SlowRun, every="1h", overlap="skip")
        assert one.call("trigger") is not None
        assert one.call("trigger") is None
        assert one.call("trigger", overlap="allow") is not None
        assert one.call("trigger", overlap="queue") is None
        assert (one.info().times_skipped, len(one.info().waiting)) == (1, 1)
        sim.advance("26m")
        assert len(one.runs()) == 3
        assert one.call("trigger", overlap="cancel") is not None
        assert len(sim.pending()) == 1


def test_backfill() -> None:
    """Planned times that passed before there was a schedule are made up, each once."""
    with story() as sim:
        sim.advance("6h")
        one = Story(sim)
        one.set_up(cron="0 * * * *")
        assert one.call("backfill", at(1), at(4)) == 3
        assert one.call("backfill", at(2), at(5)) == 1
        sim.settle()
        assert one.runs() == ["01:00", "02:00", "03:00", "04:00"]
        every = Story(sim, "e")
        every.set_up(every="90m")  # the beat goes on into the past
        assert every.call("backfill", at(0), at(6)) == 4
        assert every.runs() == ["00:00", "01:30", "03:00", "04:30"]
        late = Story(sim, "late")
        late.set_up(cron="0 * * * *", start=at(3.5))
        assert late.call("backfill", at(0), at(6)) == 2
        # It was set up at 6:00, behind its beginning: that is one of its times.
        assert sorted(late.runs()) == ["04:00", "05:00", "06:00"]


def test_backfill_one_after_the_other() -> None:
    """With a word against overlap they wait for each other, behind what waits already."""
    with story() as sim:
        sim.advance("6h")
        one = Story(sim)
        one.set_up(SlowRun, cron="0 * * * *", overlap="skip", end=at(6))
        assert one.call("backfill", at(1), at(4)) == 3
        assert one.call("backfill", at(1), at(5)) == 1
        sim.settle()
        assert one.runs() == ["01:00"]
        assert one.info().waiting == (at(2), at(3), at(4))
        sim.advance("2h")
        assert one.runs() == ["01:00", "02:00", "03:00", "04:00"]
        assert one.call("backfill", at(4), at(6), overlap="allow") == 1


def test_backfill_refuses() -> None:
    """Times to come, times without zone, and too many of them."""
    with story() as sim:
        sim.advance("3d")
        one = Story(sim)
        one.set_up(every="1m")
        with pytest.raises(InvalidSchedule, match="times that passed"):
            one.call("backfill", at(1), at(100))
        with pytest.raises(InvalidSchedule, match="no time zone"):
            one.call("backfill", datetime(2030, 1, 1), at(1))
        with pytest.raises(InvalidSchedule, match=f"at most {MAX_BACKFILL} at once"):
            one.call("backfill", at(0), at(48))
        assert one.call("backfill", at(0), at(0)) == 0
        one.set_up(SlowRun, every="1m", overlap="queue")
        assert one.call("backfill", at(0), at(16)) == 960
        with pytest.raises(InvalidSchedule, match="would wait"):
            one.call("backfill", at(16), at(32))
        assert len(one.info().waiting) == 959


def test_next_fires() -> None:
    """The planned times to come, as many as are wished or come."""
    with story() as sim:
        one = Story(sim)
        one.set_up(cron="0 6 * * MON-FRI", end=at(24 * 5))
        assert one.call("next_fires") == [at(6)]
        assert one.call("next_fires", 10) == [at(6), at(30), at(54), at(78)]
        with pytest.raises(InvalidArgument):
            one.call("next_fires", 0)


def test_delete() -> None:
    """Nothing is left of it but its runs; planned times before don't come again when it is made anew."""
    with story() as sim:
        one = Story(sim)
        rows = len(list(sim.runtime.store.scan_prefix(b"")))
        one.set_up(cron="0 * * * *")
        sim.advance("90m")
        assert one.call("delete") is True
        assert one.call("delete") is False
        sim.crash()
        assert sim.runtime.schedules() == []
        assert sim.runtime.keys(Schedule) == []
        run = sim.runtime.run(QuickRun, "s/2030-01-01T01:00:00Z")
        assert sim.run(run.status) == "complete"
        # The name of the type, and the run: its row of the directory, its fields, three indexes, two records.
        # And that it was deleted: the audit's record, and how many there are.
        assert len(list(sim.runtime.store.scan_prefix(b""))) == rows + 1 + 7 + 2
        with pytest.raises(ScheduleNotFound):
            one.info()
        one.set_up(cron="0 * * * *")
        assert one.call("backfill", at(1), at(1.5)) == 0
        sim.advance("1h")
        assert one.runs() == ["01:00", "02:00"]


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("info", ()), ("input", ()), ("next_fires", ()), ("pause", ()), ("resume", ()), ("trigger", ()),
        ("backfill", (at(-2), at(-1))),
    ],
)  # fmt: skip
def test_no_such_schedule(method: str, args: tuple[object, ...]) -> None:
    """What is asked of a schedule that nobody set up is refused, and doesn't make one."""
    with story() as sim:
        with pytest.raises(ScheduleNotFound, match="there is no schedule 's'"):
            Story(sim).call(method, *args)
        assert sim.runtime.schedules() == []


# -- telling -------------------------------------------------------------------------------------------------


def test_info() -> None:
    """What it was set up with, how it stands, its newest runs."""
    with story() as sim:
        one = Story(sim)
        one.set_up(cron="@hourly", tz="Asia/Kolkata", start=at(-1), end=at(99), max_fires=50, jitter=0.5)
        info = one.info()
        assert (info.name, info.workflow, info.status, info.next_at) == ("s", "QuickRun", "active", at(0.5))
        assert (info.cron, info.tz, info.every_seconds, info.at) == ("@hourly", "Asia/Kolkata", None, None)
        assert (info.start, info.end, info.max_fires, info.jitter_seconds) == (at(-1), at(99), 50, 0.5)
        assert (info.missed, info.max_missed, info.overlap, info.max_queued) == ("one", 100, "allow", 1)
        sim.advance("20h")
        info = one.info()
        assert (info.runs, len(info.recent), info.recent[-1].planned_at) == (20, 10, at(19.5))


def test_listing() -> None:
    """By name; by workflow or status in the order of their set-up; in pages."""
    with story() as sim:
        for n in range(6):
            Story(sim, f"s{5 - n}").set_up(SlowRun if n % 2 else QuickRun, every="1h")
        for name in ("s1", "s4"):
            Story(sim, name).call("pause")
        Story(sim, "s0").set_up(SlowRun, at=at(-1))
        sim.settle()

        def names(*args: Any, **options: Any) -> str:
            return " ".join(info.name for info in sim.runtime.schedules(*args, **options))

        assert names() == "s0 s1 s2 s3 s4 s5"
        assert names(limit=2) == "s0 s1"
        assert names(limit=2, after="s1") == "s2 s3"
        assert names(SlowRun) == "s4 s2 s0"
        assert names(SlowRun, after="s4", limit=1) == "s2"
        assert names(status="paused") == "s4 s1"
        assert names(status="active", after="s5") == "s3 s2"
        assert names(SlowRun, status="ended") == "s0"
        assert names(QuickRun, status="stuck") == ""
        assert [info.status for info in sim.runtime.schedules(SlowRun)] == ["paused", "active", "ended"]
        with pytest.raises(CallerError, match="status must be one of"):
            names(status="asleep")
        with pytest.raises(CallerError, match="no schedule 'gone'"):
            names(SlowRun, after="gone")


def test_an_idle_schedule_is_not_in_memory() -> None:
    """P8: what waits for its time is an alarm on disk."""
    with story() as sim:
        for n in range(50):
            Story(sim, f"s{n}").set_up(cron="0 3 * * *")
        sim.advance("3m")
        # Time moves from timer to timer, and upkeep is left out where nothing else happens.
        sim.runtime.directory.evict_idle(1 << 60)
        assert len(sim.runtime.directory) == 0
        sim.advance("3h")
        assert len(sim.runtime.runs(QuickRun)) == 50


# -- from within ---------------------------------------------------------------------------------------------


class Planner(Workflow):
    """Sets schedules up: in `run()`, and in a step."""

    async def run(self) -> None:
        await self.runtime.schedule("by-run", QuickRun, "r", every="1h")
        await self.step(self.in_a_step)

    async def in_a_step(self) -> None:
        await self.runtime.schedule("by-step", QuickRun, "s", every="1h")


class Keeper(Actor):
    """Sets one up in its turn."""

    async def plan(self) -> None:
        rt: Any = self.runtime
        await rt.schedule("by-actor", QuickRun, "a", every="1h")


def test_set_up_by_a_workflow() -> None:
    """A workflow sets schedules up in `run()` and in steps: once, wherever the process dies."""

    def play(crash: Crash | None = None) -> list[Crash]:
        with story() as sim:
            if crash is not None:
                sim.crash_at(crash)
            sim.result(sim.start(Planner, id="p"))
            places = sim.places
            for name in ("by-run", "by-step"):
                one = Story(sim, name)
                assert one.info().updated_at == MIDNIGHT
                sim.crash()
            sim.advance("1h")
            assert Story(sim, "by-run").runs() == Story(sim, "by-step").runs() == ["01:00"]
            return places

    for place in play():
        play(place)


def test_set_up_by_an_actor() -> None:
    """An actor may set schedules up in its turn."""
    with story() as sim:
        sim.call(Keeper, 1).plan()
        sim.advance("1h")
        assert Story(sim, "by-actor").runs() == ["01:00"]


# -- refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, InvalidSchedule, "give one of cron, every and at; got none of them"),
        ({"cron": "@daily", "every": 60}, InvalidSchedule, "got cron and every"),
        ({"cron": "61 * * * *"}, InvalidCron, r"minute \(field 1\): expected 0 to 59; got '61'"),
        ({"cron": "@daily", "tz": "Nowhere"}, InvalidCron, "IANA name"),
        ({"every": 60, "tz": "UTC"}, InvalidSchedule, "the time zone of cron"),
        ({"every": 0.5}, InvalidSchedule, "every must be at least 1 s"),
        ({"every": "soon"}, InvalidDuration, "every 'soon' can't be read"),
        ({"at": datetime(2030, 1, 1)}, InvalidSchedule, "no time zone"),
        ({"at": "tomorrow"}, InvalidSchedule, "at must be a datetime"),
        ({"at": MIDNIGHT, "end": MIDNIGHT}, InvalidSchedule, "for schedules that repeat"),
        ({"every": 60, "start": at(2), "end": at(1)}, InvalidSchedule, "start lies behind end"),
        ({"every": 60, "max_fires": 0}, InvalidSchedule, "max_fires must be at least 1"),
        ({"every": 60, "max_missed": 1001}, InvalidSchedule, "max_missed must be from 1 to 1000"),
        ({"every": 60, "max_queued": True}, InvalidSchedule, "max_queued must be from 1 to 1000"),
        ({"every": 60, "missed": "some"}, InvalidSchedule, "missed must be one of one, all, skip"),
        ({"every": 60, "overlap": "never"}, InvalidSchedule, "overlap must be one of allow"),
        ({"every": 60, "jitter": 60}, InvalidSchedule, "jitter must be less than every"),
        ({"every": 60, "tags": {"schedule": "x"}}, InvalidSchedule, "the tag 'schedule'"),
        ({"every": 60, "tags": {"n": 5}}, InvalidSchedule, "labels of a run are texts"),
    ],
)
def test_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """What can't be meant is refused at the set-up, and there is no schedule."""
    with story() as sim:
        with pytest.raises(error, match=message):
            Story(sim).set_up(**options)
        assert sim.runtime.schedules() == []


@pytest.mark.parametrize("name", ["", "two words", "x" * 101, "ä" * 51, "a\nb", 5, None, "\udc00"])
def test_bad_names(name: Any) -> None:
    """A name is the beginning of run ids."""
    with story() as sim, pytest.raises(InvalidSchedule, match="name of a schedule"):
        Story(sim, name).set_up(every=60)


def test_longest_name() -> None:
    """With the longest name all ids fit."""
    with story() as sim:
        one = Story(sim, "x" * 100)
        one.set_up(every=1.001)
        one.call("trigger")
        sim.advance(2)
        assert one.info().runs == 2


def test_input_is_checked_at_the_set_up() -> None:
    """An input that the workflow doesn't take is refused before anything is planned."""
    with story() as sim, pytest.raises(InvalidInput):
        Story(sim).set_up(QuickRun, 5, every=60)


def test_all_times_are_utc() -> None:
    """Moments are told in UTC."""
    with story() as sim:
        one = Story(sim)
        one.set_up(cron="0 0 * * *", tz="Asia/Tokyo")
        (planned,) = one.call("next_fires")
        assert (planned, planned.tzinfo) == (at(15), UTC)


def test_a_trigger_with_an_id_starts_one_run() -> None:
    """Who asks again with it gets the same run, over a crash too."""
    with story() as sim:
        one = Story(sim)
        one.set_up(cron="0 0 1 1 *", overlap="queue")
        ids = [one.call("trigger", id="a") for _ in range(2)]
        sim.crash()
        ids.append(one.call("trigger", id="a"))
        assert ids == ["s/trigger/a"] * 3
        assert len(sim.runtime.runs()) == 1
