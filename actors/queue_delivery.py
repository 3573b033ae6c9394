# pyright: reportPrivateUsage=false
# (A queue and what its consumers do in its turns are one thing in two files.)
"""What a consumer does in the turns of its queue: take messages, lease them, settle them.

    find_ready -> lease_batch -> (the handler) -> settle_batch | return_batch
    find_ready -> settle              where the run of a message is started in the same turn

Promises
  * What is in the hands of a handler also lies on disk as a lease.  `recover` counts the leases of a former
    process as attempts, so a message that kills the process is buried in the end.
  * A full store does not keep consumers from emptying the queue.
"""

from __future__ import annotations

from ..runtime.chain import Turn, after_commit
from ..storage.keys import encode_index_values, next_prefix
from .durable_queue import MOVE_ALARM, Queue
from .queue_hub import LaneState, Place
from .queue_records import (
    DEAD,
    LEASED,
    LEAVING,
    READY,
    Lane,
    Retried,
    StoredDead,
    StoredLeaving,
    StoredMessage,
    Taken,
    decode_message,
    decode_places,
    key_behind,
    with_attempts,
)


def lane_for(queue: Queue, group: str) -> tuple[Lane, LaneState]:
    """The lane of a consumer; called in a turn of this queue."""
    lane = queue._register(group)
    return lane, queue._hub().lane(queue._activation.ref.directory_key, lane.number)


def find_ready(queue: Queue, lane: Lane, state: LaneState, limit: int) -> tuple[list[Taken], int | None]:
    """The next messages that are available and in nobody's hands, and when the one behind them is.

    That time is None when nothing lies behind them or they are as many as asked for.
    """
    prefix = queue._prefix(READY, lane.number)
    start = prefix
    if state.cursor is not None:
        start = prefix + encode_index_values(state.cursor) + b"\x01"  # behind the 0x00 that ends the key
    end = next_prefix(prefix)
    now_ms = queue._activation.system.clock.now_ms()
    found: list[Taken] = []
    while True:
        wanted = limit - len(found)
        rows = queue._activation.scan(start, end, False, wanted)
        for key, stored in rows:
            place = queue._place_of(key)
            if place[0] > now_ms:
                return found, place[0]
            if place not in state.leased:
                found.append(Taken(place, decode_message(memoryview(stored)[1:])))
        if len(found) == limit or len(rows) < wanted:
            return found, None
        start = rows[-1][0] + b"\x00"


def lease_batch(queue: Queue, lane: Lane, state: LaneState, taken: list[Taken]) -> None:
    """Note on disk that a handler has these messages."""
    turn = queue._activation.current_turn()
    turn.root.reserve = True  # a full store must not keep consumers from emptying the queue
    places = [one.place for one in taken]
    queue.storage.put((LEASED, lane.number, places[0][1]), places)

    def leased(_: int) -> None:
        state.lease(places)
        state.cursor = places[-1]

    after_commit(turn, leased)


def return_batch(queue: Queue, group: str, lease: int) -> None:
    """Give back what a handler was not done with when it was stopped; that is no attempt."""
    lane, state = lane_for(queue, group)
    if lease in state.leases:
        queue.storage.delete((LEASED, lane.number, lease))
        after_commit(queue._activation.current_turn(), lambda _: state.give_back(lease))


def settle_batch(
    queue: Queue,
    group: str,
    lease: int,
    acked: list[Taken],
    retried: list[Retried],
    returned: list[Taken],
    max_retries: int,
    dead_to: bytes | None,
) -> list[str]:
    """End a batch of a handler: remove what is done, put back or bury the rest, leave what is returned.

    Returns the ids of new dead letters.
    """
    lane, state = lane_for(queue, group)
    turn = queue._activation.current_turn()
    turn.root.reserve = True
    if lease not in state.leases:
        return []  # purged meanwhile
    turn.root.writes[key_behind(queue._prefix(LEASED, lane.number), (lease,))] = None
    buried = settle(queue, lane, acked, retried, max_retries, dead_to)

    def ended(_: int) -> None:
        if returned:
            state.give_back(lease)
        else:
            state.end_lease(lease)

    after_commit(turn, ended)
    return buried


