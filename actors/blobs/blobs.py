"""The interface of a blob store, and what is asked of names, types and ranges.

`rt.blobs` is the local one (local_blobs.py), or the `Blobs` among the runtime's deps.

Promises, of each store
  * A name shows one whole content or another one, never a part: also after a crash.
  * `put` returns when the content and its name are durable; put again, it changes nothing.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from datetime import datetime
from typing import Final, TypeAlias, cast

import msgspec

from ...storage.errors import CallerError, InvalidKey, InvalidValue
from ..errors import BlobTooLarge

MAX_BLOB_BYTES: Final = 256 << 20
MAX_NAME_BYTES: Final = 150
MAX_LISTED: Final = 1_000
DEFAULT_TYPE: Final = "application/octet-stream"
# What is read and written at once.
PART_BYTES: Final = 1 << 20
_TYPE: Final = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}(; ?[\w-]{1,30}=[\w.+-]{1,60})?", re.ASCII)

Source: TypeAlias = bytes | Iterable[bytes] | AsyncIterable[bytes]


class BlobInfo(msgspec.Struct, frozen=True):
    """What is known of a blob without its bytes."""

    name: str
    size_bytes: int
    content_type: str
    changed_at: datetime
    digest: str
    """Changes when the content does: SHA-256 in hexadecimal, or what an object store has for it (ETag)."""


class Blobs(ABC):
    """Bytes by name.  Names are printable texts of 1 to 150 bytes, like `covers/9780441013593.jpg`."""

    @abstractmethod
    async def put(
        self,
        name: str,
        data: Source,
        *,
        content_type: str = DEFAULT_TYPE,
        max_bytes: int = MAX_BLOB_BYTES,
    ) -> BlobInfo:
        """Store bytes, or the parts that an iterator gives, in place of what has the name.

        Raises `BlobTooLarge` as soon as there are more than `max_bytes`, `InvalidKey` and `InvalidValue` for
        a name or type that is none, `StorageError`, and what the iterator raises; the old content stays then.
        """

    @abstractmethod
    def stream(self, name: str, *, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes]:
        """The bytes from `start` to before `end`, part by part: `async for part in blobs.stream(name)`.

        Raises `BlobNotFound`; `CallerError` for a range that lies outside; `Damaged`.
        """

    @abstractmethod
    async def info(self, name: str) -> BlobInfo:
        """What is known of a blob; raises `BlobNotFound`."""

    @abstractmethod
    async def delete(self, name: str) -> bool:
        """Remove a blob; False when there was none."""

    @abstractmethod
    async def list(self, prefix: str = "", *, after: str = "", limit: int = MAX_LISTED) -> list[BlobInfo]:
        """Blobs whose names begin so, behind the name `after`, in the order of their names."""

    async def get(self, name: str, *, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` to before `end`, as one; raises as `stream` does."""
        return b"".join([part async for part in self.stream(name, start=start, end=end)])


def check_name(name: object) -> str:
    """The name; raises `InvalidKey` for one that not every store can have."""
    if (
        not isinstance(name, str)
        or not name.isprintable()
        or not 0 < len(name.encode()) <= MAX_NAME_BYTES
        or any(part in ("", ".", "..") for part in name.split("/"))
    ):
        raise InvalidKey(
            f"a blob's name is a printable text of 1 to {MAX_NAME_BYTES} bytes, without empty parts, . and "
            f".. between slashes; got {name!r:.200}"
        )
    return name


def check_prefix(prefix: object) -> str:
    """What names begin with; raises `InvalidKey`."""
    if not isinstance(prefix, str) or len(prefix.encode()) > MAX_NAME_BYTES:
        raise InvalidKey(f"a prefix is a text of at most {MAX_NAME_BYTES} bytes; got {prefix!r:.200}")
    return prefix


def check_type(content_type: object) -> str:
    """The content type; raises `InvalidValue` for what can't stand in a header."""
    if not isinstance(content_type, str) or not _TYPE.fullmatch(content_type):
        raise InvalidValue(f"a content type looks like image/jpeg; got {content_type!r:.200}")
    return content_type


def check_limit(limit: object) -> int:
    """How many are listed; raises `CallerError`."""
    if type(limit) is not int or not 1 <= limit <= MAX_LISTED:
        raise CallerError(f"the limit of list() is from 1 to {MAX_LISTED}; got {limit!r}")
    return limit


def range_of(info: BlobInfo, start: int, end: int | None) -> tuple[int, int]:
    """The range of bytes that is asked for; raises `CallerError` for one that lies outside."""
    stop = info.size_bytes if end is None else end
    if not 0 <= start <= stop <= info.size_bytes:
        raise CallerError(
            f"blob {info.name!r} has {info.size_bytes} bytes; there is no range from {start} to {stop} in it"
        )
    return start, stop


async def parts_of(name: str, data: Source, max_bytes: int) -> AsyncIterator[bytes]:
    """The parts of what is put, gathered to `PART_BYTES` each; raises `BlobTooLarge`."""
    gathered = bytearray()
    total = 0
    async for part in _each(name, data):
        total += len(part)
        if total > max_bytes:
            raise BlobTooLarge(f"blob {name!r} has more than {max_bytes} bytes (max_bytes); nothing is kept")
        gathered += part
        if len(gathered) >= PART_BYTES:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


async def _each(name: str, data: Source) -> AsyncIterator[bytes]:
    given: object = data
    if isinstance(given, bytes | bytearray):
        yield bytes(given)
    elif isinstance(given, AsyncIterable):
        async for part in cast("AsyncIterable[object]", given):
            yield _part(name, part)
    elif isinstance(given, Iterable) and not isinstance(given, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        for part in cast("Iterable[object]", given):
            yield _part(name, part)
    else:
        raise InvalidValue(
            f"blob {name!r}: expected bytes or an iterator of bytes; got {type(given).__name__}"
        )


def _part(name: str, part: object) -> bytes:
    if not isinstance(part, bytes | bytearray):
        raise InvalidValue(f"blob {name!r}: expected parts of bytes; got {type(part).__name__}")
    return bytes(part)
