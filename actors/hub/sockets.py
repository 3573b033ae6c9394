"""Who is connected to the hubs of one runtime, in this process.

The hub may leave memory while its clients stay: what stands here belongs to the connections.

    connect -> on_connect, a turn -> subscribed: what is kept, then what comes -> ... -> gone -> on_disconnect

Invariants
  * A socket is in the list of a topic exactly as long as it is open and subscribed.
  * What is kept is read, and the socket added to the list, without a wait in between; messages that are
    staged then are told when they are durable, like all later ones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, cast

from ...runtime.call import invoke
from ...runtime.durations import to_seconds
from ...runtime.errors import NotRunning
from ...runtime.ref import Ref
from ...storage.errors import CallerError, Overloaded
from ..ids import new_id
from .frames import begin_frame, gap_frame, message_frame, reset_frame
from .hub_socket import GOING_AWAY, MAX_TOPICS, TOO_SILENT, HubSocket
from .web_socket_hub import (
    HubWork,
    WebSocketHub,
    check_number,
    check_topic,
    durable_storage,
    last_number,
    messages_behind,
    turn_plan,
)

if TYPE_CHECKING:
    from ...runtime.system import ActorSystem

MAX_SOCKETS: Final = 32_768  # of one hub
_BROKEN: Final = 1011

_log = logging.getLogger("holdfast.hub")


class Sockets:
    """The connections of one runtime: `rt.sockets`."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        # By the hub's row in the directory, then by the socket's id.
        self._of_hub: dict[bytes, dict[str, HubSocket]] = {}
        self._of_topic: dict[tuple[bytes, str], dict[HubSocket, None]] = {}
        self._stopped = False

    @asynccontextmanager
    async def connect(
        self,
        hub: WebSocketHub,
        *,
        topics: Mapping[str, int | None] | None = None,
        user: str | None = None,
        tags: Iterable[str] = (),
    ) -> AsyncGenerator[HubSocket]:
        """A client is connected as long as the `async with` lasts.

        hub      the hub's ref: `rt.get(WebSocketHub, key)`
        topics   what it is subscribed to from the beginning, each with the number of the last message that
                 the client has, or None to begin with the next one
        user, tags   what `open_sockets` finds it by

        Raises what `on_connect` raised, `CallerError`, or `Overloaded` with more than `MAX_SOCKETS` clients.
        """
        ref = self._ref(hub)
        wanted = dict(topics or {})
        for topic, since in wanted.items():
            check_topic(topic)
            if since is not None:
                check_number(since)
        sockets = self._of_hub.setdefault(ref.directory_key, {})
        if len(sockets) >= MAX_SOCKETS:
            raise Overloaded(
                f"{ref} has {len(sockets)} clients, as many as MAX_SOCKETS allows; try again later"
            )
        socket = HubSocket(self, ref, new_id(), user, tags, self._system.clock.now_ms())
        sockets[socket.id] = socket
        try:
            await self._turn(ref, lambda hub: hub.on_connect(socket))
            # First those for which it is told a number: cut off then, it can come back with all of them.
            for topic, since in sorted(wanted.items(), key=lambda one: one[1] is not None):
                self.subscribe(socket, topic, since)
            silence = _class_of(ref).max_silence
            if silence is not None:
                self._expect(socket, to_seconds(silence, what="max_silence"))
        except BaseException:
            self._remove(socket)
            raise
        try:
            yield socket
        finally:
            self._remove(socket)
            # In a task of the runtime's: whoever served the client may be cancelled, over and over.
            await asyncio.shield(self._system.spawn(self._tell_end(socket), f"the end of socket {socket.id}"))

    def _ref(self, hub: WebSocketHub) -> Ref:
        self._system.check_open()
        if self._stopped:
            raise NotRunning("the runtime is closing; connect again later")
        given: object = hub  # a ref, for type checkers a hub
        if (
            not isinstance(given, Ref)
            or given.system is not self._system
            or not issubclass(given.type.actor_class, WebSocketHub)
        ):
            raise CallerError(f"expected a hub of this runtime, rt.get(WebSocketHub, key); got {given!r}")
        return given

    async def _tell_end(self, socket: HubSocket) -> None:
        code, reason, clean = socket.ending()
        try:
            await self._turn(socket.hub, lambda hub: hub.on_disconnect(socket, code, reason, clean))
        except NotRunning:
            pass  # the process ends with all its connections
        except Exception as error:
            _log.error("%s.on_disconnect failed", socket.hub, exc_info=error)

    async def _turn(self, hub: Ref, work: HubWork) -> None:
        await invoke(hub, turn_plan(work), (), {})

    # -- topics --------------------------------------------------------------------------------------------

    def subscribe(self, socket: HubSocket, topic: str, since: int | None) -> None:
        """See `HubSocket.subscribe`."""
        check_topic(topic)
        if not socket.is_open:
            return
        if topic not in socket.last and len(socket.last) >= MAX_TOPICS:
            raise CallerError(f"a socket is subscribed to at most {MAX_TOPICS} topics; {topic!r} is one more")
        storage = durable_storage(socket.hub)
        last = last_number(storage, topic)
        if since is None:
            since = last
            socket.put(begin_frame(topic, last))
        check_number(since)
        if since > last:
            socket.put(reset_frame(topic, last))
        else:
            expected = since + 1
            for one in messages_behind(storage, topic, since):
                if one.number > expected:
                    socket.put(gap_frame(topic, expected, one.number - 1))
                socket.put(
                    message_frame(topic, one.number, round(one.at.timestamp() * 1000), one.data),
                    bounded=False,
                )
                expected = one.number + 1
            if expected <= last:
                socket.put(gap_frame(topic, expected, last))
        socket.last[topic] = last
        self._of_topic.setdefault((socket.hub.directory_key, topic), {})[socket] = None

    def unsubscribe(self, socket: HubSocket, topic: str) -> None:
        """See `HubSocket.unsubscribe`."""
        if socket.last.pop(topic, None) is None:
            return
        place = (socket.hub.directory_key, topic)
        sockets = self._of_topic[place]
        del sockets[socket]
        if not sockets:
            del self._of_topic[place]

    def forget_topics(self, socket: HubSocket) -> None:
        """It gets no more of anything."""
        for topic in socket.topics:
            self.unsubscribe(socket, topic)

    def deliver(self, hub: Ref, topic: str, number: int, frame: str) -> None:
        """A message is durable."""
        sockets = self._of_topic.get((hub.directory_key, topic))
        if sockets is None:
            return
        for socket in list(sockets):  # one that is cut off leaves the list
            if socket.last.get(topic, number) < number:
                socket.last[topic] = number
                socket.put(frame)

    def begin_anew(self, hub: Ref, topic: str) -> None:
        """A topic was forgotten, and that is durable."""
        for socket in list(self._of_topic.get((hub.directory_key, topic), ())):
            socket.last[topic] = 0
            socket.put(reset_frame(topic, 0))

    def subscribed(self, hub: Ref, topic: str) -> int:
        """How many are subscribed to a topic."""
        return len(self._of_topic.get((hub.directory_key, topic), ()))

    def of_hub(self, hub: Ref) -> list[HubSocket]:
        """All connections of a hub."""
        return list(self._of_hub.get(hub.directory_key, {}).values())

    # -- what a client says --------------------------------------------------------------------------------

    async def received(self, socket: HubSocket, data: str | bytes) -> None:
        """See `HubSocket.received`."""
        if not socket.is_open:
            return
        socket.heard_ms = self._system.clock.now_ms()
        known = _class_of(socket.hub).auto_response
        if known is not None and data == known[0]:
            socket.put(known[1])
            return
        try:
            await self._turn(socket.hub, lambda hub: hub.on_message(socket, data))
        except NotRunning:
            socket.close(GOING_AWAY, "the server is closing")
        except Exception as error:
            _log.error("%s.on_message failed", socket.hub, exc_info=error)
            socket.close(_BROKEN, "what was said could not be handled")

    def _expect(self, socket: HubSocket, seconds: float) -> None:
        """Look at it again when it may have been silent for so long."""
        silent_seconds = (self._system.clock.now_ms() - socket.heard_ms) / 1000
        if not socket.is_open:
            return
        if silent_seconds >= seconds:
            socket.close(TOO_SILENT, f"nothing was heard for {seconds:g} s")
            return
        self._system.clock.call_later(seconds - silent_seconds, lambda: self._expect(socket, seconds))

    # -- the end -------------------------------------------------------------------------------------------

    def _remove(self, socket: HubSocket) -> None:
        self.forget_topics(socket)
        socket.end()
        sockets = self._of_hub.get(socket.hub.directory_key)
        if sockets is not None:
            sockets.pop(socket.id, None)
            if not sockets:
                del self._of_hub[socket.hub.directory_key]

    def stop(self) -> None:
        """The runtime closes: every client is told to come again."""
        self._stopped = True
        for sockets in list(self._of_hub.values()):
            for socket in list(sockets.values()):
                socket.close(GOING_AWAY, "the server is closing")


def _class_of(hub: Ref) -> type[WebSocketHub]:
    return cast("type[WebSocketHub]", hub.type.actor_class)
