"""The LMDB environment of a folder: created whole or not at all, opened only when everything about it fits.

First thing of a runtime and last thing it lets go.  A folder holds

    owner.lock      who owns it (owner_lock.py)
    data.mdb        everything; its format stamp is `layout.META_FORMAT`
    data.mdb-lock   LMDB's table of readers

Promises
  * A crash while the folder is being created leaves nothing that later stands in the way: the file is made
    under another name, synced, renamed, and the folder is synced (LMDB never syncs folders).
  * A file that is cut off, has another format or other rights is refused with a sentence, before LMDB would
    crash on it.
  * A forked child can't use the environment (LMDB would let it write).
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import lmdb
import msgspec

from . import layout
from .errors import Damaged, FolderRefused, ForkedProcess, FormatRefused, StorageClosed, StorageError, fresh
from .file_length import refuse_cut_off
from .owner_lock import OwnerLock
from .values import open_value, seal_value

if TYPE_CHECKING:
    from .reader_watch import OpenView

DATA_NAME: Final = "data.mdb"
_CREATING: Final = "data.mdb.creating"
_MAP_BYTES: Final = 1 << 40  # address space, not disk; halved until the system grants it
_MIN_MAP_BYTES: Final = 1 << 30
# Engine 0.9 (1.0 can't be read by older tools); a new environment would otherwise follow an environment
# variable.
_LMDB_ENGINE: Final = 0

_environments: weakref.WeakSet[Environment] = weakref.WeakSet()


class Environment:
    """An open LMDB environment with its locks."""

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False, sync: bool = True) -> None:
        """`read_only` opens beside a living owner and takes no lock.

        Without `sync` nothing survives a power cut, only the death of the process: for simulations.

        Raises `FolderInUse`, `FolderRefused`, `FormatRefused` or `Damaged`.
        """
        self.path = Path(path)
        self.read_only = read_only
        self._sync = sync
        # Why it can't be used any more; None while it can.
        self.refusal: StorageError | None = None
        # Held by a backup or a check in another thread while it uses the file; `close` waits for it.
        self._long_read = threading.Lock()
        # What holds it, for the watch over old readers.
        self.long_reader: str | None = None
        # Views that are open at this moment.
        self.open_views: set[OpenView] = set()
        self._lock: OwnerLock | None = None
        if read_only:
            if not (self.path / DATA_NAME).is_file():
                raise FolderRefused(f"folder {self.path} holds no store (no {DATA_NAME} in it)")
        else:
            _prepare_folder(self.path)
            self._lock = OwnerLock(self.path)
        try:
            if not read_only and not os.path.lexists(self.path / DATA_NAME):
                try:
                    _create(self.path)
                except (OSError, lmdb.Error) as error:
                    raise FolderRefused(f"no store can be made in {self.path}: {error}") from error
            if self._lock is not None:
                self._lock.lock_data(self.path / DATA_NAME)
            self.lmdb = self._open()
        except BaseException:
            if self._lock is not None:
                self._lock.release()
            raise
        _environments.add(self)

    def _open(self) -> lmdb.Environment:
        file = self.path / DATA_NAME
        found = os.stat(file, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise FolderRefused(f"{file} is no plain file; links and devices are not followed")
        size = found.st_size
        if size == 0:  # LMDB would make a new store of it
            raise Damaged(f"{file} is empty; restore it from a backup")
        try:
            env = _open_lmdb(file, read_only=self.read_only, sync=self._sync)
        except lmdb.Error as error:
            if isinstance(error, (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError)):
                raise Damaged(
                    f"{file} ({size} bytes) is not a whole LMDB file: {error}; restore it from a backup"
                ) from error
            raise FolderRefused(f"{file} can't be opened: {error}; check the rights of the folder") from error
        try:
            # By readers too: an owner that commits nothing clears nothing, and the table has 126 places.
            env.reader_check()
            refuse_cut_off(env, file)
            _check_format(env, file)
        except lmdb.Error as error:
            env.close()
            raise Damaged(f"{file} is damaged: {error}; restore it from a backup") from error
        except BaseException:
            env.close()
            raise
        return env

    @property
    def map_bytes(self) -> int:
        """What the store can grow to: address space, not disk."""
        return int(self.lmdb.info()["map_size"])

    def check_usable(self) -> None:
        """Raise the reason why the environment can't be used, if there is one."""
        if self.refusal is not None:
            raise fresh(self.refusal)

    def translate(self, error: lmdb.Error) -> StorageError:
        """What a failed read of LMDB's means."""
        if self.refusal is not None:
            return fresh(self.refusal)
        if isinstance(error, lmdb.PanicError):
            return StorageClosed(
                f"{self.path}: the store closed itself after a commit of unknown outcome: {error}"
            )
        if isinstance(error, (lmdb.CorruptedError, lmdb.PageNotFoundError)):
            return Damaged(f"{self.path} is damaged: {error}; restore it from a backup")
        return StorageError(f"{self.path}: reading failed: {error}")

    @contextlib.contextmanager
    def long_read(self, name: str) -> Generator[None]:
        """Around what may keep a snapshot for long, in a thread of its own: a backup or a check.

        One at a time; `close` waits for it.  Raises the reason why the environment can't be used.
        """
        with self._long_read:
            self.check_usable()
            self.long_reader = name
            try:
                yield
            finally:
                self.long_reader = None

    def close(self) -> None:
        """Close it and give the folder back; calling it again does nothing."""
        if isinstance(self.refusal, (StorageClosed, ForkedProcess)):
            return
        self.refusal = StorageClosed(f"the store in {self.path} is closed")
        with self._long_read:
            self.lmdb.close()
        if self._lock is not None:
            self._lock.release()

    def refuse_child(self) -> None:
        """Make a forked child's copy of this object useless, and let go of the locks that it inherited."""
        self.refusal = ForkedProcess(
            f"process {os.getpid()} was forked from the owner of {self.path} and may not use its store; "
            "start workers with 'spawn', or open the store only after forking"
        )
        # A child that outlives its parent would keep the folder locked.  Closing its copies unlocks nothing
        # now.
        if self._lock is not None:
            self._lock.release()


