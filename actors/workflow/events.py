"""Events of a run: what was sent to it and not waited for yet, and the waits that nothing was sent for yet.

    send -> record in the journal -> delivered -> the first wait for its name, else kept until one comes

The record of the arrival is all that is stored.  Which wait gets it follows from the order of the journal and
from what `run()` asked for, so it is the same on replay.

Promises
  * Events of a name are consumed in the order in which they arrived, each by one wait.
  * A wait that timed out or was given up takes no event.
"""

from __future__ import annotations

from collections import deque
from dataclasses import is_dataclass
from datetime import datetime
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, get_args

import msgspec

from ...runtime.clock import moment
from ...runtime.codec import BAD_VALUE, ENCODER, decode_plain, reason
from ..errors import InvalidEvent
from .journal import EventArrived
from .replay_loop import ReplayFuture

if TYPE_CHECKING:
    from .replay_loop import ReplayLoop, ReplayTimer

Payload_co = TypeVar("Payload_co", covariant=True)

MAX_EVENT_NAME_CHARACTERS: Final = 100
MAX_EVENT_BYTES: Final = 1 << 20
MAX_EVENT_ID_CHARACTERS: Final = 200
# It is part of a key on disk, which has at most 511 bytes.
MAX_EVENT_ID_BYTES: Final = 400


class Event(msgspec.Struct, Generic[Payload_co], frozen=True):
    """An event as `wait_event` gives it."""

    name: str
    payload: Payload_co
    at: datetime
    """When it was accepted."""
    user: str | None = None
    tenant: str | None = None
    id: str | None = None
    """What the sender gave against doubles."""


class EventKinds:
    """What one wait takes: names, and the types that their payloads have."""

    __slots__ = ("decoders", "shown")

    def __init__(self, kinds: tuple[object, ...], where: object) -> None:
        """Raises `InvalidEvent` for anything but types, unions of them, and names."""
        self.decoders: dict[str, type | None] = {}
        for kind in kinds:
            for one in get_args(kind) if isinstance(kind, UnionType) else (kind,):
                if isinstance(one, str):
                    self.decoders[check_event_name(one)] = None
                elif isinstance(one, type):
                    self.decoders[event_name(one)] = one
                else:
                    raise InvalidEvent(
                        f"{where}: a wait takes types of events, a union of them, or names; got {one!r}"
                    )
        if not self.decoders:
            raise InvalidEvent(f"{where}: a wait needs at least one type of event, or a name")
        self.shown = " or ".join(self.decoders)

    def open(self, record: EventArrived) -> Event[object]:
        """The event of a record; raises `InvalidEvent` when its payload doesn't fit the type."""
        kind = self.decoders[record.name]
        try:
            payload: object
            if kind is None:
                payload = decode_plain(record.payload)
            else:
                payload = cast("object", msgspec.msgpack.decode(record.payload, type=kind))
        except BAD_VALUE as error:
            raise InvalidEvent(
                f"the payload of event {record.name!r} doesn't fit {kind}: {reason(error)}"
            ) from error
        return Event(record.name, payload, moment(record.at_ms), record.user, record.tenant, record.id)


class EventWait(ReplayFuture[Any]):
    """A wait of `run()`; its result is the event, or only the payload."""

    __slots__ = ("box", "kinds", "timer", "whole")

    box: EventBox
    kinds: EventKinds
    whole: bool
    timer: ReplayTimer | None

    def cancel(self, msg: object | None = None) -> bool:
        """Give the wait up; False when it is done."""
        if not super().cancel(msg):
            return False
        self.box.given_up(self)
        return True


class EventBox:
    """The events and the waits of one run in memory."""

    __slots__ = ("_count", "_early", "_waits")

    def __init__(self) -> None:
        # By name, with the how-manyth event of the run it was: a wait for several names takes the oldest.
        self._early: dict[str, deque[tuple[int, EventArrived]]] = {}
        self._count = 0
        self._waits: list[EventWait] = []

    @property
    def waits(self) -> list[EventWait]:
        """Waits that nothing came for yet, in order."""
        return self._waits

    def early_names(self) -> list[str]:
        """Names of the events that nobody waited for yet, one for each event, in order."""
        early = [(nth, name) for name, events in self._early.items() for nth, _ in events]
        return [name for _, name in sorted(early)]

    def early(self) -> list[EventArrived]:
        """The events that nobody waited for yet, in order."""
        early = [one for events in self._early.values() for one in events]
        return [event for _, event in sorted(early, key=lambda one: one[0])]

    def wait(
        self, loop: ReplayLoop, kinds: EventKinds, timeout_seconds: float | None, whole: bool
    ) -> EventWait:
        """A future of the next event of these kinds; it may be done at once."""
        wait = EventWait(loop=loop)
        wait.box, wait.kinds, wait.whole, wait.timer = self, kinds, whole, None
        found = [(self._early[name][0][0], name) for name in kinds.decoders if name in self._early]
        if found:
            name = min(found)[1]
            events = self._early[name]
            _, record = events.popleft()
            if not events:
                del self._early[name]
            _give(wait, record)
            return wait
        if timeout_seconds is not None:
            wait.timer = loop.call_later(timeout_seconds, self._timed_out, wait, timeout_seconds)
        self._waits.append(wait)
        return wait

    def arrived(self, record: EventArrived) -> None:
        """An event is delivered: to the first wait for it, else it is kept."""
        self._count += 1
        for wait in self._waits:
            if record.name in wait.kinds.decoders:
                self.given_up(wait)
                _give(wait, record)
                return
        self._early.setdefault(record.name, deque()).append((self._count, record))

    def clear(self) -> None:
        """The run leaves memory."""
        self._waits.clear()
        self._early.clear()

    def given_up(self, wait: EventWait) -> None:
        """A wait takes no event any more."""
        if wait in self._waits:
            self._waits.remove(wait)
        if wait.timer is not None:
            wait.timer.cancel()
            wait.timer = None

    def _timed_out(self, wait: EventWait, seconds: float) -> None:
        wait.timer = None
        if not wait.done():
            self.given_up(wait)
            wait.set_exception(TimeoutError(f"no {wait.kinds.shown} came within {seconds:g} s"))


