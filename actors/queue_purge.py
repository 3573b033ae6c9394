# pyright: reportPrivateUsage=false
# (A queue and what is done in its turns are one thing in several files.)
"""Purging a queue in slices, so that a million messages don't hold up the loop; for operators.

`Queue.purge` does it in one turn: all or nothing.  Here each slice is a turn of its own, and others have
theirs between them; what is sent meanwhile may go or stay.  The deed is in the commit of the first slice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..runtime.call import run, wait_gate
from .audit import By, checked_by, note_deed
from .durable_queue import Queue, turn_plan
from .queue_hub import LaneState
from .queue_records import LEASED, READY, decode_message

if TYPE_CHECKING:
    from ..runtime.ref import Ref

_MESSAGES: Final = 2_000  # some 20 ms
_BYTES: Final = 4 << 20


async def purge_in_slices(
    ref: Ref, group: str | None = None, *, by: str | None = None, reason: str = ""
) -> int:
    """Delete all messages (of one group); dead letters stay.  Returns how many, once that is durable.

    Raises `CallerError` when there is no such group.
    """
    told = checked_by(by, reason)
    wanted: int | None = None
    purged, dep = 0, 0
    while wanted is None or purged < wanted:
        deleted = 0

        async def slice_of(queue: Queue) -> None:
            nonlocal wanted, deleted
            if wanted is None:
                wanted = _begin(queue, group, told)
            deleted = _delete_some(queue, group)

        dep, _, error = await run(ref, turn_plan(slice_of), (), {}, None, None)
        if error is not None:
            raise error
        purged += deleted
        if not deleted:
            break
        # Also keeps what waits for the disk small.
        await wait_gate(ref.system, dep)
    await wait_gate(ref.system, dep)
    return purged


def _begin(queue: Queue, group: str | None, told: By) -> int:
    depth = sum(lane.depth for lane in queue._lanes_of(group))
    about = "" if group is None else f" of group {group!r}"
    note_deed(queue, "purge", told, f"{depth} messages{about}", "purged")
    return depth


def _delete_some(queue: Queue, group: str | None) -> int:
    turn = queue._activation.current_turn()
    turn.root.reserve = True  # a full store must not keep a queue from being emptied
    deleted = size = 0
    for lane in queue._lanes_of(group):
        keys: list[bytes] = []
        retrying = 0
        for key, stored in queue._rows(queue._prefix(READY, lane.number)):
            keys.append(key)
            size += len(stored)
            if lane.retrying:
                retrying += decode_message(memoryview(stored)[1:]).attempts > 1
            if deleted + len(keys) >= _MESSAGES or size >= _BYTES:
                break
        if not keys:
            continue
        queue._delete_all(LEASED, lane)
        turn.root.writes.update(dict.fromkeys(keys))
        lane.depth = max(0, lane.depth - len(keys))
        lane.retrying = max(0, lane.retrying - retrying)
        queue._after(turn, lane, LaneState.purged)
        deleted += len(keys)
        if deleted >= _MESSAGES or size >= _BYTES:
            break
    return deleted
