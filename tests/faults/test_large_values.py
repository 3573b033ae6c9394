"""Values of no bytes, at the limit, beyond it, and too many: refused by type, before LMDB sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from holdfast import Batch, Queue, Retry, Runtime, StepError, Workflow
from holdfast.actors.durable_queue import MAX_MESSAGE_BYTES
from holdfast.actors.errors import InvalidInput
from holdfast.actors.workflow.step_plan import MAX_RESULT_BYTES
from holdfast.actors.workflow.workflow_type import MAX_INPUT_BYTES
from holdfast.runtime.actor import Actor
from holdfast.runtime.actor_storage import MAX_VALUE_BYTES
from holdfast.runtime.errors import InvalidResult
from holdfast.runtime.fields import MAX_RECORD_BYTES
from holdfast.runtime.system import ActorSystem
from holdfast.storage.commit_log import CommitLog, CommitResult, Space
from holdfast.storage.errors import HoldfastError, InvalidValue, Overloaded
from holdfast.storage.table import MAX_ROW_BYTES, Table
from tests.runtime.support import HeldLog, quiet, turns

MIB = 1 << 20
# What stands around so many bytes when they are encoded: a MessagePack header, and those of record or row.
VALUE_FRAME = len(msgspec.msgpack.encode(bytes(MIB))) - MIB


class Sheet(msgspec.Struct):
    id: int
    ink: bytes = b""


class Holder(Actor):
    """Puts bytes wherever an actor can."""

    field: bytes = b""

    async def put(self, key: int, size: int) -> None:
        self.storage.put(key, bytes(size))

    async def put_many(self, count: int, size: int) -> None:
        for key in range(count):
            self.storage.put(key, bytes(size))

    async def set_field(self, size: int) -> None:
        self.field = bytes(size)

    async def put_row(self, size: int) -> None:
        self._sheets().put(Sheet(1, bytes(size)))

    async def sizes(self) -> tuple[int, int, int]:
        """Bytes of value 0, of the field and of the row; -1 for what isn't there."""
        value, row = self.storage.get(0, bytes), self._sheets().get(1)
        return -1 if value is None else len(value), len(self.field), -1 if row is None else len(row.ink)

    def _sheets(self) -> Table[Sheet]:
        return self.storage.table(Sheet, key="id")


def field_frame() -> int:
    """What the record of `Holder` has beside the bytes of its field."""
    return len(msgspec.msgpack.encode({"__version": 1, "field": bytes(MIB)})) - MIB


PLACES: list[tuple[str, tuple[int, ...], int, int, type[HoldfastError]]] = [
    ("put", (0,), 0, MAX_VALUE_BYTES - VALUE_FRAME, InvalidValue),
    ("set_field", (), 1, MAX_RECORD_BYTES - field_frame(), InvalidResult),
    (
        "put_row",
        (),
        2,
        MAX_ROW_BYTES - (len(msgspec.msgpack.encode(Sheet(1, bytes(MIB)))) - MIB),
        InvalidValue,
    ),
]


@pytest.mark.parametrize(
    ("method", "args", "place", "limit", "error"), PLACES, ids=[one[0] for one in PLACES]
)
async def test_the_limit_is_met_to_the_byte(
    folder: Path, method: str, args: tuple[int, ...], place: int, limit: int, error: type[HoldfastError]
) -> None:
    """0 B and the limit are stored and read back from disk; one byte more, and 64 MiB, never reach LMDB."""
    log = HeldLog()
    async with ActorSystem(folder, wrap_log=log.wrap) as system:
        holder = system.get(Holder, "a")
        for size in (1, 0, limit):
            await getattr(holder, method)(*args, size)
            system.directory.drop_all()
            assert (await holder.sizes())[place] == size
        await quiet(system)
        log.hold()  # a commit would wait for an answer now
        newest = system.store.newest
        for size in (limit + 1, 64 * MIB):
            with pytest.raises(error, match=str(8 * MIB)):
                await getattr(holder, method)(*args, size)
        assert (log.commits, system.store.newest, system.store.group_commit.staged_bytes) == ([], newest, 0)
        assert (await holder.sizes())[place] == limit
        log.release()


class Echo(Workflow):
    async def run(self, data: bytes) -> int:
        return len(data)


@pytest.mark.parametrize("size", [0, MAX_MESSAGE_BYTES - VALUE_FRAME])
async def test_messages_up_to_the_limit(folder: Path, size: int) -> None:
    """A message of 0 B and one at the limit are taken and come out whole."""
    got: list[bytes] = []
    came = asyncio.Event()

    async def handle(batch: Batch[bytes]) -> None:
        got.extend(message.body for message in batch)
        came.set()

    async with Runtime(folder) as rt:
        queue = rt.get(Queue, "q")
        consumer = rt.consume(queue, handle, body=bytes, max_wait=0)
        await queue.send(bytes(size))
        async with asyncio.timeout(20):
            await came.wait()
        await consumer.stop()
    assert [len(body) for body in got] == [size]


