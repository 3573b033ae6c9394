"""The hub: how long a published message takes to each of many clients, beside a bare broadcast.

The clients live in this process, the server in one of its own (``hub_server``).  Holdfast's message is
numbered, kept and durable before anybody gets it; the bare server's is none of that.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .lines import Line

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

    from .scale import Scale

CHECKOUT = Path(__file__).resolve().parent.parent
PACED_PER_SECOND = 100
# What a client of a live page doesn't notice.
P95_MS = 100.0
_SENT = '"sent_ns":'


@dataclass(frozen=True, slots=True)
class Delivery:
    """What came of one run."""

    per_second: float
    ms: tuple[float, float, float]  # p50, p95 and p99
    missing: int


def measure_hub(scale: Scale) -> None:
    """A hundred clients at a hundred messages a second, and a thousand at full speed."""
    missing = [
        name for name in ("starlette", "uvicorn", "websockets") if importlib.util.find_spec(name) is None
    ]
    if missing:
        print(f"hub is left out: it needs {', '.join(missing)} (pip install -e '.[test]')", file=sys.stderr)
        return
    paced, full = (20, 100) if scale.quick else (100, 1_000), (100, 100) if scale.quick else (1_000, 1_000)
    for clients, messages, per_second in ((*paced, PACED_PER_SECOND), (*full, 0)):
        name = f"{clients} clients, {messages} messages, " + (
            f"{per_second} a second" if per_second else "at full speed"
        )
        for side in ("bare broadcast", "holdfast"):
            got = asyncio.run(deliver(scale, side, clients, messages, per_second))
            target = f"p95 at most {P95_MS:g} ms" if per_second and side == "holdfast" else ""
            figures = {
                "deliveries/s": got.per_second,
                "p50 ms": got.ms[0],
                "p95 ms": got.ms[1],
                "p99 ms": got.ms[2],
                "missing": float(got.missing),
            }
            met = None if not target else got.ms[1] <= P95_MS and not got.missing
            scale.lines.append(Line("hub", f"{name}, {side}", figures, target, met))


async def deliver(scale: Scale, side: str, clients: int, messages: int, per_second: int) -> Delivery:
    """One run: start the server, connect the clients, have it publish."""
    from websockets.asyncio.client import connect

    task = {
        "side": side,
        "messages": messages,
        "per_second": per_second,
        "place": str(scale.place),
        "loop": scale.loop,
    }
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.hub_server",
        json.dumps(task),
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    took_ns: list[int] = []
    open_clients: list[ClientConnection] = []
    try:
        port = json.loads(await server.stdout.readline())["port"]
        for _ in range(clients):
            client = connect(f"ws://127.0.0.1:{port}/", compression=None, max_queue=None, ping_interval=None)
            open_clients.append(await client)
        began = time.perf_counter()
        reading = [asyncio.create_task(_read(one, messages, took_ns)) for one in open_clients]
        server.stdin.write(b"publish\n")
        await asyncio.wait(reading, timeout=120)
        seconds = time.perf_counter() - began
        for one in reading:
            one.cancel()
        server.stdin.write(b"end\n")
    finally:
        for client_ in open_clients:
            client_.transport.abort()
        try:
            await asyncio.wait_for(server.wait(), 20)
        except TimeoutError:
            server.kill()
            await server.wait()
    took_ns.sort()
    at = [took_ns[min(len(took_ns) - 1, int(len(took_ns) * part))] / 1e6 for part in (0.5, 0.95, 0.99)]
    missing = clients * messages - len(took_ns)
    return Delivery(len(took_ns) / seconds, (at[0], at[1], at[2]), missing)


async def _read(client: ClientConnection, messages: int, took_ns: list[int]) -> None:
    """All messages of one client; when each was published stands in it."""
    left = messages
    while left:
        frame = await client.recv(decode=True)
        at = frame.find(_SENT)
        if at < 0:
            continue  # it tells where the topic begins
        at += len(_SENT)
        took_ns.append(time.monotonic_ns() - int(frame[at : frame.index(",", at)]))
        left -= 1
