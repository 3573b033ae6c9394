"""What `run()` says without waiting for anything: progress events, its business state, data and tags.

It joins the commit of the outcome that led to it, else it is a commit by itself before anything new begins.
Each kind is counted: on replay `run()` says the same again, and what is on disk already is not written twice.

Promises
  * What was said is durable before a step that was asked for later begins.
  * It is there exactly once, whatever crashes come in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Final, cast

import msgspec

from ...runtime.chain import CALLER
from ...runtime.codec import BAD_VALUE, decode_plain, encode, reason
from ...storage import layout
from ...storage.errors import CallerError, InvalidKey, InvalidValue
from ...storage.keys import next_prefix
from ..errors import InvalidTransition
from .journal import DataSet, Redriven, Said, StateSet, TagSet
from .labels import MAX_TAGS, NO_LABELS, check_label, check_tag

if TYPE_CHECKING:
    from ...storage.group_commit import Writes
    from .live_run import LiveRun

MAX_DATA_BYTES: Final = 1 << 20
MAX_NAME_CHARACTERS: Final = 100
_NUMBER_BYTES: Final = 4


class StoredEmit(msgspec.Struct, array_like=True, frozen=True):
    """A progress event on disk, under its number."""

    at_ms: int
    name: str
    data: msgspec.Raw


encode_emit: Final = msgspec.msgpack.Encoder().encode
decode_emit: Final = msgspec.msgpack.Decoder(StoredEmit).decode


class Saying:
    """What one run in memory says."""

    __slots__ = (
        "_emitted",
        "_recorded",
        "_run",
        "_stored_emits",
        "data",
        "emits",
        "records",
        "state",
        "tags",
    )

    def __init__(self, run: LiveRun, recorded: dict[type, int]) -> None:
        """`recorded` tells how often each kind is in the journal."""
        self._run = run
        self._recorded = dict(recorded)
        self._stored_emits: int | None = None
        # So many progress events were emitted by this run() so far, and before it continued as new.
        self._emitted = run.started.emitted
        # Not staged yet: records of the journal, and progress events with their numbers.
        self.records: list[Said] = []
        self.emits: list[tuple[int, StoredEmit]] = []
        self.state: str | None = run.started.state
        self.data = RunData(self)
        self.tags = RunTags(self)

    @property
    def is_silent(self) -> bool:
        """Nothing waits to be staged."""
        return not self.records and not self.emits

    @property
    def emitted(self) -> int:
        """So many progress events were emitted so far."""
        return self._emitted

    def emit(self, name: str, data: object) -> None:
        """See `Workflow.emit`."""
        run = self._run
        _check_name(name, f"{run.activation.ref}: the name of a progress event")
        encoded = encode(data, f"{run.activation.ref}: the data of progress event {name!r}")
        _check_plain(encoded, f"{run.activation.ref}: the data of progress event {name!r}")
        if self._stored_emits is None:
            self._stored_emits = self._count_stored()
        self._emitted += 1
        if self._emitted > self._stored_emits:
            emit = StoredEmit(run.loop.now_ms, name, msgspec.Raw(encoded))
            self.emits.append((self._emitted, emit))

    def _count_stored(self) -> int:
        run = self._run
        prefix = run.activation.base + layout.EMITTED
        last = run.engine.system.store.scan(prefix, next_prefix(prefix), reverse=True, limit=1)
        return int.from_bytes(last[0][0][-_NUMBER_BYTES:], "big") if last else 0

    def set_state(self, state: str) -> None:
        """See `Workflow.set_status`."""
        run = self._run
        check_label(state, f"{run.activation.ref}: a state")
        allowed = run.type.states
        if allowed is not None:
            following = allowed.get("" if self.state is None else self.state, ())
            if state not in following:
                known = ", ".join(following) or "nothing"
                raise InvalidTransition(
                    f"{run.activation.ref}: after {self.state or 'the start'!r} its `states` allow {known}; "
                    f"got {state!r}"
                )
        self.state = state
        self.say(StateSet(run.loop.now_ms, state))

    def say(self, record: Said) -> None:
        """Record it with what is recorded next, unless it is a repetition."""
        kind = type(record)
        recorded = self._recorded.get(kind, 0)
        if recorded:
            self._recorded[kind] = recorded - 1
        else:
            self.records.append(record)

    def now_ms(self) -> int:
        """The time for a record."""
        return self._run.loop.now_ms

    def where_run_is(self) -> str:
        """The run, for messages; raises `CallerError` for whoever isn't `run()` or an update of it.

        What a query or a step's body would set isn't set on replay.
        """
        ref = self._run.activation.ref
        if CALLER.get() is not self._run:
            raise CallerError(
                f"{ref}: data and tags are set by run() and by updates, not in a step, a query or a validator"
            )
        return str(ref)

    def write(self, writes: Writes) -> None:
        """Add all that was said to a write set that is staged at once."""
        run = self._run
        records, self.records = self.records, []
        emits, self.emits = self.emits, []
        for record in records:
            run.add_record(record, writes)
        for number, emit in emits:
            writes[emit_key(run.activation.base, number)] = encode_emit(emit)
        if any(not isinstance(record, DataSet) for record in records):
            head = run.workflow.head
            labels = msgspec.structs.replace(
                head.labels or NO_LABELS, state=self.state, tags=dict(self.tags.items())
            )
            run.workflow.head = msgspec.structs.replace(head, labels=labels, updated_ms=run.now_ms())
            run.activation.stage_fields(writes)
        if emits:
            run.engine.progress.said(run)


class RunData(MutableMapping[str, object]):
    """`self.data`: business data of a run, by name; plain values that are stored as they are set."""

    __slots__ = ("_saying", "_values")

    def __init__(self, saying: Saying) -> None:
        self._saying = saying
        self._values: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> object:
        """A copy of the value; raises `KeyError`."""
        return decode_plain(self._values[name])

    def __setitem__(self, name: str, value: object) -> None:
        """Raises `InvalidKey` or `InvalidValue`."""
        where = self._saying.where_run_is()
        _check_name(name, f"{where}: the name of data")
        encoded = encode(value, f"{where}: data {name!r}")
        _check_plain(encoded, f"{where}: data {name!r}")
        self._values[name] = encoded
        self._saying.say(DataSet(self._saying.now_ms(), name, encoded))

    def __delitem__(self, name: str) -> None:
        self._saying.where_run_is()
        del self._values[name]
        self._saying.say(DataSet(self._saying.now_ms(), name, None))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(dict(self))


class RunTags(MutableMapping[str, str]):
    """`self.tags`: names with values that a run is found by."""

    __slots__ = ("_saying", "_values")

    def __init__(self, saying: Saying) -> None:
        self._saying = saying
        self._values: dict[str, str] = {}

    def begin(self, tags: dict[str, str]) -> None:
        """What the run was started with."""
        self._values = dict(tags)

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    def __setitem__(self, name: str, value: str) -> None:
        """Raises `InvalidValue`."""
        where = self._saying.where_run_is()
        check_tag(name, value, f"{where}: ")
        if name not in self._values and len(self._values) >= MAX_TAGS:
            raise InvalidValue(f"{where}: a run has at most {MAX_TAGS} tags")
        self._values[name] = value
        self._saying.say(TagSet(self._saying.now_ms(), name, value))

    def __delitem__(self, name: str) -> None:
        self._saying.where_run_is()
        del self._values[name]
        self._saying.say(TagSet(self._saying.now_ms(), name, None))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


def emit_key(base: bytes, number: int) -> bytes:
    """Where the progress event with a number lies; `base` is the run's own."""
    return base + layout.EMITTED + number.to_bytes(_NUMBER_BYTES, "big")


