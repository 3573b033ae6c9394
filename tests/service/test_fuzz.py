"""The whole service, asked what its OpenAPI document allows and what it doesn't: no 500, and no hang."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx2 as httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import response_schema_conformance

from holdfast import Actor, Runtime, Workflow, update
from holdfast.service import Token, http_app
from tests.service.support import serving

OPERATOR = Token("fuzz-fuzz-fuzz-fuzz-1", "fuzz", "operator")
HEADERS = {"Authorization": f"Bearer {OPERATOR.secret}"}
# Far more than any answer takes: what is beyond hangs.
TIMEOUT_SECONDS = 30.0
EXAMPLES = int(os.environ.get("HOLDFAST_FUZZ_EXAMPLES", "4"))


class FuzzOrder(msgspec.Struct):
    item: str
    count: int = 1
    proof: bytes = b""


class FuzzRun(Workflow):
    """Waits to be let go."""

    async def run(self, order: FuzzOrder) -> int:
        await self.wait("go")
        return order.count

    @update
    def add(self, count: int) -> int:
        return count + 1


class FuzzTally(Actor):
    """Counts."""

    count: int = 0

    async def add(self, n: int) -> int:
        self.count += n
        return self.count


@contextmanager
def service(folder: Path) -> Iterator[str]:
    """The address of a service with a run, an actor and a schedule, in a thread with a loop of its own."""
    ready: Any = threading.Event()
    told: dict[str, Any] = {}

    async def serve() -> None:
        stop = told["stop"] = asyncio.Event()
        told["loop"] = asyncio.get_running_loop()
        async with Runtime(folder) as rt:
            await rt.start(FuzzRun, FuzzOrder("tea"), id="0")
            await rt.get(FuzzTally, "0").add(1)
            async with serving(http_app(rt, tokens=[OPERATOR], max_body_bytes=100_000)) as address:
                told["address"] = address
                ready.set()
                await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert ready.wait(60), "the service is there"
        yield f"http://{told['address']}"
    finally:
        if "stop" in told:
            told["loop"].call_soon_threadsafe(told["stop"].set)
        thread.join()


def ask_all(folder: Path, examples: int) -> None:
    """Ask each operation with data of its schema, and with broken ones."""
    with service(folder) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        for result in schema.get_all_operations():
            assert isinstance(result, Ok), "the document is right"
            operation = cast("Any", result).ok()  # an operation that can't be read raises here
            for mode in schemathesis.GenerationMode:

                @given(case=operation.as_strategy(generation_mode=mode))
                @settings(
                    max_examples=examples,
                    derandomize=True,
                    database=None,
                    deadline=None,
                    suppress_health_check=[
                        HealthCheck.too_slow,
                        HealthCheck.filter_too_much,
                        HealthCheck.data_too_large,
                    ],
                )
                def ask(case: Any) -> None:
                    response = case.call(headers=HEADERS, timeout=TIMEOUT_SECONDS)
                    case.validate_response(response, checks=[not_a_server_error, response_schema_conformance])

                try:
                    ask()
                except Unsatisfiable:  # nothing about it can be broken
                    assert mode is schemathesis.GenerationMode.NEGATIVE


def test_what_the_document_allows_is_answered(folder: Path) -> None:
    """And what it doesn't is refused, by no 500; answers are as the document has them."""
    ask_all(folder, EXAMPLES)


@pytest.mark.slow
def test_what_the_document_allows_is_answered_for_long(folder: Path) -> None:
    ask_all(folder, 40)


PATHS = [
    "/events",
    "/runs",
    "/runs/events/FuzzRun/0",
    "/runs/updates/FuzzRun/0",
    "/runs/control/pause/FuzzRun/0",
    "/actors/call/FuzzTally/0",
    "/actors/edit/FuzzTally/0",
    "/queues/messages/event-queue",
    "/dead-letters/control/redrive",
]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
NAMES = st.sampled_from(
    ["workflow", "input", "id", "name", "payload", "method", "arguments", "reason", "fields", "body", "kind"]
)
VALUES = JSON_VALUES | st.sampled_from(["FuzzRun", "FuzzTally", "go", "add", "0", "run", "pause"])


def ask_raw(folder: Path, examples: int) -> None:
    with service(folder) as address, httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client:

        @given(
            st.sampled_from(PATHS),
            st.binary(max_size=60)
            | st.dictionaries(NAMES | st.text(max_size=5), VALUES, max_size=6).map(msgspec.json.encode),
        )
        @settings(max_examples=examples, derandomize=True, database=None, deadline=None)
        def bodies(path: str, body: bytes) -> None:
            headers = {**HEADERS, "Content-Type": "application/json"}
            response = client.post(address + path, content=body, headers=headers)
            assert response.status_code < 500, response.text

        @given(st.sampled_from(["GET", "POST"]), st.lists(st.binary(max_size=20), max_size=6))
        @settings(max_examples=examples, derandomize=True, database=None, deadline=None)
        def paths(method: str, parts: list[bytes]) -> None:
            coded = "/".join("".join(f"%{byte:02x}" for byte in part) for part in parts)
            for first in ("", "runs/FuzzRun/", "history/", "actors/", "dead-letters/", "queues/"):
                response = client.request(method, f"{address}/{first}{coded}", headers=HEADERS)
                assert response.status_code < 500, response.text

        bodies()
        paths()
        assert client.get(f"{address}/ready").status_code == 200


def test_bodies_and_paths_of_any_bytes_are_answered(folder: Path) -> None:
    """None of them by a 500."""
    ask_raw(folder, 60)


@pytest.mark.slow
def test_bodies_and_paths_of_any_bytes_are_answered_for_long(folder: Path) -> None:
    ask_raw(folder, 1_000)
