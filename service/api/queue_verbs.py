"""The verbs that steer a queue: what each asks for, and does; for HTTP and the pages alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

from ...actors.durable_queue import Queue
from ...actors.queue_info import queue_info
from ...actors.queue_purge import purge_in_slices
from ...storage.errors import CallerError

if TYPE_CHECKING:
    from ...actors.system import Runtime
    from ...runtime.ref import Ref

QueueVerb: TypeAlias = Literal["pause", "resume", "drain", "purge", "remove"]
QUEUE_VERBS: Final[tuple[QueueVerb, ...]] = get_args(QueueVerb)
# What can't be taken back.
_NEED_A_REASON: Final = ("purge", "remove")


async def steer_queue(
    runtime: Runtime, ref: Ref, verb: str, *, group: str | None = None, by: str, reason: str
) -> int | None:
    """Do a verb to a queue; how many messages a purge deleted.

    Raises `CallerError` for another verb, or without what it asks for, and `QueueNotFound`.
    """
    if verb not in QUEUE_VERBS:
        raise CallerError(f"the verbs are {', '.join(QUEUE_VERBS)}; got {verb!r:.100}")
    if group is not None and verb != "purge":
        raise CallerError(f"{verb} is for all groups of a queue; purge takes one")
    if verb in _NEED_A_REASON and not reason.strip():
        raise CallerError(f"{verb} needs a reason")
    queue_info(runtime, ref)  # nothing is made by steering it
    queue = cast("Queue", ref)
    match verb:
        case "pause":
            await queue.pause(by=by, reason=reason)
        case "resume":
            await queue.resume(by=by, reason=reason)
        case "drain":
            await queue.drain(by=by, reason=reason)
        case "purge":
            return await purge_in_slices(ref, group, by=by, reason=reason)
        case "remove":
            await queue.remove(by=by, reason=reason)
    return None
