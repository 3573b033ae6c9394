# pyright: reportMissingImports=false, reportMissingModuleSource=false
"""Restate: its server, a service of the Python SDK on Hypercorn, and a client, each in a process of its own.

An event is a workflow; storing is a virtual object for each event, counting one for all.  The client speaks
HTTP/1.1 on a connection for each caller, in a few lines of its own, since the usual clients take more of the
processor than the rest.

What it syncs: the server as configured when nothing is configured, one node, its log synced by RocksDB's WAL;
appends that come together share a sync.

The server is the binary of the npm package `@restatedev/restate-server`: named by RESTATE_SERVER, or on PATH.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypercorn
import hypercorn.asyncio
import restate

from ..recovery import BLOCKED, CHECKOUT, STEPS, since_start
from ..workload import Event, Sample, drive, make_events, validate
from .protocol import Task, Unavailable, serve

SERVER = "RESTATE_SERVER"
START_SECONDS = 60.0
# Runs that wait in a step hold their place; the server's own limit is just that of the scenario.
RUNS_AT_WORK = 2_000
# Calls before the first one that is timed, for connections, code and caches.
WARM_UP = 50


def server() -> str:
    """The binary."""
    found = os.environ.get(SERVER) or shutil.which("restate-server")
    if not found:
        raise Unavailable(
            f"restate-server is not here (npm install @restatedev/restate-server, and name it by {SERVER})"
        )
    return found


def check(task: Task) -> dict[str, str]:
    """Versions of both halves."""
    try:
        told = subprocess.run([server(), "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"restate-server does not run: {error}") from None
    return {"restate-server": told.stdout.split()[-1], "restate-sdk": version("restate-sdk")}


# ------------------------------------------------------------------------------------------------------------
# The service's process.


def make_app(note: Path, blocks: int) -> Any:
    """The service; with ``blocks``, runs stay in their second step, and ``note`` appears when so many do."""
    events, metrics = restate.VirtualObject("Events"), restate.VirtualObject("Metrics")
    counters, pipelines = restate.VirtualObject("Counter"), restate.Workflow("Pipeline")
    step_runs, three = restate.Workflow("Steps"), restate.Workflow("Three")

    @events.handler()  # type: ignore[untyped-decorator]
    async def put(ctx: Any, event: dict[str, Any]) -> bool:
        if await ctx.get("event", type_hint=dict) is not None:
            return False
        ctx.set("event", event)
        return True

    @metrics.handler()  # type: ignore[untyped-decorator]
    async def add(ctx: Any, amount: int) -> None:
        found = await ctx.get("metrics", type_hint=dict) or {"events": 0, "amount": 0}
        now = await ctx.time()
        ctx.set(
            "metrics",
            {"events": found["events"] + 1, "amount": found["amount"] + amount, "last_event_at": now},
        )

    @metrics.handler(kind="shared")  # type: ignore[untyped-decorator]
    async def events_counted(ctx: Any) -> int:
        found = await ctx.get("metrics", type_hint=dict) or {"events": 0}
        counted: int = found["events"]
        return counted

    @counters.handler()  # type: ignore[untyped-decorator]
    async def increment(ctx: Any) -> int:
        value = (await ctx.get("value", type_hint=int) or 0) + 1
        ctx.set("value", value)
        return value

    def amount_of(event: dict[str, Any]) -> int:
        return validate(Event(**event)).amount

    @pipelines.main()  # type: ignore[untyped-decorator]
    async def run(ctx: Any, event: dict[str, Any]) -> dict[str, Any]:
        amount = await ctx.run_typed("validate", amount_of, event=event)
        stored = await ctx.object_call(put, key=event["event_id"], arg=event)
        await ctx.object_call(add, key="all", arg=amount)
        return {"event_id": event["event_id"], "stored": stored, "amount": amount}

    def trivial(number: int) -> int:
        return number

    @step_runs.main("run")  # type: ignore[untyped-decorator]
    async def run_steps(ctx: Any, steps: int) -> int:
        total = 0
        for number in range(1, steps + 1):
            total += await ctx.run_typed("trivial", trivial, number=number)
        return total

    missing = blocks

    async def second() -> int:
        nonlocal missing
        if blocks:
            missing -= 1
            if not missing:
                note.touch()  # noqa: ASYNC240  # once
            await asyncio.Event().wait()
        return 2

    @three.main("run")  # type: ignore[untyped-decorator]
    async def run_three(ctx: Any, steps: int) -> int:
        first: int = await ctx.run_typed("first", trivial, number=1)
        middle: int = await ctx.run_typed("second", second)
        last: int = await ctx.run_typed("third", trivial, number=steps)
        return first + middle + last

    return restate.app([events, metrics, counters, pipelines, step_runs, three])


def serve_app(port: int, note: Path, blocks: int) -> None:
    """The service's process, as the SDK's documentation serves it."""
    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.h2_max_concurrent_streams = 2147483647
    config.keep_alive_max_requests = 2147483647
    config.loglevel = "error"
    asyncio.run(hypercorn.asyncio.serve(make_app(note, blocks), config))


# ------------------------------------------------------------------------------------------------------------
# Both servers.


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def running(task: Task, blocks: int = 0) -> Iterator[int]:
    """Both servers; gives the port of the ingress.  A folder that was served before keeps its ports."""
    note = task.folder / "ports.json"
    known = note.exists()
    ingress, admin, node, service = json.loads(note.read_text()) if known else free_ports(4)
    note.write_text(json.dumps([ingress, admin, node, service]))
    environment = {
        **os.environ,
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_BIND_PORT": str(node),
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BASE_DIR": str(task.folder / "restate"),
        "RESTATE_NODE_NAME": "bench",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "error",
        "RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT": str(RUNS_AT_WORK),
    }
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                __spec__.name,
                "serve",
                str(service),
                str(task.folder / "blocked"),
                str(blocks),
            ],
            cwd=CHECKOUT,
            stdout=subprocess.DEVNULL,
        ),
        # It has much to say on standard error that is no error of ours: a cluster that is not there.
        subprocess.Popen(
            [server(), "--no-logo"],
            env=environment,
            cwd=task.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ),
    ]
    try:
        until = time.monotonic() + START_SECONDS
        while not (ask(admin, "GET", "/health") and ask(ingress, "GET", "/restate/health")):
            if time.monotonic() > until or any(one.poll() is not None for one in processes):
                raise RuntimeError("the servers of Restate did not come up")
            time.sleep(0.02)
        while not known and not ask(admin, "POST", "/deployments", {"uri": f"http://127.0.0.1:{service}"}):
            if time.monotonic() > until:
                raise RuntimeError("the service could not be registered")
            time.sleep(0.1)
        yield ingress
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            try:
                process.wait(5.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(port: int, method: str, path: str, body: object = None) -> bool:
    """Whether a server says that it is well, or took what it was given."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, {"content-type": "application/json"}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return bool(answer.status < 300)
    except (urllib.error.URLError, OSError):
        return False


