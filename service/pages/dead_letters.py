"""Dead letters by what they failed of; each group is redriven or dropped, after a count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.dead_letters import (
    LETTER_KINDS,
    LETTER_VERBS,
    CauseCount,
    LetterFilter,
    LetterKind,
    count_causes,
    settle_letters,
)
from ...storage.errors import CallerError
from ..access import Caller
from ..api.dead_letters import MAX_SETTLED
from ..bodies import Form
from .addresses import key_text
from .guard import Guard, see
from .sessions import Session
from .shell import base_of

if TYPE_CHECKING:
    from ...actors.system import Runtime

MAX_GROUPS: Final = 50
_PAGE_OF: Final[dict[LetterKind, str]] = {"run": "runs", "message": "queues", "alarm": "actors"}


class Group(msgspec.Struct, frozen=True):
    """Letters of one kind and type that failed of the same, and where one of them is."""

    cause: CauseCount
    example: str
    """The address of a page."""
    example_name: str
    all: str
    """The address of a page with all of them, or nothing."""


class DeadLettersPage:
    """The page, and the verbs over a group."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard

    async def show(self, request: Request, session: Session) -> Response:
        """All groups of one kind, or of all."""
        asked = request.query_params.get("kind", "")
        kinds = _kinds(session.caller, asked)
        groups: list[Group] = []
        more = False
        for kind in kinds:
            found, more_of_it = await count_causes(
                self._runtime, LetterFilter(kind, tenant=session.caller.tenant)
            )
            groups += [_group(one) for one in found]
            more = more or more_of_it
        groups.sort(key=lambda one: -one.cause.count)
        told = {
            "title": "Dead letters",
            "kind": asked,
            "kinds": _kinds(session.caller, ""),
            "groups": groups[:MAX_GROUPS],
            "left_out": max(0, len(groups) - MAX_GROUPS),
            "total": sum(one.cause.count for one in groups),
            "more": more,
        }
        return self._guard.shell.page(request, "dead_letters.html", session, told)

    async def deal(self, request: Request, session: Session, form: Form) -> Response:
        """Count a group; or do a verb to all of it."""
        verb, reason = form.get("verb"), form.get("reason")
        if verb not in LETTER_VERBS:
            raise CallerError(f"the verbs are {', '.join(LETTER_VERBS)}; got {verb!r:.100}")
        [kind] = _kinds(session.caller, form.get("kind") or "run")
        wanted = LetterFilter(kind, form.get("type"), cause=form.get("cause"), tenant=session.caller.tenant)
        is_meant = form.get("confirmed") == "yes"
        if is_meant and not reason.strip():
            raise CallerError(f"{verb} needs a reason")
        result, more = await settle_letters(
            self._runtime,
            verb,
            wanted,
            by=session.caller.name,
            reason=reason,
            dry_run=not is_meant,
            limit=MAX_SETTLED,
        )
        if is_meant:
            told = f"{verb.capitalize()}: done to {result.done} of {result.matched}."
            if verb == "drop" and kind == "run":
                told += " They are gone in a moment."
            if more:
                told += " There are more: ask again."
            if result.refused:
                told += f" Refused by {len(result.refused)}; the first: {result.refused[0][1]}"
            session.tell(told, bad=bool(result.refused))
            return see(f"{base_of(request)}/dead-letters")
        told_of = {
            "title": f"{verb.capitalize()} a group",
            "wanted": wanted,
            "matched": result.matched,
            "more": more,
            "verb": verb,
            "reason": reason,
        }
        return self._guard.shell.page(request, "dead_letters_deal.html", session, told_of)


def _kinds(caller: Caller, asked: str) -> tuple[LetterKind, ...]:
    if asked and asked not in LETTER_KINDS:
        raise CallerError(f"the kinds are {', '.join(LETTER_KINDS)}; got {asked!r:.100}")
    if caller.tenant is not None:
        if asked not in ("", "run"):
            caller.must_be_nobodys(f"a dead {asked}")
        return ("run",)
    return (asked,) if asked else LETTER_KINDS


def _group(cause: CauseCount) -> Group:
    example = cause.example
    place = f"{_PAGE_OF[cause.kind]}/{example.type}/{key_text(example.actor_key)}"
    listing = urlencode({"status": "failed", "workflow": cause.type}) if cause.kind == "run" else ""
    return Group(cause, place, str(example.actor_key), f"runs?{listing}" if listing else "")
