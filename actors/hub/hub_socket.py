"""One connection to a hub: what it is subscribed to, and what waits to be sent.

The transport (the service, or a program of one's own) takes frames out and hands in what the client says.
The hub puts frames in, at once and without waiting: a client that is too slow to take them is cut off, and
comes back with the number of its last message.

    open -> closing    somebody closed it: the transport sends what waits, and then the code; where the client
                       was too slow, what waits is thrown away (`cut_off`)
         -> ended      the transport is done with it; nobody finds it any more
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Literal

from ...runtime.codec import decode_plain, encode
from ...storage.errors import CallerError, InvalidValue
from .frames import HubFrame

if TYPE_CHECKING:
    from ...runtime.clock import TimerHandle
    from ...runtime.ref import Ref
    from .sockets import Sockets

MAX_OUTBOX_FRAMES: Final = 1_000
MAX_OUTBOX_BYTES: Final = 4 << 20
MAX_ATTACHMENT_BYTES: Final = 16_384
MAX_TAGS: Final = 10
MAX_TAG_CHARACTERS: Final = 256
MAX_TOPICS: Final = 100
MAX_REASON_BYTES: Final = 123  # what a close frame of a WebSocket has room for

GOING_AWAY: Final = 1001
# The words of RFC 6455 for an end without a code, and for one without a close frame.  Servers tell them apart
# badly: both may mean that the client vanished.
NO_CODE: Final = 1005
ABNORMAL: Final = 1006
TOO_BIG: Final = 1009
TOO_SLOW: Final = 4008
TOO_SILENT: Final = 4009
# Those below 3000 that mean what they say.
_CODES: Final = (1000, GOING_AWAY, 1008, TOO_BIG, 1011, 1012, 1013)


class HubSocket:
    """A client that is connected now; it stays when the hub leaves memory."""

    __slots__ = (
        "_attachment", "_outbox", "_outbox_bytes", "_peer", "_sockets", "_state", "_wake", "behind",
        "close_code", "close_reason", "closing", "cut_off", "handling", "heard_ms", "hub", "id", "last",
        "silence_timer", "tags", "user",
    )  # fmt: skip

    def __init__(
        self, sockets: Sockets, hub: Ref, id: str, user: str | None, tags: Iterable[str], now_ms: int
    ) -> None:
        self._sockets = sockets
        self.hub = hub
        """The hub's address."""
        self.id = id
        self.user = user
        self.tags = checked_tags(tags)
        # The number of the last message that was put into the outbox, by topic: those subscribed to.
        self.last: dict[str, int] = {}
        # Topics of which more is on disk than was put into the outbox; what is new waits there, too.
        self.behind: dict[str, None] = {}
        self.heard_ms = now_ms
        """When the client was last heard of, in milliseconds since 1970."""
        self.close_code: int | None = None
        """The code that the transport closes with; None while it is open."""
        self.close_reason = ""
        self.closing = asyncio.Event()
        """Set as soon as it is to be closed."""
        self.cut_off = False
        """What waits is not sent: the client doesn't take it."""
        # The hub handles what the client said.
        self.handling = False
        self.silence_timer: TimerHandle | None = None
        self._attachment: bytes | None = None
        self._outbox: deque[HubFrame] = deque()
        self._outbox_bytes = 0
        self._state: Literal["open", "closing", "ended"] = "open"
        self._wake: asyncio.Future[None] | None = None
        self._peer: tuple[int, str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether frames still go out to it."""
        return self._state == "open"

    @property
    def waiting(self) -> int:
        """Frames that wait for the transport to take them."""
        return len(self._outbox)

    @property
    def topics(self) -> list[str]:
        """The topics that it is subscribed to."""
        return list(self.last)

    @property
    def attachment(self) -> object:
        """What the hub keeps with the connection, as plain data.

        It outlives the hub's leaving memory, and also a turn that fails.
        """
        return None if self._attachment is None else decode_plain(self._attachment)

    @attachment.setter
    def attachment(self, value: object) -> None:
        encoded = encode(value, f"the attachment of socket {self.id}")
        if len(encoded) > MAX_ATTACHMENT_BYTES:
            raise InvalidValue(
                f"the attachment of socket {self.id} takes {len(encoded)} bytes; at most "
                f"{MAX_ATTACHMENT_BYTES} are allowed: keep what is large in the hub's storage"
            )
        self._attachment = encoded

    def subscribe(self, topic: str, since: int | None = None) -> None:
        """Get the messages of a topic: those behind number `since` that are kept, then all that come.

        None begins with the next one.  Nothing changes where it is subscribed already.  It takes effect at
        once, whatever becomes of the turn.  Raises `CallerError`.
        """
        self._sockets.subscribe(self, topic, since)

    def unsubscribe(self, topic: str) -> None:
        """Get no more of a topic."""
        self._sockets.unsubscribe(self, topic)

    # -- the hub's side ------------------------------------------------------------------------------------

    def put(self, frame: HubFrame, *, bounded: bool = True) -> None:
        """Add a frame to the outbox; a socket whose outbox runs over is cut off.

        What is read from disk for it comes in pages, and isn't bounded here (`bounded=False`).
        """
        if self._state != "open":
            return
        if bounded and (
            len(self._outbox) >= MAX_OUTBOX_FRAMES or self._outbox_bytes + frame.size_bytes > MAX_OUTBOX_BYTES
        ):
            self._outbox.clear()
            self._outbox_bytes = 0
            self.cut_off = True
            self._sockets.cut_off += 1
            self.close(TOO_SLOW, "too slow: connect again with the number of the last message")
            return
        self._outbox.append(frame)
        self._outbox_bytes += frame.size_bytes
        self._wake_up()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it; what waits is sent first.  Harmless when it is closed already.

        Raises `CallerError` for a code or a reason that no close frame has room for.
        """
        check_close(code, reason)
        if self._state != "open":
            return
        self._state = "closing"
        self.close_code, self.close_reason = code, reason
        self._sockets.unsubscribe_all(self)
        self.closing.set()
        self._wake_up()

    # -- the transport's side ------------------------------------------------------------------------------

    async def next_frames(self, wait_seconds: float | None = None) -> list[HubFrame] | None:
        """What is to be sent next, as soon as there is something; an empty list when there is nothing for
        `wait_seconds`; None when it is to be closed with `close_code`.

        One task takes frames; a second one that waits raises `CallerError`.
        """
        if self._wake is not None:
            raise CallerError(f"somebody waits for the frames of socket {self.id} already")
        while not self._outbox:
            if self._state != "open":
                return None
            if self.behind:
                self._sockets.catch_up(self)
                continue
            self._wake = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._wake
            except TimeoutError:
                return []
            finally:
                self._wake = None
        frames = list(self._outbox)
        self._outbox.clear()
        self._outbox_bytes = 0
        self._sockets.frames_out += len(frames)
        return frames

    async def received(self, data: str | bytes) -> None:
        """The client said something: returns when the hub has handled it, so that the next is read then."""
        await self._sockets.received(self, data)

    def _wake_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def peer_closed(self, code: int, reason: str = "") -> None:
        """The client closed the connection with this code."""
        self._peer = code, reason

    # -- for the registry ----------------------------------------------------------------------------------

    def end(self) -> None:
        """The transport is done with it."""
        self._state = "ended"
        self._outbox.clear()
        self._outbox_bytes = 0
        self.closing.set()
        if self.silence_timer is not None:
            self.silence_timer.cancel()
            self.silence_timer = None
        self._wake_up()

    def ending(self) -> tuple[int, str, bool]:
        """How it ended: code, reason, and whether one of both sides closed it with a code."""
        if self._peer is not None:
            return (*self._peer, self._peer[0] not in (NO_CODE, ABNORMAL))
        if self.close_code is not None:
            return self.close_code, self.close_reason, True
        return ABNORMAL, "", False


def check_close(code: int, reason: str) -> None:
    """Raise `CallerError` for a code or a reason that no close frame has room for."""
    if not (code in _CODES or 3000 <= code <= 4999):
        raise CallerError(
            f"a socket is closed with 1000, 1001, 1008, 1009, 1011 to 1013 or 3000 to 4999; got {code}"
        )
    if len(reason.encode()) > MAX_REASON_BYTES:
        raise CallerError(f"the reason of a close has at most {MAX_REASON_BYTES} bytes; got {reason!r}")


def checked_tags(given: Iterable[str]) -> frozenset[str]:
    """The tags of a socket; raises `CallerError` for too many, or one that is too long."""
    if isinstance(given, str):
        raise CallerError(f"tags are several texts; got the text {given!r}")
    tags = frozenset(given)
    if len(tags) > MAX_TAGS:
        raise CallerError(f"a socket has at most {MAX_TAGS} tags; got {len(tags)}")
    for tag in tags:
        if not 0 < len(tag) <= MAX_TAG_CHARACTERS:
            raise CallerError(f"a tag is a text of 1 to {MAX_TAG_CHARACTERS} characters; got {tag!r}")
    return tags
