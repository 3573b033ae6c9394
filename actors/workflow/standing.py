"""The standing of a workflow as a whole: may its runs begin, and what people noted about it.

    active    what is started runs
    paused    no run gets a place: new ones, and those that wake, wait on disk as `queued`; those that work go
              on until they rest
    retired   nothing new is started (`WorkflowRetired`); runs that are there go on

Kept by workflow name, so that it is there for workflows whose class isn't imported, too.  A change is a turn,
with an audit record in its commit; it counts from the moment it is durable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

import msgspec

from ...runtime.actor import Actor
from ...runtime.chain import after_commit
from ...runtime.registry import type_name
from ...storage import layout
from ...storage.errors import CallerError, InvalidValue
from ...storage.keys import encode_index_values, encode_key, next_prefix
from ..audit import checked_by
from .change_feed import STANDING
from .head import ALL_STATUSES
from .journal import journal_prefix, position_key
from .labels import MAX_TAGS, check_label
from .listing import workflow_classes

if TYPE_CHECKING:
    from ...storage.errors import StorageFailed
    from ...storage.store import DurableView
    from ..workflow_calls import WorkflowCalls

WorkflowStatus: TypeAlias = Literal["active", "paused", "retired"]
# Runs of one status are counted so far: beyond it they are that many or more.
MAX_COUNTED: Final = 10_000


class WorkflowStanding(Actor):
    """The standing of one workflow, by its name."""

    name = STANDING
    indexes = (("status", "changed_ms"),)
    status: str = "active"
    metadata: dict[str, str] = {}
    changed_ms: int = 0

    async def change(
        self, status: str | None, metadata: dict[str, str] | None, by: str | None, reason: str
    ) -> None:
        """Set what isn't None; raises `CallerError` or `InvalidValue`."""
        before = self.status
        about = checked_by(by, reason)
        runtime = cast("WorkflowCalls", self.runtime)
        now_ms = runtime.clock.now_ms()
        if status is not None:
            if status not in get_args(WorkflowStatus):
                raise CallerError(
                    f"the status of a workflow is one of {', '.join(get_args(WorkflowStatus))}; "
                    f"got {status!r:.100}"
                )
            self.status = status
        if metadata is not None:
            self.metadata = check_metadata(metadata)
        # Also where nothing else is another: the index entry tells that there was a change.
        self.changed_ms = max(now_ms, self.changed_ms + 1)
        verb = "metadata" if status is None else status
        runtime.audit_trail.add_in_turn(self, verb, about, before, self.status)
        workflow, status_now = cast("str", self.key), cast("WorkflowStatus", self.status)

        def decided(failure: StorageFailed | None) -> None:
            if failure is None:
                runtime.standing_changed(workflow, status_now)

        after_commit(
            self._activation.current_turn(), lambda commit: runtime.store.on_durable(commit, decided)
        )


class KnownWorkflow(msgspec.Struct, frozen=True):
    """A workflow as a whole: imported here, or seen on disk."""

    name: str
    status: WorkflowStatus
    metadata: dict[str, str]
    imported: bool
    """Whether its class is there; without it none of its runs goes on."""
    counts: dict[str, int]
    """Runs by status, as far as MAX_COUNTED of each; those that there are."""


class _Fields(msgspec.Struct):
    status: WorkflowStatus = "active"
    metadata: dict[str, str] = {}


_decode: Final = msgspec.msgpack.Decoder(_Fields).decode


def check_metadata(given: object) -> dict[str, str]:
    """Metadata as it is kept: names with texts, as the tags of a run are; raises `InvalidValue`."""
    if not isinstance(given, Mapping):
        raise InvalidValue(f"metadata must be a mapping of names to texts; got {given!r:.200}")
    pairs = cast("Mapping[object, object]", given)
    if len(pairs) > MAX_TAGS:
        raise InvalidValue(f"metadata has at most {MAX_TAGS} names; got {len(pairs)}")
    return {
        check_label(name, "a name of metadata"): check_label(value, f"the metadata {name!r}")
        for name, value in pairs.items()
    }


def stored_standing(runtime: WorkflowCalls, workflow: str) -> tuple[WorkflowStatus, dict[str, str]]:
    """Status and metadata of a workflow by its name, as they are on disk."""
    store = runtime.store
    kind = store.get(layout.TYPE + STANDING.encode())
    number = None if kind is None else store.get(layout.DIRECTORY + kind + encode_key(workflow))
    fields = None if number is None else store.get(layout.DATA + number + layout.FIELDS)
    found = _Fields() if fields is None else _decode(fields)
    return found.status, found.metadata


def known_workflows(runtime: WorkflowCalls) -> list[KnownWorkflow]:
    """See `Runtime.known_workflows`."""
    imported = {type_name(one) for one in workflow_classes()}
    stored = runtime.actor_types.stored()
    found: list[KnownWorkflow] = []
    with runtime.store.durable_view() as view:
        for name in sorted(imported | stored.keys()):
            number = stored.get(name)
            counts: dict[str, int] = {}
            if number is not None:
                counts = _counts(view, number)
            if name not in imported and (number is None or not counts or not _are_runs(view, number, counts)):
                continue
            status, metadata = stored_standing(runtime, name)
            found.append(KnownWorkflow(name, status, metadata, name in imported, counts))
    return found


def _counts(view: DurableView, number: bytes) -> dict[str, int]:
    counts = {one: view.count(_prefix(number, one), MAX_COUNTED) for one in ALL_STATUSES}
    return {status: count for status, count in counts.items() if count}


def _are_runs(view: DurableView, number: bytes, counts: Mapping[str, int]) -> bool:
    """Whether an unknown type whose index looks like that of runs is one of a workflow: it has a journal."""
    prefix = _prefix(number, next(iter(counts)))
    for _, key in view.scan(prefix, next_prefix(prefix), False, 1):
        owner = view.read(layout.DIRECTORY + number + key)
        if owner is not None:
            return view.read(position_key(journal_prefix(layout.DATA + owner), 0)) is not None
    return False


def _prefix(number: bytes, status: str) -> bytes:
    return layout.FIELD_INDEX + number + b"\x00" + encode_index_values((status,))
