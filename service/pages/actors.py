"""Actors: types, keys, and one as it lies on disk; its methods can be called, its fields edited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.from_outside import call_from_outside, edit_fields, ref_of
from ...actors.method_info import MethodInfo
from ...actors.workflow.workflow import Workflow
from ...runtime.actor_look import look_at_actor
from ...runtime.codec import BAD_VALUE, reason
from ...runtime.error_text import message_text
from ...storage.errors import ActorError, CallerError, HoldfastError
from ...storage.keys import Key
from ..api.actor_views import view_actor, view_keys, view_methods, view_types
from ..api.addresses import key_of
from ..bodies import Form
from ..waiting import NoReply, until_gone
from .addresses import key_text
from .guard import Guard, see
from .run import from_json
from .sessions import Session
from .shell import base_of
from .shown import MAX_SHOWN_CHARACTERS, as_json, pretty

if TYPE_CHECKING:
    from ...actors.system import Runtime

PAGE_KEYS: Final = 100
_PLAIN: Final = ("string", "integer", "number", "boolean")


class Parameter(msgspec.Struct, frozen=True):
    """One field of the form of a method."""

    name: str
    kind: str
    """string, integer, number, boolean, choice, json"""
    required: bool
    default: str
    choices: tuple[str, ...] = ()


class MethodForm(msgspec.Struct, frozen=True):
    """The form of a method."""

    name: str
    about: str
    reads_only: bool
    parameters: tuple[Parameter, ...]
    has_schema: bool


class ActorsPage:
    """Types, keys, one actor."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard

    async def show_types(self, request: Request, session: Session) -> Response:
        """All types that ever wrote here."""
        session.caller.must_be_nobodys("an actor")
        told = {"title": "Actors", **await view_types(self._runtime)}
        return self._guard.shell.page(request, "actors.html", session, told)

    async def show_keys(self, request: Request, session: Session) -> Response:
        """The keys of a type, all or those that begin with `prefix`."""
        session.caller.must_be_nobodys("an actor")
        asked, kind = request.query_params, request.path_params["type"]
        prefix: Key | None = key_of(asked["prefix"]) if asked.get("prefix") else None
        if isinstance(prefix, int):
            raise CallerError("a prefix is a text, or the JSON of an array behind a tilde; a number has none")
        found = view_keys(self._runtime, kind, PAGE_KEYS, asked.get("cursor"), prefix)
        told = {
            "title": f"Actors: {kind}",
            "type": kind,
            "prefix": asked.get("prefix", ""),
            "rows": [
                (one["name"], key_text(one["key"]), one["in_memory"])
                for one in cast("list[dict[str, Any]]", found["actors"])
            ],
            "following": found["next"],
        }
        return self._guard.shell.page(request, "actor_keys.html", session, told)

    async def show(self, request: Request, session: Session) -> Response:
        """One actor."""
        session.caller.must_be_nobodys("an actor")
        path = request.path_params
        actor = view_actor(self._runtime, path["type"], key_of(path["key"]))
        text = as_json(actor["fields"])
        told = {
            "title": f"{path['type']} {actor['name']}",
            "actor": actor,
            "address": f"{quote(path['type'], safe='')}/{key_text(cast('Any', actor['key']))}",
            "methods": self._methods(path["type"], actor["kind"]),
            "fields_text": text,
            "may_edit": bool(actor["editable"]) and len(text) <= MAX_SHOWN_CHARACTERS,
        }
        return self._guard.shell.page(request, "actor.html", session, told)

    def _methods(self, type_name: str, kind: object) -> list[MethodForm]:
        """Those that are called from here: the library's own actors have pages of their own."""
        if kind != "actor":
            return []
        infos = cast("list[MethodInfo]", view_methods(self._runtime, type_name)["methods"])
        return [_form(one) for one in infos]

    async def call(self, request: Request, session: Session, form: Form) -> Response:
        """Call a method; its reply, or what it raised, is told on the page of the actor."""
        session.caller.must_be_nobodys("an actor")
        path = request.path_params
        ref = ref_of(self._runtime, path["type"], key_of(path["key"]))
        if issubclass(ref.type.actor_class, Workflow):
            raise CallerError(f"{ref} is a run; it takes events and verbs on its own page")
        method = form.get("method")
        arguments = _arguments(form)
        call = call_from_outside(ref, method, arguments, by=session.caller.name, reason=form.get("reason"))
        try:
            reply = await until_gone(request, call)
        except NoReply:
            session.tell(f"{method}: no reply in time; the call was given up.", bad=True)
        except Exception as error:
            if isinstance(error, HoldfastError) and not isinstance(error, ActorError):
                raise
            # The method's own: an answer, not a failure of the server.
            session.tell(f"{method} raised {type(error).__name__}: {message_text(error)}", bad=True)
        else:
            session.tell(f"{method} replied {pretty(reply)}")
        return see(f"{base_of(request)}/actors/{quote(path['type'], safe='')}/{key_text(ref.key)}")

    async def edit(self, request: Request, session: Session, form: Form) -> Response:
        """Give those fields other values that were changed in the form."""
        session.caller.must_be_nobodys("an actor")
        if not form.get("reason").strip():
            raise CallerError("an edit needs a reason")
        path = request.path_params
        ref = ref_of(self._runtime, path["type"], key_of(path["key"]))
        was = from_json(form.get("fields_before"), "the fields as they were")
        now = from_json(form.get("fields"), "the fields")
        if not isinstance(now, dict) or not isinstance(was, dict):
            raise CallerError("the fields must be a JSON object")
        current = from_json(as_json(look_at_actor(self._runtime, path["type"], ref.key).fields), "the fields")
        given, before = cast("dict[str, object]", now), cast("dict[str, object]", was)
        changed = {
            name: value for name, value in given.items() if name not in before or before[name] != value
        }
        for name in changed:
            if current.get(name) != before.get(name):
                raise CallerError(f"field {name!r:.100} was changed by somebody else meanwhile; look again")
        if changed:
            raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in changed.items()}
            await edit_fields(ref, raw, by=session.caller.name, reason=form.get("reason"))
        session.tell(f"Changed: {', '.join(changed) or 'nothing'}.")
        return see(f"{base_of(request)}/actors/{quote(path['type'], safe='')}/{key_text(ref.key)}")


