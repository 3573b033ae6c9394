"""The server of the http scenario, a process of its own: a runtime's service, or an app that keeps nothing.

It tells its port in a line and serves until a line comes.  Both sides are uvicorn with the same settings, and
read and write as much JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from holdfast import Counter, Runtime, Workflow
from holdfast.service import Token
from holdfast.service.fastapi import actor

from .http_requests import SECRET
from .hub_server import tell, told


async def nothing(n: int) -> int:
    """The body of the only step."""
    return n


class OneStepOverHttp(Workflow):
    """What is started over HTTP."""

    async def run(self, n: int) -> int:
        """One step."""
        return await self.step(nothing, n)


async def serve(app: Any) -> None:
    """Serve until the parent writes a line."""
    import uvicorn

    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", access_log=False, http="h11")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.01)
    tell(port=server.servers[0].sockets[0].getsockname()[1])
    await told()
    server.should_exit = True
    await serving


async def holdfast(place: str) -> None:
    """A runtime in an application of FastAPI, as a user would have it."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        rt = Runtime(Path(folder) / "data")

        @asynccontextmanager
        async def own(app: FastAPI) -> AsyncIterator[None]:
            rt.workflow_type(OneStepOverHttp)
            yield

        app = FastAPI(lifespan=rt.lifespan_with(own))
        app.mount("/api", rt.asgi(tokens=[Token(SECRET, "bench", "operator")]))

        @app.post("/count/{key}")
        async def count(counter: Annotated[Counter, Depends(actor(Counter, "key"))]) -> int:
            return await counter.increment()

        await serve(app)


async def floor(place: str) -> None:
    """The same addresses; each request is read, answered with as much, and forgotten."""
    counts: dict[str, int] = {}
    names = "workflow id correlation_id status created_at ended_at error ref tags tenant state"
    known = dict.fromkeys(names.split(), "x" * 16)

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def runs(request: Request) -> JSONResponse:
        await request.json()
        return JSONResponse(known, 201)

    async def events(request: Request) -> JSONResponse:
        await request.json()
        return JSONResponse({"event_id": "x" * 22, "correlation_id": "x" * 22, "status": "queued"}, 202)

    app = FastAPI()
    app.mount(
        "/api",
        Starlette(
            routes=[
                Route("/health", health),
                Route("/runs", runs, methods=["POST"]),
                Route("/events", events, methods=["POST"]),
            ]
        ),
    )

    @app.post("/count/{key}")
    async def count(key: str) -> int:
        counts[key] = counts.get(key, 0) + 1
        return counts[key]

    await serve(app)


def main() -> None:
    """`python -m bench.http_server TASK`, the task as JSON."""
    task = json.loads(sys.argv[1])
    work = holdfast(task["place"]) if task["side"] == "holdfast" else floor(task["place"])
    if task["loop"] == "uvloop":
        import uvloop

        uvloop.run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()
