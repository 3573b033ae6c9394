"""The import as it was before: a hand-written state machine, kept for comparison and for the rollout.

    queued -> fetching -> uploading -> embedding -> saving -> completed
                 |           |            |           |
                 +-----------+------------+-----------+------> failed | cancelled

It does the same steps with the same retries.  Its states are rows, but what drives them is a task in memory:
killed in between, a job stays in the state that its row has, nobody goes on with it, and nobody who follows
it hears more.  A state may be told and not stored, or the other way round, since these are two commits.
docs/book_import.md compares both.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from contextvars import Context
from datetime import UTC, datetime
from typing import Final, Literal, TypeVar

import msgspec

from holdfast import Actor, Fatal, JobLook, RetryAfter, Runtime, shared

from .embedder import Embedder, pack_vector
from .isbn import InvalidIsbn, normal_isbn
from .library import SHELF_KEY, MainStore, NewBook, SpareShelf
from .progress import HUB_KEY, ImportProgress
from .records import BookImportInput, BookImportOutput, BookMetadata, ImportFrame, ImportStatus
from .settings import Settings
from .web import BookWeb

_log = logging.getLogger("holdfast.examples.book_import")

T = TypeVar("T")
State = Literal["queued", "fetching", "uploading", "embedding", "saving", "completed", "failed", "cancelled"]
JOBS_KEY: Final = "jobs"
_NEXT: Final[dict[State, tuple[State, ...]]] = {
    "queued": ("fetching", "failed", "cancelled"),
    "fetching": ("uploading", "failed", "cancelled"),
    "uploading": ("embedding", "failed", "cancelled"),
    "embedding": ("saving", "failed", "cancelled"),
    "saving": ("completed", "failed", "cancelled"),
    "completed": (),
    "failed": (),
    "cancelled": (),
}


class LegacyRow(msgspec.Struct, frozen=True):
    """A job of the old way."""

    state: State
    at: datetime
    error: str = ""


class LegacyJobs(Actor):
    """Rows of jobs by id."""

    async def begin(self, job_id: str) -> bool:
        """A new row; False when there is one."""
        if self.storage.get(job_id) is not None:
            return False
        self.storage.put(job_id, LegacyRow("queued", self._now()))
        return True

    async def move(self, job_id: str, state: State, error: str = "") -> None:
        """The next state; raises `ValueError` for one that doesn't follow."""
        row = self.storage.get(job_id, LegacyRow)
        if row is None or state not in _NEXT[row.state]:
            raise ValueError(f"job {job_id} can't become {state}: it is {row}")
        self.storage.put(job_id, LegacyRow(state, self._now(), error))

    @shared
    async def find(self, job_id: str) -> LegacyRow | None:
        """The row of a job."""
        return self.storage.get(job_id, LegacyRow)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.runtime.clock.now_ms() / 1000, UTC)


class LegacyImport:
    """The old way, for a `JobManager`."""

    def __init__(self) -> None:
        # By job; a task is nobody's when the process dies.
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def start(self, runtime: Runtime, job_id: str, input: object) -> None:
        """Begin a job; one that has begun is left as it is."""
        order = msgspec.convert(msgspec.to_builtins(input), BookImportInput)
        if await _jobs(runtime).begin(job_id):
            # Not in the context of the turn that starts it, which is over soon.
            driven = Context().run(runtime.spawn, self._drive(runtime, job_id, order), f"import {job_id}")
            self._tasks[job_id] = driven
            driven.add_done_callback(lambda _: self._tasks.pop(job_id, None))

    async def look(self, runtime: Runtime, job_id: str) -> JobLook:
        """How it stands; raises `LookupError`."""
        row = await _jobs(runtime).find(job_id)
        if row is None:
            raise LookupError(f"there is no import {job_id!r}")
        if row.state == "completed":
            return JobLook("complete", row.at)
        if row.state == "failed":
            return JobLook("failed", row.at, row.error)
        if row.state == "cancelled":
            return JobLook("cancelled", row.at)
        return JobLook("queued" if row.state == "queued" else "running")

    async def cancel(self, runtime: Runtime, job_id: str, *, by: str | None, reason: str) -> None:
        """End it where it is."""
        await _jobs(runtime).move(job_id, "cancelled")
        task = self._tasks.get(job_id)
        if task is not None:
            task.cancel()

    async def _drive(self, runtime: Runtime, job_id: str, order: BookImportInput) -> None:
        try:
            await import_book(runtime, order, job_id)
        except Exception as error:
            await _jobs(runtime).move(job_id, "failed", str(error))


async def import_book(runtime: Runtime, order: BookImportInput, job_id: str) -> BookImportOutput:
    """One import, from its row to its end; raises what failed it."""
    return await _Import(runtime, order, job_id).run()