# ------------------------------------------------------------------------------------------------------------
# The client.


class Connections:
    """Connections to the ingress: one is taken for a call, and given back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def call(self, path: str, body: object = None, method: str = "POST") -> Any:
        """The answer's JSON."""
        reader, writer = (
            self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        )
        data = b"" if body is None else json.dumps(body).encode()
        kind = "" if body is None else "content-type: application/json\r\n"
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{kind}content-length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith("content-length:")), None)
        if length is None:
            answer = b""
            while size := int(await reader.readline(), 16):
                answer += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            answer = await reader.readexactly(length)
        self._idle.append((reader, writer))
        if not lines[0].split()[1].startswith("2"):
            raise RuntimeError(f"{method} {path}: {lines[0]}: {answer.decode()[:300]}")
        return json.loads(answer) if answer else None

    def close(self) -> None:
        """All of them."""
        for _, writer in self._idle:
            writer.close()


def drive_calls(
    task: Task,
    items: Iterable[Any],
    in_flight: int,
    call: Callable[[Connections, Any], Awaitable[Any]],
    warm_up: Iterable[Any],
    after: Callable[[Connections], Awaitable[None]] | None = None,
    units_per_item: int = 1,
) -> Sample:
    """``drive`` against both servers."""

    async def work(port: int) -> Sample:
        connections = Connections(port)
        try:
            await drive(warm_up, 10, lambda item: call(connections, item))
            sample = await drive(items, in_flight, lambda item: call(connections, item), units_per_item)
            if after is not None:
                await after(connections)
            return sample
        finally:
            connections.close()

    with running(task) as port:
        return asyncio.run(work(port))


def pipeline(task: Task) -> Sample:
    """One unit: an event's workflow."""
    n_events, in_flight = task.arguments

    async def call(connections: Connections, event: Event) -> None:
        plain = {name: getattr(event, name) for name in event.__struct_fields__}
        await connections.call(f"/Pipeline/{event.event_id}/run", plain)

    async def after(connections: Connections) -> None:
        counted = await connections.call("/Metrics/all/events_counted")
        if counted != n_events + WARM_UP:
            raise AssertionError(f"{counted} of {n_events} events were counted")

    return drive_calls(task, make_events(n_events), in_flight, call, make_events(WARM_UP, n_events), after)


def steps(task: Task) -> Sample:
    """One unit: a step."""
    runs, steps, in_flight = task.arguments

    async def call(connections: Connections, number: int) -> None:
        await connections.call(f"/Steps/run-{number}/run", steps)

    return drive_calls(task, range(runs), in_flight, call, range(runs, runs + WARM_UP), units_per_item=steps)


def counter(task: Task) -> Sample:
    """One unit: an increment of a virtual object's state."""
    keys, callers, calls = task.arguments

    async def call(connections: Connections, number: int) -> None:
        await connections.call(f"/Counter/counter-{number % keys}/increment")

    return drive_calls(task, range(calls), callers, call, range(WARM_UP))


def block(task: Task) -> None:
    """All runs into their second step, and wait to be killed."""
    (runs,) = task.arguments

    async def send(port: int) -> None:
        connections = Connections(port)
        await drive(range(runs), 50, lambda number: connections.call(f"/Three/run-{number}/run/send", STEPS))
        connections.close()

    with running(task, blocks=runs) as port:
        asyncio.run(send(port))
        while not (task.folder / "blocked").exists():
            time.sleep(0.02)
        print(BLOCKED, flush=True)
        while True:
            time.sleep(60)


def resume(task: Task) -> list[float]:
    """Both servers again; wait for each run."""
    (runs,) = task.arguments
    done: list[float] = []

    async def wait(port: int) -> None:
        connections = Connections(port)

        async def attach(number: int) -> None:
            path = f"/restate/workflow/Three/run-{number}/attach"
            if await connections.call(path, method="GET") != 6:
                raise AssertionError(f"run {number} has another result")
            done.append(since_start())

        await asyncio.gather(*map(attach, range(runs)))
        connections.close()

    with running(task) as port:
        asyncio.run(wait(port))
    return done


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve_app(int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        serve({"pipeline": pipeline, "steps": steps, "counter": counter}, check, resume, block)
