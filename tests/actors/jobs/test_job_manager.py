"""A job manager: one job for each id, the way that its key has, and exact figures, over crashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from holdfast import (
    Actor,
    Alarm,
    CallerError,
    Fatal,
    Job,
    JobLook,
    JobManager,
    Runtime,
    Workflow,
    rollout,
)
from holdfast.actors.errors import InvalidInput, InvalidRunId, JobNotFound
from holdfast.actors.workflow.head import RunStatus
from holdfast.runtime.clock import ManualClock, moment
from holdfast.runtime.errors import InvalidActor
from holdfast.testing import ProcessDied, Simulation, simulate
from tests.actors.queue_support import runtime


class JobsOrder(Workflow):
    """Takes a minute; odd orders fail."""

    async def run(self, number: int) -> int:
        await self.sleep("1m")
        return await self.step(deliver, number)


async def deliver(number: int) -> int:
    if number % 2:
        raise Fatal(f"order {number} is odd")
    return number


class JobsOldMachine(Actor):
    """What did the orders before: a machine of states with an alarm, written by hand."""

    state: str = ""
    number: int = 0
    ended_ms: int | None = None

    async def begin(self, number: int) -> None:
        if not self.state:
            self.state, self.number = "running", number
            self.alarms.set("2m", "work")

    async def on_alarm(self, alarm: Alarm) -> None:
        self.end("failed" if self.number % 2 else "complete")

    async def stop(self) -> None:
        self.alarms.cancel("work")
        self.end("cancelled")

    async def look(self) -> tuple[str, int | None]:
        return self.state, self.ended_ms

    def end(self, state: str) -> None:
        self.state, self.ended_ms = state, self.runtime.clock.now_ms()


class JobsOldWay:
    """The machine as a way of doing jobs."""

    async def start(self, runtime: Runtime, job_id: str, input: Any) -> None:
        await runtime.get(JobsOldMachine, job_id).begin(input)

    async def look(self, runtime: Runtime, job_id: str) -> JobLook:
        state, ended_ms = await runtime.get(JobsOldMachine, job_id).look()
        if not state:
            raise LookupError(job_id)
        status: RunStatus = state  # type: ignore[assignment]  # its words are some of ours
        return JobLook(status, None if ended_ms is None else moment(ended_ms))

    async def cancel(self, runtime: Runtime, job_id: str, *, by: str | None, reason: str) -> None:
        await runtime.get(JobsOldMachine, job_id).stop()


class JobsOrders(JobManager):
    """Only the new way."""

    new = JobsOrder


class JobsBothWays(JobManager):
    """The new way is being introduced."""

    new = JobsOrder
    old = JobsOldWay()


LOOKS: list[str] = []


class JobsStuckWay:
    """Its jobs never end."""

    async def start(self, runtime: Runtime, job_id: str, input: Any) -> None: ...

    async def look(self, runtime: Runtime, job_id: str) -> JobLook:
        LOOKS.append(job_id)
        return JobLook("stuck")

    async def cancel(self, runtime: Runtime, job_id: str, *, by: str | None, reason: str) -> None: ...


class JobsForEver(JobManager):
    """Nothing of it ends."""

    new = JobsStuckWay()


class JobsNoWay(JobManager):
    """Somebody forgot to say how."""


def jobs_of(sim: Simulation, kind: type[JobManager] = JobsOrders) -> Any:
    """The manager in a story."""
    return sim.call(kind, "all")


def test_a_job_is_a_run_under_its_id() -> None:
    """It goes on, ends, and is told as ended, with the time that it took."""
    with simulate() as sim:
        job: Job = jobs_of(sim).start(2, id="order-2")
        assert (job.id, job.way, job.status, job.ended_at) == ("order-2", "new", "running", None)
        assert jobs_of(sim).status("order-2").status in ("running", "waiting")
        sim.advance("61s")
        job = jobs_of(sim).status("order-2")
        assert job.status == "complete"
        assert job.ended_at is not None
        assert (job.ended_at - job.started_at).total_seconds() == pytest.approx(60, abs=1)
        assert sim.runtime.runs(JobsOrder, tag=("way", "new"))[0].id == "order-2"


def test_the_same_id_is_the_same_job() -> None:
    """A second start starts nothing, with whatever input, also when the job has ended."""
    with simulate() as sim:
        first = jobs_of(sim).start(2, id="order-2")
        assert jobs_of(sim).start(4, id="order-2") == first
        sim.advance("2m")
        assert jobs_of(sim).start(2, id="order-2").status == "complete"
        assert len(sim.runtime.runs(JobsOrder)) == 1


def test_a_failed_job_tells_why() -> None:
    """Its error is the run's."""
    with simulate() as sim:
        jobs_of(sim).start(3, id="order-3")
        sim.advance("2m")
        job = jobs_of(sim).status("order-3")
        assert job.status == "failed"
        assert "order 3 is odd" in job.error


