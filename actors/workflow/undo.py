"""Undo: when a run fails, or is cancelled, what its steps did is taken back, the last one first.

    run() ended badly -> undo of the last step that has one -> ... -> of the first -> the run's last record

Each is a step by itself, named after the one it undoes: recorded, tried again, never repeated once it is
done.  They are asked for in `run()`'s own loop, so a run that is taken up again in the middle goes on there.

Promises
  * Steps that are recorded as done are undone in the reverse order in which `run()` asked for them.
  * The first undo that fails for good stops the rest; the run's last record tells which it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..errors import ErrorRecord, StepError

if TYPE_CHECKING:
    from .journal import End
    from .live_run import LiveRun
    from .retry import Retry
    from .step_op import StepOp


# What the name of a step that undoes another begins with.
UNDO: Final = "undo "


class Undo(NamedTuple):
    """What a step that is done left to be done when the run fails."""

    order: int
    """The how-manyth thing it was that `run()` asked for."""
    name: str
    function: Callable[..., object]
    retry: Retry
    thread: bool
    decode: Callable[[msgspec.Raw], object]
    value: msgspec.Raw


def undo_of(op: StepOp, function: Callable[..., object], value: msgspec.Raw) -> Undo:
    """What undoes a step that is recorded as done with this value."""
    return Undo(op.order, op.name, function, op.retry, op.thread, op.decode_result, value)


class Undoing:
    """The undoing of one run, from its bad end on."""

    __slots__ = ("_undos", "done", "error", "raised", "record")

    def __init__(self, undos: list[Undo], record: End, raised: BaseException | None) -> None:
        """`record` is how the run ended before anything was undone."""
        self._undos = sorted(undos, key=lambda undo: undo.order, reverse=True)
        self.record = record
        self.raised = raised
        self.done = 0
        self.error: ErrorRecord | None = None

    async def run(self, run: LiveRun) -> None:
        """Undo one after the other; this takes the place of `run()`."""
        for undo in self._undos:
            try:
                value = undo.decode(undo.value)
                await run.request_undo(undo, value)
            except StepError as error:
                self.error = ErrorRecord(type(error).__name__, str(error))
                return
            self.done += 1

    def end(self, at_ms: int) -> End:
        """The run's last record, with what was undone."""
        return msgspec.structs.replace(self.record, at_ms=at_ms, undo=self.error, undone=self.done)
