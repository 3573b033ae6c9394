"""storage/reader_watch.py: who keeps a snapshot while commits go on is told, killed readers are cleared."""

from __future__ import annotations

import logging
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import lmdb
import pytest

from holdfast.storage import check as check_module
from holdfast.storage.backup import backup_now
from holdfast.storage.check import check
from holdfast.storage.commit_log import DURABLE, LmdbCommitLog
from holdfast.storage.environment import DATA_NAME, Environment
from holdfast.storage.reader_watch import MAX_SNAPSHOT_SECONDS, ReaderWatch
from holdfast.storage.store import Store
from holdfast.storage.values import open_value
from tests.storage.helpers import start_child, storage_key

READER = """
import sys
from holdfast.storage.environment import Environment
env = Environment(sys.argv[1], read_only=True).lmdb
reads = [env.begin() for _ in range(int(sys.argv[2]))]
print("reading", flush=True)
sys.stdin.read()
"""


class Committing:
    """A store whose commits are made by hand, by a clock of the test's."""

    def __init__(self, path: Path) -> None:
        self.seconds = 0.0
        self.file = path / DATA_NAME
        self.turn = 0
        self.environment = Environment(path)
        self.log = LmdbCommitLog(self.environment, now=lambda: self.seconds)
        self.commit(pause_seconds=0)

    def commit(self, pause_seconds: float) -> None:
        """Rewrite a part of the keys after a pause."""
        self.seconds += pause_seconds
        self.turn += 1
        keys = [storage_key(b"%04d" % n) for n in range(self.turn % 10, 1000, 10)]
        assert self.log.commit(dict.fromkeys(keys, bytes(100)), lambda: None) == DURABLE

    def growth_bytes(self, commits: int) -> int:
        """By how much the file grows over so many commits, ten a second."""
        before = self.file.stat().st_size
        for _ in range(commits):
            self.commit(0.1)
        return self.file.stat().st_size - before

    def store(self) -> Store:
        """The reading side of a store, over this environment."""
        store = object.__new__(Store)
        store.environment = self.environment
        store._begin = self.environment.lmdb.begin
        return store


@pytest.fixture
def committing(tmp_path: Path) -> Iterator[Committing]:
    made = Committing(tmp_path / "data")
    yield made
    made.environment.close()


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """What was logged so far: level and text."""
    caplog.set_level(logging.INFO, "holdfast.storage")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


Told = Callable[[], list[tuple[str, str]]]


