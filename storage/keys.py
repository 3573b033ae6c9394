"""Keys as bytes: the order of the bytes is the order of the keys, and no two keys share their bytes.

A key is a `str`, `bytes`, `int` or a flat tuple of them.  Index entries add `None`, `bool` and `float`.

    tag  0x01 None
         0x02 bytes     0x00 inside becomes 0x00 0xFF; in a tuple the element ends with 0x00
         0x03 str       UTF-8, escaped and ended alike (order of code points)
         0x0C..0x14     negative int of 8..1 bytes, zero at 0x14, as complement, big-endian
         0x15..0x1C     positive int of 1..8 bytes, big-endian
         0x21 float     IEEE 754 with the sign folded, so that bytes order as numbers
         0x26 / 0x27    False / True
         0x30           tuple: its elements, then 0x00

A scalar at the top level needs no escape and no end, since nothing follows it.  The layout of tags follows
the idea of the tuple layer of FoundationDB: `0x00` sorts before every tag, so a shorter tuple sorts before a
longer one.
"""

from __future__ import annotations

import struct
from typing import Final, TypeAlias

from .errors import Damaged, InvalidKey

KeyPart: TypeAlias = str | bytes | int
Key: TypeAlias = KeyPart | tuple[KeyPart, ...]
IndexValue: TypeAlias = str | bytes | int | float | bool | None

# LMDB takes 511 bytes.  A storage key shares them with the prefix and the actor's number (12 bytes) and, in
# an index entry, with the indexed values, which is why both limits stay below half.
MAX_ACTOR_KEY_BYTES: Final = 256
MAX_STORAGE_KEY_BYTES: Final = 240
MAX_INDEX_ENTRY_BYTES: Final = 500

_NONE, _BYTES, _STR, _ZERO, _FLOAT, _FALSE, _TRUE, _TUPLE = 0x01, 0x02, 0x03, 0x14, 0x21, 0x26, 0x27, 0x30
# Whole numbers of six bytes, which times in milliseconds have been since 2004 and are until 10 889.
_SIX_BYTES, _SIX_BYTES_FROM, _SEVEN_BYTES_FROM = bytes((_ZERO + 6,)), 1 << 40, 1 << 48
_DOUBLE = struct.Struct(">d")


def encode_key(key: Key, *, limit_bytes: int = MAX_STORAGE_KEY_BYTES, what: str = "storage key") -> bytes:
    """Encode `key`; raises `InvalidKey` for another type or more than `limit_bytes` bytes."""
    if type(key) is str:
        try:
            encoded = b"\x03" + key.encode()
        except UnicodeEncodeError as error:
            raise InvalidKey(
                f"{what} {key!r} holds a lone surrogate, which is not valid Unicode text"
            ) from error
    elif type(key) is bytes:
        encoded = b"\x02" + key
    elif isinstance(key, tuple):
        encoded = b"\x30" + b"".join([_part(part, what) for part in key]) + b"\x00"
    else:
        encoded = _part(key, what)
    if len(encoded) > limit_bytes:
        raise InvalidKey(
            f"{what} {_shorten(key)} takes {len(encoded)} bytes; at most {limit_bytes} are allowed"
        )
    return encoded


def encode_prefix(prefix: Key, *, what: str = "key prefix") -> bytes:
    """What the bytes of every key below `prefix` start with.

    A text stands for texts that start so, a tuple for tuples with these first parts.
    """
    encoded = encode_key(prefix, what=what)
    return encoded[:-1] if isinstance(prefix, tuple) else encoded


def decode_key(encoded: bytes) -> Key:
    """The key that `encode_key` turned into these bytes; raises `Damaged` for any other bytes."""
    try:
        tag = encoded[0]
        if tag == _STR:
            return encoded[1:].decode()
        if tag == _BYTES:
            return encoded[1:]
        if tag == _TUPLE:
            parts: list[KeyPart] = []
            position = 1
            while encoded[position] != 0:
                part, position = _decode_part(encoded, position)
                if part is None or isinstance(part, (bool, float)):
                    raise Damaged(f"key {encoded.hex()} holds a part that no key has")
                parts.append(part)
            if position + 1 != len(encoded):
                raise Damaged(f"key {encoded.hex()} goes on behind its end")
            return tuple(parts)
        value, position = _decode_part(encoded, 0)
    except (IndexError, UnicodeDecodeError, ValueError, struct.error) as error:
        raise Damaged(f"key {encoded.hex()} is not an encoded key") from error
    if position != len(encoded) or not isinstance(value, int) or isinstance(value, bool):
        raise Damaged(f"key {encoded.hex()} is not an encoded key")
    return value


