"""What a tracker's client reads: JSON texts, version 1 (docs/tracker.md).

    {"type": "initial_data", "version": 1, "seq": 40, "data": {"runs": [...], "workflows": [...]}}
    {"type": "update", "after": 40, "seq": 42, "more": false,
     "data": {"runs": [...], "gone": [...], "workflows": [...]}}

`seq` is the number of a commit: a client that has a frame has seen all up to it, and may come back with it.
A run in a frame is as the last change in it left it, or with `more` as a later one did, which the next frame
tells; its steps are those that have changed.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..actors.folder_view import decode_head
from ..actors.run_info import info_of, run_info
from ..actors.workflow.change_feed import ChangedRun
from ..actors.workflow.head import RunHead
from ..actors.workflow.journal import Record, decode_records, journal_prefix, position_key
from ..actors.workflow.labels import NO_LABELS
from ..actors.workflow.run_index import list_runs
from ..actors.workflow.saying import decode_emit, emit_key
from ..actors.workflow.standing import stored_standing
from ..runtime.address import show_key
from ..runtime.clock import moment
from ..runtime.codec import decode_to_show
from ..storage import layout
from ..storage.keys import decode_key, next_prefix
from .api.run_views import InfoView, StepView, view_info, view_steps

if TYPE_CHECKING:
    from ..actors.system import Runtime
    from ..storage.store import DurableView

VERSION: Final = 1
# Of one run in a snapshot: the last of its records, among which its last steps are.
MAX_SNAPSHOT_RECORDS: Final = 200
# Commits that one update tells of at most, and records of runs in them, but for the last commit.
MAX_UPDATE_COMMITS: Final = 500
MAX_UPDATE_RECORDS: Final = 2_000
MAX_PROGRESS_BYTES: Final = 16 << 10

_encode = msgspec.json.Encoder(enc_hook=repr).encode
_decode_commit = msgspec.msgpack.Decoder(tuple[int, int, int]).decode


class Wanted(msgspec.Struct, frozen=True):
    """Which runs a client wants, and may see; what is None doesn't matter."""

    tenant: str | None = None
    workflow: str | None = None
    key: bytes | None = None
    """Of one run of the workflow, encoded."""
    ref: tuple[str, str] | None = None

    def may_mean(self, workflow: str, key: bytes) -> bool:
        """Whether a run may be wanted, as far as its address tells."""
        return self.workflow in (None, workflow) and self.key in (None, key)

    def means(self, workflow: str, key: bytes, head: RunHead) -> bool:
        """Whether a run is wanted."""
        labels = head.labels or NO_LABELS
        return (
            self.may_mean(workflow, key)
            and (self.tenant is None or labels.tenant == self.tenant)
            and (self.ref is None or labels.ref == self.ref)
        )


class ProgressView(msgspec.Struct, frozen=True):
    """A progress event of a run."""

    number: int
    name: str
    at: datetime
    data: object
    """None where it takes more than MAX_PROGRESS_BYTES: `run.progress()` has it."""


class RunFrame(msgspec.Struct, frozen=True):
    """A run in a frame."""

    run: InfoView
    begins: bool
    """Forget what was known of its steps: it begins, perhaps anew, or this is a snapshot."""
    steps: list[StepView]
    progress: list[ProgressView]


class GoneRun(msgspec.Struct, frozen=True):
    """A run that was erased."""

    workflow: str
    id: str


class WorkflowFrame(msgspec.Struct, frozen=True):
    """A workflow in a frame."""

    name: str
    status: str
    metadata: dict[str, str]
    imported: bool | None = None
    counts: dict[str, int] | None = None
    """Runs by status, in a snapshot; not for a token of one tenant, which would count others' runs."""


class _Initial(msgspec.Struct, frozen=True, tag_field="type", tag="initial_data"):
    version: int
    seq: int
    data: dict[str, object]


class _Update(msgspec.Struct, frozen=True, tag_field="type", tag="update"):
    after: int
    seq: int
    more: bool
    data: dict[str, object]


def snapshot(runtime: Runtime, wanted: Wanted, limit: int) -> tuple[str, int]:
    """The newest runs with their last steps, and all workflows; and the commit of it."""
    # Read first: what comes in between is told once more, which does no harm.
    stored = runtime.store.get_durable(layout.META_COMMIT)
    seq = 0 if stored is None else _decode_commit(stored)[0]
    runs = [_whole(runtime, *found) for found in _newest(runtime, wanted, limit)]
    workflows = [
        WorkflowFrame(
            one.name, one.status, one.metadata, one.imported, one.counts if wanted.tenant is None else None
        )
        for one in runtime.known_workflows()
    ]
    frame = _Initial(VERSION, seq, {"runs": runs, "workflows": workflows})
    return _encode(frame).decode(), seq


def _newest(runtime: Runtime, wanted: Wanted, limit: int) -> list[tuple[bytes, bytes, RunHead]]:
    """Type, key and head of runs, the newest first."""
    if wanted.key is not None and wanted.workflow is not None:
        with runtime.store.durable_view() as view:
            number = view.read(layout.TYPE + wanted.workflow.encode())
            head = None if number is None else _head(view, number, wanted.key)
        if number is None or head is None or not wanted.means(wanted.workflow, wanted.key, head[1]):
            return []
        return [(number, wanted.key, head[1])]
    kinds = runtime.run_filter(ref=wanted.ref, tenant=wanted.tenant)
    if wanted.workflow is not None:
        of_one = tuple(kind for kind in kinds.kinds if kind.name == wanted.workflow)
        kinds = msgspec.structs.replace(kinds, kinds=of_one)
    found = list_runs(runtime, kinds, limit=limit, reverse=True)
    return [(ref.type.number_bytes, ref.key_bytes, head) for ref, head in found]


