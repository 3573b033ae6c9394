"""client/http_client.py: the real service on loopback, and servers that answer badly."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from holdfast import CallerError, Runtime, Workflow
from holdfast.client import (
    AccessRefused,
    AsyncClient,
    BadAnswer,
    Client,
    Conflict,
    NotThere,
    ServiceBusy,
    ServiceFailed,
    ServiceRefused,
    ServiceUnreachable,
)
from holdfast.client.request import send
from holdfast.service import Token, http_app
from tests.service.support import serving

TOKEN = Token("client-client-client", "carla", "operator")
VIEWER = Token("viewer-viewer-viewer", "vera")
R = TypeVar("R")


class ClientGreets(Workflow):
    async def run(self, name: str) -> str:
        return f"hello {name}"


@pytest.fixture
async def base(folder: Path) -> AsyncIterator[str]:
    async with Runtime(folder) as rt, serving(http_app(rt, tokens=[TOKEN, VIEWER])) as address:
        yield f"http://{address}"


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Either driver: `await ask(url, token, method, *arguments)`; the blocking one in a thread."""

    async def by_thread(url: str, token: str | None, what: str, *args: Any, **options: Any) -> Any:
        def work() -> Any:
            with Client(url, token, timeout=options.pop("timeout", 20)) as client:
                return getattr(client, what)(*args, **options)

        return await asyncio.to_thread(work)

    async def in_loop(url: str, token: str | None, what: str, *args: Any, **options: Any) -> Any:
        async with AsyncClient(url, token, timeout=options.pop("timeout", 20)) as client:
            return await getattr(client, what)(*args, **options)

    return by_thread if request.param == "sync" else in_loop


async def test_a_run_is_started_and_looked_at(base: str, ask: Callable[..., Any]) -> None:
    """JSON goes in, and comes out as plain data."""
    body = {"workflow": "ClientGreets", "input": "bo"}
    first = await ask(base, TOKEN.secret, "send", "POST", "/runs", body, key="one")
    again = await ask(base, TOKEN.secret, "send", "POST", "/runs", body, key="one")
    assert first["id"] == again["id"] == "one"
    view = await ask(base, TOKEN.secret, "get", "/runs/ClientGreets/one")
    assert view["run"]["id"] == "one"
    listed = await ask(base, TOKEN.secret, "get", "/runs", {"status": ["complete", "running"], "limit": 5})
    assert [one["id"] for one in listed["runs"]] == ["one"]


@pytest.mark.parametrize(
    ("secret", "args", "error", "says"),
    [
        (None, ("get", "/runs"), AccessRefused, "401: expected the header"),
        (VIEWER.secret, ("send", "POST", "/runs", {"workflow": "ClientGreets"}), AccessRefused, "403"),
        (TOKEN.secret, ("get", "/runs/ClientGreets/none"), NotThere, "404: there is no run"),
        (TOKEN.secret, ("get", "/runs", {"limit": "no"}), ServiceRefused, "400: limit is a whole number"),
        (TOKEN.secret, ("get", "/nowhere"), NotThere, "404"),
    ],
)
async def test_problems_are_errors(
    base: str, ask: Callable[..., Any], secret: str | None, args: tuple[Any, ...], error: Any, says: str
) -> None:
    """A problem is raised with its status and its words."""
    with pytest.raises(error, match=says):
        await ask(base, secret, *args)


async def test_a_conflict(base: str, ask: Callable[..., Any]) -> None:
    """An id in use is a conflict."""
    body = {"workflow": "ClientGreets", "input": "bo", "id": "used"}
    await ask(base, TOKEN.secret, "send", "POST", "/runs", body)
    with pytest.raises(Conflict):
        await ask(base, TOKEN.secret, "send", "POST", "/runs", body)


