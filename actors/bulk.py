"""Verbs over many runs at once, and what the audit tells of them."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import msgspec

from ..runtime.address import ActorKey, show_address
from ..runtime.clock import moment
from ..storage import layout
from ..storage.errors import CallerError, HoldfastError
from ..storage.keys import decode_key, next_prefix
from .handle import Run
from .workflow.audit import Deed, decode_audit
from .workflow.run_index import RunFilter, list_runs

if TYPE_CHECKING:
    from ..runtime.ref import Ref
    from .workflow_calls import WorkflowCalls

Verb: TypeAlias = Literal[
    "pause", "resume", "cancel", "terminate", "restart", "retry_now", "redrive", "purge"
]
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)
_PAGE: Final = 256


class BulkResult(msgspec.Struct, frozen=True):
    """What a verb over many runs came to."""

    matched: int
    """Runs that the filter meant."""
    done: int
    refused: tuple[tuple[str, str], ...] = ()
    """Addresses of runs that it was not done to, and why."""


async def control_many(
    system: WorkflowCalls,
    verb: Verb,
    wanted: RunFilter,
    *,
    by: str | None,
    reason: str,
    dry_run: bool,
    limit: int,
    rate: float | None,
) -> BulkResult:
    """See `Runtime.control`."""
    if verb not in VERBS:
        raise CallerError(f"there is no verb {verb!r}; it must be one of {', '.join(VERBS)}")
    if rate is not None and not rate > 0:
        raise CallerError(f"the rate must be more than 0 a second; got {rate!r}")
    found = list_runs(system, wanted, limit=limit, reverse=False)
    if dry_run:
        return BulkResult(len(found), 0)
    done = 0
    refused: list[tuple[str, str]] = []
    for nth, (ref, _) in enumerate(found):
        if rate is not None and nth:
            await _sleep(system, 1 / rate)
        run = Run[object](system, ref)
        try:
            match verb:
                case "pause":
                    await run.pause(by=by, reason=reason)
                case "resume":
                    await run.resume(by=by, reason=reason)
                case "cancel":
                    await run.cancel(by=by, reason=reason)
                case "terminate":
                    await run.terminate(reason or "terminated from outside", by=by)
                case "restart":
                    await run.restart(by=by, reason=reason)
                case "retry_now":
                    await run.retry_now(by=by, reason=reason)
                case "redrive":
                    await run.redrive(by=by, reason=reason)
                case "purge":
                    await run.purge(by=by, reason=reason)
            done += 1
        except CallerError as error:
            refused.append((str(ref), str(error)))
        except HoldfastError as error:
            refused.append((str(ref), f"{type(error).__name__}: {error}"))
    return BulkResult(len(found), done, tuple(refused))


async def _sleep(system: WorkflowCalls, seconds: float) -> None:
    """Sleep by the runtime's clock, which a test may move."""
    future: asyncio.Future[None] = system.loop.create_future()

    def wake() -> None:
        if not future.done():
            future.set_result(None)

    system.clock.call_later(seconds, wake)
    await future


def read_audit(system: WorkflowCalls, ref: Ref | None, since: datetime | None, limit: int) -> list[Deed]:
    """See `Runtime.audit`."""
    start = layout.AUDIT
    if since is not None:
        if since.tzinfo is None:
            raise CallerError(f"since must be a datetime with a zone; got {since!r}")
        start += layout.time_bytes(round(since.timestamp() * 1000))
    end = next_prefix(layout.AUDIT)
    deeds: list[Deed] = []
    while len(deeds) < limit:
        page = system.reader.scan(start, end, True, _PAGE)
        for _, stored in page:
            record = decode_audit(stored)
            if ref is None or (record.type == ref.type.number_bytes and record.key == ref.key_bytes):
                deeds.append(_deed(system, stored))
        if len(page) < _PAGE:
            break
        end = page[-1][0]
    return deeds[:limit]


def _deed(system: WorkflowCalls, stored: bytes) -> Deed:
    record = decode_audit(stored)
    key = decode_key(record.key)
    assert not isinstance(key, bytes), "no actor has such a key"
    shown: ActorKey = key
    return Deed(
        moment(record.at_ms),
        record.who,
        record.verb,
        show_address(system.actor_types.name_of(record.type), shown),
        record.before,
        record.after,
        record.reason,
    )