def _whole(runtime: Runtime, type_number: bytes, key: bytes, head: RunHead) -> RunFrame:
    ref = runtime.ref_from_bytes(type_number, key)
    number = runtime.store.get_durable(ref.directory_key)
    records: list[Record] = []
    if number is not None:  # else it was erased meanwhile
        prefix = journal_prefix(layout.DATA + number)
        rows = runtime.store.scan(
            prefix, next_prefix(prefix), reverse=True, limit=MAX_SNAPSHOT_RECORDS, durable_only=True
        )
        records = [record for _, record in decode_records(rows[::-1], str(ref))]
    return RunFrame(view_info(run_info(ref, head)), True, view_steps(records, outputs=False), [])


class MadeUpdate(NamedTuple):
    """An update that was made."""

    text: str | None
    """None where there is nothing to tell."""
    seq: int
    more: bool
    """There are further changes already: the runs may be further on than what is told of them."""


def update(runtime: Runtime, wanted: Wanted, after: int, *, always: bool) -> MadeUpdate:
    """What the feed tells of wanted runs behind a commit; with `always` also that there is nothing.

    Changes and runs are read from one view.  So where these are all changes that there are, each run is as
    the last of them left it.
    """
    changed: dict[tuple[bytes, bytes], ChangedRun] = {}
    gone: dict[tuple[bytes, bytes], ChangedRun] = {}
    types: dict[str, None] = {}
    seq, records = after, 0
    runs: list[RunFrame] = []
    with runtime.store.durable_view() as view:
        rows = runtime.changes.read_in(view, after, MAX_UPDATE_COMMITS + 1)
        more = len(rows) > MAX_UPDATE_COMMITS
        for number, change in rows[:MAX_UPDATE_COMMITS]:
            told = sum(len(one.positions) for one in change.runs)
            if records and records + told > MAX_UPDATE_RECORDS:
                more = True
                break
            seq, records = number, records + told
            types.update(dict.fromkeys(change.types))
            for one in change.runs:
                if wanted.may_mean(runtime.actor_types.name_of(one.type), one.key):
                    _merge(changed, gone, one)
        for one in changed.values():
            run = _changed(runtime, view, wanted, one)
            if run is not None:
                runs.append(run)
    left = [
        GoneRun(workflow, _shown(one.key))
        for one in gone.values()
        if wanted.means(
            workflow := runtime.actor_types.name_of(one.type),
            one.key,
            RunHead(labels=msgspec.structs.replace(NO_LABELS, tenant=one.tenant, ref=wanted.ref)),
        )
    ]
    workflows = [WorkflowFrame(name, *stored_standing(runtime, name)) for name in types]
    if not (runs or left or workflows or always):
        return MadeUpdate(None, seq, more)
    frame = _Update(after, seq, more, {"runs": runs, "gone": left, "workflows": workflows})
    return MadeUpdate(_encode(frame).decode(), seq, more)


def _merge(
    changed: dict[tuple[bytes, bytes], ChangedRun],
    gone: dict[tuple[bytes, bytes], ChangedRun],
    one: ChangedRun,
) -> None:
    address = (one.type, one.key)
    if one.gone:
        changed.pop(address, None)
        gone[address] = one
        return
    gone.pop(address, None)
    before = changed.get(address)
    if before is not None and 0 not in one.positions:
        positions = sorted({*before.positions, *one.positions})
        progress = sorted({*before.progress, *one.progress})
        one = msgspec.structs.replace(one, positions=positions, progress=progress)
    changed[address] = one


def _changed(runtime: Runtime, view: DurableView, wanted: Wanted, one: ChangedRun) -> RunFrame | None:
    head = _head(view, one.type, one.key)
    workflow = runtime.actor_types.name_of(one.type)
    if head is None or not wanted.means(workflow, one.key, head[1]):
        return None  # a later commit erased it, and tells so
    base = layout.DATA + head[0]
    rows: list[tuple[bytes, bytes]] = []
    prefix = journal_prefix(base)
    for position in one.positions:
        stored = view.read(position_key(prefix, position))
        if stored is not None:
            rows.append((position_key(prefix, position), stored))
    records = [record for _, record in decode_records(rows, workflow)]
    progress: list[ProgressView] = []
    for number in one.progress:
        stored = view.read(emit_key(base, number))
        if stored is not None:
            emit = decode_emit(stored)
            data = decode_to_show(emit.data) if len(bytes(emit.data)) <= MAX_PROGRESS_BYTES else None
            progress.append(ProgressView(number, emit.name, moment(emit.at_ms), data))
    info = view_info(info_of(workflow, _shown(one.key), head[1]))
    return RunFrame(info, 0 in one.positions, view_steps(records, outputs=False), progress)


def _head(view: DurableView, type_number: bytes, key: bytes) -> tuple[bytes, RunHead] | None:
    """Number and head of a run as they are on disk; None when it isn't there."""
    number = view.read(layout.DIRECTORY + type_number + key)
    fields = None if number is None else view.read(layout.DATA + number + layout.FIELDS)
    return None if number is None or fields is None else (number, decode_head(fields))


def _shown(key: bytes) -> str:
    return show_key(decode_key(key))
