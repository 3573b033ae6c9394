"""What lies on disk of a schedule beside its definition, and how it is shown.

active -> paused -> active             pause, resume
active -> stuck  -> active             the class isn't there, or doesn't take the input; when it does
active -> ended                        no planned time comes any more
any    -> active                       set up with other times
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

import msgspec

from ..runtime.address import normal_key
from ..runtime.clock import moment
from ..runtime.repeats import Missed
from ..storage import layout
from ..storage.errors import CallerError, Damaged
from ..storage.keys import decode_key, encode_index_values, next_prefix
from .schedule_definition import Definition, Overlap
from .workflow.run_index import check_limit

if TYPE_CHECKING:
    from ..runtime.actor_type import ActorType
    from ..runtime.reader import View
    from .schedule import Schedule
    from .schedule_calls import ScheduleCalls

ScheduleStatus: TypeAlias = Literal["active", "paused", "stuck", "ended"]
STATUSES: Final[tuple[ScheduleStatus, ...]] = get_args(ScheduleStatus)

MAX_RECENT: Final = 10  # part of the schedule's own record, written with each fire


class Fire(msgspec.Struct, array_like=True, frozen=True):
    """A run that a schedule started, or one that waits to be."""

    planned_ms: int
    workflow: str
    run: str
    at_ms: int = 0  # when it was started


class Pause(msgspec.Struct, array_like=True, frozen=True):
    """Who paused a schedule, why and when."""

    at: datetime
    by: str | None = None
    reason: str | None = None


class ScheduleState(msgspec.Struct, array_like=True):
    """A schedule on disk; its input lies beside it."""

    status: ScheduleStatus = "active"
    definition: Definition = Definition()
    created_ms: int = 0  # 0: there is no such schedule
    updated_ms: int = 0  # when it was set up as it is
    # One of the planned times of an interval.
    anchor_ms: int = 0
    # The next planned time, fired or not; None when there is none.
    next_ms: int | None = None
    # Planned times that came since the times were set, for `max_fires`.
    fired: int = 0
    runs: int = 0
    missed: int = 0
    skipped: int = 0
    triggers: int = 0
    pause: Pause | None = None
    # Why it is stuck, and how often in a row it was tried.
    error: str | None = None
    tries: int = 0
    # Runs that may not have ended: all of them where they must not overlap, else the newest.
    running: list[Fire] = []
    waiting: list[Fire] = []
    recent: list[Fire] = []

    def __deepcopy__(self, memo: object) -> ScheduleState:
        """Each new actor starts with a copy of the default; the usual way takes a fifth of a set-up."""
        own = (list(self.running), list(self.waiting), list(self.recent))
        return msgspec.structs.replace(self, running=own[0], waiting=own[1], recent=own[2])


class ScheduleFire(msgspec.Struct, frozen=True):
    """A run that a schedule started."""

    planned_at: datetime
    started_at: datetime
    workflow: str
    run: str
    """The run's id."""


class ScheduleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """How a schedule stands."""

    name: str
    workflow: str
    status: ScheduleStatus
    next_at: datetime | None
    """The next planned time; in the past for one that is paused, stuck, or due right now."""
    at: datetime | None
    every_seconds: float | None
    cron: str | None
    tz: str | None
    start: datetime | None
    end: datetime | None
    max_fires: int | None
    jitter_seconds: float
    missed: Missed
    max_missed: int
    overlap: Overlap
    max_queued: int
    created_at: datetime
    updated_at: datetime
    """When it was set up as it is."""
    pause: Pause | None
    error: str | None
    """Why it is stuck."""
    runs: int
    """Runs that it started."""
    times_missed: int
    """Planned times that passed for good (of a very long absence at most 1 000 are counted)."""
    times_skipped: int
    """Planned times without a run, since one before went on."""
    running: tuple[str, ...]
    """Ids of runs that had not ended when the schedule looked last; with overlap="allow" only the newest."""
    waiting: tuple[datetime, ...]
    """Planned times that wait for the end of a run."""
    recent: tuple[ScheduleFire, ...]
    """The newest runs, the newest last."""
    ref: tuple[str, str] | None
    tenant: str | None
    tags: dict[str, str]
    """Like `ref` and `tenant`: of its runs, beside those that a schedule gives them."""


