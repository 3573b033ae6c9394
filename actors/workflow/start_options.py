"""What a run is started with beside its input, checked."""

from __future__ import annotations

import msgspec

from .labels import RunLabels


class StartOptions(msgspec.Struct, frozen=True):
    """What a run is started with beside its input."""

    on_conflict: str
    correlation_id: str
    labels: RunLabels | None = None
    deadline_seconds: float | None = None
