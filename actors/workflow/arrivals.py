"""Records that come to a run from outside it: events, updates, the verbs of control, outcomes of children.

    arrive(record) -> a write set that is staged at once -> committed(number): delivered, and the run woken
                                                         -> failed(): as if nothing had come

Who sends brings the write set: a commit of its own, an actor's turn, another run's outcome.  So the event is
there if and only if what it was sent with is.

Promises
  * A run that rests is found again: the commit that brings something to wake it for changes its status.
  * Records get their positions when they are staged, so those of several senders don't meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import msgspec

from ...runtime.alarms import alarm_writes
from ...storage.keys import next_prefix
from ..errors import RunEnded, RunNotFound
from .head import ENDED, RunStatus
from .journal import POSITION_BYTES, Record, encode_record, journal_prefix, position_key

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...runtime.ref import Ref
    from ...storage.group_commit import Writes
    from .engine import Engine
    from .live_run import LiveRun
    from .workflow import Workflow
    from .workflow_type import WorkflowType

# In the dictionary of a run's instance while only that is in memory: looking at the disk for each event of
# many would take as long as all that is staged.
_NEXT_POSITION: Final = "_next_position"
# At rest: on disk it waits for an alarm, or for what comes.
RESTING: Final = frozenset({"waiting", "retrying"})


class Arrival:
    """Records on their way into one run's journal, in a write set that somebody stages."""

    __slots__ = ("_activation", "_engine", "_records", "_run", "_wakes")

    def __init__(self, engine: Engine, ref: Ref, records: tuple[Record, ...], writes: Writes) -> None:
        """Add the records to `writes`; raises `RunNotFound` or `RunEnded`, and then nothing is added."""
        activation = must_go_on(engine, ref, writes)
        activation.pins += 1  # who loads another actor meanwhile must not push this one out
        self._engine = engine
        self._activation = activation
        self._records = records
        run = self._run = live_run_of(activation)
        workflow = cast("Workflow", activation.instance)
        status: RunStatus | None = None
        self._wakes = workflow.head.status in RESTING
        if self._wakes:
            kind = cast("WorkflowType", activation.type)
            status = "running" if engine.places.has(kind) else "queued"
            if status == "queued":
                engine.places.expect_queued(kind)
            writes.update(alarm_writes(activation, b"", None))
        if run is not None:
            for record in records:
                run.add_record(record, writes)
        else:
            add_records(engine, activation, records, writes)
        if status is not None:
            workflow.head = msgspec.structs.replace(
                workflow.head, status=status, updated_ms=engine.system.clock.now_ms()
            )
            activation.stage_fields(writes)

    def committed(self, number: int) -> None:
        """The write set was staged as (part of) this commit."""
        activation, engine = self._activation, self._engine
        activation.pins -= 1
        if number > activation.dep:
            activation.dep = number
        run = self._run
        if run is not None and not run.dropped:
            run.expect(self._records)
        if not self._wakes:
            return
        status = cast("Workflow", activation.instance).head.status
        if status == "running":
            engine.wake_soon(activation.ref)
        else:
            engine.places.fill_later()

    def failed(self) -> None:
        """The write set was not staged: what is in memory counts on it, so it is read from the disk again."""
        engine, run = self._engine, self._run
        self._activation.pins -= 1
        if run is not None:
            engine.let_go(run)
        elif not self._activation.gone:
            engine.system.directory.drop(self._activation)


class NothingArrives:
    """In place of an arrival: what it would bring is there already."""

    def committed(self, number: int) -> None:
        """Nothing to tell."""

    def failed(self) -> None:
        """Nothing to take back."""


def must_go_on(engine: Engine, ref: Ref, writes: Writes | None = None) -> Activation:
    """The activation of a run that has not ended; raises `RunNotFound` or `RunEnded`.

    `writes` are those of a turn that may start it.
    """
    activation = ref.activation or engine.system.directory.activate(ref)
    if not activation.stored and (writes is None or ref.directory_key not in writes):
        raise RunNotFound(f"there is no run {ref}")
    status = cast("Workflow", activation.instance).head.status
    if status in ENDED:
        raise RunEnded(f"run {ref} is {status} already; nothing comes to it any more")
    return activation


def add_records(engine: Engine, activation: Activation, records: tuple[Record, ...], writes: Writes) -> None:
    """Add records to the journal of a run that isn't in memory, in a write set that is staged at once."""
    prefix = journal_prefix(activation.prefix(b""))
    known = activation.instance.__dict__
    position: int | None = known.get(_NEXT_POSITION)
    if position is None:
        rows = engine.system.store.scan(prefix, next_prefix(prefix), reverse=True, limit=1, extra=writes)
        position = int.from_bytes(rows[0][0][-POSITION_BYTES:], "big") + 1 if rows else 0
    for record in records:
        writes[position_key(prefix, position)] = encode_record(record)
        position += 1
    known[_NEXT_POSITION] = position


def has_arrivals(activation: Activation) -> bool:
    """Whether records were added while only the instance was in memory."""
    return _NEXT_POSITION in activation.instance.__dict__


def forget_position(activation: Activation) -> None:
    """The run comes to memory: it counts its records by itself."""
    activation.instance.__dict__.pop(_NEXT_POSITION, None)


def live_run_of(activation: Activation) -> LiveRun | None:
    """The working part of a run that is in memory, None when there is none."""
    run: LiveRun | None = activation.instance.__dict__.get("_live")
    return None if run is None or run.dropped else run
