"""P4: what was acknowledged survives kill -9; what was not is wholly there or wholly absent.

A child writes through a store and reports each acknowledgement on a pipe.  It is killed after 10 to 250 ms;
the folder is opened at once and compared with what the pipe says.  Each write set holds several keys, a
rising number and its own digest, so a missing, torn or stale one shows.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import threading
from pathlib import Path

import pytest

from holdfast.storage.check import check
from holdfast.storage.keys import encode_number
from holdfast.storage.store import Store
from tests.storage.helpers import open_store, start_child, storage_key

WRITERS = 8
KEYS_EACH = 4

CHILD = """
import asyncio, hashlib, os, sys
from holdfast.storage.store import Store
from tests.promises.test_p4_kill_nine import KEYS_EACH, WRITERS, write_set

async def write(store, writer, turn):
    while True:
        turn += 1
        number = store.stage(write_set(writer, turn))
        os.write(1, b"s%d %d\\n" % (writer, turn))
        await store.wait_durable(number)
        os.write(1, b"a%d %d\\n" % (writer, turn))

async def main():
    store = Store(sys.argv[1], min_free_bytes=0, max_batch_puts=12)
    store.next_actor_number = WRITERS + 1
    os.write(1, b"open\\n")
    starts = map(int, sys.argv[2].split(","))
    await asyncio.gather(*(write(store, writer, turn) for writer, turn in enumerate(starts)))

asyncio.run(main())
"""


def write_set(writer: int, turn: int) -> dict[bytes, bytes | None]:
    """One write set: the same turn under several keys, of sizes that need pages of their own now and then."""
    body = b"%d " % turn + hashlib.sha256(b"%d/%d" % (writer, turn)).digest() * (1 + turn % 7 * 20)
    writes: dict[bytes, bytes | None] = {storage_key(b"%d" % n, writer + 1): body for n in range(KEYS_EACH)}
    writes[storage_key(b"log%08d" % turn, writer + 1)] = b"%d" % turn
    if turn > 20:
        writes[storage_key(b"log%08d" % (turn - 20), writer + 1)] = None
    return writes


class Ledger:
    """The newest turn of each writer that was staged and that was acknowledged, as the pipe tells."""

    def __init__(self) -> None:
        self.staged = [0] * WRITERS
        self.acknowledged = [0] * WRITERS
        self.count = 0

    def read(self, line: str) -> None:
        book = {"s": self.staged, "a": self.acknowledged}[line[0]]
        writer, turn = map(int, line[1:].split())
        assert turn >= book[writer]
        book[writer] = turn
        self.count += line[0] == "a"


def kill_and_compare(path: Path, kills: int, seed: int) -> tuple[int, int]:
    """Kill a writing child again and again over one folder; returns acknowledged and unacknowledged but
    stored turns."""
    rng = random.Random(seed)
    stored = [0] * WRITERS
    acknowledged = extra = 0
    for _ in range(kills):
        ledger = Ledger()
        ledger.staged, ledger.acknowledged = list(stored), list(stored)
        child = start_child(CHILD, path, ",".join(map(str, stored)), env={"PYTHONPATH": os.getcwd()})
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        killer = threading.Timer(rng.uniform(0.010, 0.250), child.kill)
        killer.start()
        for line in child.stdout:
            if line.endswith("\n"):
                ledger.read(line)
        child.stdout.close()
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait() == -signal.SIGKILL
        killer.join()
        stored = asyncio.run(compare(path, ledger))
        acknowledged += ledger.count
        extra += sum(now - told for now, told in zip(stored, ledger.acknowledged, strict=True))
    problems = {problem.kind for problem in check(path)}
    assert problems <= {"orphan"}  # the test writes no addresses
    return acknowledged, extra


async def compare(path: Path, ledger: Ledger) -> list[int]:
    """Open the folder and compare it with the ledger; returns the turn that each writer came to."""
    found: list[int] = []
    async with open_store(path) as store:
        for writer in range(WRITERS):
            turn = stored_turn(store, writer)
            # Acknowledged is there; what is there was at least staged: an `s` may be lost with the pipe's
            # writer.
            assert ledger.acknowledged[writer] <= turn <= ledger.staged[writer] + 1
            expected = {key: value for key, value in write_set(writer, turn).items() if value is not None}
            if turn:
                for key, value in expected.items():
                    assert store.get(key) == value, f"writer {writer}: turn {turn} is torn"
            kept = [key for key, _ in store.scan_prefix(storage_key(b"log", writer + 1))]
            assert kept == [
                storage_key(b"log%08d" % n, writer + 1) for n in range(max(1, turn - 19), turn + 1)
            ]
            found.append(turn)
        assert store.durable > 0 or sum(found) == 0
    return found


def stored_turn(store: Store, writer: int) -> int:
    """The turn that the first key of a writer is in."""
    value = store.get(storage_key(b"0", writer + 1))
    return 0 if value is None else int(value.split(b" ", 1)[0])


def test_acknowledged_writes_survive_thirty_kills(tmp_path: Path) -> None:
    """Over 30 kills nothing acknowledged is lost and nothing is torn."""
    acknowledged, _ = kill_and_compare(tmp_path / "data", 30, seed=4)
    assert acknowledged > 1000
    assert encode_number(WRITERS) == b"\x01\x08"


@pytest.mark.slow
def test_acknowledged_writes_survive_two_hundred_kills(tmp_path: Path) -> None:
    """Over 200 kills nothing acknowledged is lost and nothing is torn."""
    acknowledged, _ = kill_and_compare(tmp_path / "data", 200, seed=9)
    assert acknowledged > 10_000
