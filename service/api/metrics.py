"""How the runtime fares, over HTTP: for Prometheus, and as JSON for pages and the command line.

    GET /metrics           Prometheus' text; 501 without holdfast[metrics]
    GET /metrics/now       the same and more, as JSON
    GET /metrics/course    how it went over the last hour and day

They are of the whole runtime, so no token of one tenant gets them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from ..access import Access
from ..bodies import answer
from ..endpoint import AnyEndpoint, plain
from ..refusals import problem

if TYPE_CHECKING:
    from ...actors.system import Runtime


class MetricsApi:
    """The endpoints of metrics."""

    def __init__(self, runtime: Runtime, access: Access, *, is_open: bool) -> None:
        """`is_open`: `/metrics` needs no token."""
        self._runtime = runtime
        self._access = access
        self._is_open = is_open
        runtime.recorder.want()

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them."""
        return [
            plain(
                "GET",
                "/metrics",
                "The metrics as Prometheus reads them",
                self.text,
                role=None if self._is_open else "viewer",
                media="text/plain",
            ),
            plain("GET", "/metrics/now", "The metrics as JSON", self.now),
            plain("GET", "/metrics/course", "How they went over the last hour and day", self.course),
        ]

    async def text(self, request: Request) -> Response:
        """The metrics as Prometheus reads them."""
        if not self._is_open:
            self._check(request)
        try:
            from ..prometheus import CONTENT_TYPE, metrics_text
        except ImportError:
            told = "the server has no prometheus-client; it comes with holdfast[metrics]"
            return problem(HTTPStatus.NOT_IMPLEMENTED, told)
        return Response(metrics_text(self._runtime), media_type=CONTENT_TYPE)

    async def now(self, request: Request) -> Response:
        """The metrics as JSON."""
        self._check(request)
        return answer(self._runtime.metrics())

    async def course(self, request: Request) -> Response:
        """The course as JSON."""
        self._check(request)
        return answer(self._runtime.metrics_course())

    def _check(self, request: Request) -> None:
        self._access.caller(request, "viewer").must_be_nobodys("what the whole runtime does")
