"""The indexes of runs: by workflow, status and time of creation, in the declared-field index of each workflow
type; and by label over all workflows (labels.py).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import msgspec

from ...storage import layout
from ...storage.errors import CallerError, Damaged
from ...storage.keys import decode_key, encode_index_values, next_prefix
from .head import RunHead, RunStatus
from .labels import NO_LABELS, ref_prefix, state_prefix, tag_prefix, tenant_prefix

if TYPE_CHECKING:
    from ...runtime.reader import View
    from ...runtime.ref import Ref
    from ..workflow_calls import WorkflowCalls
    from .workflow_type import WorkflowType

_PAGE: Final = 256


class RunFilter(msgspec.Struct, frozen=True):
    """Which runs are meant; what is None doesn't matter."""

    kinds: tuple[WorkflowType, ...]
    statuses: tuple[RunStatus, ...]
    ref: tuple[str, str] | None = None
    tenant: str | None = None
    tag: tuple[str, str] | None = None
    state: str | None = None

    def label_prefix(self) -> bytes | None:
        """What the index entries of the rarest label begin with; None when no label is asked for."""
        if self.ref is not None:
            return ref_prefix(self.ref)
        if self.tag is not None:
            return tag_prefix(*self.tag)
        if self.state is not None:
            return state_prefix(self.state)
        return None if self.tenant is None else tenant_prefix(self.tenant)

    def meets(self, head: RunHead) -> bool:
        """Whether a run with this head is meant, its workflow aside."""
        if head.status not in self.statuses:
            return False
        labels = head.labels or NO_LABELS
        return (
            (self.ref is None or labels.ref == self.ref)
            and (self.tenant is None or labels.tenant == self.tenant)
            and (self.state is None or labels.state == self.state)
            and (self.tag is None or labels.tags.get(self.tag[0]) == self.tag[1])
        )


def list_runs(
    system: WorkflowCalls, wanted: RunFilter, *, limit: int, reverse: bool
) -> list[tuple[Ref, RunHead]]:
    """Refs and heads of runs, the oldest first (or the newest with `reverse`); no run is loaded for that.

    The caller sees what it may: outside the actors what is durable, all of it as of the same commit.
    """
    check_limit(limit)
    with system.reader.view() as view:
        prefix = wanted.label_prefix()
        if prefix is not None:
            return _by_label(system, view, wanted, prefix, limit, reverse)
        found: list[tuple[int, WorkflowType, bytes]] = []
        for kind in wanted.kinds:
            for status in wanted.statuses:
                prefix = status_prefix(kind, status)
                for entry, key_bytes in view.scan(prefix, next_prefix(prefix), reverse, limit):
                    found.append((_created_ms(entry, prefix)[0], kind, key_bytes))
        found.sort(key=lambda one: one[0], reverse=reverse)
        runs: list[tuple[Ref, RunHead]] = []
        for _, kind, key_bytes in found[:limit]:
            ref = system.ref_from_bytes(kind.number_bytes, key_bytes)
            runs.append((ref, _head(view, kind, ref)))
    return runs


def check_limit(limit: object) -> None:
    """Raise `CallerError` for what is no number of rows."""
    if type(limit) is not int or not 0 <= limit <= sys.maxsize:
        raise CallerError(f"limit must be a whole number, 0 or more; got {limit!r}")


def _by_label(
    system: WorkflowCalls, view: View, wanted: RunFilter, prefix: bytes, limit: int, reverse: bool
) -> list[tuple[Ref, RunHead]]:
    """Runs with a label, page after page until enough of them meet the rest of the filter."""
    kinds = {kind.number_bytes: kind for kind in wanted.kinds}
    start, end = prefix, next_prefix(prefix)
    runs: list[tuple[Ref, RunHead]] = []
    while len(runs) < limit:
        page = view.scan(start, end, reverse, _PAGE)
        for entry, key_bytes in page:
            _, behind = _created_ms(entry, prefix)
            kind = kinds.get(entry[behind : behind + 2])
            if kind is None:
                continue
            ref = system.ref_from_bytes(kind.number_bytes, key_bytes)
            head = _head(view, kind, ref)
            if wanted.meets(head):
                runs.append((ref, head))
        if len(page) < _PAGE:
            break
        if reverse:
            end = page[-1][0]
        else:
            start = page[-1][0] + b"\x00"
    return runs[:limit]


def _head(view: View, kind: WorkflowType, ref: Ref) -> RunHead:
    number = view.read(ref.directory_key)
    record = None if number is None else view.read(layout.DATA + number + layout.FIELDS)
    if record is None:
        raise Damaged(f"the index of runs has an entry of {ref}, which isn't stored; run `holdfast check`")
    return kind.decode_head(record, ref)


def status_prefix(kind: WorkflowType, status: RunStatus) -> bytes:
    """What the index entries of a workflow's runs with a status begin with."""
    return layout.FIELD_INDEX + kind.number_bytes + b"\x00" + encode_index_values((status,))


def _created_ms(entry: bytes, prefix: bytes) -> tuple[int, int]:
    """The time of creation in an entry, and where it ends."""
    size = entry[len(prefix)] - 0x14
    end = len(prefix) + 1 + size
    created = decode_key(entry[len(prefix) : end])
    assert isinstance(created, int)
    return created, end
