"""Runtimes that are opened wrongly, closed twice, closed in a hurry, or used from elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from holdfast import Actor, Batch, Queue, Runtime, Workflow, shared
from holdfast.runtime.errors import NotRunning


class Tally(Actor):
    n: int = 0

    async def add(self) -> int:
        self.n += 1
        return self.n

    async def wait_for(self, seconds: float) -> None:
        self.n += 1
        await asyncio.sleep(seconds)

    @shared
    async def value(self) -> int:
        return self.n


async def test_a_setting_of_the_process_that_can_not_be(tmp_path: Path) -> None:
    """Opening fails, gives the folder back, and leaves the settings as they were for other runtimes."""
    before = sys.getswitchinterval()
    with pytest.raises(ValueError, match="switch interval"):
        async with Runtime(tmp_path, switch_interval_seconds=0):
            pass
    assert sys.getswitchinterval() == before
    async with Runtime(tmp_path) as rt:
        assert await rt.get(Tally, "a").add() == 1
    assert sys.getswitchinterval() == before


async def test_a_call_from_another_thread(tmp_path: Path) -> None:
    """It is refused before anything is done, and so is closing; the runtime serves on."""
    async with Runtime(tmp_path) as rt:
        tally = rt.get(Tally, "a")

        async def call() -> None:
            await tally.add()

        def elsewhere(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
            asyncio.run(work())

        for work in (call, rt.close):
            with pytest.raises(NotRunning, match="another event loop"):
                await asyncio.to_thread(elsewhere, work)
        assert await tally.value() == 0
        assert await tally.add() == 1


async def test_closing_twice_at_once(tmp_path: Path) -> None:
    """Each `close` returns when the folder is free."""
    rt = Runtime(tmp_path)
    await rt.open()
    turn = asyncio.create_task(rt.get(Tally, "a").wait_for(0.05))
    await asyncio.sleep(0)
    first = asyncio.create_task(rt.close())
    await asyncio.sleep(0)
    await rt.close()
    async with Runtime(tmp_path) as again:
        assert await again.get(Tally, "a").value() == 1
    await asyncio.gather(first, turn)


async def test_closing_is_cancelled_while_a_handler_does_not_end(tmp_path: Path) -> None:
    """The runtime is closed at once all the same, nothing of it goes on, and the folder is free."""
    rt = Runtime(tmp_path)
    await rt.open()
    begun, end = asyncio.Event(), asyncio.Event()

    async def stubborn(batch: Batch[str]) -> None:
        begun.set()
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                pass

    rt.consume("q", stubborn, max_wait=0)
    await rt.get(Queue, "q").send("a")
    await begun.wait()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rt.close(), 0.05)
    async with Runtime(tmp_path) as again:
        assert (await again.get(Queue, "q").stats()).depth == 1
    end.set()
    left = [task for task in asyncio.all_tasks() if "Queue/q" in task.get_name()]
    assert len(left) == 1, "only the handler goes on"
    await asyncio.wait(left, timeout=5)
    assert left[0].done()


async def test_closing_under_load(tmp_path: Path) -> None:
    """Callers that call on and on can't keep it from closing, and what they were told is kept."""
    rt = Runtime(tmp_path)
    await rt.open()
    told = 0

    async def call(key: int) -> None:
        nonlocal told
        tally = rt.get(Tally, key % 20)
        while True:
            await tally.add()
            told += 1

    callers = [asyncio.create_task(call(key)) for key in range(200)]
    await asyncio.sleep(0.05)
    await asyncio.wait_for(rt.close(), 2)
    outcomes = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 2)
    assert {type(outcome) for outcome in outcomes} == {NotRunning}
    async with Runtime(tmp_path) as again:
        assert sum([await again.get(Tally, key).value() for key in range(20)]) == told


class Gate(Actor):
    """A turn that ends when it is told."""

    async def wait(self) -> None:
        await self.runtime.deps.get(asyncio.Event).wait()


class Sleeper(Workflow):
    async def run(self) -> None:
        await self.sleep("1d")


async def test_a_result_that_is_asked_for_while_the_runtime_closes(tmp_path: Path) -> None:
    """It will not be told any more, so whoever asks is told that, and doesn't wait for ever."""
    gate = asyncio.Event()
    rt = Runtime(tmp_path, deps=[gate])
    await rt.open()
    run = await rt.start(Sleeper, id="a")
    turn = asyncio.create_task(rt.get(Gate, "g").wait())
    await asyncio.sleep(0)
    closing = asyncio.create_task(rt.close())
    await asyncio.sleep(0)
    with pytest.raises(NotRunning, match="closed before the run ended"):
        await asyncio.wait_for(run.result(), 20)
    gate.set()
    await turn
    await closing
