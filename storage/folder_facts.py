"""What can be told of a folder and its disk without reading what is stored: for `holdfast doctor`."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from typing import Final

import lmdb
import msgspec

from . import layout
from .environment import Environment
from .keys import next_prefix
from .owner_lock import living_owner
from .reader_watch import read_table

# Late alarms that are counted, and how late they are at least.
MAX_COUNTED: Final = 10_000
LATE_SECONDS: Final = 10.0
_SYNCS: Final = 5
_SYNCED_BYTES: Final = 4096


class FolderFacts(msgspec.Struct, frozen=True):
    """A folder at one moment."""

    owner_pid: int | None
    """The process that has it open; None for nobody, or where the system doesn't tell."""
    mode: int
    """The rights of the folder."""
    file_bytes: int
    used_bytes: int
    """Live pages of the store."""
    map_bytes: int
    """What it can grow to at most."""
    free_bytes: int
    disk_bytes: int
    keys: int
    late_alarms: int
    """Alarms that are due since `LATE_SECONDS` or longer, at most 10 000."""
    oldest_due_ms: int | None
    stale_readers: dict[int, int]
    """Processes that keep a snapshot, and how many commits it is behind."""
    sync_seconds: float | None
    """Median of flushing 4 KiB to this disk; None where nothing can be written."""


def folder_facts(environment: Environment, now_ms: int) -> FolderFacts:
    """Raises `Damaged` when the file can't be read."""
    env, path = environment.lmdb, environment.path
    try:
        info, stat = env.info(), env.stat()
        late, oldest = _late_alarms(env, now_ms)
        newest: int = info["last_txnid"]
        readers = read_table(env.readers())
    except lmdb.Error as error:
        raise environment.translate(error) from error
    disk = os.statvfs(path)
    pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    return FolderFacts(
        living_owner(path),
        os.stat(path).st_mode & 0o777,
        (path / "data.mdb").stat().st_size,
        pages * stat["psize"],
        info["map_size"],
        disk.f_bavail * disk.f_frsize,
        disk.f_blocks * disk.f_frsize,
        stat["entries"],
        late,
        oldest,
        {one.pid: newest - one.snapshot for one in readers if one.snapshot < newest},
        _sync_seconds(path),
    )


def _late_alarms(env: lmdb.Environment, now_ms: int) -> tuple[int, int | None]:
    """How many, and the due time of the first of all alarms."""
    late, oldest = 0, None
    end = layout.DUE + layout.time_bytes(now_ms - round(LATE_SECONDS * 1000))
    with env.begin() as txn, txn.cursor() as cursor:
        if cursor.set_range(layout.DUE):
            for raw in cursor.iternext(values=False):
                key = bytes(raw)
                if oldest is None and key < (next_prefix(layout.DUE) or b""):
                    oldest = int.from_bytes(key[1:9], "big")
                if key >= end or late >= MAX_COUNTED:
                    break
                late += 1
    return late, oldest


def _sync_seconds(path: os.PathLike[str]) -> float | None:
    taken: list[float] = []
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=path) as file:
        for _ in range(_SYNCS):
            file.write(bytes(_SYNCED_BYTES))
            file.flush()
            begin = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - begin)
    return sorted(taken)[len(taken) // 2] if taken else None
