"""A runtime in an application of aiohttp: its life, how handlers find it, and a hub's clients.

    add_runtime(app, rt)                             start -> open ... serving ... -> close -> end
    runtime_of(request)                              the runtime, in a handler
    return await serve_websocket(request, hub, topics=["news"])

aiohttp is no ASGI server, so `rt.asgi` can't be mounted in it: serve that beside it, on a port of its own.
A WebSocket takes the way of websocket.py, to which aiohttp's connection is shown as one of ASGI.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Final, cast

from starlette.websockets import WebSocket

from ..actors.errors import MissingPackage
from ..actors.hub.hub_socket import ABNORMAL, NO_CODE
from ..actors.system import Runtime
from ..runtime.errors import NotRunning
from .closing import CLOSE_SECONDS
from .websocket import MAX_MESSAGE_BYTES
from .websocket import serve_websocket as serve_asgi_websocket

try:
    from aiohttp import WebSocketError, WSMsgType, web
except ModuleNotFoundError as error:
    raise MissingPackage("holdfast.service.aiohttp needs aiohttp: pip install 'holdfast[aiohttp]'") from error

if TYPE_CHECKING:
    from ..actors.hub.web_socket_hub import WebSocketHub

RUNTIME: Final = web.AppKey("holdfast", Runtime)
# A client that is gone without a word is noticed after so long.
HEARTBEAT_SECONDS: Final = 20.0


def add_runtime(app: web.Application, runtime: Runtime) -> None:
    """Open the runtime when the application starts, and close it when that ends; before the application runs.

    What is added to `cleanup_ctx` behind it finds the runtime open.  The clients of hubs are told first that
    the server ends, since aiohttp waits for them.  A folder in use fails the start, as in `Runtime.lifespan`.
    """

    async def context(app: web.Application) -> AsyncIterator[None]:
        async with runtime.lifespan(None):
            app[RUNTIME] = runtime
            yield

    async def drain(app: web.Application) -> None:
        await runtime.sockets.close(CLOSE_SECONDS)

    app.cleanup_ctx.append(context)
    app.on_shutdown.append(drain)


def runtime_of(asked: web.Request | web.Application) -> Runtime:
    """The runtime of an application; of a request, that of the application it came to or of one around it.

    Raises `NotRunning` when there is none, or it was not started.
    """
    apps = [asked] if isinstance(asked, web.Application) else asked.match_info.apps[::-1]
    for app in apps:
        found = app.get(RUNTIME)
        if found is not None:
            return found
    raise NotRunning("this application has no runtime: add_runtime(app, rt), and let its server start it")


async def serve_websocket(
    request: web.Request,
    hub: WebSocketHub,
    *,
    topics: Iterable[str],
    user: str | None = None,
    tags: Iterable[str] = (),
    origins: Collection[str] = (),
    max_message_bytes: int = MAX_MESSAGE_BYTES,
) -> web.StreamResponse:
    """Serve one client of a hub until it is gone; the response of a handler for GET.

    The parameters are those of `holdfast.service.serve_websocket`, and so is who is refused, and how.
    """
    connection = _Connection(request, max_message_bytes)
    websocket = WebSocket(connection.scope, connection.receive, connection.send)
    await serve_asgi_websocket(
        websocket,
        hub,
        topics=topics,
        user=user,
        tags=tags,
        origins=origins,
        max_message_bytes=max_message_bytes,
    )
    return connection.response


class _Connection:
    """A request of aiohttp's, as ASGI shows a WebSocket."""

    def __init__(self, request: web.Request, max_message_bytes: int) -> None:
        self._request = request
        self._socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=max_message_bytes, compress=False
        )
        # Until it is refused.
        self.response: web.StreamResponse = self._socket
        self._connected = False
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": request.path,
            "query_string": request.rel_url.raw_query_string.encode("latin-1"),
            "headers": [(name.lower(), value) for name, value in request.raw_headers],
            "extensions": {"websocket.http.response": {}},
        }

    async def receive(self) -> MutableMapping[str, Any]:
        """The next message of the client."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        message = await self._socket.receive()
        if message.type is WSMsgType.TEXT:
            return {"type": "websocket.receive", "text": cast("str", message.data)}
        if message.type is WSMsgType.BINARY:
            return {"type": "websocket.receive", "bytes": cast("bytes", message.data)}
        code = self._socket.close_code
        if message.type is WSMsgType.CLOSE:
            code = code or NO_CODE
        elif isinstance(message.data, WebSocketError):  # it broke a rule, said too much at once, and was told
            code = message.data.code
        return {"type": "websocket.disconnect", "code": code or ABNORMAL, "reason": message.extra or ""}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Do what the service says."""
        match message["type"]:
            case "websocket.accept":
                await self._socket.prepare(self._request)
            case "websocket.send":
                await self._socket.send_str(message["text"])
            case "websocket.close":
                await self._socket.close(code=message["code"], message=(message["reason"] or "").encode())
            case "websocket.http.response.start":
                headers = [(name.decode(), value.decode()) for name, value in message["headers"]]
                self.response = web.Response(status=message["status"], headers=headers)
            case "websocket.http.response.body":
                cast("web.Response", self.response).body = message["body"]
            case other:
                raise AssertionError(other)
