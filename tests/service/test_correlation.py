"""The header X-Correlation-Id, in and out, over HTTP and sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2 as httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from holdfast import HubSocket, Runtime, WebSocketHub, Workflow, current_correlation_id
from holdfast.client import AsyncWorkflowClient
from holdfast.service import Token, http_app, serve_websocket
from tests.service.support import serving

OPERATOR = Token("operator-operator-1", "otto", "operator")


class CorrelatedRun(Workflow):
    async def run(self) -> str:
        return self.correlation_id


class CorrelatedRoom(WebSocketHub):
    async def on_message(self, socket: HubSocket, data: str | bytes) -> None:
        self.send(socket, current_correlation_id() or "")


@pytest.fixture
async def host(folder: Path) -> AsyncIterator[str]:
    async with Runtime(folder, types=[CorrelatedRun]) as rt:

        async def socket(websocket: WebSocket) -> None:
            await serve_websocket(websocket, rt.get(CorrelatedRoom, "a"), topics=["t"])

        api = http_app(rt, tokens=[OPERATOR])
        app = Starlette(routes=[WebSocketRoute("/ws", socket), Mount("/", api)])
        async with serving(app) as at:
            yield at


@pytest.mark.parametrize(
    ("headers", "body", "is_it"),
    [
        ({"X-Correlation-Id": "c-1"}, {}, "c-1"),
        ({"X-Correlation-Id": "c-1"}, {"correlation_id": "c-2"}, "c-2"),
        ({}, {"correlation_id": "c-2"}, "c-2"),
    ],
)
async def test_http(host: str, headers: dict[str, str], body: dict[str, str], is_it: str) -> None:
    """A run gets the id of its body, else of the header; the header comes back with every answer."""
    headers = {"Authorization": f"Bearer {OPERATOR.secret}", **headers}
    async with httpx.AsyncClient(base_url=f"http://{host}", trust_env=False, headers=headers) as client:
        started = await client.post("/runs", json={"workflow": "CorrelatedRun", "id": "one", **body})
        assert started.status_code == 201, started.text
        assert started.headers.get("x-correlation-id") == headers.get("X-Correlation-Id")
        looked = await client.get("/runs/CorrelatedRun/one")
    assert looked.json()["run"]["correlation_id"] == is_it
    assert looked.headers.get("x-correlation-id") == headers.get("X-Correlation-Id")


async def test_refused(host: str) -> None:
    """An id that no line of a log should hold is refused."""
    async with httpx.AsyncClient(base_url=f"http://{host}", trust_env=False) as client:
        refused = await client.get("/health", headers={"X-Correlation-Id": "x" * 1000})
    assert refused.status_code == 400
    assert "a correlation id" in refused.json()["detail"]


async def asks_on(url: str) -> None:
    """What a step's body asks another service."""
    async with AsyncWorkflowClient(url, token=OPERATOR.secret) as client:
        await client.start("CorrelatedRun", id="asked")


class CorrelatedAsker(Workflow):
    async def run(self, url: str) -> None:
        await self.step(asks_on, url)


async def test_client(host: str, folder: Path) -> None:
    """What a step asks by the client has its run's id on the other side."""
    async with Runtime(folder.with_name("other")) as rt:
        run = await rt.start(CorrelatedAsker, f"http://{host}", correlation_id="c-4")
        await run.result()
    headers = {"Authorization": f"Bearer {OPERATOR.secret}"}
    async with httpx.AsyncClient(base_url=f"http://{host}", trust_env=False, headers=headers) as client:
        looked = await client.get("/runs/CorrelatedRun/asked")
    assert looked.json()["run"]["correlation_id"] == "c-4"


async def test_socket(host: str) -> None:
    """What a client of a hub causes has the id that it connected with."""
    async with connect(f"ws://{host}/ws", additional_headers={"X-Correlation-Id": "c-3"}) as client:
        await client.recv()
        await client.send("who am I?")
        assert "c-3" in str(await client.recv())


async def test_socket_refused(host: str) -> None:
    """A bad one is refused before anything is accepted."""
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws://{host}/ws", additional_headers={"X-Correlation-Id": "x" * 1000}):
            pass
    assert refused.value.response.status_code == 400
