"""testing/sim_loop.py: what asyncio code finds in a simulation."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator

import anyio
import pytest

from holdfast import CallerError, Counter, Fatal, RunFailed, Runtime, Workflow
from holdfast.testing import NotFinished, Simulation, simulate


def test_asyncio_works_on_virtual_time(sim: Simulation) -> None:
    """Sleeps, timeouts, locks, queues, events, gather and groups."""

    async def work() -> list[object]:
        lock, queue, event = asyncio.Lock(), asyncio.Queue[int](1), asyncio.Event()
        order: list[object] = []

        async def put() -> None:
            for n in range(3):
                async with lock:
                    await asyncio.sleep(60)
                await queue.put(n)
            event.set()

        async def get() -> None:
            while not (event.is_set() and queue.empty()):
                try:
                    async with asyncio.timeout(100):
                        order.append(await queue.get())
                except TimeoutError:
                    order.append("late")

        async with asyncio.TaskGroup() as group:
            group.create_task(put())
            group.create_task(get())
        done, _ = await asyncio.wait([asyncio.ensure_future(asyncio.sleep(n, n)) for n in (5, 1)], timeout=3)
        order += [task.result() for task in done]
        order += await asyncio.gather(asyncio.sleep(2, "a"), asyncio.sleep(1, "b"))
        return order

    began = time.monotonic()
    assert sim.run(work) == [0, 1, 2, 1, "a", "b"]
    assert 180 <= sim.now < 300
    assert time.monotonic() - began < 30


def test_anyio_works_on_virtual_time(sim: Simulation) -> None:
    """Its sleeps, scopes and groups."""

    async def work() -> str:
        with anyio.move_on_after(3600):
            await anyio.sleep_forever()
        with anyio.move_on_after(3600):
            await anyio.sleep(math.inf)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 86_400)
            group.start_soon(anyio.sleep, 10)
        return "done"

    assert sim.run(work) == "done"
    assert sim.now == 2 * 3600 + 86_400


def in_thread(n: int) -> tuple[int, bool]:
    """What thinks that it has a thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return n, threading.current_thread() is threading.main_thread()
    raise AssertionError("there is a loop")


def stops() -> None:
    """Raises what no future takes."""
    raise StopIteration


def fatal() -> None:
    """Fails for good."""
    raise Fatal("never mind")


class Threads(Workflow):
    """A step for a thread."""

    async def run(self, n: int) -> tuple[int, bool]:
        return await self.step(in_thread, n, thread=True)


class FailsInThread(Workflow):
    """One that fails."""

    async def run(self) -> None:
        await self.step(fatal, thread=True)


def test_code_for_threads_runs_in_the_loop(sim: Simulation) -> None:
    """One after the other, with nothing to wait for; outside of any loop, as in a thread."""
    assert sim.run(asyncio.to_thread, in_thread, 1) == (1, True)
    sim.crash_at(step="in_thread")
    assert sim.result(sim.start(Threads, 2)) == (2, True)
    assert (sim.attempts("in_thread"), sim.life) == (2, 2)
    with pytest.raises(RunFailed, match="never mind"):
        sim.result(sim.start(FailsInThread))
    with pytest.raises(RuntimeError, match="StopIteration"):
        sim.run(asyncio.to_thread, stops)


def test_a_thread_that_calls_into_the_loop_is_refused(sim: Simulation) -> None:
    """It would wait for itself."""

    async def work() -> None:
        await asyncio.to_thread(asyncio.get_running_loop().call_soon_threadsafe, print)

    with pytest.raises(CallerError, match="code in a thread"):
        sim.run(work)


def test_a_real_thread_is_refused(sim: Simulation) -> None:
    """What it brings would come at a time that no seed decides."""
    refused: list[str] = []

    async def work() -> None:
        loop = asyncio.get_running_loop()

        def call() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except CallerError as error:
                refused.append(str(error))

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()

    sim.run(work)
    assert "asyncio.to_thread" in refused[0]


def test_a_task_that_refuses_to_be_cancelled(sim: Simulation) -> None:
    """It waits for nothing, is cancelled and goes on: the test is told all the same."""

    async def work() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)  # type: ignore[union-attr]

    with pytest.raises(NotFinished):
        sim.run(work)


def test_the_network_is_refused(sim: Simulation) -> None:
    """With a sentence that says what to do."""

    async def work() -> None:
        await asyncio.open_connection("localhost", 80)

    with pytest.raises(CallerError, match=r"create_connection .* stands in for"):
        sim.run(work)


def test_generators_that_are_left_are_closed(sim: Simulation) -> None:
    """In the loop, as asyncio does."""
    closed: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(1)
            closed.append("closed")

    async def work() -> int:
        async for n in numbers():
            return n
        return 0

    assert sim.run(work) == 1
    sim.run_until_idle()
    assert closed == ["closed"]


def test_code_inside_does_not_drive(sim: Simulation) -> None:
    """`sim.call` is for code outside."""

    async def work() -> None:
        sim.call(Counter, "a").get()

    with pytest.raises(CallerError, match="runs already"):
        sim.run(work)


def test_a_callback_that_raises_is_logged(sim: Simulation, caplog: pytest.LogCaptureFixture) -> None:
    """As asyncio does; the others go on."""

    async def work() -> str:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        return "here"

    assert sim.run(work) == "here"
    assert "ZeroDivisionError" in caplog.text


def test_a_story_is_told_once() -> None:
    """Neither before its beginning, nor after its end, nor twice."""
    sim = simulate()
    with pytest.raises(CallerError, match="inside `with`"):
        sim.call(Counter, "a").get()
    with sim:
        assert isinstance(sim.runtime, Runtime)
    with pytest.raises(CallerError, match="has ended"):
        sim.crash()
    with pytest.raises(CallerError, match="one story"), sim:
        pass
