"""The metrics of a runtime at one moment, as plain data: what `rt.metrics()` gives.

Counts begin with the opening of the runtime and only rise; what bears `now` in its text goes up and down.
docs/observability.md has them all in one table, under the names that Prometheus gets.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from ...storage.histogram import Histogram
from ..queue_info import QueueInfo
from ..workflow.head import RunStatus


class ActorMetrics(msgspec.Struct, frozen=True):
    """The turns of one actor type; those of workflows are alarms and messages."""

    type: str
    turns: int
    failed_turns: int
    """Turns that raised, and so rolled back."""
    shared_calls: int
    """Calls of `@shared` methods, which are no turns."""
    turn_seconds: Histogram
    """Of one turn in 64, from its first line to its staging; what it awaits included."""


class CommitMetrics(msgspec.Struct, frozen=True):
    """Commits, and the gates before them."""

    count: int
    failed: int
    seconds: Histogram
    """From leaving for the writer until those who wait hear of it."""
    puts: Histogram
    bytes: Histogram
    gate_waits: int
    """Replies and others that waited for a commit."""
    refused: int
    """Write sets refused because too much waited for the disk."""
    staged_bytes: int
    """What waits for the disk now."""


class MailboxMetrics(msgspec.Struct, frozen=True):
    """Calls that found their actor busy."""

    waiting: int
    """In all mailboxes now."""
    waits: int
    refused: int
    """Calls that found a mailbox full: `Overloaded`."""


class MemoryMetrics(msgspec.Struct, frozen=True):
    """Actors in memory."""

    activations: int
    """Now."""
    loaded: int
    evicted: int
    """Idle ones, and the longest unused of too many; ended runs are not counted."""


class AlarmMetrics(msgspec.Struct, frozen=True):
    """Alarms; wake-ups of sleeping runs among them."""

    fired: int
    failed: int
    """Failures of handlers; each is tried again until its retries are spent."""
    dead: int
    """Those whose retries were spent."""
    firing: int
    """Being handled now."""
    lateness_seconds: Histogram


class StepMetrics(msgspec.Struct, frozen=True):
    """The attempts of a step, in all runs of its workflow; a replay is none."""

    workflow: str
    step: str
    attempts: int
    failures: int
    retries: int
    """Failures after which it was tried again."""
    seconds: Histogram


class RunMetrics(msgspec.Struct, frozen=True):
    """The runs of one workflow."""

    workflow: str
    started: int
    ended: dict[RunStatus, int]
    got_stuck: int
    seconds: Histogram
    """From start to end, waits included."""
    now: dict[RunStatus, int]
    """Runs on disk by status, those that have not ended and those that failed; each counted up to 10 000."""


class HubMetrics(msgspec.Struct, frozen=True):
    """Clients of hubs."""

    sockets: int
    """Connected now."""
    frames: int
    cut_off: int
    """Clients that were too slow."""


class LoopMetrics(msgspec.Struct, frozen=True):
    """The event loop, as the watchdog sees it; nothing without one (`Limits.stall_seconds=None`)."""

    stalls: int
    lag_seconds: Histogram
    """By how much the loop was late, looked at four times in `stall_seconds`."""


class StoreMetrics(msgspec.Struct, frozen=True):
    """Room on the disk now."""

    used_bytes: int
    """Live pages of the store."""
    map_bytes: int
    """What it can grow to at most, whatever the disk has."""
    quota_bytes: int | None
    free_bytes: int
    """On the disk."""


class Metrics(msgspec.Struct, frozen=True):
    """All of them."""

    at: datetime
    uptime_seconds: float
    actors: tuple[ActorMetrics, ...]
    commits: CommitMetrics
    mailboxes: MailboxMetrics
    memory: MemoryMetrics
    alarms: AlarmMetrics
    runs: tuple[RunMetrics, ...]
    runs_at_work: int
    """Runs that hold one of the places of `max_running` now."""
    steps: tuple[StepMetrics, ...]
    queues: tuple[QueueInfo, ...]
    """As they are on disk, by type and key; at most 100."""
    hub: HubMetrics
    loop: LoopMetrics
    store: StoreMetrics