def emit_number(key: bytes) -> int:
    """The number in such a key."""
    return int.from_bytes(key[-_NUMBER_BYTES:], "big")


def data_of(records: Iterable[object]) -> dict[str, object]:
    """The data of a run as its journal has it."""
    data: dict[str, object] = {}
    for record in records:
        if isinstance(record, DataSet):
            if record.value is None:
                data.pop(record.name, None)
            else:
                data[record.name] = decode_plain(record.value)
        elif isinstance(record, Redriven) and record.input is not None:
            data.clear()  # it is said again, or not
    return data


def check_states(states: object, workflow: str) -> dict[str, tuple[str, ...]] | None:
    """A class's `states`: for each state those that may follow, for "" the first ones.

    Raises `CallerError`.
    """
    if states is None:
        return None
    wrong = CallerError(
        f"{workflow}.states maps each state to a tuple of those that may follow, and '' to the first ones; "
        f"got {states!r:.200}"
    )
    if not isinstance(states, dict):
        raise wrong
    checked: dict[str, tuple[str, ...]] = {}
    for state, following in cast("dict[object, object]", states).items():
        if not isinstance(state, str) or not isinstance(following, (tuple, list)):
            raise wrong
        every = cast("tuple[object, ...]", following)
        checked[state] = tuple(check_label(one, f"{workflow}.states: a state") for one in every)
    if "" not in checked:
        raise wrong
    return checked


def _check_name(name: object, what: str) -> None:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise InvalidKey(
            f"{what} must have 1 to {MAX_NAME_CHARACTERS} printable characters; got {name!r:.200}"
        )


def _check_plain(encoded: bytes, what: str) -> None:
    """Read without its type, as it will be, it must make sense: the keys of a dict can't be structs."""
    try:
        decode_plain(encoded)
    except BAD_VALUE as error:
        raise InvalidValue(f"{what} can't be read again as plain values: {reason(error)}") from error
    if len(encoded) > MAX_DATA_BYTES:
        raise InvalidValue(f"{what} takes {len(encoded)} bytes; at most {MAX_DATA_BYTES} are allowed")