@asynccontextmanager
async def answering(*answers: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers, one after the other (None: none), and what it was asked."""
    asked: list[bytes] = []
    left = list(answers)
    stop = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
            body = await reader.readexactly(int(length[0].split(b":")[1])) if length else b""
            asked.append(head + body)
            answer = left.pop(0) if left else b""
            if answer is None:
                await stop.wait()
            else:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked
    finally:
        stop.set()
        server.close()
        await server.wait_closed()


def http(status: str, body: bytes = b"{}", *headers: str, kind: str = "application/json") -> bytes:
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, *headers, "", ""]).encode() + body


async def test_a_get_is_tried_again(ask: Callable[..., Any]) -> None:
    """A connection that broke, and a service that is busy, are asked again."""
    async with answering(b"", http("503 Busy"), http("200 OK", b"[1]")) as (url, asked):
        assert await ask(url, None, "get", "/x") == [1]
    assert len(asked) == 3


async def test_what_may_have_been_done_is_not_done_again(ask: Callable[..., Any]) -> None:
    """Without a key a POST whose answer was lost is not sent again; one that was not done is."""
    async with answering(b"", http("200 OK")) as (url, asked):
        with pytest.raises(ServiceUnreachable) as caught:
            await ask(url, None, "send", "POST", "/x", {"a": 1})
        assert caught.value.was_sent
        assert len(asked) == 1
    async with answering(http("429 Too Many"), http("200 OK")) as (url, asked):
        await ask(url, None, "send", "POST", "/x", {"a": 1})
        assert len(asked) == 2


async def test_with_a_key_it_is_the_same_request_again(ask: Callable[..., Any]) -> None:
    """Every POST has a key, and the one that is sent again has the same."""
    async with answering(b"", http("200 OK")) as (url, asked):
        await ask(url, "secret-secret-secret", "send", "POST", "/x", {"a": 1}, key="mine")
    assert len(asked) == 2
    assert all(b"Idempotency-Key: mine" in one and b'{"a":1}' in one for one in asked)
    assert all(b"Authorization: Bearer secret-secret-secret" in one for one in asked)
    assert send("POST", "/x", object).key != send("POST", "/x", object).key


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (http("200 OK", b"<html>", kind="text/html"), BadAnswer),
        (http("200 OK", b"{"), BadAnswer),
        (http("200 OK", b"\xff"), BadAnswer),
        (http("302 Found", b"", "Location: http://elsewhere.invalid/"), BadAnswer),
        (http("500 Broken", b"oh", kind="text/plain"), ServiceFailed),
        (http("507 Full"), ServiceFailed),
        (b"SSH-2.0-hello\r\n\r\n", ServiceUnreachable),
    ],
)
async def test_answers_that_are_none(ask: Callable[..., Any], answer: bytes, error: Any) -> None:
    """What is no answer of a service is an error that says so."""
    async with answering(answer) as (url, _):
        with pytest.raises(error):
            await ask(url, None, "send", "POST", "/x", {})


async def test_time_is_bounded(ask: Callable[..., Any]) -> None:
    """A service that says nothing is given up, with all tries."""
    async with answering(None, None, None, None, None, None) as (url, _):
        with pytest.raises(ServiceUnreachable):
            await ask(url, None, "get", "/x", timeout=0.3)


async def test_nobody_there(ask: Callable[..., Any]) -> None:
    """Where nobody listens nothing was sent."""
    async with answering() as (url, _):
        pass
    with pytest.raises(ServiceUnreachable) as caught:
        await ask(url, None, "get", "/x", timeout=0.3)
    assert not caught.value.was_sent


async def test_busy_says_when(ask: Callable[..., Any]) -> None:
    """A pause that the service asks for and that is longer than the time left is told."""
    async with answering(http("503 Busy", b'{"detail": "full"}', "Retry-After: 60")) as (url, _):
        with pytest.raises(ServiceBusy, match="503: full") as caught:
            await ask(url, None, "get", "/x", timeout=5)
    assert caught.value.retry_after_seconds == 60


async def test_an_answer_is_bounded(ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the bound is not taken in."""
    monkeypatch.setattr("holdfast.client.http_client.MAX_ANSWER_BYTES", 1000)
    async with answering(http("200 OK", b'"' + b"x" * 2000 + b'"')) as (url, _):
        with pytest.raises(BadAnswer, match="more than 1000 bytes"):
            await ask(url, None, "get", "/x")


async def test_text_is_text(ask: Callable[..., Any]) -> None:
    """An answer that is no JSON can be had as text, or bytes."""
    async with answering(*[http("200 OK", b"a 1\n", kind="text/plain")] * 2) as (url, _):
        assert await ask(url, None, "get", "/metrics", into=str) == "a 1\n"
        assert await ask(url, None, "get", "/metrics", into=bytes) == b"a 1\n"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "http://a b",
        "http://u:p@h",
        "http://h?x",
        "http://[::1",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    """The address is looked at before anything is asked."""
    with pytest.raises(CallerError, match="expected the address"):
        Client(url)


@pytest.mark.parametrize("token", ["", "with blank", "é", "a\nb"])
def test_tokens_that_are_none(token: str) -> None:
    """A token that no header can hold is refused without showing it."""
    with pytest.raises(CallerError) as caught:
        Client("http://127.0.0.1", token)
    assert not token or token not in str(caught.value)


def test_both_drivers_are_alike() -> None:
    """Same methods, same parameters."""
    for name, one in inspect.getmembers(Client, inspect.isfunction):
        if not name.startswith("_"):
            assert (
                inspect.signature(one).parameters == inspect.signature(getattr(AsyncClient, name)).parameters
            )
