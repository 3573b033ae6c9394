"""Runs at rest leave memory at once: their coroutine is closed, no ring waits for the collector."""

import gc
import weakref
from pathlib import Path

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
