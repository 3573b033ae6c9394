"""The store: one actor that owns the table `events` and the counters over it.

Each method is a turn, so a row, its index entries and the counters change in one commit or not at all.

Promises
  * A row's status only moves as `TRANSITIONS` says.
  * Each event is counted once, under the status that its row shows.  A move that isn't counted yet is kept
    beside the row, so counting again, after a crash or by a second message, changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from holdfast import Actor, Table, shared

from .events import NOTHING, EventStatus, ProcessEventInput
from .metrics import Metrics

# A delivered event stays delivered, whatever is sent again.  A failed one may be sent again in another batch
# (then it is pending), or its run is redriven and goes on where it failed.
TRANSITIONS: Final[dict[EventStatus, frozenset[EventStatus]]] = {
    EventStatus.PENDING: frozenset({EventStatus.DELIVERED, EventStatus.FAILED}),
    EventStatus.FAILED: frozenset({EventStatus.PENDING, EventStatus.DELIVERED}),
    EventStatus.DELIVERED: frozenset(),
}

STORE_KEY: Final = "events"  # there is one store in a runtime
_UNCOUNTED: Final = "uncounted"  # (this, event id) -> Move


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """A stored event."""

    event_id: str
    payload: msgspec.Raw
    metadata: msgspec.Raw = NOTHING
    status: EventStatus
    created_at: datetime
    updated_at: datetime
    retry_count: int = 0


class Move(msgspec.Struct, frozen=True, array_like=True):
    """What a row did and the counters don't know yet; `before` is what they know (None: nothing)."""

    before: EventStatus | None
    after: EventStatus


class IllegalTransition(ValueError):
    """A row's status can't move that way."""


class EventStore(Actor):
    """Stored events by their id."""

    metrics: Metrics = Metrics()

    _events: Table[EventRow]

    async def on_activate(self) -> None:
        """Make the table once; it is asked for in every turn."""
        self._events = self._table()

    async def accept(self, event: ProcessEventInput) -> datetime:
        """Store an event as pending, and return when it was stored first.

        If it has a row already `updated_at` moves and `retry_count` rises; a delivered one stays delivered.
        """
        fresh = self._new_row(event, EventStatus.PENDING)
        stored = self._events.get(event.event_id)
        row = fresh if stored is None else again(stored, fresh)
        self._events.put(row)
        if stored is None or stored.status != row.status:
            before = None if stored is None else stored.status
            move = Move(self._counted_as(row.event_id, before), row.status)
            self.storage.put((_UNCOUNTED, row.event_id), move)
        return row.created_at

    async def count(self, event_id: str) -> None:
        """Count an event that was accepted."""
        move = self.storage.get((_UNCOUNTED, event_id), Move)
        if move is not None:
            self._count(event_id, move)

    async def deliver(self, event_id: str) -> None:
        """An event is through: pending becomes delivered, and is counted."""
        row = self._events.get(event_id)
        if row is None:
            raise LookupError(f"event {event_id!r} is not stored")
        self._move(row, EventStatus.DELIVERED)

    async def fail(self, event: ProcessEventInput) -> None:
        """An event's run failed: pending becomes failed, and is counted.

        One that never was stored gets a row to be looked at; one that another batch delivered stays so.
        """
        row = self._events.get(event.event_id)
        if row is None:
            row = self._new_row(event, EventStatus.FAILED)
            self._events.put(row)
            self._count(row.event_id, Move(None, row.status))
        elif row.status != EventStatus.DELIVERED:
            self._move(row, EventStatus.FAILED)

    @shared
    async def get(self, event_id: str) -> EventRow | None:
        """The row of an event."""
        return self._table().get(event_id)

    @shared
    async def select(self, status: EventStatus, limit: int = 100, reverse: bool = False) -> list[EventRow]:
        """Rows of a status by creation time, the oldest first."""
        return self._table().select(status=status, order_by="created_at", limit=limit, reverse=reverse)

    @shared
    async def read_metrics(self) -> Metrics:
        """The counters."""
        return self.metrics

    @shared
    async def recount(self) -> dict[str, int]:
        """What the counters have to be, from the rows themselves: for whoever doubts them."""
        table = self._table()
        return {status.value: table.count(status=status) for status in EventStatus}

    def _new_row(self, event: ProcessEventInput, status: EventStatus) -> EventRow:
        now = self._now()
        return EventRow(
            event_id=event.event_id, payload=event.payload, metadata=event.metadata, status=status,
            created_at=now, updated_at=now,
        )  # fmt: skip

    def _move(self, row: EventRow, status: EventStatus) -> None:
        before = self._counted_as(row.event_id, row.status)
        self._events.put(change_status(row, status, self._now()))
        self._count(row.event_id, Move(before, status))

    def _count(self, event_id: str, move: Move) -> None:
        self.storage.delete((_UNCOUNTED, event_id))
        self.metrics = self.metrics.moved(move.before, move.after, self._now())

    def _counted_as(self, event_id: str, status: EventStatus | None) -> EventStatus | None:
        """The status that a row with `status` is counted under."""
        move = self.storage.get((_UNCOUNTED, event_id), Move)
        return status if move is None else move.before

    def _table(self) -> Table[EventRow]:
        return self.storage.table(
            EventRow, key="event_id", indexes=(("status", "created_at"),), name="events"
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.runtime.clock.now_ms() / 1000, UTC)


def change_status(row: EventRow, status: EventStatus, at: datetime) -> EventRow:
    """The row with another status; raises `IllegalTransition`."""
    if row.status == status:
        return row
    if status not in TRANSITIONS[row.status]:
        raise IllegalTransition(f"event {row.event_id!r} is {row.status}; it can't become {status}")
    return msgspec.structs.replace(row, status=status, updated_at=at)


def again(stored: EventRow, fresh: EventRow) -> EventRow:
    """The same event came again: what it says is new, how far it is stays."""
    status = EventStatus.DELIVERED if stored.status == EventStatus.DELIVERED else EventStatus.PENDING
    return msgspec.structs.replace(
        change_status(stored, status, fresh.updated_at),
        payload=fresh.payload,
        metadata=fresh.metadata,
        updated_at=fresh.updated_at,
        retry_count=stored.retry_count + 1,
    )