class _Import:
    def __init__(self, runtime: Runtime, order: BookImportInput, job_id: str) -> None:
        self._runtime = runtime
        self._order = order
        self._job_id = job_id

    async def run(self) -> BookImportOutput:
        try:
            return await self._run()
        except Exception as error:
            await self._tell("failed", {"error": str(error)})
            raise

    async def _run(self) -> BookImportOutput:
        await self._move("fetching")
        await self._tell("started", {"isbn": self._order.isbn, "source": self._order.source})
        metadata = await _again(self._fetch, limit=3, delay=1.0, linear=True)
        await self._tell("metadata_fetched", {"title": metadata.title, "authors": metadata.authors})
        await self._move("uploading")
        cover_key: str | None = None
        if metadata.cover_url is not None:
            try:
                cover_key = await _again(lambda: self._upload(metadata), limit=5, delay=0.5)
                await self._tell("cover_uploaded", {"coverKey": cover_key})
            except Exception:
                _log.warning("job %s goes on without its cover", self._job_id, exc_info=True)
        await self._move("embedding")
        vector: bytes | None = None
        embedder = self._runtime.deps.find(Embedder)  # type: ignore[type-abstract]
        if embedder is not None:
            try:
                numbers = await _again(
                    lambda: embedder.embed(metadata.text()), limit=2, delay=2.0, linear=True
                )
                vector = pack_vector(numbers)
                await self._tell("embedding_generated", {"dimensions": len(vector) // 4})
            except Exception:
                _log.warning("job %s goes on without a vector", self._job_id, exc_info=True)
        await self._move("saving")
        book = NewBook(
            metadata=metadata,
            cover_key=cover_key,
            user_id=self._order.user_id,
            model=None if vector is None or embedder is None else embedder.name,
            vector=vector,
        )
        try:
            await _again(lambda: self._save(book), limit=3, delay=1.0)
        except Exception:
            _log.warning("job %s goes to the spare shelf", self._job_id, exc_info=True)
            await self._runtime.get(SpareShelf, SHELF_KEY).put(book)
        await self._move("completed")
        await self._tell("completed", {"isbn": metadata.isbn, "title": metadata.title})
        return BookImportOutput(
            success=True,
            isbn=metadata.isbn,
            metadata=metadata,
            cover_key=cover_key,
            has_embedding=vector is not None,
        )

    async def _fetch(self) -> BookMetadata:
        try:
            isbn = normal_isbn(self._order.isbn)
        except InvalidIsbn as error:
            raise Fatal(str(error)) from None
        web = self._runtime.deps.get(BookWeb)  # type: ignore[type-abstract]
        return await web.fetch_metadata(self._order.source, isbn)

    async def _upload(self, metadata: BookMetadata) -> str:
        assert metadata.cover_url is not None
        settings = self._runtime.deps.find(Settings) or Settings()
        web = self._runtime.deps.get(BookWeb)  # type: ignore[type-abstract]
        key = f"covers/{metadata.isbn}.jpg"
        async with web.open_cover(metadata.cover_url) as cover, aclosing(cover.parts) as parts:
            await self._runtime.blobs.put(
                key, parts, content_type=cover.content_type, max_bytes=settings.max_cover_bytes
            )
        return key

    async def _save(self, book: NewBook) -> None:
        store = self._runtime.deps.find(MainStore)  # type: ignore[type-abstract]
        if store is None:
            raise Fatal("there is no main store")
        await store.upsert(self._runtime, book)

    async def _move(self, state: State) -> None:
        await _jobs(self._runtime).move(self._job_id, state)

    async def _tell(self, status: ImportStatus, data: dict[str, object]) -> None:
        now = datetime.fromtimestamp(self._runtime.clock.now_ms() / 1000, UTC)
        frame = ImportFrame(job_id=self._job_id, status=status, timestamp=now.isoformat(), data=data)
        await self._runtime.get(ImportProgress, HUB_KEY).publish(self._job_id, frame)


async def _again(work: Callable[[], Awaitable[T]], *, limit: int, delay: float, linear: bool = False) -> T:
    """Try again as the policy says; each attempt has a minute."""
    attempt = 1
    while True:
        try:
            async with asyncio.timeout(60):
                return await work()
        except Fatal:
            raise
        except Exception as error:
            if attempt > limit:
                raise
            seconds = delay * attempt if linear else delay * 2 ** (attempt - 1)
            if isinstance(error, RetryAfter):
                seconds = max(seconds, min(error.seconds, 3600.0))
        await asyncio.sleep(seconds)
        attempt += 1


def _jobs(runtime: Runtime) -> LegacyJobs:
    return runtime.get(LegacyJobs, JOBS_KEY)
