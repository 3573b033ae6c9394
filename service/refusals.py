"""What a client is told that is refused: a problem, as RFC 9457 has it."""

from __future__ import annotations

import logging
from http import HTTPStatus
from math import ceil

import msgspec
from starlette.responses import Response

from ..actors.errors import QueueDraining, RunEnded, RunExists, UpdateRefused, WorkflowRetired, WrongStatus
from ..runtime.error_text import clean, cut, message_text
from ..runtime.errors import NotRunning, PrivateMethod, UnknownActorType, UnknownMethod
from ..storage.errors import CallerError, Overloaded, StorageClosed, StorageFull
from .access import NoToken
from .bodies import BadBody
from .pace import TooBusy, TooMany

_log = logging.getLogger("holdfast.service")
LATER_SECONDS = 5
_CONFLICTS = (QueueDraining, RunEnded, RunExists, UpdateRefused, WorkflowRetired, WrongStatus)
MAX_DETAIL_CHARACTERS = 4_000


class Problem(msgspec.Struct, frozen=True):
    """The body of a refusal."""

    type: str
    title: str
    status: int
    detail: str


def refusal(error: Exception) -> Response:
    """The answer to a request that ended with an error before anything was sent.

    401 without a known token, 403 for a `PermissionError`, 404 for what isn't there, 409 where what is there
    stands against it, 503 where it may be tried again later, 400 for what else the caller did wrong; the rest
    is logged, and a 500 without a word of it.
    """
    if isinstance(error, NotRunning | StorageClosed):
        return problem(HTTPStatus.SERVICE_UNAVAILABLE, "the server is closing; come again later")
    if isinstance(error, StorageFull):
        return problem(HTTPStatus.INSUFFICIENT_STORAGE, "the server has no room left; its log says more")
    if isinstance(error, NoToken):
        return problem(HTTPStatus.UNAUTHORIZED, message_text(error))
    if isinstance(error, PermissionError):
        return problem(HTTPStatus.FORBIDDEN, message_text(error))
    if isinstance(error, BadBody):
        return problem(error.status, message_text(error))
    if isinstance(error, TooMany | TooBusy):
        busy = isinstance(error, TooBusy)
        status = HTTPStatus.SERVICE_UNAVAILABLE if busy else HTTPStatus.TOO_MANY_REQUESTS
        response = problem(status, message_text(error))
        response.headers["Retry-After"] = str(ceil(error.seconds))
        return response
    if isinstance(error, CallerError):
        return problem(_status_of(error), message_text(error))
    _log.error("a request failed", exc_info=error)
    return problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the server failed; its log says why")


def _status_of(error: CallerError) -> HTTPStatus:
    if isinstance(error, Overloaded):
        return HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, LookupError | UnknownActorType | UnknownMethod | PrivateMethod):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, _CONFLICTS):
        return HTTPStatus.CONFLICT
    return HTTPStatus.BAD_REQUEST


def problem(status: HTTPStatus, detail: str) -> Response:
    """A problem without a type of its own."""
    detail = cut(clean(detail), MAX_DETAIL_CHARACTERS)
    told = Problem("about:blank", status.phrase, int(status), detail)
    headers: dict[str, str] = {}
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(LATER_SECONDS)
    if status is HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(told), int(status), headers, media_type="application/problem+json")
