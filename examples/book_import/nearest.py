"""Books that are near to each other: an index in memory (usearch) over the vectors that the library keeps.

The library is the truth; the index takes what is new there before it is asked, so a process that was killed
begins with an empty one and has it again with the first question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast import CallerError, Runtime

from .embedder import Embedder, pack_vector
from .library import LIBRARY_KEY, Library

if TYPE_CHECKING:
    from usearch.index import Index

_PAGE: Final = 1_000
MAX_NEAR: Final = 100


class NearBook(msgspec.Struct, frozen=True, rename="camel"):
    """A book, and how near it is: 1 the same, 0 nothing in common."""

    isbn: str
    title: str
    likeness: float


class NearestBooks:
    """The index over one library, for the vectors of one embedder."""

    def __init__(self, runtime: Runtime, embedder: Embedder) -> None:
        """Raises `ModuleNotFoundError` without the extra `embeddings`."""
        from usearch.index import Index

        self._library: Library = runtime.get(Library, LIBRARY_KEY)
        self._embedder = embedder
        # Keyed by the ISBN, which is a number.
        self._index: Index = Index(ndim=embedder.dimensions, metric="cos", dtype="f32")
        # The last vector of the library that the index knows.
        self._seen = 0
        self._one_at_a_time = asyncio.Lock()

    async def near_text(self, text: str, limit: int = 10) -> list[NearBook]:
        """Books that are near to a text, the nearest first."""
        return await self._near(pack_vector(await self._embedder.embed(text)), limit, but=None)

    async def near_book(self, isbn: str, limit: int = 10) -> list[NearBook] | None:
        """Books that are near to a book, without itself; None when it has no vector of this model."""
        stored = await self._library.vector_of(isbn)
        if stored is None or not self._fits(stored.model, stored.vector):
            return None
        return await self._near(stored.vector, limit, but=isbn)

    async def _near(self, vector: bytes, limit: int, but: str | None) -> list[NearBook]:
        import numpy

        if not 1 <= limit <= MAX_NEAR:
            raise CallerError(f"limit is from 1 to {MAX_NEAR}; got {limit}")
        async with self._one_at_a_time:
            await self._take_new()
            asked = numpy.frombuffer(vector, numpy.float32)
            found: Any = await asyncio.to_thread(self._index.search, asked, limit + 1)
        near: list[NearBook] = []
        for match in found:
            isbn = f"{int(match.key):013d}"
            book = None if isbn == but else await self._library.find(isbn)
            if book is not None:
                near.append(NearBook(isbn, book.metadata.title, round(1 - float(match.distance), 4)))
        return near[:limit]

    async def _take_new(self) -> None:
        while rows := await self._library.vectors(self._seen, _PAGE):
            fitting = [(row.isbn, row.vector) for _, row in rows if self._fits(row.model, row.vector)]
            await asyncio.to_thread(self._add, fitting)
            self._seen = rows[-1][0]

    def _add(self, vectors: Sequence[tuple[str, bytes]]) -> None:
        import numpy

        for isbn, vector in vectors:
            key = int(isbn)
            if key in self._index:
                self._index.remove(key)
            self._index.add(key, numpy.frombuffer(vector, numpy.float32))

    def _fits(self, model: str, vector: bytes) -> bool:
        return model == self._embedder.name and len(vector) == 4 * self._embedder.dimensions
