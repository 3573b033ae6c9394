"""What a run does to other runs: children, starts, sends.  Effect and record lie in the same commit.

    child    another run whose outcome becomes that of an op: the commit of its end records it here, too.
             It ends with what asked for it, unless it is detached
    start    a run that goes its own way; recorded with the commit that starts it
    send     an event for another run, recorded with the commit that brings it there

They wait for no disk, since all runs of a folder lie in one log.

Promises
  * P6: each takes effect exactly once, whatever crashes come in between.
  * A child whose parent ended, or gave it up, is asked to cancel in that very commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from ...runtime.address import normal_key, show_key
from ...runtime.codec import encode
from ...storage import layout
from ...storage.errors import HoldfastError, StorageError
from ..errors import ErrorRecord, record_error
from .arrivals import Arrival, NothingArrives
from .journal import (
    End,
    EventArrived,
    Finished,
    ParentLink,
    StepDone,
    StepFailed,
    decode_records,
    journal_prefix,
    position_key,
)
from .journal import Started as StartedRecord
from .ops import Op
from .results import failure

if TYPE_CHECKING:
    from ...runtime.activation import Activation
    from ...runtime.address import ActorKey
    from ...runtime.ref import Ref
    from ...storage.group_commit import Writes
    from .engine import Engine
    from .live_run import LiveRun
    from .start_options import StartOptions
    from .workflow_type import WorkflowType

# A row that says no more than its key.
_ATTACHED: Final = b"\xc3"


class ChildStart(msgspec.Struct, frozen=True):
    """Another run to be started: what and under which id."""

    kind: WorkflowType
    key: ActorKey | None
    """None for an id made from the parent's, the name and the use of it."""
    encoded_input: bytes
    decoded_input: object
    options: StartOptions
    detached: bool = False


class EffectOp(Op):
    """An op whose effect is writes: they and its record are one commit, made at once."""

    __slots__ = ()

    def begin(self) -> None:
        """Make the commit."""
        run = self.run
        self.active = False
        run.working -= 1
        writes: Writes = {}
        now_ms = run.now_ms()
        try:
            arrival, value = self.effect(writes)
        except StorageError as error:
            run.engine.cannot_record(run, error)
            return
        except HoldfastError as error:  # an answer: there is no such run, it has ended, its id is in use
            run.record_here(StepFailed(now_ms, self.name, self.nth, 1, record_error(error)))
            return
        outcome = StepDone(now_ms, self.name, self.nth, 1, msgspec.Raw(encode(value, str(self))))
        self.result = value
        try:
            number = run.record(outcome, writes)
        except StorageError as error:
            arrival.failed()
            run.engine.cannot_record(run, error)
            return
        arrival.committed(number)
        run.arrives_later(outcome)

    def effect(self, writes: Writes) -> tuple[Any, object]:
        """Add the effect to `writes`; what to tell of the commit, and the result."""
        raise AssertionError("each kind has its own")

    def decode_result(self, encoded: msgspec.Raw) -> object:
        """See `Op.decode_result`."""
        return msgspec.msgpack.decode(encoded)


class SendOp(EffectOp):
    """`run()` sends an event to another run."""

    __slots__ = ("event_id", "event_name", "payload", "ref", "user")

    def __init__(
        self,
        run: LiveRun,
        name: str,
        nth: int,
        ref: Ref,
        event_name: str,
        payload: bytes,
        event_id: str | None,
        user: str | None,
    ) -> None:
        super().__init__(run, name, nth)
        self.ref = ref
        self.event_name = event_name
        self.payload = payload
        self.event_id = event_id
        self.user = user

    def effect(self, writes: Writes) -> tuple[Any, object]:
        """See `EffectOp`."""
        run = self.run
        tenant = None if run.workflow.head.labels is None else run.workflow.head.labels.tenant
        record = EventArrived(
            run.engine.system.clock.now_ms(),
            self.event_name,
            msgspec.Raw(self.payload),
            self.user,
            tenant,
            self.event_id,
        )
        return run.engine.messages.event_arrival(self.ref, record, writes), None


class StartOp(EffectOp):
    """`run()` starts a run that goes its own way; the result is its id as text."""

    __slots__ = ("start_of",)

    def __init__(self, run: LiveRun, name: str, nth: int, start: ChildStart) -> None:
        super().__init__(run, name, nth)
        self.start_of = start

    def effect(self, writes: Writes) -> tuple[Any, object]:
        """See `EffectOp`."""
        start = self.start_of
        ref = child_ref(self.run, start, self.nth)
        arrival = self.run.engine.starts.start_arrival(
            ref, start.encoded_input, start.decoded_input, start.options, writes, parent=None, join=True
        )
        return arrival or NothingArrives(), show_key(ref.key)


