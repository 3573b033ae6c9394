"""The three metadata sources: what is asked, and what their answers look like.

Plain data in, plain data out.  Answers come from strangers: a field of another type counts as missing, texts
and lists are cut.
"""

from __future__ import annotations

from typing import Final, NamedTuple, cast
from urllib.parse import urlencode

from holdfast import Fatal

from .records import MAX_DESCRIPTION_CHARACTERS, MAX_LIST, MAX_TEXT_CHARACTERS, BookMetadata, Source
from .settings import Settings

_COVER_SIZES: Final = ("extraLarge", "large", "medium", "small", "thumbnail", "smallThumbnail")


class Question(NamedTuple):
    """What is asked of a source."""

    url: str
    headers: dict[str, str]


def question(source: Source, isbn: str, settings: Settings) -> Question:
    """The request that a source wants; raises `Fatal` when it needs a key that nobody gave."""
    if source == "google_books":
        asked = {"q": f"isbn:{isbn}"}
        if settings.google_books_key is not None:
            asked["key"] = settings.google_books_key
        return Question(f"{settings.google_books_url}/volumes?{urlencode(asked)}", {})
    if source == "isbndb":
        if settings.isbndb_key is None:
            raise Fatal("ISBNdb is asked with a key: set isbndb_key")
        return Question(f"{settings.isbndb_url}/book/{isbn}", {"Authorization": settings.isbndb_key})
    asked = {"bibkeys": f"ISBN:{isbn}", "format": "json", "jscmd": "data"}
    return Question(f"{settings.openlibrary_url}/api/books?{urlencode(asked)}", {})


def read_answer(source: Source, isbn: str, answer: object) -> BookMetadata:
    """The book in an answer; raises `Fatal` when there is none in it."""
    readers = {"google_books": _google_books, "isbndb": _isbndb, "openlibrary": _openlibrary}
    book = readers[source](isbn, _object(answer))
    if book is None:
        raise Fatal(f"{source} has no book with ISBN {isbn}")
    if not book.title:
        raise Fatal(f"{source} has no title for ISBN {isbn}")
    return book


def _google_books(isbn: str, answer: dict[str, object]) -> BookMetadata | None:
    items = _list(answer.get("items"))
    if not items:
        return None
    book = _object(_object(items[0]).get("volumeInfo"))
    links = _object(book.get("imageLinks"))
    return BookMetadata(
        isbn=isbn,
        source="google_books",
        title=_title(book),
        authors=_texts(book.get("authors")),
        publisher=_text(book.get("publisher")),
        published=_text(book.get("publishedDate")),
        description=_text(book.get("description"), MAX_DESCRIPTION_CHARACTERS),
        pages=_number(book.get("pageCount")),
        language=_text(book.get("language")),
        subjects=_texts(book.get("categories")),
        cover_url=_first(links, _COVER_SIZES),
    )


def _isbndb(isbn: str, answer: dict[str, object]) -> BookMetadata | None:
    book = _object(answer.get("book"))
    if not book:
        return None
    return BookMetadata(
        isbn=isbn,
        source="isbndb",
        title=_text(book.get("title_long")) or _text(book.get("title")) or "",
        authors=_texts(book.get("authors")),
        publisher=_text(book.get("publisher")),
        published=_text(book.get("date_published")),
        description=_text(book.get("synopsis") or book.get("overview"), MAX_DESCRIPTION_CHARACTERS),
        pages=_number(book.get("pages")),
        language=_text(book.get("language")),
        subjects=_texts(book.get("subjects")),
        cover_url=_text(book.get("image")),
    )


def _openlibrary(isbn: str, answer: dict[str, object]) -> BookMetadata | None:
    book = _object(answer.get(f"ISBN:{isbn}"))
    if not book:
        return None
    publishers = _names(book.get("publishers"))
    return BookMetadata(
        isbn=isbn,
        source="openlibrary",
        title=_title(book),
        authors=_names(book.get("authors")),
        publisher=publishers[0] if publishers else None,
        published=_text(book.get("publish_date")),
        description=_text(book.get("notes"), MAX_DESCRIPTION_CHARACTERS),
        pages=_number(book.get("number_of_pages")),
        subjects=_names(book.get("subjects")),
        cover_url=_first(_object(book.get("cover")), _COVER_SIZES),
    )


# -- what strangers send -------------------------------------------------------------------------------------


def _object(given: object) -> dict[str, object]:
    return cast("dict[str, object]", given) if isinstance(given, dict) else {}


def _list(given: object) -> list[object]:
    return cast("list[object]", given)[:MAX_LIST] if isinstance(given, list) else []


def _text(given: object, most_characters: int = MAX_TEXT_CHARACTERS) -> str | None:
    if isinstance(given, dict):  # Open Library has some texts as {"type": ..., "value": ...}
        given = _object(cast("object", given)).get("value")
    if not isinstance(given, str):
        return None
    # A lone half of a surrogate pair is JSON, and no text.
    return given.encode("utf-8", "replace").decode().strip()[:most_characters] or None


def _texts(given: object) -> list[str]:
    return [text for one in _list(given) if (text := _text(one)) is not None]


def _names(given: object) -> list[str]:
    return _texts([_object(one).get("name") for one in _list(given)])


def _number(given: object) -> int | None:
    return given if type(given) is int and 0 < given < 1_000_000 else None


def _title(book: dict[str, object]) -> str:
    parts = (_text(book.get("title")), _text(book.get("subtitle")))
    return ": ".join(part for part in parts if part is not None)


def _first(given: dict[str, object], names: tuple[str, ...]) -> str | None:
    return next((text for name in names if (text := _text(given.get(name), 2_000)) is not None), None)
