"""Queues: how they stand, what waits in one, its dead letters, and the verbs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.durable_queue import Queue
from ...actors.queue_info import QueueInfo, dead_at, list_dead, list_queues, peek, queue_info
from ...actors.queue_records import DeadPlace
from ...runtime.codec import BAD_VALUE
from ...storage.errors import CallerError
from ..api.addresses import key_of
from ..api.queue_verbs import steer_queue
from ..api.queue_views import find_queue
from ..bodies import Form
from .addresses import address_of, key_text
from .guard import Guard, see
from .run import from_json
from .sessions import Session
from .shell import base_of
from .shown import pretty

if TYPE_CHECKING:
    from ...actors.system import Runtime
    from ...runtime.ref import Ref

PAGE_QUEUES: Final = 100
PAGE_MESSAGES: Final = 25


class QueueRow(msgspec.Struct, frozen=True):
    """A queue in a listing."""

    info: QueueInfo
    address: str


class QueuesPage:
    """The listing, and one queue."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard

    async def show_all(self, request: Request, session: Session) -> Response:
        """All queues, by class and name."""
        session.caller.must_be_nobodys("a queue")
        found = list_queues(self._runtime, limit=PAGE_QUEUES)
        rows = [QueueRow(one, f"{quote(one.type, safe='')}/{key_text(one.key)}") for one in found]
        told = {"title": "Queues", "rows": rows, "more": len(found) >= PAGE_QUEUES}
        return self._guard.shell.page(request, "queues.html", session, told)

    async def show(self, request: Request, session: Session) -> Response:
        """One queue with what comes next, and its dead letters."""
        session.caller.must_be_nobodys("a queue")
        ref = self._ref(request)
        info = queue_info(self._runtime, ref)
        dead = list_dead(self._runtime, ref, limit=PAGE_MESSAGES)
        group = request.query_params.get("group")
        told = {
            "title": f"Queue {info.key}",
            "info": info,
            "address": address_of(ref),
            "group": group,
            "messages": peek(self._runtime, ref, group=group, limit=PAGE_MESSAGES) if info.groups else [],
            "dead": [(_place_text(one.place), one) for one in dead],
            "limit": PAGE_MESSAGES,
        }
        return self._guard.shell.page(request, "queue.html", session, told)

    async def control(self, request: Request, session: Session, form: Form) -> Response:
        """Pause, resume, drain, purge, or redrive all dead letters."""
        session.caller.must_be_nobodys("a queue")
        ref = self._ref(request)
        verb, by, why = request.path_params["verb"], session.caller.name, form.get("reason")
        told, address = f"{verb.capitalize()}: done.", f"{base_of(request)}/queues/{address_of(ref)}"
        if verb == "redrive-all":
            queue_info(self._runtime, ref)  # nothing is made by steering it
            count = await cast("Queue", ref).redrive(by=by, reason=why)
            told = f"Redrive: {count} dead letters are sent again."
        else:
            purged = await steer_queue(self._runtime, ref, verb, by=by, reason=why)
            if purged is not None:
                told = f"Purge: {purged} messages are deleted."
            if verb == "remove":
                address = f"{base_of(request)}/queues"
        session.tell(told)
        return see(address)

    async def dead(self, request: Request, session: Session, form: Form) -> Response:
        """Send one dead letter again, perhaps with another body, or delete it."""
        session.caller.must_be_nobodys("a queue")
        ref = self._ref(request)
        queue, place = cast("Queue", ref), _place_of(form.get("place"))
        by, why = session.caller.name, form.get("reason")
        if form.get("deed") == "drop":
            count = await queue.drop_at([place], by=by, reason=why)
        else:
            letter = dead_at(self._runtime, ref, place)
            text, body = form.get("body"), None
            if letter is not None and text != pretty(letter.body):
                body = (from_json(text, "the body"),)
            count = await queue.redrive_at([place], body=body, by=by, reason=why)
        session.tell("Done." if count else "This dead letter is not there any more.", bad=not count)
        return see(f"{base_of(request)}/queues/{address_of(ref)}")

    async def send(self, request: Request, session: Session, form: Form) -> Response:
        """Put a message into the queue."""
        session.caller.must_be_nobodys("a queue")
        ref = self._ref(request)
        await cast("Queue", ref).send(from_json(form.get("body"), "the body"))
        session.tell("The message is sent.")
        return see(f"{base_of(request)}/queues/{address_of(ref)}")

    def _ref(self, request: Request) -> Ref:
        path = request.path_params
        return find_queue(self._runtime, key_of(path["key"]), path["type"])


def _place_text(place: DeadPlace) -> str:
    return msgspec.json.encode(place).decode()


def _place_of(text: str) -> DeadPlace:
    try:
        return msgspec.json.decode(text, type=tuple[int, int])
    except BAD_VALUE as error:
        raise CallerError(f"there is no place {text!r:.100}") from error