def _form(info: MethodInfo) -> MethodForm:
    schema = info.arguments
    if schema is None:
        return MethodForm(info.name, info.about, info.reads_only, (), False)
    properties = cast("dict[str, dict[str, Any]]", schema.get("properties", {}))
    required = cast("list[str]", schema.get("required", []))
    parameters = tuple(_parameter(name, one, name in required) for name, one in properties.items())
    return MethodForm(info.name, info.about, info.reads_only, parameters, True)


def _parameter(name: str, schema: dict[str, Any], required: bool) -> Parameter:
    kind = schema.get("type")
    default = "" if "default" not in schema else as_json(schema["default"])
    if "enum" in schema:
        return Parameter(name, "choice", required, default, tuple(as_json(one) for one in schema["enum"]))
    plain = isinstance(kind, str) and kind in _PLAIN and "format" not in schema
    return Parameter(name, cast("str", kind) if plain else "json", required, default)


def _arguments(form: Form) -> bytes:
    """The arguments of a call as JSON, from the fields of its form; those left empty are left out."""
    if form.get("arguments"):
        return form.get("arguments").encode()
    given: dict[str, object] = {}
    for field, text in form.fields:
        kind, separator, name = field.partition(":")
        if not separator or kind not in ("string", "json"):
            continue
        if kind == "string":
            if text or form.get(f"empty:{name}"):
                given[name] = text
        elif text.strip():
            given[name] = from_json(text, f"argument {name}")
    try:
        return msgspec.json.encode(given)
    except BAD_VALUE as error:
        raise CallerError(f"the arguments: {reason(error)}") from error
