"""Addresses, keys and bounds of the import; from variables of the environment where a server is started."""

from __future__ import annotations

import os

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All of it has a default that works against the public services."""

    google_books_url: str = "https://www.googleapis.com/books/v1"
    google_books_key: str | None = None
    isbndb_url: str = "https://api2.isbndb.com"
    isbndb_key: str | None = None
    openlibrary_url: str = "https://openlibrary.org"

    timeout_seconds: float = 15.0
    """For a whole answer of a source, or a cover."""
    max_answer_bytes: int = 2 << 20
    max_cover_bytes: int = 10 << 20
    allow_loopback: bool = False
    """Covers may come from this very machine: for tests."""

    imports_per_minute: int = 60
    """Of one client."""


PREFIX = "BOOK_IMPORT_"


def settings_from_environment() -> Settings:
    """`BOOK_IMPORT_ISBNDB_KEY` and so on; raises `msgspec.ValidationError` for what has another type."""
    given = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in os.environ.items()
        if name.startswith(PREFIX)
    }
    return msgspec.convert(given, Settings, strict=False)
