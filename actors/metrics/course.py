"""The course of a runtime over the last hours, for charts and alerts: a point each 10 s, and one each 5 min.

It is recorded from the moment somebody asks for it (`rt.metrics_course()`, an alert, the HTTP service), and
kept in memory alone: as much after a year as after a day.

    every 10 s -> totals of now - totals of before = a point -> the ring of the last hour
                                                   every 30th -> the ring of the last day
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from threading import get_ident
from typing import TYPE_CHECKING, Final

import msgspec

from ...runtime.clock import TimerHandle, moment
from ...storage.errors import StorageError
from ...storage.histogram import LONG_SECONDS, SECONDS, Histogram
from ..queue_info import list_queues
from ..workflow.workflow_type import WorkflowType
from .collect import MAX_COUNTED_QUEUES, count_runs

if TYPE_CHECKING:
    from ..system import Runtime

POINT_SECONDS: Final = 10.0
# An hour, and the five minutes that alerts compare with it.
MAX_POINTS: Final = 390
LONG_POINTS: Final = 30  # points in a long one: five minutes
MAX_LONG_POINTS: Final = 288  # a day


class CoursePoint(msgspec.Struct, frozen=True):
    """What happened in a stretch of time, and how it stood at its end."""

    at: datetime
    """Its end."""
    seconds: float
    """Its length."""
    runs_ok: int
    """Runs that completed."""
    runs_failed: int
    runs_p50_seconds: float | None
    """Half of the runs that ended took less; None where none did."""
    runs_p95_seconds: float | None
    attempts: int
    """Attempts of steps that ended."""
    retries: int
    turns: int
    commits: int
    commit_p95_seconds: float | None
    queue_depth: int
    """Messages in queues, at the end."""
    dead_letters: int
    """Failed runs and dead messages, at the end."""
    runs_at_work: int
    """At the end."""


class Course(msgspec.Struct, frozen=True):
    """The oldest point first.

    points        each 10 s, of the last hour and a bit
    long_points   each 5 min, of the last day
    """

    points: tuple[CoursePoint, ...]
    long_points: tuple[CoursePoint, ...]


class Totals(msgspec.Struct, frozen=True):
    """What was counted up to a moment."""

    at_ms: int
    runs_ok: int
    runs_failed: int
    attempts: int
    retries: int
    turns: int
    stalls: int
    run_seconds: Histogram
    commit_seconds: Histogram


class Recorder:
    """Takes the points."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._wanted = False
        self._timer: TimerHandle | None = None
        self._points: deque[CoursePoint] = deque(maxlen=MAX_POINTS)
        self._long_points: deque[CoursePoint] = deque(maxlen=MAX_LONG_POINTS)
        # The totals at the beginning of each point that is kept, and the newest: what alerts look back on.
        self.totals: deque[Totals] = deque(maxlen=MAX_POINTS + 1)
        # Points since the last long one.
        self._short = 0
        self._on_point: list[Callable[[CoursePoint], None]] = []

    def want(self) -> None:
        """Record from now on, or from the opening of the runtime on."""
        if self._wanted:
            return
        self._wanted = True
        if not self._runtime.is_open:
            return
        if get_ident() == self._runtime.thread_id:
            self.start()
        else:  # an app may be made anywhere
            self._runtime.loop.call_soon_threadsafe(self.start)

    def start(self) -> None:
        """The runtime is open."""
        if self._wanted and self._timer is None and self._runtime.is_open:
            self.totals.append(self._now())
            self._later()

    def stop(self) -> None:
        """Record nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def on_point(self, callback: Callable[[CoursePoint], None]) -> Callable[[], None]:
        """Call `callback` with each new point, until what is returned is called."""
        self._on_point.append(callback)
        self.want()
        return lambda: self._on_point.remove(callback)

    @property
    def points(self) -> list[CoursePoint]:
        """The points of the last hour and a bit."""
        return list(self._points)

    def course(self) -> Course:
        """What was recorded so far."""
        self.want()
        return Course(tuple(self._points), tuple(self._long_points))

    def _later(self) -> None:
        self._timer = self._runtime.clock.call_later(POINT_SECONDS, self._take, upkeep=True)

    def _take(self) -> None:
        if not self._runtime.is_open:
            return
        self._later()
        try:
            depth, dead = self._on_disk()
        except StorageError:
            return  # it is told where somebody needs it; the next point spans this time, too
        now = self._now()
        point = self._point(self.totals[-1], now, depth, dead)
        self.totals.append(now)
        self._points.append(point)
        self._short += 1
        if self._short == LONG_POINTS:
            self._short = 0
            began = self.totals[-1 - LONG_POINTS]
            self._long_points.append(self._point(began, now, depth, dead))
        for callback in list(self._on_point):
            callback(point)

    def _point(self, before: Totals, now: Totals, depth: int, dead: int) -> CoursePoint:
        runs = now.run_seconds.since(before.run_seconds)
        commits = now.commit_seconds.since(before.commit_seconds)
        return CoursePoint(
            at=moment(now.at_ms),
            seconds=max(0, now.at_ms - before.at_ms) / 1000,
            runs_ok=now.runs_ok - before.runs_ok,
            runs_failed=now.runs_failed - before.runs_failed,
            runs_p50_seconds=runs.quantile(0.5),
            runs_p95_seconds=runs.quantile(0.95),
            attempts=now.attempts - before.attempts,
            retries=now.retries - before.retries,
            turns=now.turns - before.turns,
            commits=commits.count,
            commit_p95_seconds=commits.quantile(0.95),
            queue_depth=depth,
            dead_letters=dead,
            runs_at_work=self._runtime.engine.places.running,
        )

    def _on_disk(self) -> tuple[int, int]:
        queues = list_queues(self._runtime, limit=MAX_COUNTED_QUEUES)
        failed = sum(count_runs(self._runtime, kind, "failed") for kind in self._workflows())
        return sum(one.depth for one in queues), failed + sum(one.dead for one in queues)

    def _workflows(self) -> list[WorkflowType]:
        return [
            kind for kind in self._runtime.actor_types.by_class.values() if isinstance(kind, WorkflowType)
        ]

    def _now(self) -> Totals:
        runtime = self._runtime
        ok = failed = attempts = retries = 0
        seconds = Histogram(LONG_SECONDS, (0,) * (len(LONG_SECONDS) + 1), 0)
        for kind in self._workflows():
            counts = kind.counts
            ok += counts.ended["complete"]
            failed += counts.ended["failed"]
            seconds = seconds.plus(counts.seconds.histogram())
            for step in counts.steps.values():
                attempts += sum(step.seconds.counts)
                retries += step.retries
        watchdog = runtime.watchdog
        commit_seconds = runtime.store.group_commit.counts.seconds
        assert commit_seconds.bounds is SECONDS
        return Totals(
            runtime.clock.now_ms(),
            ok,
            failed,
            attempts,
            retries,
            sum(kind.turns for kind in runtime.actor_types.by_class.values()),
            0 if watchdog is None else watchdog.stalls,
            seconds,
            commit_seconds.histogram(),
        )
