"""The sources and covers over HTTP, against a server on loopback that answers as they do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from holdfast import Fatal, RetryAfter
from holdfast.examples.book_import.http_web import MAX_REDIRECTS, HttpBookWeb, retry_after_seconds
from holdfast.examples.book_import.public_net import ForbiddenAddress
from holdfast.examples.book_import.records import Source
from holdfast.examples.book_import.settings import Settings
from holdfast.examples.book_import.web import WebFailed
from tests.examples.book_import.book_server import (
    DESCRIPTION,
    DUNE,
    PICTURE,
    UNKNOWN,
    BookServer,
    book_server,
    google_books,
)

PATHS: dict[Source, str] = {
    "google_books": "/google/volumes",
    "isbndb": f"/isbndb/book/{DUNE}",
    "openlibrary": "/openlibrary/api/books",
}
EVERY_SOURCE = pytest.mark.parametrize("source", list(PATHS))


@pytest.fixture
async def server() -> AsyncIterator[BookServer]:
    """The book server."""
    async with book_server() as running:
        yield running


@pytest.fixture
async def web(server: BookServer) -> AsyncIterator[HttpBookWeb]:
    """A client of it."""
    async with HttpBookWeb(server.settings) as opened:
        yield opened


def changed(settings: Settings, **changes: Any) -> Settings:
    """Settings with some changed."""
    return msgspec.structs.replace(settings, **changes)


# -- metadata ------------------------------------------------------------------------------------------------


async def test_google_books(web: HttpBookWeb, server: BookServer) -> None:
    """A volume, asked for with the key."""
    book = await web.fetch_metadata("google_books", DUNE)
    assert (book.title, book.authors) == ("Dune: The first book", ["Frank Herbert", "Brian Herbert"])
    assert (book.publisher, book.published, book.pages) == ("Penguin", "2005-08-02", 528)
    assert (book.language, book.subjects) == ("en", ["Fiction"])
    assert book.cover_url == f"{server.base}/covers/dune.jpg"
    assert book.description == (DESCRIPTION * 6).strip()
    assert server.queries == [f"q=isbn%3A{DUNE}&key=google-key"]
    assert book.text().startswith("Dune: The first book by Frank Herbert, Brian Herbert. Set on the desert")
    assert len(book.text()) == 512


async def test_isbndb(web: HttpBookWeb, server: BookServer) -> None:
    """A book, asked for with the key in a header."""
    book = await web.fetch_metadata("isbndb", DUNE)
    assert (book.title, book.authors) == ("Dune (Penguin Galaxy)", ["Frank Herbert"])
    assert (book.publisher, book.pages) == ("Ace", 544)
    assert server.headers[0]["authorization"] == "isbndb-key"


async def test_openlibrary(web: HttpBookWeb, server: BookServer) -> None:
    """A book, with the largest cover."""
    book = await web.fetch_metadata("openlibrary", DUNE)
    assert (book.title, book.authors, book.publisher) == ("Dune", ["Frank Herbert"], "Ace Trade")
    assert book.cover_url == f"{server.base}/covers/dune.jpg"
    assert book.description == DESCRIPTION.strip()


async def test_isbndb_without_a_key(server: BookServer) -> None:
    """It says what to set, and doesn't ask."""
    async with HttpBookWeb(changed(server.settings, isbndb_key=None)) as web:
        with pytest.raises(Fatal, match="isbndb_key"):
            await web.fetch_metadata("isbndb", DUNE)
    assert not server.asked


@EVERY_SOURCE
async def test_not_found(web: HttpBookWeb, source: Source) -> None:
    """No such book is no matter of asking again."""
    with pytest.raises(Fatal):
        await web.fetch_metadata(source, UNKNOWN)


@EVERY_SOURCE
@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_server(web: HttpBookWeb, server: BookServer, source: Source, status: int) -> None:
    """It is asked again, and not before it says."""
    server.next[PATHS[source]] = [server.status(status, retry_after="17"), server.status(status)]
    with pytest.raises(RetryAfter, match="17 s") as told:
        await web.fetch_metadata(source, DUNE)
    assert told.value.seconds == 17
    with pytest.raises(WebFailed, match=str(status)):
        await web.fetch_metadata(source, DUNE)


