"""Which correlation id a request has."""

from __future__ import annotations

from typing import Final

from starlette.requests import HTTPConnection

from ..actors.workflow.labels import check_label

CORRELATION_HEADER: Final = "X-Correlation-Id"


def given_correlation_id(request: HTTPConnection, asked: str | None) -> str | None:
    """The correlation id of a request; raises `InvalidValue` for one that no line of a log should hold."""
    given = asked or request.headers.get(CORRELATION_HEADER)
    return None if given is None else check_label(given, "a correlation id")
