"""Heartbeats: a long step tells that it goes on, and what a later attempt should begin with.

What it tells lies under the run, one row for each step, until the step's outcome is recorded: an attempt
after a failure, and one after a crash, finds it there.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from ...storage import layout

if TYPE_CHECKING:
    from .step_op import StepOp

_NAME_BYTES: Final = 16  # names are longer than keys may be
_NTH_BYTES: Final = 4


class Heartbeat:
    """Watches one attempt: without a beat for so many seconds it has failed."""

    __slots__ = ("_op", "_seconds", "_timer")

    def __init__(self, op: StepOp, seconds: float) -> None:
        self._op = op
        self._seconds = seconds
        self._timer = op.run.engine.system.clock.call_later(seconds, self._silent)

    def beat(self) -> None:
        """It goes on."""
        self._timer.cancel()
        self._timer = self._op.run.engine.system.clock.call_later(self._seconds, self._silent)

    def stop(self) -> None:
        """The attempt is over."""
        self._timer.cancel()

    def _silent(self) -> None:
        # A clock that is moved by hand calls from inside a task, where run()'s loop must not be driven.
        self._op.run.engine.system.loop.call_soon(self._op.stopped_beating)


def heartbeat_key(op: StepOp) -> bytes:
    """Where a step's last heartbeat lies."""
    return (
        op.run.activation.base
        + layout.HEARTBEAT
        + blake2b(op.name.encode(), digest_size=_NAME_BYTES).digest()
        + op.nth.to_bytes(_NTH_BYTES, "big")
    )
