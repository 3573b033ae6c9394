"""`BookImport`: its steps, what is told, what goes wrong, and what crashes change: nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from holdfast import RetryAfter, RunFailed
from holdfast.actors.blobs.blob_names import BlobNames
from holdfast.actors.blobs.blobs import Blobs
from holdfast.actors.workflow.journal import AttemptFailed
from holdfast.examples.book_import.library import (
    LIBRARY_KEY,
    SHELF_KEY,
    Library,
    LibraryStore,
    MainStore,
    SpareShelf,
)
from holdfast.examples.book_import.progress import ImportProgress
from holdfast.examples.book_import.records import BookImportInput, BookImportOutput
from holdfast.examples.book_import.settings import Settings
from holdfast.examples.book_import.web import WebFailed
from holdfast.examples.book_import.workflow import BookImport
from holdfast.storage import layout
from holdfast.testing import Simulation, replay_property, simulate
from holdfast.testing.crash import When
from tests.examples.book_import.book_server import DUNE, PICTURE
from tests.examples.book_import.support import (
    ALL,
    ORDER,
    FailingStore,
    FakeWeb,
    LetterEmbedder,
    frames,
    refuse,
)


def told(sim: Simulation, job: str) -> list[str]:
    """The statuses of a job, as the hub has them; and the run has the same."""
    of_hub = sim.run(lambda: frames(sim.runtime, job))

    async def of_run() -> list[Any]:
        return sim.runtime.run(BookImport, job).progress()

    events = sim.run(of_run)
    assert [event.name for event in events] == [frame.status for frame in of_hub]
    assert [event.data for event in events] == [frame.data for frame in of_hub]
    assert {frame.job_id for frame in of_hub} == {job}
    return [frame.status for frame in of_hub]


def waits(sim: Simulation, run: Any) -> list[float]:
    """Seconds between the attempts that failed and the next ones."""
    failed = [record for record in sim.history(run) if isinstance(record, AttemptFailed)]
    return [(record.next_ms - record.at_ms) / 1000 for record in failed]


def library(sim: Simulation) -> Any:
    """The library's methods."""
    return sim.call(Library, LIBRARY_KEY)


def shelf(sim: Simulation) -> Any:
    """The spare shelf's."""
    return sim.call(SpareShelf, SHELF_KEY)


def get_cover(sim: Simulation) -> bytes:
    async def get() -> bytes:
        blobs: Blobs = sim.runtime.blobs
        return await blobs.get(f"covers/{DUNE}.jpg")

    return sim.run(get)


def test_the_whole_way() -> None:
    """Four steps; the result, the cover, the row and the vector are there, and each status was told once."""
    with simulate(deps=[FakeWeb(), LetterEmbedder(), LibraryStore()]) as sim:
        run = sim.start(BookImport, ORDER, id="job-1")
        result = sim.result(run)
        assert result == BookImportOutput(
            success=True,
            isbn=DUNE,
            metadata=result.metadata,
            cover_key=f"covers/{DUNE}.jpg",
            has_embedding=True,
        )
        assert told(sim, "job-1") == ALL
        assert get_cover(sim) == PICTURE
        saved = library(sim).find(DUNE)
        assert (saved.metadata.title, saved.cover_key, saved.imported_by) == (
            "Dune",
            f"covers/{DUNE}.jpg",
            "ann",
        )
        assert library(sim).vector_of(DUNE).model == "letters"
        assert shelf(sim).find(DUNE) is None


def test_imported_twice() -> None:
    """The row is replaced; when it was first saved stays, and there is one vector."""
    with simulate(deps=[FakeWeb(), LetterEmbedder(), LibraryStore()]) as sim:
        sim.result(sim.start(BookImport, ORDER, id="job-1"))
        first = library(sim).find(DUNE)
        sim.result(sim.start(BookImport, ORDER, id="job-2"))
        second = library(sim).find(DUNE)
        assert (second.created_at, second.vector_number) == (first.created_at, 2)
        assert [number for number, _ in library(sim).vectors(0, 10)] == [2]


