"""The import over HTTP and WebSocket, on a real server, against the local book server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from holdfast import Runtime
from holdfast.examples.book_import.app import MAX_BODY_BYTES, book_import_app
from holdfast.examples.book_import.http_web import HttpBookWeb
from holdfast.examples.book_import.imports import IMPORTS_KEY, BookImports
from holdfast.examples.book_import.library import LibraryStore
from holdfast.storage.commit_log import CommitLog
from tests.examples.book_import.book_server import DUNE, PICTURE, UNKNOWN, BookServer, book_server
from tests.examples.book_import.support import ALL, LetterEmbedder
from tests.service.support import serving
from tests.storage.helpers import FAILED, GatedLog

ISBNS = [DUNE, "9780804429573", "9791090636071"]


class Import:
    """A server of the import, and what it asks."""

    def __init__(self, runtime: Runtime, books: BookServer, address: str, client: httpx2.AsyncClient) -> None:
        self.runtime = runtime
        self.books = books
        self.address = address
        self.client = client

    async def start(self, isbn: str = DUNE, source: str = "google_books", **more: object) -> str:
        """Start an import; its job id."""
        answer = await self.client.post("/v2/import/workflow", json={"isbn": isbn, "source": source, **more})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["data"]["jobId"])

    async def follow(self, job: str, query: str = "&since=0") -> list[dict[str, Any]]:
        """All frames until the end."""
        frames: list[dict[str, Any]] = []
        async with (
            asyncio.timeout(20),
            connect(f"ws://{self.address}/ws/progress?jobId={job}{query}") as socket,
        ):
            while not frames or frames[-1]["status"] not in ("completed", "failed"):
                frames.append(json.loads(await socket.recv()))
        return frames


@asynccontextmanager
async def open_import(
    folder: Path,
    *,
    embed: bool = True,
    wrap_log: Callable[[CommitLog], CommitLog] | None = None,
    **settings: Any,
) -> AsyncIterator[Import]:
    """Both servers and a client."""
    async with AsyncExitStack() as stack:
        books = await stack.enter_async_context(book_server())
        given = msgspec.structs.replace(books.settings, **settings)
        web = await stack.enter_async_context(HttpBookWeb(given))
        deps: list[object] = [given, web, LibraryStore(), *([LetterEmbedder()] if embed else [])]
        runtime = await stack.enter_async_context(Runtime(folder, deps=deps, wrap_log=wrap_log))
        address = await stack.enter_async_context(serving(book_import_app(runtime, given)))
        client = await stack.enter_async_context(
            httpx2.AsyncClient(base_url=f"http://{address}", trust_env=False)
        )
        yield Import(runtime, books, address, client)


@pytest.fixture
async def service(folder: Path) -> AsyncIterator[Import]:
    """A service as it is by default, against the local book server."""
    async with open_import(folder) as opened:
        yield opened


async def test_the_whole_way(service: Import) -> None:
    """Started, followed, asked for: everything in the documented shape."""
    answer = await service.client.post("/v2/import/workflow", json={"isbn": "0-441-01359-7", "userId": "ann"})
    assert answer.status_code == 202
    told = answer.json()
    job = told["data"]["jobId"]
    assert told == {
        "success": True,
        "data": {"jobId": job, "workflowId": f"BookImport/{job}", "isbn": DUNE, "status": "started"},
    }
    frames = await service.follow(job)
    assert [frame["status"] for frame in frames] == ALL
    assert [frame["number"] for frame in frames] == [1, 2, 3, 4, 5]
    assert {(frame["type"], frame["jobId"]) for frame in frames} == {("workflow_progress", job)}
    assert set(frames[0]) == {"type", "jobId", "status", "timestamp", "data", "number"}
    status = (await service.client.get(f"/v2/import/status/{job}")).json()
    assert status["data"] == {
        "jobId": job,
        "status": "completed",
        "lastUpdated": frames[-1]["timestamp"],
        "data": frames[-1]["data"],
    }
    book = (await service.client.get(f"/v2/books/{DUNE}")).json()["data"]
    assert (book["stored"], book["metadata"]["title"]) == ("library", "Dune: The first book")
    cover = await service.runtime.blobs.info(book["coverKey"])
    assert (cover.name, cover.content_type) == (f"covers/{DUNE}.jpg", "image/jpeg")
    assert await service.runtime.blobs.get(cover.name) == PICTURE


@pytest.mark.parametrize("source", ["google_books", "isbndb", "openlibrary"])
async def test_every_source(service: Import, source: str) -> None:
    """Each goes the whole way."""
    assert [frame["status"] for frame in await service.follow(await service.start(source=source))] == ALL


async def test_no_such_book(service: Import) -> None:
    """The import is started, and fails."""
    job = await service.start(UNKNOWN)
    frames = await service.follow(job)
    assert [frame["status"] for frame in frames] == ["started", "failed"]
    assert UNKNOWN in frames[-1]["data"]["error"]
    assert (await service.client.get(f"/v2/import/status/{job}")).json()["data"]["status"] == "failed"


@pytest.mark.parametrize("isbn", ["", "123", "9780441013594", "abc", "97804410135", 7, None])
async def test_invalid_isbn(service: Import, isbn: object) -> None:
    """400 INVALID_ISBN, and nothing is started."""
    answer = await service.client.post("/v2/import/workflow", json={"isbn": isbn, "source": "isbndb"})
    assert (answer.status_code, answer.json()["success"]) == (400, False)
    assert answer.json()["error"]["code"] == "INVALID_ISBN"
    assert service.runtime.runs(limit=1) == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"isbn": "9780441013593", "source": "amazon"}', 400),
        (b'{"isbn": "9780441013593", "userId": ""}', 400),
        (b'{"isbn": "9780441013593", "userid": "ann"}', 400),
        (b" " * (MAX_BODY_BYTES + 1), 413),
    ],
)
async def test_bad_bodies(service: Import, body: bytes, status: int) -> None:
    """They are told what is wrong, in the envelope."""
    headers = {"content-type": "application/json"}
    answer = await service.client.post("/v2/import/workflow", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, "INVALID_BODY")


async def test_other_requests(service: Import) -> None:
    """A form, unknown jobs, addresses and methods."""
    form = await service.client.post("/v2/import/workflow", data={"isbn": DUNE})
    assert (form.status_code, form.json()["error"]["code"]) == (415, "INVALID_BODY")
    for job in ("nope", "x" * 300, "%00", "a%0Ab"):
        answer = await service.client.get(f"/v2/import/status/{job}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "JOB_NOT_FOUND"), job
        with pytest.raises(InvalidStatus, match="404"):
            async with connect(f"ws://{service.address}/ws/progress?jobId={job}"):
                pass
    with pytest.raises(InvalidStatus, match="404"):
        async with connect(f"ws://{service.address}/ws/progress"):
            pass
    missing = await service.client.get("/v2/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "NOT_FOUND")
    wrong = await service.client.get("/v2/import/workflow")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


async def test_the_server_fails(folder: Path) -> None:
    """A start that can't be made is 500 WORKFLOW_FAILED, without a word of why."""
    gates: list[GatedLog] = []

    def gated(log: CommitLog) -> GatedLog:
        gates.append(GatedLog(log))
        return gates[0]

    async with open_import(folder, wrap_log=gated) as service:
        await service.start()
        await service.follow(await service.start())
        gates[0].verdicts = [None, FAILED]  # the allowance, then the start
        answer = await service.client.post("/v2/import/workflow", json={"isbn": DUNE})
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "WORKFLOW_FAILED")
        assert "failed this commit" not in answer.text