def encode_index_values(values: tuple[IndexValue, ...]) -> bytes:
    """Encode the indexed values of one entry: in order and without an end, so that some select a range."""
    return b"".join(
        [
            b"\x03" + value.encode() + b"\x00"  # the most frequent kind, as _part makes it
            if isinstance(value, str) and value.isascii() and "\0" not in value
            else _index_part(value)
            for value in values
        ]
    )


def encode_index_int(value: int) -> bytes:
    """What `encode_index_values` makes of one whole number of 64 bits."""
    if _SIX_BYTES_FROM <= value < _SEVEN_BYTES_FROM:  # the most frequent kind, as _int makes it
        return _SIX_BYTES + value.to_bytes(6, "big")
    return _int(value, "index value")


def next_prefix(prefix: bytes) -> bytes | None:
    """The smallest bytes behind everything that starts with `prefix`; None when nothing is."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes((stripped[-1] + 1,))


def encode_number(number: int) -> bytes:
    """A whole number from 0 to 2**63 as a length and its bytes: short, and in order."""
    size = (number.bit_length() + 7) // 8 or 1
    return bytes((size,)) + number.to_bytes(size, "big")


def decode_number(data: bytes, position: int = 0) -> tuple[int, int]:
    """The number at `position` and the position behind it.

    Raises `Damaged` or `IndexError` when it is cut off.
    """
    end = position + 1 + data[position]
    if end > len(data):
        raise Damaged(f"the number at byte {position} of {data.hex()} is cut off")
    return int.from_bytes(data[position + 1 : end], "big"), end


def _part(part: KeyPart, what: str) -> bytes:
    if type(part) is str:
        try:
            return b"\x03" + part.encode().replace(b"\x00", b"\x00\xff") + b"\x00"
        except UnicodeEncodeError as error:
            raise InvalidKey(
                f"{what} part {part!r} holds a lone surrogate, which is not valid Unicode text"
            ) from error
    if type(part) is int:
        return _int(part, what)
    if type(part) is bytes:
        return b"\x02" + part.replace(b"\x00", b"\x00\xff") + b"\x00"
    raise InvalidKey(
        f"{what} must be str, bytes, int or a flat tuple of them; got {part!r} of type "
        f"{type(part).__qualname__}"
    )


def _int(value: int, what: str) -> bytes:
    if value == 0:
        return b"\x14"
    size = (value.bit_length() + 7) // 8
    if size > 8:
        raise InvalidKey(f"{what} part {value} does not fit in 64 bits; store it as text")
    if value > 0:
        return bytes((_ZERO + size,)) + value.to_bytes(size, "big")
    return bytes((_ZERO - size,)) + (value + (1 << 8 * size) - 1).to_bytes(size, "big")


def _index_part(value: IndexValue) -> bytes:
    kind = type(value)
    if kind is str or kind is int:
        return _part(value, "index value")  # type: ignore[arg-type]
    if value is None:
        return b"\x01"
    if isinstance(value, bool):
        return b"\x27" if value else b"\x26"
    if isinstance(value, float):
        raw = int.from_bytes(_DOUBLE.pack(value + 0.0), "big")  # + 0.0 turns -0.0 into 0.0
        raw = raw ^ 0xFFFF_FFFF_FFFF_FFFF if raw >> 63 else raw | 1 << 63
        return b"\x21" + raw.to_bytes(8, "big")
    return _part(value, "index value")


def _decode_part(data: bytes, position: int) -> tuple[IndexValue, int]:
    tag = data[position]
    position += 1
    if tag in (_STR, _BYTES):
        end = position
        while True:
            end = data.index(b"\x00", end)
            if data[end + 1 : end + 2] != b"\xff":
                break
            end += 2
        raw = data[position:end].replace(b"\x00\xff", b"\x00")
        return (raw.decode() if tag == _STR else raw), end + 1
    if _ZERO - 8 <= tag <= _ZERO + 8:
        size = abs(tag - _ZERO)
        end = position + size
        if end > len(data):
            raise ValueError("cut off")
        magnitude = int.from_bytes(data[position:end], "big")
        return (magnitude if tag >= _ZERO else magnitude - (1 << 8 * size) + 1), end
    if tag == _NONE:
        return None, position
    if tag == _FLOAT:
        raw_float = int.from_bytes(data[position : position + 8], "big")
        raw_float = raw_float & ~(1 << 63) if raw_float >> 63 else raw_float ^ 0xFFFF_FFFF_FFFF_FFFF
        return _DOUBLE.unpack(raw_float.to_bytes(8, "big"))[0], position + 8
    if tag in (_FALSE, _TRUE):
        return tag == _TRUE, position
    raise ValueError(f"unknown tag {tag}")


def _shorten(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 60 else text[:57] + "..."
