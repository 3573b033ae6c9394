"""A look at a run as it was behind any record of its journal: replay without effects.

    records up to n -> a run beside the real one -> run() is driven with them -> state, data, local variables

Nothing that it asks for begins, nothing is written, and the run itself is not touched.  What `run()` does
outside of steps is done again, as on every replay.
"""

from __future__ import annotations

import inspect
from types import FrameType
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from ...runtime.actor import set_activation
from ...runtime.error_text import shorten
from ...storage.errors import CallerError
from ..errors import ErrorRecord, RunNotFound, record_error
from .fold import Fold
from .journal import Record, decode_records, journal_prefix
from .journal_text import record_text
from .live_run import LiveRun
from .user_lines import where

if TYPE_CHECKING:
    from ...runtime.ref import Ref
    from .divergence import Divergence
    from .engine import Engine
    from .workflow import Workflow


class ObservedRun(LiveRun):
    """A run that gets what is recorded, and begins nothing; an object of its own beside the real one."""

    __slots__ = ("difference", "problem")

    difference: Divergence | None
    problem: ErrorRecord | None

    def replay(self) -> None:
        """From the beginning to where the journal ends; in a callback of the loop."""
        self.difference = self.problem = None
        try:
            self.begin()
        except Exception as error:  # whatever it is, it would make the run stuck
            self.problem = record_error(error)

    def _after_delivery(self) -> None:
        """It begins nothing."""

    def _replayed(self) -> None:
        """It mends nothing."""

    def diverged(self, divergence: Divergence) -> None:
        """See `Asking`."""
        self.difference = divergence

    def stuck(self, error: ErrorRecord) -> None:
        """See `LiveRun`."""
        self.problem = error

    def _halt(self, divergence: Divergence) -> None:
        self.dropped = True
        self.difference = divergence

    def close(self) -> None:
        """It leaves memory."""
        self.dropped = False
        self.drop()


Observed = TypeVar("Observed", bound=ObservedRun)


class DebugView(msgspec.Struct, frozen=True):
    """A run as it was behind one record."""

    run: str
    at: int
    """The position of the last record that was delivered."""
    records: int
    """So many records the journal has."""
    last: str
    """That record as text."""
    state: str | None
    data: dict[str, object]
    waits: tuple[str, ...]
    """Steps and calls that `run()` had asked for and not got."""
    timers: int
    events: tuple[str, ...]
    """Names of events that nobody had waited for yet."""
    variables: dict[str, str]
    """The local variables of `run()`, as text; empty when it had ended."""
    lines: tuple[str, ...]
    """File, line and function where `run()` was."""
    has_ended: bool
    problem: str = ""
    """Why the present code can't be replayed with the journal, if it can't."""


async def observe(engine: Engine, ref: Ref, records: list[tuple[int, Record]] | None = None) -> ObservedRun:
    """A run as its journal (or the beginning of one) has it; `close` it in the end."""
    return await observe_as(ObservedRun, engine, ref, records)


async def observe_as(
    kind: type[Observed], engine: Engine, ref: Ref, records: list[tuple[int, Record]] | None
) -> Observed:
    """The same with a class of one's own."""
    activation = ref.activation or engine.system.directory.activate(ref)
    if records is None:
        rows = engine.system.store.scan_prefix(journal_prefix(activation.prefix(b"")))
        await engine.system.store.wait_durable(activation.dep)
        if not rows:
            raise RunNotFound(f"there is no run {ref} any more; it was purged")
        records = decode_records(rows, str(ref))
    fold = Fold(records, str(ref))
    blank = cast("Workflow", activation.type.actor_class.__new__(activation.type.actor_class))
    set_activation(blank, activation)
    blank.head = cast("Workflow", activation.instance).head
    if activation.type.has_init:
        blank.__init__()  # type: ignore[misc]
    run = kind(engine, activation, fold.started, fold, instance=blank)
    await engine.in_callback(run.replay)
    return run


def _main_frame(run: LiveRun) -> FrameType | None:
    main = run.main
    if main is None or main.done():
        return None
    coroutine = main.get_coro()
    return coroutine.cr_frame if inspect.iscoroutine(coroutine) else None


async def debug_view(engine: Engine, ref: Ref, at: int | None) -> DebugView:
    """See `Runtime.debug`."""
    activation = ref.activation or engine.system.directory.activate(ref)
    rows = engine.system.store.scan_prefix(journal_prefix(activation.prefix(b"")))
    await engine.system.store.wait_durable(activation.dep)
    return await debug_records(engine, ref, decode_records(rows, str(ref)), at)


async def debug_records(
    engine: Engine, ref: Ref, every: list[tuple[int, Record]], at: int | None
) -> DebugView:
    """A run with these records as it was behind the one at position `at`, None for the last."""
    if not every:
        raise RunNotFound(f"there is no run {ref} any more; it was purged")
    if at is not None and (type(at) is not int or at < 0):
        raise CallerError(f"at is the position of a record, from 0 on; got {at!r}")
    shown = every if at is None else [one for one in every if one[0] <= at]
    run = await observe(engine, ref, shown or every[:1])
    try:
        frame = _main_frame(run)
        variables = (
            {}
            if frame is None
            else {name: _shown(value) for name, value in frame.f_locals.items() if name != "self"}
        )
        problem = run.difference.difference if run.difference is not None else str(run.problem or "")
        main = run.main
        return DebugView(
            run=str(ref),
            at=(shown or every[:1])[-1][0],
            records=len(every),
            last=record_text((shown or every[:1])[-1][1]),
            state=run.said.state,
            data=dict(run.said.data),
            waits=tuple(f"{name} (use {nth})" if nth > 1 else name for name, nth in run.pending),
            timers=len(run.loop.timers),
            events=tuple(run.box.early_names()),
            variables=variables,
            lines=tuple(where(run)),
            has_ended=main is None or main.done(),
            problem=problem,
        )
    finally:
        run.close()


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception as error:  # of user code: the rest of the view is worth more
        text = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return shorten(text, 500)
