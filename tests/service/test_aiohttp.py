"""service/aiohttp.py: real servers of aiohttp and real clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSServerHandshakeError, web

from holdfast import Counter, HubSocket, Runtime, WebSocketHub
from holdfast.runtime.errors import NotRunning
from holdfast.service.aiohttp import RUNTIME, add_runtime, runtime_of, serve_websocket
from holdfast.storage.errors import FolderInUse


class AiohttpHub(WebSocketHub):
    """Tells what its clients say, and how they leave."""

    async def on_connect(self, socket: HubSocket) -> None:
        if socket.user == "eve":
            raise PermissionError("not you")

    async def on_message(self, socket: HubSocket, data: str | bytes) -> None:
        if data == "leave":
            self.close_socket(socket, 4321, "as you say")
        else:
            self.send(socket, f"you said {data!r}")

    async def on_disconnect(self, socket: HubSocket, code: int, reason: str, clean: bool) -> None:
        await self.runtime.get(Counter, f"left {code} {clean}").increment()


@asynccontextmanager
async def aiohttp_server(rt: Runtime) -> AsyncIterator[tuple[str, web.AppRunner]]:
    """The application, started; gives its address."""
    app, inner = web.Application(), web.Application()

    async def count(request: web.Request) -> web.Response:
        counter = runtime_of(request).get(Counter, request.match_info["key"])
        return web.json_response(await counter.increment())

    async def ws(request: web.Request) -> web.StreamResponse:
        hub = runtime_of(request).get(AiohttpHub, "hub")
        user = request.query.get("user")
        return await serve_websocket(request, hub, topics=["news"], user=user, max_message_bytes=1_000)

    inner.router.add_post("/{key}", count)
    app.router.add_get("/ws", ws)
    app.add_subapp("/counters/", inner)
    add_runtime(app, rt)
    runner = web.AppRunner(app, shutdown_timeout=30)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert runtime_of(app) is rt
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}", runner
    finally:
        await runner.cleanup()


async def count_of(rt: Runtime, key: str) -> int:
    """A counter as soon as it isn't 0."""
    while not (found := await rt.get(Counter, key).get()):  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.001)
    return found


async def test_handlers_call_actors(folder: Path) -> None:
    """Also in an application inside of the one that has the runtime; it closes with that."""
    rt = Runtime(folder)
    async with aiohttp_server(rt) as (address, _), aiohttp.ClientSession(address) as client:
        for expected in (1, 2):
            async with client.post("/counters/x") as response:
                assert await response.json() == expected
    assert rt.is_closed


async def test_a_client_of_a_hub(folder: Path) -> None:
    """Frames out, texts and bytes in, and once more from a number on."""
    rt = Runtime(folder)
    async with aiohttp_server(rt) as (address, _), aiohttp.ClientSession(address) as client:
        hub = rt.get(AiohttpHub, "hub")
        async with client.ws_connect("/ws") as socket:
            assert (await socket.receive_json())["type"] == "begin"
            await hub.publish("news", "one")
            assert (await socket.receive_json())["data"] == "one"
            await socket.send_str("a")
            assert await socket.receive_str() == "you said 'a'"
            await socket.send_bytes(b"b")
            assert await socket.receive_str() == "you said b'b'"
        assert await count_of(rt, "left 1000 True") == 1
        await hub.publish("news", "two")
        async with client.ws_connect("/ws?since=1") as socket:
            assert (await socket.receive_json())["data"] == "two"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?user=eve", {}, 403),
        ("?since=none", {}, 400),
        ("", {"Origin": "https://strangers.example"}, 403),
    ],
)
async def test_who_is_refused(folder: Path, query: str, headers: dict[str, str], status: int) -> None:
    """By a status with a problem, as the service does it."""
    async with aiohttp_server(Runtime(folder)) as (address, _), aiohttp.ClientSession(address) as client:
        with pytest.raises(WSServerHandshakeError) as refused:
            await client.ws_connect(f"/ws{query}", headers=headers)
        assert refused.value.status == status
        assert refused.value.headers is not None
        assert refused.value.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("said", "code"), [("leave", 4321), ("x" * 2_000, 1009)])
async def test_the_server_closes(folder: Path, said: str, code: int) -> None:
    """With the hub's code, or since too much was said at once; the hub hears of it."""
    rt = Runtime(folder)
    async with aiohttp_server(rt) as (address, _), aiohttp.ClientSession(address) as client:
        socket = await client.ws_connect("/ws")
        await socket.receive_json()
        await socket.send_str(said)
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == code
        assert await count_of(rt, f"left {code} True") == 1


async def test_a_client_vanishes(folder: Path) -> None:
    """Without a close frame: the hub hears that it was no clean end."""
    rt = Runtime(folder)
    async with aiohttp_server(rt) as (address, _), aiohttp.ClientSession(address) as client:
        socket = await client.ws_connect("/ws")
        await socket.receive_json()
        transport: Any = socket.get_extra_info("socket")
        assert transport is not None
        socket._response.connection.transport.abort()  # type: ignore[union-attr]
        assert await count_of(rt, "left 1006 False") == 1


async def test_a_server_that_stops_tells_its_clients(folder: Path) -> None:
    """They get what waits for them and 1001; nobody waits for them."""
    rt = Runtime(folder)
    async with aiohttp_server(rt) as (address, runner), aiohttp.ClientSession(address) as client:
        socket = await client.ws_connect("/ws")
        assert (await socket.receive_json())["type"] == "begin"
        await rt.get(AiohttpHub, "hub").publish("news", "bye")
        stopping = asyncio.create_task(runner.cleanup())
        assert json.loads(await socket.receive_str())["data"] == "bye"
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1001
        await stopping
    assert rt.is_closed


async def test_a_folder_in_use(folder: Path) -> None:
    """The application doesn't start, and the error says what to do."""
    async with Runtime(folder):
        with pytest.raises(FolderInUse, match="one worker"):
            async with aiohttp_server(Runtime(folder)):
                pass


async def test_an_application_without_a_runtime() -> None:
    """The error says what to do."""
    app = web.Application()
    assert RUNTIME not in app
    with pytest.raises(NotRunning, match="add_runtime"):
        runtime_of(app)
