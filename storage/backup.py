"""Hot backup: a compacted copy of a folder while its owner goes on.

The copy is one snapshot: exactly what was durable at one moment, without the free pages.  While it is made
the owner can't use freed pages anew, so a busy owner's file grows meanwhile.

Promises
  * The destination is there in full and on disk, or not at all: it is made under another name, synced, and
    renamed.
  * Nothing is overwritten.
  * It opens as any other folder.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import uuid
from pathlib import Path

import lmdb

from .environment import DATA_NAME, Environment, sync_file, sync_folder
from .errors import FolderRefused, StorageError


async def backup(environment: Environment, destination: str | os.PathLike[str]) -> Path:
    """Copy the folder to the new folder `destination` in a thread; returns its path.

    A runtime that closes meanwhile waits for the copy.  A cancelled call leaves the copy to end by itself.
    Raises `FolderRefused` when the destination exists or can't be made, `StorageError` when copying failed.
    """
    return await asyncio.to_thread(backup_now, environment, destination)


def backup_now(environment: Environment, destination: str | os.PathLike[str]) -> Path:
    """`backup` for code that may wait."""
    target = Path(os.path.abspath(destination))
    _refuse_existing(target)
    aside = target.parent / f".{target.name}.{uuid.uuid4().hex}.partial"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir(mode=0o700)
    except OSError as error:
        raise FolderRefused(f"the backup {target} can't be made: {error.strerror or error}") from error
    try:
        file = aside / DATA_NAME
        with environment.long_read("a backup"):
            environment.lmdb.copy(str(file), compact=True)
        file.chmod(0o600)
        sync_file(file)
        sync_folder(aside)
        _refuse_existing(target)  # an empty folder made since then would be replaced by the rename
        aside.rename(target)
        sync_folder(target.parent)
    except (lmdb.Error, OSError) as error:
        raise StorageError(
            f"copying {environment.path} to {target} failed: {error}; nothing is left of it"
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise FolderRefused(f"{target} exists; a backup never overwrites anything: choose a new name")
