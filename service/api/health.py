"""Whether the process answers, and whether its runtime is open: for whoever restarts it or sends it work.

GET /health
GET /ready
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Literal

import msgspec
from starlette.responses import Response

from ...storage.errors import HoldfastError
from ..bodies import answer
from ..endpoint import AnyEndpoint, Ask, Endpoint, NoQuery
from ..refusals import problem

if TYPE_CHECKING:
    from ...actors.system import Runtime


class Health(msgspec.Struct, frozen=True):
    """How it is."""

    status: Literal["ok", "ready"]


class HealthApi:
    """The endpoints of health."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them."""
        return [
            Endpoint("GET", "/health", "The process answers", self.health, role=None, answers={200: Health}),
            Endpoint(
                "GET",
                "/ready",
                "The runtime is open; 503 when not",
                self.ready,
                role=None,
                answers={200: Health},
            ),
        ]

    async def health(self, ask: Ask[NoQuery, None]) -> Response:
        """200, always."""
        return answer(Health("ok"))

    async def ready(self, ask: Ask[NoQuery, None]) -> Response:
        """200 while the runtime can be asked something."""
        try:
            self._runtime.check_open()
            self._runtime.store.environment.check_usable()
        except HoldfastError:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the runtime is not open")
        return answer(Health("ready"))
