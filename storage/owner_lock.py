"""The owner's lock: one process owns a folder, and says who it is.

Taken before anything else is looked at.  Two kernel locks (`flock`) are held: one on `owner.lock`, which
names the owner's pid, and one on the data file itself, so that deleting the lock file does not let a second
owner in.  The kernel drops both when the process ends, however it ends.

Promises
  * A second opener is refused at once, with the pid of the owner.
  * A folder on a network file system is refused: locks and memory maps can't be trusted there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from .errors import FolderInUse, FolderRefused

LOCK_NAME: Final = "owner.lock"
_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "fuse.sshfs"}
)


class OwnerLock:
    """Both locks of one folder, held until `release`."""

    def __init__(self, folder: Path) -> None:
        """Take the folder's own lock; raises `FolderInUse` or `FolderRefused`."""
        refuse_network(folder)
        self._folder = folder
        self._fds: list[int] = []
        fd = self._open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
        self._flock(fd, lambda: owner_pid(folder))
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)

    def lock_data(self, data_file: Path) -> None:
        """Take the second lock, on the data file; raises `FolderInUse`."""
        fd = self._open(data_file, os.O_RDONLY)
        # The lock file, which was ours for the taking, has our own pid by now: ask the system who it is.
        self._flock(fd, lambda: _flock_holder(fd))

    def release(self) -> None:
        """Give both locks back; calling it again does nothing."""
        while self._fds:
            os.close(self._fds.pop())

    def _open(self, file: Path, flags: int, mode: int = 0) -> int:
        try:
            fd = os.open(file, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        except OSError as error:
            raise FolderRefused(f"{file} can't be opened: {error.strerror or error}") from error
        self._fds.append(fd)
        return fd

    def _flock(self, fd: int, find_owner: Callable[[], int | None]) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = find_owner()
            self.release()
            by = f"process {owner}" if owner is not None else "another process"
            if owner == os.getpid():
                by = f"another runtime of this process ({owner})"
            raise FolderInUse(
                f"folder {self._folder} is in use by {by}; one runtime owns a folder at a time: "
                f"stop that one or choose another folder"
            ) from None


def owner_pid(folder: Path) -> int | None:
    """The pid that the lock file names, whether or not that process lives."""
    try:
        text = (folder / LOCK_NAME).read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def living_owner(folder: Path) -> int | None:
    """The process that owns a folder now; None for nobody, or where the system doesn't tell.

    Nothing is locked for that.
    """
    try:
        fd = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _flock_holder(fd)
    finally:
        os.close(fd)


def _flock_holder(fd: int, locks_file: Path = Path("/proc/locks")) -> int | None:
    """The process that holds a `flock` on this file, where the system tells."""
    inode = os.fstat(fd).st_ino
    try:
        lines = locks_file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split()  # "12: FLOCK  ADVISORY  WRITE 3456 fd:00:789 0 EOF"
        if (
            len(fields) > 5
            and fields[1] == "FLOCK"
            and fields[5].endswith(f":{inode}")
            and fields[4].isdecimal()
        ):
            return int(fields[4]) or None
    return None


def refuse_network(folder: Path, mounts_file: Path = Path("/proc/self/mounts")) -> None:
    """Raise `FolderRefused` when `folder` lies on a network file system (where the system tells)."""
    try:
        lines = mounts_file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return  # no such table here (macOS): nothing is known, so nothing is refused
    resolved = str(folder.resolve())
    best, kind = "", ""
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = fields[1].replace("\\040", " ")
        inside = resolved == mount or resolved.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, fields[2]
    if kind in _NETWORK_FILE_SYSTEMS:
        raise FolderRefused(
            f"folder {folder} lies on a network file system ({kind} at {best}), whose locks and memory maps "
            f"can't be trusted; use a local disk"
        )
