"""The listing of runs: filters in the address, and verbs over all that a filter means.

the form of filters -> the address -> a page of runs
a verb with a reason -> how many it means (nothing is done yet) -> done, when somebody says so
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.bulk import VERBS, BulkResult
from ...actors.workflow.head import ALL_STATUSES, RunStatus
from ...actors.workflow.run_index import RunFilter
from ...storage.errors import CallerError
from ..access import Caller
from ..api.finding import meant_runs
from ..bodies import Form
from .finding import rows
from .guard import Guard, see
from .sessions import Session
from .shell import base_of

if TYPE_CHECKING:
    from ...actors.system import Runtime

PAGE_ROWS: Final = 50
# The form waits for all of them; what is left is done by asking again.
MAX_BULK: Final = 1_000
_MAX_REFUSED_SHOWN: Final = 20


class Asked(msgspec.Struct):
    """The filters as somebody gave them."""

    workflow: str = ""
    statuses: list[str] = []
    state: str = ""
    ref_type: str = ""
    ref_id: str = ""
    tag: str = ""
    tenant: str = ""
    oldest: bool = False

    @property
    def fields(self) -> list[tuple[str, str]]:
        """As the fields of a form, or of an address."""
        fields = [("status", status) for status in self.statuses]
        for name in ("workflow", "state", "ref_type", "ref_id", "tag", "tenant"):
            if value := getattr(self, name):
                fields.append((name, value))
        if self.oldest:
            fields.append(("order", "oldest"))
        return fields

    @property
    def query(self) -> str:
        """As the query of an address."""
        return urlencode(self.fields)


def asked_of(fields: list[tuple[str, str]]) -> Asked:
    """The filters in an address or a form; empty ones don't count."""
    asked = Asked()
    for name, value in fields:
        value = value.strip()
        if not value:
            continue
        if name == "status":
            if value not in ALL_STATUSES:
                raise CallerError(f"status is one of {', '.join(ALL_STATUSES)}; got {value!r:.100}")
            asked.statuses.append(value)
        elif name in ("workflow", "state", "ref_type", "ref_id", "tag", "tenant"):
            setattr(asked, name, value)
        elif name == "order":
            asked.oldest = value == "oldest"
    return asked


def filter_of(runtime: Runtime, caller: Caller, asked: Asked) -> RunFilter:
    """What the library is asked for; raises `CallerError`, or a `PermissionError` for another tenant."""
    return meant_runs(
        runtime,
        caller,
        workflow=asked.workflow or None,
        statuses=cast("list[RunStatus]", asked.statuses),
        state=asked.state or None,
        ref_type=asked.ref_type or None,
        ref_id=asked.ref_id or None,
        tenant=asked.tenant or None,
        tag=asked.tag or None,
    )


class RunsPage:
    """The listing."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard

    async def show(self, request: Request, session: Session) -> Response:
        """The runs that the address asks for, the newest first."""
        runtime = self._runtime
        asked = asked_of(request.query_params.multi_items())
        wanted = filter_of(runtime, session.caller, asked)
        after = request.query_params.get("after")
        found, following = rows(runtime, wanted, limit=PAGE_ROWS, newest=not asked.oldest, after=after)
        told = {
            "title": "Runs",
            "asked": asked,
            "rows": found,
            "workflows": workflow_names(runtime),
            "statuses": ALL_STATUSES,
            "verbs": VERBS,
            "after": after,
            "following": None if following is None else urlencode([*asked.fields, ("after", following)]),
            "now_ms": runtime.clock.now_ms(),
        }
        return self._guard.shell.page(request, "runs.html", session, told)

    async def bulk(self, request: Request, session: Session, form: Form) -> Response:
        """Count what a verb would be done to; or do it."""
        runtime, caller = self._runtime, session.caller
        asked = asked_of(form.fields)
        wanted = filter_of(runtime, caller, asked)
        verb, reason = form.get("verb"), form.get("reason")
        if verb not in VERBS:
            raise CallerError(f"the verbs are {', '.join(VERBS)}; got {verb!r:.100}")
        is_meant = form.get("confirmed") == "yes"
        result = await runtime.control(
            verb,
            wanted,
            by=caller.name,
            reason=reason,
            dry_run=not is_meant,
            limit=MAX_BULK,
        )
        if is_meant:
            session.tell(_told(verb, result), bad=bool(result.refused))
            return see(f"{base_of(request)}/runs?{asked.query}")
        told = {
            "title": f"{verb.replace('_', ' ').capitalize()} many runs",
            "asked": asked,
            "verb": verb,
            "reason": reason,
            "matched": result.matched,
            "limit": MAX_BULK,
        }
        return self._guard.shell.page(request, "bulk.html", session, told)


def _told(verb: str, result: BulkResult) -> str:
    text = f"{verb.replace('_', ' ')}: done to {result.done} of {result.matched} runs."
    if result.refused:
        shown = "; ".join(why for _, why in result.refused[:_MAX_REFUSED_SHOWN])
        text += f" Refused by {len(result.refused)}: {shown}"
    return text


def workflow_names(runtime: Runtime) -> list[str]:
    """Names of the workflows that are imported."""
    return [one.name for one in runtime.workflows()]
