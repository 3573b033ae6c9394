"""What the import asks of the web: one of the runtime's `deps`, so a test may answer in its place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from .records import BookMetadata, Source


@dataclass(frozen=True, slots=True)
class Cover:
    """A picture on its way."""

    content_type: str
    parts: AsyncGenerator[bytes]


class BookWeb(ABC):
    """Metadata and covers.

    What can't be mended by asking again is `Fatal`: no such book, a picture that is none.  A server that says
    when it may be asked again is `RetryAfter`; everything else that goes wrong is `WebFailed`.
    """

    @abstractmethod
    async def fetch_metadata(self, source: Source, isbn: str) -> BookMetadata:
        """What a source knows of a book."""

    @abstractmethod
    def open_cover(self, url: str) -> AbstractAsyncContextManager[Cover]:
        """A picture; its parts are read inside of the `async with`."""


class WebFailed(Exception):
    """No answer, or one that may be better next time."""
