"""A store against a dict, with commits that fail, crashes and reopening, by a hypothesis state machine."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from holdfast.storage.check import check
from holdfast.storage.commit_log import CommitLog
from holdfast.storage.errors import StorageClosed, StorageFailed
from holdfast.storage.group_commit import Writes
from holdfast.storage.store import Store
from tests.storage.helpers import FAILED, UNKNOWN, GatedLog, storage_key

KEYS = st.sampled_from([storage_key(b"%d" % n, actor) for actor in (1, 2) for n in range(8)])
VALUES = st.one_of(st.none(), st.binary(max_size=30), st.integers(2000, 9000).map(bytes))
WRITES: st.SearchStrategy[Writes] = st.dictionaries(KEYS, VALUES, min_size=1, max_size=6)
Model = dict[bytes, bytes]


class StoreMachine(RuleBasedStateMachine):
    """`durable` is what the disk must have, `staged` what reads must show."""

    gate: GatedLog

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.durable: Model = {}
        self.staged: Model = {}
        self.waiting: list[int] = []
        self.copies = 0
        self.reopen(self.folder / "data")

    def reopen(self, path: Path) -> None:
        self.path = path

        def wrap(log: CommitLog) -> CommitLog:
            self.gate = GatedLog(log)
            return self.gate

        async def make() -> Store:
            return Store(path, min_free_bytes=0, wrap_log=wrap, max_batch_puts=5)

        self.store = self.loop.run_until_complete(make())
        self.staged = dict(self.durable)
        self.waiting = []

    @rule(writes=WRITES)
    def stage(self, writes: Writes) -> None:
        """Write sets wait; reads show them at once."""
        self.waiting.append(self.store.stage(writes))
        for key, value in writes.items():
            if value is None:
                self.staged.pop(key, None)
            else:
                self.staged[key] = value

    async def settle(self) -> list[type[BaseException] | None]:
        results = await asyncio.gather(*map(self.store.wait_durable, self.waiting), return_exceptions=True)
        self.waiting = []
        return [None if result is None else type(result) for result in results]

    @rule()
    def commit(self) -> None:
        """All that waits becomes durable."""
        assert set(self.loop.run_until_complete(self.settle())) <= {None}
        self.durable = dict(self.staged)

    @rule()
    def commit_fails(self) -> None:
        """Nothing that waits becomes durable, and all of it is told so."""
        if self.waiting:
            self.gate.verdicts = [FAILED]
            assert set(self.loop.run_until_complete(self.settle())) == {StorageFailed}
            self.staged = dict(self.durable)

    @rule()
    def outcome_unknown(self) -> None:
        """The store closes itself; reopening shows the last durable state."""
        if self.waiting:
            self.gate.verdicts = [UNKNOWN]
            assert set(self.loop.run_until_complete(self.settle())) == {StorageFailed}
            with pytest.raises(StorageClosed):
                self.store.stage({storage_key(b"x"): b""})
            self.store.abandon(StorageClosed("closed by the test"))
            self.reopen(self.path)

    @rule()
    def crash(self) -> None:
        """A copy of the folder's bytes, taken while writes wait, opens with what was durable."""
        self.copies += 1
        copy = self.folder / f"copy{self.copies}"
        copy.mkdir(mode=0o700)
        shutil.copy(self.path / "data.mdb", copy / "data.mdb")
        self.store.abandon(StorageClosed("crashed by the test"))
        self.reopen(copy)

    @rule()
    def drop(self) -> None:
        """What waits when a store is abandoned is gone, and told so."""
        waiting = [self.loop.create_task(self.store.wait_durable(number)) for number in self.waiting]
        self.store.abandon(StorageClosed("dropped by the test"))
        for task in waiting:
            with pytest.raises((StorageFailed, StorageClosed)):
                self.loop.run_until_complete(task)
        self.reopen(self.path)

    @rule()
    def close(self) -> None:
        """Closing makes durable what waits."""
        self.loop.run_until_complete(self.store.close())
        self.durable = dict(self.staged)
        self.reopen(self.path)

    @rule(start=KEYS, end=KEYS, reverse=st.booleans(), limit=st.one_of(st.none(), st.integers(1, 5)))
    def scan(self, start: bytes, end: bytes, reverse: bool, limit: int | None) -> None:
        """A scan shows what a sorted dict would."""
        rows = sorted((key, value) for key, value in self.staged.items() if start <= key < end)
        rows = rows[::-1] if reverse else rows
        assert self.store.scan(start, end, reverse=reverse, limit=limit) == rows[:limit]

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        """A read shows what is staged; the durable read what is durable."""
        assert self.store.get(key) == self.staged.get(key)
        assert self.store.get_durable(key) == self.durable.get(key)

    @invariant()
    def all_is_there(self) -> None:
        """Everything staged is readable, and nothing else."""
        if hasattr(self, "store"):
            assert dict(self.store.scan_prefix(b"\x04")) == self.staged

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.loop.run_until_complete(self.store.close())
            problems = [problem for problem in check(self.path) if problem.kind != "orphan"]
            assert problems == []
            self.loop.close()
            shutil.rmtree(self.folder)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
