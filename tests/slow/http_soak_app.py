"""The application that tests/slow/test_http_soak.py keeps busy."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any

from fastapi import Depends, FastAPI, WebSocket

from holdfast import Counter, Runtime, WebSocketHub, Workflow, update
from holdfast.service import Token, serve_websocket
from holdfast.service.fastapi import actor

SECRET = "http-soak-http-soak-1"
KEEP = timedelta(seconds=5)
KEYS = 20


async def nothing(n: int) -> int:
    return n


class SoakHub(WebSocketHub):
    """Keeps enough for a client that is away for a moment."""

    keep = 10_000


class SoakRun(Workflow):
    """One that is started, updated, and sent an event."""

    retention = KEEP

    async def run(self, n: int) -> int:
        self.bumps = 0
        await self.step(nothing, n)
        await self.wait("go")
        await self.runtime.get(Counter, "runs").increment()
        await self.runtime.get(Counter, "bumps").increment(self.bumps)
        return n

    @update
    async def bump(self) -> int:
        self.bumps += 1
        return self.bumps


class SoakEvent(Workflow):
    """An event out of the queue: counted, and told to all who listen."""

    retention = KEEP

    async def run(self, event: dict[str, Any]) -> None:
        await self.step(nothing, event["payload"]["n"])
        await self.runtime.get(Counter, "events").increment()
        await self.runtime.get(SoakHub, "hub").publish("news", event["event_id"])


rt = Runtime(os.environ.get("SOAK_FOLDER", "data"))


@asynccontextmanager
async def own(app: FastAPI) -> AsyncIterator[None]:
    """Events become runs; one that comes twice is one."""
    rt.bind("event-queue", SoakEvent, id=lambda _, event: event["event_id"])
    yield


app = FastAPI(lifespan=rt.lifespan_with(own))
app.mount("/_holdfast", rt.asgi(tokens=[Token(SECRET, "ann", "operator")]))


@app.post("/count/{key}")
async def count(counter: Annotated[Counter, Depends(actor(Counter, "key"))]) -> int:
    return await counter.increment()


@app.websocket("/ws")
async def ws(websocket: WebSocket) -> None:
    await serve_websocket(websocket, rt.get(SoakHub, "hub"), topics=["news"])
