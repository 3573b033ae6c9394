"""`BookImport`: one book on its way into the library.

    fetch-metadata      linear, 3 retries, 1 s       Fatal: no such book; the import has failed
    upload-cover        exponential, 5, 0.5 s        only with a cover; without success the book has none
    generate-embedding  linear, 2, 2 s               optional: absent or failing, the import goes on
    save-to-database    exponential, 3, 1 s          else the spare shelf, for 30 days

Each status is told twice, in one commit with what led to it: as a progress event of the run (`emit`) and as a
message of the hub, whose topic is the job's id, which is the run's.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final

from holdfast import Fatal, Retry, StepError, Workflow

from ..events_pipeline.step_watch import StepWatch, tell_watch
from .embedder import Embedder, pack_vector
from .isbn import InvalidIsbn, normal_isbn
from .library import SHELF_KEY, MainStore, NewBook, SpareShelf
from .progress import HUB_KEY, ImportProgress
from .records import BookImportInput, BookImportOutput, BookMetadata, ImportFrame, ImportStatus
from .settings import Settings
from .web import BookWeb

FETCH_RETRY: Final = Retry(3, 1.0, "linear", jitter=0)
COVER_RETRY: Final = Retry(5, 0.5, "exponential", jitter=0)
EMBEDDING_RETRY: Final = Retry(2, 2.0, "linear", jitter=0)
SAVE_RETRY: Final = Retry(3, 1.0, "exponential", jitter=0)


class BookImport(Workflow):
    """One import; the run's id is the job's."""

    step_timeout = "60s"
    # So many ask the sources at once; others wait on disk, and frames of those that go on are not late.
    max_running = 20

    async def run(self, order: BookImportInput) -> BookImportOutput:
        """The four steps, and what is told on the way."""
        try:
            return await self._import(order)
        except StepError as error:
            await self._tell("failed", {"step": error.step, "error": error.cause.message})
            raise
        except asyncio.CancelledError:
            await self._tell("failed", {"error": "the import was cancelled"})
            raise

    async def _import(self, order: BookImportInput) -> BookImportOutput:
        await self._tell("started", {"isbn": order.isbn, "source": order.source})
        metadata = await self.step(self.fetch_metadata, order, name="fetch-metadata", retry=FETCH_RETRY)
        await self._tell("metadata_fetched", {"title": metadata.title, "authors": metadata.authors})
        cover_key: str | None = None
        if metadata.cover_url is not None:
            cover_key = await self.step(
                self.upload_cover, metadata.isbn, metadata.cover_url, name="upload-cover", retry=COVER_RETRY
            ).optional(None)
        if cover_key is not None:
            await self._tell("cover_uploaded", {"coverKey": cover_key})
        embedding = await self.step(
            self.generate_embedding, metadata.text(), name="generate-embedding", retry=EMBEDDING_RETRY
        ).optional(None)
        if embedding is not None:
            await self._tell("embedding_generated", {"dimensions": len(embedding[1]) // 4})
        book = NewBook(metadata=metadata, cover_key=cover_key, user_id=order.user_id)
        fallback_key = await self._save(book, embedding)
        output = BookImportOutput(
            success=True,
            isbn=metadata.isbn,
            metadata=metadata,
            cover_key=cover_key,
            has_embedding=embedding is not None,
        )
        await self._tell(
            "completed",
            {
                "isbn": metadata.isbn,
                "title": metadata.title,
                "coverKey": cover_key,
                "hasEmbedding": output.has_embedding,
                "fallbackKey": fallback_key,
            },
        )
        return output

    async def _save(self, book: NewBook, embedding: tuple[str, bytes] | None) -> str | None:
        """Into the main store; else the key on the spare shelf."""
        try:
            await self.step(self.save_to_database, book, embedding, name="save-to-database", retry=SAVE_RETRY)
        except StepError:
            return await self.runtime.get(SpareShelf, SHELF_KEY).put(_with_vector(book, embedding))
        return None

    async def _tell(self, status: ImportStatus, data: dict[str, object]) -> None:
        self.emit(status, data)
        frame = ImportFrame(job_id=str(self.key), status=status, timestamp=self.now().isoformat(), data=data)
        await self.runtime.get(ImportProgress, HUB_KEY).publish(str(self.key), frame)

    # -- steps: outside of what is replayed ----------------------------------------------------------------

    async def fetch_metadata(self, order: BookImportInput) -> BookMetadata:
        """What the source knows of the book."""
        tell_watch(self.runtime.deps.find(StepWatch))
        try:
            isbn = normal_isbn(order.isbn)
        except InvalidIsbn as error:
            raise Fatal(str(error)) from None
        return await self._web().fetch_metadata(order.source, isbn)

    async def upload_cover(self, isbn: str, url: str) -> str:
        """The picture into the blob store; its key there.  Put again, it changes nothing."""
        tell_watch(self.runtime.deps.find(StepWatch))
        settings = self.runtime.deps.find(Settings) or Settings()
        key = f"covers/{isbn}.jpg"
        async with self._web().open_cover(url) as cover, aclosing(cover.parts) as parts:
            await self.runtime.blobs.put(
                key, parts, content_type=cover.content_type, max_bytes=settings.max_cover_bytes
            )
        return key

    async def generate_embedding(self, text: str) -> tuple[str, bytes] | None:
        """Model and vector; None when this process has no embedder."""
        tell_watch(self.runtime.deps.find(StepWatch))
        embedder = self.runtime.deps.find(Embedder)  # type: ignore[type-abstract]
        if embedder is None:
            return None
        return embedder.name, pack_vector(await embedder.embed(text))

    async def save_to_database(self, book: NewBook, embedding: tuple[str, bytes] | None) -> None:
        """Into the main store."""
        tell_watch(self.runtime.deps.find(StepWatch))
        store = self.runtime.deps.find(MainStore)  # type: ignore[type-abstract]
        if store is None:
            raise Fatal("there is no main store")
        await store.upsert(self.runtime, _with_vector(book, embedding))

    def _web(self) -> BookWeb:
        return self.runtime.deps.get(BookWeb)  # type: ignore[type-abstract]


def _with_vector(book: NewBook, embedding: tuple[str, bytes] | None) -> NewBook:
    model, vector = embedding or (None, None)
    return NewBook(
        metadata=book.metadata, cover_key=book.cover_key, user_id=book.user_id, model=model, vector=vector
    )
