"""Who is connected to the hubs of one runtime, in this process.

The hub may leave memory while its clients stay: what stands here belongs to the connections.

    connect -> on_connect, a turn -> subscribed: what is kept, then what comes -> ... -> gone -> on_disconnect

Invariants
  * A socket is in the list of a topic exactly as long as it is open and subscribed.
  * A socket that is behind on a topic gets it from the disk, page by page as it takes them, until it has all
    that is durable; from that moment on it is told what is new.  There is no wait between the two.
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
from ...storage.errors import CallerError, Overloaded, StorageFailed
from ..ids import new_id
from .frames import HubFrame, begin_frame, gap_frame, message_frame, reset_frame, text_frame
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
# What is read from disk at once for a client that is behind.
_PAGE_MESSAGES: Final = 50
_PAGE_BYTES: Final = 1 << 20
# The hub is told of an end again after so long, when it had no room or the disk refused.
_AGAIN_SECONDS: Final = (0.1, 0.4, 1.6, 6.4)
_BROKEN: Final = 1011

_log = logging.getLogger("holdfast.hub")


class Sockets:
    """The connections of one runtime: `rt.sockets`."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        # By the hub's row in the directory, then by the socket's id.
        self._of_hub: dict[bytes, dict[str, HubSocket]] = {}
        self._of_topic: dict[tuple[bytes, str], dict[HubSocket, None]] = {}
        # Sockets whose hubs have not heard of their ends yet.
        self._untold: dict[HubSocket, None] = {}
        self._all_gone: asyncio.Future[None] | None = None
        self._stopped = False
        # For metrics: frames that transports took, and clients that were cut off.
        self.frames_out = 0
        self.cut_off = 0

    @asynccontextmanager
    async def connect(
        self,
        hub: WebSocketHub,
        *,
        topics: Mapping[str, int | None] | None = None,
        user: str | None = None,
        tags: Iterable[str] = (),
        talks: bool = True,
    ) -> AsyncGenerator[HubSocket]:
        """A client is connected as long as the `async with` lasts.

        hub      the hub's ref: `rt.get(WebSocketHub, key)`
        topics   what it is subscribed to from the beginning, each with the number of the last message that
                 the client has, or None to begin with the next one
        user, tags   what `open_sockets` finds it by
        talks    the client can say something: where it can't, the hub's `max_silence` means nothing

        Raises what `on_connect` raised, `CallerError`, or `Overloaded` with more than `MAX_SOCKETS` clients.
        """
        ref = self._ref(hub)
        wanted = dict(topics or {})
        if len(wanted) > MAX_TOPICS:
            raise CallerError(f"a socket is subscribed to at most {MAX_TOPICS} topics; got {len(wanted)}")
        for topic, since in wanted.items():
            check_topic(topic)
            if since is not None:
                check_number(since)
        others = len(self._of_hub.get(ref.directory_key, ()))
        if others >= MAX_SOCKETS:
            raise Overloaded(f"{ref} has {others} clients, as many as MAX_SOCKETS allows; try again later")
        socket = HubSocket(self, ref, new_id(), user, tags, self._system.clock.now_ms())
        self._of_hub.setdefault(ref.directory_key, {})[socket.id] = socket
        await self._let_in(socket)
        self._untold[socket] = None
        try:
            # First those for which it is told a number: cut off then, it can come back with all of them.
            for topic, since in sorted(wanted.items(), key=lambda one: one[1] is not None):
                self.subscribe(socket, topic, since)
            silence = _class_of(ref).max_silence
            if talks and silence is not None:
                self._expect(socket, to_seconds(silence, what="max_silence"))
            yield socket
        finally:
            self._remove(socket)
            # In a task of the runtime's: whoever served the client may be cancelled, over and over.
            await asyncio.shield(self._system.spawn(self._tell_end(socket), f"the end of socket {socket.id}"))

    async def _let_in(self, socket: HubSocket) -> None:
        """Ask the hub; who is cancelled meanwhile was let in all the same, perhaps, and then has left."""
        asked = asyncio.ensure_future(self._turn(socket.hub, lambda hub: hub.on_connect(socket)))
        try:
            await asyncio.shield(asked)
        except asyncio.CancelledError:
            self._remove(socket)

            async def left() -> None:
                try:
                    await asked
                except Exception as error:
                    _log.debug("a client that left was refused: %s", error)
                else:
                    self._untold[socket] = None
                    await self._tell_end(socket)

            self._system.spawn(left(), f"the end of socket {socket.id}")
            raise
        except BaseException:
            self._remove(socket)
            raise

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
            for wait_seconds in (*_AGAIN_SECONDS, None):
                try:
                    await self._turn(socket.hub, lambda hub: hub.on_disconnect(socket, code, reason, clean))
                    return
                except (Overloaded, StorageFailed):
                    if wait_seconds is None or self._system.is_closed:
                        raise
                    await asyncio.sleep(wait_seconds)
        except NotRunning:
            _log.debug("%s was closed before it heard of an end", socket.hub)
        except Exception as error:
            _log.error("%s.on_disconnect failed", socket.hub, exc_info=error)
        finally:
            self._untold.pop(socket, None)
            if not self._untold and self._all_gone is not None and not self._all_gone.done():
                self._all_gone.set_result(None)

    async def _turn(self, hub: Ref, work: HubWork) -> None:
        await invoke(hub, turn_plan(work), (), {})

    # -- topics --------------------------------------------------------------------------------------------

    def subscribe(self, socket: HubSocket, topic: str, since: int | None) -> None:
        """See `HubSocket.subscribe`."""
        check_topic(topic)
        if not socket.is_open or topic in socket.last:
            return
        if len(socket.last) >= MAX_TOPICS:
            raise CallerError(f"a socket is subscribed to at most {MAX_TOPICS} topics; {topic!r} is one more")
        if since is None:
            since = last_number(durable_storage(socket.hub), topic)
            socket.put(begin_frame(topic, since), bounded=False)
        else:
            check_number(since)
            socket.behind[topic] = None
        socket.last[topic] = since
        self._of_topic.setdefault((socket.hub.directory_key, topic), {})[socket] = None

    def catch_up(self, socket: HubSocket) -> None:
        """Put the next page of what a socket is behind with into its outbox."""
        topic = next(iter(socket.behind))
        at, storage = socket.last[topic], durable_storage(socket.hub)
        last = last_number(storage, topic)
        if at > last:
            socket.put(reset_frame(topic), bounded=False)
            at = 0
        oldest = max(at, last - _class_of(socket.hub).keep)
        rows = messages_behind(storage, topic, oldest, _PAGE_MESSAGES)
        page_bytes, all_read = 0, len(rows) < _PAGE_MESSAGES
        for one in rows:
            if page_bytes > _PAGE_BYTES:
                all_read = False
                break
            if one.number > at + 1:
                socket.put(gap_frame(topic, at + 1, one.number - 1), bounded=False)
            frame = message_frame(topic, one.number, one.at, one.data)
            page_bytes += frame.size_bytes
            socket.put(frame, bounded=False)
            at = one.number
        if all_read:
            if at < last:
                socket.put(gap_frame(topic, at + 1, last), bounded=False)
            at = max(at, last)  # a commit may have come between the two reads
            socket.behind.pop(topic, None)
        socket.last[topic] = at

    def unsubscribe(self, socket: HubSocket, topic: str) -> None:
        """See `HubSocket.unsubscribe`."""
        if socket.last.pop(topic, None) is None:
            return
        socket.behind.pop(topic, None)
        place = (socket.hub.directory_key, topic)
        sockets = self._of_topic[place]
        del sockets[socket]
        if not sockets:
            del self._of_topic[place]

    def unsubscribe_all(self, socket: HubSocket) -> None:
        """It gets no more of anything."""
        for topic in socket.topics:
            self.unsubscribe(socket, topic)

    def deliver(self, hub: Ref, topic: str, number: int, frame: HubFrame) -> None:
        """A message is durable."""
        sockets = self._of_topic.get((hub.directory_key, topic))
        if sockets is None:
            return
        for socket in list(sockets):  # one that is cut off leaves the list
            if topic not in socket.behind and socket.last.get(topic, number) < number:
                socket.last[topic] = number
                socket.put(frame)

    def subscribed(self, hub: Ref, topic: str) -> int:
        """How many are subscribed to a topic."""
        return len(self._of_topic.get((hub.directory_key, topic), ()))

    def __len__(self) -> int:
        return sum(len(sockets) for sockets in self._of_hub.values())

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
            socket.put(text_frame(known[1]))
            return
        socket.handling = True
        try:
            await self._turn(socket.hub, lambda hub: hub.on_message(socket, data))
        except NotRunning:
            socket.close(GOING_AWAY, "the server is closing")
        except Exception as error:
            _log.error("%s.on_message failed", socket.hub, exc_info=error)
            socket.close(_BROKEN, "what was said could not be handled")
        finally:
            socket.handling = False
            socket.heard_ms = self._system.clock.now_ms()

    def _expect(self, socket: HubSocket, seconds: float) -> None:
        """Look at it again when it may have been silent for so long."""
        silent_seconds = (self._system.clock.now_ms() - socket.heard_ms) / 1000
        if not socket.is_open:
            return
        if socket.handling:
            silent_seconds = 0
        if silent_seconds >= seconds:
            socket.close(TOO_SILENT, f"nothing was heard for {seconds:g} s")
            return
        socket.silence_timer = self._system.clock.call_later(
            seconds - silent_seconds, lambda: self._expect(socket, seconds)
        )

    # -- the end -------------------------------------------------------------------------------------------

    def _remove(self, socket: HubSocket) -> None:
        self.unsubscribe_all(socket)
        socket.end()
        sockets = self._of_hub.get(socket.hub.directory_key)
        if sockets is not None:
            sockets.pop(socket.id, None)
            if not sockets:
                del self._of_hub[socket.hub.directory_key]

    @property
    def is_stopped(self) -> bool:
        """Whether the server closes, so that nobody is let in any more."""
        return self._stopped

    async def close(self, most_seconds: float) -> None:
        """The runtime closes: every client is told to come again, and the hubs hear of their ends."""
        self.stop()
        if self._of_hub or self._untold:
            self._all_gone = self._system.loop.create_future()
            await asyncio.wait([self._all_gone], timeout=most_seconds)

    def stop(self) -> None:
        """The same without waiting."""
        self._stopped = True
        for sockets in list(self._of_hub.values()):
            for socket in list(sockets.values()):
                socket.close(GOING_AWAY, "the server is closing")


def _class_of(hub: Ref) -> type[WebSocketHub]:
    return cast("type[WebSocketHub]", hub.type.actor_class)
