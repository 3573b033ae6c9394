"""Values as bytes: msgspec's MessagePack, with the errors it can raise gathered in one.

Everything that is stored or handed from one actor to another passes here, so nobody shares a mutable object
with anybody, and what comes back live is what would come back from disk.
"""

from __future__ import annotations

from typing import Final

import msgspec

from ..storage.errors import InvalidValue

ENCODER: Final = msgspec.msgpack.Encoder()
encode_unchecked = ENCODER.encode
decode_plain = msgspec.msgpack.Decoder().decode

# All that encoding or decoding a value raises for a bad value; recursion and Unicode errors are not msgspec's
# own.
BAD_VALUE: Final = (
    msgspec.MsgspecError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    NotImplementedError,
)

# Immutable and encoded without loss, so they need no copy.
SCALARS: Final = (int, str, bytes, float, bool, type(None))


def encode(value: object, what: str) -> bytes:
    """Encode `value`; raises `InvalidValue` naming `what` when it can't be."""
    try:
        return ENCODER.encode(value)
    except BAD_VALUE as error:
        raise InvalidValue(
            f"{what} can't be stored: {reason(error)}; use what msgspec encodes: plain values, lists, dicts, "
            f"dataclasses, msgspec.Struct, datetime, UUID, Enum"
        ) from error


def decode_to_show(encoded: bytes | msgspec.Raw) -> object:
    """A stored value as plain data, for people and comparisons; its bytes where it has keys that are maps.

    Dicts with such keys (a frozen struct) can only be made by their own type.
    """
    try:
        return decode_plain(encoded)
    except BAD_VALUE:
        return bytes(encoded)


def reason(error: BaseException) -> str:
    """The text of a codec's error, or what to call it when it has none."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply or contains itself"
    return str(error) or type(error).__name__
