"""service/serve.py, `holdfast serve`, and what a signal does to servers: real processes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, cast

import httpx2 as httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from holdfast import CallerError, Counter, Queue, Runtime, WebSocketHub
from holdfast.actors.code_target import runtime_or_folder
from holdfast.service import Token, event_stream, serve_websocket
from holdfast.service.draining_server import DrainingServer
from holdfast.service.serve import run_server, serve
from tests.service import embedded_app
from tests.service.embedded_app import SECRET, EmbeddedSteps
from tests.service.server_process import PATIENCE_SECONDS, ServerProcess

HEADERS = {"Authorization": f"Bearer {SECRET}"}
TOKEN = Token(SECRET, "ann", "operator")
APP = "tests.service.embedded_app"


def as_client(address: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=f"http://{address}", headers=HEADERS, trust_env=False, timeout=PATIENCE_SECONDS
    )


async def exists(file: Path) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not file.exists():  # noqa: ASYNC110, ASYNC240  # another process tells
            await asyncio.sleep(0.005)


async def listens(address: str) -> None:
    """Return when somebody listens."""
    host, port = address.split(":")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                await asyncio.sleep(0.005)
            else:
                writer.close()
                return


async def refuses(address: str) -> None:
    """Return when nobody listens any more."""
    host, port = address.split(":")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.005)


def uvicorn_process(folder: Path, *arguments: object, **environment: str) -> ServerProcess:
    return ServerProcess(
        "uvicorn", f"{APP}:app", "--port", "0", *arguments,
        environment={"EMBEDDED_FOLDER": str(folder), **environment},
    )  # fmt: skip


def holdfast_serve(folder: Path, *arguments: object, **environment: str) -> ServerProcess:
    """`holdfast serve` on a free port, with a token."""
    return ServerProcess(
        "holdfast", "serve", *arguments, "--port", "0",
        environment={
            "EMBEDDED_FOLDER": str(folder), "HOLDFAST_TOKENS": f"ann:operator={SECRET}", **environment,
        },
    )  # fmt: skip


# -- uvicorn with a lifespan --------------------------------------------------------------------------------


async def test_a_signal_lets_requests_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn, SIGTERM: a request gets its reply, sockets a code, and all that was acknowledged is there."""
    with uvicorn_process(folder, "--timeout-graceful-shutdown", 30) as server:
        address = server.address()
        async with as_client(address) as client, connect(f"ws://{address}/ws") as client_socket:
            assert json.loads(await client_socket.recv())["type"] == "begin"
            started = await client.post(
                "/_holdfast/runs", json={"workflow": "EmbeddedSteps", "input": "step", "id": "run"}
            )
            assert started.status_code == 201
            await exists(folder.parent / "step.begun")
            waiting = asyncio.create_task(client.post("/slow/request"))
            await exists(folder.parent / "request.begun")
            server.send_signal()
            await refuses(address)
            with pytest.raises(ConnectionClosed) as closed:
                await client_socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code in (1001, 1012)
            assert not waiting.done()
            (folder.parent / "request.go").touch()
            response = await waiting
            assert (response.status_code, response.json()) == (200, 1)
        assert await asyncio.to_thread(server.ended) == -signal.SIGTERM  # uvicorn dies by what stopped it
        assert "Traceback" not in server.text
    (folder.parent / "step.go").touch()
    monkeypatch.setattr(embedded_app, "FOLDER", folder)
    async with Runtime(folder, types=[EmbeddedSteps]) as rt:
        assert await rt.get(Counter, "request").get() == 1
        # The step was cut off, and runs again.
        assert await rt.run(EmbeddedSteps, "run").result() == "step"


# -- holdfast serve -----------------------------------------------------------------------------------------


