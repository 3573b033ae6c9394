"""A hub: topics whose messages are numbered, kept for late joiners, and sent to whoever is connected.

    publish -> turn: number and message, one commit -> durable -> frame to every socket of the topic

Promises
  * P3: no client sees a message before it is durable; what a turn that failed published is never seen.
  * Messages of a topic have the numbers 1, 2, 3 ... without gaps, and reach each client in that order.
  * A client that connects again with the number of its last message gets every message once, over a loss of
    the connection, the hub's leaving memory and the death of the process, as long as it comes back before
    `keep` others were published (else it is told which it missed).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, cast

import msgspec

from ...runtime.activation import ReadOnlyActivation
from ...runtime.actor import Actor
from ...runtime.actor_storage import ActorStorage
from ...runtime.chain import after_commit
from ...runtime.clock import moment
from ...runtime.durations import Duration, to_seconds
from ...runtime.errors import InvalidActor
from ...runtime.methods import HOOKS, MethodPlan, shared
from ...storage.errors import CallerError, StorageFailed
from ..errors import TopicNotFound
from .frames import HubMessage, message_frame, text_frame
from .hub_socket import HubSocket, check_close

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...runtime.ref import Ref
    from .sockets import Sockets

MAX_TOPIC_BYTES: Final = 200
MAX_KEEP: Final = 10_000
_STATE: Final = "topic"
_MESSAGE: Final = "message"
_TRIM: Final = 4


class TopicInfo(msgspec.Struct, frozen=True):
    """What is known of a topic."""

    topic: str
    number: int
    """Of its last message."""
    kept: int
    """Messages that are kept: those with the last numbers."""
    open_sockets: int
    """Clients of this process that are subscribed."""


class _StoredMessage(msgspec.Struct, frozen=True, array_like=True):
    at_ms: int
    data: object


class HasSockets(Protocol):
    """The runtime, as far as hubs know it."""

    sockets: Sockets


class WebSocketHub(Actor):
    """A hub by key: `rt.get(WebSocketHub, "jobs")`.

    Class options
      keep           messages of a topic that are kept
      keep_for       and for how long at most; None for ever
      auto_response  (what a client says, what it gets): answered without the hub, word for word; None for
                     none
      max_silence    a client that says nothing for so long is cut off with code 4009; None to let it be
                     silent.  (Whether the other end still lives is the transport's affair: servers send pings
                     for that.)
    """

    _holdfast_hooks: ClassVar[frozenset[str]] = HOOKS | {"on_connect", "on_disconnect", "on_message"}
    keep: ClassVar[int] = 100
    keep_for: ClassVar[Duration | None] = None
    auto_response: ClassVar[tuple[str, str] | None] = ("ping", "pong")
    max_silence: ClassVar[Duration | None] = None

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        known: object = cls.auto_response
        if known is not None and not _is_two_texts(known):
            raise InvalidActor(f"{cls.__name__}.auto_response must be two texts, or None; got {known!r}")
        for name in ("keep_for", "max_silence"):
            if (given := getattr(cls, name)) is not None:
                to_seconds(given, what=f"{cls.__name__}.{name}")
        if type(cls.keep) is not int or not 1 <= cls.keep <= MAX_KEEP:
            raise InvalidActor(
                f"{cls.__name__}.keep must be a whole number from 1 to {MAX_KEEP}; got {cls.keep!r}"
            )

    # -- messages --------------------------------------------------------------------------------------------

    async def publish(self, topic: str, data: object) -> int:
        """Send a message to all who are subscribed to a topic, and keep it; returns its number.

        `data` is what JSON has a form for.  Raises `CallerError` for a topic that is none, and
        `InvalidValue`.
        """
        check_topic(topic)
        runtime, storage = self.runtime, self.storage
        number = last_number(storage, topic) + 1
        at_ms = runtime.clock.now_ms()
        frame = message_frame(topic, number, moment(at_ms), data)
        storage.put((_STATE, topic), number)
        storage.put((_MESSAGE, topic, number), _StoredMessage(at_ms, data), ttl=self.keep_for)
        if number > self.keep:
            # A few more than one, for the case that more were kept before.
            first_kept = (_MESSAGE, topic, number - self.keep + 1)
            for key in list(storage.list((_MESSAGE, topic), end=first_kept, limit=_TRIM)):
                storage.delete(key)
        self._when_durable(partial(self._sockets().deliver, self._activation.ref, topic, number, frame))
        return number

    @shared
    async def latest(self, topic: str) -> HubMessage:
        """The last message of a topic; raises `TopicNotFound` when none is kept."""
        check_topic(topic)
        number = last_number(self.storage, topic)
        found = messages_behind(self.storage, topic, number - 1, 1) if number else []
        if not found:
            raise TopicNotFound(f"{self._activation.ref} keeps no message on topic {topic!r}")
        return found[0]

    @shared
    async def since(self, topic: str, number: int = 0, limit: int = 100) -> list[HubMessage]:
        """Messages of a topic behind a number that are kept, oldest first."""
        check_topic(topic)
        check_number(number)
        oldest = last_number(self.storage, topic) - self.keep
        return messages_behind(self.storage, topic, max(number, oldest), limit)

    @shared
    async def topics(self, prefix: str = "", limit: int = 100) -> list[TopicInfo]:
        """Topics that begin so, in the order of their names."""
        found: list[TopicInfo] = []
        start = (_STATE, prefix) if prefix else None
        for key, number in self.storage.list((_STATE,), type=int, start=start, limit=limit).items():
            topic = cast("tuple[str, str]", key)[1]
            if not topic.startswith(prefix):
                break
            first = messages_behind(self.storage, topic, max(0, number - self.keep), 1)
            kept = number - first[0].number + 1 if first else 0
            found.append(
                TopicInfo(topic, number, kept, self._sockets().subscribed(self._activation.ref, topic))
            )
        return found

    async def clear_topic(self, topic: str) -> None:
        """Delete the messages of a topic.

        Its numbers go on, so that nobody takes a new one for one that it has.
        """
        check_topic(topic)
        storage = self.storage
        for key in list(storage.list((_MESSAGE, topic))):
            storage.delete(key)

    # -- sockets ---------------------------------------------------------------------------------------------

    async def on_connect(self, socket: HubSocket) -> None:
        """Called when a client has connected; a turn.

        A `PermissionError` or a `CallerError` refuses the client with its text; anything else that it raises
        is logged, and the client refused.
        """

    async def on_message(self, socket: HubSocket, data: str | bytes) -> None:
        """Called when a client says something; a turn.  One after the other for each client, in order."""

    async def on_disconnect(self, socket: HubSocket, code: int, reason: str, clean: bool) -> None:
        """Called once when a client is gone that `on_connect` let in; a turn.  Not when the process dies.

        `clean` says that one of both sides closed it with a code; else it has vanished (1005 or 1006), or
        closed without a word.
        """

    def open_sockets(self, *, tag: str | None = None, user: str | None = None) -> list[HubSocket]:
        """The clients that are connected, all or those with a tag, or of a user."""
        return [
            one
            for one in self._sockets().of_hub(self._activation.ref)
            if one.is_open and (tag is None or tag in one.tags) and (user is None or one.user == user)
        ]

    def send(self, socket: HubSocket, text: str) -> None:
        """Send a text to one client when this turn is durable, in the order of the turns that sent it."""
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CallerError(f"a hub sends texts; got {text!r}")
        self._when_durable(partial(socket.put, text_frame(text)))

    def close_socket(self, socket: HubSocket, code: int = 1000, reason: str = "") -> None:
        """Close a connection when this turn is durable, behind what the turn sent."""
        check_close(code, reason)
        self._when_durable(partial(socket.close, code, reason))

    # -- helpers ---------------------------------------------------------------------------------------------

    def _sockets(self) -> Sockets:
        return cast("HasSockets", self.runtime).sockets

    def _when_durable(self, act: Callable[[], None]) -> None:
        """Do something when this turn, and all that it rests on, is durable; never if it isn't kept."""
        store = self.runtime.store

        def decided(failure: StorageFailed | None) -> None:
            if failure is None:
                act()

        after_commit(self._activation.current_turn(), lambda number: store.on_durable(number, decided))


