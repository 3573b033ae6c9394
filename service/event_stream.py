"""A hub's client over server-sent events: the second transport of the same messages.

Each event's id tells the last number of every topic, so a browser that loses the connection comes back by
itself, with what it has in `Last-Event-ID`, and gets every message once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from typing import TYPE_CHECKING, Final, cast

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ..storage.errors import CallerError
from .origins import is_allowed
from .topics import hub_ref, wanted_topics

if TYPE_CHECKING:
    from ..actors.hub.hub_socket import HubSocket
    from ..actors.hub.web_socket_hub import HasSockets, WebSocketHub

HEARTBEAT_SECONDS: Final = 15.0
_PROBLEM: Final = "application/problem+json"


class _Told(msgspec.Struct):
    """What the id of an event is made of."""

    topic: str = ""
    number: int = 0
    last: int = 0


_decode_told = msgspec.json.Decoder(_Told).decode


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

    The parameters are those of `serve_websocket`.  A comment every `heartbeat_seconds` of silence keeps
    proxies from closing the connection, and finds out that the client is gone.  Who is refused gets 400 or
    403 with a problem (RFC 9457); the hub's `on_connect` is asked when the stream begins.
    """
    if not is_allowed(request, origins):
        return _problem(403, "pages of this origin may not connect")
    try:
        ref = hub_ref(hub)
        wanted = wanted_topics(request, ref, topics)
    except CallerError as error:
        return _problem(400, str(error))
    sockets = cast("HasSockets", ref.system).sockets

    async def stream() -> AsyncIterator[str]:
        async with sockets.connect(hub, topics=wanted, user=user, tags=tags) as socket:
            numbers = {topic: number for topic, number in wanted.items() if number is not None}
            yield "retry: 1000\n\n"
            while (frames := await socket.next_frames(heartbeat_seconds)) is not None:
                if not frames:
                    yield ": still here\n\n"
                for frame in frames:
                    yield _event(frame, numbers)
            yield _goodbye(socket)

    return StreamingResponse(
        stream(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def _event(frame: str, numbers: dict[str, int]) -> str:
    data = "".join(f"data: {line}\n" for line in frame.splitlines() or [""])
    try:
        told = _decode_told(frame)
    except msgspec.MsgspecError:
        return f"{data}\n"  # a text that the hub sent to this client alone
    if not told.topic:
        return f"{data}\n"
    numbers[told.topic] = told.last or told.number
    return f"id: {msgspec.json.encode(numbers).decode()}\n{data}\n"


def _goodbye(socket: HubSocket) -> str:
    told = {"code": socket.close_code, "reason": socket.close_reason}
    return f"event: close\ndata: {msgspec.json.encode(told).decode()}\n\n"


def _problem(status: int, detail: str) -> Response:
    title = {400: "Bad Request", 403: "Forbidden"}[status]
    return JSONResponse(
        {"type": "about:blank", "title": title, "status": status, "detail": detail},
        status_code=status,
        media_type=_PROBLEM,
    )
