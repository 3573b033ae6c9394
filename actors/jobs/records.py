"""What a job manager keeps and shows."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ...runtime.clock import moment
from ..workflow.head import RunStatus


class Job(msgspec.Struct, frozen=True):
    """A job as it was when somebody last looked."""

    id: str
    way: str
    """"new" or "old"."""
    key: str
    """By which its way was chosen."""
    status: RunStatus
    started_at: datetime
    ended_at: datetime | None = None
    error: str = ""


class JobRow(msgspec.Struct, frozen=True):
    """A job on disk."""

    id: str
    way: str
    key: str
    status: RunStatus
    started_ms: int
    is_open: bool = True
    ended_ms: int | None = None
    error: str = ""

    def shown(self) -> Job:
        """The row as people see it."""
        ended_at = None if self.ended_ms is None else moment(self.ended_ms)
        return Job(self.id, self.way, self.key, self.status, moment(self.started_ms), ended_at, self.error)


class JobFigure(msgspec.Struct, frozen=True):
    """One job that ended, for comparing the ways."""

    way: str
    job: str
    key: str
    ended_at: datetime
    seconds: float
    """From its start to its end."""
    success: bool


class WayFigures(msgspec.Struct, frozen=True):
    """How the jobs of one way did."""

    jobs: int
    succeeded: int
    p50_seconds: float
    p95_seconds: float

    @property
    def success_rate(self) -> float:
        """From 0 to 1; 1 without any job."""
        return self.succeeded / self.jobs if self.jobs else 1.0


class RolloutChange(msgspec.Struct, frozen=True):
    """A percentage that was set."""

    at: datetime
    percent: float
    by: str | None
    reason: str


def figures_of(found: list[JobFigure]) -> WayFigures:
    """The figures of some jobs; the percentiles are of the nearest rank, over all that ended, well or not."""
    seconds = sorted(one.seconds for one in found)
    return WayFigures(len(found), sum(one.success for one in found), _rank(seconds, 50), _rank(seconds, 95))


def _rank(ordered: list[float], percent: int) -> float:
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else 0.0
