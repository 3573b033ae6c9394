"""The counters of the pipeline, and their names.

They are a field of the actor that owns the rows (store.py), so a counter moves in the commit that moves the
row, and `pending + delivered + failed == total` at every moment.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import msgspec

from .events import EventStatus

Figure: TypeAlias = int | datetime | None


class Gauge(msgspec.Struct, frozen=True):
    """A whole number and when it last changed."""

    value: int = 0
    updated_at: datetime | None = None


class Metrics(msgspec.Struct, frozen=True):
    """Distinct events that were counted, by status."""

    total: Gauge = Gauge()
    pending: Gauge = Gauge()
    delivered: Gauge = Gauge()
    failed: Gauge = Gauge()
    last_processed_at: datetime | None = None

    def moved(self, before: EventStatus | None, after: EventStatus, at: datetime) -> Metrics:
        """The counters after an event went from one status (None: it wasn't counted yet) to another."""
        if before == after:
            return self
        changed: dict[str, object] = {after.value: _add(getattr(self, after.value), 1, at)}
        if before is None:
            changed["total"] = _add(self.total, 1, at)
        else:
            changed[before.value] = _add(getattr(self, before.value), -1, at)
        if after != EventStatus.PENDING:
            changed["last_processed_at"] = at
        return msgspec.structs.replace(self, **changed)

    @property
    def processed(self) -> int:
        """Events that are through, well or badly."""
        return self.delivered.value + self.failed.value

    def figures(self, *, queue_depth: int, dead_letters: int) -> dict[str, Figure]:
        """All of them under their names."""
        return {
            "metrics:events:total": self.total.value,
            "metrics:events:pending": self.pending.value,
            "metrics:events:delivered": self.delivered.value,
            "metrics:events:failed": self.failed.value,
            "metrics:last_processed_at": self.last_processed_at,
            "metrics:queue:depth": queue_depth,
            "metrics:dlq:count": dead_letters,
        }


def _add(gauge: Gauge, n: int, at: datetime) -> Gauge:
    return Gauge(gauge.value + n, at)
