"""The history of a run, and the run as it was behind any record of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response

from ...actors.workflow.debugging import debug_view
from ...actors.workflow.journal_text import record_text
from ...runtime.clock import moment
from ...storage.errors import CallerError
from .addresses import address_of
from .finding import run_of
from .guard import Guard
from .sessions import Session

if TYPE_CHECKING:
    from ...actors.system import Runtime

# Records shown around the one that is looked at.
RECORDS_AROUND: Final = 100
_MAX_TEXT_CHARACTERS: Final = 2_000


class HistoryPage:
    """The page with the slider."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard

    async def show(self, request: Request, session: Session) -> Response:
        """The run behind record `?at=`, the last one by default."""
        runtime = self._runtime
        run = await run_of(runtime, session.caller, request)
        records = await run.history()
        text = request.query_params.get("at", str(len(records) - 1))
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise CallerError(f"at is the position of a record, from 0 on; got {text!r:.100}")
        at = min(int(text), len(records) - 1)
        first = max(0, min(at - RECORDS_AROUND // 2, len(records) - RECORDS_AROUND))
        shown = list(enumerate(records))[first : first + RECORDS_AROUND]
        told = {
            "title": f"History of {run.workflow} {run.id}",
            "info": await run.info(),
            "address": address_of(run.ref),
            "at": at,
            "last": len(records) - 1,
            "view": await debug_view(runtime.engine, run.ref, at),
            "shows_code": session.caller.tenant is None,
            "records": [
                (number, type(one).__name__, moment(one.at_ms), record_text(one)[:_MAX_TEXT_CHARACTERS])
                for number, one in shown
            ],
        }
        return self._guard.shell.page(request, "history.html", session, told)
