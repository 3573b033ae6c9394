"""What a client is told that a hub doesn't let in: a problem, as RFC 9457 has it."""

from __future__ import annotations

import logging
from http import HTTPStatus

import msgspec
from starlette.responses import Response

from ..runtime.errors import NotRunning
from ..storage.errors import CallerError, Overloaded

_log = logging.getLogger("holdfast.service")
LATER_SECONDS = 5


def refusal(error: Exception) -> Response:
    """The answer to a request that ended with an error before anything was sent.

    403 for a `PermissionError`, 503 where it may be tried again later, 400 for what the caller did wrong; the
    rest is logged, and a 500 without a word of it.
    """
    if isinstance(error, NotRunning):
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the server is closing; come again later")
    if isinstance(error, Overloaded):
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
    if isinstance(error, PermissionError):
        return problem(HTTPStatus.FORBIDDEN, str(error))
    if isinstance(error, CallerError):
        return problem(HTTPStatus.BAD_REQUEST, str(error))
    _log.error("a client could not be let in", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why")


def problem(status: HTTPStatus, detail: str) -> Response:
    """A problem without a type of its own."""
    told = {"type": "about:blank", "title": status.phrase, "status": int(status), "detail": detail}
    headers = {"Retry-After": str(LATER_SECONDS)} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    return Response(msgspec.json.encode(told), int(status), headers, media_type="application/problem+json")