def test_cancel() -> None:
    """A job that goes on is stopped; one that has ended is left as it is."""
    with simulate() as sim:
        jobs_of(sim).start(2, id="a")
        jobs_of(sim).cancel("a", by="ann", reason="wrong shop")
        sim.advance("1s")
        assert jobs_of(sim).status("a").status == "cancelled"
        assert jobs_of(sim).cancel("a").status == "cancelled"
        assert [deed.who for deed in sim.runtime.audit()] == ["ann"]


def test_the_figures_come_without_anybody_asking() -> None:
    """The alarm looks at the jobs; they are kept when their run is erased."""
    with simulate() as sim:
        for number in range(4):
            jobs_of(sim).start(number, id=f"order-{number}")
        sim.advance("2m")
        for number in range(4):
            sim.run(sim.runtime.run(JobsOrder, f"order-{number}").purge)
        figures = jobs_of(sim).compare()["new"]
        assert (figures.jobs, figures.succeeded, figures.success_rate) == (4, 2, 0.5)
        assert figures.p50_seconds == pytest.approx(60, abs=1)
        assert {one.job: one.success for one in jobs_of(sim).figures("new")} == {
            "order-0": True, "order-1": False, "order-2": True, "order-3": False,
        }  # fmt: skip


def test_figures_and_jobs_are_kept_for_so_long() -> None:
    """Figures for 7 days, jobs for 30; then nothing is left, not even an alarm."""
    with simulate() as sim:
        jobs_of(sim).start(2, id="order-2")
        sim.advance("6d")
        assert jobs_of(sim).compare()["new"].jobs == 1
        sim.advance("2d")
        assert jobs_of(sim).compare()["new"].jobs == 0
        assert [job.id for job in jobs_of(sim).jobs()] == ["order-2"]
        sim.advance("23d")
        assert jobs_of(sim).jobs() == []
        with pytest.raises(JobNotFound, match="has no job 'order-2'"):
            jobs_of(sim).status("order-2")


def test_a_run_that_was_erased_too_early_is_no_riddle() -> None:
    """The job is told as failed, since nobody knows."""
    with simulate() as sim:
        jobs_of(sim).start(2, id="order-2")
        sim.run(sim.runtime.run(JobsOrder, "order-2").terminate)
        sim.run(sim.runtime.run(JobsOrder, "order-2").purge)
        sim.advance("1s")
        job = jobs_of(sim).status("order-2")
        assert job.status == "failed"
        assert "nothing is known of it" in job.error


def test_both_ways_side_by_side() -> None:
    """Each key goes its way, which stays with the job when the percentage changes; both are compared."""
    with simulate() as sim:
        jobs_of(sim, JobsBothWays).set_rollout(50, by="ann", reason="half of them")
        for number in range(40):
            jobs_of(sim, JobsBothWays).start(2 * number, key=f"shop-{number % 20}", id=f"order-{number}")
        ways = {job.id: job.way for job in jobs_of(sim, JobsBothWays).jobs()}
        name = "JobsBothWays/all"
        for number in range(40):
            new = rollout(name, f"shop-{number % 20}", 50)
            assert ways[f"order-{number}"] == ("new" if new else "old")
        assert set(ways.values()) == {"new", "old"}
        jobs_of(sim, JobsBothWays).set_rollout(100)
        assert jobs_of(sim, JobsBothWays).start(0, key="shop-1", id="order-x").way == "new"
        sim.advance("10m")
        assert {job.id: job.way for job in jobs_of(sim, JobsBothWays).jobs()} == {**ways, "order-x": "new"}
        compared = jobs_of(sim, JobsBothWays).compare()
        assert compared["new"].p95_seconds == pytest.approx(60, abs=1)
        assert compared["old"].p95_seconds == pytest.approx(120, abs=1)
        assert compared["new"].jobs + compared["old"].jobs == 41
        changes = jobs_of(sim, JobsBothWays).rollout_changes()
        assert [(one.percent, one.by, one.reason) for one in changes] == [
            (50.0, "ann", "half of them"),
            (100.0, None, ""),
        ]


