"""The course of metrics: a point each ten seconds, a long one each five minutes, and no more than fit."""

import asyncio
from pathlib import Path

from holdfast import Queue, Retry, RunFailed, Runtime, Workflow
from holdfast.actors.metrics.course import LONG_POINTS, MAX_LONG_POINTS, MAX_POINTS, POINT_SECONDS
from holdfast.runtime.clock import ManualClock


class CourseRun(Workflow):
    retry = Retry(0)

    async def run(self, ok: bool) -> None:
        if not ok:
            raise ValueError("as asked")


async def run_one(rt: Runtime, *, ok: bool) -> None:
    """Run to the end."""
    run = await rt.start(CourseRun, ok)
    try:
        await run.result()
    except RunFailed:
        assert not ok


async def test_point(tmp_path: Path) -> None:
    """A point holds what happened since the one before, and how it stands."""
    clock = ManualClock()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        assert rt.metrics_course().points == ()
        await run_one(rt, ok=True)
        await run_one(rt, ok=False)
        await rt.get(Queue, "course-in").send_batch([1, 2])
        clock.advance(POINT_SECONDS)
        clock.advance(POINT_SECONDS)
        first, second = rt.metrics_course().points
    assert (first.seconds, first.runs_ok, first.runs_failed) == (POINT_SECONDS, 1, 1)
    assert (first.queue_depth, first.dead_letters) == (2, 1)
    assert first.runs_p50_seconds is not None
    assert first.commits > 0
    assert first.commit_p95_seconds is not None
    assert (second.runs_ok, second.runs_failed, second.runs_p50_seconds) == (0, 0, None)
    assert (second.queue_depth, second.dead_letters) == (2, 1)


async def test_long_points(tmp_path: Path) -> None:
    """A long point spans thirty short ones."""
    clock = ManualClock()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        rt.metrics_course()
        clock.advance(POINT_SECONDS * 2)
        await run_one(rt, ok=True)
        clock.advance(POINT_SECONDS * (LONG_POINTS - 2))
        (long,) = rt.metrics_course().long_points
    assert (long.seconds, long.runs_ok) == (POINT_SECONDS * LONG_POINTS, 1)


async def test_bounded(tmp_path: Path) -> None:
    """After two days there are as many points as after one."""
    clock = ManualClock()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        rt.metrics_course()
        clock.advance(2 * 86_400)
        course = rt.metrics_course()
    assert len(course.points) == MAX_POINTS
    assert len(course.long_points) == MAX_LONG_POINTS


async def test_asked_before_it_is_open(tmp_path: Path) -> None:
    """Who asks before the runtime is open gets the course from then on; nobody asks, nothing is kept."""
    clock = ManualClock()
    rt = Runtime(tmp_path / "data", clock=clock)
    rt.metrics_course()
    async with rt:
        clock.advance(POINT_SECONDS)
        assert len(rt.metrics_course().points) == 1
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        clock.advance(POINT_SECONDS)
        assert rt.metrics_course().points == ()


async def test_asked_from_another_thread(tmp_path: Path) -> None:
    """An app may be made in any thread; the course begins in the runtime's own."""
    clock = ManualClock()
    async with Runtime(tmp_path / "data", clock=clock) as rt:
        await asyncio.to_thread(rt.recorder.want)
        await asyncio.sleep(0)
        clock.advance(POINT_SECONDS)
        assert len(rt.metrics_course().points) == 1
