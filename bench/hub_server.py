"""The server of the hub scenario, a process of its own: Holdfast's hub, or a bare broadcast of `websockets`.

It tells its port in a line, waits for a line, publishes, and waits for one more.  Each message is numbered,
some 150 bytes long, and says when it was published, by the machine's own monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

TOPIC = "ticks"
PAD = "x" * 100
# In a run at full speed nobody publishes on while so many frames wait for the slowest client.
MOST_WAITING = 300
MOST_BYTES = 200 * MOST_WAITING


async def publish(task: dict[str, Any], one: Callable[[dict[str, object]], Awaitable[None]]) -> None:
    """All messages, so many a second or as fast as that goes."""
    began = time.perf_counter()
    for n in range(task["messages"]):
        if task["per_second"]:
            ahead = began + n / task["per_second"] - time.perf_counter()
            if ahead > 0:
                await asyncio.sleep(ahead)
        await one({"n": n, "sent_ns": time.monotonic_ns(), "pad": PAD})


async def told() -> None:
    """Return when the parent has written a line."""
    await asyncio.to_thread(sys.stdin.readline)


def tell(**what: object) -> None:
    """Write a line for the parent."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


async def holdfast(task: dict[str, Any]) -> None:
    """A hub behind uvicorn, as a user would have it."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute
    from starlette.websockets import WebSocket

    from holdfast import Runtime, WebSocketHub
    from holdfast.service import serve_websocket
    from holdfast.service.topics import hub_ref

    with tempfile.TemporaryDirectory(dir=task["place"]) as folder:
        async with Runtime(Path(folder) / "data") as rt:
            hub = rt.get(WebSocketHub, "hub")

            async def endpoint(websocket: WebSocket) -> None:
                await serve_websocket(websocket, hub, topics=[TOPIC])

            app = Starlette(routes=[WebSocketRoute("/", endpoint)])
            config = uvicorn.Config(
                app, host="127.0.0.1", port=0, log_level="error", lifespan="off", ws_per_message_deflate=False
            )
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.01)
            tell(port=server.servers[0].sockets[0].getsockname()[1])
            await told()
            sockets = rt.sockets.of_hub(hub_ref(hub))

            async def one(data: dict[str, object]) -> None:
                await hub.publish(TOPIC, data)
                while max(socket.waiting for socket in sockets) > MOST_WAITING:  # noqa: ASYNC110  # nobody tells
                    await asyncio.sleep(0.001)

            await publish(task, one)
            await told()
            server.should_exit = True
            await serving


async def bare(task: dict[str, Any]) -> None:
    """Nothing but a broadcast: no number, no disk, nobody comes back."""
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    clients: set[ServerConnection] = set()

    async def handler(client: ServerConnection) -> None:
        clients.add(client)
        try:
            await client.wait_closed()
        finally:
            clients.discard(client)

    async with serve(handler, "127.0.0.1", 0, compression=None) as server:
        tell(port=next(iter(server.sockets)).getsockname()[1])
        await told()

        async def one(data: dict[str, object]) -> None:
            broadcast(clients, json.dumps({"type": "message", "data": data}))
            await asyncio.sleep(0)
            while max(one.transport.get_write_buffer_size() for one in clients) > MOST_BYTES:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        await publish(task, one)
        await told()


def main() -> None:
    """`python -m bench.hub_server TASK`, the task as JSON."""
    task = json.loads(sys.argv[1])
    serve = holdfast if task["side"] == "holdfast" else bare
    if task["loop"] == "uvloop":
        import uvloop

        uvloop.run(serve(task))
    else:
        asyncio.run(serve(task))


if __name__ == "__main__":
    main()
