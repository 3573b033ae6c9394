"""Events over HTTP: accepted when they are durably in a queue, processed by whoever consumes it.

POST /events   {"payload": {...}, "metadata": {...}?, "event_id"?}  ->  202
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.durable_queue import Queue
from ...actors.ids import new_id
from ...actors.workflow.labels import check_label
from ...runtime.clock import moment
from ..access import Access
from ..bodies import answer, given_correlation_id, read_body

if TYPE_CHECKING:
    from ...actors.system import Runtime


class PostEvent(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an event."""

    payload: dict[str, Any]
    metadata: dict[str, Any] | None = None
    event_id: str | None = None


class EventsApi:
    """The endpoint of events."""

    def __init__(self, runtime: Runtime, access: Access, max_body_bytes: int, queue: str) -> None:
        self._runtime = runtime
        self._access = access
        self._max_body_bytes = max_body_bytes
        self._queue = queue

    async def post(self, request: Request) -> Response:
        """Put an event in the queue, as the input of a run: see `ProcessEventInput` of the example.

        Its id is `event_id`, else the header Idempotency-Key, else a new one; whoever consumes the queue sees
        by it what was sent twice.
        """
        caller = self._access.caller(request, "operator")
        caller.must_be_nobodys(f"queue {self._queue}")
        asked = await read_body(request, PostEvent, self._max_body_bytes)
        event_id = asked.event_id or request.headers.get("idempotency-key") or new_id()
        check_label(event_id, "an event id")
        correlation_id = given_correlation_id(request, None) or new_id()
        body = {
            "event_id": event_id,
            "payload": asked.payload,
            "metadata": asked.metadata,
            "timestamp": moment(self._runtime.clock.now_ms()).isoformat(),
            "correlation_id": correlation_id,
        }
        await self._runtime.get(Queue, self._queue).send(body)
        told = {"event_id": event_id, "correlation_id": correlation_id, "status": "queued"}
        return answer(told, HTTPStatus.ACCEPTED, {"X-Correlation-Id": correlation_id})
