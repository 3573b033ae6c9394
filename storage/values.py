"""A value on disk: its CRC-32, then the payload.  LMDB itself returns flipped bits as data.

The checksum covers the key too, so a page that landed in the wrong place is found as well.  It costs about
0.2 us for a value of 100 bytes (measured beside 1.5 us for the put it protects), so it is not an option but
always on.
"""

from __future__ import annotations

from zlib import crc32

from .errors import Damaged


def seal_value(key: bytes, payload: bytes) -> bytes:
    """The bytes to store for `payload` under `key`."""
    return crc32(payload, crc32(key)).to_bytes(4, "big") + payload


def open_value(key: bytes, stored: bytes | memoryview) -> bytes:
    """The payload of stored bytes; raises `Damaged` when they are not what was written under `key`."""
    payload = bytes(stored[4:])
    if crc32(payload, crc32(key)) != int.from_bytes(stored[:4], "big"):
        raise Damaged(f"the value under key {key.hex()} ({len(stored)} bytes) doesn't match its checksum")
    return payload
