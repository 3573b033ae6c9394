"""The service of the import: HTTP, WebSocket and a page, on a runtime that is open.

    POST /v2/import/workflow         starts an import
    POST /v2/import                  likewise, by the workflow or in the old way, as the rollout says
    GET  /v2/import/metrics          how both ways did in the last seven days
    GET  /v2/import/status/{jobId}   the last that was told of it
    WS   /ws/progress?jobId=...      what is told of it; `since=` the last number that the client has
    GET  /v2/books/{isbn}            a book
    GET  /v2/books/near              `?isbn=` or `?text=`: books that are near
    GET  /                           a form with live progress

Answers have one envelope: `{"success": true, "data": ...}`, or `{"success": false, "error": {"code",
"message"}}`.
"""

from __future__ import annotations

import logging
import math
import uuid
from collections.abc import Awaitable, Callable, Collection, Generator
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from holdfast import CallerError, HoldfastError, Overloaded, RateLimiter, Runtime
from holdfast.runtime.errors import NotRunning
from holdfast.service import serve_websocket

from .embedder import Embedder
from .imports import IMPORTS_KEY, METHODS, BookImports
from .isbn import InvalidIsbn, normal_isbn
from .library import LIBRARY_KEY, SHELF_KEY, Library, SpareShelf
from .nearest import MAX_NEAR, NearestBooks
from .progress import HUB_KEY, ImportProgress, frame_of, progress_frame
from .records import BookImportInput, Source
from .settings import Settings
from .workflow import BookImport

Body = TypeVar("Body")
_log = logging.getLogger(__name__)
MAX_BODY_BYTES: Final = 16 << 10
LATER_SECONDS: Final = 5
_PAGE: Final = Path(__file__).parent / "page"
_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/book_import.js": ("book_import.js", "text/javascript"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
# Nothing of other hosts, nothing inline.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'"
)
_encode: Final = msgspec.json.Encoder().encode

Code = Literal[
    "INVALID_ISBN",
    "INVALID_BODY",
    "INVALID_ACTION",
    "INVALID_QUERY",
    "WORKFLOW_FAILED",
    "JOB_NOT_FOUND",
    "BOOK_NOT_FOUND",
    "NOT_FOUND",
    "RATE_LIMITED",
    "NO_EMBEDDINGS",
    "UNAVAILABLE",
]