async def test_a_closing_server(service: Import) -> None:
    """503, and when to come again."""
    await service.runtime.close()
    answer = await service.client.post("/v2/import/workflow", json={"isbn": DUNE})
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert answer.headers["retry-after"] == "5"


async def test_the_rate_limit(folder: Path) -> None:
    """Beyond it 429, with the time of the next try."""
    async with open_import(folder, imports_per_minute=2) as service:
        await service.start()
        await service.start()
        answer = await service.client.post("/v2/import/workflow", json={"isbn": DUNE})
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "RATE_LIMITED")
        assert 1 <= int(answer.headers["retry-after"]) <= 31


async def test_late_joiners(service: Import) -> None:
    """Without a number a client gets the last frame; with one, what is behind it; several get the same."""
    job = await service.start()
    every = await service.follow(job)
    assert await service.follow(job, "") == every[-1:]
    assert await service.follow(job, "&since=3") == every[3:]
    followed = await asyncio.gather(*[service.follow(job) for _ in range(5)])
    assert followed == [every] * 5


async def test_a_lost_connection(service: Import) -> None:
    """Who comes back in the middle gets each frame once."""
    service.books.always["/covers/dune.jpg"] = service.books.hanging("image/jpeg")
    service.books.next["/google/volumes"] = [service.books.status(503, retry_after="0")]
    job = await service.start()
    got: list[dict[str, Any]] = []
    async with connect(f"ws://{service.address}/ws/progress?jobId={job}&since=0") as socket:
        got.append(json.loads(await socket.recv()))
    service.books.release.set()
    got += await service.follow(job, f"&since={got[-1]['number']}")
    assert [frame["number"] for frame in got] == list(range(1, len(got) + 1))


