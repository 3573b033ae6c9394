"""Cursors: where the next page of a listing begins, as a text that means nothing to who hands it back."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final, TypeVar

import msgspec

from ..runtime.codec import BAD_VALUE
from ..storage.errors import CallerError

Place = TypeVar("Place")
MAX_CURSOR_CHARACTERS: Final = 1_000


def cursor_text(place: object) -> str:
    """The text of a place: plain values, or tuples of them."""
    return urlsafe_b64encode(msgspec.msgpack.encode(place)).rstrip(b"=").decode()


def cursor_place(text: str, kind: type[Place]) -> Place:
    """The place that `cursor_text` made a text of; raises `CallerError` for any other text."""
    try:
        if len(text) > MAX_CURSOR_CHARACTERS:
            raise ValueError
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        return msgspec.msgpack.decode(urlsafe_b64decode(padded), type=kind)
    except BAD_VALUE as error:
        raise CallerError(
            f"a cursor is what the page before gave as `next`, of the same listing; got {text!r:.100}"
        ) from error