def test_no_such_book() -> None:
    """The import fails at once, and is told so."""
    web = FakeWeb()
    web.metadata_raises = [refuse("no such book")]
    with simulate(deps=[web, LibraryStore()]) as sim:
        run = sim.start(BookImport, ORDER, id="job-1")
        with pytest.raises(RunFailed, match="no such book"):
            sim.result(run)
        assert sim.attempts("fetch-metadata") == 1
        assert told(sim, "job-1") == ["started", "failed"]
        last = sim.run(lambda: frames(sim.runtime, "job-1"))[-1]
        assert last.data == {"step": "fetch-metadata", "error": "no such book"}


def test_a_wrong_isbn_fails_at_once() -> None:
    """A run that was started past the endpoint checks for itself."""
    with simulate(deps=[FakeWeb()]) as sim:
        run = sim.start(BookImport, BookImportInput(isbn="123", source="openlibrary"), id="job-1")
        with pytest.raises(RunFailed, match="10 digits"):
            sim.result(run)


def test_retries_of_metadata() -> None:
    """Linear, three times, a second; then the import has failed."""
    web = FakeWeb()
    web.metadata_raises = [WebFailed("down")] * 3
    with simulate(deps=[web, LibraryStore()]) as sim:
        run = sim.start(BookImport, ORDER, id="job-1")
        assert sim.result(run).success
        assert waits(sim, run) == [1, 2, 3]
        web.metadata_raises = [WebFailed("down")] * 4
        with pytest.raises(RunFailed, match="down"):
            sim.result(sim.start(BookImport, ORDER, id="job-2"))
        assert told(sim, "job-2") == ["started", "failed"]


def test_retry_after_is_honoured() -> None:
    """The source is asked again when it said."""
    web = FakeWeb()
    web.metadata_raises = [RetryAfter("busy", 90)]
    with simulate(deps=[web, LibraryStore()]) as sim:
        run = sim.start(BookImport, ORDER, id="job-1")
        assert sim.result(run).success
        assert waits(sim, run) == [90]


def test_retries_of_the_cover() -> None:
    """Exponential, five times, half a second; then the book has none."""
    web = FakeWeb()
    web.cover_raises = [WebFailed("down")] * 6
    with simulate(deps=[web, LibraryStore()]) as sim:
        run = sim.start(BookImport, ORDER, id="job-1")
        assert sim.result(run).cover_key is None
        assert waits(sim, run) == [0.5, 1, 2, 4, 8]
        assert sim.attempts("upload-cover") == 6
        assert told(sim, "job-1") == ["started", "metadata_fetched", "completed"]


def test_without_a_cover() -> None:
    """There is no such step."""
    with simulate(deps=[FakeWeb(cover_url=None), LibraryStore()]) as sim:
        assert sim.result(sim.start(BookImport, ORDER, id="job-1")).cover_key is None
        assert sim.attempts("upload-cover") == 0


def test_a_cover_that_is_too_large() -> None:
    """It is not kept, and the import goes on."""
    deps = [FakeWeb(), LibraryStore(), Settings(max_cover_bytes=200)]
    with simulate(deps=deps) as sim:
        assert sim.result(sim.start(BookImport, ORDER, id="job-1")).cover_key is None

        async def listed() -> list[Any]:
            return list(await sim.runtime.blobs.list())

        assert sim.run(listed) == []


def test_without_an_embedder() -> None:
    """The capability is absent: the import goes on without a vector."""
    with simulate(deps=[FakeWeb(), LibraryStore()]) as sim:
        assert sim.result(sim.start(BookImport, ORDER, id="job-1")).has_embedding is False
        assert told(sim, "job-1") == ["started", "metadata_fetched", "cover_uploaded", "completed"]


def test_a_failing_embedder() -> None:
    """Linear, twice, two seconds; then the import goes on without."""
    with simulate(deps=[FakeWeb(), LetterEmbedder(*[OSError("down")] * 3), LibraryStore()]) as sim:
        run = sim.start(BookImport, ORDER, id="job-1")
        assert sim.result(run).has_embedding is False
        assert waits(sim, run) == [2, 4]


