"""What is known in memory of the queues of one runtime: who consumes them, and what is in whose hands.

The queue actor (durable_queue.py) holds what is true on disk and may leave memory at any time; what stands
here lives as long as somebody consumes.  A message in the hands of a consumer keeps its row on disk; only
this memory says that it is taken.

Invariants
  * A place is in `leased` from the moment its lease is staged until the lease ends; its message is on disk
    (or staged) all that time.
  * Every available message that is in nobody's hands lies behind `cursor`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

Place: TypeAlias = tuple[int, int]  # when a message is available in milliseconds since 1970, its number


class LaneState:
    """What is known of one lane: the messages of one consumer group of one queue."""

    __slots__ = ("arrived", "changes", "cursor", "leased", "leases", "listeners", "recovered")

    def __init__(self) -> None:
        self.cursor: Place | None = None
        self.leased: set[Place] = set()
        # The leases of this process, by the number of their first message, as on disk.
        self.leases: dict[int, list[Place]] = {}
        # Leases that a former process left on disk were counted as attempts.
        self.recovered = False
        # Messages that came so far, and other changes that a waiting consumer must look at.
        self.arrived = 0
        self.changes = 0
        # One for each consumer, so that none can take away the wake-up of another.
        self.listeners: list[Callable[[], None]] = []

    def notice(self, place: Place, count: int, now_ms: int) -> None:
        """Messages were put from `place` on."""
        self._back_to(place)
        self.arrived += count
        if place[0] > now_ms:
            self.changes += 1  # somebody may have to wake earlier than it thought
        self._wake()

    def change(self) -> None:
        """Something else changed: look again."""
        self.changes += 1
        self._wake()

    def lease(self, places: list[Place]) -> None:
        """A consumer has these messages now; called when the lease is staged."""
        self.leases[places[0][1]] = places
        self.leased.update(places)

    def end_lease(self, number: int) -> None:
        """A batch was settled."""
        self.leased.difference_update(self.leases.pop(number, ()))

    def give_back(self, number: int) -> None:
        """The messages of a lease can be taken again, where they are."""
        places = self.leases.pop(number, None)
        if places:
            self.leased.difference_update(places)
            self._back_to(places[0])
            self.change()

    def purged(self) -> None:
        """All messages are gone; what a consumer still settles is nobody's any more."""
        self.leases.clear()
        self.leased.clear()
        self.cursor = None

    def lost(self) -> None:
        """A failed commit may have undone what was taken or settled: look from the front again."""
        self.cursor = None
        self.recovered = False
        self.change()

    def _back_to(self, place: Place) -> None:
        if self.cursor is not None and place <= self.cursor:
            self.cursor = (place[0], place[1] - 1)

    def _wake(self) -> None:
        for listener in self.listeners:
            listener()


class QueueConsumer(Protocol):
    """Somebody who takes messages out of one group of one queue."""

    @property
    def queue_key(self) -> bytes:
        """The directory key of the queue."""
        ...

    @property
    def group(self) -> str:
        """The name of the group; empty for consumers without one."""
        ...

    def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """End; what is in its hands goes back."""
        ...

    def abandon(self) -> None:
        """End at once; what is in its hands comes again when the folder is opened."""
        ...


class QueueHub:
    """The queues of one runtime that somebody consumes."""

    def __init__(self) -> None:
        self._lanes: dict[tuple[bytes, int], LaneState] = {}
        self._groups: dict[bytes, list[str]] = {}
        self._consumers: list[QueueConsumer] = []

    def lane(self, queue_key: bytes, number: int) -> LaneState:
        """The state of a lane; made when it is first asked for."""
        state = self._lanes.get((queue_key, number))
        if state is None:
            state = self._lanes[queue_key, number] = LaneState()
        return state

    def known_lane(self, queue_key: bytes, number: int) -> LaneState | None:
        """The state of a lane that somebody consumes."""
        return self._lanes.get((queue_key, number))

    def groups(self, queue_key: bytes) -> list[str] | None:
        """The groups that consume a queue here: they get every message from the moment they were added."""
        return self._groups.get(queue_key)

    def consumers(self, queue_key: bytes, group: str) -> int:
        """How many consume a group of a queue here."""
        return sum(one.queue_key == queue_key and one.group == group for one in self._consumers)

    def add(self, consumer: QueueConsumer) -> None:
        """Start a consumer."""
        groups = self._groups.setdefault(consumer.queue_key, [])
        if consumer.group not in groups:
            groups.append(consumer.group)
        self._consumers.append(consumer)
        consumer.start()

    def remove(self, consumer: QueueConsumer) -> None:
        """A consumer has stopped; what only it needed is forgotten."""
        if consumer not in self._consumers:
            return
        self._consumers.remove(consumer)
        left = [one for one in self._consumers if one.queue_key == consumer.queue_key]
        if not any(one.group == consumer.group for one in left):
            self._groups[consumer.queue_key].remove(consumer.group)
        if not left:
            del self._groups[consumer.queue_key]
        for place, state in list(self._lanes.items()):
            if place[0] == consumer.queue_key and not state.listeners and not state.leases:
                del self._lanes[place]

    async def stop(self) -> None:
        """Stop all consumers."""
        for consumer in list(self._consumers):
            await consumer.stop()

    def abandon(self) -> None:
        """Stop those that are left without waiting for anything."""
        for consumer in self._consumers:
            consumer.abandon()
        self._consumers.clear()

    def lost(self) -> None:
        """A commit failed."""
        for state in self._lanes.values():
            state.lost()