async def test_near_books(service: Import) -> None:
    """Books that are near to a book, and to a text."""
    for isbn in ISBNS:
        await service.follow(await service.start(isbn))
    near = (await service.client.get(f"/v2/books/near?isbn={DUNE}&limit=5")).json()["data"]
    assert {one["isbn"] for one in near} == set(ISBNS[1:])
    assert set(near[0]) == {"isbn", "title", "likeness"}
    text = (await service.client.get("/v2/books/near?text=desert&limit=1")).json()["data"]
    assert len(text) == 1
    for query, status, code in (
        ("isbn=123", 400, "INVALID_ISBN"),
        (f"isbn={UNKNOWN}", 404, "BOOK_NOT_FOUND"),
        (f"isbn={DUNE}&limit=0", 400, "INVALID_QUERY"),
        (f"isbn={DUNE}&limit=1000", 400, "INVALID_QUERY"),
        ("", 400, "INVALID_ISBN"),
    ):
        answer = await service.client.get(f"/v2/books/near?{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), query


async def test_without_an_embedder(folder: Path) -> None:
    """Imports go on; only the question for near books is refused."""
    async with open_import(folder, embed=False) as service:
        frames = await service.follow(await service.start())
        assert "embedding_generated" not in [frame["status"] for frame in frames]
        answer = await service.client.get(f"/v2/books/near?isbn={DUNE}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (501, "NO_EMBEDDINGS")


async def test_pages_of_strangers(service: Import) -> None:
    """A page of another host follows nothing."""
    job = await service.start()
    with pytest.raises(InvalidStatus, match="403"):
        async with connect(
            f"ws://{service.address}/ws/progress?jobId={job}",
            additional_headers={"Origin": "https://evil.example"},
        ):
            pass


async def test_the_page(service: Import) -> None:
    """Its files come with their types, and a policy that allows nothing inline."""
    for path, media_type in (("/", "text/html"), ("/page.js", "text/javascript"), ("/page.css", "text/css")):
        answer = await service.client.get(path)
        assert answer.headers["content-type"].startswith(media_type)
        assert "unsafe-inline" not in answer.headers["content-security-policy"]
    assert "<script>" not in (await service.client.get("/")).text


async def test_the_job_manager(service: Import) -> None:
    """One address for both ways: the rollout says which, the old calls are answered, both are compared."""
    imports = service.runtime.get(BookImports, IMPORTS_KEY)
    for percent, method in ((0, "legacy"), (100, "workflow")):
        await imports.set_rollout(percent)
        answer = await service.client.post("/v2/import", json={"action": "start", "isbn": DUNE})
        told = answer.json()["data"]
        assert (answer.status_code, told["method"], told["status"]) == (202, method, "started")
        assert [frame["status"] for frame in await service.follow(told["jobId"])] == ALL
        asked = {"action": "status", "jobId": told["jobId"]}
        status = (await service.client.post("/v2/import", json=asked)).json()["data"]
        assert status == (await service.client.get(f"/v2/import/status/{told['jobId']}")).json()["data"]
        assert status["status"] == "completed"
    metrics = (await service.client.get("/v2/import/metrics")).json()["data"]
    assert {way: (one["imports"], one["successRate"]) for way, one in metrics.items()} == {
        "workflow": (1, 1.0),
        "legacy": (1, 1.0),
    }
    (figure,) = await imports.figures("old")
    assert (figure.key, figure.success) == (DUNE, True)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"action": "stop"}, 400, "INVALID_ACTION"),
        ({"action": "status", "jobId": "nope"}, 404, "JOB_NOT_FOUND"),
        ({"action": "status"}, 404, "JOB_NOT_FOUND"),
        ({"action": "start", "isbn": "1"}, 400, "INVALID_ISBN"),
        ({}, 400, "INVALID_ISBN"),
        ({"action": 7}, 400, "INVALID_BODY"),
    ],
)
async def test_wrong_calls_of_the_job_manager(
    service: Import, body: dict[str, object], status: int, code: str
) -> None:
    """Each has its code."""
    answer = await service.client.post("/v2/import", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
