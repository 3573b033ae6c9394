"""The index of runs: workflow, status and time of creation, in the declared-field index of each workflow
type.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ...storage import layout
from ...storage.errors import Damaged
from ...storage.keys import decode_key, encode_index_values, next_prefix
from .head import RunHead, RunStatus

if TYPE_CHECKING:
    from ...runtime.ref import Ref
    from ..system import Runtime
    from .workflow_type import WorkflowType


def list_runs(
    system: Runtime, kinds: list[WorkflowType], statuses: Collection[RunStatus], *, limit: int, reverse: bool
) -> list[tuple[Ref, RunHead]]:
    """Refs and heads of runs, the oldest first (or the newest with `reverse`); no run is loaded for that.

    The caller sees what it may: outside the actors what is durable, all of it as of the same commit.
    """
    with system.reader.view() as view:
        found: list[tuple[int, WorkflowType, bytes]] = []
        for kind in kinds:
            for status in statuses:
                prefix = status_prefix(kind, status)
                for entry, key_bytes in view.scan(prefix, next_prefix(prefix), reverse, limit):
                    found.append((_created_ms(entry, prefix), kind, key_bytes))
        found.sort(key=lambda one: one[0], reverse=reverse)
        runs: list[tuple[Ref, RunHead]] = []
        for _, kind, key_bytes in found[:limit]:
            ref = system.ref_from_bytes(kind.number_bytes, key_bytes)
            number = view.read(ref.directory_key)
            record = None if number is None else view.read(layout.DATA + number + layout.FIELDS)
            if record is None:
                raise Damaged(
                    f"the index of runs has an entry of {ref}, which isn't stored; run `holdfast check`"
                )
            runs.append((ref, kind.decode_head(record, ref)))
    return runs


def status_prefix(kind: WorkflowType, status: RunStatus) -> bytes:
    """What the index entries of a workflow's runs with a status begin with."""
    return layout.FIELD_INDEX + kind.number_bytes + b"\x00" + encode_index_values((status,))


def _created_ms(entry: bytes, prefix: bytes) -> int:
    size = entry[len(prefix)] - 0x14
    start = len(prefix) + 1
    created = decode_key(entry[len(prefix) : start + size])
    assert isinstance(created, int)
    return created
