"""A pipeline: steps one after the other, each tried again by itself, none done again after a crash.

Run it:   python pipeline.py [FOLDER]
Test it:  pytest pipeline.py
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from holdfast import Counter, Fatal, Retry, Runtime, Workflow
from holdfast.testing import simulate

# -- what goes in and comes out ------------------------------------------------------------------------------


class Document(msgspec.Struct):
    """What the first step fetches."""

    id: str
    text: str


class Summary(msgspec.Struct):
    """What the pipeline comes to."""

    id: str
    words: int


# -- the steps: plain functions; put your own work here ------------------------------------------------------


async def fetch(document_id: str) -> Document:
    """Get the document; whatever this raises is tried again, but for `Fatal`."""
    if not document_id:
        raise Fatal("a document has an id")
    return Document(document_id, f"the text of document {document_id}")


def count_words(document: Document) -> int:
    """Work on it."""
    return len(document.text.split())


async def publish(summary: Summary) -> None:
    """Hand the result on.  After a crash this may run once more, so it must not matter if it does."""


# -- the workflow --------------------------------------------------------------------------------------------


class Pipeline(Workflow):
    """Fetch, count, publish."""

    retry = Retry(3, "1s", "exponential")
    step_timeout = "30s"

    async def run(self, document_id: str) -> Summary:
        """The steps in order; a finished one is on disk."""
        document = await self.step(fetch, document_id)
        summary = Summary(document.id, await self.step(count_words, document))
        await self.step(publish, summary, retry=Retry(10, "5s"))
        # A call of an actor takes effect exactly once.
        await self.runtime.get(Counter, "words").increment(summary.words)
        return summary


async def main(folder: str) -> None:
    """Three documents.  Run again on the same folder it does nothing new: the ids are those of before."""
    async with Runtime(folder) as rt:
        runs = [await rt.start(Pipeline, name, id=name, on_conflict="join") for name in ("a", "b", "c")]
        for run in runs:
            summary = await run.result()
            print(f"{summary.id}: {summary.words} words")
        print(f"{await rt.get(Counter, 'words').get()} words in all")


# -- tests: virtual time, so no retry is waited for ----------------------------------------------------------


def test_a_document_goes_through() -> None:
    """The result of the last step's work."""
    with simulate() as sim:
        assert sim.result(sim.start(Pipeline, "a", id="a")) == Summary("a", 5)


def test_a_step_is_tried_again() -> None:
    """Two failures are not the end."""
    with simulate() as sim:
        sim.fail_step("fetch", 2)
        assert sim.result(sim.start(Pipeline, "a", id="a")).words == 5
        assert sim.attempts("fetch") == 3


def test_a_crash_repeats_no_finished_step() -> None:
    """Killed behind the second step, it goes on with the third, and counts once."""
    with simulate() as sim:
        sim.crash_at(step="publish")
        sim.result(sim.start(Pipeline, "a", id="a"))
        assert [sim.attempts(step) for step in ("fetch", "count_words", "publish")] == [1, 1, 2]
        assert sim.call(Counter, "words").get() == 5


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "pipeline-data"))
