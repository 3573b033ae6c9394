"""Schedules: when they come next and came last, and the verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast, get_args

from starlette.requests import Request
from starlette.responses import Response

from ...runtime.repeats import Missed
from ...storage.errors import CallerError
from ..api.addresses import key_of
from ..api.schedule_views import find_schedule, view_schedule, view_schedules
from ..bodies import Form
from .addresses import key_text
from .guard import Guard, see
from .sessions import Session
from .shell import base_of

if TYPE_CHECKING:
    from ...actors.schedule import Schedule
    from ...actors.system import Runtime
    from ..access import Caller

PAGE_SCHEDULES: Final = 100


class SchedulesPage:
    """The listing, and one schedule."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard

    async def show_all(self, request: Request, session: Session) -> Response:
        """Schedules by name."""
        cursor = request.query_params.get("cursor")
        found = view_schedules(self._runtime, PAGE_SCHEDULES, cursor, tenant=session.caller.tenant)
        rows = cast("list[dict[str, object]]", found["schedules"])
        told = {
            "title": "Schedules",
            "rows": [(one, key_text(cast("str", one["name"]))) for one in rows],
            "following": found["next"],
            "now_ms": self._runtime.clock.now_ms(),
        }
        return self._guard.shell.page(request, "schedules.html", session, told)

    async def show(self, request: Request, session: Session) -> Response:
        """One schedule with its next times and newest runs."""
        schedule = await self._schedule(request, session.caller)
        info = await view_schedule(schedule)
        told = {
            "title": f"Schedule {info['name']}",
            "info": info,
            "address": key_text(cast("str", info["name"])),
            "now_ms": self._runtime.clock.now_ms(),
        }
        return self._guard.shell.page(request, "schedule.html", session, told)

    async def control(self, request: Request, session: Session, form: Form) -> Response:
        """Pause, resume, trigger, delete."""
        schedule = await self._schedule(request, session.caller)
        verb, by, why = request.path_params["verb"], session.caller.name, form.get("reason")
        address = f"{base_of(request)}/schedules/{key_text(key_of(request.path_params['name']))}"
        told = f"{verb.capitalize()}: done."
        match verb:
            case "pause":
                await schedule.pause(by=by, reason=why)
            case "resume":
                missed = form.get("missed") or "skip"
                if missed not in get_args(Missed):
                    raise CallerError(f"missed is one of {', '.join(get_args(Missed))}; got {missed!r:.100}")
                await schedule.resume(missed=cast("Missed", missed), by=by, reason=why)
            case "trigger":
                started = await schedule.trigger(by=by, reason=why)
                told = f"Run {started} is started." if started else "No run is started: one before goes on."
            case "delete":
                await schedule.delete(by=by, reason=why)
                address = f"{base_of(request)}/schedules"
            case _:
                raise CallerError(f"there is no verb {verb!r:.100}")
        session.tell(told)
        return see(address)

    async def _schedule(self, request: Request, caller: Caller) -> Schedule:
        return await find_schedule(self._runtime, key_of(request.path_params["name"]), caller.tenant)