async def test_serve_ends_well(folder: Path) -> None:
    """`holdfast serve`, SIGTERM: an update that is on its way gets its reply, and the exit code is 0."""
    with holdfast_serve(folder, folder, "--import", APP) as server:
        address = server.address()
        async with as_client(address) as client:
            run = {"workflow": "EmbeddedUpdates", "id": "run"}
            assert (await client.post("/runs", json=run)).status_code == 201
            body = {"method": "ask", "arguments": ["update"]}
            asked = asyncio.create_task(client.post("/runs/updates/EmbeddedUpdates/run", json=body))
            await exists(folder.parent / "update.begun")
            server.send_signal()
            await refuses(address)
            (folder.parent / "update.go").touch()
            response = await asked
            assert (response.status_code, response.json()) == (200, {"reply": "update"})
        assert await asyncio.to_thread(server.ended) == 0
        assert SECRET not in server.text


async def test_serve_ends_in_time(folder: Path) -> None:
    """A request that never ends is cut off behind the bound, and the exit code is 0 all the same."""
    program = (
        "from pathlib import Path\n"
        "from holdfast.service import Token\n"
        "from holdfast.service.serve import run_server\n"
        f"from {APP} import rt\n"
        f"run_server(rt, port=0, tokens=[Token({SECRET!r}, 'ann', 'operator')], drain_seconds=1,\n"
        "           say=lambda line: print(line, flush=True))\n"
    )
    (folder.parent / "cut_off.py").write_text(program)
    with ServerProcess(
        "tests.service.run_file", folder.parent / "cut_off.py", environment={"EMBEDDED_FOLDER": str(folder)}
    ) as server:
        async with as_client(server.address()) as client:
            await client.post("/runs", json={"workflow": "EmbeddedUpdates", "id": "run"})
            body = {"method": "ask", "arguments": ["never"]}
            asked = asyncio.create_task(client.post("/runs/updates/EmbeddedUpdates/run", json=body))
            await exists(folder.parent / "never.begun")
            server.send_signal()
            assert await asyncio.to_thread(server.ended) == 0
            with pytest.raises(httpx.HTTPError):
                (await asked).raise_for_status()


async def test_clients_of_hubs_are_told_to_come_again(folder: Path) -> None:
    """A stream ends with an event, a socket with a code, behind what waited; neither holds the server up."""
    async with Runtime(folder) as rt:
        hub = rt.get(WebSocketHub, "hub")

        async def ws(websocket: WebSocket) -> None:
            await serve_websocket(websocket, hub, topics=["news"])

        async def stream(request: Request) -> Response:
            return await event_stream(request, hub, topics=["news"])

        app = Starlette(routes=[WebSocketRoute("/ws", ws), Route("/stream", stream)])
        server = DrainingServer(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"), rt)
        cast("Any", server).capture_signals = nullcontext  # they belong to the test run
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.001)
        address = f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        async with (
            as_client(address) as client,
            client.stream("GET", "/stream") as streamed,
            connect(f"ws://{address}/ws") as client_socket,
        ):
            lines = streamed.aiter_lines()
            async for line in lines:
                if "begin" in line:
                    break
            assert json.loads(await client_socket.recv())["type"] == "begin"
            await hub.publish("news", "bye")
            server.should_exit = True
            assert json.loads(await client_socket.recv())["data"] == "bye"
            with pytest.raises(ConnectionClosed) as closed:
                await client_socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            rest = [line async for line in lines]
            assert [line for line in rest if "bye" in line]
            assert rest[-3] == "event: close"
            assert json.loads(rest[-2].removeprefix("data: "))["code"] == 1001
        await serving  # without a timeout_graceful_shutdown


async def test_serve_a_runtime_of_a_module(folder: Path) -> None:
    """MODULE:RUNTIME is opened and served, and --set-up is called with it: here it binds a queue."""
    with holdfast_serve(folder, f"{APP}:rt", "--set-up", f"{APP}:set_up") as server:
        (folder.parent / "queued.go").touch()
        async with as_client(server.address()) as client:
            started = await client.post("/runs", json={"workflow": "EmbeddedUpdates", "id": "run"})
            assert started.status_code == 201
        server.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(server.ended) == 0
    async with Runtime(folder, types=[EmbeddedSteps]) as rt:
        assert [one.id for one in rt.runs()] == ["run"]
        assert (await rt.get(Queue, "embedded").stats()).dead == 0


