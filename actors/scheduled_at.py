"""The planned time of a run that a schedule started."""

from __future__ import annotations

from datetime import datetime

import msgspec

from .schedule_definition import PLANNED_TAG
from .workflow.workflow import Workflow


def scheduled_at(run: Workflow) -> datetime | None:
    """When a run was planned for (UTC), asked in `run()` with `self`; None for one that no schedule started.

    For a run that was triggered it is the moment of that.  It is the run's tag `scheduled_at`.
    """
    text = run.tags.get(PLANNED_TAG)
    return None if text is None else msgspec.convert(text, datetime)
