"""What the parts of a runtime count on their way, for metrics; nothing is decided by it.

What belongs to an actor type is counted there (actor_type.py), commits in group_commit.py.
"""

from __future__ import annotations

from ..storage.histogram import LONG_SECONDS, Buckets


class RuntimeCounts:
    """Since the runtime was opened."""

    __slots__ = (
        "alarm_lateness", "alarms_dead", "alarms_failed", "alarms_fired", "evicted", "loaded",
        "loop_lag", "mailbox_refused", "mailbox_waits",
    )  # fmt: skip

    def __init__(self) -> None:
        # Calls that waited in a mailbox, and that found it full.
        self.mailbox_waits = 0
        self.mailbox_refused = 0
        # Activations made, and those that left because they were idle or too many.
        self.loaded = 0
        self.evicted = 0
        # Alarms whose handler was run, whose handler failed, and whose retries are spent.
        self.alarms_fired = 0
        self.alarms_failed = 0
        self.alarms_dead = 0
        # Seconds from the due time of an alarm to its handler.
        self.alarm_lateness = Buckets(LONG_SECONDS)
        # Seconds by which the loop came late to the watchdog's beat.
        self.loop_lag = Buckets(LONG_SECONDS)
