"""Collects the metrics of a runtime: reads what its parts count, and counts on disk what only the disk knows.

Runs by status and messages of queues are counted where they lie, up to a bound, so no count can drift from
what it counts; that takes the loop a few milliseconds where there are many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...runtime.actor_type import ActorType
from ...runtime.clock import moment
from ..queue_info import list_queues
from ..workflow.head import RunStatus
from ..workflow.run_index import status_prefix
from ..workflow.workflow_type import WorkflowType
from .metrics import (
    ActorMetrics,
    AlarmMetrics,
    CommitMetrics,
    HubMetrics,
    LoopMetrics,
    MailboxMetrics,
    MemoryMetrics,
    Metrics,
    RunMetrics,
    StepMetrics,
    StoreMetrics,
)

if TYPE_CHECKING:
    from ..system import Runtime

# An index is walked for each status of each workflow: 10 000 entries take the loop 2 ms.
MAX_COUNTED_RUNS: Final = 10_000
MAX_COUNTED_QUEUES: Final = 100
# Ended runs may be millions, and nobody waits for them; failed ones are dead letters.
COUNTED_STATUSES: Final[tuple[RunStatus, ...]] = (
    "queued", "running", "waiting", "retrying", "pausing", "paused", "stuck", "failed",
)  # fmt: skip


def collect(runtime: Runtime) -> Metrics:
    """The metrics as they are now; raises `NotRunning` when the runtime isn't open."""
    runtime.check_open()
    kinds = [kind for kind in runtime.actor_types.by_class.values() if kind.turns or kind.shared_calls]
    workflows = [kind for kind in runtime.actor_types.by_class.values() if isinstance(kind, WorkflowType)]
    now_ms = runtime.clock.now_ms()
    counts, store, watchdog = runtime.counts, runtime.store, runtime.watchdog
    space = store.look_at_space()
    return Metrics(
        at=moment(now_ms),
        uptime_seconds=max(0, now_ms - runtime.opened_ms) / 1000,
        actors=tuple(_actor(kind) for kind in kinds),
        commits=_commits(runtime),
        mailboxes=MailboxMetrics(
            runtime.directory.waiting_calls(), counts.mailbox_waits, counts.mailbox_refused
        ),
        memory=MemoryMetrics(len(runtime.directory), counts.loaded, counts.evicted),
        alarms=AlarmMetrics(
            counts.alarms_fired,
            counts.alarms_failed,
            counts.alarms_dead,
            runtime.scheduler.firing,
            counts.alarm_lateness.histogram(),
        ),
        runs=tuple(_runs(runtime, kind) for kind in workflows),
        runs_at_work=runtime.engine.places.running,
        steps=tuple(one for kind in workflows for one in _steps(kind)),
        queues=tuple(list_queues(runtime, limit=MAX_COUNTED_QUEUES)),
        hub=HubMetrics(len(runtime.sockets), runtime.sockets.frames_out, runtime.sockets.cut_off),
        loop=LoopMetrics(0 if watchdog is None else watchdog.stalls, counts.loop_lag.histogram()),
        store=StoreMetrics(
            space.used_bytes, store.environment.map_bytes, store.quota_bytes, space.free_bytes
        ),
    )


def _actor(kind: ActorType) -> ActorMetrics:
    return ActorMetrics(
        kind.name, kind.turns, kind.failed_turns, kind.shared_calls, kind.turn_seconds.histogram()
    )


def _commits(runtime: Runtime) -> CommitMetrics:
    group = runtime.store.group_commit
    counts = group.counts
    return CommitMetrics(
        group.commits,
        counts.failed,
        counts.seconds.histogram(),
        counts.puts.histogram(),
        counts.bytes.histogram(),
        counts.waiters,
        counts.refused,
        group.staged_bytes,
    )


def _runs(runtime: Runtime, kind: WorkflowType) -> RunMetrics:
    counts = kind.counts
    return RunMetrics(
        kind.name,
        counts.started,
        dict(counts.ended),
        counts.stuck,
        counts.seconds.histogram(),
        {status: count_runs(runtime, kind, status) for status in COUNTED_STATUSES},
    )


def count_runs(runtime: Runtime, kind: WorkflowType, status: RunStatus) -> int:
    """Runs of a workflow with a status, on disk, up to `MAX_COUNTED_RUNS`."""
    with runtime.store.durable_view() as view:
        return view.count(status_prefix(kind, status), MAX_COUNTED_RUNS)


def _steps(kind: WorkflowType) -> list[StepMetrics]:
    found: list[StepMetrics] = []
    for name, counts in kind.counts.steps.items():
        seconds = counts.seconds.histogram()
        found.append(StepMetrics(kind.name, name, seconds.count, counts.failures, counts.retries, seconds))
    return found
