"""actors/dead_letters.py: dead letters of every kind in one shape (over HTTP: tests/service)."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import Queue, Retry, Runtime, Workflow
from holdfast.actors import dead_letters
from holdfast.actors.dead_letters import (
    LetterAddress,
    LetterFilter,
    cause_of,
    count_causes,
    drop_letter,
    list_letters,
    read_letter,
    redrive_letter,
    settle_letters,
)
from holdfast.actors.errors import LetterNotFound
from holdfast.runtime.clock import ManualClock
from holdfast.storage.check import check
from tests.actors.queue_support import Hand, rest, runtime


class LetterRun(Workflow):
    async def run(self, n: int) -> int:
        if n < 100:
            raise ValueError(f"{n} is too few")
        return n


async def _bury(rt: Runtime, name: str, count: int) -> None:
    hand = Hand()
    consumer = rt.consume(name, hand, batch_size=1_000, max_wait=0, retry=Retry(0))
    await rt.get(Queue, name).send_batch(list(range(count)), ids=[f"{name}{n}" for n in range(count)])
    await rest(rt)
    await hand.last.fail(rt)
    await consumer.stop()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("ValueError: 17 of 200 left", "ValueError: # of # left"),
        ("OSError: no\nsecond line", "OSError: no"),
        ("", ""),
        ("x" * 300, "x" * 197 + "..."),
    ],
)
def test_what_errors_have_in_common(error: str, cause: str) -> None:
    """The first line, without its numbers."""
    assert cause_of(error) == cause


async def test_pages_over_many_queues(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every letter once, whatever the size of pages, also over queues without any."""
    monkeypatch.setattr(dead_letters, "_PAGE", 3)
    async with runtime(folder) as rt:
        for name in ("a", "b", "d", "e"):
            await rt.get(Queue, name).send(1)
        await _bury(rt, "c", 7)
        await _bury(rt, "f", 2)
        wanted = LetterFilter("message")
        every, _ = await list_letters(rt, wanted)
        assert [letter.id for letter in every] == [*(f"c{n}" for n in range(7)), "f0", "f1"]
        for limit in (1, 2, 4, 9):
            found, after = await list_letters(rt, wanted, limit=limit)
            while after is not None:
                page, after = await list_letters(rt, wanted, after=after, limit=limit)
                assert page
                found += page
            assert found == every
        counts, more = await count_causes(rt, wanted)
        assert ([one.count for one in counts], more) == ([9], False)


async def test_a_page_looks_at_so_many_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends there and says where the next begins; a count says that there are more."""
    monkeypatch.setattr(dead_letters, "MAX_LETTERS_LOOKED_AT", 4)
    async with runtime(folder) as rt:
        await _bury(rt, "q", 10)
        none = LetterFilter("message", cause="another")
        found, after = await list_letters(rt, none)
        assert (found, after) == ([], ("Queue", "q", (0, 4)))
        counts, more = await count_causes(rt, LetterFilter("message"))
        assert ([one.count for one in counts], more) == ([4], True)
        result, more = await settle_letters(rt, "drop", LetterFilter("message"), limit=7)
        assert (result.matched, result.done, more) == (7, 7, True)


async def test_a_run_is_settled_once(folder: Path) -> None:
    """What goes on, or is gone, is no dead letter; and a drop takes no run that has not failed."""
    clock = ManualClock()
    async with runtime(folder, clock) as rt:
        run = await rt.start(LetterRun, 7, id=("r", 1))
        while await run.status() != "failed":
            await rest(rt)
        address = LetterAddress("run", "LetterRun", ["r", 1])
        whole = await read_letter(rt, address)
        assert (whole.content, whole.letter.cause, whole.letter.attempts) == (
            7,
            "ValueError: # is too few",
            None,
        )
        await redrive_letter(rt, address, content=100, by="ann", reason="more")
        assert await run.result() == 100
        for settled in (redrive_letter, drop_letter):
            with pytest.raises(LetterNotFound, match=r"no dead run of LetterRun/r/1; was it redriven"):
                await settled(rt, address)
        with pytest.raises(LetterNotFound):
            await read_letter(rt, LetterAddress("run", "LetterRun", "none"))
        assert await run.status() == "complete"
        with pytest.raises(LetterNotFound):
            await read_letter(rt, LetterAddress("message", "Queue", "none", place=(0, 1)))
        with pytest.raises(LetterNotFound):
            await read_letter(rt, LetterAddress("alarm", "LetterRun", ["r", 1], "none"))
        assert await list_letters(rt, LetterFilter("run")) == ([], None)
    assert check(folder) == []