class ChildOp(Op):
    """A child of a run, from its start to the outcome that its end records here."""

    __slots__ = ("ref", "start_of")

    decodes_live = True

    def __init__(self, run: LiveRun, name: str, nth: int, start: ChildStart) -> None:
        super().__init__(run, name, nth)
        self.start_of = start
        self.ref = child_ref(run, start, nth)

    def begin(self) -> None:
        """Start it, unless an earlier life of the parent has."""
        run, start = self.run, self.start_of
        self.active = False  # it holds no place and no memory of the parent
        run.working -= 1
        link = self.link()
        try:
            # One that has ended is of an earlier run with this id: its outcome was told to that one.
            if parent_of(run.engine, self.ref) == link and not has_ended(run.engine, self.ref):
                return
            writes: Writes = {}
            arrivals = self._make_way(link, writes)
            arrival = run.engine.starts.start_arrival(
                self.ref,
                start.encoded_input,
                start.decoded_input,
                start.options,
                writes,
                parent=link,
                join=False,
                replaces=bool(arrivals),
            )
        except StorageError as error:
            run.engine.cannot_record(run, error)
            return
        except HoldfastError as error:
            run.record_here(StepFailed(run.now_ms(), self.name, self.nth, 1, record_error(error)))
            return
        if arrival is None:
            raise AssertionError("a child is never joined")
        if not start.detached:
            writes[child_key(run.activation, self.ref)] = _ATTACHED
        try:
            number = run.activation.commit(writes, reserve=True)
        except StorageError as error:
            for one in (arrival, *arrivals):
                one.failed()
            run.engine.cannot_record(run, error)
            return
        for one in (arrival, *arrivals):
            one.committed(number)

    def _make_way(self, link: ParentLink, writes: Writes) -> list[Any]:
        """A child under the same id that this run had before it began anew is begun anew, too."""
        engine = self.run.engine
        known = parent_of(engine, self.ref)
        if known is None or msgspec.structs.replace(known, generation=link.generation) != link:
            return []
        there = self.ref.activation or engine.system.directory.activate(self.ref)
        if self.start_of.detached and not engine.has_ended(there):
            return []
        return [Replaced(engine, self.ref), *engine.starts.erase(there, writes, "it was begun anew")]

    def link(self) -> ParentLink:
        """Where the child's outcome goes."""
        run = self.run
        ref = run.activation.ref
        return ParentLink(run.type.number_bytes, ref.key_bytes, self.name, self.nth, run.generation)

    def decode_result(self, encoded: msgspec.Raw) -> object:
        """See `Op.decode_result`."""
        return self.start_of.kind.decode_output(encoded)

    def abandon(self) -> None:
        """run() gave it up, or ended: the child is asked to end, too."""
        super().abandon()
        run = self.run
        if not self.start_of.detached and not run.replaying and not run.dropped:
            run.engine.cancel_later(self.ref, self.link(), f"{run.activation.ref} gave it up")


class Replaced:
    """A run whose rows are erased in a write set that is staged at once."""

    __slots__ = ("_engine", "_ref")

    def __init__(self, engine: Engine, ref: Ref) -> None:
        self._engine = engine
        self._ref = ref

    def committed(self, number: int) -> None:
        """It is no more."""

    def failed(self) -> None:
        """It goes on as it was."""
        self._engine.again_later([self._ref])


def child_ref(run: LiveRun, start: ChildStart, nth: int) -> Ref:
    """Address of a child: its given id, or one made from the parent's."""
    system = run.engine.system
    if start.key is not None:
        return system.make_ref(start.kind, *normal_key(start.key, start.kind.name))
    key = run.activation.ref.key
    parts = key if isinstance(key, tuple) else (key,)
    generation = f".{run.generation}" if run.generation else ""
    made = (*parts, f"{start.kind.name}-{nth}{generation}")
    return system.make_ref(start.kind, *normal_key(made, start.kind.name))


def parent_of(engine: Engine, ref: Ref) -> ParentLink | None:
    """Whose child a run is; None when it isn't there, or nobody's."""
    activation = ref.activation or engine.system.directory.activate(ref)
    if not activation.stored:
        return None
    started = first_record(engine, activation)
    return started.parent


def has_ended(engine: Engine, ref: Ref) -> bool:
    """Whether a run that is there is over."""
    return engine.has_ended(ref.activation or engine.system.directory.activate(ref))


def first_record(engine: Engine, activation: Activation) -> StartedRecord:
    """How a run was started."""
    key = position_key(journal_prefix(activation.prefix(b"")), 0)
    stored = engine.system.store.get(key)
    [(_, record)] = decode_records([(key, stored or b"")], str(activation.ref))
    assert isinstance(record, StartedRecord), "always the first record"
    return record


def child_key(parent: Activation, child: Ref) -> bytes:
    """Where a parent notes a child that has not ended."""
    return parent.prefix(layout.CHILD) + child.type.number_bytes + child.key_bytes


def outcome_for_parent(link: ParentLink, ref: Ref, record: End) -> StepDone | StepFailed:
    """The end of a child as its parent records it."""
    if isinstance(record, Finished):
        return StepDone(record.at_ms, link.name, link.nth, 1, record.value)
    error = failure(ref, record)
    return StepFailed(record.at_ms, link.name, link.nth, 1, ErrorRecord("RunFailed", str(error)))


def tell_parent(
    engine: Engine, activation: Activation, link: ParentLink, record: End, writes: Writes
) -> Arrival | None:
    """Add the outcome of a child to its parent's journal, in the commit of the end.

    None when nobody waits for it.
    """
    parent = engine.system.ref_from_bytes(link.type, link.key)
    there = parent.activation or engine.system.directory.activate(parent)
    if not there.stored:
        return None
    writes[child_key(there, activation.ref)] = None
    if engine.has_ended(there):
        return None
    if engine.started_record(there).generation != link.generation:
        return None  # it has begun anew since
    run = engine.live(there)
    if run is not None and (link.name, link.nth) not in run.pending:
        return None  # given up
    return Arrival(engine, parent, (outcome_for_parent(link, activation.ref, record),), writes)


def children_of(engine: Engine, activation: Activation) -> list[Ref]:
    """Children of a run that have not ended and end with it."""
    if activation.number is None:
        return []
    prefix = activation.prefix(layout.CHILD)
    rows = engine.system.store.scan_prefix(prefix)
    return [
        engine.system.ref_from_bytes(key[len(prefix) : len(prefix) + 2], key[len(prefix) + 2 :])
        for key, _ in rows
    ]
