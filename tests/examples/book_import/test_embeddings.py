"""Vectors: a real model that runs here, and which books are near."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from holdfast import Runtime
from holdfast.examples.book_import.embedder import Embedder, WordLlamaEmbedder, pack_vector
from holdfast.examples.book_import.isbn import check_digit
from holdfast.examples.book_import.library import LIBRARY_KEY, Library, NewBook
from holdfast.examples.book_import.nearest import NearestBooks
from holdfast.examples.book_import.records import BookMetadata
from holdfast.storage.errors import CallerError
from tests.examples.book_import.support import LetterEmbedder

BOOKS = {
    "Dune": "A desert planet, sandworms, spice, and the fall of an empire in space.",
    "Hyperion": "Pilgrims travel to a distant planet while an interstellar war begins.",
    "Salt, Fat, Acid, Heat": "Mastering the elements of good cooking: recipes for the kitchen.",
    "The Joy of Cooking": "Thousands of recipes for soups, cakes and roasts.",
    "A Brief History of Time": "Black holes, the big bang and the physics of the universe.",
}


@pytest.fixture(scope="module")
def model() -> WordLlamaEmbedder:
    """The model, loaded once, while nothing may be asked of the network."""
    with pytest.MonkeyPatch.context() as patch:

        def refused(*args: object) -> None:
            raise AssertionError("the model asked the network")

        patch.setattr(socket.socket, "connect", refused)
        return WordLlamaEmbedder()


def isbn_of(number: int) -> str:
    body = f"978{number:09d}"
    return body + check_digit(body)


def book(number: int, title: str, about: str) -> BookMetadata:
    return BookMetadata(isbn=isbn_of(number), title=title, source="isbndb", description=about)


async def save(runtime: Runtime, metadata: BookMetadata, embedder: Embedder | None) -> None:
    """Into the library, with a vector."""
    vector = None if embedder is None else pack_vector(await embedder.embed(metadata.text()))
    model = None if embedder is None else embedder.name
    new = NewBook(metadata=metadata, cover_key=None, user_id=None, model=model, vector=vector)
    await runtime.get(Library, LIBRARY_KEY).upsert(new)


async def fill(runtime: Runtime, embedder: Embedder) -> None:
    for number, (title, about) in enumerate(BOOKS.items()):
        await save(runtime, book(number, title, about), embedder)


async def test_the_model(model: WordLlamaEmbedder) -> None:
    """Its vectors have length one and its number of dimensions; near texts are nearer than others."""
    cook, bake, space = [await model.embed(text) for text in ("cook a soup", "bake a cake", "a spaceship")]
    assert len(cook) == model.dimensions == 256
    assert sum(number * number for number in cook) == pytest.approx(1, abs=1e-4)

    def likeness(one: Any, other: Any) -> float:
        return float(sum(a * b for a, b in zip(one, other, strict=True)))

    assert likeness(cook, bake) > likeness(cook, space)


def test_the_logging_of_the_process_is_left_alone(model: WordLlamaEmbedder) -> None:
    """Importing the model's library adds no handler for everybody's lines."""
    assert all(type(handler) is not logging.StreamHandler for handler in logging.getLogger().handlers)


async def test_near_books(folder: Path, model: WordLlamaEmbedder) -> None:
    """Cooking is near to cooking; a question in words finds its book; the book itself is left out."""
    async with Runtime(folder) as runtime:
        await fill(runtime, model)
        nearest = NearestBooks(runtime, model)
        near = await nearest.near_book(isbn_of(2))
        assert near is not None
        assert near[0].title == "The Joy of Cooking"
        assert [one.isbn for one in near].count(isbn_of(2)) == 0
        assert [one.likeness for one in near] == sorted((one.likeness for one in near), reverse=True)
        assert (await nearest.near_text("physics of black holes", 1))[0].title == "A Brief History of Time"


async def test_over_a_restart(folder: Path) -> None:
    """The index is made anew of what the library keeps."""
    letters = LetterEmbedder()
    async with Runtime(folder) as runtime:
        await fill(runtime, letters)
        before = await NearestBooks(runtime, letters).near_book(isbn_of(0))
    async with Runtime(folder) as runtime:
        assert await NearestBooks(runtime, letters).near_book(isbn_of(0)) == before
        assert before is not None
        assert len(before) == 4


async def test_new_vectors_take_the_place_of_old_ones(folder: Path) -> None:
    """A book that is imported again is found by what is said of it now, and once."""
    letters = LetterEmbedder()
    async with Runtime(folder) as runtime:
        await fill(runtime, letters)
        nearest = NearestBooks(runtime, letters)
        await nearest.near_text("warm up")
        await save(runtime, book(0, "zzzz", "zzzzzzzzzz"), letters)
        near = await nearest.near_text("zzzzzzzz", 100)
        assert near[0].title == "zzzz"
        assert [one.isbn for one in near].count(isbn_of(0)) == 1


async def test_vectors_of_other_models(folder: Path) -> None:
    """They are never compared, and a book without a vector is near to nothing."""
    letters, other = LetterEmbedder(), LetterEmbedder()
    other.name = "other"
    async with Runtime(folder) as runtime:
        await save(runtime, book(0, "a", "a"), other)
        await save(runtime, book(1, "b", "b"), None)
        nearest = NearestBooks(runtime, letters)
        assert await nearest.near_book(isbn_of(0)) is None
        assert await nearest.near_book(isbn_of(1)) is None
        assert await nearest.near_book(isbn_of(2)) is None
        assert await nearest.near_text("a") == []
        with pytest.raises(CallerError, match="limit"):
            await nearest.near_text("a", 0)


async def test_against_all_of_them(folder: Path) -> None:
    """Among a thousand books the index finds those that looking at each finds."""
    letters = LetterEmbedder()
    async with Runtime(folder) as runtime:
        texts = [
            f"{'abcdefghij'[n % 10] * (n % 7 + 1)} {'klmnopqrst'[n // 10 % 10] * (n % 5 + 1)} {n}"
            for n in range(1_000)
        ]
        await asyncio.gather(*[save(runtime, book(n, text, ""), letters) for n, text in enumerate(texts)])
        asked = await letters.embed("aaaa kkkk")

        def likeness(vector: Any) -> float:
            def length(one: Any) -> float:
                return float(sum(number * number for number in one) ** 0.5)

            dot = sum(a * b for a, b in zip(asked, vector, strict=True))
            return float(dot) / (length(asked) * length(vector))

        best = sorted([likeness(await letters.embed(text)) for text in texts], reverse=True)[:10]
        near = await NearestBooks(runtime, letters).near_text("aaaa kkkk", 10)
        assert [one.likeness for one in near] == pytest.approx(best, abs=2e-3)
