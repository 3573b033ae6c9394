"""What the calls of a `WorkflowClient` ask, as data.  No I/O here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

import msgspec

from ..actors.ids import new_id
from ..storage.errors import CallerError
from .request import Request, RunId, get, path_of, run_path, send
from .views import History, Reply, RunDetails, RunList, RunState, Started, Workflows

Verb: TypeAlias = Literal[
    "pause", "resume", "cancel", "terminate", "restart", "retry_now", "redrive", "purge"
]
Standing: TypeAlias = Literal["active", "paused", "retired"]


def start(
    workflow: str,
    params: object,
    ref: tuple[str, str] | None,
    metadata: Mapping[str, str] | None,
    id: str | None,
) -> Request[Started]:
    """Start a run.  Without an id it gets one here, so that a repetition joins it."""
    body: dict[str, object] = {"workflow": workflow}
    if params is not msgspec.UNSET:
        body["params"] = params
    if ref is not None:
        body["ref_type"], body["ref_id"] = ref
    if metadata:
        body["metadata"] = dict(metadata)
    if id is not None:
        body["id"] = id
    # With an id of its own a start that was done already is a conflict, which would be a lie.
    return send("POST", "/api/tracker/runs", Started, body, is_safe=id is None)


def look(workflow: str, id: RunId) -> Request[RunDetails]:
    """One run with its steps."""
    return get(path_of("runs", workflow) + run_path(id), RunDetails)


def by_ref(ref: tuple[str, str], workflow: str | None, limit: int) -> Request[RunList]:
    """The runs of an outside thing, the oldest first."""
    query = {"ref_type": ref[0], "ref_id": ref[1], "workflow": workflow, "limit": limit}
    return get("/runs", RunList, query)


def history(workflow: str, id: RunId) -> Request[History]:
    """All records of a run."""
    return get(path_of("history", workflow) + run_path(id), History)


_OPTIONAL_RUN: type[RunState | None] = cast("Any", RunState | None)


def control(
    verb: Verb, workflow: str, id: RunId, reason: str, input: object, undo: bool
) -> Request[RunState | None]:
    """Do a verb.  Where nobody knows whether it was done, it is not done again: a restart would be two."""
    body: dict[str, object] = {"reason": reason} if reason else {}
    if input is not msgspec.UNSET:
        body["input"] = input
    if undo:
        body["undo"] = True
    path = path_of("runs", "control", verb, workflow) + run_path(id)
    return send("POST", path, _OPTIONAL_RUN, body, is_safe=False)


def send_event(
    workflow: str, id: RunId, event: str, payload: object, event_id: str | None
) -> Request[object]:
    """Send an event, under an id that the run takes once."""
    body: dict[str, object] = {"name": event, "id": event_id or new_id()}
    if payload is not msgspec.UNSET:
        body["payload"] = payload
    return send("POST", path_of("runs", "events", workflow) + run_path(id), object, body)


def call_update(
    workflow: str, id: RunId, method: str, arguments: Sequence[object], update_id: str | None
) -> Request[Reply]:
    """Call an update method, under an id that the run takes once."""
    body = {"method": method, "arguments": list(arguments), "id": update_id or new_id()}
    return send("POST", path_of("runs", "updates", workflow) + run_path(id), Reply, body)


def workflows() -> Request[Workflows]:
    """All workflows."""
    return get("/workflows", Workflows)


def set_status(workflow: str, status: Standing, reason: str) -> Request[None]:
    """Another status of a workflow; twice is once."""
    body = {"status": status, "reason": reason}
    return send("POST", path_of("workflows", "status", workflow), type(None), body)


def set_metadata(workflow: str, metadata: Mapping[str, str], reason: str) -> Request[None]:
    """Other metadata of a workflow; twice is once."""
    body = {"metadata": dict(metadata), "reason": reason}
    return send("POST", path_of("workflows", "metadata", workflow), type(None), body)


def run_query(workflow: str, id: RunId) -> dict[str, str]:
    """What the tracker is asked for one run."""
    text = id if isinstance(id, str) and not id.startswith("~") else f"~{msgspec.json.encode(id).decode()}"
    return {"workflow": workflow, "id": text}


def watch_query(workflow: str | None, ref: tuple[str, str] | None, runs: int | None) -> dict[str, str]:
    """What the tracker is asked for several."""
    if ref is not None and len(ref) != 2:
        raise CallerError(f"a ref is (type, id); got {ref!r:.200}")
    query = {} if ref is None else {"ref_type": ref[0], "ref_id": ref[1]}
    if workflow is not None:
        query["workflow"] = workflow
    if runs is not None:
        query["runs"] = str(runs)
    return query
