"""One endpoint of HTTP, declared: what it is asked with, who may ask, what it answers.

    Endpoint("GET", "/things", "The things there are", api.list, query=ThingsQuery, answers={200: Things})
    Endpoint("POST", "/things", "Make one", api.make, role="operator", body=Make, answers={201: Thing})

The declaration makes the route (door.py) and its entry in `GET /openapi.json` (openapi.py); neither is there
without the other.  Who asks, the query and the body are read by it before `handle` is called.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from types import UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..runtime.codec import BAD_VALUE, reason
from ..storage.errors import CallerError
from .access import Caller, Role

Method: TypeAlias = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Query = TypeVar("Query", bound=msgspec.Struct)
Body = TypeVar("Body")
JSON: Final = "application/json"
ANYTHING: Final[Mapping[int, object]] = {200: dict[str, Any]}


class NoQuery(msgspec.Struct, frozen=True):
    """The query of an endpoint that takes none."""


class Ask(Generic[Query, Body]):
    """One request to an endpoint, read."""

    __slots__ = ("body", "caller", "query", "request")

    def __init__(self, request: Request, caller: Caller, query: Query, body: Body) -> None:
        self.request = request
        self.caller = caller
        """Who asks; a viewer without a name where no token is needed."""
        self.query = query
        self.body = body
        """None for an endpoint without a body."""

    def path(self, name: str) -> str:
        """A part of the address, by its name there."""
        return cast("str", self.request.path_params[name])


class Endpoint(Generic[Query, Body]):
    """One address with a method.

    path      as Starlette has it: `/runs/{workflow}/{id:path}`
    summary   one sentence for people
    role      who may ask; None: anybody, without a token
    query     a struct with a field for each parameter: texts, whole numbers, bools (`?newest` is true),
              tuples for what may be given several times.  Others are refused
    body      a type that msgspec decodes JSON to; None: no body
    answers   the type of the JSON by status, None where nothing is said; problems go without saying
    has_ids   a POST that takes the Idempotency-Key for the id of what it makes; others' answers are kept
    media     of the answers, if it isn't JSON; then the types don't matter
    """

    __slots__ = (
        "_hints",
        "answers",
        "body",
        "handle",
        "has_ids",
        "media",
        "method",
        "path",
        "query",
        "role",
        "summary",
        "told_body",
    )

    def __init__(
        self,
        method: Method,
        path: str,
        summary: str,
        handle: Callable[[Ask[Query, Body]], Awaitable[Response]],
        *,
        role: Role | None = "viewer",
        query: type[Query] | None = None,
        body: type[Body] | None = None,
        answers: Mapping[int, object],
        media: str = JSON,
        has_ids: bool = False,
    ) -> None:
        self.method: Method = method
        self.path = path
        self.summary = summary
        self.handle = handle
        self.role: Role | None = role
        self.query = cast("type[Query]", NoQuery) if query is None else query
        self.body = body
        # What the body is for people: the same, but for those that read it themselves.
        self.told_body: object = body
        self.answers = dict(answers)
        self.media = media
        self.has_ids = has_ids
        self._hints = {field.encode_name: field.type for field in msgspec.structs.fields(self.query)}

    @property
    def address(self) -> str:
        """The path as OpenAPI has it: `/runs/{workflow}/{id}`."""
        return re.sub(r":\w+}", "}", self.path)

    def read_query(self, request: Request) -> Query:
        """The query of a request; raises `CallerError` for what it may not hold."""
        given = request.query_params
        read: dict[str, object] = {}
        for name in given:
            if name not in self._hints:
                told = f"it takes {', '.join(sorted(self._hints))}" if self._hints else "it takes none"
                raise CallerError(f"?{name:.100}= is not known here; {told}")
            read[name] = _read_parameter(name, given.getlist(name), self._hints[name])
        return msgspec.convert(read, self.query)


def _read_parameter(name: str, values: list[str], hint: Any) -> object:
    plain_hint, meta = _plain(hint)
    if get_origin(plain_hint) is tuple:
        return tuple(_read_parameter(name, [value], get_args(plain_hint)[0]) for value in values)
    if len(values) > 1:
        raise CallerError(f"?{name}= is given {len(values)} times; expected once")
    (value,) = values
    if plain_hint is bool and value == "":
        return True
    try:
        return msgspec.convert(value, hint, strict=False)
    except BAD_VALUE as error:
        if get_origin(plain_hint) is Literal:
            expected = f"is one of {', '.join(get_args(plain_hint))}"
        elif plain_hint is int and meta is not None:
            expected = f"is a whole number from {meta.ge} to {meta.le}"
        else:
            expected = f"can't be that: {reason(error)}"
        raise CallerError(f"{name} {expected}; got {value!r:.100}") from error


def _plain(hint: object) -> tuple[object, msgspec.Meta | None]:
    """A hint without None and without what is annotated, and that."""
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        (hint,) = (one for one in get_args(hint) if one is not type(None))
    if get_origin(hint) is Annotated:
        return get_args(hint)[0], get_args(hint)[1]
    return hint, None


def plain(
    method: Method,
    path: str,
    summary: str,
    handle: Callable[[Request], Awaitable[Response]],
    *,
    role: Role | None = "viewer",
    query: type[msgspec.Struct] = NoQuery,
    body: object = None,
    answers: Mapping[int, object] = ANYTHING,
    media: str = JSON,
    has_ids: bool = False,
) -> AnyEndpoint:
    """An endpoint whose code reads the request itself; its body must be of the declared type then, too."""

    async def serve(ask: Ask[msgspec.Struct, None]) -> Response:
        return await handle(ask.request)

    endpoint = Endpoint(method, path, summary, serve, role=role, query=query, answers=answers, media=media)
    endpoint.has_ids = has_ids
    endpoint.told_body = body
    return endpoint


# What lists of them hold, whatever each is asked with.
AnyEndpoint: TypeAlias = Endpoint[Any, Any]