@pytest.fixture
def start_reader(committing: Committing) -> Iterator[Callable[[int], subprocess.Popen[str]]]:
    """Starts another process that holds read transactions; it ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(reads: int = 1) -> subprocess.Popen[str]:
        child = start_child(READER, committing.environment.path, reads)
        started.append(child)
        assert child.stdout is not None
        assert child.stdout.readline() == "reading\n"
        return child

    yield start
    for child in started:
        child.kill()
        child.communicate()


StartReader = Callable[[int], "subprocess.Popen[str]"]


# -- telling -------------------------------------------------------------------------------------------------


def test_an_old_view_is_told_once_with_its_stack(committing: Committing, told: Told) -> None:
    """A view that stays open over commits is a warning that names the code that began it."""
    with committing.store().durable_view() as view:
        committing.commit(0.5)
        assert told() == []
        committing.commit(MAX_SNAPSHOT_SECONDS)
        committing.commit(60)
        assert view.read(storage_key(b"0001")) is not None
    [(level, text)] = told()
    assert level == "WARNING"
    assert "a view has been open for 1.0 s while commits were made" in text
    assert "in test_an_old_view_is_told_once_with_its_stack" in text
    assert "with committing.store().durable_view() as view:" in text
    assert committing.environment.open_views == set()


def test_views_that_end_are_not_told(committing: Committing, told: Told) -> None:
    """Views that end before a second is over are not told, however often they come."""
    store = committing.store()
    for _ in range(20):
        with store.durable_view():
            committing.commit(MAX_SNAPSHOT_SECONDS / 2)
            committing.commit(MAX_SNAPSHOT_SECONDS / 4)
    assert told() == []


def test_only_missed_commits_make_a_snapshot_old(committing: Committing, told: Told) -> None:
    """A snapshot costs nothing while nobody commits, so its age counts from the first commit it misses."""
    with committing.environment.lmdb.begin():
        committing.commit(1000)
        committing.commit(MAX_SNAPSHOT_SECONDS - 0.1)
        assert told() == []
        committing.commit(0.3)
        assert len(told()) == 1


def test_two_reads_of_one_commit_are_not_taken_for_one(committing: Committing, told: Told) -> None:
    """Short reads of the same commit look alike in the table; only one that missed a commit is surely one."""
    watch = ReaderWatch(committing.environment, now=lambda: committing.seconds)
    with committing.environment.lmdb.begin():
        watch.look()
    committing.seconds += 1000
    with committing.environment.lmdb.begin():
        committing.commit(0)
        watch.look()
    assert told() == []


def test_a_bare_transaction_is_told(committing: Committing, told: Told) -> None:
    """A read transaction that nobody has a name for is a warning too."""
    with committing.environment.lmdb.begin():
        committing.commit(0.5)
        committing.commit(MAX_SNAPSHOT_SECONDS)
    [(level, text)] = told()
    assert level == "WARNING"
    assert "a read transaction of this process has been open" in text


def test_a_long_read_is_told_by_its_name(committing: Committing, told: Told) -> None:
    """A backup may take long: that its snapshot is old is told by name, and is no warning."""
    with committing.environment.long_read("a backup"), committing.environment.lmdb.begin():
        committing.commit(0.5)
        committing.commit(MAX_SNAPSHOT_SECONDS)
    [(level, text)] = told()
    assert level == "INFO"
    assert "a backup has kept a snapshot for 1.0 s" in text


def test_a_view_beside_a_long_read_is_a_warning(committing: Committing, told: Told) -> None:
    """A backup excuses its own snapshot only."""
    with committing.environment.long_read("a backup"), committing.environment.lmdb.begin():
        committing.commit(0.5)
        with committing.store().durable_view():
            committing.commit(0.5)
            committing.commit(MAX_SNAPSHOT_SECONDS)
    assert [level for level, _ in told()] == ["INFO", "WARNING"]


def test_backup_and_check_have_names(
    committing: Committing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both say who they are while they hold a snapshot, and not afterwards."""
    environment, seen = committing.environment, set[str | None]()
    real = environment.lmdb

    def copy(path: str, *, compact: bool) -> None:
        seen.add(environment.long_reader)
        real.copy(path, compact=compact)

    def open_and_look(key: bytes, stored: bytes | memoryview) -> bytes:
        seen.add(environment.long_reader)
        return open_value(key, stored)

    monkeypatch.setattr(check_module, "open_value", open_and_look)
    check(environment)
    monkeypatch.setattr(environment, "lmdb", SimpleNamespace(copy=copy))
    backup_now(environment, tmp_path / "copy")
    monkeypatch.undo()
    assert seen == {"a check", "a backup"}
    assert environment.long_reader is None


def test_another_process_is_told_by_its_pid(
    committing: Committing, told: Told, start_reader: StartReader
) -> None:
    """A reader in another process, such as one that was stopped, is a warning with its pid."""
    child = start_reader(1)
    committing.commit(0.5)
    committing.commit(MAX_SNAPSHOT_SECONDS)
    [(level, text)] = told()
    assert level == "WARNING"
    assert f"process {child.pid} has kept a snapshot for 1.0 s" in text


def test_a_table_that_cannot_be_read_harms_no_commit(tmp_path: Path, told: Told) -> None:
    """The commit before the look is durable, whatever the look finds."""

    def refuse() -> int:
        raise lmdb.Error("the test refuses")

    environment = SimpleNamespace(path=tmp_path, lmdb=SimpleNamespace(reader_check=refuse))
    ReaderWatch(cast("Environment", environment)).look()
    assert told() == [("WARNING", f"{tmp_path}: the table of readers can't be read: the test refuses")]


# -- growth --------------------------------------------------------------------------------------------------


def test_a_killed_reader_does_not_make_the_file_grow(
    committing: Committing, told: Told, start_reader: StartReader
) -> None:
    """A living reader holds freed pages back; killed, its snapshot is cleared and pages are used anew."""
    committing.growth_bytes(50)
    child = start_reader(1)
    held = committing.growth_bytes(50)
    assert held > 1 << 20  # else the rest shows nothing
    child.send_signal(signal.SIGKILL)
    child.wait()
    committing.growth_bytes(5)  # until the next look
    assert committing.growth_bytes(200) == 0
    assert told()[-1] == ("INFO", f"{committing.environment.path}: cleared 1 places of killed readers")


def test_opening_for_reading_clears_killed_readers(committing: Committing, start_reader: StartReader) -> None:
    """Killed readers don't fill LMDB's table while nobody commits: the next one to open clears them."""
    child = start_reader(100)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert pids_of_readers(committing.environment).count(child.pid) == 100
    start_reader(100)
    assert child.pid not in pids_of_readers(committing.environment)


def pids_of_readers(environment: Environment) -> list[int]:
    """Who has the places in LMDB's table of readers."""
    return [int(line.split()[0]) for line in environment.lmdb.readers().splitlines()[1:]]