async def test_serve_makes_a_token(folder: Path) -> None:
    """On loopback, when none is given: it is told once, with its role, and it works."""
    with ServerProcess("holdfast", "serve", folder, "--port", "0", environment={}) as server:
        secret = server.said(r"token of console, operator, .*: (\S+)")[1]
        async with httpx.AsyncClient(base_url=f"http://{server.address()}", trust_env=False) as client:
            assert (await client.get("/runs")).status_code == 401
            told = await client.get("/runs", headers={"Authorization": f"Bearer {secret}"})
            assert told.status_code == 200
            assert "server" not in told.headers
            assert (await client.get("/ui/", follow_redirects=True)).status_code == 200
        server.send_signal()
        assert await asyncio.to_thread(server.ended) == 0
        assert server.text.count(secret) == 1


async def test_serve_refuses_a_folder_in_use(folder: Path) -> None:
    """With a sentence, and the exit code of what can't be done."""
    async with Runtime(folder):
        with holdfast_serve(folder, folder) as server:
            assert await asyncio.to_thread(server.ended) == 2
            assert f"in use by process {os.getpid()}" in server.text
            assert "Traceback" not in server.text


async def test_headers_are_bounded(folder: Path) -> None:
    """Many more than `MAX_HEADER_BYTES` are refused, and the server goes on."""
    with holdfast_serve(folder, folder) as server:
        async with as_client(server.address()) as client:
            with suppress(httpx.TransportError):  # it may be cut off before it has said all
                assert (await client.get("/health", headers={"x": "y" * 2_000_000})).status_code == 400
            assert (await client.get("/health")).status_code == 200
        server.send_signal()
        assert await asyncio.to_thread(server.ended) == 0


# -- what it refuses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
async def test_needs_tokens_for_the_world(folder: Path, host: str) -> None:
    """Nothing is opened, nothing listened on."""
    with pytest.raises(CallerError, match="no tokens are given"):
        await serve(Runtime(folder), host=host, port=0)
    assert not os.path.exists(folder)  # noqa: ASYNC240


async def test_refuses_an_address_in_use(folder: Path) -> None:
    """Before the folder is touched."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CallerError, match=f"127.0.0.1:{port} can't be listened on"):
            await serve(Runtime(folder), port=port, tokens=[TOKEN])
    with pytest.raises(CallerError, match="a port is a number"):
        await serve(Runtime(folder), port=70_000, tokens=[TOKEN])
    assert not os.path.exists(folder)  # noqa: ASYNC240


def test_a_failing_set_up_ends_it(folder: Path) -> None:
    """What it raises is raised, and the folder is free."""

    async def set_up(rt: Runtime) -> None:
        raise OSError("no settings")

    with pytest.raises(OSError, match="no settings"):
        run_server(Runtime(folder), port=0, tokens=[TOKEN], set_up=set_up)

    async def again() -> None:
        async with Runtime(folder):
            pass

    asyncio.run(again())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("tests.service.embedded_app:app", "expected module:name of a Runtime"),
        ("tests.service.embedded_app:nothing", "got None"),
        ("no_such_module_here:rt", "there is no module"),
    ],
)
def test_targets_that_are_none(target: str, message: str) -> None:
    """The error says what was expected."""
    with pytest.raises(CallerError, match=re.escape(message)):
        runtime_or_folder(target)


def test_a_folder_is_a_target(tmp_path: Path) -> None:
    """Also one with a colon in its name, when it is there."""
    (tmp_path / "a:b").mkdir()
    assert runtime_or_folder(str(tmp_path / "a:b")).path == str(tmp_path / "a:b")
    assert runtime_or_folder("data").path == "data"
