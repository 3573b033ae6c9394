"""`current_step()`: which step, of which run, in which attempt the running code belongs to.

Beside it what a long step may tell while it goes on: `heartbeat`, and `last_heartbeat` in a later attempt.
"""

from __future__ import annotations

from threading import get_ident
from typing import TypeVar, overload

import msgspec

from ..runtime.address import show_key
from ..runtime.codec import BAD_VALUE, decode_plain, encode, reason
from ..storage.errors import CallerError, InvalidValue
from .workflow.step_key import step_key
from .workflow.step_op import ATTEMPT, StepScope

T = TypeVar("T")
MAX_HEARTBEAT_BYTES = 64 << 10


class StepInfo(msgspec.Struct, frozen=True):
    """One attempt of a step, as its body sees it."""

    workflow: str
    run: str
    """The run's id as text."""
    name: str
    nth: int
    """The how-manyth use of the name in the run, from 1."""
    attempt: int
    """1 for the first attempt; a try that a crash cut off isn't counted."""
    correlation_id: str
    tenant: str | None = None
    idempotency_key: str = ""
    """The same in all attempts of the step, and no other step's: for services that take each key once."""


def current_step() -> StepInfo | None:
    """The step that calls this, also from functions that its body calls; None outside steps."""
    scope = ATTEMPT.get()
    if scope is None:
        return None
    op = scope.op
    ref = op.run.activation.ref
    return StepInfo(
        ref.type.name,
        show_key(ref.key),
        op.name,
        op.nth,
        scope.attempt,
        op.run.correlation_id,
        op.run.started.tenant,
        step_key(op),
    )


def heartbeat(data: object = None) -> None:
    """Tell that the step goes on, with what a later attempt should know: kept until the step is done.

    From the body or a thread of it.  Each call with data is a write.  Raises `CallerError` outside of a step
    and `InvalidValue` for data that can't be stored or takes more than 64 KiB.
    """
    scope = _scope("heartbeat")
    encoded: bytes | None = None
    if data is not None:
        encoded = encode(data, f"{scope}: the data of a heartbeat")
        if len(encoded) > MAX_HEARTBEAT_BYTES:
            raise InvalidValue(
                f"{scope}: the data of a heartbeat takes {len(encoded)} bytes; at most {MAX_HEARTBEAT_BYTES} "
                f"are allowed"
            )
    system = scope.op.run.engine.system
    if get_ident() == system.thread_id:
        scope.op.beat(scope, encoded)
    else:
        system.loop.call_soon_threadsafe(scope.op.beat, scope, encoded)


@overload
def last_heartbeat() -> object: ...
@overload
def last_heartbeat(type: type[T]) -> T | None: ...
def last_heartbeat(type: type[T] | None = None) -> object:
    """What `heartbeat` told last, in this attempt or one before, also before a crash; None for nothing.

    Raises `CallerError` outside of a step and `InvalidValue` when it is no `type`.
    """
    scope = _scope("last_heartbeat")
    stored = scope.op.last_beat()
    if stored is None:
        return None
    try:
        return decode_plain(stored) if type is None else msgspec.msgpack.decode(stored, type=type)
    except BAD_VALUE as error:
        raise InvalidValue(f"{scope}: the last heartbeat is no {type}: {reason(error)}") from error


def _scope(what: str) -> StepScope:
    scope = ATTEMPT.get()
    if scope is None:
        raise CallerError(f"{what}() is for the body of a step; it was called outside of one")
    return scope
