"""Which name shows which content: the names of a runtime's own blobs, an actor's storage.

    ("name", NAME)          -> the row
    ("use", DIGEST, NAME)   -> nothing; who needs a content

A name changes in one commit, with its entry of use.
"""

from __future__ import annotations

from typing import Final, cast

import msgspec

from ...runtime.actor import Actor
from ...runtime.methods import shared

NAMES_KEY: Final = "blobs"  # there is one list in a runtime
_NAME: Final = "name"
_USE: Final = "use"


class BlobRow(msgspec.Struct, frozen=True, array_like=True):
    """A blob, without its name."""

    digest: str
    size_bytes: int
    content_type: str
    changed_ms: int


class Assigned(msgspec.Struct, frozen=True, array_like=True):
    """What a name shows now, and the content that it showed before, where that was another one."""

    row: BlobRow
    replaced: str | None


class BlobNames(Actor):
    """Rows of blobs by name."""

    async def assign(self, name: str, digest: str, size_bytes: int, content_type: str) -> Assigned:
        """Let a name show a content.  The same again leaves the row as it is."""
        old = self.storage.get((_NAME, name), BlobRow)
        row = BlobRow(digest, size_bytes, content_type, self.runtime.clock.now_ms())
        if old is not None and (old.digest, old.content_type) == (digest, content_type):
            return Assigned(old, None)
        replaced = None if old is None or old.digest == digest else old.digest
        if replaced is not None:
            self.storage.delete((_USE, bytes.fromhex(replaced), name))
        self.storage.put((_NAME, name), row)
        self.storage.put((_USE, bytes.fromhex(digest), name), None)
        return Assigned(row, replaced)

    async def remove(self, name: str) -> str | None:
        """Forget a name; the digest that it showed, None for a name that isn't there."""
        row = self.storage.get((_NAME, name), BlobRow)
        if row is None:
            return None
        self.storage.delete((_NAME, name))
        self.storage.delete((_USE, bytes.fromhex(row.digest), name))
        return row.digest

    @shared
    async def find(self, name: str) -> BlobRow | None:
        """The row of a name."""
        return self.storage.get((_NAME, name), BlobRow)

    @shared
    async def select(self, prefix: str, after: str, limit: int) -> dict[str, BlobRow]:
        """Rows whose names begin so, behind a name."""
        rows = self.storage.list(
            (_NAME,),
            type=BlobRow,
            start=(_NAME, prefix) if after < prefix else None,
            start_after=(_NAME, after) if after >= prefix and after else None,
            limit=limit,
        )
        named = {cast("tuple[str, str]", key)[1]: row for key, row in rows.items()}
        return {name: row for name, row in named.items() if name.startswith(prefix)}

    @shared
    async def unused(self, digests: list[str]) -> list[str]:
        """Those of the contents that no name shows."""
        return [one for one in digests if not self.storage.list((_USE, bytes.fromhex(one)), limit=1)]
