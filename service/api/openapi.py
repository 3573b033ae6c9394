"""GET /openapi.json: what there is, for programs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.responses import Response

from ..bodies import answer
from ..endpoint import AnyEndpoint, Ask, Endpoint, NoQuery
from ..openapi import openapi_document


class OpenApi:
    """The endpoint that tells of all, itself among them."""

    def __init__(self, others: Sequence[AnyEndpoint]) -> None:
        self._others = others
        self._encoded = b""

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them."""
        return [
            Endpoint(
                "GET",
                "/openapi.json",
                "This document",
                self.tell,
                role=None,
                answers={200: dict[str, Any]},
            ),
        ]

    async def tell(self, ask: Ask[NoQuery, None]) -> Response:
        """Made when it is first asked for."""
        if not self._encoded:
            document = openapi_document([*self.endpoints(), *self._others], version("holdfast"))
            self._encoded = msgspec.json.encode(document)
        return answer(msgspec.Raw(self._encoded))