def schedule_info(name: str, state: ScheduleState) -> ScheduleInfo:
    """A state as it is shown."""
    definition, timing = state.definition, state.definition.timing
    every, cron = None, None
    if isinstance(timing.repeat, int):
        every = timing.repeat / 1000
    elif timing.repeat is not None:
        cron = timing.repeat
    return ScheduleInfo(
        name=name,
        workflow=definition.workflow,
        status=state.status,
        next_at=_shown(state.next_ms),
        at=_shown(timing.at_ms),
        every_seconds=every,
        cron=None if cron is None else cron[0],
        tz=None if cron is None else cron[1],
        start=_shown(timing.start_ms),
        end=_shown(timing.end_ms),
        max_fires=timing.max_fires,
        jitter_seconds=timing.jitter_ms / 1000,
        missed=definition.missed,
        max_missed=definition.max_missed,
        overlap=definition.overlap,
        max_queued=definition.max_queued,
        created_at=moment(state.created_ms),
        updated_at=moment(state.updated_ms),
        pause=state.pause,
        error=state.error,
        runs=state.runs,
        times_missed=state.missed,
        times_skipped=state.skipped,
        running=tuple(one.run for one in state.running),
        waiting=tuple(moment(one.planned_ms) for one in state.waiting),
        recent=tuple(
            ScheduleFire(moment(one.planned_ms), moment(one.at_ms), one.workflow, one.run)
            for one in state.recent
        ),
        ref=definition.ref,
        tenant=definition.tenant,
        tags=dict(definition.tags),
    )


def _shown(time_ms: int | None) -> datetime | None:
    return None if time_ms is None else moment(time_ms)


def list_schedules(
    runtime: ScheduleCalls,
    kind: ActorType,
    workflow: str | None,
    status: ScheduleStatus | None,
    after: str | None,
    limit: int,
) -> list[ScheduleInfo]:
    """See `Runtime.schedules`; no schedule is loaded for that."""
    if status is not None and status not in STATUSES:
        raise CallerError(f"status must be one of {', '.join(STATUSES)}; got {status!r}")
    check_limit(limit)
    base = layout.DIRECTORY + kind.number_bytes
    with runtime.reader.view() as view:
        if workflow is None and status is None:
            start = base if after is None else base + normal_key(after, kind.name)[1] + b"\x00"
            keys = [key[len(base) :] for key, _ in view.scan(start, next_prefix(base), False, limit)]
        else:
            number = b"" if after is None else view.read(base + normal_key(after, kind.name)[1])
            if number is None:
                raise CallerError(f"there is no schedule {after!r}, so no page can go on behind it")
            keys = _by_index(kind, view, workflow, status, number, limit)
        return [_read(kind, view, key_bytes) for key_bytes in keys]


def _by_index(
    kind: ActorType, view: View, workflow: str | None, status: ScheduleStatus | None, after: bytes, limit: int
) -> list[bytes]:
    """Keys of schedules, the first set up first, from behind the one with the number `after`."""
    found: list[tuple[bytes, bytes]] = []
    for one in STATUSES if status is None else (status,):
        if workflow is None:
            prefix = kind.index_prefixes[0] + encode_index_values((one,))
        else:
            prefix = kind.index_prefixes[1] + encode_index_values((workflow, one))
        start = prefix + after + b"\x00" if after else prefix
        rows = view.scan(start, next_prefix(prefix), False, limit)
        found += [(entry[len(prefix) :], key_bytes) for entry, key_bytes in rows]
    found.sort()
    return [key_bytes for _, key_bytes in found[:limit]]


def _read(kind: ActorType, view: View, key_bytes: bytes) -> ScheduleInfo:
    name = decode_key(key_bytes)
    number = view.read(layout.DIRECTORY + kind.number_bytes + key_bytes)
    record = None if number is None else view.read(layout.DATA + number + layout.FIELDS)
    if record is None or not isinstance(name, str):
        raise Damaged(f"the index of schedules has {name!r}, which isn't stored; run `holdfast check`")
    blank = kind.actor_class.__new__(kind.actor_class)
    kind.fields.restore(blank, record, name)
    return schedule_info(name, cast("Schedule", blank).state)
