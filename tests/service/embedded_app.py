"""An application with a runtime, for servers in processes of their own.

EMBEDDED_FOLDER   the runtime's folder; what its handlers and steps do, they tell by files beside it
EMBEDDED_WAIT     `wait_for_folder_seconds`
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, WebSocket
from starlette.requests import Request
from starlette.responses import Response

from holdfast import Counter, Runtime, WebSocketHub, Workflow, update
from holdfast.service import Token, event_stream, serve_websocket
from holdfast.service.fastapi import actor

FOLDER = Path(os.environ.get("EMBEDDED_FOLDER", "data"))
SECRET = "embedded-embedded-1"

rt = Runtime(FOLDER, wait_for_folder_seconds=float(os.environ.get("EMBEDDED_WAIT", "0")))
app = FastAPI(lifespan=rt.lifespan)
app.mount("/_holdfast", rt.asgi(tokens=[Token(SECRET, "ann", "operator")]))


async def until_told(name: str) -> str:
    """Tell that this has begun, and wait until the test says so."""
    (FOLDER.parent / f"{name}.begun").touch()
    while not (FOLDER.parent / f"{name}.go").exists():  # noqa: ASYNC110  # another process tells
        await asyncio.sleep(0.01)
    return name


class EmbeddedSteps(Workflow):
    """A step that takes as long as the test wants."""

    async def run(self, name: str) -> str:
        return await self.step(until_told, name)


class EmbeddedUpdates(Workflow):
    """An update that takes as long as the test wants."""

    async def run(self) -> None:
        await self.wait("end")

    @update
    async def ask(self, name: str) -> str:
        return await self.step(until_told, name)


@app.post("/slow/{key}")
async def slow(key: str, counter: Annotated[Counter, Depends(actor(Counter, "key"))]) -> int:
    await until_told(key)
    return await counter.increment()


@app.post("/fast/{key}")
async def fast(counter: Annotated[Counter, Depends(actor(Counter, "key"))]) -> int:
    return await counter.increment()


@app.websocket("/ws")
async def ws(websocket: WebSocket) -> None:
    await serve_websocket(websocket, rt.get(WebSocketHub, "hub"), topics=["news"])


@app.get("/stream")
async def stream(request: Request) -> Response:
    return await event_stream(request, rt.get(WebSocketHub, "hub"), topics=["news"])


def set_up(runtime: Runtime) -> None:
    """For `holdfast serve --set-up`."""
    runtime.bind("embedded", EmbeddedSteps)
