"""Ids of parents that are used again: the new run has children of its own, and waits for no old one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast import Runtime, StepError, Workflow


class Part(Workflow):
    async def run(self, is_done: bool) -> str:
        if not is_done:
            await self.wait("go")
        return f"part {self.id}"


class Whole(Workflow):
    async def run(self, is_done: bool) -> str:
        return await self.child(Part, is_done)


class Named(Workflow):
    async def run(self) -> str:
        try:
            return await self.child(Part, True, id="one")
        except StepError as error:
            return error.cause.type


async def _end(rt: Runtime, id: str) -> str:
    return await asyncio.wait_for(rt.run(Whole, id).result(), 5)


async def test_a_run_that_was_purged_and_started_again(tmp_path: Path) -> None:
    """The child of the former run, which has ended, gives way; its outcome was never told to this one."""
    async with Runtime(tmp_path) as rt:
        for _ in range(3):
            run = await rt.start(Whole, True, id="w")
            assert await _end(rt, "w") == "part w/Part-1"
            await run.purge()
            for _ in range(500):
                if not rt.runs(Whole):
                    break
                await asyncio.sleep(0.01)
        assert [one.id for one in rt.runs(Part)] == ["w/Part-1"]


@pytest.mark.parametrize("is_done", [True, False])
async def test_a_run_that_was_replaced(tmp_path: Path, is_done: bool) -> None:
    """Its children have other ids, and how those of the former run end is nothing to it."""
    async with Runtime(tmp_path) as rt:
        await rt.start(Whole, is_done, id="w")
        first = rt.run(Part, ("w", "Part-1"))
        while not rt.runs(Part, status=("waiting", "complete")):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.001)
        before = (await rt.run(Whole, "w").info()).created_at
        await asyncio.sleep(0.002)
        await rt.start(Whole, True, id="w", on_conflict="replace")
        assert await _end(rt, "w") == "part w/Part-1.1"
        assert await first.status() == ("complete" if is_done else "cancelled")
        assert (await rt.run(Whole, "w").info()).created_at > before


async def test_a_child_with_a_given_id_that_has_ended(tmp_path: Path) -> None:
    """It is this parent's, so it is begun anew with it; another parent is told that it exists."""
    async with Runtime(tmp_path) as rt:
        for id, result in (("n", "part one"), ("n", "part one"), ("other", "RunExists")):
            run = await rt.start(Named, id=id, on_conflict="replace")
            assert await asyncio.wait_for(run.result(), 5) == result


@pytest.mark.parametrize("verb", ["restart", "replace"])
async def test_the_end_of_a_child_of_a_former_run(tmp_path: Path, verb: str) -> None:
    """It comes when the parent has begun anew and waits for a child of the same name: not for this one."""
    async with Runtime(tmp_path) as rt:
        run = await rt.start(Whole, False, id="w")
        for life in range(3):
            for _ in range(500):
                if rt.runs(Part, status="waiting"):
                    break
                await asyncio.sleep(0.01)
            [child] = rt.runs(Part, status="waiting")
            assert child.id == ("w/Part-1" if not life else f"w/Part-1.{life}")
            if verb == "restart":
                await run.restart()
            else:
                await rt.start(Whole, False, id="w", on_conflict="replace")
        for _ in range(500):
            if len(rt.runs(Part, status="cancelled")) == 3 and rt.runs(Part, status="waiting"):
                break
            await asyncio.sleep(0.01)
        assert await run.status() == "waiting"
