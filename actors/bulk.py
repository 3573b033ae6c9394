"""Verbs over many runs at once: `Runtime.control`.

Each run is asked as `Run` asks one, in a commit of its own; what one refuses is told and stops nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

import msgspec

from ..storage.errors import CallerError, HoldfastError
from .audit import checked_by
from .handle import Run
from .workflow.run_index import RunFilter, list_runs

if TYPE_CHECKING:
    from .workflow_calls import WorkflowCalls

Verb: TypeAlias = Literal[
    "pause", "resume", "cancel", "terminate", "restart", "retry_now", "redrive", "purge"
]
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)


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
    if rate is not None and (type(rate) not in (int, float) or not rate > 0):
        raise CallerError(f"the rate must be more than 0 a second; got {rate!r}")
    if not isinstance(cast("object", wanted), RunFilter):
        raise CallerError(f"which runs are meant is told by a filter of run_filter(); got {wanted!r:.200}")
    checked_by(by, reason)
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
