"""The audit over HTTP: who did what to what, when and why, the newest first.

    GET /audit     ?type= key= who= verb= since=

It is no tenant's.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.audit import AuditFilter, read_audit
from ...runtime.actor_look import type_number
from ...runtime.address import normal_key
from ...runtime.codec import BAD_VALUE
from ...storage.errors import CallerError
from ..access import Access
from ..bodies import answer
from ..cursors import cursor_place, cursor_text
from ..endpoint import AnyEndpoint, plain
from .addresses import key_of
from .asked import PageQuery, check_names, limit_of

if TYPE_CHECKING:
    from ...actors.system import Runtime

# Deeds that one page looks at, in the search for those that are asked for: some tens of milliseconds.
MAX_LOOKED_AT: Final = 10_000


def view_audit(
    runtime: Runtime, limit: int, cursor: str | None = None, wanted: AuditFilter | None = None
) -> dict[str, object]:
    """A page of deeds; it may hold fewer than `limit` though there is a next one, when few are meant."""
    after = None if cursor is None else cursor_place(cursor, str)
    deeds, place = read_audit(runtime, wanted or AuditFilter(), limit, after, look_at=MAX_LOOKED_AT)
    return {
        "deeds": [
            {name: value for name, value in msgspec.structs.asdict(deed).items() if name != "cursor"}
            for deed in deeds
        ],
        "next": None if place is None else cursor_text(place),
    }


class AuditQuery(PageQuery, frozen=True):
    """Which deeds are listed."""

    type: str | None = None
    key: str | None = None
    who: str | None = None
    verb: str | None = None
    since: str | None = None


class AuditApi:
    """The endpoint of the audit."""

    def __init__(self, runtime: Runtime, access: Access) -> None:
        self._runtime = runtime
        self._access = access

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them."""
        return [
            plain(
                "GET",
                "/audit",
                "Who did what to what, when and why, the newest first",
                self.list,
                query=AuditQuery,
            ),
        ]

    async def list(self, request: Request) -> Response:
        """Deeds, the newest first: to a type, to one actor of it, by somebody, of a verb, since a moment."""
        caller = self._access.caller(request, "viewer")
        caller.must_be_nobodys("the audit")
        check_names(request, ("type", "key", "who", "verb", "since", "limit", "cursor"))
        asked = request.query_params
        type_name, key, since = asked.get("type"), asked.get("key"), asked.get("since")
        if key is not None and type_name is None:
            raise CallerError("a key is asked for with its type")
        wanted = AuditFilter(
            None if type_name is None else type_number(self._runtime, type_name),
            None if key is None or type_name is None else normal_key(key_of(key), type_name)[1],
            asked.get("who"),
            asked.get("verb"),
            None if since is None else _moment(since),
        )
        return answer(view_audit(self._runtime, limit_of(request), asked.get("cursor"), wanted))


def _moment(text: str) -> datetime:
    try:
        found = msgspec.convert(text, datetime)
    except BAD_VALUE:
        found = None
    if found is None or found.tzinfo is None:
        raise CallerError(f"since is a time with a zone, as 2026-01-31T12:00:00Z; got {text!r:.100}")
    return found