@EVERY_SOURCE
@pytest.mark.parametrize("status", [301, 400, 401, 403])
async def test_a_server_that_refuses(
    web: HttpBookWeb, server: BookServer, source: Source, status: int
) -> None:
    """A wrong key, or an address that has moved, is no matter of asking again."""
    server.always[PATHS[source]] = server.status(status, location=f"{server.base}/covers/dune.jpg")
    with pytest.raises(Fatal, match=str(status)):
        await web.fetch_metadata(source, DUNE)


@EVERY_SOURCE
@pytest.mark.parametrize("text", ["", "{", "<html>", '{"a": 1}x'])
async def test_broken_json(web: HttpBookWeb, server: BookServer, source: Source, text: str) -> None:
    """It may be cut off: it is asked again."""
    server.always[PATHS[source]] = server.text(text)
    with pytest.raises(WebFailed, match="JSON"):
        await web.fetch_metadata(source, DUNE)


@EVERY_SOURCE
@pytest.mark.parametrize(
    "answer",
    [[], None, 7, "text", {"items": {}}, {"items": [7]}, {"book": []}, {f"ISBN:{DUNE}": 7}, {"items": [{}]}],
    ids=str,
)
async def test_other_shapes(web: HttpBookWeb, server: BookServer, source: Source, answer: object) -> None:
    """JSON of another shape is no book, and no crash."""
    server.always[PATHS[source]] = server.json(answer)
    with pytest.raises(Fatal, match=source):
        await web.fetch_metadata(source, DUNE)


async def test_missing_and_odd_fields(web: HttpBookWeb, server: BookServer) -> None:
    """Whatever is missing or of another type is left out; a title is enough."""
    answer = google_books(server.base)
    answer["items"][0]["volumeInfo"] = {
        "title": " Dune ",
        "authors": ["Frank Herbert", 7, None, ""],
        "publisher": {"name": "x"},
        "description": 7,
        "pageCount": "528",
        "imageLinks": ["x"],
        "language": "",
        "categories": "Fiction",
    }
    server.always["/google/volumes"] = server.json(answer)
    book = await web.fetch_metadata("google_books", DUNE)
    assert (book.title, book.authors, book.text()) == ("Dune", ["Frank Herbert"], "Dune by Frank Herbert")
    assert (book.publisher, book.description, book.pages, book.cover_url) == (None, None, None, None)
    assert (book.language, book.subjects) == (None, [])


async def test_long_fields_are_cut(web: HttpBookWeb, server: BookServer) -> None:
    """A stranger can't fill the journal."""
    answer = google_books(server.base)
    answer["items"][0]["volumeInfo"] |= {
        "title": "t" * 100_000,
        "subtitle": "s" * 100_000,
        "authors": ["a" * 5_000] * 100,
        "description": "d" * 500_000,
        "categories": ["c" * 5_000] * 100,
    }
    server.always["/google/volumes"] = server.json(answer)
    book = await web.fetch_metadata("google_books", DUNE)
    assert len(msgspec.msgpack.encode(book)) < 64 << 10


async def test_a_huge_answer(server: BookServer) -> None:
    """It is cut off, whether it tells its length or not."""
    async with HttpBookWeb(changed(server.settings, max_answer_bytes=100_000)) as web:
        server.always["/google/volumes"] = server.endless("application/json")
        with pytest.raises(Fatal, match="more than 100000 bytes"):
            await web.fetch_metadata("google_books", DUNE)


async def test_a_silent_server(server: BookServer) -> None:
    """An answer that doesn't end in time is given up."""
    async with HttpBookWeb(changed(server.settings, timeout_seconds=0.2)) as web:
        server.always["/google/volumes"] = server.hanging()
        with pytest.raises(WebFailed, match=r"0\.2 s|ReadTimeout"):
            await web.fetch_metadata("google_books", DUNE)


async def test_nobody_there() -> None:
    """A server that can't be reached may be there later."""
    settings = Settings(google_books_url="http://127.0.0.1:9")
    async with HttpBookWeb(settings) as web:
        with pytest.raises(WebFailed, match="ConnectError"):
            await web.fetch_metadata("google_books", DUNE)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("Sat, 01 Jan 2030 00:01:00 GMT", 60),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0),
        ("soon", None),
        ("-5", None),
        ("1e9", None),
        ("9" * 50, None),
    ],
)
def test_retry_after(header: str | None, seconds: float | None) -> None:
    """Seconds or a date; nonsense is as nothing."""
    assert retry_after_seconds(header, datetime(2030, 1, 1, tzinfo=UTC)) == seconds


