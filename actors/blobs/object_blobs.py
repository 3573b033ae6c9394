"""Blobs in an object store: S3 and what speaks like it, by obstore (extra `s3`).

    Runtime("data", deps=[ObjectBlobs(S3Store("covers", region="eu-west-1"))])

The store itself makes an object whole or not at all.  A larger content goes up in parts; one that is broken
off leaves parts that nobody sees, which the bucket's own rule for unfinished uploads removes.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ...storage.errors import StorageError
from ..errors import BlobNotFound
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
    from obstore import GetResult, ObjectMeta
    from obstore.store import ObjectStore

# S3 has no smaller parts (but for the last).
_UPLOAD_PART_BYTES: Final = 8 << 20


class ObjectBlobs(Blobs):
    """The blobs of a bucket."""

    def __init__(self, store: ObjectStore) -> None:
        """A store of obstore's: `S3Store("covers", ...)`; a prefix in the bucket is an option of it."""
        import obstore  # says at once that the extra is missing

        self._obstore = obstore
        self._store = store

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
        attributes = {"Content-Type": check_type(content_type)}
        parts = parts_of(name, data, max_bytes)
        first = bytearray()
        async for part in parts:
            first += part
            if len(first) > _UPLOAD_PART_BYTES:
                break
        with self._told("writing", name):
            if len(first) <= _UPLOAD_PART_BYTES:
                await self._obstore.put_async(
                    self._store, name, bytes(first), attributes=attributes, use_multipart=False
                )
            else:
                await self._put_large(name, bytes(first), parts, attributes)
        return await self.info(name)

    async def _put_large(
        self, name: str, first: bytes, rest: AsyncIterator[bytes], attributes: dict[str, str]
    ) -> None:
        failure: list[Exception] = []

        async def all_parts() -> AsyncIterator[bytes]:
            yield first
            try:
                async for part in rest:
                    yield part
            except Exception as error:
                failure.append(error)  # as it is, not as the library tells it
                raise

        try:
            await self._obstore.put_async(
                self._store,
                name,
                all_parts(),
                attributes=attributes,
                use_multipart=True,
                chunk_size=_UPLOAD_PART_BYTES,
            )
        except Exception:
            if failure:
                raise failure[0] from None
            raise

    async def stream(self, name: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """See `Blobs.stream`."""
        info = await self.info(name)
        first, stop = range_of(info, start, end)
        if first == stop:
            return
        # Of the content that was looked at, not of one that came in between.
        with self._told("reading", name):
            found = await self._obstore.get_async(
                self._store, name, options={"range": (first, stop), "if_match": info.digest}
            )
            parts = found.stream(min_chunk_size=PART_BYTES)
            async for part in parts:
                yield bytes(part)

    async def info(self, name: str) -> BlobInfo:
        """See `Blobs.info`."""
        check_name(name)
        with self._told("looking at", name):
            found = await self._obstore.get_async(self._store, name, options={"head": True})
        return _info(name, found)

    async def delete(self, name: str) -> bool:
        """See `Blobs.delete`."""
        try:
            await self.info(name)
        except BlobNotFound:
            return False
        with self._told("removing", name):
            await self._obstore.delete_async(self._store, name)
        return True

    async def list(self, prefix: str = "", *, after: str = "", limit: int = MAX_LISTED) -> list[BlobInfo]:
        """See `Blobs.list`; a listing of an object store has no types, so `content_type` is empty here."""
        check_prefix(prefix)
        check_prefix(after)
        check_limit(limit)
        found: list[BlobInfo] = []
        # Prefixes of the library are whole parts between slashes.
        folder = prefix.rpartition("/")[0] or None
        with self._told("listing", prefix):
            pages = self._obstore.list(  # pyright: ignore[reportUnknownMemberType]  # one form gives Arrow
                self._store, folder, offset=after or None, chunk_size=500
            )
            async for page in pages:
                for one in page:
                    if one["path"].startswith(prefix):
                        found.append(_listed(one))
                        if len(found) == limit:
                            return found
                    elif one["path"] > prefix:
                        return found
        return found

    @contextmanager
    def _told(self, what: str, name: str) -> Generator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            raise BlobNotFound(f"the object store has no blob {name!r}") from error
        except BaseError as error:
            raise StorageError(f"{what} blob {name!r} in the object store failed: {error}") from error


def _info(name: str, found: GetResult) -> BlobInfo:
    meta = found.meta
    content_type = found.attributes.get("Content-Type", DEFAULT_TYPE)
    return BlobInfo(name, meta["size"], content_type, meta["last_modified"], meta["e_tag"] or "")


def _listed(meta: ObjectMeta) -> BlobInfo:
    return BlobInfo(meta["path"], meta["size"], "", meta["last_modified"], meta["e_tag"] or "")
