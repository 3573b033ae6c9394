"""Runs over HTTP: start, list, look at, send to, update, control.

    GET  /runs                              list some
    POST /runs                              start one
    GET  /runs/{workflow}/{id}              one with its steps, input and output
    GET  /history/{workflow}/{id}           its records
    POST /runs/events/{workflow}/{id}       send it an event
    POST /runs/updates/{workflow}/{id}      call an update method
    POST /runs/control/{verb}/{workflow}/{id}

A run's id may hold slashes, so it comes last.  A key that is no text is given as JSON behind a tilde: `~7`,
or `~["a",1]`.

Whose runs a token reaches is finding.py's to say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.bulk import VERBS
from ...actors.errors import RunExists, RunNotFound
from ...actors.ids import new_id
from ...actors.workflow.head import RunStatus
from ...runtime.error_text import message_text
from ...storage.errors import ActorError, CallerError, HoldfastError
from ..access import Caller
from ..bodies import answer
from ..correlation import given_correlation_id
from ..endpoint import AnyEndpoint, Ask, Endpoint, NoQuery
from ..refusals import problem
from ..waiting import NoReply, until_gone
from .addresses import address_of
from .asked import PageQuery
from .finding import find_run, find_workflow, meant_runs
from .run_views import (
    InfoView,
    RecordView,
    RunView,
    view_history,
    view_info,
    view_run,
)

if TYPE_CHECKING:
    from ...actors.handle import Run
    from ...actors.system import Runtime


class RunsQuery(PageQuery, frozen=True):
    """Which runs are listed."""

    workflow: str | None = None
    status: tuple[RunStatus, ...] = ()
    state: str | None = None
    ref_type: str | None = None
    ref_id: str | None = None
    tenant: str | None = None
    tag: Annotated[str, msgspec.Meta(pattern="^[^:]+:", description="NAME:VALUE")] | None = None
    newest: Annotated[bool, msgspec.Meta(description="The newest first.")] = False


class StartRun(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a start."""

    workflow: str
    input: Any = msgspec.UNSET
    id: str | None = None
    on_conflict: str = "reject"
    ref_type: str | None = None
    ref_id: str | None = None
    tags: dict[str, str] = {}
    correlation_id: str | None = None


class SendEvent(msgspec.Struct, forbid_unknown_fields=True):
    """The body of an event for a run."""

    name: str
    payload: Any = msgspec.UNSET
    id: str | None = None