# -- covers --------------------------------------------------------------------------------------------------


async def fetch(web: HttpBookWeb, url: str) -> tuple[str, bytes]:
    """A cover's type and bytes."""
    async with web.open_cover(url) as cover:
        return cover.content_type, b"".join([part async for part in cover.parts])


async def test_cover(web: HttpBookWeb, server: BookServer) -> None:
    """A picture with its type."""
    assert await fetch(web, f"{server.base}/covers/dune.jpg") == ("image/jpeg", PICTURE)


async def test_cover_behind_redirects(web: HttpBookWeb, server: BookServer) -> None:
    """Redirects are followed, absolute and relative, but not for ever."""
    server.always["/a"] = server.redirect("/b?x=1")
    server.always["/b"] = server.redirect(f"{server.base}/covers/dune.jpg")
    assert (await fetch(web, f"{server.base}/a"))[1] == PICTURE
    server.always["/loop"] = server.redirect("/loop")
    with pytest.raises(Fatal, match=f"more than {MAX_REDIRECTS} redirects"):
        await fetch(web, f"{server.base}/loop")


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/x.jpg",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:10.0.0.1]/x.jpg",
        "http://[fd00::1]/x.jpg",
        "http://167772161/x.jpg",
        "http://0x0a000001/x.jpg",
        "//10.0.0.1/x.jpg",
    ],
)
async def test_private_addresses(web: HttpBookWeb, server: BookServer, target: str) -> None:
    """They are refused at the first hop and at the second one."""
    server.always["/a"] = server.redirect(target)
    with pytest.raises(ForbiddenAddress, match="not a public address"):
        await fetch(web, f"{server.base}/a")
    if target.startswith("http"):
        with pytest.raises(ForbiddenAddress, match="not a public address"):
            await fetch(web, target)


async def test_loopback_is_for_tests(server: BookServer) -> None:
    """Without the setting this machine is refused as any private address."""
    async with HttpBookWeb(changed(server.settings, allow_loopback=False)) as web:
        port = server.base.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", "2130706433", "[::1]", "[::ffff:127.0.0.1]"):
            with pytest.raises(ForbiddenAddress, match="not a public address"):
                await fetch(web, f"http://{host}:{port}/covers/dune.jpg")
    assert not server.asked


@pytest.mark.parametrize(
    "url",
    ["", "x", "/x.jpg", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://", "http://[::1",
     "data:image/png,x", "http://user:secret@127.0.0.1/x", "http://127.0.0.1/" + "x" * 3_000, "http://a\x00b/"],
)  # fmt: skip
async def test_addresses_that_are_none(web: HttpBookWeb, server: BookServer, url: str) -> None:
    """Other schemes, and what is no address, are refused; also behind a redirect."""
    with pytest.raises(Fatal):
        await fetch(web, url)
    if url.isprintable() and "://" in url and len(url) < 1_000:
        server.always["/a"] = server.redirect(url)
        with pytest.raises(Fatal):
            await fetch(web, f"{server.base}/a")


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "image/svg+xml", ""])
async def test_a_cover_that_is_no_picture(web: HttpBookWeb, server: BookServer, content_type: str) -> None:
    """A page, or a picture that can hold a script, is refused."""
    from starlette.responses import Response

    headers = {"content-type": content_type} if content_type else {}
    server.always["/x"] = lambda request: Response(b"x", headers=headers)
    with pytest.raises(Fatal, match="no picture"):
        await fetch(web, f"{server.base}/x")


async def test_covers_that_fail(web: HttpBookWeb, server: BookServer) -> None:
    """Gone for good, busy, or down."""
    with pytest.raises(Fatal, match="404"):
        await fetch(web, f"{server.base}/missing.jpg")
    server.always["/x"] = server.status(503, retry_after="5")
    with pytest.raises(RetryAfter):
        await fetch(web, f"{server.base}/x")
    with pytest.raises(WebFailed, match="ConnectError"):
        await fetch(web, "http://127.0.0.1:9/x.jpg")
