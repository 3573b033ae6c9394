"""Workflows as a whole over HTTP, and runs under the names of a tracker.

    GET  /workflows                        all that are imported or were seen on disk
    POST /workflows/status/{workflow}      {"status": "active" | "paused" | "retired", "reason"?}
    POST /workflows/metadata/{workflow}    {"metadata": {...}, "reason"?}
    POST /api/tracker/runs                 {"workflow", "params"?, "ref_type"?, "ref_id"?, "metadata"?, "id"?}

What a run is started with as metadata are its tags: it is found by them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.errors import RunNotFound
from ...actors.workflow.labels import MAX_TAGS
from ...actors.workflow.standing import WorkflowStatus, check_metadata
from ...runtime.errors import UnknownActorType
from ..access import Access
from ..bodies import answer, read_body
from ..endpoint import AnyEndpoint, plain
from .runs import RunsApi, StartRun

if TYPE_CHECKING:
    from ...actors.system import Runtime

STARTED_BY: Final = "started_by"


class SetStatus(msgspec.Struct, forbid_unknown_fields=True):
    """The body of another status."""

    status: str
    reason: str = ""


class SetMetadata(msgspec.Struct, forbid_unknown_fields=True):
    """The body of other metadata."""

    metadata: dict[str, str]
    reason: str = ""


class StartTracked(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a start as a tracker has it."""

    workflow: str
    params: Any = msgspec.UNSET
    ref_type: str | None = None
    ref_id: str | None = None
    metadata: dict[str, str] = {}
    id: str | None = None


class WorkflowsApi:
    """The endpoints of workflows as a whole."""

    def __init__(self, runtime: Runtime, access: Access, runs: RunsApi, max_body_bytes: int) -> None:
        self._runtime = runtime
        self._access = access
        self._runs = runs
        self._max_body_bytes = max_body_bytes

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them; those of a tracker are those of runs under its names (docs/tracker.md)."""
        runs = self._runs
        return [
            plain("GET", "/workflows", "All workflows that are imported or were seen on disk", self.list),
            plain(
                "POST",
                "/workflows/status/{workflow}",
                "Let a workflow's runs begin, wait, or not be started",
                self.set_status,
                role="operator",
                body=SetStatus,
                answers={204: None},
            ),
            plain(
                "POST",
                "/workflows/metadata/{workflow}",
                "Note something about a workflow, in place of what was noted",
                self.set_metadata,
                role="operator",
                body=SetMetadata,
                answers={204: None},
            ),
            plain(
                "POST",
                "/api/tracker/runs",
                "Start a run for an outside thing: 201, or 200 for one that was joined",
                self.start,
                has_ids=True,
                role="operator",
                body=StartTracked,
                answers={200: dict[str, Any], 201: dict[str, Any]},
            ),
            *runs.tracked_endpoints(),
        ]

    async def list(self, request: Request) -> Response:
        """All workflows by name: standing, runs by status, and what their classes tell."""
        caller = self._access.caller(request, "viewer")
        infos = {info.name: info for info in self._runtime.workflows()}
        told: list[dict[str, object]] = []
        for one in self._runtime.known_workflows():
            row = msgspec.structs.asdict(one)
            if caller.tenant is not None:
                row["counts"] = None  # which would count others' runs
            info = infos.get(one.name)
            told.append({**row, "about": None if info is None else msgspec.structs.asdict(info)})
        return answer({"workflows": told})

    async def set_status(self, request: Request) -> Response:
        """Let a workflow's runs begin, wait, or not be started."""
        caller = self._access.caller(request, "operator")
        workflow = request.path_params["workflow"]
        caller.must_be_nobodys(f"workflow {workflow}")
        asked = await read_body(request, SetStatus, self._max_body_bytes)
        try:
            await self._runtime.set_workflow_status(
                workflow, cast("WorkflowStatus", asked.status), by=caller.name, reason=asked.reason
            )
        except UnknownActorType as error:
            raise RunNotFound(str(error)) from error
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def set_metadata(self, request: Request) -> Response:
        """Note something about a workflow, in place of what was noted."""
        caller = self._access.caller(request, "operator")
        workflow = request.path_params["workflow"]
        caller.must_be_nobodys(f"workflow {workflow}")
        asked = await read_body(request, SetMetadata, self._max_body_bytes)
        try:
            await self._runtime.set_workflow_metadata(
                workflow, asked.metadata, by=caller.name, reason=asked.reason
            )
        except UnknownActorType as error:
            raise RunNotFound(str(error)) from error
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def start(self, request: Request) -> Response:
        """Start a run for an outside thing; who started it is noted unless the metadata say so."""
        caller = self._access.caller(request, "operator")
        asked = await read_body(request, StartTracked, self._max_body_bytes)
        tags = check_metadata(asked.metadata)
        if len(tags) < MAX_TAGS:
            tags.setdefault(STARTED_BY, caller.name)
        run = StartRun(
            asked.workflow,
            asked.params,
            asked.id,
            ref_type=asked.ref_type,
            ref_id=asked.ref_id,
            tags=tags,
        )
        told, status, where = await self._runs.begin(request, caller, run)
        return answer({"run_id": told.id, "run": told}, status, {"Location": where})
