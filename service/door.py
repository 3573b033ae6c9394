"""The door that each request of HTTP comes in by: from a declared endpoint to the route that serves it.

    origin -> token, role and rate -> query -> body -> `handle` -> the answer, or a problem (refusals.py)

Promise: an endpoint's code runs only for who may ask, with what its declaration allows.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..actors.correlation import CORRELATION_ID
from .access import Access, Caller
from .answers import answered_once
from .bodies import DECLARED_BODY, read_body, read_bytes
from .correlation import CORRELATION_HEADER, given_correlation_id
from .endpoint import AnyEndpoint, Ask
from .origins import is_allowed
from .pace import Pace
from .refusals import refusal

if TYPE_CHECKING:
    from ..actors.system import Runtime

NOBODY = Caller("", "viewer")


class Door:
    """What holds for all endpoints of one service."""

    def __init__(
        self,
        runtime: Runtime,
        access: Access,
        origins: Collection[str],
        max_body_bytes: int,
        max_in_progress: int,
    ) -> None:
        self._access = access
        self._origins = origins
        self._max_body_bytes = max_body_bytes
        self._telemetry = runtime.telemetry
        self._runtime = runtime
        self._pace = Pace(max_in_progress)
        access.limit(self._pace)

    def route(self, endpoint: AnyEndpoint) -> Route:
        """The route of an endpoint."""

        async def serve(request: Request) -> Response:
            try:
                correlation_id = given_correlation_id(request, None)
                if correlation_id is not None:
                    CORRELATION_ID.set(correlation_id)  # of this request's task alone
                telemetry, pace = self._telemetry, self._pace
                with (
                    # What needs no token answers always: it is who looks whether the process lives.
                    nullcontext() if endpoint.role is None else pace,
                    nullcontext() if telemetry is None else telemetry.incoming(request.headers),
                ):
                    response = await self._answer(endpoint, request)
                if correlation_id is not None:
                    response.headers.setdefault(CORRELATION_HEADER, correlation_id)
            except Exception as error:
                response = refusal(error)
            # No cache keeps it, and no browser takes it for anything but what it says it is.
            response.headers["Cache-Control"] = "no-store"
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response

        return Route(endpoint.path, serve, methods=[endpoint.method])

    async def _answer(self, endpoint: AnyEndpoint, request: Request) -> Response:
        if not is_allowed(request, self._origins):
            raise PermissionError("pages of this origin may not ask")
        caller = NOBODY
        if endpoint.role is not None:
            caller = self._access.caller(request, endpoint.role)
            self._pace.check(caller)
        query = endpoint.read_query(request)
        request.scope[DECLARED_BODY] = endpoint.told_body
        body = (
            None if endpoint.body is None else await read_body(request, endpoint.body, self._max_body_bytes)
        )
        ask = Ask(request, caller, query, body)
        if endpoint.method == "GET" or endpoint.has_ids or "idempotency-key" not in request.headers:
            return await endpoint.handle(ask)
        encoded = await read_bytes(request, self._max_body_bytes)
        return await answered_once(
            self._runtime, request, caller, encoded, lambda: endpoint.handle(ask), refusal
        )