def settle(
    queue: Queue,
    lane: Lane,
    acked: list[Taken],
    retried: list[Retried],
    max_retries: int,
    dead_to: bytes | None,
) -> list[str]:
    """Remove, put back or bury messages that are on disk.  Returns the ids of new dead letters."""
    turn = queue._activation.current_turn()
    writes = turn.root.writes
    prefix = queue._prefix(READY, lane.number)
    for taken in acked:
        writes[key_behind(prefix, taken.place)] = None
    lane.depth -= len(acked)
    lane.acked += len(acked)
    if lane.retrying:
        _not_retrying(lane, sum(taken.message.attempts > 1 for taken in acked))
    if not retried:
        return []
    buried: list[str] = []
    now_ms = queue._activation.system.clock.now_ms()
    for one in retried:
        place, message = one.taken.place, one.taken.message
        if one.dead or message.attempts > max_retries:
            _bury(queue, turn, lane, one, now_ms, dead_to)
            buried.append(message.id)
        else:
            again = (now_ms + round(one.delay_seconds * 1000), queue.next_number)
            _move_back(queue, turn, lane, place, again, with_attempts(message, message.attempts + 1), now_ms)
    return buried


def _bury(queue: Queue, turn: Turn, lane: Lane, one: Retried, now_ms: int, dead_to: bytes | None) -> None:
    place, message = one.taken.place, one.taken.message
    turn.root.writes[key_behind(queue._prefix(READY, lane.number), place)] = None
    lane.depth -= 1
    _not_retrying(lane, message.attempts > 1)
    if dead_to is None:
        queue.storage.put((DEAD, lane.number, place[1]), StoredDead(message, one.error, now_ms))
        lane.dead += 1
        return
    # A number of its own: by it the other queue knows what it has, so they rise in the order of leaving.
    queue.storage.put((LEAVING, queue.next_number), StoredLeaving(dead_to, message))
    queue.next_number += 1
    queue.leaving += 1
    queue.alarms.set(0, MOVE_ALARM)


def _not_retrying(lane: Lane, count: int) -> None:
    # A folder of former days didn't count them.
    lane.retrying = max(0, lane.retrying - count)


def _move_back(
    queue: Queue, turn: Turn, lane: Lane, place: Place, again: Place, message: StoredMessage, now_ms: int
) -> None:
    """Let a message come again, behind those that wait."""
    writes = turn.root.writes
    writes[key_behind(queue._prefix(READY, lane.number), place)] = None
    queue._write_ready(writes, lane, again, message)
    queue.next_number += 1
    lane.retried += 1
    lane.retrying += message.attempts == 2  # the attempt to come
    queue._notice(turn, lane, again, 1, now_ms)


def recover(queue: Queue, lane: Lane, state: LaneState, max_retries: int, dead_to: bytes | None) -> None:
    """Deliveries that a former process (or a lost commit) began and did not end count as attempts.

    So a message that kills the process becomes a dead letter in the end.
    """
    turn = queue._activation.current_turn()
    ready = queue._prefix(READY, lane.number)
    for key, stored in queue._rows(queue._prefix(LEASED, lane.number)):
        if queue._number_of(key) in state.leases:
            continue
        turn.root.writes[key] = None
        for available_ms, number in decode_places(memoryview(stored)[1:]):
            place = (available_ms, number)
            found = queue._activation.read(key_behind(ready, place))
            if found is not None and place not in state.leased:
                taken = Taken(place, decode_message(memoryview(found)[1:]))
                one = Retried(taken, "the process ended during a delivery", 0.0, False)
                settle(queue, lane, [], [one], max_retries, dead_to)

    def recovered(_: int) -> None:
        state.recovered = True

    after_commit(turn, recovered)
