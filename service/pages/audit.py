"""The audit: who did what from outside, when and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from ...actors.audit import AuditFilter
from ..api.audit import view_audit
from .guard import Guard
from .sessions import Session

if TYPE_CHECKING:
    from ...actors.system import Runtime

PAGE_DEEDS: Final = 100


class AuditPage:
    """The page."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard

    async def show(self, request: Request, session: Session) -> Response:
        """Deeds, the newest first: all, or those of somebody, or of one verb."""
        session.caller.must_be_nobodys("the audit")
        asked = request.query_params
        who, verb = asked.get("who", "").strip(), asked.get("verb", "").strip()
        wanted = AuditFilter(who=who or None, verb=verb or None)
        found = view_audit(self._runtime, PAGE_DEEDS, asked.get("cursor"), wanted)
        following = found["next"]
        told = {
            "title": "Audit",
            "who_asked": who,
            "verb": verb,
            "deeds": found["deeds"],
            "following": following and urlencode({"who": who, "verb": verb, "cursor": following}),
        }
        return self._guard.shell.page(request, "audit.html", session, told)
