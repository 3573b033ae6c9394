"""Verbs, labels, listings and tenants with what they can't take: refused in words, and nothing is written."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest

from holdfast import Actor, Retry, RunFailed, Runtime, Workflow, shared
from holdfast.actors.errors import RunNotFound
from holdfast.storage import layout
from holdfast.storage.check import check
from holdfast.storage.errors import CallerError, InvalidValue, StorageFailed
from tests.runtime.support import FailingLog

WIDE = "\U0001f600" * 100
NO_TEXTS = [5, b"x", "\ud800", "x" * 200_000, object(), ["a"], float("nan")]
VERBS = ["pause", "resume", "cancel", "terminate", "restart", "retry_now", "redrive", "purge"]


async def nothing() -> None: ...


class Wait(Workflow):
    async def run(self, emits: int = 0) -> None:
        for number in range(emits):
            self.emit("number", number)
        await self.step(nothing)
        await self.wait("go")


class Quick(Workflow):
    async def run(self, emits: int = 0) -> int:
        for number in range(emits):
            self.emit("number", number)
        return emits


class Meddler(Actor):
    @shared
    async def cancel(self, id: str) -> None:
        await cast("Runtime", self.runtime).run(Wait, id).cancel()


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("option", ["by", "reason"])
@pytest.mark.parametrize("given", NO_TEXTS, ids=[type(one).__name__ for one in NO_TEXTS])
async def test_who_and_why_are_texts(tmp_path: Path, verb: str, option: str, given: object) -> None:
    """Else the audit, or the run itself, could never be read again."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Wait, id="w")
        with pytest.raises(InvalidValue):
            await getattr(run, verb)(**{option: given})
        with pytest.raises(InvalidValue):
            await rt.control(cast("Any", verb), rt.run_filter(Wait), **{option: cast("Any", given)})
        assert rt.audit() == []
        await run.pause(by="ann", reason="two\nlines")
        assert [deed.reason for deed in rt.audit()] == ["two\nlines"]


async def test_labels_that_are_too_long_for_an_index(tmp_path: Path) -> None:
    """They are refused at once: as keys they would fail the commit, and with it what others wrote."""
    async with Runtime(tmp_path / "f") as rt:
        with pytest.raises(InvalidValue, match="in the index of runs"):
            await rt.start(Wait, tags={WIDE: WIDE})
        with pytest.raises(InvalidValue, match="in the index of runs"):
            await rt.start(Wait, ref=(WIDE, WIDE))
        with pytest.raises(InvalidValue, match="mapping"):
            await rt.start(Wait, tags=cast("Any", 5))
        run = await rt.start(Wait, tags={WIDE: "a" * 60}, ref=("a" * 60, WIDE), tenant=WIDE)
        assert [one.id for one in rt.runs(tag=(WIDE, "a" * 60))] == [run.id]
    assert check(tmp_path / "f") == []


async def test_listings_say_what_they_can_not_take(tmp_path: Path) -> None:
    """A misspelt status finds nothing silently no more."""
    async with Runtime(tmp_path) as rt:
        nonsense: list[dict[str, Any]] = [
            {"status": "done"},
            {"status": 5},
            {"status": ("complete", 5)},
            {"ref": "a"},
            {"ref": ("a", 5)},
            {"tag": ("a",)},
            {"tenant": 5},
            {"state": b"x"},
            {"limit": -1},
            {"limit": None},
            {"limit": 10**30},
        ]
        for options in nonsense:
            with pytest.raises(CallerError):
                rt.runs(**options)
        for since in (5, datetime(2020, 1, 1)):
            with pytest.raises(CallerError, match="datetime with a zone"):
                rt.audit(since=cast("Any", since))
        with pytest.raises(CallerError, match="handle"):
            rt.audit(run=cast("Any", 5))
        with pytest.raises(CallerError, match="run_filter"):
            await rt.control("pause", cast("Any", Wait))
        with pytest.raises(CallerError, match="rate"):
            await rt.control("pause", rt.run_filter(Wait), rate=cast("Any", "fast"))
        run = await rt.start(Wait, 1, id="w")
        for number in (-1, 1.5, "x", None):
            with pytest.raises(CallerError, match="0 or more"):
                run.progress(cast("Any", number))
            with pytest.raises(CallerError):
                await rt.debug(Wait, "w", at=cast("Any", number or "none"))
        assert run.progress(2**40) == []


