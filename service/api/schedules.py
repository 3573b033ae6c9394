"""Schedules over HTTP: look, pause, resume, trigger, back-fill, delete.

    GET  /schedules                         ?workflow= status= tenant=
    GET  /schedules/{name}                  one with its next planned times
    POST /schedules/control/{verb}/{name}

A token of a tenant sees and steers the schedules that were set up for that tenant.
"""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.schedule_definition import OVERLAPS, Overlap
from ...actors.schedule_records import STATUSES, ScheduleStatus
from ...runtime.repeats import Missed
from ...storage.errors import CallerError
from ..access import Access
from ..bodies import answer, read_body
from ..endpoint import AnyEndpoint, plain
from .addresses import key_of
from .asked import PageQuery, check_names, limit_of, tenant_of
from .schedule_views import find_schedule, view_schedule, view_schedules

if TYPE_CHECKING:
    from ...actors.schedule import Schedule
    from ...actors.system import Runtime
    from ..access import Caller

ScheduleVerb: TypeAlias = Literal["pause", "resume", "trigger", "backfill", "delete"]
SCHEDULE_VERBS: Final[tuple[ScheduleVerb, ...]] = get_args(ScheduleVerb)
# Which fields beside the reason a verb takes.
_TAKES: Final[dict[str, tuple[str, ...]]] = {
    "resume": ("missed",),
    "trigger": ("overlap",),
    "backfill": ("start", "end", "overlap"),
}


class SteerSchedule(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a verb: `missed` for resume, `overlap` for trigger and backfill, `start` and `end` for the
    latter.
    """

    reason: str = ""
    missed: Missed | None = None
    overlap: Overlap | None = None
    start: datetime | None = None
    end: datetime | None = None


class SchedulesQuery(PageQuery, frozen=True):
    """Which schedules are listed."""

    workflow: str | None = None
    status: ScheduleStatus | None = None
    tenant: str | None = None


class SchedulesApi:
    """The endpoints of schedules."""

    def __init__(self, runtime: Runtime, access: Access, max_body_bytes: int) -> None:
        self._runtime = runtime
        self._access = access
        self._max_body_bytes = max_body_bytes

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them."""
        return [
            plain(
                "GET",
                "/schedules",
                "Schedules by name; with `workflow` or `status` in the order in which they were set up",
                self.list,
                query=SchedulesQuery,
            ),
            plain(
                "POST",
                "/schedules/control/{verb}/{name:path}",
                "Pause, resume, trigger, backfill or delete a schedule",
                self.control,
                role="operator",
                body=SteerSchedule,
                answers={200: dict[str, Any], 204: None},
            ),
            plain("GET", "/schedules/{name:path}", "One schedule with its next planned times", self.look),
        ]

    async def list(self, request: Request) -> Response:
        """Schedules by name; with `workflow` or `status` in the order in which they were set up."""
        caller = self._access.caller(request, "viewer")
        check_names(request, ("workflow", "status", "tenant", "limit", "cursor"))
        asked = request.query_params
        status = asked.get("status")
        if status is not None and status not in STATUSES:
            raise CallerError(f"status is one of {', '.join(STATUSES)}; got {status!r:.100}")
        return answer(
            view_schedules(
                self._runtime,
                limit_of(request),
                asked.get("cursor"),
                workflow=asked.get("workflow"),
                status=status,
                tenant=tenant_of(caller, asked.get("tenant")),
            )
        )

    async def look(self, request: Request) -> Response:
        """One schedule with its next planned times."""
        caller = self._access.caller(request, "viewer")
        check_names(request, ())
        return answer(await view_schedule(await self._schedule(request, caller)))

    async def control(self, request: Request) -> Response:
        """Do one of the verbs; the schedule behind it, with the run that was triggered or how many runs a
        back-fill made.
        """
        caller = self._access.caller(request, "operator")
        check_names(request, ())
        asked = await read_body(request, SteerSchedule, self._max_body_bytes)
        verb: str = request.path_params["verb"]
        if verb not in SCHEDULE_VERBS:
            raise CallerError(f"the verbs are {', '.join(SCHEDULE_VERBS)}; got {verb!r:.100}")
        for field in ("missed", "overlap", "start", "end"):
            if getattr(asked, field) is not None and field not in _TAKES.get(verb, ()):
                raise CallerError(f"{verb} takes no {field}")
        schedule = await self._schedule(request, caller)
        told: dict[str, object] = {}
        by: dict[str, Any] = {"by": caller.name, "reason": asked.reason}
        match verb:
            case "pause":
                await schedule.pause(**by)
            case "resume":
                await schedule.resume(missed=asked.missed or "skip", **by)
            case "trigger":
                given = request.headers.get("idempotency-key")
                told["run"] = await schedule.trigger(overlap=asked.overlap, id=given, **by)
            case "backfill":
                told["runs_started"] = await self._backfill(schedule, asked, by)
            case "delete":
                if not asked.reason:
                    raise CallerError("delete needs a reason")
                await schedule.delete(**by)
                return Response(status_code=HTTPStatus.NO_CONTENT)
        return answer(await view_schedule(schedule) | told)

    async def _backfill(self, schedule: Schedule, asked: SteerSchedule, by: dict[str, Any]) -> int:
        if asked.start is None or asked.end is None:
            raise CallerError("backfill needs start and end, as times with a zone")
        if asked.overlap not in (None, "allow", "queue"):
            raise CallerError(f"a back-fill's overlap is allow or queue, of {', '.join(OVERLAPS)}")
        return await schedule.backfill(asked.start, asked.end, overlap=asked.overlap, **by)

    async def _schedule(self, request: Request, caller: Caller) -> Schedule:
        return await find_schedule(self._runtime, key_of(request.path_params["name"]), caller.tenant)
