"""service/websocket.py and event_stream.py: real clients at a real server on loopback."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from holdfast import HubSocket, Runtime, WebSocketHub
from holdfast.actors.hub.hub_socket import ABNORMAL, GOING_AWAY, NO_CODE, TOO_BIG, TOO_SLOW
from holdfast.service import closing, event_stream, serve_websocket
from holdfast.service.topics import event_id, hub_ref
from tests.actors.workflow.support import until
from tests.service.support import serving

SAID: list[Any] = []


class Room(WebSocketHub):
    async def on_connect(self, socket: HubSocket) -> None:
        if socket.user == "nobody":
            raise PermissionError("no entry")
        if socket.user == "breaks":
            raise ValueError("in on_connect")

    async def on_message(self, socket: HubSocket, data: str | bytes) -> None:
        self.send(socket, f"you said {data!r}")

    async def on_disconnect(self, socket: HubSocket, code: int, reason: str, clean: bool) -> None:
        SAID.append((code, clean))


def app_of(rt: Runtime) -> Starlette:
    """Two addresses: the topics of a path, by either transport."""

    async def socket(websocket: WebSocket) -> None:
        await serve_websocket(
            websocket,
            rt.get(Room, "a"),
            topics=websocket.path_params["topics"].split(","),
            user=websocket.query_params.get("user"),
            origins=["https://friend.example"],
            max_message_bytes=1000,
        )

    async def stream(request: Request) -> Response:
        return await event_stream(
            request,
            rt.get(Room, "a"),
            topics=request.path_params["topics"].split(","),
            user=request.query_params.get("user"),
            heartbeat_seconds=0.05,
        )

    return Starlette(routes=[WebSocketRoute("/ws/{topics}", socket), Route("/sse/{topics}", stream)])


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SAID.clear()


@pytest.fixture
async def rt(folder: Path) -> AsyncIterator[Runtime]:
    async with Runtime(folder, seed=1) as running:
        yield running


@pytest.fixture
async def host(rt: Runtime) -> AsyncIterator[str]:
    async with serving(app_of(rt)) as address:
        yield address


async def message(client: ClientConnection) -> tuple[str, int, Any]:
    """The next frame that is no beginning; it is a message."""
    frame = json.loads(await client.recv())
    if frame["type"] == "begin":
        frame = json.loads(await client.recv())
    assert frame["type"] == "message", frame
    return frame["topic"], frame["number"], frame["data"]


async def test_a_client_gets_every_message_once_over_reconnects(rt: Runtime, host: str) -> None:
    """Cut off hard in the middle, again and again, while others are published."""
    room, most = rt.get(Room, "a"), 60

    async def publish() -> None:
        for n in range(1, most + 1):
            await room.publish("x", n * n)
            await asyncio.sleep(0.002)

    publishing = asyncio.create_task(publish())
    got: list[tuple[str, int, Any]] = []
    while len(got) < most:
        since = got[-1][1] if got else 0
        async with connect(f"ws://{host}/ws/x?since={since}") as client:
            for _ in range(min(7, most - len(got))):
                got.append(await message(client))
            client.transport.abort()
    await publishing
    assert got == [("x", n, n * n) for n in range(1, most + 1)]


async def test_several_topics_in_one_connection(rt: Runtime, host: str) -> None:
    """Each with its own number; `latest` is the last one."""
    room = rt.get(Room, "a")
    for topic in ("job:1", "job:2"):
        for n in range(3):
            await room.publish(topic, n)
    async with connect(f"ws://{host}/ws/job:1,job:2?since=job:1:1&since=job:2:latest") as client:
        got = [await message(client) for _ in range(3)]
        assert got == [("job:1", 2, 1), ("job:1", 3, 2), ("job:2", 3, 2)]
        await room.publish("job:1", "new")
        assert await message(client) == ("job:1", 4, "new")


async def test_what_a_client_says(host: str) -> None:
    """Text and bytes; a ping is answered by itself; too much at once ends it."""
    async with connect(f"ws://{host}/ws/x") as client:
        assert json.loads(await client.recv()) == {"type": "begin", "topic": "x", "number": 0}
        for said in ("hello", b"\x01", "ping"):
            await client.send(said)
        assert [await client.recv() for _ in range(3)] == ["you said 'hello'", "you said b'\\x01'", "pong"]
        await client.send("a" * 1001)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == TOO_BIG


@pytest.mark.parametrize(
    ("path", "origin", "status"),
    [
        ("x", "https://evil.example", 403),
        ("x", "http://[", 403),
        ("x?since=abc", None, 400),
        ("x?since=y:3", None, 400),
        ("x,y?since=3", None, 400),
        ("x?user=nobody", None, 403),
        ("x?user=breaks", None, 500),
    ],
)
async def test_who_is_refused_is_told_why(host: str, path: str, origin: str | None, status: int) -> None:
    """A page of another host, a `since` that is none, whoever the hub doesn't let in; by either transport."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://{host}/ws/{path}", origin=origin):  # type: ignore[arg-type]
            pass
    assert refused.value.response.status_code == status
    async with httpx.AsyncClient() as client:
        headers = {} if origin is None else {"Origin": origin}
        answer = await client.get(f"http://{host}/sse/{path}", headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status
    assert SAID == []


async def test_pages_of_this_host_and_of_friends_may_connect(host: str) -> None:
    """By the origin that the browser tells."""
    for origin in (f"http://{host}", "https://friend.example"):
        async with connect(f"ws://{host}/ws/x", origin=origin) as client:  # type: ignore[arg-type]
            await client.recv()
            await client.send("ping")
            assert await client.recv() == "pong"


async def test_a_client_that_does_not_read_is_cut_off(rt: Runtime, host: str) -> None:
    """The others get everything meanwhile; what it didn't take is not kept in memory."""
    room = rt.get(Room, "a")
    async with connect(f"ws://{host}/ws/x", compression=None) as slow, connect(f"ws://{host}/ws/x") as quick:
        slow.transport.pause_reading()
        got = 0
        while sum(one.is_open for one in rt.sockets.of_hub(hub_ref(room))) == 2:
            assert got < 200
            await room.publish("x", "a" * 200_000)
            await message(quick)
            got += 1
            await asyncio.sleep(0)
        await until(lambda: SAID == [(TOO_SLOW, True)])
        await room.publish("x", "after")
        assert (await message(quick))[2] == "after"
        slow.transport.abort()


async def test_a_client_that_vanishes_is_told_to_the_hub(rt: Runtime, host: str) -> None:
    """Once; who says good-bye with its own code."""
    async with connect(f"ws://{host}/ws/x") as client:
        client.transport.abort()
        await until(lambda: bool(SAID))
    async with connect(f"ws://{host}/ws/x") as client:
        await client.close(4001, "bye")
    await until(lambda: len(SAID) == 2)
    assert SAID[0] in [(NO_CODE, False), (ABNORMAL, False)]  # as the server tells it
    assert SAID[1] == (4001, True)
    assert rt.sockets.of_hub(hub_ref(rt.get(Room, "a"))) == []


async def test_closing_the_runtime_sends_all_away(folder: Path) -> None:
    """With 1001; what was published is sent first."""
    rt = Runtime(folder)
    await rt.open()
    async with serving(app_of(rt)) as host, connect(f"ws://{host}/ws/x") as client:
        await rt.get(Room, "a").publish("x", 1)
        await rt.close()
        assert (await message(client))[2] == 1
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == GOING_AWAY


# -- server-sent events -------------------------------------------------------------------------------------


async def lines_of(response: httpx.Response) -> AsyncIterator[str]:
    """By the ends of lines that the format knows, of which this server uses one."""
    rest = b""
    async for chunk in response.aiter_bytes():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode()


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """(id, data) of each event."""
    id_, name = "", ""
    async for line in lines_of(response):
        key, _, value = line.partition(": ")
        if key == "id":
            id_ = value
        elif key == "event":
            name = value
        elif key == "data":
            yield id_, (name, json.loads(value)) if name else json.loads(value)


async def test_a_stream_goes_on_where_it_was_cut_off(rt: Runtime, host: str) -> None:
    """By the id that a browser sends again by itself."""
    room = rt.get(Room, "a")
    for n in range(3):
        await room.publish("x", n)
    got: list[Any] = []
    seen = ""
    async with httpx.AsyncClient() as client:
        for _ in range(3):
            headers = {"Last-Event-ID": seen} if seen else {}
            async with client.stream("GET", f"http://{host}/sse/x,y?since=x:0", headers=headers) as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                await room.publish("y", len(got))
                async for last_id, frame in events(response):
                    seen = last_id
                    if frame["type"] == "begin":
                        continue
                    got.append((frame["topic"], frame["number"]))
                    if len(got) % 2 == 0:
                        break
        await until(lambda: len(SAID) == 3)
    assert seen in (event_id({"x": 3, "y": 3}), event_id({"y": 3, "x": 3}))
    for topic in ("x", "y"):  # each in order; between them there is none
        assert [number for one, number in got if one == topic] == [1, 2, 3]
    assert rt.sockets.of_hub(hub_ref(room)) == []


async def test_a_stream_that_is_asked_for_wrongly_is_a_problem(host: str) -> None:
    """As RFC 9457 says it."""
    async with httpx.AsyncClient() as client:
        wrong = await client.get(f"http://{host}/sse/x?since=abc")
        assert (wrong.status_code, wrong.headers["content-type"]) == (400, "application/problem+json")
        assert "expected the number of a message, or latest; got 'abc'" in wrong.json()["detail"]
        for given in ("{", "abc=-1", "a" * 9_000, "=3"):
            wrong = await client.get(f"http://{host}/sse/x", headers={"Last-Event-ID": given})
            assert wrong.status_code == 400
        head = await client.head(f"http://{host}/sse/x")
        assert (head.status_code, head.content) == (200, b"")
    assert SAID == []


@pytest.mark.parametrize("topic", ["jöb", "a b", "漢字"])
async def test_a_stream_carries_any_text(rt: Runtime, host: str, topic: str) -> None:
    """Line ends that only some know, topics of any alphabet."""
    room = rt.get(Room, "a")
    data = "a\u2028b\u0085c\x0bd\r\ne"
    for _ in range(2):
        await room.publish(topic, data)
    async with httpx.AsyncClient() as client:
        body = b""
        async with client.stream("GET", f"http://{host}/sse/{topic}?since=0") as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if body.count(b"data: "):
                    break
        lines = body.decode().split("\n")
        told = next(line for line in lines if line.startswith("data: "))
        assert json.loads(told[6:])["data"] == data
        seen = next(line for line in lines if line.startswith("id: "))[4:]
        assert seen == event_id({topic: 1})
        headers = {"Last-Event-ID": seen}
        async with client.stream("GET", f"http://{host}/sse/{topic}", headers=headers) as response:
            async for _, frame in events(response):
                assert (frame["type"], frame["number"]) == ("message", 2)
                break


async def test_a_stream_that_is_not_read_ends(rt: Runtime, host: str) -> None:
    """It is cut off, and nothing of it stays."""
    room = rt.get(Room, "a")
    name, _, port = host.partition(":")
    _, writer = await asyncio.open_connection(name, int(port), limit=1)
    writer.write(b"GET /sse/x HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n")
    await until(lambda: bool(rt.sockets.of_hub(hub_ref(room))))
    (socket,) = rt.sockets.of_hub(hub_ref(room))
    for _ in range(200):
        if not socket.is_open:
            break
        await room.publish("x", "a" * 200_000)
    await until(lambda: SAID == [(TOO_SLOW, True)])
    assert rt.sockets.of_hub(hub_ref(room)) == []
    writer.close()


async def test_a_client_that_does_not_read_is_closed(
    rt: Runtime, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the hub: what waits is sent for a while, and then no more."""
    monkeypatch.setattr(closing, "CLOSE_SECONDS", 0.2)
    room = rt.get(Room, "a")
    async with connect(f"ws://{host}/ws/x", compression=None) as client:
        client.transport.pause_reading()
        (socket,) = rt.sockets.of_hub(hub_ref(room))
        while socket.waiting < 10:
            await room.publish("x", "a" * 200_000)
        socket.close(4000, "as you like")
        await until(lambda: SAID == [(4000, True)])
        client.transport.abort()


async def test_a_stream_says_good_bye(folder: Path) -> None:
    """When the runtime closes."""
    rt = Runtime(folder)
    await rt.open()
    async with (
        serving(app_of(rt)) as host,
        httpx.AsyncClient() as client,
        client.stream("GET", f"http://{host}/sse/x") as response,
    ):
        await until(lambda: bool(rt.sockets.of_hub(hub_ref(rt.get(Room, "a")))))
        await rt.close()
        told = [data async for _, data in events(response)]
    assert told[1:] == [("close", {"code": GOING_AWAY, "reason": "the server is closing"})]


# -- kill -9 ------------------------------------------------------------------------------------------------

SERVER = """
import asyncio, sys
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from holdfast import Runtime, WebSocketHub
from holdfast.service import serve_websocket

class Ticker(WebSocketHub):
    ticks: int = 0
    async def tick(self) -> None:
        self.ticks += 1
        await self.publish("x", self.ticks)

async def main():
    async with Runtime(sys.argv[1]) as rt:
        async def socket(websocket):
            await serve_websocket(websocket, rt.get(Ticker, "t"), topics=["x"])
        async def tick():
            while True:
                await rt.get(Ticker, "t").tick()
                await asyncio.sleep(0.001)
        ticking = asyncio.create_task(tick())
        app = Starlette(routes=[WebSocketRoute("/ws", socket)])
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.001)
        print(server.servers[0].sockets[0].getsockname()[1], flush=True)
        await serving

asyncio.run(main())
"""


def started(program: Path, data: Path) -> subprocess.Popen[str]:
    """A server as a process, which tells its port in a line."""
    return subprocess.Popen([sys.executable, str(program), str(data)], stdout=subprocess.PIPE, text=True)


async def test_a_client_gets_every_message_once_over_kills_of_the_server(tmp_path: Path) -> None:
    """The counter that the messages tell is a field of the hub: it goes on from what is on disk."""
    program = tmp_path / "server.py"
    program.write_text(SERVER)
    got: list[tuple[int, int]] = []
    for _ in range(6):
        server = started(program, tmp_path / "data")
        assert server.stdout is not None
        try:
            port = int(await asyncio.to_thread(server.stdout.readline))
            since = got[-1][0] if got else 0
            async with connect(f"ws://127.0.0.1:{port}/ws?since={since}") as client:
                for n in range(40):
                    frame = json.loads(await client.recv())
                    assert frame["type"] == "message", frame
                    got.append((frame["number"], frame["data"]))
                    if n == 30:
                        server.kill()
        except ConnectionClosed:
            pass
        finally:
            server.kill()
            assert await asyncio.to_thread(server.wait) == -signal.SIGKILL
            server.stdout.close()
    assert len(got) >= 6 * 31
    assert got == [(n, n) for n in range(1, len(got) + 1)]
