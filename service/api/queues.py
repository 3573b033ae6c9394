"""Queues over HTTP: look, send, pause, resume, drain, purge, remove.

    GET  /queues                            how they stand
    GET  /queues/{name}                     how one stands
    GET  /queues/messages/{name}            what waits in it
    POST /queues/messages/{name}            send
    POST /queues/control/{verb}/{name}      steer it

`?type=` names a subclass of `Queue`.  Queues are no tenant's, so tokens of tenants see none.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.durable_queue import Queue
from ..access import Access, Role
from ..bodies import answer, read_body
from ..endpoint import AnyEndpoint, plain
from .addresses import key_of
from .asked import PageQuery, check_names, limit_of
from .queue_verbs import steer_queue
from .queue_views import find_queue, view_messages, view_queue, view_queues

if TYPE_CHECKING:
    from ...actors.system import Runtime
    from ...runtime.ref import Ref
    from ..access import Caller


class SendMessage(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a message that is sent."""

    body: Any
    id: str | None = None
    delay: float | str | None = None


class SteerQueue(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a verb; `group` for purge alone."""

    reason: str = ""
    group: str | None = None


class QueueQuery(msgspec.Struct, frozen=True):
    """Of which class a queue is."""

    type: str = "Queue"


class MessagesQuery(PageQuery, frozen=True):
    """Which messages are listed."""

    type: str = "Queue"
    group: str | None = None


class QueuesApi:
    """The endpoints of queues."""

    def __init__(self, runtime: Runtime, access: Access, max_body_bytes: int) -> None:
        self._runtime = runtime
        self._access = access
        self._max_body_bytes = max_body_bytes

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them."""
        return [
            plain("GET", "/queues", "How the queues stand, by class and name", self.list, query=PageQuery),
            plain(
                "GET",
                "/queues/messages/{name:path}",
                "What waits in a queue",
                self.messages,
                query=MessagesQuery,
            ),
            plain(
                "POST",
                "/queues/messages/{name:path}",
                "Send a message: accepted when it is durable",
                self.send,
                has_ids=True,
                role="operator",
                query=QueueQuery,
                body=SendMessage,
                answers={202: dict[str, Any]},
            ),
            plain(
                "POST",
                "/queues/control/{verb}/{name:path}",
                "Pause, resume, drain, purge or remove a queue",
                self.control,
                role="operator",
                query=QueueQuery,
                body=SteerQueue,
                answers={200: dict[str, Any], 204: None},
            ),
            plain("GET", "/queues/{name:path}", "How one queue stands", self.look, query=QueueQuery),
        ]

    async def list(self, request: Request) -> Response:
        """Known queues, by class and name."""
        self._caller(request, "viewer")
        check_names(request, ("limit", "cursor"))
        return answer(view_queues(self._runtime, limit_of(request), request.query_params.get("cursor")))

    async def look(self, request: Request) -> Response:
        """How one queue stands."""
        self._caller(request, "viewer")
        check_names(request, ("type",))
        return answer(view_queue(self._runtime, self._queue(request)))

    async def messages(self, request: Request) -> Response:
        """What waits in a queue."""
        self._caller(request, "viewer")
        check_names(request, ("type", "limit", "cursor", "group"))
        asked = request.query_params
        ref = self._queue(request)
        return answer(
            view_messages(self._runtime, ref, limit_of(request), asked.get("cursor"), asked.get("group"))
        )

    async def send(self, request: Request) -> Response:
        """202 when the message is durable; it is processed later.

        Its id is that of the body, else the header Idempotency-Key: whoever consumes the queue sees by it
        what was sent twice.
        """
        self._caller(request, "operator")
        check_names(request, ("type",))
        asked = await read_body(request, SendMessage, self._max_body_bytes)
        given = asked.id or request.headers.get("idempotency-key")
        queue = cast("Queue", self._queue(request))
        message_id = await queue.send(asked.body, id=given, delay=asked.delay)
        return answer({"id": message_id, "status": "queued"}, HTTPStatus.ACCEPTED)

    async def control(self, request: Request) -> Response:
        """Do one of the verbs; how the queue stands behind it, and how many messages a purge deleted."""
        caller = self._caller(request, "operator")
        check_names(request, ("type",))
        asked = await read_body(request, SteerQueue, self._max_body_bytes)
        ref, verb = self._queue(request), request.path_params["verb"]
        purged = await steer_queue(
            self._runtime, ref, verb, group=asked.group, by=caller.name, reason=asked.reason
        )
        if verb == "remove":
            return Response(status_code=HTTPStatus.NO_CONTENT)
        told = {} if purged is None else {"purged": purged}
        return answer(view_queue(self._runtime, ref) | told)

    def _caller(self, request: Request, role: Role) -> Caller:
        caller = self._access.caller(request, role)
        caller.must_be_nobodys("a queue")
        return caller

    def _queue(self, request: Request) -> Ref:
        kind = request.query_params.get("type", "Queue")
        return find_queue(self._runtime, key_of(request.path_params["name"]), kind)
