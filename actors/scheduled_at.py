"""The planned time of a run that a schedule started."""

from __future__ import annotations

from datetime import datetime

import msgspec

from ..runtime.actor import activation_of
from .schedule_definition import PLANNED_TAG
from .workflow.journal import Started, decode_records, journal_prefix, position_key
from .workflow.workflow import Workflow


def scheduled_at(run: Workflow) -> datetime | None:
    """When a run was planned for (UTC), asked in `run()` with `self`; None for one that no schedule started.

    For a run that was triggered it is the moment of that.  It is one of the run's tags, so it is the same on
    replay.
    """
    activation = activation_of(run)
    key = position_key(journal_prefix(activation.prefix(b"")), 0)
    stored = activation.system.store.get(key)
    if stored is None:
        return None
    ((_, started),) = decode_records([(key, stored)], str(activation.ref))
    text = started.tags.get(PLANNED_TAG) if isinstance(started, Started) else None
    return None if text is None else msgspec.convert(text, datetime)