def test_an_old_job_can_be_cancelled() -> None:
    """By its own way."""
    with simulate() as sim:
        jobs_of(sim, JobsBothWays).set_rollout(0)
        jobs_of(sim, JobsBothWays).start(2, id="a")
        assert jobs_of(sim, JobsBothWays).cancel("a").status == "cancelled"


def test_pages_of_jobs() -> None:
    """The newest first; pages don't overlap, and open ones are told apart."""
    with simulate() as sim:
        for number in range(7):
            jobs_of(sim).start(2, id=f"order-{number}")
            sim.advance("10s")
        assert [job.id for job in jobs_of(sim).jobs(open=False)] == ["order-0"]
        seen: list[str] = []
        while page := jobs_of(sim).jobs(limit=3, before=seen[-1] if seen else None):
            seen += [job.id for job in page]
        assert seen == [f"order-{number}" for number in range(6, -1, -1)]


def test_more_jobs_than_one_turn_looks_at() -> None:
    """All of them are in the figures."""
    with simulate() as sim:
        for number in range(450):
            jobs_of(sim).start(0, id=f"order-{number}")
        sim.advance("2m")
        assert jobs_of(sim).compare()["new"].jobs == 450
        assert jobs_of(sim).jobs(open=True) == []


@pytest.mark.parametrize("seed", range(12))
def test_each_job_counts_once_over_crashes(seed: int) -> None:
    """The process dies at many places while jobs are started, looked at and asked for."""
    deaths = 0
    with simulate(seed=seed) as sim:
        sim.crash_at_random(0.2, most=12)
        for number in range(6):
            while True:
                try:
                    jobs_of(sim, JobsBothWays).set_rollout(50)
                    jobs_of(sim, JobsBothWays).start(0, id=f"order-{number}")
                    jobs_of(sim, JobsBothWays).status(f"order-{number}")
                    sim.advance("50s")
                    break
                except ProcessDied:
                    deaths += 1
        sim.no_more_crashes()
        sim.advance("10m")
        compared = jobs_of(sim, JobsBothWays).compare()
        assert deaths
        assert compared["new"].jobs + compared["old"].jobs == 6
        assert compared["new"].succeeded + compared["old"].succeeded == 6
        figures = [*jobs_of(sim, JobsBothWays).figures("new"), *jobs_of(sim, JobsBothWays).figures("old")]
        assert {one.job for one in figures} == {f"order-{number}" for number in range(6)}


def test_a_job_that_never_ends_is_looked_at_more_and_more_rarely() -> None:
    """Five minutes are the longest; a start brings the next look near again."""
    with simulate() as sim:
        jobs_of(sim, JobsForEver).start(id="a")
        sim.advance("1d")
        looks = len(LOOKS)
        assert looks < 24 * 12 + 20
        jobs_of(sim, JobsForEver).start(id="b")
        sim.advance("6s")
        assert len(LOOKS) == looks + 2


async def test_what_the_way_refuses_is_no_job(tmp_path: Path) -> None:
    """A wrong input, a wrong id and a missing way are told to who asked, and nothing is kept."""
    async with runtime(tmp_path, ManualClock()) as rt:
        jobs = rt.get(JobsOrders, "all")
        with pytest.raises(InvalidInput):
            await jobs.start("many")
        with pytest.raises(InvalidRunId):
            await jobs.start(2, id="two words")
        with pytest.raises(InvalidActor, match="set `new = YourWorkflow`"):
            await rt.get(JobsNoWay, "all").start(2)
        with pytest.raises(CallerError, match="from 0 to 100"):
            await jobs.set_rollout(101)
        with pytest.raises(CallerError, match="limit is from 1"):
            await jobs.jobs(limit=0)
        assert await jobs.jobs() == []
        assert rt.runs(JobsOrder) == []


async def test_a_job_that_nobody_knows(tmp_path: Path) -> None:
    """Status and cancel say so."""
    async with runtime(tmp_path, ManualClock()) as rt:
        for ask in (rt.get(JobsOrders, "all").status, rt.get(JobsOrders, "all").cancel):
            with pytest.raises(JobNotFound):
                await ask("nothing")
