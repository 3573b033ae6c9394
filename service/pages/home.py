"""The first page: how it goes, in figures and over time, and what wants to be looked at.

The figures of the whole folder are those of `rt.metrics()`, the charts its course; a tenant has counts of its
own runs.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.metrics.collect import MAX_COUNTED_RUNS
from ...actors.metrics.course import CoursePoint
from ...actors.metrics.metrics import Metrics
from ...actors.workflow.head import RunStatus
from ...storage.histogram import Histogram
from .charts import Chart, columns, lines
from .counts import Count, counts_of_tenant
from .finding import rows
from .guard import Guard
from .sessions import Session
from .shown import duration, number

if TYPE_CHECKING:
    from ...actors.system import Runtime

_ROWS: Final = 8
_NEEDS_A_LOOK: Final[tuple[RunStatus, ...]] = ("stuck", "failed", "retrying")


class Figures(msgspec.Struct, frozen=True):
    """What stands above: since the runtime was opened, or now."""

    counts: dict[RunStatus, Count]
    success: float | None = None
    """Of the runs that completed or failed since then."""
    ended: int = 0
    half_ms: float | None = None
    most_ms: float | None = None
    commit_ms: float | None = None
    commits: int = 0
    queue_depth: int = 0
    queues: int = 0
    dead_messages: int = 0
    used_bytes: int = 0
    room: float | None = None
    """Of the quota, or of what the disk has left."""
    has_all: bool = False


class HomePage:
    """The page."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard
        self._figures: tuple[int, Figures] | None = None
        runtime.metrics_course()  # from now on it is recorded

    async def show(self, request: Request, session: Session) -> Response:
        """Figures of all runs, or of those of the tenant that somebody is bound to."""
        runtime, tenant = self._runtime, session.caller.tenant
        of_day = request.query_params.get("over") == "day"
        course = runtime.metrics_course()
        trouble = runtime.run_filter(status=_NEEDS_A_LOOK, tenant=tenant)
        told = {
            "title": "Overview",
            "figures": self._all() if tenant is None else Figures(counts_of_tenant(runtime, tenant)),
            "charts": [] if tenant is not None else _charts(course.long_points if of_day else course.points),
            "of_day": of_day,
            "trouble": rows(runtime, trouble, limit=_ROWS)[0],
            "newest": rows(runtime, runtime.run_filter(tenant=tenant), limit=_ROWS)[0],
            "now_ms": runtime.clock.now_ms(),
        }
        return self._guard.shell.page(request, "home.html", session, told)

    def _all(self) -> Figures:
        """Of the whole folder; made once for everybody who looks between two commits."""
        durable = self._runtime.store.durable
        if self._figures is None or self._figures[0] != durable:
            self._figures = (durable, _figures(self._runtime.metrics()))
        return self._figures[1]


def _figures(metrics: Metrics) -> Figures:
    now: dict[RunStatus, int] = {}
    for kind in metrics.runs:
        for status, count in kind.now.items():
            now[status] = now.get(status, 0) + count
    good = sum(kind.ended["complete"] for kind in metrics.runs)
    bad = sum(kind.ended["failed"] for kind in metrics.runs)
    took = reduce(Histogram.plus, (kind.seconds for kind in metrics.runs)) if metrics.runs else None
    store = metrics.store
    most = store.quota_bytes or store.used_bytes + store.free_bytes
    return Figures(
        {status: Count(count, count >= MAX_COUNTED_RUNS) for status, count in now.items()},
        good / (good + bad) if good + bad else None,
        good + bad,
        _ms(None if took is None else took.quantile(0.5)),
        _ms(None if took is None else took.quantile(0.95)),
        _ms(metrics.commits.seconds.quantile(0.95)),
        metrics.commits.count,
        sum(one.depth for one in metrics.queues),
        len(metrics.queues),
        sum(one.dead for one in metrics.queues),
        store.used_bytes,
        store.used_bytes / most if most else None,
        True,
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000


def _charts(points: tuple[CoursePoint, ...]) -> list[Chart]:
    def seconds(value: float) -> str:
        return duration(value * 1000)

    def whole(value: float) -> str:
        return number(round(value))

    ended = [(one.at, one.runs_ok, one.runs_failed) for one in points]
    took = [(one.at, one.runs_p95_seconds, one.runs_p50_seconds) for one in points]
    attempts = [(one.at, one.attempts - one.retries, one.retries) for one in points]
    return [
        columns("Runs that ended", ended, whole, "failed"),
        lines("How long runs take: half, and 95 %", took, seconds),
        columns("Attempts of steps", attempts, whole, "tried again"),
        lines("Messages in queues", [(one.at, one.queue_depth, None) for one in points], whole),
        lines("Commits take, 95 %", [(one.at, one.commit_p95_seconds, None) for one in points], seconds),
        lines("Dead letters", [(one.at, one.dead_letters, None) for one in points], whole),
    ]
