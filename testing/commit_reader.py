"""Reads from each commit what it means: which run recorded what.

That is what the story tells of a commit, and how a body that runs after its checkpoint is noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias, cast

import msgspec

from ..actors.workflow.journal import Record, Redriven, Started, StepDone, StepFailed
from ..actors.workflow.journal_text import record_text
from ..runtime.address import ActorKey, show_address
from ..storage import layout
from ..storage.keys import decode_key, decode_number

_decode: Final = msgspec.msgpack.Decoder(Record).decode
_JOURNAL: Final = layout.JOURNAL[0]
_DATA: Final = layout.DATA[0]
_DIRECTORY: Final = layout.DIRECTORY[0]
_TYPE: Final = layout.TYPE[0]
# Name and use of a step.
StepKey: TypeAlias = tuple[str, int]


class CommitReader:
    """Follows the journals of all runs of a folder through the commits that change them."""

    def __init__(self) -> None:
        self._type_names: dict[bytes, str] = {}
        self._addresses: dict[bytes, str] = {}
        # Steps whose outcome is recorded, by the run's address ("Type/key").
        self.recorded: dict[str, set[StepKey]] = {}

    def committed(self, writes: Mapping[bytes, bytes | None]) -> list[str]:
        """What a durable commit means, one line for each thing."""
        lines: list[str] = []
        for key, value in writes.items():
            if value is not None and key[0] == _TYPE:
                name = self._type_names[value] = key[1:].decode()
                lines.append(f"type {name} is new")
        for key, value in writes.items():
            if value is not None and key[0] == _DIRECTORY:
                type_name = self._type_names.get(key[1:3], key[1:3].hex())
                self._addresses[value] = show_address(type_name, cast("ActorKey", decode_key(key[3:])))
        changed: dict[str, bool] = {}
        for key, value in writes.items():
            if key[0] == _DATA:
                _, end = decode_number(key, 1)
                actor = self._addresses.get(key[1:end], key[1:end].hex())
                if key[end] != _JOURNAL:
                    changed.setdefault(actor, False)
                    continue
                changed[actor] = True
                if value is None:
                    self.recorded.pop(actor, None)
                else:
                    lines.append(f"{actor} {self._recorded(actor, value)}")
        lines += [f"{actor} changed" for actor, is_told in changed.items() if not is_told]
        return lines

    def _recorded(self, run: str, value: bytes) -> str:
        record = _decode(value)
        if isinstance(record, Started):
            self.recorded[run] = set()
        elif isinstance(record, (StepDone, StepFailed)):
            self.recorded.setdefault(run, set()).add((record.name, record.nth))
        elif isinstance(record, Redriven):
            # A failed step that was redriven runs again.
            self.recorded.pop(run, None)
        return record_text(record)
