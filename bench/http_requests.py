"""HTTP: requests a second and how long they take, beside the same application without anything durable.

The server is uvicorn in a process of its own (``http_server``), and so is the client (``http_client``): on
two cores each has one.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .lines import Line

if TYPE_CHECKING:
    from .scale import Scale

CHECKOUT = Path(__file__).resolve().parent.parent
CONNECTIONS = 100
SECRET = "bench-bench-bench-bench-1"


class Kind(NamedTuple):
    """One kind of request."""

    name: str
    method: str
    path: str
    body: str
    status: int


KINDS = (
    Kind("GET /health", "GET", "/api/health", "", 200),
    Kind(
        "POST /runs, a run of one step, started durably", "POST", "/api/runs",
        '{"workflow": "OneStepOverHttp", "input": %d}', 201,
    ),
    Kind(
        "POST /events, accepted durably", "POST", "/api/events",
        '{"payload": {"n": %d, "pad": "' + "x" * 100 + '"}}', 202,
    ),
    Kind("a call of an actor in an endpoint of FastAPI", "POST", "/count/%d", "", 200),
)  # fmt: skip


def measure_http(scale: Scale) -> None:
    """Each kind of request on both sides, with a server of its own."""
    missing = [name for name in ("fastapi", "starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"http is left out: it needs {', '.join(missing)} (pip install -e '.[test]')", file=sys.stderr)
        return
    requests = 500 if scale.quick else 10_000
    for kind in KINDS:
        per_second: dict[str, float] = {}
        for side in ("floor", "holdfast"):
            found = measure_kind(scale, side, kind, requests)
            per_second[side] = found["per_second"]
            figures = {
                "requests/s": found["per_second"],
                "p50 ms": found["ms"][0],
                "p99 ms": found["ms"][1],
                "refused": float(requests - found["statuses"].get(str(kind.status), 0)),
            }
            if side == "holdfast":
                figures["of floor"] = per_second["holdfast"] / per_second["floor"]
            scale.lines.append(Line("http", f"{kind.name}, {side}", figures))


def measure_kind(scale: Scale, side: str, kind: Kind, requests: int) -> dict[str, Any]:
    """What a client of its own finds at a server of its own."""
    task = {"side": side, "place": str(scale.place), "loop": scale.loop}
    with subprocess.Popen(
        [sys.executable, "-m", "bench.http_server", json.dumps(task)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            asked = {
                **kind._asdict(),
                "port": json.loads(server.stdout.readline())["port"],
                "connections": CONNECTIONS,
                "secret": SECRET,
                "loop": scale.loop,
            }
            _ask(asked, max(requests // 10, CONNECTIONS))  # caches, and the code of both
            found = _ask(asked, requests)
            server.stdin.write("end\n")
            server.stdin.flush()
            server.wait(60)
        finally:
            server.kill()
    return found


def _ask(task: dict[str, Any], requests: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.http_client", json.dumps({**task, "requests": requests})],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
