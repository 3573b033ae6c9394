"""A hundred imports at once, each followed by a client: how late their frames are.

`python -m tests.examples.book_import.test_delivery` prints it: books, server and clients are three processes.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from datetime import datetime
from pathlib import Path

import httpx2
from websockets.asyncio.client import connect

from tests.examples.book_import.book_server import DUNE, book_server
from tests.examples.book_import.server_process import server_process
from tests.examples.book_import.support import ALL

IMPORTS = 100


async def follow(base: str, job: str, late_ms: list[float]) -> list[str]:
    """The statuses of a job; and how long after it was said each came."""
    statuses: list[str] = []
    async with connect(f"{base.replace('http', 'ws', 1)}/ws/progress?jobId={job}&since=0") as socket:
        connected_at = time.time()
        while not statuses or statuses[-1] not in ("completed", "failed"):
            frame = json.loads(await socket.recv())
            statuses.append(frame["status"])
            told_at = datetime.fromisoformat(frame["timestamp"]).timestamp()
            if told_at > connected_at:
                late_ms.append(1000 * (time.time() - told_at))
    return statuses


async def measure(folder: Path, imports: int) -> tuple[list[list[str]], list[float]]:
    """What each client got, and how late, sorted."""
    late_ms: list[float] = []
    async with book_server() as books:
        with server_process(folder, books) as server:
            await server.until_ready()

            async def one(client: httpx2.AsyncClient) -> list[str]:
                order = {"isbn": DUNE, "source": "google_books"}
                answer = await client.post(f"{server.base}/v2/import/workflow", json=order)
                return await follow(server.base, answer.json()["data"]["jobId"], late_ms)

            async with asyncio.timeout(120), httpx2.AsyncClient(trust_env=False, timeout=30) as client:
                followed = await asyncio.gather(*[one(client) for _ in range(imports)])
    return followed, sorted(late_ms)


async def test_a_hundred_at_once(tmp_path: Path) -> None:
    """Each client gets all frames of its import, and of no other."""
    followed, late_ms = await measure(tmp_path, IMPORTS)
    assert followed == [ALL] * IMPORTS
    assert late_ms


def main() -> None:
    """Print how late frames are."""
    with tempfile.TemporaryDirectory() as folder:
        _, late_ms = asyncio.run(measure(Path(folder), IMPORTS))
    for name, share in (("median", 0.5), ("p95", 0.95), ("p99", 0.99)):
        print(f"{name} {late_ms[int(len(late_ms) * share)]:.1f} ms")  # noqa: T201
    print(f"{IMPORTS} imports, {len(late_ms)} frames")  # noqa: T201


if __name__ == "__main__":
    main()
