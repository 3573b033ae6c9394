"""What the tests of queues share: runtimes on a clock that stands still, handlers in the hand of the test."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from holdfast import Batch, Message, Runtime, Workflow
from holdfast.runtime.clock import ManualClock
from holdfast.storage.commit_log import CommitLog, CommitOutcome, CommitResult, Space
from holdfast.storage.errors import HoldfastError, StorageFailed

ROOT = Path(__file__).parent.parent.parent
WAIT_SECONDS = 20.0  # only met when a test fails


class Order(msgspec.Struct, frozen=True):
    """A body with a type."""

    order: str
    amount: int = 1


class Keep(Workflow):
    """A run that only returns its input."""

    async def run(self, order: Order) -> str:
        return order.order


@asynccontextmanager
async def runtime(
    path: Path,
    clock: ManualClock | None = None,
    *,
    wrap_log: Callable[[CommitLog], CommitLog] | None = None,
    max_running: int = 10_000,
) -> AsyncIterator[Runtime]:
    """A runtime on `path` whose time only the test moves."""
    made = Runtime(
        path,
        clock=clock or ManualClock(),
        seed=1,
        min_free_bytes=0,
        wrap_log=wrap_log,
        max_running=max_running,
    )
    async with made:
        yield made


async def rest(rt: Runtime) -> None:
    """Return when nothing more happens by itself: all is durable, all wait for the clock or the test."""
    calm = 0
    while calm < 4:
        before = (rt.store.durable, rt.store.newest)
        for _ in range(8):
            await asyncio.sleep(0)
        try:
            await rt.store.wait_durable(rt.store.newest)
        except StorageFailed:
            pass  # the test wanted it
        for _ in range(8):
            await asyncio.sleep(0)
        calm = calm + 1 if before == (rt.store.durable, rt.store.newest) else 0


async def advance(rt: Runtime, seconds: float) -> None:
    """Let time pass, and everything happen that is due."""
    clock = rt.clock
    assert isinstance(clock, ManualClock)
    clock.advance(seconds)
    await rest(rt)


class Delivery:
    """A batch in a handler that waits for the test."""

    def __init__(self, batch: Batch[object]) -> None:
        self.batch = batch
        self.messages: list[Message[object]] = batch.messages
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.cancelled = False

    @property
    def bodies(self) -> list[object]:
        return [message.body for message in self.messages]

    @property
    def attempts(self) -> list[int]:
        return [message.attempts for message in self.messages]

    async def finish(self, rt: Runtime) -> None:
        """Let the handler return."""
        self.end.set_result(None)
        await rest(rt)

    async def fail(self, rt: Runtime, error: Exception | None = None) -> None:
        """Let the handler raise."""
        self.end.set_exception(error or ValueError("the test failed this batch"))
        await rest(rt)


class Hand:
    """A handler whose batches wait until the test ends them."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []

    async def __call__(self, batch: Batch[Any]) -> None:
        delivery = Delivery(batch)
        self.deliveries.append(delivery)
        try:
            await delivery.end
        except asyncio.CancelledError:
            delivery.cancelled = True
            raise

    @property
    def last(self) -> Delivery:
        return self.deliveries[-1]

    @property
    def bodies(self) -> list[list[object]]:
        return [delivery.bodies for delivery in self.deliveries]


class Inbox:
    """A handler that notes what it gets and returns."""

    def __init__(self) -> None:
        self.batches: list[list[object]] = []
        self.attempts: list[list[int]] = []
        self.ids: list[str] = []

    async def __call__(self, batch: Batch[Any]) -> None:
        self.batches.append([message.body for message in batch])
        self.attempts.append([message.attempts for message in batch])
        self.ids.extend(message.id for message in batch)

    @property
    def bodies(self) -> list[object]:
        return [body for batch in self.batches for body in batch]


class CrashLog:
    """A commit log that ends the process's life at one commit: it is stored or not, and nobody knows."""

    def __init__(self, at: int | None = None, *, stored: bool = False) -> None:
        self.at = at
        self.stored = stored
        self.commits = 0
        self._log: CommitLog | None = None

    def wrap(self, log: CommitLog) -> CommitLog:
        self._log = log
        return self

    def commit(self, writes: Mapping[bytes, bytes | None], staged: Callable[[], None]) -> CommitResult:
        assert self._log is not None
        self.commits += 1
        if self.at is None or self.commits < self.at:
            return self._log.commit(writes, staged)
        if self.commits == self.at and self.stored:
            self._log.commit(writes, staged)
        else:
            staged()
        return CommitResult(CommitOutcome.UNKNOWN, StorageFailed("the test pulled the plug"))

    def space(self) -> Space:
        assert self._log is not None
        return self._log.space()


async def until_crash(
    work: Callable[[Runtime], Awaitable[None]], path: Path, log: CrashLog, clock: ManualClock
) -> bool:
    """Do `work` on a runtime that may crash; returns whether it did."""
    async with runtime(path, clock, wrap_log=log.wrap) as rt:
        task = asyncio.ensure_future(work(rt))
        while not task.done() and not rt.is_closed:
            await asyncio.wait([task], timeout=0.002)
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
        if not rt.is_closed:
            await task
            return False
        if not task.cancelled():
            error = task.exception()
            assert error is None or isinstance(error, HoldfastError), error
        return True


class Child:
    """A process of our own that runs `code`; what it prints are its acknowledgements."""

    def __init__(self, code: str, *args: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-c", code, *map(str, args)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def line(self) -> str:
        """The next line that it printed; empty when it has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def kill(self) -> list[str]:
        """kill -9; returns the lines that it still printed."""
        self._process.send_signal(signal.SIGKILL)
        assert self._process.stdout is not None
        with self._process:
            # Not `communicate`, which overlooks what was read ahead with a line.
            return self._process.stdout.read().split()

    def wait(self) -> list[str]:
        """Wait for its end; returns the lines that were not read."""
        with self._process:
            out, _ = self._process.communicate(timeout=WAIT_SECONDS)
        return out.split()

    @property
    def returncode(self) -> int:
        return self._process.returncode
