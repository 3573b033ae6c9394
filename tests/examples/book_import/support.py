"""What the tests of the import share: a web, an embedder and a main store in the hand of the test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from holdfast import Fatal, Runtime
from holdfast.examples.book_import.embedder import Embedder
from holdfast.examples.book_import.library import LibraryStore, MainStore, NewBook
from holdfast.examples.book_import.progress import HUB_KEY, ImportProgress, frame_of
from holdfast.examples.book_import.records import BookImportInput, BookMetadata, ImportFrame, Source
from holdfast.examples.book_import.web import BookWeb, Cover
from tests.examples.book_import.book_server import DESCRIPTION, DUNE, PICTURE

ORDER = BookImportInput(isbn=DUNE, source="google_books", user_id="ann")
ALL = ["started", "metadata_fetched", "cover_uploaded", "embedding_generated", "completed"]


class FakeWeb(BookWeb):
    """Knows every book but one, and raises what the test wants first."""

    def __init__(self, *, cover_url: str | None = "http://covers.example/dune.jpg") -> None:
        self.cover_url = cover_url
        self.metadata_raises: list[Exception] = []
        self.cover_raises: list[Exception] = []

    async def fetch_metadata(self, source: Source, isbn: str) -> BookMetadata:
        if self.metadata_raises:
            raise self.metadata_raises.pop(0)
        return BookMetadata(
            isbn=isbn,
            title="Dune",
            authors=["Frank Herbert"],
            source=source,
            description=DESCRIPTION,
            cover_url=self.cover_url,
        )

    @asynccontextmanager
    async def open_cover(self, url: str) -> AsyncGenerator[Cover]:
        if self.cover_raises:
            raise self.cover_raises.pop(0)
        yield Cover("image/jpeg", parts_of_picture())


async def parts_of_picture() -> AsyncGenerator[bytes]:
    """The picture in two parts."""
    yield PICTURE[:100]
    yield PICTURE[100:]


class LetterEmbedder(Embedder):
    """How often each of 26 letters is in a text."""

    name = "letters"
    dimensions = 26

    def __init__(self, *raises: Exception) -> None:
        self.raises = list(raises)

    async def embed(self, text: str) -> Sequence[float]:
        if self.raises:
            raise self.raises.pop(0)
        return [text.lower().count(chr(97 + number)) + 0.01 for number in range(26)]


class FailingStore(MainStore):
    """A main store that is down so many times, then the library."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.asked = 0

    async def upsert(self, runtime: Runtime, book: NewBook) -> None:
        self.asked += 1
        if self.asked <= self.times:
            raise ConnectionError("the database is down")
        await LibraryStore().upsert(runtime, book)


def refuse(why: str) -> Fatal:
    """An error that is not retried."""
    return Fatal(why)


async def frames(runtime: Runtime, job: str) -> list[ImportFrame]:
    """What was told of a job."""
    hub = runtime.get(ImportProgress, HUB_KEY)
    return [frame_of(message) for message in await hub.since(job)]
