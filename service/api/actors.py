"""Actors over HTTP: look at them, call them, edit them.

    GET  /actors                            types
    GET  /actors/{type}                     keys
    GET  /actors/{type}/{key}               one as it lies on disk
    GET  /actors/schema/{type}              its methods
    POST /actors/call/{type}/{key}          call a method
    POST /actors/edit/{type}/{key}          give fields other values

Actors are no tenant's, so tokens of tenants see none.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.from_outside import call_from_outside, edit_fields, ref_of
from ...actors.workflow.workflow import Workflow
from ...runtime.error_text import message_text
from ...storage.errors import ActorError, CallerError, HoldfastError
from ...storage.keys import Key
from ..access import Access, Role
from ..bodies import answer, read_body
from ..endpoint import AnyEndpoint, plain
from ..refusals import problem
from ..waiting import NoReply, until_gone
from .actor_views import view_actor, view_keys, view_methods, view_types
from .addresses import key_of
from .asked import PageQuery, check_names, limit_of

if TYPE_CHECKING:
    from ...actors.system import Runtime
    from ..access import Caller


class CallActor(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a call: arguments in their order, or by name."""

    method: str
    arguments: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"[]"))
    reason: str = ""


class EditActor(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an edit."""

    fields: dict[str, msgspec.Raw]
    reason: str


class KeysQuery(PageQuery, frozen=True):
    """Which actors are listed."""

    prefix: str | None = None


class ActorsApi:
    """The endpoints of actors."""

    def __init__(self, runtime: Runtime, access: Access, max_body_bytes: int) -> None:
        self._runtime = runtime
        self._access = access
        self._max_body_bytes = max_body_bytes

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them."""
        return [
            plain("GET", "/actors", "Types of actors that ever wrote here", self.types),
            plain("GET", "/actors/schema/{type}", "The methods of a type, with schemas", self.schema),
            plain(
                "POST",
                "/actors/call/{type}/{key:path}",
                "Call a method of an actor; 422 with what it raised",
                self.call,
                role="operator",
                body=CallActor,
            ),
            plain(
                "POST",
                "/actors/edit/{type}/{key:path}",
                "Give fields of an actor other values",
                self.edit,
                role="operator",
                body=EditActor,
            ),
            plain("GET", "/actors/{type}", "Stored actors of a type, by key", self.keys, query=KeysQuery),
            plain("GET", "/actors/{type}/{key:path}", "One actor as it lies on disk", self.look),
        ]

    async def types(self, request: Request) -> Response:
        """Actor types that ever wrote here."""
        self._caller(request, "viewer")
        check_names(request, ())
        return answer(await view_types(self._runtime))

    async def keys(self, request: Request) -> Response:
        """Stored actors of a type, by key; `prefix` is written as a key is."""
        self._caller(request, "viewer")
        check_names(request, ("prefix", "limit", "cursor"))
        asked = request.query_params
        prefix: Key | None = key_of(asked["prefix"]) if asked.get("prefix") else None
        if isinstance(prefix, int):
            raise CallerError("a prefix is a text, or the JSON of an array behind a tilde; a number has none")
        kind = request.path_params["type"]
        return answer(view_keys(self._runtime, kind, limit_of(request), asked.get("cursor"), prefix))

    async def look(self, request: Request) -> Response:
        """One actor as it lies on disk; nothing is loaded."""
        self._caller(request, "viewer")
        check_names(request, ())
        path = request.path_params
        return answer(view_actor(self._runtime, path["type"], key_of(path["key"])))

    async def schema(self, request: Request) -> Response:
        """The methods of a type."""
        self._caller(request, "viewer")
        check_names(request, ())
        return answer(view_methods(self._runtime, request.path_params["type"]))

    async def call(self, request: Request) -> Response:
        """The reply of a method; 422 with what it raised.

        A call without a reply in time, or whose client went, is undone.
        """
        caller = self._caller(request, "operator")
        check_names(request, ())
        asked = await read_body(request, CallActor, self._max_body_bytes)
        path = request.path_params
        ref = ref_of(self._runtime, path["type"], key_of(path["key"]))
        if issubclass(ref.type.actor_class, Workflow):
            raise CallerError(f"{ref} is a run; it takes events, updates and verbs, see /runs")
        call = call_from_outside(ref, asked.method, asked.arguments, by=caller.name, reason=asked.reason)
        try:
            reply = await until_gone(request, call)
        except NoReply:
            told = "no reply in time: the call was given up and, unless its turn had just ended, undone"
            return problem(HTTPStatus.GATEWAY_TIMEOUT, f"{ref}.{asked.method}: {told}")
        except Exception as error:
            if isinstance(error, HoldfastError) and not isinstance(error, ActorError):
                raise
            # The method's own: an answer, not a failure of the server.
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{type(error).__name__}: {message_text(error)}")
        return answer({"reply": reply})

    async def edit(self, request: Request) -> Response:
        """Give fields other values; the actor as it is behind that."""
        caller = self._caller(request, "operator")
        check_names(request, ())
        asked = await read_body(request, EditActor, self._max_body_bytes)
        if not asked.reason:
            raise CallerError("an edit needs a reason")
        path = request.path_params
        key = key_of(path["key"])
        ref = ref_of(self._runtime, path["type"], key)
        await edit_fields(ref, asked.fields, by=caller.name, reason=asked.reason)
        return answer(view_actor(self._runtime, path["type"], key))

    def _caller(self, request: Request, role: Role) -> Caller:
        caller = self._access.caller(request, role)
        caller.must_be_nobodys("an actor")
        return caller
