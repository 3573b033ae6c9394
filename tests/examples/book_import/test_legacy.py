"""The old way beside the new one: the same results, the rollout, the figures, and what a crash leaves."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from holdfast import JobManager, RetryAfter, Runtime
from holdfast.examples.book_import.imports import IMPORTS_KEY, BookImports
from holdfast.examples.book_import.isbn import check_digit
from holdfast.examples.book_import.legacy import JOBS_KEY, LegacyImport, LegacyJobs, import_book
from holdfast.examples.book_import.library import MainStore, NewBook
from holdfast.examples.book_import.records import BookImportInput, BookImportOutput, BookMetadata, Source
from holdfast.examples.book_import.web import WebFailed
from holdfast.examples.book_import.workflow import BookImport
from holdfast.testing import Simulation, assert_equivalent, simulate
from tests.examples.book_import.support import (
    ALL,
    ORDER,
    FakeWeb,
    LetterEmbedder,
    frames,
    refuse,
)


class LegacyImportsOnly(JobManager):
    """All imports in the old way."""

    new = BookImport
    old = LegacyImport()
    look_seconds = 1.0


class MoodyWeb(FakeWeb):
    """What goes wrong follows from the ISBN: no such book, no cover, so many failures first."""

    def __init__(self) -> None:
        super().__init__()
        self.failed = 0

    async def fetch_metadata(self, source: Source, isbn: str) -> BookMetadata:
        mood = int(isbn[9:12])
        self.cover_url = None if mood % 3 == 0 else "http://covers.example/x.jpg"
        self.cover_raises = [WebFailed("down")] * (mood % 8) if self.failed == 0 else self.cover_raises
        if mood % 11 == 0:
            raise refuse("no such book")
        if self.failed < mood % 6:
            self.failed += 1
            raise RetryAfter("busy", 7) if mood % 2 else WebFailed("down")
        return await super().fetch_metadata(source, isbn)


class Shelf(MainStore):
    """Keeps what is saved, and is down at first for some books."""

    def __init__(self) -> None:
        self.saved: dict[str, NewBook] = {}
        self.failed = 0

    async def upsert(self, runtime: Runtime, book: NewBook) -> None:
        if self.failed < int(book.metadata.isbn[10:12]) % 5:
            self.failed += 1
            raise ConnectionError("down")
        self.saved[book.metadata.isbn] = book


def orders() -> st.SearchStrategy[BookImportInput]:
    """Imports of books that are and of some that aren't."""

    def order(number: int, source: Source, user: str | None, wrong: bool) -> BookImportInput:
        body = f"978{number:09d}"
        digit = check_digit(body)
        isbn = body + (str((int(digit) + 1) % 10) if wrong else digit)
        return BookImportInput(isbn=isbn, source=source, user_id=user)

    sources: st.SearchStrategy[Source] = st.sampled_from(["google_books", "isbndb", "openlibrary"])
    return st.builds(order, st.integers(0, 999_999_999), sources, st.none() | st.just("ann"), st.booleans())


async def old_way(runtime: Runtime, order: BookImportInput) -> BookImportOutput:
    """The state machine, on a job of its own."""
    await runtime.get(LegacyJobs, JOBS_KEY).begin("job")
    return await import_book(runtime, order, "job")


def test_both_ways_do_the_same() -> None:
    """The same result, or both fail; and the same is saved, whatever the sources and the store do."""
    assert_equivalent(
        old_way,
        BookImport,
        inputs=orders(),
        deps=lambda: [MoodyWeb(), LetterEmbedder(), Shelf()],
        observe=lambda web, embedder, shelf: shelf.saved,
        examples=60,
    )


def start(sim: Simulation, manager: type[JobManager]) -> Any:
    return sim.call(manager, IMPORTS_KEY).start(ORDER, key=ORDER.isbn, id="job-1")


def test_the_old_way_by_the_manager() -> None:
    """It tells the same statuses, and its figure is kept for seven days."""
    with simulate(deps=[FakeWeb(), LetterEmbedder(), Shelf()]) as sim:
        sim.call(LegacyImportsOnly, IMPORTS_KEY).set_rollout(0)
        assert start(sim, LegacyImportsOnly).way == "old"
        sim.advance("10s")
        status: Any = sim.call(LegacyImportsOnly, IMPORTS_KEY).status("job-1")
        assert status.status == "complete"
        assert [frame.status for frame in sim.run(lambda: frames(sim.runtime, "job-1"))] == ALL
        compared: Any = sim.call(LegacyImportsOnly, IMPORTS_KEY).compare()
        assert (compared["old"].jobs, compared["old"].success_rate) == (1, 1.0)
        sim.advance("7d")
        compared = sim.call(LegacyImportsOnly, IMPORTS_KEY).compare()
        assert compared["old"].jobs == 0


@pytest.mark.parametrize(("percent", "ended"), [(0, False), (100, True)], ids=["old", "new"])
def test_what_a_crash_leaves(percent: float, ended: bool) -> None:
    """Killed while it waits for the source, the new way goes on; the old one stays where it was, for good."""
    web = FakeWeb()
    web.metadata_raises = [WebFailed("down")]
    with simulate(deps=[web, LetterEmbedder(), Shelf()]) as sim:
        manager: Any = sim.call(LegacyImportsOnly, IMPORTS_KEY)
        manager.set_rollout(percent)
        start(sim, LegacyImportsOnly)
        sim.advance("0.5s")
        sim.crash()
        sim.advance("2m")  # it is looked at each second
        status: Any = sim.call(LegacyImportsOnly, IMPORTS_KEY).status("job-1")
        assert (status.status == "complete") is ended
        told = [frame.status for frame in sim.run(lambda: frames(sim.runtime, "job-1"))]
        assert told == (ALL if ended else ["started"])


def test_a_cancelled_job_of_the_old_way() -> None:
    """Its task ends."""
    web = FakeWeb()
    web.metadata_raises = [RetryAfter("busy", 3_000)]
    with simulate(deps=[web, Shelf()]) as sim:
        sim.call(LegacyImportsOnly, IMPORTS_KEY).set_rollout(0)
        start(sim, LegacyImportsOnly)
        sim.advance("1s")
        job: Any = sim.call(LegacyImportsOnly, IMPORTS_KEY).cancel("job-1", by="ann")
        assert job.status == "cancelled"
        sim.advance("1h")
        assert [frame.status for frame in sim.run(lambda: frames(sim.runtime, "job-1"))] == ["started"]


def test_the_default_is_the_workflow() -> None:
    """Nobody set a percentage: all go the new way."""
    with simulate(deps=[FakeWeb(), Shelf()]) as sim:
        assert start(sim, BookImports).way == "new"