class CallUpdate(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a call of an `@update` method."""

    method: str
    arguments: list[Any] = []
    id: str | None = None


class Control(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a verb; `input` for restart and redrive alone, `undo` for terminate."""

    reason: str = ""
    input: Any = msgspec.UNSET
    undo: bool = False


class Runs(msgspec.Struct, frozen=True):
    """Runs that were asked for."""

    runs: list[InfoView]
    next: str | None
    """The cursor of the next page, None when this is the last; a page may be short and not be the last."""


class History(msgspec.Struct, frozen=True):
    """The records of a run."""

    history: list[RecordView]


class Accepted(msgspec.Struct, frozen=True):
    """An event is durable."""

    status: Literal["accepted"] = "accepted"


class Reply(msgspec.Struct, frozen=True):
    """What an update method returned."""

    reply: Any


class RunsApi:
    """The endpoints of runs."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def endpoints(self) -> list[AnyEndpoint]:
        """As the service has them."""
        return [
            Endpoint(
                "GET",
                "/runs",
                "Runs, the oldest first",
                self.list,
                query=RunsQuery,
                answers={200: Runs},
            ),
            Endpoint(
                "POST",
                "/runs",
                "Start a run: 201 with `Location`, 200 for one that was joined",
                self.start,
                has_ids=True,
                role="operator",
                body=StartRun,
                answers={200: InfoView, 201: InfoView},
            ),
            Endpoint(
                "GET",
                "/runs/{workflow}/{id:path}",
                "The run, its input, output, and steps with attempts, error and time of the next attempt",
                self.look,
                answers={200: RunView},
            ),
            Endpoint(
                "GET",
                "/history/{workflow}/{id:path}",
                "The records of a run",
                self.history,
                answers={200: History},
            ),
            Endpoint(
                "POST",
                "/runs/events/{workflow}/{id:path}",
                "Send a run an event: accepted when the run has it for good",
                self.send,
                has_ids=True,
                role="operator",
                body=SendEvent,
                answers={202: Accepted},
            ),
            Endpoint(
                "POST",
                "/runs/updates/{workflow}/{id:path}",
                "Call an update method of a run; 422 with what it raised",
                self.update,
                has_ids=True,
                role="operator",
                body=CallUpdate,
                answers={200: Reply},
            ),
            Endpoint(
                "POST",
                "/runs/control/{verb}/{workflow}/{id:path}",
                f"Do a verb to a run: {', '.join(VERBS)}",
                self.control,
                role="operator",
                body=Control,
                answers={200: InfoView, 204: None},
            ),
        ]

    def tracked_endpoints(self) -> list[AnyEndpoint]:
        """The same under the names of a tracker."""
        return [
            Endpoint(
                one.method,
                f"/api/tracker{one.path.removeprefix('/runs') if 'control' in one.path else one.path}",
                one.summary,
                one.handle,
                role=one.role,
                query=one.query,
                body=one.body,
                answers=one.answers,
            )
            for one in self.endpoints()
            if one.handle in (self.list, self.look, self.control)
        ]

    async def list(self, ask: Ask[RunsQuery, None]) -> Response:
        """The runs that a filter means, the oldest first; `newest` turns that round."""
        asked = ask.query
        wanted = meant_runs(
            self._runtime,
            ask.caller,
            workflow=asked.workflow,
            statuses=asked.status,
            state=asked.state,
            ref_type=asked.ref_type,
            ref_id=asked.ref_id,
            tenant=asked.tenant,
            tag=asked.tag,
        )
        page = self._runtime.run_page(wanted, limit=asked.limit, after=asked.cursor, reverse=asked.newest)
        return answer(Runs([view_info(one) for one in page.runs], page.next))

    async def start(self, ask: Ask[NoQuery, StartRun]) -> Response:
        """201 when it was started and that is durable; 200 for one that was joined.

        The header Idempotency-Key is the run's id where the body has none, and joins: who asks again with it
        gets the same run.
        """
        told, status, where = await self.begin(ask.request, ask.caller, ask.body)
        return answer(told, status, {"Location": where})

    async def begin(
        self, request: Request, caller: Caller, asked: StartRun
    ) -> tuple[InfoView, HTTPStatus, str]:
        """Start a run as a body asks for it: what is told of it, the status, and its address."""
        run_id, on_conflict = asked.id, asked.on_conflict
        key = request.headers.get("idempotency-key")
        if key is not None and run_id is None:
            run_id, on_conflict = key, "join"
        if (asked.ref_type is None) != (asked.ref_id is None):
            raise CallerError("a ref is given with ref_type and ref_id")
        workflow = find_workflow(self._runtime, asked.workflow)
        run_id = run_id if run_id is not None else new_id()
        start: Callable[..., Awaitable[Run[Any]]] = partial(
            cast("Any", self._runtime).start,
            workflow,
            asked.input,
            id=run_id,
            ref=None if asked.ref_type is None else (asked.ref_type, asked.ref_id),
            tenant=caller.tenant,
            tags=asked.tags or None,
            correlation_id=given_correlation_id(request, asked.correlation_id),
        )
        status = HTTPStatus.CREATED
        if on_conflict == "join":
            # So that of two that ask at once one is told that it started the run, and one that it was there.
            try:
                run = await start(on_conflict="reject")
            except RunExists:
                run, status = await start(on_conflict="join"), HTTPStatus.OK
        else:
            run = await start(on_conflict=on_conflict)
        where = quote(f"{request.scope.get('root_path', '')}/runs/{run.workflow}/{address_of(run_id)}")
        try:
            told = view_info(await run.info())
        except RunNotFound:  # it has ended and is erased already; it was started all the same
            told = InfoView(run.workflow, run.id, tenant=caller.tenant)
        return told, status, where

    async def look(self, ask: Ask[NoQuery, None]) -> Response:
        """One run with its steps, input and output."""
        run = await self._run(ask)
        return answer(view_run(await run.info(), await run.history()))

    async def history(self, ask: Ask[NoQuery, None]) -> Response:
        """The records of one run."""
        run = await self._run(ask)
        return answer(History(view_history(await run.history())))

    async def send(self, ask: Ask[NoQuery, SendEvent]) -> Response:
        """202 when the event is durable; the run processes it later.  An id is taken once."""
        request, caller, asked = ask.request, ask.caller, ask.body
        run = await self._run(ask)
        event_id = asked.id or request.headers.get("idempotency-key")
        await run.send(asked.name, asked.payload, user=caller.name, id=event_id)
        return answer(Accepted(), HTTPStatus.ACCEPTED)

    async def update(self, ask: Ask[NoQuery, CallUpdate]) -> Response:
        """The reply of an update method; 422 with what it raised."""
        request, caller, asked = ask.request, ask.caller, ask.body
        run = await self._run(ask)
        update_id = asked.id or request.headers.get("idempotency-key") or new_id()
        try:
            done = await until_gone(
                request, run.settle_update(asked.method, update_id, *asked.arguments, user=caller.name)
            )
        except NoReply:
            told = f"update {update_id} is accepted and has no reply yet: ask again with this id"
            return problem(HTTPStatus.GATEWAY_TIMEOUT, told)
        except Exception as error:
            if isinstance(error, HoldfastError) and not isinstance(error, ActorError):
                raise
            return _raised(error)  # the validator's own
        if done.error is not None:
            return _raised(done.error)
        return answer(Reply(done.reply))

    async def control(self, ask: Ask[NoQuery, Control]) -> Response:
        """Do one of the verbs; the run's head as it is behind it."""
        caller, asked = ask.caller, ask.body
        verb = ask.path("verb")
        if verb not in VERBS:
            raise CallerError(f"the verbs are {', '.join(VERBS)}; got {verb!r:.100}")
        options: dict[str, Any] = {"by": caller.name}
        if asked.reason or verb != "terminate":  # which has a text of its own
            options["reason"] = asked.reason
        if asked.input is not msgspec.UNSET:
            if verb not in ("restart", "redrive"):
                raise CallerError(f"{verb} takes no input; restart and redrive do")
            options["input"] = asked.input
        if asked.undo:
            if verb != "terminate":
                raise CallerError(f"{verb} has no undo of its own; terminate does")
            options["undo"] = True
        run = await self._run(ask)
        await getattr(run, verb)(**options)
        if verb != "purge":  # which is soon over
            try:
                return answer(view_info(await run.info()))
            except RunNotFound:
                pass  # it ended by that, and is erased already
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def _run(self, ask: Ask[Any, Any]) -> Run[Any]:
        return await find_run(self._runtime, ask.caller, ask.path("workflow"), ask.path("id"))


def _raised(error: BaseException) -> Response:
    """What code of the workflow raised: an answer, not a failure of the server."""
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{type(error).__name__}: {message_text(error)}")
