"""The head of a run: its small, changing part, in the run's declared fields and so in their index.

What lists, finds and takes runs up again reads heads and no journals (run_index.py, places.py).  A head is
changed in the commits of the records that change it.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

import msgspec

from ..errors import ErrorRecord
from .labels import RunLabels

RunStatus: TypeAlias = Literal[
    "queued",
    "running",
    "waiting",
    "retrying",
    "pausing",
    "paused",
    "stuck",
    "complete",
    "failed",
    "cancelled",
    "terminated",
]

ALL_STATUSES: Final[tuple[RunStatus, ...]] = get_args(RunStatus)
FAILED: Final[tuple[RunStatus, ...]] = ("failed",)

# queued -> running -> complete | failed
#           running -> waiting | retrying -> running (an alarm) or queued (no free place)
#           running -> stuck -> running (other code)
#           failed -> queued (redriven); any but the ended -> terminated
#           any but the ended -> pausing (steps still run) -> paused -> queued (resumed)
#           running -> cancelled (asked from outside, after its clean-up)
ENDED: Final[frozenset[str]] = frozenset({"complete", "failed", "cancelled", "terminated"})
# Found on disk when a runtime opens, these are taken up again; the others wait for an alarm or a free place.
# Stuck ones first: a run that gets stuck when it is taken up was tried in this opening.
RESUMED: Final[tuple[RunStatus, ...]] = ("stuck", "running", "pausing")


class RunHead(msgspec.Struct, array_like=True, frozen=True):
    """What a listing shows of a run."""

    status: RunStatus = "queued"
    created_ms: int = 0
    updated_ms: int = 0
    error: ErrorRecord | None = None
    correlation_id: str = ""
    # Of the code that last drove the run: see fingerprint.py.
    fingerprint: str = ""
    # At rest all that run() asked for was behind it: what the records before this position led to is done.
    rested: int = 0
    labels: RunLabels | None = None
