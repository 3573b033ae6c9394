"""A runtime's own blobs: contents as files beside the store, names as rows in it.

    put -> file aside, synced -> renamed to its digest -> the name, a commit -> durable

A crash between file and name leaves a content that no name shows: garbage, which is collected when the folder
is opened again.  So is what deleting and replacing leave, at once.

Invariants
  * A content is removed only when it is durable that no name shows it, and no `put` is on its way to name it.
    Both are looked at in one section without a wait (`_drop`).
  * A name that shows a content without a file is `Damaged`.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections import Counter as Tally
from collections.abc import AsyncGenerator, Iterable
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final

from ...runtime.clock import moment
from ...storage.content_folder import ContentFolder, SealedContent
from ...storage.errors import Damaged, HoldfastError
from ..errors import BlobNotFound
from .blob_names import NAMES_KEY, BlobNames, BlobRow
from .blobs import (
    DEFAULT_TYPE,
    MAX_BLOB_BYTES,
    MAX_LISTED,
    PART_BYTES,
    BlobInfo,
    Blobs,
    Source,
    check_limit,
    check_name,
    check_prefix,
    check_type,
    parts_of,
    range_of,
)

if TYPE_CHECKING:
    from ...runtime.system import ActorSystem

FOLDER_NAME: Final = "blobs"
# Contents that are looked at in one turn while garbage is collected.
_PAGE: Final = 200
_log = logging.getLogger("holdfast.blobs")


class LocalBlobs(Blobs):
    """The blobs of one runtime."""

    def __init__(self, system: ActorSystem) -> None:
        """Nothing is touched before the first `put`, or `start`."""
        self._system = system
        self._folder = ContentFolder(os.path.join(system.path, FOLDER_NAME))
        # Contents that a `put` is about to name.
        self._pinned: Tally[str] = Tally()
        # Contents that somebody is about to remove, unless a `put` comes first.
        self._doomed: set[str] = set()
        self._stopped = False

    # -- the interface -------------------------------------------------------------------------------------

    async def put(
        self,
        name: str,
        data: Source,
        *,
        content_type: str = DEFAULT_TYPE,
        max_bytes: int = MAX_BLOB_BYTES,
    ) -> BlobInfo:
        """See `Blobs.put`."""
        check_name(name)
        check_type(content_type)
        self._system.check_open()
        sealed = await self._write(name, data, max_bytes)
        self._pinned[sealed.digest] += 1
        self._doomed.discard(sealed.digest)
        try:
            await asyncio.to_thread(self._folder.place, sealed)
            assigned = await self._names().assign(name, sealed.digest, sealed.size_bytes, content_type)
            await self._durable()
        except BaseException:
            self._folder.discard(sealed)
            raise
        finally:
            self._pinned[sealed.digest] -= 1
            if not self._pinned[sealed.digest]:
                del self._pinned[sealed.digest]
        if assigned.replaced is not None:
            await self._drop([assigned.replaced])
        return _info(name, assigned.row)

    async def _write(self, name: str, data: Source, max_bytes: int) -> SealedContent:
        writer = await asyncio.to_thread(self._folder.begin)
        try:
            async for part in parts_of(name, data, max_bytes):
                await asyncio.to_thread(writer.write, part)
            return await asyncio.to_thread(writer.seal)
        except BaseException:
            writer.discard()
            raise

    async def stream(self, name: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """See `Blobs.stream`; a whole content is compared with its digest, at the end."""
        row, file = await self._open(name)
        with file:
            first, stop = range_of(_info(name, row), start, end)
            whole = hashlib.sha256() if (first, stop) == (0, row.size_bytes) else None
            file.seek(first)
            while first < stop:
                part = await asyncio.to_thread(file.read, min(PART_BYTES, stop - first))
                if not part:
                    raise Damaged(f"blob {name!r}: its content {row.digest} is cut off at {first} bytes")
                first += len(part)
                if whole is not None:
                    whole.update(part)
                    if first == stop and whole.hexdigest() != row.digest:
                        raise Damaged(
                            f"blob {name!r}: its content {row.digest} is not what was written; restore it "
                            f"from a backup"
                        )
                yield part

    async def _open(self, name: str) -> tuple[BlobRow, BinaryIO]:
        missing: str | None = None
        while True:
            row = await self._row(name)
            if row.digest == missing:
                raise Damaged(
                    f"blob {name!r}: its content {missing} is not in {self._folder.path}; restore it from a "
                    f"backup"
                )
            try:
                return row, await asyncio.to_thread(self._folder.open, row.digest)
            except FileNotFoundError:
                missing = row.digest  # replaced meanwhile, perhaps: look again

    async def info(self, name: str) -> BlobInfo:
        """See `Blobs.info`."""
        return _info(name, await self._row(name))

    async def _row(self, name: str) -> BlobRow:
        row = await self._names().find(check_name(name))
        if row is None:
            raise BlobNotFound(f"{self._system.path} has no blob {name!r}")
        return row

    async def delete(self, name: str) -> bool:
        """See `Blobs.delete`; the content goes with the last name that shows it."""
        digest = await self._names().remove(check_name(name))
        if digest is None:
            return False
        await self._durable()
        await self._drop([digest])
        return True

    async def list(self, prefix: str = "", *, after: str = "", limit: int = MAX_LISTED) -> list[BlobInfo]:
        """See `Blobs.list`."""
        check_prefix(prefix)
        check_prefix(after)
        rows = await self._names().select(prefix, after, check_limit(limit))
        return [_info(name, row) for name, row in rows.items()]

    # -- garbage -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The runtime opens: clear what a crash left, and collect garbage beside the rest of the work."""
        if self._folder.exists():
            self._folder.clear_aside()
            self._system.spawn(self._collect_at_opening(), "collecting unused blobs")

    def stop(self) -> None:
        """The runtime closes: collect no more."""
        self._stopped = True

    async def _collect_at_opening(self) -> None:
        try:
            await self.collect()
        except HoldfastError as error:
            if not self._stopped:
                _log.warning("unused blobs could not be collected: %s", error)

    async def collect(self) -> int:
        """Remove all contents that no name shows; how many.  It is done at each opening, too."""
        removed = 0
        digests = self._folder.digests()
        while not self._stopped and (page := await asyncio.to_thread(_page, digests)):
            removed += await self._drop(page)
        return removed

    async def _drop(self, digests: Iterable[str]) -> int:
        """Remove those contents that nobody needs."""
        doomed = [one for one in digests if one not in self._pinned]
        self._doomed.update(doomed)
        unused = await self._names().unused(doomed)
        await self._durable()
        # From here on without a wait: a `put` of the same content comes before, and then it is not doomed any
        # more, or behind, and then it places its file again.
        dropped = [one for one in unused if one in self._doomed and one not in self._pinned]
        self._doomed.difference_update(doomed)
        for digest in dropped:
            self._folder.remove(digest)
        return len(dropped)

    # -- helpers -------------------------------------------------------------------------------------------

    def _names(self) -> BlobNames:
        return self._system.get(BlobNames, NAMES_KEY)

    async def _durable(self) -> None:
        """Wait for what was staged: a turn or a run's own code gets replies before they are durable."""
        store = self._system.store
        await store.wait_durable(store.newest)


def _page(digests: Iterable[str]) -> list[str]:
    return list(islice(digests, _PAGE))


def _info(name: str, row: BlobRow) -> BlobInfo:
    return BlobInfo(name, row.size_bytes, row.content_type, moment(row.changed_ms), row.digest)
