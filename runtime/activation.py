"""An activation: one actor in memory, its mailbox, its turn, and how a turn ends.

Steps 2 to 5 of a call.  There is at most one activation of a key; the directory holds it.

    idle --take--> busy --turn ends, nobody waits--> idle --evicted--> gone
                     \\--turn ends, somebody waits--> busy (handed over)
    any  --a commit it rests on failed--> gone

Promises
  * P1: all that a turn wrote is staged as one, or nothing is and the fields are what they were.
  * P2: one turn at a time, in order of arrival.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from ..storage import layout
from ..storage.errors import HoldfastError, Overloaded, StorageFailed
from ..storage.group_commit import Writes
from ..storage.keys import encode_number
from .actor import Actor, activation_of, set_activation, unset_activation
from .actor_storage import ActorStorage
from .alarms import Alarms
from .chain import CALLER, Turn
from .errors import NotRunning, SharedWriteError, TurnOver, TurnPoisoned
from .large_writes import LARGE_VALUE_BYTES

if TYPE_CHECKING:
    from .actor_type import ActorType
    from .ref import Ref
    from .system import ActorSystem


class Activation:
    """One live actor."""

    __slots__ = (
        "__weakref__", "_alarms", "_index_keys", "_storage", "_view", "base", "busy", "dep", "encoded",
        "fields_key", "gone", "instance", "leaving", "mailbox", "more_refs", "number", "pins", "ready",
        "ref", "running_shared", "stored", "system", "tick", "turn", "type", "wrote_large",
    )  # fmt: skip

    def __init__(self, system: ActorSystem, ref: Ref) -> None:
        """Load the actor from disk (or make a new one); raises what the class's `__init__` raises."""
        self.system = system
        self.ref = ref
        self.type = ref.type
        # The newest commit that the state in memory rests on.
        self.dep = system.directory.floor
        self.turn: Turn | None = None
        # True while somebody owns the actor: a turn runs, or was promised to the waiter it was handed to.
        self.busy = False
        # Made when the first call has to wait: an empty one would be a tenth of what an idle actor takes.
        self.mailbox: deque[asyncio.Future[None]] | None = None
        # A layer above needs it in memory (a run in progress).
        self.pins = 0
        self.running_shared = 0
        # The turn that runs wrote a large value; see large_writes.py.
        self.wrote_large = False
        self.gone = False
        # Its `on_evict` was ordered.
        self.leaving = False
        # Refs beside `ref` that were made while nothing was in memory.
        self.more_refs: list[Ref] | None = None
        self.tick = system.tick
        self._storage: ActorStorage | None = None
        self._alarms: Alarms | None = None
        self._view: Actor | None = None
        self._index_keys: tuple[bytes, ...] = ()
        found = system.store.get(ref.directory_key)
        # The compact integer of the address, given with the first write.
        self.number: int | None = None if found is None else int.from_bytes(found[1:], "big")
        self.stored = found is not None
        self.base = b"" if found is None else layout.DATA + found
        self.fields_key = self.base + layout.FIELDS
        self.encoded: bytes | None = None  # the fields as last staged; None for a new actor
        if self.number is not None and self.type.fields.names:
            self.encoded = system.store.get(self.fields_key)
        self._make_instance()
        if self.encoded is not None and self.type.fields.indexes:
            self._index_keys = self._current_index_keys()

    def _make_instance(self) -> None:
        kind = self.type
        # False until `on_activate` ran, where the class has one.
        self.ready = not kind.has_on_activate
        self.instance: Actor = kind.actor_class.__new__(kind.actor_class)
        set_activation(self.instance, self)
        self._restore()
        if kind.has_init:
            self.instance.__init__()  # type: ignore[misc]

    def renew(self) -> None:
        """Make a new instance in place of the one that was used; nothing of it may be in use."""
        self._view = None
        self._make_instance()

    def _restore(self) -> None:
        if self.encoded is None:
            self.type.fields.set_defaults(self.instance)
        else:
            self.type.fields.restore(self.instance, self.encoded, str(self.ref))

    # -- the mailbox ----------------------------------------------------------------------------------------

    async def wait_turn(self) -> None:
        """Wait in the mailbox until the actor is handed over.

        Raises `Overloaded` when the mailbox is full.
        """
        limit = self.system.limits.max_mailbox
        if self.mailbox is None:
            self.mailbox = deque()
        elif len(self.mailbox) >= limit:
            self.system.counts.mailbox_refused += 1
            raise Overloaded(
                f"the mailbox of {self.ref} holds max_mailbox={limit} waiting calls; try again later"
            )
        future = self.system.loop.create_future()
        self.mailbox.append(future)
        self.system.counts.mailbox_waits += 1
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.hand_over()  # it was ours already
            elif future in self.mailbox:
                self.mailbox.remove(future)
            raise

    def when_free(self) -> asyncio.Future[None]:
        """A future that is done once all turns that run or wait now have ended."""
        future = self.system.loop.create_future()
        future.add_done_callback(self._hand_on)
        if self.mailbox is None:
            self.mailbox = deque()
        self.mailbox.append(future)
        return future

    def _hand_on(self, future: asyncio.Future[None]) -> None:
        if not future.cancelled():
            self.hand_over()

    def hand_over(self) -> None:
        """Give the actor to the next who waits, or make it idle."""
        while self.mailbox:
            future = self.mailbox.popleft()
            if not future.done():
                self.busy = True
                future.set_result(None)
                return
        self.busy = False

    # -- a turn ---------------------------------------------------------------------------------------------

    def end_turn(self, turn: Turn) -> None:
        """Stage all that the turn wrote as one write set.

        Raises when that can't be, and then nothing was staged.
        """
        if turn.poison is not None:
            raise TurnPoisoned(
                f"{turn}: two calls that joined it side by side changed it and one failed"
            ) from turn.poison
        if turn.joined:
            raise TurnOver(f"{turn}: calls that joined it still run; await every call that a turn makes")
        if self.gone or (self.system.failures and self.system.store.group_commit.failure(turn.dep)):
            raise self.refusal(turn)
        writes = turn.writes
        plan = self.type.fields
        encoded = self.encoded
        if plan.names:
            fresh = plan.encode(self.instance, turn)
            if fresh != encoded and (encoded is not None or writes or not self._is_default(fresh)):
                plan.check(fresh, turn)
                if self.number is None:
                    self._take_number()
                writes[self.fields_key] = encoded = fresh
        self._view = None
        index_keys = self._stage_indexes(writes) if plan.indexes and encoded is not self.encoded else None
        if turn.before_stage is not None:
            for add in turn.before_stage:
                add(writes)
        if writes:
            self.commit(writes, turn.after_commit, reserve=turn.reserve)
            self.encoded = encoded
            if index_keys is not None:
                self._index_keys = index_keys
        elif turn.after_commit is not None:
            for callback in turn.after_commit:
                callback(turn.dep)
        if turn.dep > self.dep:
            self.dep = turn.dep

    def commit(
        self,
        writes: Writes,
        after_commit: list[Callable[[int], None]] | None = None,
        *,
        reserve: bool = False,
    ) -> int:
        """Stage a write set of this actor's and return the number of its commit."""
        if not self.stored:
            self.claim_row(writes)
        store = self.system.store
        number = store.group_commit.stage(writes, bounded=False) if reserve else store.stage(writes)
        self.stored = True
        self.dep = number
        if after_commit is not None:
            for callback in after_commit:
                callback(number)
        return number

    def stage_fields(self, writes: Writes) -> None:
        """Add the fields (and their index entries) to a write set that is committed at once.

        For the layer above.

        If that commit can't be staged, the activation must be dropped: it counts the fields as staged.
        """
        fresh = self.type.fields.encode(self.instance, self.ref)
        if fresh == self.encoded:
            return
        if self.number is None:
            self._take_number()
        writes[self.fields_key] = self.encoded = fresh
        self._view = None
        if self.type.fields.indexes:
            self._index_keys = self._stage_indexes(writes)

    def claim_row(self, writes: Writes) -> None:
        """Add a new actor's row of the directory to a write set; for the layer above."""
        if self.number is None:
            self._take_number()
        writes[self.ref.directory_key] = self.base[1:]

    def roll_back(self, turn: Turn) -> None:
        """Put the fields back to their last staged values and forget what the turn wrote."""
        turn.writes.clear()
        if turn.after_rollback is not None:
            for callback in turn.after_rollback:
                callback()
        self._view = None
        if self.gone:
            return
        if turn.joined:
            # Calls that nobody awaited any more go on; they keep the instance, and the next turn gets a new
            # one.
            try:
                self._make_instance()
            except Exception:
                self.system.directory.drop(self)
        elif self.type.fields.names:
            self._restore()

    def refusal(self, turn: Turn) -> HoldfastError:
        """Why a turn of an activation that was dropped can't be kept."""
        if self.system.is_closed:
            return NotRunning(f"{turn}: the runtime was closed before the turn ended; nothing of it was kept")
        return StorageFailed(f"{turn}: a commit that it rests on failed, so it was undone; call again")

    def _is_default(self, fresh: bytes) -> bool:
        return fresh == self.type.default_record

    # -- what the actor's facades use -----------------------------------------------------------------------

    @property
    def storage(self) -> ActorStorage:
        """The actor's own keys and tables."""
        storage = self._storage
        if storage is None:
            storage = self._storage = ActorStorage(self)
        return storage

    @property
    def alarms(self) -> Alarms:
        """The actor's alarms."""
        alarms = self._alarms
        if alarms is None:
            alarms = self._alarms = Alarms(self)
        return alarms

    def overlay(self) -> Writes | None:
        """The write set of the turn that the calling code belongs to."""
        turn = self.turn
        if turn is None:
            return None
        caller = CALLER.get()
        return turn.writes if isinstance(caller, Turn) and caller.root is turn else None

    def current_turn(self) -> Turn:
        """The turn that the calling code belongs to; raises `TurnOver` when it has none (any more)."""
        turn = self.turn
        caller = CALLER.get()
        if turn is None or turn.over or not isinstance(caller, Turn) or caller.root is not turn:
            raise TurnOver(
                f"{self.ref}: code outside a turn of this actor tried to write; write in the method "
                f"itself and await all tasks that it starts"
            )
        return turn

    def read(self, key: bytes) -> bytes | None:
        """A full key with the calling turn's writes over what is staged over what is durable."""
        overlay = self.overlay()
        if overlay is not None and key in overlay:
            return overlay[key]
        return self.system.store.get(key)

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]:
        """A range of full keys, seen as `read` sees one."""
        return self.system.store.scan(start, end, reverse=reverse, limit=limit, extra=self.overlay())

    def write(self, key: bytes, value: bytes | None) -> None:
        """Put a full key into the calling turn's write set."""
        self.current_turn().writes[key] = value
        if value is not None and len(value) >= LARGE_VALUE_BYTES:
            self.wrote_large = True

    def prefix(self, kind: bytes) -> bytes:
        """What this actor's keys of a kind begin with.

        A new actor gets its number now (nothing is stored by that).
        """
        if self.number is None:
            self._take_number()
        return self.base + kind

    def owner(self) -> bytes:
        """The actor's number as it stands in keys shared with other actors."""
        return self.prefix(b"")[1:]

    def _take_number(self) -> None:
        store = self.system.store
        self.number = store.next_actor_number
        store.next_actor_number += 1
        self.base = layout.DATA + encode_number(self.number)
        self.fields_key = self.base + layout.FIELDS

    # -- shared methods -------------------------------------------------------------------------------------

    def view(self) -> Actor:
        """A copy of the actor with its last staged fields, for methods that only read.

        Kept until they change.
        """
        view = self._view
        if view is None:
            instance = self.instance
            view = type(instance).__new__(type(instance))
            view.__dict__.update(instance.__dict__)
            place = ReadOnlyActivation(self)
            set_activation(view, cast("Activation", place))
            plan = self.type.fields
            if self.encoded is None:
                plan.set_defaults(view)
            else:
                plan.restore(view, self.encoded, str(self.ref))
            place.expected = plan.encode(view, str(self.ref))
            self._view = view
        return view

    def check_view(self, view: Actor, method: str) -> None:
        """Raise `SharedWriteError` when a shared method changed its copy."""
        place = cast("ReadOnlyActivation", activation_of(view))
        if self.type.fields.names and self.type.fields.encode(view, f"{self.ref}.{method}") != place.expected:
            if self._view is view:
                self._view = None
            raise SharedWriteError(
                f"{self.ref}.{method} is @shared and changed a field; take the mark away or leave "
                f"the fields alone"
            )

    # -- indexes over declared fields -----------------------------------------------------------------------

    def _current_index_keys(self) -> tuple[bytes, ...]:
        return self.type.index_keys(self.instance, self.base[1:])

    @property
    def index_entries(self) -> tuple[bytes, ...]:
        """The entries of its fields in their indexes, as staged."""
        return self._index_keys

    def _stage_indexes(self, writes: Writes) -> tuple[bytes, ...]:
        fresh, before = self._current_index_keys(), self._index_keys
        if fresh != before:
            for old in before:
                if old not in fresh:
                    writes[old] = None
            for key in fresh:
                if key not in before:
                    writes[key] = self.ref.key_bytes
        return fresh

    # -- leaving memory -------------------------------------------------------------------------------------

    def evictable(self) -> bool:
        """Nobody needs it in memory, and all that it wrote is durable."""
        return (
            not self.busy and not self.pins and not self.mailbox and not self.running_shared
            and self.dep <= self.system.store.durable
        )  # fmt: skip

    def rests_on(self, first_commit: int) -> bool:
        """Whether its memory, or the turn that runs on it, rests on this commit or a later one."""
        return self.dep >= first_commit or (self.turn is not None and self.turn.dep >= first_commit)

    def drop(self) -> None:
        """Leave memory: nobody finds this activation any more, and those who wait look up a new one."""
        self.gone = True
        for ref in (self.ref, *(self.more_refs or ())):
            if ref.activation is self:
                ref.activation = None
        while self.mailbox:
            future = self.mailbox.popleft()
            if not future.done():
                future.set_result(None)
        if self.turn is None:
            # Break the rings, or dropped actors would lie about until the collector comes.
            self._storage = self._alarms = self._view = None
            unset_activation(self.instance)
        self.type.left_memory(self)


class ReadOnlyActivation:
    """What an actor's copy for shared methods has in place of the activation: reads, and refuses to write."""

    __slots__ = ("_activation", "alarms", "expected", "ref", "storage", "system")

    def __init__(self, activation: Activation) -> None:
        self._activation = activation
        self.ref = activation.ref
        self.system = activation.system
        self.storage = ActorStorage(self)
        self.alarms = Alarms(self)
        self.expected = b""  # the record that the copy must still have when a shared method ends

    @property
    def type(self) -> ActorType:
        return self._activation.type

    def read(self, key: bytes) -> bytes | None:
        return self.system.store.get(key)

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]:
        return self.system.store.scan(start, end, reverse=reverse, limit=limit)

    def write(self, key: bytes, value: bytes | None) -> None:
        raise SharedWriteError(f"{self.ref}: a @shared method may not write; take the mark away")

    def prefix(self, kind: bytes) -> bytes:
        return self._activation.prefix(kind)

    def owner(self) -> bytes:
        return self._activation.owner()

    def current_turn(self) -> Turn:
        raise SharedWriteError(f"{self.ref}: a @shared method may not write; take the mark away")
