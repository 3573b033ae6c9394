"""A server under a mixed load over HTTP: nothing is lost, nothing counted twice, no 5xx, memory stays flat.

HOLDFAST_SOAK_SECONDS   how long it goes on; a minute by default
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
from collections import Counter as Tally
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from holdfast import Counter, Runtime
from tests.service.server_process import ServerProcess
from tests.slow.http_soak_app import KEYS, SECRET, SoakEvent, SoakRun

SECONDS = float(os.environ.get("HOLDFAST_SOAK_SECONDS", "60"))
# What the last quarter may hold over the second one: the heap is as large as the load wants it by then.
FLAT = 1.25
SPARE_BYTES = 16 << 20
API = "/_holdfast"


class Load:
    """What was asked, and what is known to be done."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self.client = client
        self.over = False
        self.statuses: Tally[str] = Tally()
        self.wrong: list[str] = []
        self.done: Tally[str] = Tally()
        self.frames = 0

    async def ask(self, method: str, path: str, *expected: int, **options: Any) -> Any:
        """The answer; one with another status than expected is kept as wrong."""
        async with self.client.request(method, path, **options) as response:
            told = await response.json(content_type=None)
            self.statuses[
                f"{method} {path.partition('?')[0].split('/')[1 if API not in path else 2]} {response.status}"
            ] += 1
            if response.status not in expected:
                self.wrong.append(f"{method} {path}: {response.status} {told}")
            return told

    async def start_runs(self, who: int) -> None:
        """Start one, update it, let it go."""
        n = 0
        while not self.over:
            n += 1
            key = f"{who}-{n}"
            body = {"workflow": "SoakRun", "input": n, "id": key}
            await self.ask("POST", f"{API}/runs", 201, json=body)
            bumped = await self.ask(
                "POST", f"{API}/runs/updates/SoakRun/{key}", 200, json={"method": "bump", "id": "once"}
            )
            if bumped != {"reply": 1}:
                self.wrong.append(f"update of {key}: {bumped}")
            await self.ask("POST", f"{API}/runs/events/SoakRun/{key}", 202, json={"name": "go", "id": "go"})
            self.done["runs"] += 1

    async def post_events(self, who: int) -> None:
        """Each once, one of ten twice."""
        n = 0
        while not self.over:
            n += 1
            body = {"payload": {"n": n, "pad": "x" * random.randrange(500)}, "event_id": f"event-{who}-{n}"}
            for _ in range(2 if n % 10 == 0 else 1):
                await self.ask("POST", f"{API}/events", 202, json=body)
            self.done["events"] += 1

    async def call_actors(self, who: int) -> None:
        """Calls over the application's own endpoint."""
        while not self.over:
            key = f"key-{random.randrange(KEYS)}"
            await self.ask("POST", f"/count/{key}", 200)
            self.done[key] += 1

    async def look(self, who: int) -> None:
        """Listings, and one run of each with its history."""
        while not self.over:
            found = (await self.ask("GET", f"{API}/runs?limit=50&newest=1", 200))["runs"]
            await self.ask("GET", f"{API}/runs?status=waiting&limit=20", 200)
            await self.ask("GET", f"{API}/health", 200)
            if found:
                one = random.choice(found)
                where = f"{one['workflow']}/{one['id']}"
                await self.ask("GET", f"{API}/runs/{where}", 200, 404)  # it may be erased by then
                await self.ask("GET", f"{API}/history/{where}", 200, 404)
            await asyncio.sleep(0.02)

    async def listen(self, who: int) -> None:
        """Come and go, sometimes without a word; every message once, in order."""
        last = 0
        while not self.over:
            socket = await self.client.ws_connect(f"/ws?since={last}")
            for _ in range(random.randrange(1, 500)):
                try:
                    frame = await socket.receive_json(timeout=1)
                except TimeoutError:
                    if self.over:
                        break
                    continue
                if frame["type"] != "message" or frame["number"] != last + 1:
                    self.wrong.append(f"socket {who} had {last} and got {frame}")
                last = frame["number"]
                self.frames += 1
            if random.random() < 0.5:
                await socket.close()
            else:
                socket._response.close()


def memory_bytes(pid: int) -> int:
    """What a process holds for itself."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


async def values(rt: Runtime, done: Tally[str]) -> dict[str, int]:
    return {key: await rt.get(Counter, key).get() for key in done}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_soak(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that was answered is done, exactly once."""
    memory: list[int] = []
    with ServerProcess(
        "uvicorn", "tests.slow.http_soak_app:app", "--port", 0, "--log-level", "warning",
        "--timeout-graceful-shutdown", 20, "--log-level", "info", "--no-access-log",
        environment={"SOAK_FOLDER": str(folder)},
    ) as server:  # fmt: skip
        base = f"http://{await asyncio.to_thread(server.address)}"
        headers = {"Authorization": f"Bearer {SECRET}"}
        connector = aiohttp.TCPConnector(limit=100)
        async with aiohttp.ClientSession(base, headers=headers, connector=connector) as client:
            load = Load(client)
            async with asyncio.TaskGroup() as group:
                for work, many in (
                    (load.start_runs, 4), (load.post_events, 4), (load.call_actors, 2), (load.look, 1),
                    (load.listen, 8),
                ):  # fmt: skip
                    for who in range(many):
                        group.create_task(work(who))
                for _ in range(int(SECONDS)):
                    await asyncio.sleep(1)
                    memory.append(memory_bytes(server.pid))
                load.over = True
            load.done["bumps"] = load.done["runs"]
        server.send_signal()
        await asyncio.to_thread(server.ended)
        assert "Traceback" not in server.text
    async with Runtime(folder, types=[SoakRun, SoakEvent]) as rt:
        rt.bind("event-queue", SoakEvent, id=lambda _, event: event["event_id"])
        async with asyncio.timeout(120):
            while await values(rt, load.done) != dict(load.done):  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(0.5)
        await asyncio.sleep(1)  # for what would be too much
        counted = await values(rt, load.done)
    quarter = max(len(memory) // 4, 1)
    before, after = (
        statistics.median(memory[quarter : 2 * quarter] or memory),
        statistics.median(memory[-quarter:]),
    )
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{SECONDS:g} s, {sum(load.statuses.values())} requests, {load.frames} frames; "
            f"memory {before / 2**20:.1f} then {after / 2**20:.1f} MiB; done {dict(load.done)}; "
            f"{dict(load.statuses)}"
        )
    assert load.wrong == []
    assert counted == dict(load.done)
    assert load.frames > 0
    assert after <= FLAT * before + SPARE_BYTES, [one >> 20 for one in memory]
