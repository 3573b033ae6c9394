"""A hub's client over a WebSocket.

    asked -> refused (refusals.py), or accepted -> frames out, messages in -> closed by one of both, or gone

Reading and writing go on side by side, until the connection is closed (closing.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

import anyio
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ..actors.correlation import CORRELATION_ID
from ..actors.hub.hub_socket import ABNORMAL, TOO_BIG, HubSocket
from .closing import wait_time_up
from .correlation import given_correlation_id
from .origins import is_allowed
from .refusals import problem, refusal
from .topics import hub_ref, wanted_topics

if TYPE_CHECKING:
    from ..actors.hub.web_socket_hub import HasSockets, WebSocketHub

MAX_MESSAGE_BYTES: Final = 1 << 20
# What it doesn't take, it takes no close frame behind.
CUT_OFF_SECONDS: Final = 0.5

_log = logging.getLogger("holdfast.service")


async def serve_websocket(
    websocket: WebSocket,
    hub: WebSocketHub,
    *,
    topics: Iterable[str],
    user: str | None = None,
    tags: Iterable[str] = (),
    origins: Collection[str] = (),
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    since: str | None = None,
    frame_text: Callable[[str], str | None] | None = None,
) -> None:
    """Serve one client of a hub until it is gone; the endpoint of a WebSocket route awaits it.

    topics    what the client gets; `since` in its address says what it has already (topics.py)
    user, tags   what the hub finds it by; whoever calls this has checked who it is
    origins   pages of other hosts that may connect; pages of this host, and programs, always may
    max_message_bytes   what a client says at most at once; with more it is closed with 1009
    since     taken where the client says none: a number, or `latest`
    frame_text   makes another text of each frame, for clients with a form of their own; None sends nothing

    What the client causes has the correlation id of its header X-Correlation-Id, if it sends one.

    Who is refused gets an HTTP status with a problem, where the server can send one: 403 for the origin, or
    since the hub's `on_connect` raised a `PermissionError`; 400 for `since`; 503 when the hub is full or
    closing.
    """
    if not is_allowed(websocket, origins):
        await refuse(websocket, problem(HTTPStatus.FORBIDDEN, "pages of this origin may not connect"))
        return
    try:
        ref = hub_ref(hub)
        sockets = cast("HasSockets", ref.system).sockets
        wanted = wanted_topics(websocket, ref, topics, otherwise=since)
        correlation_id = given_correlation_id(websocket, None)
        if correlation_id is not None:
            CORRELATION_ID.set(correlation_id)
        async with sockets.connect(hub, topics=wanted, user=user, tags=tags) as socket:
            await websocket.accept()
            await _exchange(websocket, socket, max_message_bytes, frame_text)
    except WebSocketDisconnect:
        _log.debug("a client was gone before it was let in")
    except Exception as error:
        if websocket.application_state is not WebSocketState.CONNECTING:
            raise  # of what came later
        await refuse(websocket, refusal(error))


async def refuse(websocket: WebSocket, response: Response) -> None:
    """Answer a client that is not let in."""
    if "websocket.http.response" in websocket.scope.get("extensions", {}):
        await websocket.send_denial_response(response)
    else:
        await websocket.close()


async def _exchange(
    websocket: WebSocket,
    socket: HubSocket,
    max_message_bytes: int,
    frame_text: Callable[[str], str | None] | None,
) -> None:
    async with anyio.create_task_group() as group:

        async def read() -> None:
            while True:
                message = await websocket.receive()
                if message["type"] == "websocket.disconnect":
                    socket.peer_closed(message.get("code") or ABNORMAL, message.get("reason") or "")
                    group.cancel_scope.cancel()
                    return
                text, data = message.get("text"), message.get("bytes")
                said: str | bytes = text if text is not None else data or b""
                size_bytes = len(said.encode()) if isinstance(said, str) else len(said)
                if size_bytes > max_message_bytes:
                    socket.close(TOO_BIG, f"a message has at most {max_message_bytes} bytes")
                    return
                await socket.received(said)

        async def write() -> None:
            try:
                while (frames := await socket.next_frames()) is not None:
                    for frame in frames:
                        text = frame.text if frame_text is None else frame_text(frame.text)
                        if text is not None:
                            await websocket.send_text(text)
            except (WebSocketDisconnect, OSError):
                socket.peer_closed(ABNORMAL)
            group.cancel_scope.cancel()

        async def watch() -> None:
            await wait_time_up(socket)
            group.cancel_scope.cancel()

        group.start_soon(read)
        group.start_soon(write)
        group.start_soon(watch)
    if socket.close_code is not None and websocket.client_state is WebSocketState.CONNECTED:
        with anyio.move_on_after(CUT_OFF_SECONDS):
            try:
                await websocket.close(socket.close_code, socket.close_reason)
            except (RuntimeError, OSError, WebSocketDisconnect):
                _log.debug("socket %s was gone before it was closed", socket.id)
