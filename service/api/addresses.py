"""Keys in addresses: the last part of a path is the key of a run, a queue, an actor.

orders/7        the text itself, slashes and all
~7   ~["a",1]   behind a tilde the JSON of what is no text, or of a text that begins with one
~"a\\u002f.."   so is a text with `.`, `..` or nothing between its slashes, which clients would shorten
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

import msgspec

from ...runtime.codec import BAD_VALUE, reason
from ...storage.errors import CallerError

if TYPE_CHECKING:
    from ...runtime.address import ActorKey


# A slash in JSON that is none in an address.
_SLASH: Final = "\\u002f"
_SHORTENED: Final = re.compile(r'["/]\.{0,2}["/]')


class KeyPlace(msgspec.Struct, array_like=True, frozen=True):
    """A key in a cursor, behind the name of its type where that isn't told by the address."""

    key: str | int | list[str | int]
    type: str = ""

    @property
    def actor_key(self) -> ActorKey:
        """The key as actors have it."""
        return tuple(self.key) if isinstance(self.key, list) else self.key


def given_key(key: ActorKey) -> str | int | list[str | int]:
    """A key as JSON and cursors have it."""
    return cast("list[str | int]", list(key)) if isinstance(key, tuple) else key


def key_of(text: str) -> ActorKey:
    """The key that an address means; raises `CallerError`.

    Only one: what is asked a second time must not mean another run, when the first one is gone by then.
    """
    if not text.startswith("~"):
        return text
    try:
        key: int | str | list[int | str] = msgspec.json.decode(text[1:], type=int | str | list[int | str])
    except BAD_VALUE as error:
        raise CallerError(
            f"an id that begins with ~ is the JSON of a number, a text or an array of them: {reason(error)}"
        ) from error
    return tuple(key) if isinstance(key, list) else key


def address_of(key: ActorKey) -> str:
    """A key as an address has it, to be percent-encoded yet: `key_of` turned round."""
    told = msgspec.json.encode(key).decode()
    # Of `a/../b` clients and proxies make `b`, and of `a//b` `a/b`.
    is_shortened = _SHORTENED.search(told) is not None
    if isinstance(key, str) and not key.startswith("~") and not is_shortened:
        return key
    return f"~{told.replace('/', _SLASH) if is_shortened else told}"
