"""Bounds of a request's head: how long its target is, how many headers it has, and their bytes.

A server has bounds of its own, or none: this holds behind any.  It is the outermost layer of the app, so what
is too large costs nothing more than being counted.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from .refusals import problem

MAX_TARGET_BYTES: Final = 8_192
MAX_HEADERS: Final = 100
MAX_HEADER_BYTES: Final = 32_768


class BoundedHead:
    """An app that sees no request with a larger head."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it: 414 for its target, 431 for its headers."""
        if scope["type"] == "http":
            target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
            headers = scope["headers"]
            refused = None
            if target > MAX_TARGET_BYTES:
                told = f"the target of a request has at most {MAX_TARGET_BYTES} bytes"
                refused = problem(HTTPStatus.REQUEST_URI_TOO_LONG, told)
            elif len(headers) > MAX_HEADERS:
                told = f"a request has at most {MAX_HEADERS} headers"
                refused = problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, told)
            elif sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
                told = f"the headers of a request have at most {MAX_HEADER_BYTES} bytes together"
                refused = problem(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, told)
            if refused is not None:
                refused.headers["Cache-Control"] = "no-store"
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)
