"""All pages, with their addresses; this file alone knows them all."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from ...storage.errors import CallerError
from ..access import Access
from .actors import ActorsPage
from .assets import Assets
from .audit import AuditPage
from .changes import Changes
from .dead_letters import DeadLettersPage
from .guard import Deed, Guard, Page
from .history import HistoryPage
from .home import HomePage
from .hub import HubPage
from .queues import QueuesPage
from .run import RunPage
from .runs import RunsPage
from .schedules import SchedulesPage
from .sessions import Sessions
from .shell import Shell
from .sign_in import SignIn
from .store import StorePage

if TYPE_CHECKING:
    from ...actors.system import Runtime

PLACE = "/ui"


def pages_routes(
    runtime: Runtime,
    access: Access,
    *,
    origins: Collection[str],
    max_body_bytes: int,
    frame_ancestors: Collection[str] = (),
) -> list[BaseRoute]:
    """The routes of all pages, below `/ui/`."""
    guard = Guard(Shell(frame_ancestors), Sessions(), origins, max_body_bytes)
    sign_in = SignIn(guard, access)
    runs, run, history = RunsPage(runtime, guard), RunPage(runtime, guard), HistoryPage(runtime, guard)

    dead_letters, queues = DeadLettersPage(runtime, guard), QueuesPage(runtime, guard)
    actors = ActorsPage(runtime, guard)
    schedules, store = SchedulesPage(runtime, guard), StorePage(runtime, guard)

    def page(path: str, endpoint: Page) -> Route:
        return Route(path, guard.page(endpoint), methods=["GET"])

    def deed(path: str, endpoint: Deed) -> Route:
        return Route(path, guard.deed(endpoint), methods=["POST"])

    async def begin(request: Request) -> Response:
        return RedirectResponse(f"{request.scope.get('root_path', '')}{PLACE}/")

    routes: list[BaseRoute] = [
        Route("/static/{name}", Assets().get, methods=["GET"]),
        Route("/sign-in", sign_in.show, methods=["GET"]),
        Route("/sign-in", sign_in.sign_in, methods=["POST"]),
        Route("/sign-out", guard.deed(sign_in.sign_out, "viewer"), methods=["POST"]),
        Route("/theme", guard.deed(sign_in.theme, "viewer"), methods=["POST"]),
        page("/changes", Changes(runtime).stream),
        page("/", HomePage(runtime, guard).show),
        page("/runs", runs.show),
        deed("/runs/bulk", runs.bulk),
        page("/runs/{workflow}/{id:path}", run.show),
        deed("/control/{verb}/{workflow}/{id:path}", run.control),
        deed("/send/{workflow}/{id:path}", run.send),
        page("/history/{workflow}/{id:path}", history.show),
        page("/dead-letters", dead_letters.show),
        deed("/dead-letters/deal", dead_letters.deal),
        page("/queues", queues.show_all),
        page("/queues/{type}/{key:path}", queues.show),
        deed("/queue-control/{verb}/{type}/{key:path}", queues.control),
        deed("/queue-dead/{type}/{key:path}", queues.dead),
        deed("/queue-send/{type}/{key:path}", queues.send),
        page("/actors", actors.show_types),
        page("/actors/{type}", actors.show_keys),
        page("/actors/{type}/{key:path}", actors.show),
        deed("/actor-call/{type}/{key:path}", actors.call),
        deed("/actor-edit/{type}/{key:path}", actors.edit),
        page("/schedules", schedules.show_all),
        page("/schedules/{name:path}", schedules.show),
        deed("/schedule-control/{verb}/{name:path}", schedules.control),
        page("/hub", HubPage(runtime, guard).show),
        page("/store", store.show),
        deed("/store/check", store.check),
        page("/audit", AuditPage(runtime, guard).show),
        Route("/{path:path}", guard.page(_nothing_there)),
    ]
    return [Route(PLACE, begin), Mount(PLACE, routes=routes)]


async def _nothing_there(request: Request, session: object) -> Response:
    raise NoSuchPage(f"there is no page {request.url.path!r:.200}")


class NoSuchPage(CallerError, LookupError):
    """An address that leads nowhere."""