def test_a_main_store_that_comes_back() -> None:
    """Exponential, three times, a second."""
    with simulate(deps=[FakeWeb(), FailingStore(3)]) as sim:
        run = sim.start(BookImport, ORDER, id="job-1")
        assert sim.result(run).success
        assert waits(sim, run) == [1, 2, 4]
        assert library(sim).find(DUNE).metadata.title == "Dune"


@pytest.mark.parametrize("store", [None, FailingStore(4)], ids=["absent", "down"])
def test_the_fallback(store: MainStore | None) -> None:
    """Without a main store the book is kept for 30 days under its key, and the import is complete."""
    deps = [FakeWeb(), LetterEmbedder(), *([] if store is None else [store])]
    with simulate(deps=deps) as sim:
        assert sim.result(sim.start(BookImport, ORDER, id="job-1")).success
        last = sim.run(lambda: frames(sim.runtime, "job-1"))[-1]
        assert (last.status, last.data["fallbackKey"]) == ("completed", f"book:isbn:{DUNE}")  # type: ignore[index]
        sim.advance("29d")
        assert shelf(sim).find(DUNE).metadata.title == "Dune"
        sim.advance("1d")
        assert shelf(sim).find(DUNE) is None
        assert library(sim).find(DUNE) is None


def test_a_cancelled_import_is_told() -> None:
    """Who follows it hears of its end."""
    web = FakeWeb()
    web.metadata_raises = [RetryAfter("busy", 3_000)]
    with simulate(deps=[web]) as sim:
        sim.start(BookImport, ORDER, id="job-1")
        sim.advance(1)

        async def cancel() -> None:
            await sim.runtime.run(BookImport, "job-1").cancel(by="ann")

        sim.run(cancel)
        sim.advance(1)
        assert told(sim, "job-1") == ["started", "failed"]


STEPS = ("fetch-metadata", "upload-cover", "generate-embedding", "save-to-database")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_each_step(step: str, when: When) -> None:
    """Wherever the process dies around a step, each status is told once and no recorded step runs again."""
    with simulate(deps=[FakeWeb(), LetterEmbedder(), LibraryStore()]) as sim:
        sim.crash_at(step=step, when=when)
        check_whole(sim)
        assert sim.crashes_to_come == []


def test_killed_everywhere() -> None:
    """The same for each commit and each body that an import has, one after the other."""
    with simulate(deps=[FakeWeb(), LetterEmbedder(), LibraryStore()]) as calm:
        check_whole(calm)
        places = calm.places
    assert len(places) > 20
    for place in places:
        with simulate(deps=[FakeWeb(), LetterEmbedder(), LibraryStore()]) as sim:
            sim.crash_at(place)
            check_whole(sim)


def check_whole(sim: Simulation) -> None:
    """An import, started now, ends as one that nobody killed."""
    run = sim.start(BookImport, ORDER, id="job-1")
    assert sim.result(run).has_embedding
    sim.no_more_crashes()
    assert told(sim, "job-1") == ALL
    assert sim.reran == []
    assert get_cover(sim) == PICTURE
    assert [number for number, _ in library(sim).vectors(0, 10)] == [1]


def test_storms() -> None:
    """Crashes between any two callbacks, failing bodies and commits: the import ends alike."""
    replay_property(
        BookImport,
        inputs=st.just(ORDER),
        deps=lambda: [FakeWeb(), LetterEmbedder(), LibraryStore()],
        crashes=2,
        failures=1,
        failing_commits=1,
        leave_out=[BlobNames, ImportProgress, Library],  # their rows hold times
        examples=10,
    )


def test_state_of_a_typical_book() -> None:
    """All that an import leaves on disk, progress and book included, is far below 128 KB."""
    with simulate(deps=[FakeWeb(), LetterEmbedder(), LibraryStore()]) as sim:
        before = stored_bytes(sim)
        sim.result(sim.start(BookImport, ORDER, id="job-1"))
        taken = stored_bytes(sim) - before
        assert 1_000 < taken < 16 << 10


def stored_bytes(sim: Simulation) -> int:
    """Keys and values of the whole store."""

    async def add_up() -> int:
        store = sim.runtime.store
        await store.wait_durable(store.newest)
        rows = store.scan(layout.META, None)
        return sum(len(key) + len(value) for key, value in rows)

    return sim.run(add_up)