async def test_messages_and_inputs_beyond_the_limit(folder: Path) -> None:
    """They are refused by type, one byte beyond the limit and far beyond it, and nothing is staged."""
    async with Runtime(folder) as rt:
        queue = rt.get(Queue, "q")
        await queue.send(b"")
        run = await rt.start(Echo, bytes(MAX_INPUT_BYTES - VALUE_FRAME))
        assert await run.result() == MAX_INPUT_BYTES - VALUE_FRAME
        await quiet(rt)
        newest = rt.store.newest
        for size in (MAX_MESSAGE_BYTES - VALUE_FRAME + 1, 64 * MIB):
            with pytest.raises(InvalidValue, match=str(MAX_MESSAGE_BYTES)):
                await queue.send(bytes(size))
        for size in (MAX_INPUT_BYTES - VALUE_FRAME + 1, 64 * MIB):
            with pytest.raises(InvalidInput, match=str(MAX_INPUT_BYTES)):
                await rt.start(Echo, bytes(size))
        assert rt.store.newest == newest


# -- many at once ------------------------------------------------------------------------------------------


class SizedLog:
    """A commit log that notes how many bytes of values each commit has, and of how many actors' values."""

    def __init__(self) -> None:
        self._log: CommitLog | None = None
        self.commits: list[tuple[int, int]] = []

    def wrap(self, log: CommitLog) -> CommitLog:
        self._log = log
        return self

    def commit(self, writes: Mapping[bytes, bytes | None], staged: Callable[[], None]) -> CommitResult:
        assert self._log is not None
        sizes = [len(value) for value in writes.values() if value is not None and len(value) >= MIB]
        self.commits.append((sum(sizes), len(sizes)))
        return self._log.commit(writes, staged)

    def space(self) -> Space:
        assert self._log is not None
        return self._log.space()


@pytest.mark.parametrize("values", [300, pytest.param(1_000, marks=pytest.mark.slow)])
async def test_many_values_of_a_mebibyte_at_once(folder: Path, values: int) -> None:
    """They are let in one by one, so small ones wait for few commits; callers beyond `max_staged_bytes` are
    told, and get through when they call again.
    """
    log, refused = SizedLog(), 0
    async with ActorSystem(folder, wrap_log=log.wrap) as system:

        async def put(key: int) -> bool:
            try:
                await system.get(Holder, key).put(0, MIB)
            except Overloaded as error:
                assert "max_staged_bytes" in str(error)
                return False
            return True

        async def small_calls() -> int:
            """The most commits that a small call beside them waited for."""
            most = 0
            for number in range(100):
                before = len(log.commits)
                await system.get(Holder, "small").put(1, number)
                most = max(most, len(log.commits) - before)
            return most

        small = asyncio.create_task(small_calls())
        missing = list(range(values))
        while missing:
            stored = await asyncio.gather(*[put(key) for key in missing])
            missing = [key for key, is_stored in zip(missing, stored, strict=True) if not is_stored]
            refused += len(missing)
        assert await small <= 3  # one under way, one that was ready before, and its own
        assert system.store.group_commit.staged_bytes == 0
        for key in range(values):
            assert (await system.get(Holder, key).sizes())[0] == MIB
    assert refused > 0
    assert max(size for size, _ in log.commits) < 2 * MIB


async def test_a_turn_larger_than_the_cap_is_a_commit_by_itself(folder: Path) -> None:
    """64 MiB in one turn are stored whole, together with nobody else's write set."""
    log = HeldLog()
    async with ActorSystem(folder, wrap_log=log.wrap) as system:
        for key in ("before", "large", "behind"):
            await system.get(Holder, key).put(1, 1)
        log.hold()
        before = asyncio.create_task(system.get(Holder, "before").put(1, 2))
        await log.arrived()
        large = asyncio.create_task(system.get(Holder, "large").put_many(16, 4 * MIB))
        behind = asyncio.create_task(system.get(Holder, "behind").put(1, 2))
        await turns()
        log.let()
        await before
        await log.arrived()
        log.let()
        await large
        await log.arrived()
        assert not behind.done()
        log.let()
        await behind
        log.release()
    rows = [len(writes) - 1 for writes in log.commits]  # without the commit's own record
    assert rows == [1, 16, 1]
    async with ActorSystem(folder) as system:
        assert (await system.get(Holder, "large").sizes())[0] == 4 * MIB


class Printer(Actor):
    """Returns bytes, and counts how often."""

    calls: int = 0

    async def print(self, size: int) -> bytes:
        self.calls += 1
        return bytes(size)

    async def count(self) -> int:
        return self.calls


class AsksForMuch(Workflow):
    """Asks a `Printer`, in a step or by itself; tells what went wrong."""

    retry = Retry(0)

    async def run(self, order: tuple[bool, int]) -> str:
        in_step, size = order
        try:
            await (self.step(self.ask, size) if in_step else self.runtime.get(Printer, "p").print(size))
        except StepError as error:
            return error.cause.type
        return "fits"

    async def ask(self, size: int) -> int:
        return len(await self.runtime.get(Printer, "p").print(size))


@pytest.mark.parametrize("in_step", [True, False])
async def test_a_reply_that_a_workflow_can_not_keep(folder: Path, in_step: bool) -> None:
    """The reply is kept beside the effect, so one too large for that undoes the call: it took no effect."""
    async with Runtime(folder) as rt:
        fits = await rt.start(AsksForMuch, (in_step, MAX_RESULT_BYTES - VALUE_FRAME))
        assert await fits.result() == "fits"
        assert await rt.get(Printer, "p").count() == 1
        large = await rt.start(AsksForMuch, (in_step, MAX_RESULT_BYTES + 1))
        assert await large.result() == "InvalidResult"
        assert await rt.get(Printer, "p").count() == 1
