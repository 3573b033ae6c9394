"""The contract of blob stores: files beside the store, an object store in memory, and S3 over HTTP."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast import Runtime
from holdfast.actors.blobs.blobs import Blobs
from holdfast.actors.blobs.object_blobs import ObjectBlobs
from holdfast.actors.errors import BlobNotFound, BlobTooLarge
from holdfast.storage.errors import CallerError, InvalidKey, InvalidValue

KINDS = ("local", "memory", "s3")


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    """A local S3 server with a bucket `covers`."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    assert httpx2.put(f"{endpoint}/covers", trust_env=False).status_code == 200
    yield endpoint
    server.stop()


@asynccontextmanager
async def open_blobs(kind: str, folder: Path, endpoint: str) -> AsyncIterator[Blobs]:
    """A store of each kind."""
    if kind == "local":
        async with Runtime(folder) as runtime:
            yield runtime.blobs
        return
    from obstore.store import MemoryStore, S3Store

    store: Any = MemoryStore()
    if kind == "s3":
        store = S3Store(
            "covers",
            prefix=f"{folder.parent.name}-{os.getpid()}",
            endpoint=endpoint,
            access_key_id="test",
            secret_access_key="test",
            region="us-east-1",
            client_options={"allow_http": True},
        )
    async with Runtime(folder, deps=[ObjectBlobs(store)]) as runtime:
        assert isinstance(runtime.blobs, ObjectBlobs)
        yield runtime.blobs


@pytest.fixture(params=KINDS)
async def blobs(request: pytest.FixtureRequest, folder: Path, s3_endpoint: str) -> AsyncIterator[Blobs]:
    """Each store in turn."""
    async with open_blobs(request.param, folder, s3_endpoint) as opened:
        yield opened


async def test_what_is_put_is_got(blobs: Blobs) -> None:
    """Bytes, type and size come back."""
    info = await blobs.put("covers/978.jpg", b"picture", content_type="image/jpeg")
    assert (info.name, info.size_bytes, info.content_type) == ("covers/978.jpg", 7, "image/jpeg")
    assert await blobs.get("covers/978.jpg") == b"picture"
    assert await blobs.info("covers/978.jpg") == info


async def test_put_again_replaces(blobs: Blobs) -> None:
    """The name shows the new content and type; its digest differs."""
    first = await blobs.put("a", b"one", content_type="text/plain")
    second = await blobs.put("a", b"second", content_type="image/png")
    assert first.digest != second.digest
    assert (await blobs.get("a"), (await blobs.info("a")).content_type) == (b"second", "image/png")


async def test_parts_from_iterators(blobs: Blobs) -> None:
    """Several megabytes come in parts from plain and from async iterators, and go out in parts."""
    content = os.urandom(9 << 20)
    parts = [content[at : at + 700_000] for at in range(0, len(content), 700_000)]

    async def slowly() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    await blobs.put("plain", parts)
    await blobs.put("async", slowly())
    assert b"".join([part async for part in blobs.stream("plain")]) == content
    assert await blobs.get("async") == content


async def test_ranges(blobs: Blobs) -> None:
    """A reader goes on where it was; a range outside is refused."""
    await blobs.put("a", b"0123456789")
    assert await blobs.get("a", start=3) == b"3456789"
    assert await blobs.get("a", start=3, end=5) == b"34"
    assert await blobs.get("a", start=10) == b""
    for start, end in ((-1, None), (5, 3), (0, 11)):
        with pytest.raises(CallerError, match="10 bytes"):
            await blobs.get("a", start=start, end=end)


async def test_empty(blobs: Blobs) -> None:
    """Nothing is a content too."""
    assert (await blobs.put("none", b"")).size_bytes == 0
    assert await blobs.get("none") == b""


async def test_too_large(blobs: Blobs) -> None:
    """More than `max_bytes` is refused, small and large, and the old content stays."""
    await blobs.put("a", b"old")
    for size, most in ((11, 10), (10 << 20, (10 << 20) - 1)):
        with pytest.raises(BlobTooLarge, match=f"more than {most} bytes"):
            await blobs.put("a", iter([bytes(size)]), max_bytes=most)
    assert await blobs.get("a") == b"old"
    assert (await blobs.put("b", bytes(10), max_bytes=10)).size_bytes == 10


async def test_an_iterator_that_raises(blobs: Blobs) -> None:
    """Its error comes as it is, and the old content stays."""
    await blobs.put("a", b"old")

    async def breaks(size: int) -> AsyncIterator[bytes]:
        yield bytes(size)
        raise ConnectionError("cut off")

    for size in (1, 9 << 20):
        with pytest.raises(ConnectionError, match="cut off"):
            await blobs.put("a", breaks(size))
    assert await blobs.get("a") == b"old"


async def test_delete(blobs: Blobs) -> None:
    """It is gone, once; asking for it says which."""
    await blobs.put("a", b"x")
    assert await blobs.delete("a") is True
    assert await blobs.delete("a") is False
    for asked in (blobs.get("a"), blobs.info("a")):
        with pytest.raises(BlobNotFound, match="'a'"):
            await asked


async def test_list(blobs: Blobs) -> None:
    """Names with a prefix, in order, page by page."""
    for name in ("covers/9.jpg", "covers/10.jpg", "covers/1.jpg", "other", "covers2", "änderung/ü 1%.jpg"):
        await blobs.put(name, name.encode())
    assert [one.name for one in await blobs.list("covers/")] == [
        "covers/1.jpg",
        "covers/10.jpg",
        "covers/9.jpg",
    ]
    assert [one.name for one in await blobs.list("covers/1")] == ["covers/1.jpg", "covers/10.jpg"]
    everything = await blobs.list()
    assert sorted(one.name for one in everything) == [one.name for one in everything]
    assert len(everything) == 6
    second = await blobs.list("covers/", after="covers/1.jpg", limit=1)
    assert [(one.name, one.size_bytes) for one in second] == [("covers/10.jpg", 13)]
    assert await blobs.get("änderung/ü 1%.jpg") == "änderung/ü 1%.jpg".encode()


@pytest.mark.parametrize("name", ["", "/a", "a/", "a//b", "../a", "a/../b", "a\nb", "a" * 151, 7])
async def test_names_that_are_none(blobs: Blobs, name: Any) -> None:
    """What a file system or a bucket would take for something else is refused."""
    with pytest.raises(InvalidKey, match="a blob's name"):
        await blobs.put(name, b"")


@pytest.mark.parametrize("content_type", ["", "image", "image/jpeg\r\nX: 1", "text/html; charset=", 7])
async def test_types_that_are_none(blobs: Blobs, content_type: Any) -> None:
    """What can't stand in a header is refused."""
    with pytest.raises(InvalidValue, match="image/jpeg"):
        await blobs.put("a", b"", content_type=content_type)


@pytest.mark.parametrize("data", ["text", 7, None, [1, 2], ["text"]])
async def test_data_that_is_none(blobs: Blobs, data: Any) -> None:
    """Only bytes are taken, whole or in parts."""
    with pytest.raises(InvalidValue, match="expected"):
        await blobs.put("a", data)
    with pytest.raises(BlobNotFound):
        await blobs.info("a")