def _give(wait: EventWait, record: EventArrived) -> None:
    try:
        event = wait.kinds.open(record)
    except InvalidEvent as error:
        wait.set_exception(error)
        return
    wait.set_result(event if wait.whole else event.payload)


def event_name(kind: type) -> str:
    """The name of the events of a type."""
    return kind.__name__


def check_event_name(name: object) -> str:
    """The name of an event; raises `InvalidEvent` when it can't be one."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_EVENT_NAME_CHARACTERS or not name.isprintable():
        raise InvalidEvent(
            f"the name of an event must have 1 to {MAX_EVENT_NAME_CHARACTERS} printable characters; "
            f"got {name!r:.200}"
        )
    return name


def check_event_id(id_: object) -> str:
    """The id of an event; raises `InvalidEvent` when it can't be one."""
    if (
        not isinstance(id_, str)
        or not 0 < len(id_) <= MAX_EVENT_ID_CHARACTERS
        or not id_.isprintable()
        or len(id_.encode()) > MAX_EVENT_ID_BYTES
    ):
        raise InvalidEvent(
            f"the id of an event must have 1 to {MAX_EVENT_ID_CHARACTERS} printable characters, and at most "
            f"{MAX_EVENT_ID_BYTES} bytes; got {id_!r:.200}"
        )
    return id_


# What is sent when a name was forgotten; no wait takes such events.
_NO_EVENTS: Final = (type(None), dict, list, tuple, set, frozenset)


def encode_event(event: object, payload: object) -> tuple[str, bytes]:
    """Name and stored payload of what is sent: an instance of an event type, or a name with a payload.

    Raises `InvalidEvent`.
    """
    if isinstance(event, str):
        name = check_event_name(event)
        value = None if payload is msgspec.UNSET else payload
    elif isinstance(event, type) or payload is not msgspec.UNSET or isinstance(event, _NO_EVENTS):
        raise InvalidEvent(
            f"send takes an instance of an event type, or a name and a payload; got {event!r:.200}"
        )
    else:
        name, value = event_name(type(event)), event
    try:
        encoded = ENCODER.encode(value)
        if isinstance(event, str):
            decode_plain(encoded)
        else:
            msgspec.msgpack.decode(encoded, type=type(event))
    except BAD_VALUE as error:
        raise InvalidEvent(f"the payload of event {name!r} is not right: {reason(error)}") from error
    if len(encoded) > MAX_EVENT_BYTES:
        raise InvalidEvent(
            f"the payload of event {name!r} takes {len(encoded)} bytes; at most {MAX_EVENT_BYTES} are allowed"
        )
    return name, encoded


class DeclaredEvents:
    """The events that a workflow takes, by name.

    What the class declares in `events`, and nothing else.  Without a declaration any name is taken; where the
    class's code names a type of that name, the payload must fit it.
    """

    __slots__ = ("_strict", "types")

    def __init__(self, declared: object, workflow: type) -> None:
        """`declared` is the class's `events`; raises `InvalidEvent` when it is not right."""
        self._strict = declared is not None
        if declared is None:
            self.types: dict[str, type | None] = {
                event_name(kind): kind for kind in _types_named_in(workflow)
            }
        else:
            kinds = cast("tuple[object, ...]", declared if isinstance(declared, tuple) else (declared,))
            self.types = EventKinds(kinds, f"{workflow.__name__}.events").decoders

    def check(self, name: str, payload: bytes, ref: object) -> None:
        """Raise `InvalidEvent` when the workflow takes no such event."""
        kind = self.types.get(name)
        if kind is None:
            if self._strict and name not in self.types:
                raise InvalidEvent(
                    f"{ref} takes no event {name!r}; it takes {', '.join(sorted(self.types)) or 'none'}"
                )
            return
        try:
            msgspec.msgpack.decode(payload, type=kind)
        except BAD_VALUE as error:
            raise InvalidEvent(
                f"the payload of event {name!r} to {ref} doesn't fit {kind.__name__}: {reason(error)}"
            ) from error


def _is_record(kind: type[object]) -> bool:
    return issubclass(kind, msgspec.Struct) or is_dataclass(kind)


def _types_named_in(workflow: type) -> list[type]:
    """Types of the module that code of a workflow names, where it waits for events at all."""
    found: list[type] = []
    for base in workflow.__mro__:
        if base.__module__ == __package__ or base.__module__.startswith("holdfast."):
            continue
        for method in vars(base).values():
            code = getattr(method, "__code__", None)
            if code is None or not ({"wait", "wait_event"} & set(code.co_names)):
                continue
            known: dict[str, object] = method.__globals__
            for name in code.co_names:
                named = known.get(name)
                for kind in get_args(named) if isinstance(named, UnionType) else (named,):
                    if isinstance(kind, type) and _is_record(cast("type[object]", kind)):
                        found.append(cast("type[object]", kind))
    return found
