"""Dead letters over HTTP: failed runs, and messages and alarms whose retries are spent.

    GET  /dead-letters                         ?kind= type= key= cause= tenant=
    GET  /dead-letters/causes                  the same by cause, counted
    GET  /dead-letters/{letter}                one whole
    POST /dead-letters/control/{verb}/{letter} redrive or drop one
    POST /dead-letters/control/{verb}          all that a filter means; a dry run counts them

A token of a tenant has the failed runs of that tenant alone.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.dead_letters import (
    LETTER_KINDS,
    LETTER_VERBS,
    LetterAddress,
    LetterFilter,
    LetterKind,
    LetterVerb,
    drop_letter,
    read_letter,
    redrive_letter,
    settle_letters,
)
from ...actors.errors import LetterNotFound
from ...storage.errors import CallerError
from ..access import Access, Caller
from ..bodies import answer, read_body
from ..endpoint import AnyEndpoint, plain
from .addresses import key_of
from .asked import DEFAULT_LISTED, Limit, PageQuery, check_names, limit_of, tenant_of
from .dead_letter_views import letter_address, view_causes, view_letters, view_whole_letter

if TYPE_CHECKING:
    from ...actors.system import Runtime

# Letters that one request settles: each is a turn, and many share a commit.
MAX_SETTLED: Final = 1_000
_FILTERS: Final = ("kind", "type", "key", "cause", "tenant")


class SettleLetter(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a verb over one letter; `content` is another input of a run, or body of a message."""

    reason: str
    content: Any = msgspec.UNSET


class SettleLetters(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a verb over all letters of a kind that are meant; `key` is written as in addresses."""

    kind: LetterKind
    reason: str
    type: str | None = None
    key: str | None = None
    cause: str | None = None
    tenant: str | None = None
    dry_run: bool = False
    limit: int = MAX_SETTLED


class CausesQuery(msgspec.Struct, frozen=True):
    """Of which dead letters the causes are counted."""

    kind: LetterKind | None = None
    type: str | None = None
    key: str | None = None
    cause: str | None = None
    tenant: str | None = None
    limit: Limit = DEFAULT_LISTED


class LettersQuery(PageQuery, frozen=True):
    """Which dead letters are listed."""

    kind: LetterKind = "run"
    type: str | None = None
    key: str | None = None
    cause: str | None = None
    tenant: str | None = None


class DeadLettersApi:
    """The endpoints of dead letters."""

    def __init__(self, runtime: Runtime, access: Access, max_body_bytes: int) -> None:
        self._runtime = runtime
        self._access = access
        self._max_body_bytes = max_body_bytes

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them."""
        return [
            plain(
                "GET",
                "/dead-letters",
                "Dead letters of one kind, failed runs by default",
                self.list,
                query=LettersQuery,
            ),
            plain(
                "GET",
                "/dead-letters/causes",
                "The same by cause, the most frequent first",
                self.causes,
                query=CausesQuery,
            ),
            plain(
                "GET",
                "/dead-letters/{letter}",
                "One whole, with its content, and of a run its history",
                self.look,
            ),
            plain(
                "POST",
                "/dead-letters/control/{verb}",
                "Redrive or drop all that are meant; a dry run counts them",
                self.control_all,
                role="operator",
                body=SettleLetters,
            ),
            plain(
                "POST",
                "/dead-letters/control/{verb}/{letter}",
                "Redrive or drop one",
                self.control,
                role="operator",
                body=SettleLetter,
                answers={204: None},
            ),
        ]

    async def list(self, request: Request) -> Response:
        """Dead letters of one kind, failed runs by default."""
        caller = self._access.caller(request, "viewer")
        check_names(request, (*_FILTERS, "limit", "cursor"))
        wanted = _filter(request, caller, request.query_params.get("kind", "run"))
        return answer(
            await view_letters(self._runtime, wanted, limit_of(request), request.query_params.get("cursor"))
        )

    async def causes(self, request: Request) -> Response:
        """Causes of one kind or of all, the most frequent first."""
        caller = self._access.caller(request, "viewer")
        check_names(request, (*_FILTERS, "limit"))
        kind = request.query_params.get("kind")
        kinds = (kind,) if kind is not None else LETTER_KINDS if caller.tenant is None else ("run",)
        filters = [_filter(request, caller, one) for one in kinds]
        return answer(await view_causes(self._runtime, filters, limit_of(request)))

    async def look(self, request: Request) -> Response:
        """One letter whole."""
        caller = self._access.caller(request, "viewer")
        check_names(request, ())
        return answer(await view_whole_letter(self._runtime, await self._address(request, caller)))

    async def control(self, request: Request) -> Response:
        """Redrive or drop one letter: 204 when that is durable."""
        caller = self._access.caller(request, "operator")
        check_names(request, ())
        asked = await read_body(request, SettleLetter, self._max_body_bytes)
        verb = _verb(request, asked.reason)
        address = await self._address(request, caller)
        if verb == "redrive":
            await redrive_letter(
                self._runtime, address, content=asked.content, by=caller.name, reason=asked.reason
            )
        elif asked.content is not msgspec.UNSET:
            raise CallerError("drop takes no content; redrive does")
        else:
            await drop_letter(self._runtime, address, by=caller.name, reason=asked.reason)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def control_all(self, request: Request) -> Response:
        """Redrive or drop all that are meant: how many were, what was refused, whether there are more."""
        caller = self._access.caller(request, "operator")
        check_names(request, ())
        asked = await read_body(request, SettleLetters, self._max_body_bytes)
        verb = _verb(request, asked.reason)
        if not 1 <= asked.limit <= MAX_SETTLED:
            raise CallerError(f"limit is a whole number from 1 to {MAX_SETTLED}; got {asked.limit}")
        if asked.kind != "run":
            caller.must_be_nobodys(f"a dead {asked.kind}")
        wanted = LetterFilter(
            asked.kind,
            asked.type,
            None if asked.key is None else key_of(asked.key),
            asked.cause,
            tenant_of(caller, asked.tenant),
        )
        result, more = await settle_letters(
            self._runtime,
            verb,
            wanted,
            by=caller.name,
            reason=asked.reason,
            dry_run=asked.dry_run,
            limit=asked.limit,
        )
        return answer({**msgspec.structs.asdict(result), "more": more})

    async def _address(self, request: Request, caller: Caller) -> LetterAddress:
        address = letter_address(request.path_params["letter"])
        if caller.tenant is not None:
            whole = None if address.kind != "run" else await read_letter(self._runtime, address)
            if whole is None or whole.letter.tenant != caller.tenant:
                raise LetterNotFound("there is no such dead letter")
        return address


def _verb(request: Request, reason: str) -> LetterVerb:
    verb: str = request.path_params["verb"]
    if verb not in LETTER_VERBS:
        raise CallerError(f"the verbs are {', '.join(LETTER_VERBS)}; got {verb!r:.100}")
    if not reason:
        raise CallerError(f"{verb} needs a reason")
    return verb


def _filter(request: Request, caller: Caller, kind: str) -> LetterFilter:
    if kind not in LETTER_KINDS:
        raise CallerError(f"kind is one of {', '.join(LETTER_KINDS)}; got {kind!r:.100}")
    if kind != "run":
        caller.must_be_nobodys(f"a dead {kind}")
    asked = request.query_params
    return LetterFilter(
        kind,
        asked.get("type"),
        key_of(asked["key"]) if "key" in asked else None,
        asked.get("cause"),
        tenant_of(caller, asked.get("tenant")),
    )
