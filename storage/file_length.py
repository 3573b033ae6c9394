"""Is a data file that is shorter than its own index says cut off?

LMDB never writes a page that was taken and given back within one commit, so after a commit that deletes a lot
the file may end before the last page it counts (in about one of fifty such commits, as measured).  That is no
damage: the missing pages are on the free list and nobody reads them.  A page that is missing and in use would
kill the process by a signal at its first read, so a file like that must be refused before.

The list is read with plain reads, not through the map.  Format: 0.9, 64 bits, little-endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import lmdb

from .errors import Damaged

_HEADER: Final = 16
_META_LAST_PAGE: Final = _HEADER + 24 + 2 * 48
_FREE_ROOT: Final = _HEADER + 24 + 40
_NO_PAGE: Final = (1 << 64) - 1
_BRANCH, _LEAF = 0x01, 0x02
_BIG_DATA: Final = 0x01
_MAX_DEPTH: Final = 32
_U16 = struct.Struct("<H")
_U64 = struct.Struct("<Q")
_NODE = struct.Struct("<HHHH")  # size or page: low, high; flags or page: top; key size


def refuse_cut_off(env: lmdb.Environment, file: Path) -> None:
    """Raise `Damaged` when a page that is in use lies behind the end of the file."""
    page_bytes: int = env.stat()["psize"]
    with env.begin() as txn:  # keeps the pages of its snapshot from being used anew by a living owner
        # The length last: a living owner may grow the file, and writes pages before it counts them.
        last_page = env.info()["last_pgno"]
        size = os.stat(file, follow_symlinks=False).st_size
        if size >= (last_page + 1) * page_bytes:
            return
        with open(file, "rb", buffering=0) as raw:
            try:
                missing = _missing_pages(_Pages(raw.fileno(), page_bytes), txn.id())
            except (struct.error, IndexError) as error:
                raise Damaged(
                    f"{file} is cut off inside its list of free pages; restore it from a backup"
                ) from error
    if missing:
        raise Damaged(
            f"{file} is cut off: it has {size} bytes, its own index needs {(last_page + 1) * page_bytes}; "
            "restore it from a backup"
        )


class _Pages:
    """Pages of a file by number."""

    def __init__(self, fd: int, page_bytes: int) -> None:
        self._fd = fd
        self.page_bytes = page_bytes

    def read(self, number: int, count: int = 1) -> bytes:
        data = os.pread(self._fd, count * self.page_bytes, number * self.page_bytes)
        if len(data) < count * self.page_bytes:
            raise IndexError(f"page {number} lies behind the end")
        return data

    def whole(self) -> int:
        """How many whole pages the file has."""
        return os.fstat(self._fd).st_size // self.page_bytes


def _missing_pages(pages: _Pages, snapshot: int) -> set[int]:
    """Pages behind the end of the file that aren't free for the snapshot (if it's gone, for the newest)."""
    metas = [pages.read(number) for number in (0, 1)]
    by_snapshot = {_U64.unpack_from(meta, _META_LAST_PAGE + 8)[0]: meta for meta in metas}
    meta = by_snapshot.get(snapshot) or by_snapshot[max(by_snapshot)]
    last_page: int = _U64.unpack_from(meta, _META_LAST_PAGE)[0]
    missing = set(range(pages.whole(), last_page + 1))
    root: int = _U64.unpack_from(meta, _FREE_ROOT)[0]
    if root != _NO_PAGE:
        for record in _records(pages, root, 0):
            count: int = _U64.unpack_from(record)[0]
            missing.difference_update(struct.unpack_from(f"<{count}Q", record, 8))
    return missing


def _records(pages: _Pages, number: int, depth: int) -> Iterator[bytes]:
    """The values of a tree whose keys don't matter."""
    page = pages.read(number)
    kind: int = _U16.unpack_from(page, 10)[0] & (_BRANCH | _LEAF)
    if _U64.unpack_from(page)[0] != number or kind not in (_BRANCH, _LEAF) or depth > _MAX_DEPTH:
        raise IndexError(f"page {number} is no page of a tree")
    nodes = (_U16.unpack_from(page, 12)[0] - _HEADER) // 2
    for index in range(nodes):
        at: int = _U16.unpack_from(page, _HEADER + 2 * index)[0]
        low, high, flags, key_bytes = _NODE.unpack_from(page, at)
        data = at + _NODE.size + key_bytes
        if kind == _BRANCH:
            yield from _records(pages, low | high << 16 | flags << 32, depth + 1)
            continue
        size = low | high << 16
        if flags & _BIG_DATA:
            first: int = _U64.unpack_from(page, data)[0]
            count = -(-(_HEADER + size) // pages.page_bytes)
            yield pages.read(first, count)[_HEADER : _HEADER + size]
        else:
            yield page[data : data + size]
