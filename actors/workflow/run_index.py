"""The indexes of runs: by workflow, status and time of creation, in the declared-field index of each workflow
type; and by label over all workflows (labels.py).
"""

from __future__ import annotations

import heapq
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from ...storage import layout
from ...storage.errors import CallerError, Damaged
from ...storage.keys import decode_key, encode_index_int, encode_index_values, next_prefix
from .head import RunHead, RunStatus
from .labels import NO_LABELS, ref_prefix, state_prefix, tag_prefix, tenant_prefix

if TYPE_CHECKING:
    from ...runtime.reader import View
    from ...runtime.ref import Ref
    from ..workflow_calls import WorkflowCalls
    from .workflow_type import WorkflowType

MAX_LOOKED_AT: Final = 1_000  # entries for one page: some milliseconds
_FIRST_PAGE: Final = 8
_TYPE_NUMBER_BYTES: Final = 2
_PAGE: Final = 256
_PLACE: Final = re.compile("([0-9a-f]{1,15})\\.([0-9a-f]{4})\\.((?:[0-9a-f]{2}){1,16})")


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


class RunPlace(NamedTuple):
    """Where a run stands among all, by the time of its start; the same whatever its status."""

    created_ms: int
    type_number: bytes
    owner: bytes
    """Its number, as it stands in keys."""

    def text(self) -> str:
        """The place as clients keep it."""
        return f"{self.created_ms:x}.{self.type_number.hex()}.{self.owner.hex()}"


# An entry: its place, its workflow (None for one that isn't meant), the run's key.
_Found: TypeAlias = "tuple[RunPlace, WorkflowType | None, bytes]"


def run_place(text: str) -> RunPlace:
    """The place that `RunPlace.text` wrote; raises `CallerError` for any other text."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise CallerError(f"a cursor is what the page before gave; got {text!r:.100}")
    return RunPlace(int(match[1], 16), bytes.fromhex(match[2]), bytes.fromhex(match[3]))


def list_runs(
    system: WorkflowCalls, wanted: RunFilter, *, limit: int, reverse: bool
) -> list[tuple[Ref, RunHead]]:
    """Refs and heads of runs, the oldest first (or the newest with `reverse`); no run is loaded for that.

    The caller sees what it may: outside the actors what is durable, all of it as of the same commit.
    """
    check_limit(limit)
    with system.reader.view() as view:
        met = (_meet(system, view, wanted, found) for found in _places(view, wanted, reverse, None))
        return [*islice((run for run in met if run is not None), limit)]


def page_runs(
    system: WorkflowCalls, wanted: RunFilter, *, limit: int, reverse: bool, after: RunPlace | None
) -> tuple[list[tuple[Ref, RunHead]], RunPlace | None]:
    """A page of that, and behind which place the next one begins; None when this is the last.

    At most `MAX_LOOKED_AT` entries are looked at, so a page may hold fewer than `limit`, or none, and not be
    the last.
    """
    check_limit(limit)
    runs: list[tuple[Ref, RunHead]] = []
    last, looked_at = after, 0
    with system.reader.view() as view:
        for found in _places(view, wanted, reverse, after):
            if len(runs) >= limit or looked_at >= MAX_LOOKED_AT:
                return runs, last
            looked_at += 1
            last = found[0]
            run = _meet(system, view, wanted, found)
            if run is not None:
                runs.append(run)
    return runs, None


def check_limit(limit: object) -> None:
    """Raise `CallerError` for what is no number of rows."""
    if type(limit) is not int or not 0 <= limit <= sys.maxsize:
        raise CallerError(f"limit must be a whole number, 0 or more; got {limit!r}")


def _meet(system: WorkflowCalls, view: View, wanted: RunFilter, found: _Found) -> tuple[Ref, RunHead] | None:
    """The run of an entry, if the rest of the filter means it."""
    _, kind, key_bytes = found
    if kind is None:
        return None
    ref = system.ref_from_bytes(kind.number_bytes, key_bytes)
    head = _head(view, kind, ref)
    return (ref, head) if wanted.meets(head) else None


def _places(view: View, wanted: RunFilter, reverse: bool, after: RunPlace | None) -> Iterator[_Found]:
    """Entries of the index that is asked for, in order, behind a place.

    Without a label it is one index for each workflow and status, and they are merged.
    """
    prefix = wanted.label_prefix()
    if prefix is not None:
        kinds = {kind.number_bytes: kind for kind in wanted.kinds}
        bounds = _bounds(prefix, reverse, after, None)
        return _scan(view, prefix, bounds, reverse, None, kinds)
    streams: list[Iterator[_Found]] = []
    for kind in wanted.kinds:
        for status in wanted.statuses:
            prefix = status_prefix(kind, status)
            streams.append(_scan(view, prefix, _bounds(prefix, reverse, after, kind), reverse, kind, {}))
    return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_place_of, reverse=reverse)


def _place_of(found: _Found) -> RunPlace:
    return found[0]


def _bounds(
    prefix: bytes, reverse: bool, after: RunPlace | None, kind: WorkflowType | None
) -> tuple[bytes, bytes | None]:
    """The range of an index that lies behind a place; `kind` for an index of one workflow."""
    start, end = prefix, next_prefix(prefix)
    if after is None:
        return start, end
    at_ms = prefix + encode_index_int(after.created_ms)
    if kind is None:
        at = at_ms + after.type_number + after.owner
    elif kind.number_bytes == after.type_number:
        at = at_ms + after.owner
    else:
        # All that was started in the same millisecond is behind the place, or nothing of it.
        is_before = kind.number_bytes < after.type_number
        at = prefix + encode_index_int(after.created_ms + 1) if is_before else at_ms
        return (start, at) if reverse else (at, end)
    return (start, at) if reverse else (at + b"\x00", end)


def _scan(
    view: View,
    prefix: bytes,
    bounds: tuple[bytes, bytes | None],
    reverse: bool,
    kind: WorkflowType | None,
    kinds: Mapping[bytes, WorkflowType],
) -> Iterator[_Found]:
    """The entries of one index, read in pages that begin small: most indexes give few to a merge."""
    start, end = bounds
    size = _FIRST_PAGE
    while True:
        page = view.scan(start, end, reverse, size)
        for entry, key_bytes in page:
            created_ms, behind = _created_ms(entry, prefix)
            if kind is not None:
                yield RunPlace(created_ms, kind.number_bytes, entry[behind:]), kind, key_bytes
            else:
                number = entry[behind : behind + _TYPE_NUMBER_BYTES]
                place = RunPlace(created_ms, number, entry[behind + _TYPE_NUMBER_BYTES :])
                yield place, kinds.get(number), key_bytes
        if len(page) < size:
            return
        if reverse:
            end = page[-1][0]
        else:
            start = page[-1][0] + b"\x00"
        size = min(2 * size, _PAGE)


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