@pytest.mark.parametrize("at", [5, None, (), ("nothing",), ("nothing", "1"), ("nothing", 1, 2)])
async def test_a_fork_is_told_what_a_step_is(tmp_path: Path, at: object) -> None:
    """And which steps there are; nothing is started."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Wait, id="w")
        for _ in range(2_000):
            if len(await run.history()) >= 2:
                break
            await asyncio.sleep(0.001)
        with pytest.raises(CallerError, match="a step is its name, or a tuple"):
            await run.fork(cast("Any", at), id="f")
        with pytest.raises(CallerError, match="a step is its name, or a tuple"):
            await run.fork("nothing", id="f", overrides={cast("Any", at): 1})
        assert len(rt.runs()) == 1


async def test_a_shared_method_changes_no_run(tmp_path: Path) -> None:
    """It may not write, and a verb is a write."""
    async with Runtime(tmp_path) as rt:
        await rt.start(Wait, id="w")
        with pytest.raises(CallerError, match="@shared"):
            await rt.get(Meddler, "m").cancel("w")
        assert rt.audit() == []


async def test_a_tenant_sends_nothing_in_the_name_of_another(tmp_path: Path) -> None:
    """The handle's tenant counts, and an empty name is no way around it."""
    async with Runtime(tmp_path) as rt:
        await rt.tenant("bob").start(Wait, id="w")
        handle = rt.tenant("ann").run(Wait, "w")
        with pytest.raises(RunNotFound, match="'ann'"):
            await handle.send("go", tenant="bob")
        with pytest.raises(InvalidValue):
            await rt.submit_event(Wait, "w", "go", tenant="")
        assert await rt.run(Wait, "w").status() != "complete"


async def test_a_batch_leaves_out_the_id_of_a_tenant(tmp_path: Path) -> None:
    """It is in use, as any other: the rest of the batch is started."""
    async with Runtime(tmp_path) as rt:
        await rt.tenant("bob").start(Wait, 0, id="b")
        runs = await rt.start_many(Wait, [("a", 0), ("b", 0), ("c", 0)])
        assert [run.id for run in runs] == ["a", "c"]


async def test_a_follower_of_a_purged_run_comes_to_an_end(tmp_path: Path) -> None:
    """Also when the run was erased between two events that it took."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Quick, 3, id="q")
        await run.result()

        async def follow() -> list[int]:
            numbers: list[int] = []
            async for event in run.events():
                numbers.append(event.number)
                if event.number == 3:
                    await run.purge()
                    for _ in range(2_000):
                        if not rt.runs():
                            break
                        await asyncio.sleep(0.001)
            return numbers

        assert await asyncio.wait_for(follow(), 5) == [1, 2, 3]


async def test_who_gives_up_waiting_for_a_result_leaves_nothing(tmp_path: Path) -> None:
    """A run that is asked for its result now and then, for months, costs no memory by that."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Wait, id="w")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(run.result(), 0.001)
        assert rt.engine.results._waiters == {}
        kept = asyncio.create_task(run.result())
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(run.result(), 0.001)
        await run.send("go")
        await asyncio.wait_for(kept, 5)


class Fails(Workflow):
    retry = Retry(0)

    async def run(self) -> None:
        await self.step(nothing)
        raise ValueError("no")


@pytest.mark.parametrize("verb", ["redrive", "restart"])
async def test_a_run_that_goes_on_is_not_purged(tmp_path: Path, verb: str) -> None:
    """The purge was asked for a moment before: left there, it would erase the run when it ends."""
    async with Runtime(tmp_path / "f") as rt:
        run = await rt.start(Fails, id="f")
        with pytest.raises(RunFailed):
            await run.result()
        await asyncio.gather(run.purge(), getattr(run, verb)())
        rows = rt.store.scan_prefix(layout.DUE)
        assert [row for row in rows if b"purge" in row[0]] == []
        with pytest.raises(RunFailed):
            await run.result()
    assert check(tmp_path / "f") == []


async def test_a_follower_of_a_run_whose_start_was_lost(tmp_path: Path) -> None:
    """The run isn't there after all, so there is nothing to follow."""
    log = FailingLog()
    async with Runtime(tmp_path, wrap_log=log.wrap) as rt:
        # To its end: a commit of its own must not be the one that fails.
        await (await rt.start(Quick, 1, id="first")).result()

        async def follow() -> list[int]:
            return [event.number async for event in rt.run(Wait, "w").events()]

        log.fail_next = 1
        start, followed = asyncio.create_task(rt.start(Wait, 0, id="w")), asyncio.create_task(follow())
        with pytest.raises(StorageFailed):
            await start
        assert await asyncio.wait_for(followed, 5) == []
