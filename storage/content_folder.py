"""Files named after what is in them: the contents of blobs, beside the LMDB environment.

    begin -> write ... -> seal (flushed, digest known) -> place (renamed, folders flushed)

    aside/TOKEN        what is being written; nobody reads it
    3f/3fa9...         a whole content, under the SHA-256 of its bytes

Promises
  * A content is there in full and on disk, or not at all: it is written aside, synced, renamed, and the
    folders are synced.
  * What a crash left aside is removed by `clear_aside`, when nobody writes yet.

All of it waits for the disk, so it is for threads; `remove` alone is quick.  Who still needs which content
is not known here.
"""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from .environment import sync_file, sync_folder
from .errors import StorageError, StorageFull

_ASIDE: Final = "aside"
_DIGEST_CHARACTERS: Final = 64
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class ContentFolder:
    """Contents by their digests (64 hexadecimal characters)."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Nothing is touched before the first content is begun."""
        self.path = Path(path)

    def exists(self) -> bool:
        """Whether anything was ever begun here."""
        return self.path.is_dir()

    def clear_aside(self) -> int:
        """Remove what a crash left half-written; returns how many files.  Only while nobody writes."""
        removed = 0
        try:
            for entry in os.scandir(self.path / _ASIDE):
                os.unlink(entry.path)
                removed += 1
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self.failure("clearing what was left aside", error) from error
        return removed

    def begin(self) -> ContentWriter:
        """Begin a content; raises `StorageError`, or `StorageFull`."""
        aside = self.path / _ASIDE
        try:
            for folder in (self.path, aside):
                if not folder.is_dir():
                    folder.mkdir(mode=0o700, exist_ok=True)
                    sync_folder(folder.parent)
            return ContentWriter(self, aside / uuid.uuid4().hex)
        except OSError as error:
            raise self.failure("writing", error) from error

    def place(self, sealed: SealedContent) -> None:
        """Put a sealed content where its digest says; it is on disk when this returns.

        One that is there already is left as it is.
        """
        target = self.file(sealed.digest)
        try:
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self.path)
            if target.exists():
                sealed.aside.unlink()
            else:
                sealed.aside.rename(target)
            # Also for one that was there: who placed it may not have come so far yet.
            sync_folder(target.parent)
        except OSError as error:
            raise self.failure(f"placing {sealed.digest}", error) from error

    def discard(self, sealed: SealedContent) -> None:
        """Leave nothing aside of a content that is not placed; one that is placed stays."""
        sealed.aside.unlink(missing_ok=True)

    def open(self, digest: str) -> BinaryIO:
        """A content for reading; raises `FileNotFoundError`, or `StorageError`."""
        try:
            return open(self.file(digest), "rb", buffering=0)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self.failure(f"reading {digest}", error) from error

    def remove(self, digest: str) -> None:
        """Remove a content, if it is there.  Who has it open reads on."""
        try:
            self.file(digest).unlink(missing_ok=True)
        except OSError as error:
            raise self.failure(f"removing {digest}", error) from error

    def digests(self) -> Iterator[str]:
        """Every content that is here, folder by folder."""
        try:
            folders = sorted(entry.name for entry in os.scandir(self.path) if len(entry.name) == 2)
            for folder in folders:
                for name in sorted(os.listdir(self.path / folder)):
                    if len(name) == _DIGEST_CHARACTERS:
                        yield name
        except FileNotFoundError:
            return
        except OSError as error:
            raise self.failure("listing", error) from error

    def file(self, digest: str) -> Path:
        """Where a content lies."""
        return self.path / digest[:2] / digest

    def failure(self, what: str, error: OSError) -> StorageError:
        """What a failed call of the system means."""
        told = f"{self.path}: {what} failed: {error.strerror or error}"
        if error.errno in _FULL:
            return StorageFull(f"{told}; free some space")
        return StorageError(f"{told}; check the rights of the folder and the disk")


class SealedContent:
    """A content that is whole and on disk, but not placed yet."""

    __slots__ = ("aside", "digest", "size_bytes")

    def __init__(self, aside: Path, digest: str, size_bytes: int) -> None:
        self.aside = aside
        self.digest = digest
        self.size_bytes = size_bytes


class ContentWriter:
    """One content while it is written.  Each begun one is sealed or discarded."""

    __slots__ = ("_aside", "_file", "_folder", "_hash", "size_bytes")

    def __init__(self, folder: ContentFolder, aside: Path) -> None:
        self._folder = folder
        self._aside = aside
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(fd, "wb", buffering=0)
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, part: bytes) -> None:
        """Add a part; raises `StorageError`, or `StorageFull`."""
        self._hash.update(part)
        self.size_bytes += len(part)
        left = memoryview(part)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._folder.failure("writing", error) from error

    def seal(self) -> SealedContent:
        """All was written: make it durable, aside."""
        try:
            self._file.close()
            sync_file(self._aside)
        except OSError as error:
            raise self._folder.failure("writing", error) from error
        return SealedContent(self._aside, self._hash.hexdigest(), self.size_bytes)

    def discard(self) -> None:
        """Leave nothing of it; after `place` there is nothing left to do."""
        self._file.close()
        self._aside.unlink(missing_ok=True)
