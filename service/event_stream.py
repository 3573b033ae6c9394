"""A hub's client over server-sent events: the second transport of the same messages.

    asked -> refused (refusals.py), or a stream -> frames out -> closed by the hub, or gone

Each event's id tells what the client has of every topic, so a browser that loses the connection comes back by
itself, with that in `Last-Event-ID`, and gets every message once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

import anyio
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..actors.hub.frames import HubFrame
from .closing import wait_time_up
from .origins import is_allowed
from .refusals import problem, refusal
from .topics import event_id, hub_ref, wanted_topics

if TYPE_CHECKING:
    from ..actors.hub.hub_socket import HubSocket
    from ..actors.hub.web_socket_hub import HasSockets, WebSocketHub

HEARTBEAT_SECONDS: Final = 15.0
# The ends of lines that the format knows; texts may hold others.
_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


async def event_stream(
    request: Request,
    hub: WebSocketHub,
    *,
    topics: Iterable[str],
    user: str | None = None,
    tags: Iterable[str] = (),
    origins: Collection[str] = (),
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> Response:
    """The response of a GET route: a stream of the messages of topics, as long as the client stays.

    The parameters are those of `serve_websocket`, and so is who is refused, and how.  A comment every
    `heartbeat_seconds` of silence keeps proxies from closing the connection, and finds out that the client is
    gone.  The hub's `max_silence` means nothing here: this client can't say anything.

    A server that is stopped waits for its streams: close the runtime first, or bound the wait
    (`timeout_graceful_shutdown` of uvicorn).
    """
    if not is_allowed(request, origins):
        return problem(HTTPStatus.FORBIDDEN, "pages of this origin may not connect")
    if request.method not in ("GET", "HEAD"):
        return problem(HTTPStatus.METHOD_NOT_ALLOWED, "a stream is asked for by GET")
    try:
        wanted = wanted_topics(request, hub_ref(hub), topics)
    except Exception as error:
        return refusal(error)
    if request.method == "HEAD":
        return Response(headers={name.decode(): value.decode() for name, value in _HEADERS})
    return _EventStream(hub, wanted, user, tags, heartbeat_seconds)


class _EventStream(Response):
    """The stream, begun when the server asks for it."""

    def __init__(
        self,
        hub: WebSocketHub,
        wanted: dict[str, int | None],
        user: str | None,
        tags: Iterable[str],
        heartbeat_seconds: float,
    ) -> None:
        super().__init__()
        self._hub = hub
        self._wanted = wanted
        self._user = user
        self._tags = tags
        self._heartbeat_seconds = heartbeat_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sockets = cast("HasSockets", hub_ref(self._hub).system).sockets
        began = False
        try:
            async with sockets.connect(
                self._hub, topics=self._wanted, user=self._user, tags=self._tags, talks=False
            ) as socket:
                began = True
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                await self._exchange(socket, receive, send)
        except Exception as error:
            if began:
                raise
            await refusal(error)(scope, receive, send)

    async def _exchange(self, socket: HubSocket, receive: Receive, send: Send) -> None:
        numbers = {topic: number for topic, number in self._wanted.items() if number is not None}

        async def say(text: str, *, more: bool = True) -> None:
            await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        async with anyio.create_task_group() as group:

            async def write() -> None:
                try:
                    await say("retry: 1000\n\n")
                    while (frames := await socket.next_frames(self._heartbeat_seconds)) is not None:
                        if not frames:
                            await say(": still here\n\n")
                        for frame in frames:
                            await say(_event(frame, numbers))
                    await say(_goodbye(socket), more=False)
                except OSError:
                    pass  # it is gone
                group.cancel_scope.cancel()

            async def listen() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass
                group.cancel_scope.cancel()

            async def watch() -> None:
                await wait_time_up(socket)
                group.cancel_scope.cancel()

            group.start_soon(write)
            group.start_soon(listen)
            group.start_soon(watch)


def _event(frame: HubFrame, numbers: dict[str, int]) -> str:
    data = "".join(f"data: {line}\n" for line in _LINE_END.split(frame.text))
    if frame.topic is None:  # what the hub said to this client alone
        return f"{data}\n"
    numbers[frame.topic] = frame.number
    return f"id: {event_id(numbers)}\n{data}\n"


def _goodbye(socket: HubSocket) -> str:
    told = {"code": socket.close_code, "reason": socket.close_reason}
    return f"event: close\ndata: {msgspec.json.encode(told).decode()}\n\n"
