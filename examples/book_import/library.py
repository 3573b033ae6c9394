"""Where books are kept: a table with vectors, or, while that can't be had, a row for 30 days.

save-to-database -> MainStore (deps) -> Library, an actor: upsert by ISBN
                 -> (StepError)      -> SpareShelf: `book:isbn:{isbn}`, kept 30 days
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Final

import msgspec

from holdfast import Actor, Runtime, Table, shared

from .records import BookMetadata

LIBRARY_KEY: Final = "books"
SHELF_KEY: Final = "spare"
SPARE_FOR: Final = "30d"
_VECTOR: Final = "vector"  # (this, number) -> StoredVector; a new vector of a book gets a new number


class SavedBook(msgspec.Struct, frozen=True, kw_only=True):
    """A book as it is kept."""

    isbn: str
    metadata: BookMetadata
    cover_key: str | None
    imported_by: str | None
    created_at: datetime
    updated_at: datetime
    vector_number: int | None = None


class NewBook(msgspec.Struct, frozen=True, kw_only=True):
    """A book that is to be saved."""

    metadata: BookMetadata
    cover_key: str | None
    user_id: str | None
    model: str | None = None
    vector: bytes | None = None


class StoredVector(msgspec.Struct, frozen=True, array_like=True):
    """The vector of a book."""

    isbn: str
    model: str
    vector: bytes


class MainStore(ABC):
    """Where books belong: one of the runtime's `deps`, which may be missing or fail."""

    @abstractmethod
    async def upsert(self, runtime: Runtime, book: NewBook) -> None:
        """Save a book in place of what is known of its ISBN."""


class LibraryStore(MainStore):
    """The table in this very runtime."""

    async def upsert(self, runtime: Runtime, book: NewBook) -> None:
        """One turn: once, also over retries of the step."""
        await runtime.get(Library, LIBRARY_KEY).upsert(book)


class Library(Actor):
    """Books by ISBN, and their vectors in the order in which they came."""

    last_vector: int = 0

    async def upsert(self, book: NewBook) -> SavedBook:
        """Save it; when it was first saved stays, and so does a vector in whose place none comes."""
        books = self._books()
        old = books.get(book.metadata.isbn)
        now = datetime.fromtimestamp(self.runtime.clock.now_ms() / 1000, UTC)
        row = SavedBook(
            isbn=book.metadata.isbn,
            metadata=book.metadata,
            cover_key=book.cover_key or (None if old is None else old.cover_key),
            imported_by=book.user_id,
            created_at=now if old is None else old.created_at,
            updated_at=now,
            vector_number=self._keep_vector(book, None if old is None else old.vector_number),
        )
        books.put(row)
        return row

    def _keep_vector(self, book: NewBook, old: int | None) -> int | None:
        if book.vector is None or book.model is None:
            return old
        if old is not None:
            self.storage.delete((_VECTOR, old))
        self.last_vector += 1
        stored = StoredVector(book.metadata.isbn, book.model, book.vector)
        self.storage.put((_VECTOR, self.last_vector), stored)
        return self.last_vector

    @shared
    async def find(self, isbn: str) -> SavedBook | None:
        """A book."""
        return self._books().get(isbn)

    @shared
    async def vectors(self, behind: int, limit: int) -> list[tuple[int, StoredVector]]:
        """Vectors that came behind a number, with theirs."""
        rows = self.storage.list((_VECTOR,), type=StoredVector, start_after=(_VECTOR, behind), limit=limit)
        return [(key[1], row) for key, row in rows.items() if isinstance(key, tuple) and type(key[1]) is int]

    @shared
    async def vector_of(self, isbn: str) -> StoredVector | None:
        """The vector of a book."""
        book = self._books().get(isbn)
        if book is None or book.vector_number is None:
            return None
        return self.storage.get((_VECTOR, book.vector_number), StoredVector)

    def _books(self) -> Table[SavedBook]:
        return self.storage.table(SavedBook, key="isbn", name="books")


class SpareShelf(Actor):
    """Books that the main store didn't take, for 30 days."""

    async def put(self, book: NewBook) -> str:
        """Keep a book; returns its key."""
        key = f"book:isbn:{book.metadata.isbn}"
        self.storage.put(key, book, ttl=SPARE_FOR)
        return key

    @shared
    async def find(self, isbn: str) -> NewBook | None:
        """A book, as long as it is kept."""
        return self.storage.get(f"book:isbn:{isbn}", NewBook)