def _prepare_folder(path: Path) -> None:
    try:
        if not path.exists():
            path.mkdir(mode=0o700, parents=True)
            sync_folder(path.parent)
        mode = path.stat().st_mode
        if not stat.S_ISDIR(mode):
            raise FolderRefused(f"{path} is not a folder")
        if mode & stat.S_IWOTH:
            raise FolderRefused(
                f"folder {path} is writable by everybody ({stat.filemode(mode)}); chmod it to 0700"
            )
        if not os.access(path, os.W_OK | os.X_OK) or os.statvfs(path).f_flag & os.ST_RDONLY:
            raise FolderRefused(f"folder {path} is read-only; a runtime must be able to write there")
        if not (path / DATA_NAME).exists():
            foreign = sorted(entry for entry in os.listdir(path) if not _is_ours(entry))
            if foreign:
                raise FolderRefused(
                    f"folder {path} holds other files ({', '.join(foreign[:3])}) and no store; use an empty "
                    f"folder"
                )
    except OSError as error:
        raise FolderRefused(f"folder {path} can't be used: {error.strerror or error}") from error


def _is_ours(name: str) -> bool:
    return name.startswith(DATA_NAME) or name == "owner.lock"


def _create(folder: Path) -> None:
    aside = folder / _CREATING
    for leftover in (aside, Path(f"{aside}-lock")):
        with contextlib.suppress(FileNotFoundError):
            leftover.unlink()
    env = _open_lmdb(aside, read_only=False)
    try:
        with env.begin(write=True) as txn:
            stamp = msgspec.msgpack.encode(layout.FORMAT)
            txn.put(layout.META_FORMAT, seal_value(layout.META_FORMAT, stamp))
    finally:
        env.close()
    Path(f"{aside}-lock").unlink()
    sync_file(aside)
    aside.rename(folder / DATA_NAME)
    sync_folder(folder)


def _open_lmdb(file: Path, *, read_only: bool, sync: bool = True) -> lmdb.Environment:
    map_bytes = _MAP_BYTES
    while True:
        try:
            return lmdb.open(
                str(file),
                subdir=False,
                map_size=map_bytes,
                readonly=read_only,
                sync=sync,
                max_spare_txns=4,
                mode=0o600,
                lib_version=_LMDB_ENGINE,
            )
        except lmdb.MemoryError:
            map_bytes //= 2
            if map_bytes < _MIN_MAP_BYTES:
                raise


def _check_format(env: lmdb.Environment, file: Path) -> None:
    with env.begin() as txn:
        raw = txn.get(layout.META_FORMAT)
    if raw is None:
        raise FormatRefused(f"{file} has no format stamp: it was not made by Holdfast")
    try:
        stamp = msgspec.msgpack.decode(open_value(layout.META_FORMAT, raw), type=int)
    except msgspec.MsgspecError as error:
        raise Damaged(f"{file}: the format stamp is damaged; restore the file from a backup") from error
    if stamp > layout.FORMAT:
        raise FormatRefused(
            f"{file} is in format {stamp}, this version reads up to {layout.FORMAT}; use a newer version of "
            f"Holdfast"
        )


def sync_file(file: Path) -> None:
    """Flush a file to the disk."""
    _sync(file, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Flush a folder's own list of names to the disk."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _refuse_after_fork() -> None:
    for environment in list(_environments):
        environment.refuse_child()


os.register_at_fork(after_in_child=_refuse_after_fork)