class _DurableView(ReadOnlyActivation):
    """A hub as it is on disk, for who must not see what is only staged."""

    __slots__ = ()

    def read(self, key: bytes) -> bytes | None:
        return self.system.store.get_durable(key)

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]:
        return self.system.store.scan(start, end, reverse=reverse, limit=limit, durable_only=True)


def durable_storage(hub: Ref) -> ActorStorage:
    """The storage of a hub as it is durable; outside of its turns."""
    return _DurableView(hub.activation or hub.system.directory.activate(hub)).storage


def last_number(storage: ActorStorage, topic: str) -> int:
    """The number of the last message of a topic; 0 when there was none."""
    return storage.get((_STATE, topic), int) or 0


def messages_behind(
    storage: ActorStorage, topic: str, number: int, limit: int = MAX_KEEP
) -> list[HubMessage]:
    """Messages of a topic behind a number, as far as they are kept."""
    rows = storage.list(
        (_MESSAGE, topic), type=_StoredMessage, start_after=(_MESSAGE, topic, number), limit=limit
    )
    return [
        HubMessage(topic, cast("tuple[str, str, int]", key)[2], moment(row.at_ms), row.data)
        for key, row in rows.items()
    ]


def _is_two_texts(given: object) -> bool:
    return isinstance(given, tuple) and [type(one) for one in cast("tuple[object, ...]", given)] == [str, str]


def check_topic(given: object) -> None:
    """Raise `CallerError` for what is no topic."""
    if (
        not isinstance(given, str)
        or not given.isprintable()
        or not 0 < len(given.encode()) <= MAX_TOPIC_BYTES
    ):
        raise CallerError(f"a topic is a printable text of 1 to {MAX_TOPIC_BYTES} bytes; got {given!r}")


def check_number(given: object) -> None:
    """Raise `CallerError` for what is no number of a message."""
    if type(given) is not int or given < 0:
        raise CallerError(f"a message's number is a whole number, 0 for none yet; got {given!r}")


async def _nothing(hub: WebSocketHub) -> None:
    """Stands for the work of a turn: a plan is made of a function, and given another one for each turn."""


_turn_plan = MethodPlan(WebSocketHub, "socket", _nothing)


class HubWork(Protocol):
    """Work that the library itself does in a turn of a hub."""

    async def __call__(self, hub: WebSocketHub, /) -> None: ...


def turn_plan(work: HubWork) -> MethodPlan:
    """A method plan that no ref offers: its turn does `work`, and nothing passes through the codec."""
    return _turn_plan.with_function(work)