class ImportRequest(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of a start."""

    isbn: str
    source: Source = "google_books"
    user_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None


class JobRequest(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The body of a call of the job manager; without an action, or with `start`, a start."""

    action: str = "start"
    isbn: str = ""
    source: Source = "google_books"
    user_id: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    job_id: str = ""


class Refused(Exception):
    """A request that is not done, and why."""

    def __init__(
        self, status: HTTPStatus, code: Code, message: str, retry_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_seconds = retry_seconds


class BookImportApi:
    """The endpoints over one runtime."""

    def __init__(self, runtime: Runtime, settings: Settings, origins: Collection[str]) -> None:
        self._runtime = runtime
        self._settings = settings
        self._origins = origins
        self._nearest: NearestBooks | None = None

    async def start(self, request: Request) -> Response:
        """POST /v2/import/workflow."""
        asked = await self._body(request, ImportRequest)
        isbn = _given_isbn(asked.isbn)
        await self._take_allowance(request)
        job_id = str(uuid.uuid4())
        order = BookImportInput(isbn=isbn, source=asked.source, user_id=asked.user_id)
        with _told_failure():
            await self._runtime.start(BookImport, order, id=job_id)
        told = {"jobId": job_id, "workflowId": f"BookImport/{job_id}", "isbn": isbn, "status": "started"}
        return success(told, HTTPStatus.ACCEPTED)

    async def call(self, request: Request) -> Response:
        """POST /v2/import: start, or `{"action": "start" | "status"}` as the old clients call it."""
        asked = await self._body(request, JobRequest)
        if asked.action == "status":
            return await self._status_of(asked.job_id)
        if asked.action != "start":
            raise Refused(
                HTTPStatus.BAD_REQUEST,
                "INVALID_ACTION",
                f"action is start or status; got {asked.action[:100]!r}",
            )
        isbn = _given_isbn(asked.isbn)
        await self._take_allowance(request)
        order = BookImportInput(isbn=isbn, source=asked.source, user_id=asked.user_id)
        with _told_failure():
            job = await self._imports().start(order, key=isbn, id=str(uuid.uuid4()))
        told = {"jobId": job.id, "isbn": isbn, "status": "started", "method": METHODS[job.way]}
        return success(told, HTTPStatus.ACCEPTED)

    async def metrics(self, request: Request) -> Response:
        """GET /v2/import/metrics."""
        compared = await self._imports().compare()
        return success(
            {
                METHODS[way]: {
                    "imports": one.jobs,
                    "successRate": one.success_rate,
                    "p50Seconds": one.p50_seconds,
                    "p95Seconds": one.p95_seconds,
                }
                for way, one in compared.items()
            }
        )

    def _imports(self) -> BookImports:
        return self._runtime.get(BookImports, IMPORTS_KEY)

    async def _body(self, request: Request, kind: type[Body]) -> Body:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            # A page of another host can't send this type without asking first.
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "INVALID_BODY", "expected content type application/json"
            )
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                raise Refused(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    "INVALID_BODY",
                    f"a body has at most {MAX_BODY_BYTES} bytes",
                )
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as error:
            code: Code = (
                "INVALID_ISBN" if "$.isbn" in str(error) or "`isbn`" in str(error) else "INVALID_BODY"
            )
            raise Refused(HTTPStatus.BAD_REQUEST, code, str(error)) from error

    async def _take_allowance(self, request: Request) -> None:
        client = "unknown" if request.client is None else request.client.host
        limiter = self._runtime.get(RateLimiter, "book imports")
        allowance = await limiter.take(client, limit=self._settings.imports_per_minute, per="1m")
        if not allowance.allowed:
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                "RATE_LIMITED",
                f"at most {self._settings.imports_per_minute} imports a minute",
                allowance.retry_after_seconds,
            )

    async def status(self, request: Request) -> Response:
        """GET /v2/import/status/{jobId}."""
        return await self._status_of(request.path_params["job_id"])

    async def _status_of(self, job_id: str) -> Response:
        try:
            told = frame_of(await self._runtime.get(ImportProgress, HUB_KEY).latest(job_id))
        except (LookupError, CallerError):
            at = await self._known_job(job_id)
            return success(
                {"jobId": job_id, "status": "started", "lastUpdated": at.isoformat(), "data": None}
            )
        return success(
            {"jobId": job_id, "status": told.status, "lastUpdated": told.timestamp, "data": told.data}
        )

    async def _known_job(self, job_id: str) -> datetime:
        try:
            return (await self._runtime.run(BookImport, job_id).info()).updated_at
        except (LookupError, CallerError):
            pass  # none of the workflow's, then
        try:
            return (await self._imports().status(job_id)).started_at
        except (LookupError, CallerError):
            raise _no_job(job_id) from None

    async def progress(self, websocket: WebSocket) -> None:
        """WS /ws/progress: what is told of one job; without `since` the last of it, and what comes."""
        job_id = websocket.query_params.get("jobId", "")
        try:
            await self._known_job(job_id)
        except Refused as refused:
            if "websocket.http.response" in websocket.scope.get("extensions", {}):
                await websocket.send_denial_response(failure(refused))
            else:
                await websocket.close()  # the server can't say why
            return
        await serve_websocket(
            websocket,
            self._runtime.get(ImportProgress, HUB_KEY),
            topics=[job_id],
            origins=self._origins,
            since="latest",
            frame_text=progress_frame,
        )

    async def book(self, request: Request) -> Response:
        """GET /v2/books/{isbn}, from the library or from the spare shelf."""
        isbn = _given_isbn(request.path_params["isbn"])
        saved = await self._runtime.get(Library, LIBRARY_KEY).find(isbn)
        if saved is not None:
            return success({"stored": "library", "metadata": saved.metadata, "coverKey": saved.cover_key})
        spare = await self._runtime.get(SpareShelf, SHELF_KEY).find(isbn)
        if spare is None:
            raise Refused(HTTPStatus.NOT_FOUND, "BOOK_NOT_FOUND", f"no book with ISBN {isbn} is kept")
        return success({"stored": "spare shelf", "metadata": spare.metadata, "coverKey": spare.cover_key})

    async def near(self, request: Request) -> Response:
        """GET /v2/books/near."""
        nearest = self._index()
        limit = _given_limit(request.query_params.get("limit", "10"))
        text = request.query_params.get("text")
        if text is not None:
            return success(await nearest.near_text(text[:512], limit))
        isbn = _given_isbn(request.query_params.get("isbn", ""))
        near = await nearest.near_book(isbn, limit)
        if near is None:
            raise Refused(HTTPStatus.NOT_FOUND, "BOOK_NOT_FOUND", f"no vector of ISBN {isbn} is kept")
        return success(near)

    def _index(self) -> NearestBooks:
        if self._nearest is None:
            embedder = self._runtime.deps.find(Embedder)  # type: ignore[type-abstract]
            if embedder is None:
                raise Refused(HTTPStatus.NOT_IMPLEMENTED, "NO_EMBEDDINGS", "this server makes no vectors")
            self._nearest = NearestBooks(self._runtime, embedder)
        return self._nearest


