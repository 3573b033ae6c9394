"""A run as a file: its records as people read them, and as they are stored, to be replayed elsewhere.

A file of JSON.  `holdfast export-run` and `Run.export` write it; `holdfast.testing.replay_exported` replays
it against the present code, which makes a stored run of yesterday a test of tomorrow's code.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Final

import msgspec

from ..runtime.clock import moment
from .errors import InvalidExport
from .workflow.head import RunStatus
from .workflow.journal import Record, encode_record
from .workflow.journal_text import record_text

if TYPE_CHECKING:
    from .run_info import RunInfo

FORMAT: Final = 1


class ExportedRecord(msgspec.Struct, frozen=True):
    """One record: when, what, and its bytes."""

    position: int
    at: str
    text: str
    stored: str
    """The record as it is stored, in base 64."""


class ExportedRun(msgspec.Struct, frozen=True):
    """The whole file."""

    holdfast_run: int
    """The number of this format."""
    workflow: str
    id: str
    status: RunStatus
    fingerprint: str
    records: list[ExportedRecord]

    def stored(self) -> list[tuple[int, bytes]]:
        """Positions and records as they are stored; raises `InvalidExport`."""
        try:
            return [(one.position, b64decode(one.stored, validate=True)) for one in self.records]
        except ValueError as error:
            raise InvalidExport(f"a record of the exported run {self.id} is no base 64: {error}") from error


def export_run(info: RunInfo, records: list[tuple[int, Record]]) -> str:
    """The file's text."""
    exported = ExportedRun(
        FORMAT,
        info.workflow,
        info.id,
        info.status,
        info.fingerprint,
        [
            ExportedRecord(
                position,
                moment(record.at_ms).isoformat(),
                record_text(record),
                b64encode(encode_record(record)).decode(),
            )
            for position, record in records
        ],
    )
    return msgspec.json.format(msgspec.json.encode(exported), indent=2).decode() + "\n"


def read_export(text: str | bytes) -> ExportedRun:
    """The file back again; raises `InvalidExport`."""
    try:
        exported = msgspec.json.decode(text, type=ExportedRun)
    except msgspec.MsgspecError as error:
        raise InvalidExport(
            f"this is no exported run: {error}; write it with `holdfast export-run`"
        ) from error
    if exported.holdfast_run > FORMAT:
        raise InvalidExport(
            f"the run was exported in format {exported.holdfast_run}; this version reads up to {FORMAT}"
        )
    if not exported.records:
        raise InvalidExport(f"the exported run {exported.id} has no records")
    return exported
