"""What goes into an import and what comes out, as clients see it (in camel case)."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Source = Literal["google_books", "isbndb", "openlibrary"]
ImportStatus = Literal[
    "started", "metadata_fetched", "cover_uploaded", "embedding_generated", "completed", "failed"
]
MAX_TEXT_CHARACTERS: Final = 500
MAX_DESCRIPTION_CHARACTERS: Final = 10_000
MAX_LIST: Final = 50
MAX_EMBEDDED_CHARACTERS: Final = 512


class BookImportInput(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is to be imported, from where."""

    isbn: str
    source: Source
    user_id: str | None = None


class BookMetadata(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What a source knows of a book; all but the title may be missing."""

    isbn: str
    title: str
    source: Source
    authors: list[str] = []
    publisher: str | None = None
    published: str | None = None
    description: str | None = None
    pages: int | None = None
    language: str | None = None
    subjects: list[str] = []
    cover_url: str | None = None

    def text(self) -> str:
        """What its vector is made of."""
        by = f" by {', '.join(self.authors)}" if self.authors else ""
        about = f". {self.description}" if self.description else ""
        return f"{self.title}{by}{about}"[:MAX_EMBEDDED_CHARACTERS]


class BookImportOutput(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of an import."""

    success: bool
    isbn: str
    metadata: BookMetadata
    cover_key: str | None
    has_embedding: bool


class ImportFrame(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is told of an import, as it is published."""

    job_id: str
    status: ImportStatus
    timestamp: str
    data: object
