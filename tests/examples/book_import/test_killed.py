"""A server that is killed in the middle of an import, at each of its steps, and started again."""

from __future__ import annotations

import asyncio
import json
from collections import Counter as Tally
from pathlib import Path
from typing import Any

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from holdfast.storage.check import check
from tests.examples.book_import.book_server import DUNE, PICTURE, book_server
from tests.examples.book_import.server_process import WAIT_SECONDS, Server, server_process
from tests.examples.book_import.support import ALL

# The server as it is shipped, but its process kills itself where the test says, once.
KILLED = """
import os, signal, sys
from holdfast.examples.book_import import __main__ as server
from holdfast.examples.events_pipeline.step_watch import OracleFile

step, where, done = sys.argv[1:4]

class Killer(OracleFile):
    def begins(self, info):
        super().begins(info)
        if info.name == step and not os.path.exists(done):
            open(done, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)

server.OracleFile = Killer
sys.argv[1:] = sys.argv[4:]
server.main()
"""


async def follow(server: Server, job: str, frames: list[dict[str, Any]]) -> bool:
    """Frames behind those that there are; False when the connection was lost before the end."""
    number = frames[-1]["number"] if frames else 0
    url = f"ws://127.0.0.1:{server.port}/ws/progress?jobId={job}&since={number}"
    try:
        async with connect(url) as one:
            while True:
                frames.append(json.loads(await one.recv()))
                if frames[-1]["status"] in ("completed", "failed"):
                    return True
    except (WebSocketException, OSError):
        return False


@pytest.mark.parametrize("step", ["fetch-metadata", "upload-cover", "generate-embedding", "save-to-database"])
async def test_killed_at_each_step(tmp_path: Path, step: str) -> None:
    """Started again it goes on: each frame comes once, and only the step that was cut off begins anew."""
    async with book_server() as books:
        with server_process(tmp_path, books, KILLED, step, "body", tmp_path / "killed") as server:
            await server.until_ready()
            async with httpx2.AsyncClient(base_url=server.base, trust_env=False) as client:
                order = {"isbn": DUNE, "source": "google_books"}
                try:
                    answer = await client.post("/v2/import/workflow", json=order)
                    job = answer.json()["data"]["jobId"]
                except httpx2.TransportError:
                    job = ""  # it was killed before it answered
                frames: list[dict[str, Any]] = []
                if job:
                    await follow(server, job, frames)
                await server.until_dead()
                server.start()
                await server.until_ready()
                if not job:
                    job = only_job(server)
                async with asyncio.timeout(WAIT_SECONDS):
                    while not await follow(server, job, frames):  # noqa: ASYNC110  # nobody tells
                        await asyncio.sleep(0.05)
        assert [frame["status"] for frame in frames] == ALL
        assert [frame["number"] for frame in frames] == [1, 2, 3, 4, 5]
        others = {"fetch-metadata", "upload-cover", "generate-embedding", "save-to-database"} - {step}
        assert server.steps() == Tally({step: 2, **dict.fromkeys(others, 1)})
        assert check(server.folder) == []
        files = [path for path in (server.folder / "blobs").rglob("*") if path.is_file()]
        assert [path.read_bytes() for path in files] == [PICTURE]


def only_job(server: Server) -> str:
    """The job that was begun, from the oracle."""
    return server.oracle.read_text().split()[0].rpartition("/")[2]
