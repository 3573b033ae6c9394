"""Keys in the addresses of pages: as the API has them, but for what browsers take for a step up."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from ..api.addresses import address_of as key_address

if TYPE_CHECKING:
    from ...runtime.address import ActorKey
    from ...runtime.ref import Ref

_STEPS = (".", "..")


def key_text(key: ActorKey) -> str:
    """A key in the last part of a path, percent-encoded."""
    text = key_address(key)
    return quote(f"~{msgspec.json.encode(text).decode()}" if text in _STEPS else text, safe="")


def address_of(ref: Ref) -> str:
    """`Type/key` as it stands in the address of a page."""
    return f"{quote(ref.type.name, safe='')}/{key_text(ref.key)}"