def book_import_app(
    runtime: Runtime, settings: Settings | None = None, *, origins: Collection[str] = ()
) -> Starlette:
    """The app; `origins` are pages of other hosts that may follow the progress."""
    api = BookImportApi(runtime, settings or runtime.deps.find(Settings) or Settings(), origins)
    return Starlette(
        routes=[
            Route("/v2/import/workflow", _told(api.start), methods=["POST"]),
            Route("/v2/import", _told(api.call), methods=["POST"]),
            Route("/v2/import/metrics", _told(api.metrics), methods=["GET"]),
            Route("/v2/import/status/{job_id}", _told(api.status), methods=["GET"]),
            Route("/v2/books/near", _told(api.near), methods=["GET"]),
            Route("/v2/books/{isbn}", _told(api.book), methods=["GET"]),
            WebSocketRoute("/ws/progress", api.progress),
            *[Route(path, _file, methods=["GET"]) for path in _FILES],
        ],
        exception_handlers={HTTPException: _no_such_address},
    )


def success(data: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """An answer."""
    return Response(
        _encode({"success": True, "data": data}), int(status), _HEADERS, media_type="application/json"
    )


def failure(refused: Refused) -> Response:
    """A refusal."""
    told = {"success": False, "error": {"code": refused.code, "message": str(refused)}}
    headers = dict(_HEADERS)
    if refused.retry_seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refused.retry_seconds)))
    return Response(_encode(told), int(refused.status), headers, media_type="application/json")


_HEADERS: Final = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def _told(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint whose errors are in the envelope."""

    async def told(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refused as refused:
            return failure(refused)
        except (Overloaded, NotRunning):
            why = "the server is busy, or closing; come again later"
            return failure(Refused(HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", why, LATER_SECONDS))
        except CallerError as error:
            return failure(Refused(HTTPStatus.BAD_REQUEST, "INVALID_QUERY", str(error)))
        except Exception as error:
            _log.error("a request failed", exc_info=error)
            return failure(
                Refused(
                    HTTPStatus.INTERNAL_SERVER_ERROR, "WORKFLOW_FAILED", "the server failed; its log says why"
                )
            )

    return told


@contextmanager
def _told_failure() -> Generator[None]:
    """Around a start: what the store can't do is told as such, without a word of why."""
    try:
        yield
    except (Overloaded, NotRunning):
        raise
    except HoldfastError as error:
        _log.error("an import could not be started", exc_info=error)
        why = "the import could not be started"
        raise Refused(HTTPStatus.INTERNAL_SERVER_ERROR, "WORKFLOW_FAILED", why) from error


async def _no_such_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = failure(Refused(HTTPStatus(error.status_code), "NOT_FOUND", error.detail))
    told.headers.update(error.headers or {})
    return told


async def _file(request: Request) -> Response:
    name, media_type = _FILES[request.url.path]
    headers = {"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"}
    return FileResponse(_PAGE / name, media_type=media_type, headers=headers)


def _no_job(job_id: str) -> Refused:
    return Refused(HTTPStatus.NOT_FOUND, "JOB_NOT_FOUND", f"there is no import {job_id[:100]!r}")


def _given_isbn(text: str) -> str:
    try:
        return normal_isbn(text)
    except InvalidIsbn as error:
        raise Refused(HTTPStatus.BAD_REQUEST, "INVALID_ISBN", str(error)) from None


def _given_limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_NEAR):
        raise Refused(HTTPStatus.BAD_REQUEST, "INVALID_QUERY", f"limit is from 1 to {MAX_NEAR}")
    return int(text)
