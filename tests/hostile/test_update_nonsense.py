"""Updates that end with what they were sent to, that share an id, or that raise what nobody expects."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import RunEnded, Runtime, Workflow, query, update
from holdfast.actors.errors import InvalidEvent, UpdateRefused
from holdfast.runtime.errors import InvalidArgument
from holdfast.storage.errors import CallerError


class Talk(Workflow):
    def __init__(self) -> None:
        self.is_over = False
        self.added = 0

    @update
    def finish(self) -> str:
        self.is_over = True
        return "finished"

    @update
    def add(self, number: int) -> int:
        self.added += number
        return self.added

    @update
    async def slow(self) -> int:
        self.added += 1
        await self.sleep("100ms")
        return self.added

    def validate_slow(self) -> None: ...

    @update
    async def for_long(self) -> None:
        await self.sleep("1h")

    @update
    def cancels(self) -> None:
        raise asyncio.CancelledError

    @update
    async def cancels_later(self) -> None:
        raise asyncio.CancelledError

    @update
    def leaves(self) -> None:
        raise SystemExit(3)

    @query
    def sets_data(self) -> None:
        self.data["x"] = 1

    @query
    def sets_a_tag(self) -> None:
        self.tags["x"] = "1"

    @query
    def draws(self) -> str:
        return str(self.uuid())

    async def run(self, again: bool = False) -> None:
        await self.until(lambda: self.is_over)
        if again:
            self.continue_as_new(again)


async def _waiting(rt: Runtime) -> Any:
    await asyncio.sleep(0.02)
    return rt.engine.messages._waiting


async def test_the_update_that_makes_a_run_continue_as_new_has_a_reply(tmp_path: Path) -> None:
    """It was run, so its caller gets what it returned; others in progress are told that it began anew."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Talk, True, id="t")
        slow = asyncio.create_task(run.update(Talk.for_long))
        assert len(await _waiting(rt)) == 1
        assert await asyncio.wait_for(run.update(Talk.finish), 5) == "finished"
        with pytest.raises(RunEnded, match="continued as new"):
            await asyncio.wait_for(slow, 5)
        assert not await _waiting(rt)


@pytest.mark.parametrize("how", ["restart", "replace", "terminate", "cancel"])
async def test_an_update_in_progress_ends_with_the_run(tmp_path: Path, how: str) -> None:
    """Also when the run sleeps for so long that it isn't in memory."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Talk, id="t")
        slow = asyncio.create_task(run.update(Talk.for_long))
        await _waiting(rt)
        if how == "replace":
            await rt.start(Talk, id="t", on_conflict="replace")
        else:
            await getattr(run, how)()
        with pytest.raises(RunEnded):
            await asyncio.wait_for(slow, 5)
        assert not await _waiting(rt)


async def test_two_callers_with_one_id_share_an_update(tmp_path: Path) -> None:
    """Both are validated before either is recorded; it is made once, and both get its reply."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Talk, id="t")
        both = asyncio.gather(*[run.update_once(Talk.slow, "one") for _ in range(3)])
        assert await asyncio.wait_for(both, 5) == [1, 1, 1]


async def test_an_id_that_was_used_before_a_run_continued_as_new(tmp_path: Path) -> None:
    """The reply is not kept: the caller is told so and doesn't wait for ever."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Talk, True, id="t")
        assert await run.update_once(Talk.finish, "one") == "finished"
        await asyncio.sleep(0.02)
        with pytest.raises(UpdateRefused, match="took update 'one' before"):
            await asyncio.wait_for(run.update_once(Talk.finish, "one"), 5)


@pytest.mark.parametrize("name", ["cancels", "cancels_later", "leaves"])
async def test_an_update_that_raises_no_exception(tmp_path: Path, name: str) -> None:
    """Its caller is told, and is neither cancelled nor left waiting."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Talk, id="t")
        with pytest.raises(UpdateRefused, match=f"Talk.{name}"):
            await asyncio.wait_for(run.update(name), 5)


async def test_arguments_and_ids_that_can_not_be_stored(tmp_path: Path) -> None:
    """They are refused before anything is written: a key that is too long would fail a whole commit."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Talk, id="t")
        with pytest.raises(InvalidArgument, match="can't be stored"):
            await run.update(Talk.add, 2**70)
        with pytest.raises(InvalidEvent, match="400 bytes"):
            await run.update_once(Talk.add, "\u6f22" * 200, 1)
        with pytest.raises(InvalidEvent, match="400 bytes"):
            await run.send("event", id="\U0001f600" * 101)
        await run.send("event", id="\U0001f600" * 100)
        assert await run.update(Talk.add, 1) == 1


async def test_a_validator_takes_no_place(tmp_path: Path) -> None:
    """`max_running` holds also when a queued run is asked whether it takes an update."""

    class OneAtATime(Talk):
        max_running = 1
        name = "OneAtATime"

    async with Runtime(tmp_path) as rt:
        first, second = await rt.start(OneAtATime, id="a"), await rt.start(OneAtATime, id="b")
        for _ in range(2_000):  # it had its place while the first rested
            if await second.status() == "waiting":
                break
            await asyncio.sleep(0.001)
        rt.engine.places.take(rt.workflow_type(OneAtATime))  # somebody works
        later = asyncio.create_task(first.update(Talk.slow))
        await asyncio.sleep(0.02)
        assert rt.engine.places.running == 1
        assert await first.status() == "queued"
        rt.engine.places.free(rt.workflow_type(OneAtATime))
        assert await asyncio.wait_for(later, 5) == 1


@pytest.mark.parametrize("name", ["sets_data", "sets_a_tag", "draws"])
@pytest.mark.parametrize("ended", [False, True])
async def test_a_query_changes_nothing(tmp_path: Path, name: str, ended: bool) -> None:
    """What it would set, or draw, is not there on replay, so it is refused."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Talk, id="t")
        if ended:
            await run.update(Talk.finish)
            await run.result()
        with pytest.raises(CallerError, match="Talk/t: "):
            await run.query(name)
        assert await run.data() == {} and (await run.info()).tags == {}


class Careless(Workflow):
    async def body(self) -> str:
        self.data["x"] = 1
        return "done"

    async def run(self) -> str:
        return await self.step(self.body)


async def test_a_step_changes_nothing_of_the_run(tmp_path: Path) -> None:
    """A method as a step's body sees the run; what it sets would be lost on replay."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Careless, id="c", deadline="5s")
        for _ in range(2_000):
            if "AttemptFailed" in str(await run.history()):
                break
            await asyncio.sleep(0.001)
        assert "set by run() and by updates" in str(await run.history())
        await run.terminate()
