"""A local server that answers as Google Books, ISBNdb and Open Library do, and has covers."""

from __future__ import annotations

import asyncio
from collections import Counter as Tally
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from holdfast.examples.book_import.settings import Settings
from tests.service.support import serving

DUNE = "9780441013593"
UNKNOWN = "9780000000002"
PICTURE = b"\xff\xd8\xff\xe0" + b"picture" * 2_000
DESCRIPTION = (
    "Set on the desert planet Arrakis, Dune is the story of the boy Paul Atreides, heir to a noble family "
    "tasked with ruling an inhospitable world where the only thing of value is the spice melange. "
)


def google_books(base: str, isbn: str = DUNE) -> dict[str, Any]:
    """GET volumes?q=isbn:..., cut to what matters and some of what doesn't."""
    return {
        "kind": "books#volumes",
        "totalItems": 1,
        "items": [
            {
                "kind": "books#volume",
                "id": "B1hSG45JCX4C",
                "etag": "abc",
                "selfLink": "https://www.googleapis.com/books/v1/volumes/B1hSG45JCX4C",
                "volumeInfo": {
                    "title": "Dune",
                    "subtitle": "The first book",
                    "authors": ["Frank Herbert", "Brian Herbert"],
                    "publisher": "Penguin",
                    "publishedDate": "2005-08-02",
                    "description": DESCRIPTION * 6,
                    "industryIdentifiers": [
                        {"type": "ISBN_13", "identifier": isbn},
                        {"type": "ISBN_10", "identifier": "0441013597"},
                    ],
                    "pageCount": 528,
                    "printType": "BOOK",
                    "categories": ["Fiction"],
                    "maturityRating": "NOT_MATURE",
                    "imageLinks": {
                        "smallThumbnail": f"{base}/covers/small.jpg",
                        "thumbnail": f"{base}/covers/dune.jpg",
                    },
                    "language": "en",
                },
                "saleInfo": {"country": "US", "saleability": "NOT_FOR_SALE", "isEbook": False},
                "accessInfo": {"country": "US", "viewability": "PARTIAL", "embeddable": True},
            }
        ],
    }


def isbndb(base: str, isbn: str = DUNE) -> dict[str, Any]:
    """GET book/{isbn}."""
    return {
        "book": {
            "title": "Dune",
            "title_long": "Dune (Penguin Galaxy)",
            "isbn": "0441013597",
            "isbn13": isbn,
            "dewey_decimal": "813.54",
            "binding": "Paperback",
            "publisher": "Ace",
            "language": "en",
            "date_published": "2005-08-02",
            "edition": "1",
            "pages": 544,
            "dimensions": "Height: 9 Inches",
            "image": f"{base}/covers/dune.jpg",
            "msrp": 18.0,
            "synopsis": DESCRIPTION,
            "authors": ["Frank Herbert"],
            "subjects": ["Science fiction", "Deserts"],
        }
    }


def openlibrary(base: str, isbn: str = DUNE) -> dict[str, Any]:
    """GET api/books?bibkeys=ISBN:...&format=json&jscmd=data."""
    return {
        f"ISBN:{isbn}": {
            "url": "https://openlibrary.org/books/OL7525563M/Dune",
            "key": "/books/OL7525563M",
            "title": "Dune",
            "authors": [{"url": "https://openlibrary.org/authors/OL79034A", "name": "Frank Herbert"}],
            "number_of_pages": 528,
            "identifiers": {"isbn_13": [isbn], "openlibrary": ["OL7525563M"]},
            "publishers": [{"name": "Ace Trade"}],
            "publish_date": "August 2, 2005",
            "subjects": [{"name": "Dune (Imaginary place)", "url": "https://openlibrary.org/subjects/dune"}],
            "notes": {"type": "/type/text", "value": DESCRIPTION},
            "cover": {
                "small": f"{base}/covers/small.jpg",
                "medium": f"{base}/covers/small.jpg",
                "large": f"{base}/covers/dune.jpg",
            },
        }
    }


