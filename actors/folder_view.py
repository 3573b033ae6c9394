"""A look into a folder without its classes, also beside a living owner: runs, and their records.

For the command line: what is there is shown as it lies on disk.  It only reads what is durable, one snapshot
for each question.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType

import lmdb
import msgspec

from ..runtime.address import show_key
from ..storage import layout
from ..storage.environment import Environment
from ..storage.errors import Damaged
from ..storage.keys import decode_key
from ..storage.values import open_value
from .run_info import RunInfo, info_of
from .workflow.head import RunHead
from .workflow.journal import Record, decode_records, journal_prefix, position_key


class _RunFields(msgspec.Struct):
    head: RunHead


_decode_fields = msgspec.msgpack.Decoder(_RunFields).decode


def decode_head(record: bytes) -> RunHead:
    """The head in a run's stored fields, without its class; raises `Damaged`."""
    try:
        return _decode_fields(record).head
    except msgspec.MsgspecError as error:
        raise Damaged(f"the head of a run can't be read: {error}; run `holdfast check`") from error


class FolderView:
    """A folder, opened for reading.  Use it in a `with` block."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises `FolderRefused`, `FormatRefused` or `Damaged`."""
        self._environment = Environment(path, read_only=True)

    def __enter__(self) -> FolderView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._environment.close()

    def runs(self, status: str | None = None) -> list[RunInfo]:
        """All runs, or those of a status, the oldest first."""
        with self._environment.lmdb.begin() as txn:
            found = [info for info, _ in _runs(txn) if status in (None, info.status)]
        found.sort(key=lambda info: info.created_at)
        return found

    def run(self, address: str) -> tuple[RunInfo, list[tuple[int, Record]]] | None:
        """A run by its address `Workflow/id`, with positions and records; None when there is none."""
        with self._environment.lmdb.begin() as txn:
            for info, base in _runs(txn):
                if f"{info.workflow}/{info.id}" == address:
                    return info, decode_records(list(_scan(txn, journal_prefix(base))), address)
        return None

    def journals(self) -> dict[str, list[Record]]:
        """All records of every run, by its address `Workflow/id`."""
        with self._environment.lmdb.begin() as txn:
            return {f"{info.workflow}/{info.id}": _journal(txn, base) for info, base in _runs(txn)}


def _runs(txn: lmdb.Transaction) -> Iterator[tuple[RunInfo, bytes]]:
    """What is known of each run, and what its keys begin with: an actor that has a journal is a run."""
    names = {value: key[1:].decode() for key, value in _scan(txn, layout.TYPE)}
    for key, number in _scan(txn, layout.DIRECTORY):
        base = layout.DATA + number
        if txn.get(position_key(journal_prefix(base), 0)) is None:
            continue
        fields_key = base + layout.FIELDS
        head = decode_head(open_value(fields_key, txn.get(fields_key) or b""))
        run_id = show_key(decode_key(key[3:]))
        workflow = names.get(key[1:3], key[1:3].hex())
        yield info_of(workflow, run_id, head), base


def _journal(txn: lmdb.Transaction, base: bytes) -> list[Record]:
    return [record for _, record in decode_records(list(_scan(txn, journal_prefix(base))), base.hex())]


def _scan(txn: lmdb.Transaction, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    with txn.cursor() as cursor:
        if not cursor.set_range(prefix):
            return
        for found, stored in cursor:
            key = bytes(found)
            if not key.startswith(prefix):
                return
            yield key, open_value(key, stored)
