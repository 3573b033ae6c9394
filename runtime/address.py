"""An actor's address: its type and its key, as objects, as bytes and as text."""

from __future__ import annotations

from typing import TypeAlias
from uuid import UUID

from ..storage.errors import InvalidKey
from ..storage.keys import MAX_ACTOR_KEY_BYTES, Key, KeyPart, encode_key

ActorKey: TypeAlias = str | int | tuple[KeyPart, ...]
GivenKey: TypeAlias = ActorKey | UUID | tuple[KeyPart | UUID, ...]
# So many ASCII characters are short enough for certain.
_SHORT_CHARACTERS = MAX_ACTOR_KEY_BYTES - 1


def normal_key(key: GivenKey, type_name: str) -> tuple[ActorKey, bytes]:
    """The key as actors see it (a UUID becomes its text) and its bytes; raises `InvalidKey`."""
    normal: ActorKey
    if type(key) is str and 0 < len(key) <= _SHORT_CHARACTERS and key.isascii():
        return key, b"\x03" + key.encode()  # what encode_key makes of it
    if isinstance(key, UUID):
        normal = str(key)
    elif isinstance(key, tuple):
        normal = tuple(str(part) if isinstance(part, UUID) else part for part in key)
    elif type(key) in (str, int):
        normal = key
    else:
        raise InvalidKey(
            f"the key of {type_name} must be str, int, UUID or a tuple of them; got {key!r} of type "
            f"{type(key).__qualname__}"
        )
    return normal, encode_key(normal, limit_bytes=MAX_ACTOR_KEY_BYTES, what=f"key of {type_name}")


def show_key(key: Key) -> str:
    """A key as text; the parts of a tuple between slashes."""
    return "/".join([str(part) for part in key]) if isinstance(key, tuple) else str(key)


def show_address(type_name: str, key: ActorKey) -> str:
    """`Type/key`, cut to a length that fits a log line."""
    text = show_key(key)
    safe = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return f"{type_name}/{safe if len(safe) <= 120 else safe[:117] + '...'}"