class BookServer:
    """The server; a test may put answers before the usual ones, by path."""

    def __init__(self) -> None:
        self.base = ""
        # What is answered next under a path, one for each request; then the usual again.
        self.next: dict[str, list[Callable[[Request], Response]]] = {}
        self.always: dict[str, Callable[[Request], Response]] = {}
        self.asked: Tally[str] = Tally()
        self.headers: list[dict[str, str]] = []
        self.queries: list[str] = []
        self.release = asyncio.Event()

    @property
    def settings(self) -> Settings:
        """For an import that asks here."""
        return Settings(
            google_books_url=f"{self.base}/google",
            google_books_key="google-key",
            isbndb_url=f"{self.base}/isbndb",
            isbndb_key="isbndb-key",
            openlibrary_url=f"{self.base}/openlibrary",
            allow_loopback=True,
            timeout_seconds=5,
        )

    def app(self) -> Starlette:
        """All paths."""
        return Starlette(routes=[Route("/{path:path}", self._answer)])

    async def _answer(self, request: Request) -> Response:
        path = request.url.path
        self.asked[path] += 1
        self.headers.append(dict(request.headers))
        self.queries.append(request.url.query)
        if self.next.get(path):
            return self.next[path].pop(0)(request)
        if path in self.always:
            return self.always[path](request)
        return self._usual(path, request)

    def _usual(self, path: str, request: Request) -> Response:
        if path == "/google/volumes":
            isbn = request.query_params["q"].removeprefix("isbn:")
            if isbn == UNKNOWN:
                return JSONResponse({"kind": "books#volumes", "totalItems": 0})
            return JSONResponse(google_books(self.base, isbn))
        if path.startswith("/isbndb/book/"):
            isbn = path.rpartition("/")[2]
            if isbn == UNKNOWN:
                return JSONResponse({"errorMessage": "Not Found"}, 404)
            return JSONResponse(isbndb(self.base, isbn))
        if path == "/openlibrary/api/books":
            isbn = request.query_params["bibkeys"].removeprefix("ISBN:")
            return JSONResponse({} if isbn == UNKNOWN else openlibrary(self.base, isbn))
        if path == "/covers/dune.jpg":
            return Response(PICTURE, media_type="image/jpeg")
        return Response("not found", 404)

    # -- what goes wrong -----------------------------------------------------------------------------------

    def status(self, status: int, **headers: str) -> Callable[[Request], Response]:
        """An answer with a status and headers (`retry_after`)."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return lambda request: Response("wrong", status, named)

    def text(self, text: str) -> Callable[[Request], Response]:
        """200, with whatever text as JSON."""
        return lambda request: Response(text, media_type="application/json")

    def json(self, value: object) -> Callable[[Request], Response]:
        """200, with a value."""
        return lambda request: JSONResponse(value)

    def redirect(self, target: str) -> Callable[[Request], Response]:
        """To another address."""
        return lambda request: Response(status_code=302, headers={"location": target})

    def endless(self, media_type: str) -> Callable[[Request], Response]:
        """Bytes without end."""

        async def parts() -> AsyncIterator[bytes]:
            while True:
                yield bytes(64 << 10)
                await asyncio.sleep(0)

        return lambda request: StreamingResponse(parts(), media_type=media_type)

    def hanging(self, media_type: str = "application/json") -> Callable[[Request], Response]:
        """A beginning, and nothing more until `release`."""

        async def parts() -> AsyncIterator[bytes]:
            yield b"{"
            await self.release.wait()

        return lambda request: StreamingResponse(parts(), media_type=media_type)


@asynccontextmanager
async def book_server() -> AsyncIterator[BookServer]:
    """The server on a free port of loopback."""
    server = BookServer()
    async with serving(server.app()) as address:
        server.base = f"http://{address}"
        try:
            yield server
        finally:
            server.release.set()
