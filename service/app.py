"""The HTTP service of a runtime, as a Starlette app: to be mounted in another, or served by itself.

    app.mount("/_holdfast", http_app(rt, tokens=[Token(secret, "ann", "operator")]))

    request -> the door (door.py): origin, token, rate, query, body -> an endpoint (api/) -> JSON
                                                        -> an error, as a problem (refusals.py)

This file alone knows all endpoints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, WebSocketRoute

from .access import Access, Token
from .api.actors import ActorsApi
from .api.audit import AuditApi
from .api.dead_letters import DeadLettersApi
from .api.events import EventsApi
from .api.health import HealthApi
from .api.metrics import MetricsApi
from .api.openapi import OpenApi
from .api.queues import QueuesApi
from .api.runs import RunsApi
from .api.schedules import SchedulesApi
from .api.workflows import WorkflowsApi
from .bodies import MAX_BODY_BYTES
from .door import Door
from .endpoint import AnyEndpoint
from .pace import MAX_IN_PROGRESS
from .refusals import problem
from .request_head import BoundedHead
from .tracker import TrackerSocket

if TYPE_CHECKING:
    from ..actors.system import Runtime

EVENT_QUEUE = "event-queue"


def http_app(
    runtime: Runtime,
    *,
    tokens: Iterable[Token],
    origins: Collection[str] = (),
    event_queue: str = EVENT_QUEUE,
    max_body_bytes: int = MAX_BODY_BYTES,
    max_in_progress: int = MAX_IN_PROGRESS,
    pages: bool = False,
    frame_ancestors: Collection[str] = (),
    open_metrics: bool = False,
) -> Starlette:
    """The app.

    tokens    who may ask what: access.py
    origins   pages of other hosts that may ask; pages of this host, and programs, always may
    event_queue   where `POST /events` puts them
    max_body_bytes   a longer body gets 413
    max_in_progress   requests at once; more get 503
    pages     whether there are pages for people, at `/ui/`; they need Jinja2
    frame_ancestors   origins whose pages may show those in a frame
    open_metrics   `/metrics` needs no token, so that a Prometheus without one can read it

    `/health` and `/ready` need no token.  Raises `CallerError` for tokens that can't be.
    """
    access = Access(tokens)
    door = Door(runtime, access, origins, max_body_bytes, max_in_progress)
    endpoints = _endpoints(runtime, access, event_queue, max_body_bytes, open_metrics)

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
            *map(door.route, endpoints),
            WebSocketRoute("/api/tracker-websocket", TrackerSocket(runtime, access, origins).serve),
        ],
        exception_handlers={HTTPException: _no_such_address},
        middleware=[
            Middleware(BoundedHead),
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
            ),
        ],
    )
    # To where a Host header says, it would be.
    app.router.redirect_slashes = False
    return app


def _endpoints(
    runtime: Runtime, access: Access, event_queue: str, max_body_bytes: int, open_metrics: bool
) -> list[AnyEndpoint]:
    """What the service can be asked; the first that an address fits is meant."""
    runs = RunsApi(runtime)
    endpoints = [
        *HealthApi(runtime).endpoints(),
        *EventsApi(runtime, event_queue).endpoints(),
        *runs.endpoints(),
        *DeadLettersApi(runtime, access, max_body_bytes).endpoints(),
        *QueuesApi(runtime, access, max_body_bytes).endpoints(),
        *SchedulesApi(runtime, access, max_body_bytes).endpoints(),
        *AuditApi(runtime, access).endpoints(),
        *ActorsApi(runtime, access, max_body_bytes).endpoints(),
        *WorkflowsApi(runtime, access, runs, max_body_bytes).endpoints(),
        *MetricsApi(runtime, access, is_open=open_metrics).endpoints(),
    ]
    return [*OpenApi(endpoints).endpoints(), *endpoints]


async def _no_such_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = problem(HTTPStatus(error.status_code), error.detail)
    told.headers.update(error.headers or {})  # which methods there are
    return told
