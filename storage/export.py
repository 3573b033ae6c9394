"""Everything in a folder as JSON lines, and back: to move it, to keep it as text, to compare two folders.

    {"holdfast_export":1,"format":1}
    {"kind":"FIELDS","key":"0401...","value":"gapf..."}          hex, and base64 without the checksum on disk
    ...
    {"end":true,"rows":17,"sha256":"..."}                        of all lines before, with their line ends

Promises
  * An export is one snapshot, also beside a living owner, and takes the memory of one row.
  * An import is there in full and on disk, or not at all: it is made under another name, checked against the
    last line, synced, and renamed.  A file that was cut off or changed is refused with the line.
  * What was imported has the bytes of what was exported, key for key.
"""

from __future__ import annotations

import os
import shutil
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Final

import lmdb
import msgspec

from . import layout
from .environment import DATA_NAME, Environment, sync_file, sync_folder
from .errors import Damaged, FolderRefused, FormatRefused, StorageError
from .keys import decode_number
from .values import open_value, seal_value

EXPORT_VERSION: Final = 1
# A line of an import: a value has far less (an input of a run 8 MiB, in base64 a third more).
MAX_LINE_BYTES: Final = 256 << 20
# Rows that are put in one transaction, and their bytes: its pages are held in memory.
_BATCH_ROWS: Final = 10_000
_BATCH_BYTES: Final = 64 << 20
_NAMES: Final = {
    layout.META: "META", layout.TYPE: "TYPE", layout.DIRECTORY: "DIRECTORY", layout.DUE: "DUE",
    layout.DEAD_ALARM: "DEAD_ALARM", layout.EXPIRY: "EXPIRY", layout.SHARED_ROW: "SHARED_ROW",
    layout.SHARED_INDEX: "SHARED_INDEX", layout.FIELD_INDEX: "FIELD_INDEX", layout.TABLE: "TABLE",
    layout.RUN_LABEL: "RUN_LABEL", layout.AUDIT: "AUDIT", layout.CHANGE: "CHANGE",
}  # fmt: skip
_DATA_NAMES: Final = {
    layout.FIELDS: "FIELDS", layout.STORAGE: "STORAGE", layout.ALARM: "ALARM", layout.ROW: "ROW",
    layout.ROW_INDEX: "ROW_INDEX", layout.REPLY: "REPLY", layout.JOURNAL: "JOURNAL",
    layout.EMITTED: "EMITTED", layout.EVENT_ID: "EVENT_ID", layout.HEARTBEAT: "HEARTBEAT",
    layout.CHILD: "CHILD",
}  # fmt: skip
Told = Callable[[int, int | None], None]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first line."""

    holdfast_export: int
    format: int


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One key with its value; `kind` is for people alone."""

    kind: str
    key: str
    value: str


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last line."""

    end: bool
    rows: int
    sha256: str


def export_to(write: Callable[[bytes], object], environment: Environment, told: Told | None = None) -> int:
    """Write the lines of an export; how many rows it has.  `told` hears how many are done, and of how many.

    All of it is as of one commit, so the store's file grows while it is written beside a busy owner.  Raises
    `Damaged` when a value is not what was stored.
    """
    digest, count = sha256(), 0
    encode = msgspec.json.Encoder().encode

    def put(line: object) -> None:
        encoded = encode(line) + b"\n"
        digest.update(encoded)
        write(encoded)

    with environment.long_read("an export"):
        try:
            with environment.lmdb.begin(buffers=True) as txn, txn.cursor() as cursor:
                total: int = txn.stat()["entries"]
                put(Header(EXPORT_VERSION, layout.FORMAT))
                for found, stored in cursor:
                    key = bytes(found)
                    value = b64encode(open_value(key, stored)).decode()
                    put(Row(kind_of(key), key.hex(), value))
                    count += 1
                    if told is not None and count % 1_000 == 0:
                        told(count, total)
        except lmdb.Error as error:
            raise environment.translate(error) from error
    write(encode(End(True, count, digest.hexdigest())) + b"\n")
    return count


def kind_of(key: bytes) -> str:
    """What layout.py calls a key."""
    if key[:1] != layout.DATA:
        return _NAMES.get(key[:1], "?")
    try:
        _, end = decode_number(key, 1)
    except (Damaged, IndexError):
        return "?"
    return _DATA_NAMES.get(key[end : end + 1], "?")


def import_lines(
    lines: Iterable[bytes], destination: str | os.PathLike[str], told: Told | None = None
) -> int:
    """Make the new, or empty, folder `destination` of the lines of an export; how many rows it has.

    Raises `FolderRefused` for a folder that holds something, `FormatRefused` for the export of another
    version, `Damaged` for lines that are not what was written.
    """
    target = Path(os.path.abspath(destination))
    refuse_used(target)
    aside = target.parent / f".{target.name}.{uuid.uuid4().hex}.partial"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        environment = Environment(aside)
    except OSError as error:
        raise FolderRefused(f"the folder {target} can't be made: {error.strerror or error}") from error
    try:
        try:
            count = _put_lines(environment, lines, told)
        finally:
            environment.close()
        for leftover in aside.iterdir():
            if leftover.name != DATA_NAME:
                leftover.unlink()
        sync_file(aside / DATA_NAME)
        sync_folder(aside)
        refuse_used(target)
        aside.rename(target)  # takes the place of an empty folder
        sync_folder(target.parent)
    except (lmdb.Error, OSError) as error:
        raise StorageError(f"importing to {target} failed: {error}; nothing is left of it") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return count


def refuse_used(target: Path) -> None:
    """Raise `FolderRefused` unless nothing is there, or an empty folder."""
    if os.path.lexists(target) and not (
        target.is_dir() and not target.is_symlink() and next(target.iterdir(), None) is None
    ):
        raise FolderRefused(f"{target} exists and is not an empty folder; nothing is overwritten")


def _put_lines(environment: Environment, lines: Iterable[bytes], told: Told | None) -> int:
    digest, count, ended, number = sha256(), 0, False, 0
    decode = msgspec.json.Decoder(Row).decode
    batch: list[tuple[bytes, bytes]] = []
    batch_bytes = 0
    last = b""
    for number, line in enumerate(lines, 1):
        if ended:
            raise Damaged(f"line {number}: there is more behind the last line")
        try:
            if number == 1:
                _check_header(msgspec.json.decode(line, type=Header))
            elif line.startswith(b'{"end"'):
                _check_end(msgspec.json.decode(line, type=End), count, digest.hexdigest())
                ended = True
                continue
            else:
                row = decode(line)
                key = bytes.fromhex(row.key)
                if key <= last:
                    raise Damaged(f"line {number}: the keys are not in their order")
                last = key
                value = seal_value(key, b64decode(row.value, validate=True))
                batch.append((key, value))
                batch_bytes += len(value)
                count += 1
        except (msgspec.MsgspecError, ValueError) as error:
            raise Damaged(f"line {number} is no line of an export: {error}") from error
        digest.update(line)
        if len(batch) >= _BATCH_ROWS or batch_bytes >= _BATCH_BYTES:
            _put(environment, batch)
            batch, batch_bytes = [], 0
            if told is not None:
                told(count, None)
    if not ended:
        raise Damaged(f"the export ends behind line {number}, without its last line: it was cut off")
    _put(environment, batch)
    return count


def _check_header(header: Header) -> None:
    if header.holdfast_export != EXPORT_VERSION or header.format != layout.FORMAT:
        raise FormatRefused(
            f"the export is of version {header.holdfast_export} with format {header.format}; this version "
            f"reads version {EXPORT_VERSION} with format {layout.FORMAT}"
        )


def _check_end(end: End, rows: int, digest: str) -> None:
    if end.rows != rows:
        raise Damaged(f"the export tells of {end.rows} rows and has {rows}")
    if end.sha256 != digest:
        raise Damaged("the export is not what was written: its checksum is another one")


def _put(environment: Environment, batch: list[tuple[bytes, bytes]]) -> None:
    with environment.lmdb.begin(write=True) as txn:
        for key, value in batch:
            txn.put(key, value)
