"""What tells pages that something was committed: server-sent events, one a second at most.

    a commit -> durable -> `changed`, with its number -> the page fetches its live parts again (static/app.js)

The event says that, and nothing of what: who may see what is decided where the page is made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import anyio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ..refusals import problem
from .sessions import Session

if TYPE_CHECKING:
    from ...actors.system import Runtime

# More than one a second is more than anybody reads, and a page is a few milliseconds of the loop.
EVERY_SECONDS: Final = 1.0
MAX_STREAMS: Final = 200
# A server that is stopped may wait for its streams; a browser comes back by itself.
STREAM_SECONDS: Final = 60
_BEAT_SECONDS: Final = 15


class Changes:
    """The streams of one service."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._streams = 0

    async def stream(self, request: Request, session: Session) -> Response:
        """An endless answer to a page that is looked at; 503 beyond `MAX_STREAMS` of them."""
        if self._streams >= MAX_STREAMS:
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_STREAMS} pages are live already")
        return StreamingResponse(
            self._changes(),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _changes(self) -> AsyncIterator[str]:
        runtime = self._runtime
        self._streams += 1
        try:
            told, silent = runtime.store.durable, 0.0
            yield "retry: 1000\n\n"
            for _ in range(STREAM_SECONDS):
                await anyio.sleep(EVERY_SECONDS)
                if runtime.is_closed or runtime.sockets.is_stopped:
                    return
                silent += EVERY_SECONDS
                durable = runtime.store.durable
                if durable != told:
                    told, silent = durable, 0.0
                    yield f"event: changed\ndata: {durable}\n\n"
                elif silent >= _BEAT_SECONDS:
                    silent = 0.0
                    yield ": still here\n\n"
        finally:
            self._streams -= 1
