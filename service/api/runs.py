"""Runs over HTTP: start, list, look at, send to, update, control.

    GET  /runs                              ?workflow= status= state= ref_type= ref_id= tenant= tag=NAME:VALUE
    POST /runs                              start one
    GET  /runs/{workflow}/{id}              one with its steps, input and output
    GET  /history/{workflow}/{id}           its records
    POST /runs/events/{workflow}/{id}       send it an event
    POST /runs/updates/{workflow}/{id}      call an update method
    POST /runs/control/{verb}/{workflow}/{id}

A run's id may hold slashes, so it comes last.  A key that is no text is given as JSON behind a tilde: `~7`,
or `~["a",1]`.

Promise: a token of one tenant reaches that tenant's runs alone; others' are not there.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast, get_args
from urllib.parse import quote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.bulk import VERBS
from ...actors.errors import RunNotFound
from ...actors.ids import new_id
from ...actors.workflow.head import RunStatus
from ...actors.workflow.workflow import Workflow
from ...actors.workflow.workflow_type import WorkflowType
from ...runtime.error_text import message_text
from ...runtime.registry import find_actor_class
from ...storage.errors import ActorError, CallerError, HoldfastError
from ..access import Access, Caller
from ..bodies import NoReply, answer, given_correlation_id, read_body, until_gone
from ..refusals import problem
from .addresses import address_of, key_of
from .asked import limit_of, tenant_of
from .run_views import view_history, view_info, view_run

if TYPE_CHECKING:
    from ...actors.handle import Run
    from ...actors.system import Runtime
    from ...actors.workflow.start_options import OnConflict
    from ...runtime.address import GivenKey

_FILTERS: Final = (
    "workflow",
    "status",
    "state",
    "ref_type",
    "ref_id",
    "tenant",
    "tag",
    "limit",
    "cursor",
    "newest",
)


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


class RunsApi:
    """The endpoints of runs."""

    def __init__(self, runtime: Runtime, access: Access, max_body_bytes: int) -> None:
        self._runtime = runtime
        self._access = access
        self._max_body_bytes = max_body_bytes

    async def list(self, request: Request) -> Response:
        """The runs that a filter means, the oldest first; `newest` turns that round."""
        caller = self._access.caller(request, "viewer")
        asked = request.query_params
        for name in asked:
            if name not in _FILTERS:
                raise CallerError(f"?{name}= is no filter of runs; they are {', '.join(_FILTERS)}")
        workflow = asked.get("workflow")
        statuses = asked.getlist("status")
        for status in statuses:
            if status not in get_args(RunStatus):
                raise CallerError(f"status is one of {', '.join(get_args(RunStatus))}; got {status!r:.100}")
        tag = asked.get("tag")
        ref = (asked.get("ref_type"), asked.get("ref_id"))
        if (ref[0] is None) != (ref[1] is None):
            raise CallerError("a ref is asked for with ref_type and ref_id")
        wanted = self._runtime.run_filter(
            None if workflow is None else self._class(workflow),
            status=cast("list[RunStatus]", statuses) or None,
            state=asked.get("state"),
            ref=None if ref[0] is None else cast("tuple[str, str]", ref),
            tenant=tenant_of(caller, asked.get("tenant")),
            tag=None if tag is None else cast("tuple[str, str]", tuple(tag.split(":", 1))),
        )
        page = self._runtime.run_page(
            wanted, limit=limit_of(request), after=asked.get("cursor"), reverse="newest" in asked
        )
        return answer({"runs": [view_info(one) for one in page.runs], "next": page.next})

    async def start(self, request: Request) -> Response:
        """201 when it was started and that is durable; 200 for one that was joined.

        The header Idempotency-Key is the run's id where the body has none, and joins: who asks again with it
        gets the same run.
        """
        caller = self._access.caller(request, "operator")
        asked = await read_body(request, StartRun, self._max_body_bytes)
        told, status, where = await self.begin(request, caller, asked)
        return answer(told, status, {"Location": where})

    async def begin(
        self, request: Request, caller: Caller, asked: StartRun
    ) -> tuple[dict[str, object], HTTPStatus, str]:
        """Start a run as a body asks for it: what is told of it, the status, and its address."""
        run_id, on_conflict = asked.id, asked.on_conflict
        key = request.headers.get("idempotency-key")
        if key is not None and run_id is None:
            run_id, on_conflict = key, "join"
        if (asked.ref_type is None) != (asked.ref_id is None):
            raise CallerError("a ref is given with ref_type and ref_id")
        kind = self._kind(asked.workflow)
        run_id = run_id if run_id is not None else new_id()
        was_there = on_conflict == "join" and await self._is_there(self._handle(caller, kind, run_id))
        run: Run[Any] = await cast("Any", self._runtime).start(
            kind.actor_class,
            asked.input,
            id=run_id,
            on_conflict=cast("OnConflict", on_conflict),
            ref=None if asked.ref_type is None else (asked.ref_type, asked.ref_id),
            tenant=caller.tenant,
            tags=asked.tags or None,
            correlation_id=given_correlation_id(request, asked.correlation_id),
        )
        where = quote(f"{request.scope.get('root_path', '')}/runs/{run.workflow}/{address_of(run_id)}")
        status = HTTPStatus.OK if was_there else HTTPStatus.CREATED
        told: dict[str, object]
        try:
            told = view_info(await run.info())
        except RunNotFound:  # it has ended and is erased already; it was started all the same
            told = {"workflow": run.workflow, "id": run.id, "tenant": caller.tenant}
        return told, status, where

    async def look(self, request: Request) -> Response:
        """One run with its steps, input and output."""
        run = await self._run(request, self._access.caller(request, "viewer"))
        return answer(view_run(await run.info(), await run.history()))

    async def history(self, request: Request) -> Response:
        """The records of one run."""
        run = await self._run(request, self._access.caller(request, "viewer"))
        return answer({"history": view_history(await run.history())})

    async def send(self, request: Request) -> Response:
        """202 when the event is durable; the run processes it later.  An id is taken once."""
        caller = self._access.caller(request, "operator")
        asked = await read_body(request, SendEvent, self._max_body_bytes)
        run = await self._run(request, caller)
        event_id = asked.id or request.headers.get("idempotency-key")
        await run.send(asked.name, asked.payload, user=caller.name, id=event_id)
        return answer({"status": "accepted"}, HTTPStatus.ACCEPTED)

    async def update(self, request: Request) -> Response:
        """The reply of an update method; 422 with what it raised."""
        caller = self._access.caller(request, "operator")
        asked = await read_body(request, CallUpdate, self._max_body_bytes)
        run = await self._run(request, caller)
        update_id = asked.id or request.headers.get("idempotency-key") or new_id()
        try:
            reply = await until_gone(
                request, run.update_once(asked.method, update_id, *asked.arguments, user=caller.name)
            )
        except NoReply:
            told = f"update {update_id} is accepted and has no reply yet: ask again with this id"
            return problem(HTTPStatus.GATEWAY_TIMEOUT, told)
        except Exception as error:
            if isinstance(error, HoldfastError) and not isinstance(error, ActorError):
                raise
            # The method's own: an answer, not a failure of the server.
            told = f"{type(error).__name__}: {message_text(error)}"
            return problem(HTTPStatus.UNPROCESSABLE_ENTITY, told)
        return answer({"reply": reply})

    async def control(self, request: Request) -> Response:
        """Do one of the verbs; the run's head as it is behind it."""
        caller = self._access.caller(request, "operator")
        asked = await read_body(request, Control, self._max_body_bytes)
        verb = request.path_params["verb"]
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
        run = await self._run(request, caller)
        await getattr(run, verb)(**options)
        if verb != "purge":  # which is soon over
            try:
                return answer(view_info(await run.info()))
            except RunNotFound:
                pass  # it ended by that, and is erased already
        return Response(status_code=HTTPStatus.NO_CONTENT)

    # -- finding -------------------------------------------------------------------------------------------

    def _kind(self, workflow: str) -> WorkflowType:
        found = find_actor_class(workflow)
        if found is None or not issubclass(found, Workflow):
            raise RunNotFound(f"no workflow {workflow!r:.200} is imported here")
        try:
            return self._runtime.workflow_type(found)
        except ActorError as error:  # a base class, say: nothing that can be started
            raise RunNotFound(f"{workflow!r:.200} is no workflow that can run: {error}") from error

    def _class(self, workflow: str) -> type[Workflow]:
        return cast("type[Workflow]", self._kind(workflow).actor_class)

    def _handle(self, caller: Caller, kind: WorkflowType, run_id: GivenKey) -> Run[Any]:
        run: Run[Any] = self._runtime.run(cast("Any", kind.actor_class), run_id)
        return run if caller.tenant is None else run.of_tenant(caller.tenant)

    async def _run(self, request: Request, caller: Caller) -> Run[Any]:
        """The run that an address names; raises `RunNotFound`."""
        kind = self._kind(request.path_params["workflow"])
        run = self._handle(caller, kind, key_of(request.path_params["id"]))
        await run.info()
        return run

    async def _is_there(self, run: Run[Any]) -> bool:
        try:
            await run.info()
        except RunNotFound:
            return False
        return True
