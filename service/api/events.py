"""Events over HTTP: accepted when they are durably in a queue, processed by whoever consumes it.

POST /events   {"payload": {...}, "metadata": {...}?, "event_id"?}  ->  202
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from starlette.responses import Response

from ...actors.durable_queue import Queue
from ...actors.ids import new_id
from ...actors.workflow.labels import check_label
from ...runtime.clock import moment
from ..bodies import answer
from ..correlation import given_correlation_id
from ..endpoint import AnyEndpoint, Ask, Endpoint, NoQuery

if TYPE_CHECKING:
    from ...actors.system import Runtime


class PostEvent(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an event."""

    payload: dict[str, Any]
    metadata: dict[str, Any] | None = None
    event_id: str | None = None


class Queued(msgspec.Struct, frozen=True):
    """The answer to an event."""

    event_id: str
    correlation_id: str
    status: Literal["queued"]


class EventsApi:
    """The endpoint of events."""

    def __init__(self, runtime: Runtime, queue: str) -> None:
        self._runtime = runtime
        self._queue = queue

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them."""
        return [
            Endpoint(
                "POST",
                "/events",
                "Put an event into the queue: accepted when it is durable, processed later",
                self.post,
                has_ids=True,
                role="operator",
                body=PostEvent,
                answers={202: Queued},
            ),
        ]

    async def post(self, ask: Ask[NoQuery, PostEvent]) -> Response:
        """Put an event in the queue, as the input of a run: see `ProcessEventInput` of the example.

        Its id is `event_id`, else the header Idempotency-Key, else a new one; whoever consumes the queue sees
        by it what was sent twice.
        """
        request, asked = ask.request, ask.body
        ask.caller.must_be_nobodys(f"queue {self._queue}")
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
        told = Queued(event_id, correlation_id, "queued")
        return answer(told, HTTPStatus.ACCEPTED, {"X-Correlation-Id": correlation_id})
