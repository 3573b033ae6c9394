"""What the storage tests share: stores, a commit log in the hand of the test, child processes."""

from __future__ import annotations

import asyncio
import os
import queue
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from holdfast.storage import layout
from holdfast.storage.commit_log import DURABLE, CommitLog, CommitOutcome, CommitResult, Space
from holdfast.storage.errors import StorageFailed
from holdfast.storage.group_commit import Batch, GroupCommit, Writes
from holdfast.storage.keys import encode_number
from holdfast.storage.store import Store
from holdfast.storage.values import seal_value

ROOT = Path(__file__).parent.parent.parent
FAILED = CommitResult(CommitOutcome.NOT_HAPPENED, StorageFailed("the test failed this commit"))
UNKNOWN = CommitResult(CommitOutcome.UNKNOWN, StorageFailed("the test leaves this commit open"))


class HeldLog:
    """A commit log that does what the test says, one answer for each commit."""

    def __init__(self) -> None:
        self.batches: list[dict[bytes, bytes | None]] = []
        self.answers: queue.SimpleQueue[CommitResult | BaseException] = queue.SimpleQueue()
        self.room = Space(0, 1 << 40)
        self.in_staged: Callable[[], None] = lambda: None

    def commit(self, writes: Mapping[bytes, bytes | None], staged: Callable[[], None]) -> CommitResult:
        self.batches.append(dict(writes))
        self.in_staged()
        staged()
        answer = self.answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def space(self) -> Space:
        return self.room

    def answer(self, *answers: CommitResult | BaseException) -> None:
        for one in answers:
            self.answers.put(one)


class Recorder:
    """A group commit over a held log, and all that it reported."""

    def __init__(
        self,
        *,
        last_number: int = 0,
        max_batch_puts: int = 4000,
        max_batch_bytes: int = 16 << 20,
        max_staged_bytes: int = 256 << 20,
    ) -> None:
        self.log = HeldLog()
        self.sealed: list[int] = []
        self.failures: list[tuple[int, StorageFailed]] = []
        self.broken: list[Exception] = []
        self.spaces: list[Space] = []
        self.group = GroupCommit(
            self.log,
            last_number=last_number,
            seal=self._seal,
            on_failed=lambda number, error: self.failures.append((number, error)),
            on_broken=self.broken.append,
            on_space=self.spaces.append,
            max_batch_puts=max_batch_puts,
            max_batch_bytes=max_batch_bytes,
            max_staged_bytes=max_staged_bytes,
        )

    def _seal(self, batch: Batch) -> None:
        self.sealed.append(batch.number)

    async def end(self) -> None:
        """End the writer thread, whatever it waits for."""
        for _ in range(50):
            self.log.answer(DURABLE)
        await self.group.close()


@asynccontextmanager
async def recorder(**options: int) -> AsyncIterator[Recorder]:
    """A recorder whose writer thread ends with the test."""
    made = Recorder(**options)
    try:
        yield made
    finally:
        await made.end()


async def turn_loop(times: int = 3) -> None:
    """Let callbacks that are ready run."""
    for _ in range(times):
        await asyncio.sleep(0)


class GatedLog:
    """LMDB's commit log with a say before each commit: None lets it through, a result takes its place."""

    def __init__(self, log: CommitLog) -> None:
        self.log = log
        self.verdicts: list[CommitResult | None] = []
        self.fake_space: Space | None = None

    def commit(self, writes: Mapping[bytes, bytes | None], staged: Callable[[], None]) -> CommitResult:
        verdict = self.verdicts.pop(0) if self.verdicts else None
        if verdict is None:
            return self.log.commit(writes, staged)
        staged()
        return verdict

    def space(self) -> Space:
        return self.fake_space or self.log.space()


@asynccontextmanager
async def open_store(path: Path, **options: object) -> AsyncIterator[Store]:
    """A store that is closed with the test; there is no floor under the free space."""
    store = Store(path, **{"min_free_bytes": 0, **options})  # type: ignore[arg-type]
    try:
        yield store
    finally:
        await store.close()


async def write(store: Store, writes: Writes, **options: bool) -> int:
    """Stage and wait until it is durable."""
    number = store.stage(writes, **options)
    await store.wait_durable(number)
    return number


async def fill(path: Path, writes: Writes, *, actors: int = 1, types: int = 1) -> None:
    """A closed folder with these writes."""
    async with open_store(path) as store:
        store.next_actor_number, store.next_type_number = actors + 1, types + 1
        await write(store, writes)


def storage_key(name: bytes, number: int = 1) -> bytes:
    """A full key of `self.storage`."""
    return layout.DATA + encode_number(number) + layout.STORAGE + b"\x02" + name


@contextmanager
def raw_write(path: Path) -> Iterator[Callable[[bytes, bytes | None], None]]:
    """Change a closed folder behind the store's back; values get a right checksum."""
    import lmdb

    env = lmdb.open(str(path / "data.mdb"), subdir=False, map_size=1 << 30, lib_version=0)
    with env.begin(write=True) as txn:

        def put(key: bytes, value: bytes | None) -> None:
            if value is None:
                assert txn.delete(key), "the test deletes what is there"
            else:
                txn.put(key, seal_value(key, value))

        yield put
    env.close()


def run_child(
    code: str, *arguments: object, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a child process and wait for it."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **(env or {})},
    )


def start_child(code: str, *arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start Python code in a child process whose output is a pipe."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    )


OWNER = """
import asyncio, sys
from holdfast.storage.store import Store
async def main():
    store = Store(sys.argv[1], min_free_bytes=0)
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await store.close()
asyncio.run(main())
"""
