"""What a disk may hold after a power cut, from a trace of writes, flushes and notes (write_trace.c).

The model: a completed flush makes durable what was written before it, the length of the file included; of the
rest each write is kept, dropped or torn, and a sector of 512 bytes is written whole or not at all.

A trace is a row of records: kind, place in the file (8 bytes), number of bytes (4 bytes), the bytes.

    W   a write began
    S   the write just begun has returned and is durable by itself (its handle was opened O_DSYNC)
    F   a flush has completed
    N   a note: what the outside was told
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import msgspec

SECTOR_BYTES = 512
_HEADER = struct.Struct("<cQI")


class Image(msgspec.Struct):
    """A data file as it may be, and what had been told to the outside by then."""

    data: bytes
    notes: list[str]
    event: int
    variant: str


class _Disk:
    def __init__(self, data: bytes) -> None:
        self.durable = bytearray(data)
        # Begun and not flushed, oldest first.
        self.pending: list[tuple[int, bytes]] = []

    def with_writes(self, writes: list[tuple[int, bytes]]) -> bytes:
        data = bytearray(self.durable)
        for at, written in writes:
            _put(data, at, written)
        return bytes(data)

    def flush(self) -> None:
        for at, written in self.pending:
            _put(self.durable, at, written)
        self.pending.clear()


def images(trace: Path, base: bytes, chance: random.Random, torn: int) -> Iterator[Image]:
    """An image after each event: nothing that wasn't flushed, all of it, and `torn` mixtures."""
    disk, notes = _Disk(base), list[str]()
    for event, (kind, at, data) in enumerate(_records(trace)):
        if kind == b"N":
            notes.append(data.decode())
            continue  # the disk is as it was; the next image has the note
        if kind == b"W":
            disk.pending.append((at, data))
        elif kind == b"S":
            _put(disk.durable, *disk.pending.pop())
        elif kind == b"F":
            disk.flush()
        else:
            raise ValueError(f"{trace} has a record of an unknown kind {kind!r}")
        yield Image(bytes(disk.durable), list(notes), event, "flushed")
        if disk.pending:
            yield Image(disk.with_writes(disk.pending), list(notes), event, "all")
            for number in range(torn):
                mixed = disk.with_writes(_tear(disk.pending, chance))
                yield Image(mixed, list(notes), event, f"torn {number}")
    yield Image(bytes(disk.durable), list(notes), -1, "the end")


def _records(trace: Path) -> Iterator[tuple[bytes, int, bytes]]:
    raw, position = trace.read_bytes(), 0
    while position < len(raw):
        kind, at, size = _HEADER.unpack_from(raw, position)
        position += _HEADER.size
        yield kind, at, raw[position : position + size]
        position += size


def _tear(writes: list[tuple[int, bytes]], chance: random.Random) -> list[tuple[int, bytes]]:
    kept: list[tuple[int, bytes]] = []
    for at, data in writes:
        fate = chance.randrange(3)
        if fate == 0:
            kept.append((at, data))
        elif fate == 1:
            end = at + len(data)
            start = at
            while start < end:
                behind = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
                if chance.random() < 0.5:
                    kept.append((start, data[start - at : behind - at]))
                start = behind
    return kept


def _put(data: bytearray, at: int, written: bytes) -> None:
    if len(data) < at:
        data.extend(bytes(at - len(data)))
    data[at : at + len(written)] = written
