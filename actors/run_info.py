"""What is known of a run without its journal: its head, as it is shown."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from ..runtime.address import show_key
from ..runtime.clock import moment
from .errors import ErrorRecord
from .workflow.head import RunHead, RunStatus
from .workflow.labels import NO_LABELS

if TYPE_CHECKING:
    from ..runtime.ref import Ref


class RunInfo(msgspec.Struct, frozen=True):
    """What is known of a run without its journal."""

    workflow: str
    id: str
    status: RunStatus
    created_at: datetime
    updated_at: datetime
    correlation_id: str
    error: ErrorRecord | None = None
    fingerprint: str = ""
    """Of the code that last drove the run: another one means that a method of its class was changed."""
    state: str | None = None
    """Its business state."""
    ref: tuple[str, str] | None = None
    tenant: str | None = None
    tags: dict[str, str] = {}


class RunPage(msgspec.Struct, frozen=True):
    """A page of a listing of runs."""

    runs: list[RunInfo]
    next: str | None
    """Where the next page begins (`after`); None when this was the last.  A page may be short, or empty, and
    not be the last: so many runs are looked at for each, whatever the filter means of them."""


def run_info(ref: Ref, head: RunHead) -> RunInfo:
    """A head as it is shown."""
    return info_of(ref.type.name, show_key(ref.key), head)


def info_of(workflow: str, id_: str, head: RunHead) -> RunInfo:
    """The same for a run whose class isn't imported."""
    labels = head.labels or NO_LABELS
    return RunInfo(
        workflow,
        id_,
        head.status,
        moment(head.created_ms),
        moment(head.updated_ms),
        head.correlation_id,
        head.error,
        head.fingerprint,
        labels.state,
        labels.ref,
        labels.tenant,
        labels.tags,
    )
