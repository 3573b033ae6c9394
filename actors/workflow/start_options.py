"""What a run is started with beside its input, checked."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from .labels import RunLabels

# When the id is in use: say so, take the run that is there, or stop and erase it.
OnConflict: TypeAlias = Literal["reject", "join", "replace"]
ON_CONFLICT: Final[tuple[OnConflict, ...]] = get_args(OnConflict)


class StartOptions(msgspec.Struct, frozen=True):
    """What a run is started with beside its input."""

    on_conflict: str
    correlation_id: str
    labels: RunLabels | None = None
    deadline_seconds: float | None = None
    # Of the run that starts a child; of others the running code's is taken.
    traceparent: str | None = None
