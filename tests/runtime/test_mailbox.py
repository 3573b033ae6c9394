"""The mailbox: order of arrival, its bound, and leaving it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.limits import Limits
from holdfast.runtime.system import ActorSystem
from holdfast.storage.errors import Overloaded
from tests.runtime.support import turns


class Log(Actor):
    lines: list[str] = []

    async def write(self, line: str) -> int:
        self.lines.append(line)
        return len(self.lines)

    async def hold(self, line: str) -> int:
        self.lines.append(line)
        await self.runtime.deps.get(asyncio.Event).wait()
        return len(self.lines)

    async def read(self) -> list[str]:
        return self.lines


@pytest.fixture
def go(system: ActorSystem) -> asyncio.Event:
    event = asyncio.Event()
    system.deps.put(event)
    return event


async def test_calls_run_in_order_of_arrival(system: ActorSystem, go: asyncio.Event) -> None:
    """Calls that wait for a busy actor get it in the order in which they came."""
    log = system.get(Log, 1)
    calls = [asyncio.create_task(log.hold("0"))]
    calls += [asyncio.create_task(log.write(str(number))) for number in range(1, 50)]
    await turns()
    go.set()
    assert await asyncio.gather(*calls) == list(range(1, 51))
    assert await log.read() == [str(number) for number in range(50)]


async def test_a_late_call_never_overtakes(system: ActorSystem, go: asyncio.Event) -> None:
    """A call made while the actor is handed over to a waiter comes after that waiter."""
    log = system.get(Log, 1)
    first = asyncio.create_task(log.hold("first"))
    await turns()
    waiter = asyncio.create_task(log.write("waiter"))
    await turns()
    go.set()
    late: list[asyncio.Task[int]] = []
    first.add_done_callback(lambda _: late.append(asyncio.create_task(log.write("late"))))
    activation = system.directory.find(log.directory_key)  # type: ignore[attr-defined]  # pyright: ignore
    assert activation is not None
    while activation.mailbox:  # noqa: ASYNC110  # handed over, but the waiter is not woken
        await asyncio.sleep(0)
    overtaking = await log.write("overtaking")
    assert await waiter == 2
    assert overtaking == 3
    await first
    await turns()
    await asyncio.gather(*late)


async def test_full_mailbox_refuses(folder: Path) -> None:
    """Beyond `max_mailbox` waiting calls the next raises `Overloaded` at once, and those in it are served."""
    go = asyncio.Event()
    async with ActorSystem(folder, deps=[go], limits=Limits(max_mailbox=2)) as system:
        log = system.get(Log, 1)
        calls = [asyncio.create_task(log.hold("0")) for _ in range(3)]
        await turns()
        with pytest.raises(Overloaded, match=r"Log/1.*max_mailbox=2"):
            await log.write("x")
        go.set()
        assert await asyncio.gather(*calls) == [1, 2, 3]
        assert await log.write("x") == 4


async def test_cancelled_while_queued_leaves_the_mailbox(system: ActorSystem, go: asyncio.Event) -> None:
    """A waiting call that is cancelled is gone, and the others move up."""
    log = system.get(Log, 1)
    first = asyncio.create_task(log.hold("first"))
    await turns()
    waiters = [asyncio.create_task(log.write(str(number))) for number in range(3)]
    await turns()
    waiters[1].cancel()
    await turns()
    activation = system.directory.find(log.directory_key)  # type: ignore[attr-defined]  # pyright: ignore
    assert activation is not None and activation.mailbox is not None and len(activation.mailbox) == 2
    go.set()
    await first
    assert await waiters[0] == 2
    assert await waiters[2] == 3
    assert waiters[1].cancelled()


async def test_cancelled_when_handed_over_passes_it_on(system: ActorSystem, go: asyncio.Event) -> None:
    """A waiter that is cancelled in the very moment in which it got the actor gives it to the next."""
    log = system.get(Log, 1)
    first = asyncio.create_task(log.hold("first"))
    await turns()
    waiters = [asyncio.create_task(log.write(str(number))) for number in range(3)]
    await turns()
    activation = system.directory.find(log.directory_key)  # type: ignore[attr-defined]  # pyright: ignore
    assert activation is not None and activation.mailbox is not None
    go.set()
    while len(activation.mailbox) == 3:  # noqa: ASYNC110  # nothing signals this moment
        await asyncio.sleep(0)
    waiters[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiters[0]
    assert [await waiters[1], await waiters[2]] == [2, 3]
    await first
    assert not activation.busy


async def test_everybody_cancelled_leaves_it_idle(system: ActorSystem, go: asyncio.Event) -> None:
    """When all who wait and the running turn are cancelled, the actor is free and unchanged."""
    log = system.get(Log, 1)
    calls = [asyncio.create_task(log.hold(str(number))) for number in range(5)]
    await turns()
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert await log.read() == []


async def test_actors_do_not_wait_for_each_other(system: ActorSystem, go: asyncio.Event) -> None:
    """A busy actor holds up nobody but its own callers."""
    busy = asyncio.create_task(system.get(Log, 1).hold("x"))
    await turns()
    assert await system.get(Log, 2).write("y") == 1
    go.set()
    await busy
