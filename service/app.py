"""The HTTP service of a runtime, as a Starlette app: to be mounted in another, or served by itself.

    app.mount("/_holdfast", http_app(rt, tokens=[Token(secret, "ann", "operator")]))

    request -> an endpoint (api/): its token (access.py), its body (bodies.py) -> JSON
                                                         -> an error, as a problem (refusals.py)

This file alone knows all endpoints.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import nullcontext
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from ..actors.correlation import CORRELATION_ID
from ..storage.errors import HoldfastError
from .access import Access, Token
from .api.actors import ActorsApi
from .api.audit import AuditApi
from .api.dead_letters import DeadLettersApi
from .api.events import EventsApi
from .api.metrics import MetricsApi
from .api.queues import QueuesApi
from .api.runs import RunsApi
from .api.schedules import SchedulesApi
from .api.workflows import WorkflowsApi
from .bodies import CORRELATION_HEADER, MAX_BODY_BYTES, answer, given_correlation_id
from .origins import is_allowed
from .refusals import problem, refusal
from .tracker import TrackerSocket

if TYPE_CHECKING:
    from ..actors.system import Runtime
    from ..actors.tracing import RunTracing

EVENT_QUEUE = "event-queue"


def http_app(
    runtime: Runtime,
    *,
    tokens: Iterable[Token],
    origins: Collection[str] = (),
    event_queue: str = EVENT_QUEUE,
    max_body_bytes: int = MAX_BODY_BYTES,
    pages: bool = False,
    frame_ancestors: Collection[str] = (),
    open_metrics: bool = False,
) -> Starlette:
    """The app.

    tokens    who may ask what: access.py
    origins   pages of other hosts that may ask; pages of this host, and programs, always may
    event_queue   where `POST /events` puts them
    max_body_bytes   a longer body gets 413
    pages     whether there are pages for people, at `/ui/`; they need Jinja2
    frame_ancestors   origins whose pages may show those in a frame
    open_metrics   `/metrics` needs no token, so that a Prometheus without one can read it

    `/health` and `/ready` need no token.  Raises `CallerError` for tokens that can't be.
    """
    access = Access(tokens)
    runs = RunsApi(runtime, access, max_body_bytes)
    letters = DeadLettersApi(runtime, access, max_body_bytes)
    queues = QueuesApi(runtime, access, max_body_bytes)
    schedules = SchedulesApi(runtime, access, max_body_bytes)
    audit = AuditApi(runtime, access)
    actors = ActorsApi(runtime, access, max_body_bytes)
    workflows = WorkflowsApi(runtime, access, runs, max_body_bytes)
    events = EventsApi(runtime, access, max_body_bytes, event_queue)
    metrics = MetricsApi(runtime, access, is_open=open_metrics)

    async def health(request: Request) -> Response:
        return answer({"status": "ok"})

    async def ready(request: Request) -> Response:
        try:
            runtime.check_open()
            runtime.store.environment.check_usable()
        except HoldfastError:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the runtime is not open")
        return answer({"status": "ready"})

    def route(method: str, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
        return Route(path, _guarded(endpoint, origins, runtime.telemetry), methods=[method])

    pages_below: list[BaseRoute] = []
    if pages:
        from .pages.mount import pages_routes  # Jinja2 is loaded for those alone who have pages

        pages_below = pages_routes(
            runtime,
            access,
            origins=origins,
            max_body_bytes=max_body_bytes,
            frame_ancestors=frame_ancestors,
        )

    app = Starlette(
        routes=[
            *pages_below,
            route("GET", "/health", health),
            route("GET", "/ready", ready),
            route("POST", "/events", events.post),
            route("GET", "/runs", runs.list),
            route("POST", "/runs", runs.start),
            route("GET", "/runs/{workflow}/{id:path}", runs.look),
            route("GET", "/history/{workflow}/{id:path}", runs.history),
            route("POST", "/runs/events/{workflow}/{id:path}", runs.send),
            route("POST", "/runs/updates/{workflow}/{id:path}", runs.update),
            route("POST", "/runs/control/{verb}/{workflow}/{id:path}", runs.control),
            route("GET", "/dead-letters", letters.list),
            route("GET", "/dead-letters/causes", letters.causes),
            route("GET", "/dead-letters/{letter}", letters.look),
            route("POST", "/dead-letters/control/{verb}", letters.control_all),
            route("POST", "/dead-letters/control/{verb}/{letter}", letters.control),
            route("GET", "/queues", queues.list),
            route("GET", "/queues/messages/{name:path}", queues.messages),
            route("POST", "/queues/messages/{name:path}", queues.send),
            route("POST", "/queues/control/{verb}/{name:path}", queues.control),
            route("GET", "/queues/{name:path}", queues.look),
            route("GET", "/schedules", schedules.list),
            route("POST", "/schedules/control/{verb}/{name:path}", schedules.control),
            route("GET", "/schedules/{name:path}", schedules.look),
            route("GET", "/audit", audit.list),
            route("GET", "/actors", actors.types),
            route("GET", "/actors/schema/{type}", actors.schema),
            route("POST", "/actors/call/{type}/{key:path}", actors.call),
            route("POST", "/actors/edit/{type}/{key:path}", actors.edit),
            route("GET", "/actors/{type}", actors.keys),
            route("GET", "/actors/{type}/{key:path}", actors.look),
            route("GET", "/workflows", workflows.list),
            route("POST", "/workflows/status/{workflow}", workflows.set_status),
            route("POST", "/workflows/metadata/{workflow}", workflows.set_metadata),
            # The same under the names of a tracker (docs/tracker.md).
            route("GET", "/api/tracker/runs", runs.list),
            route("POST", "/api/tracker/runs", workflows.start),
            route("GET", "/api/tracker/runs/{workflow}/{id:path}", runs.look),
            route("POST", "/api/tracker/control/{verb}/{workflow}/{id:path}", runs.control),
            WebSocketRoute("/api/tracker-websocket", TrackerSocket(runtime, access, origins).serve),
            route("GET", "/metrics", metrics.text),
            route("GET", "/metrics/now", metrics.now),
            route("GET", "/metrics/course", metrics.course),
        ],
        exception_handlers={HTTPException: _no_such_address},
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=list(origins),
                allow_methods=["GET", "POST"],
                allow_headers=[
                    "Authorization",
                    "Content-Type",
                    "Idempotency-Key",
                    "X-Correlation-Id",
                    "Traceparent",
                ],
                expose_headers=["Location", "Retry-After", "X-Correlation-Id"],
            )
        ],
    )
    # To where a Host header says, it would be.
    app.router.redirect_slashes = False
    return app


def _guarded(
    endpoint: Callable[[Request], Awaitable[Response]],
    origins: Collection[str],
    telemetry: RunTracing | None,
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint whose errors are told in one shape, and which pages of strangers can't use."""

    async def guarded(request: Request) -> Response:
        try:
            if not is_allowed(request, origins):
                raise PermissionError("pages of this origin may not ask")
            correlation_id = given_correlation_id(request, None)
            if correlation_id is not None:
                CORRELATION_ID.set(correlation_id)  # of this request's task alone
            with nullcontext() if telemetry is None else telemetry.incoming(request.headers):
                response = await endpoint(request)
            if correlation_id is not None:
                response.headers.setdefault(CORRELATION_HEADER, correlation_id)
        except Exception as error:
            response = refusal(error)
        # No cache keeps it, and no browser takes it for anything but what it says it is.
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return guarded


async def _no_such_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = problem(HTTPStatus(error.status_code), error.detail)
    told.headers.update(error.headers or {})  # which methods there are
    return told
