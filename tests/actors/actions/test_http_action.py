"""actors/actions/http_action.py: requests as actions, on a server of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from opentelemetry.sdk.trace import TracerProvider

from holdfast import Retry, RunFailed, Runtime, Workflow
from holdfast.actions import HttpAnswer, http
from holdfast.actors.actions.http_action import MAX_ANSWER_BYTES
from holdfast.actors.errors import HttpFailed, HttpRefused, InvalidParameters
from holdfast.telemetry import Telemetry


class Request(NamedTuple):
    """What came in."""

    line: str
    headers: dict[str, str]
    body: bytes


class Server:
    """Answers each path in its way, and remembers what was asked."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.url = ""
        # Answers to come before the path's own.
        self.first: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request for each connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except asyncio.IncompleteReadError:  # it gave up before it had asked
            writer.close()
            return
        headers = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)
        }
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.requests.append(Request(head[0], headers, body))
        path = head[0].split()[1]
        if path == "/hangs":
            await reader.read()
        elif path == "/breaks":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfoo")
        else:
            writer.write(self.first.pop(0) if self.first else self.answer(path))
        writer.close()
        await writer.wait_closed()

    def answer(self, path: str) -> bytes:
        """The answer of a path: /404 has that status, /large more than is taken in."""
        if path == "/large":
            return answer("200 OK", b"x" * (MAX_ANSWER_BYTES + 1))
        if path == "/moved":
            return answer("302 Found", b"", f"Location: {self.url}/elsewhere\r\n")
        if path[1:].isdigit():
            return answer(f"{path[1:]} No", b"no such thing")
        return answer("200 OK", b'{"path": "%b"}' % path.encode())


def answer(status: str, body: bytes, more: str = "") -> bytes:
    """Bytes of an answer."""
    head = (
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nX-Kind: test\r\n{more}Connection: close\r\n\r\n"
    )
    return head.encode() + body


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """A server on the loopback."""
    made = Server()
    listening = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield made
    listening.close()
    await listening.wait_closed()


class Asks(Workflow):
    """A request, as a step."""

    retry = Retry(2, "1ms")

    async def run(self, url: str) -> HttpAnswer:
        return await self.run_action(http, "POST", url, json={"cents": 3}, headers={"X-Tenant": "acme"})


async def test_an_answer_is_the_result_of_the_step(server: Server, folder: Path) -> None:
    """Method, headers, JSON; the key goes along."""
    async with Runtime(folder) as rt:
        got = await (await rt.start(Asks, f"{server.url}/pay?x=1")).result()
    assert (got.status, got.json(), got.headers["x-kind"]) == (200, {"path": "/pay?x=1"}, "test")
    (asked,) = server.requests
    assert (asked.line, asked.body) == ("POST /pay?x=1 HTTP/1.1", b'{"cents":3}')
    assert (asked.headers["x-tenant"], asked.headers["content-type"]) == ("acme", "application/json")
    assert "#http#1" in asked.headers["idempotency-key"]


async def test_the_trace_goes_along(server: Server, folder: Path) -> None:
    """Where somebody traces, a request bears its attempt's span; else nothing of that."""
    telemetry = Telemetry(TracerProvider())
    async with Runtime(folder, telemetry=telemetry) as rt:
        await (await rt.start(Asks, f"{server.url}/pay")).result()
    async with Runtime(folder) as rt:
        await (await rt.start(Asks, f"{server.url}/pay")).result()
    traced, plain = server.requests
    assert traced.headers["traceparent"].startswith("00-")
    assert "traceparent" not in plain.headers


async def test_what_may_be_otherwise_next_time_is_tried_again(server: Server, folder: Path) -> None:
    """5xx and 429, each with the same key; then it is a failure with the status and the body."""
    server.first = [answer("503 Later", b""), answer("429 Slow", b"")]
    async with Runtime(folder) as rt:
        assert (await (await rt.start(Asks, f"{server.url}/pay")).result()).status == 200
        assert len({one.headers["idempotency-key"] for one in server.requests}) == 1 < len(server.requests)
        with pytest.raises(
            RunFailed, match=r"3 times and failed: HttpFailed: POST .*/500: status 500: no such"
        ):
            await (await rt.start(Asks, f"{server.url}/500")).result()


async def test_a_refusal_fails_the_step_at_once(server: Server, folder: Path) -> None:
    """Other 4xx: asking again would not mend it."""
    async with Runtime(folder) as rt:
        with pytest.raises(
            RunFailed, match=r"tried once and failed: HttpRefused: POST .*/404: status 404: no such"
        ):
            await (await rt.start(Asks, f"{server.url}/404")).result()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http:/x",
        "http:///x",
        "127.0.0.1/x",
        "gopher://x",
        "://x",
        "",
    ],
)
async def test_only_http_is_spoken(url: str) -> None:
    """Other schemes are refused, and nothing is opened."""
    with pytest.raises(HttpRefused, match=r"expected a URL that begins with http:// or https:// and a host"):
        await http("GET", url)


async def test_redirects_are_results_and_not_followed(server: Server) -> None:
    """Where it leads is for the run to decide."""
    got = await http("GET", f"{server.url}/moved")
    assert (got.status, got.headers["location"]) == (302, f"{server.url}/elsewhere")
    assert len(server.requests) == 1


async def test_no_answer_is_a_failure(server: Server) -> None:
    """Too late, cut off, nobody there."""
    with pytest.raises(HttpFailed, match=r"GET .*/hangs: no answer within 0.05 s"):
        await http("GET", f"{server.url}/hangs", timeout=0.05)
    with pytest.raises(HttpFailed, match="RemoteProtocolError"):
        await http("GET", f"{server.url}/breaks")
    with pytest.raises(HttpFailed, match="ConnectError"):
        await http("GET", "http://127.0.0.1:1/x")


async def test_bounds_and_parameters(server: Server) -> None:
    """An answer that is too large, a body twice, a method that is none."""
    with pytest.raises(HttpRefused, match=f"the answer has more than {MAX_ANSWER_BYTES} bytes"):
        await http("GET", f"{server.url}/large")
    with pytest.raises(HttpRefused, match="give json or body, not both"):
        await http("POST", server.url, json=1, body=b"1")
    with pytest.raises(InvalidParameters, match=r"parameter method: expected .*, got 'BREW' of type str"):
        await http("BREW", server.url)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_client_in_deps_is_used(server: Server, folder: Path) -> None:
    """With its settings; it stays open."""
    async with (
        httpx2.AsyncClient(headers={"X-Client": "mine"}) as client,
        Runtime(folder, deps=[client]) as rt,
    ):
        for _ in range(2):
            await rt.actions.execute("http", {"method": "GET", "url": f"{server.url}/x"}, key=None)
        assert not client.is_closed
    assert [one.headers["x-client"] for one in server.requests] == ["mine", "mine"]
