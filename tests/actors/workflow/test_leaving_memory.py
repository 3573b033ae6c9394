"""Runs at rest leave memory at once: their coroutine is closed, no ring waits for the collector."""

import contextlib
import gc
import sys
import weakref
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from holdfast import Runtime, Workflow
from holdfast.actors.workflow.live_run import LiveRun

from .support import settle, until

RUNS = 20
closed: list[int] = []


def runs_in_memory() -> int:
    """Runs that are in memory; the collector isn't called."""
    return sum(isinstance(one, LiveRun) for one in gc.get_objects())


class SleepsForADay(Workflow):
    """Would like to know when it is closed."""

    async def run(self, number: int) -> None:
        """One long sleep."""
        try:
            await self.sleep("1d")
        finally:
            closed.append(number)


async def test_a_sleeping_run_is_closed_and_freed_without_the_collector(tmp_path: Path) -> None:
    """Its `finally` blocks run when it leaves, and everything of it is freed by that."""
    closed.clear()
    async with Runtime(tmp_path / "data") as rt:
        gc.collect()
        gc.disable()
        try:
            before = runs_in_memory()
            await rt.start_many(SleepsForADay, [(f"run-{number}", number) for number in range(RUNS)])
            await settle(rt)
            # The writer thread lets go of the last commit on its own time.
            await until(lambda: runs_in_memory() == before, "every run is freed")
        finally:
            gc.enable()
        assert sorted(closed) == list(range(RUNS))
        assert len(rt.directory) == 0


async def test_the_writer_keeps_nothing_of_the_last_commit(tmp_path: Path) -> None:
    """What rested on a commit is freed when it is durable, not when the next commit comes."""

    class Held:
        """What a callback of a commit holds."""

    async with Runtime(tmp_path / "data") as rt:
        held = Held()
        gone = weakref.ref(held)
        number = rt.store.stage({b"\xff-test": b"value"})
        rt.store.on_durable(number, lambda error, held=held: None)  # type: ignore[misc]
        del held
        await rt.store.wait_durable(number)
        await until(lambda: gone() is None, "the callback is freed")


class TidiesUp(Workflow):
    """Waits in clean-up code, one piece of it after the other."""

    async def run(self, how: str) -> None:
        """Sleeps in there."""
        try:
            await getattr(self, how)()
        except Exception as error:  # nothing went wrong
            raised.append(error)

    async def nested(self) -> None:
        """One `finally` block in another."""
        try:
            try:
                await self.sleep("1d")
            finally:
                closed.append(1)
                await self.step(tidy, 1)
        finally:
            closed.append(2)
            await self.step(tidy, 2)

    async def stack(self) -> None:
        """An exit stack goes on with the next callback, whatever the one before did."""
        async with contextlib.AsyncExitStack() as stack:
            for number in (3, 2, 1):
                stack.push_async_callback(self.noted, number)
            await self.sleep("1d")

    async def generator(self) -> None:
        """Inside an async generator, which nobody goes on with."""

        async def pieces() -> AsyncGenerator[None, None]:
            await self.nested()
            yield

        async for _ in pieces():
            closed.append(9)

    async def noted(self, number: int) -> None:
        """Clean-up of one thing."""
        closed.append(number)
        await self.step(tidy, number)

    async def deep(self, depth: int = 200) -> None:
        """Many coroutines deep."""
        if depth:
            return await self.deep(depth - 1)
        return await self.stack()


def tidy(number: int) -> int:
    """A step of clean-up."""
    tidied.append(number)
    return number


raised: list[Exception] = []
tidied: list[int] = []


@pytest.mark.parametrize("how", ["nested", "stack", "deep", "generator"])
async def test_clean_up_that_waits_is_closed_from_the_inside(tmp_path: Path, how: str) -> None:
    """Nobody hears of that: no error comes up in run(), and the collector has nothing to complain of."""
    closed.clear()
    ignored: list[object] = []
    hook, sys.unraisablehook = sys.unraisablehook, ignored.append
    try:
        async with Runtime(tmp_path / "data") as rt:
            await rt.start(TidiesUp, how, id="r")
            await settle(rt)
            await until(lambda: len(rt.directory) == 0, "the run left memory")
            gc.collect()
    finally:
        sys.unraisablehook = hook
    assert (raised, tidied, ignored) == ([], [], [])
    assert closed == ([1, 2, 3] if how in ("stack", "deep") else [1, 2])
