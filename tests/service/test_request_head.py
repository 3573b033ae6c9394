"""service/request_head.py, and what the server itself holds: raw bytes at a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from holdfast import Runtime
from holdfast.service import Token, bodies, http_app
from holdfast.service.request_head import MAX_HEADERS, MAX_TARGET_BYTES
from tests.service.support import serving

OPERATOR = Token("heads-heads-heads-1", "otto", "operator")
AUTHORIZATION = f"Authorization: Bearer {OPERATOR.secret}\r\n"


@pytest.fixture
async def address(folder: Path) -> AsyncIterator[str]:
    async with Runtime(folder) as rt:
        options = {"h11_max_incomplete_event_size": 1 << 20}  # so that our own bounds are met
        async with serving(http_app(rt, tokens=[OPERATOR]), http="h11", **options) as address:
            yield address


async def answer_to(address: str, *parts: bytes) -> int:
    """The status that the server answers with; 0 when it just closes."""
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(30):
            for part in parts:
                writer.write(part)
                await writer.drain()
            line = await reader.readline()
            return int(line.split()[1]) if line else 0
    finally:
        writer.close()


def head(method: str, target: str, more: str = "") -> bytes:
    return f"{method} {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{AUTHORIZATION}{more}\r\n".encode()


async def test_a_head_within_the_bounds_is_taken(address: str) -> None:
    extra = "".join(f"X-{n}: 1\r\n" for n in range(MAX_HEADERS - 3))
    assert await answer_to(address, head("GET", "/runs", extra)) == 200


@pytest.mark.parametrize("count", [MAX_HEADERS, 10_000])
async def test_many_headers_are_refused(address: str, count: int) -> None:
    extra = "".join(f"X-{n}: 1\r\n" for n in range(count))
    assert await answer_to(address, head("GET", "/runs", extra)) == 431


async def test_large_headers_are_refused(address: str) -> None:
    assert await answer_to(address, head("GET", "/runs", f"X-Much: {'x' * 40_000}\r\n")) == 431


@pytest.mark.parametrize("target", ["/runs/W/" + "x" * MAX_TARGET_BYTES, "/runs?state=" + "x" * 100_000])
async def test_a_long_target_is_refused(address: str, target: str) -> None:
    assert await answer_to(address, head("GET", target)) == 414


async def test_what_the_server_itself_holds(folder: Path) -> None:
    """With its defaults uvicorn with h11 takes a head of 64 KiB at most that is not whole yet."""
    async with Runtime(folder) as rt, serving(http_app(rt, tokens=[OPERATOR]), http="h11") as address:
        assert await answer_to(address, b"GET /runs HTTP/1.1\r\nX: " + b"x" * 70_000) in (0, 400, 431)


CHUNKED = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    "chunks",
    [
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"-1\r\n{}\r\n0\r\n\r\n",
        b"ffffffffffffffffffff\r\n{}\r\n",
        b"2\r\n{}\r\n0\r\nX: y\r\n\r\n",
        b"2\r\n{}XX0\r\n\r\n",
        b"0\r\n\r\n",
    ],
)
async def test_nonsense_in_chunks_is_refused(
    address: str, chunks: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no chunk ends the connection, or the request by its time."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    status = await answer_to(address, head("POST", "/events", CHUNKED), chunks)
    assert status in (0, 400, 408)


async def test_a_body_that_drips_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a byte comes: the bound is for the whole body."""
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    host, _, port = address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    more = "Content-Type: application/json\r\nContent-Length: 1000000\r\n"
    writer.write(head("POST", "/events", more))
    answered = asyncio.create_task(reader.readline())
    async with asyncio.timeout(30):
        while not answered.done():
            writer.write(b" ")
            await asyncio.wait((answered,), timeout=0.01)
    assert b" 408 " in answered.result()
    writer.close()


@pytest.mark.parametrize("junk", [b"\x00\xff\xfe" * 100 + b"\r\n\r\n", b"GET\r\n\r\n"])
async def test_junk_is_no_request(address: str, junk: bytes) -> None:
    assert await answer_to(address, junk) in (0, 400)
