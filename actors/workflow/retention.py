"""Retention: how long runs are kept after their end, and how they are erased then.

    the commit of the end sets the alarm "purge" -> it fires -> rows go, slice after slice, the address last

Promises
  * What is purged leaves nothing behind: no row, no index entry, no alarm.  The audit records stay.
  * A purge that a crash cut off goes on: the alarm is on disk until the last slice.
  * A run that is begun anew, or redriven, is not purged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, get_args

from ...runtime.alarms import AlarmRecord, alarm_writes
from ...runtime.chain import after_commit
from ...runtime.durations import Duration, to_seconds
from ...storage import layout
from ...storage.errors import CallerError
from ...storage.keys import next_prefix
from .head import ENDED, RunStatus

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...storage.group_commit import Writes
    from .engine import Engine
    from .workflow import Workflow
    from .workflow_type import WorkflowType

PURGE_ALARM: Final = "purge"
_NAME: Final = PURGE_ALARM.encode()
# Rows of one slice: a commit of so many deletes takes a few ms.
_SLICE_ROWS: Final = 2_000


def check_retention(given: object, workflow: str) -> dict[str, float]:
    """A class's `retention` as seconds by status; raises `CallerError`.

    A duration for all ends, or a mapping from "complete", "failed", "cancelled", "terminated" to durations.
    """
    if given is None:
        return {}
    if not isinstance(given, dict):
        seconds = to_seconds(cast("Duration", given), what=f"{workflow}.retention")
        return dict.fromkeys(ENDED, seconds)
    found: dict[str, float] = {}
    for status, duration in cast("dict[object, object]", given).items():
        if status not in ENDED or not isinstance(status, str):
            raise CallerError(
                f"{workflow}.retention maps {', '.join(s for s in get_args(RunStatus) if s in ENDED)} to "
                f"durations; got {status!r}"
            )
        if duration is not None:
            what = f"{workflow}.retention of {status} runs"
            found[status] = to_seconds(cast("Duration", duration), what=what)
    return found


def set_purge(activation: Activation, status: str, ended_ms: int, writes: Writes) -> int | None:
    """Add to the commit of an end when the run is to be purged; that time, None for never."""
    seconds = cast("WorkflowType", activation.type).retention_seconds.get(status)
    if seconds is None:
        return None
    due_ms = ended_ms + round(seconds * 1000)
    writes.update(alarm_writes(activation, _NAME, AlarmRecord(due_ms, due_ms)))
    return due_ms


def purge_now(activation: Activation, at_ms: int, writes: Writes) -> None:
    """Add to a write set that the run is to be purged at once."""
    writes.update(alarm_writes(activation, _NAME, AlarmRecord(at_ms, at_ms)))


def keep(activation: Activation, writes: Writes) -> None:
    """Add to a write set that the run is not to be purged: it goes on.

    Also without any retention: somebody may have asked for the purge, which has not begun yet.
    """
    writes.update(alarm_writes(activation, _NAME, None))


def purge_slice(engine: Engine, activation: Activation) -> None:
    """The alarm fired (called in its turn): erase a slice, or the rest and the run itself."""
    workflow = cast("Workflow", activation.instance)
    if workflow.head.status not in ENDED:
        return
    writes = activation.current_turn().writes
    base = activation.prefix(b"")
    rows = engine.system.store.scan(
        base, next_prefix(base), reverse=True, limit=_SLICE_ROWS, extra=activation.overlay()
    )
    for key, _ in rows:
        # The fields say that the run has ended, the first record that it is one: they go last.
        if len(rows) < _SLICE_ROWS or key[len(base) : len(base) + 1] != layout.FIELDS:
            writes[key] = None
    if len(rows) == _SLICE_ROWS:
        now_ms = engine.system.clock.now_ms()
        writes.update(alarm_writes(activation, _NAME, AlarmRecord(now_ms, now_ms)))
        after_commit(activation.current_turn(), lambda _: engine.system.scheduler.notice(now_ms))
        return
    for key in activation.index_entries:
        writes[key] = None
    writes[activation.ref.directory_key] = None
    after_commit(activation.current_turn(), lambda _: engine.system.directory.drop(activation))
