"""One run: how it stands, what it did when, what went in and came out, and the verbs."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread
import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from ...actors.run_info import RunInfo
from ...actors.workflow.graph.model import WorkflowGraph
from ...actors.workflow.graph.svg import to_svg
from ...actors.workflow.journal import Finished, Record, Redriven, Started, StepDone, journal_prefix
from ...actors.workflow.saying import data_of
from ...actors.workflow.timeline import Span, Timeline, timeline
from ...actors.workflow_graph import workflow_graph
from ...runtime.codec import BAD_VALUE, decode_to_show, reason
from ...storage.errors import CallerError, HoldfastError
from ...storage.keys import next_prefix
from ..api.finding import find_workflow
from ..bodies import Form
from .addresses import address_of
from .finding import run_of
from .gantt import gantt
from .guard import Guard, see
from .sessions import Session
from .shell import base_of
from .shown import pretty

if TYPE_CHECKING:
    from ...actors.handle import Run
    from ...actors.system import Runtime

_GROWS_EACH_MS: Final = 3_000
_ENDED: Final = ("complete", "failed", "cancelled", "terminated")
# Graphs are read from sources, which don't change while the process lives.
_MAX_GRAPHS: Final = 200
# The nodes of a graph that stand for something in a timeline, by the kind of what that is.
_NODE_KINDS: Final = {
    "step": ("step", "actor"),
    "call": ("actor",),
    "child": ("child",),
    "wait": ("wait", "until"),
    "sleep": ("sleep",),
    "send": ("send",),
}


class RunPage:
    """The page of a run, and its forms."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard
        self._graphs: dict[type, WorkflowGraph | None] = {}

    async def show(self, request: Request, session: Session) -> Response:
        """The run that the address names."""
        runtime = self._runtime
        run = await run_of(runtime, session.caller, request)
        info, now_ms = await run.info(), runtime.clock.now_ms()
        version = self._version(run, info, now_ms)
        if request.headers.get("x-version") == version:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        records = await run.history()
        line = await timeline(runtime.engine, run.ref, records, now_ms)
        given, out = _in_and_out(records)
        outputs = {(one.name, one.nth): one for one in records if isinstance(one, StepDone)}
        bars = gantt(line, now_ms)
        told = {
            "title": f"{info.workflow} {info.id}",
            "version": version,
            "info": info,
            "address": address_of(run.ref),
            "now_ms": now_ms,
            "ended": info.status in _ENDED,
            "gantt": bars,
            "outputs": {
                bar.id: decode_to_show(outputs[bar.name, bar.nth].value)
                for bar in bars.bars
                if (bar.name, bar.nth) in outputs and bar.kind not in ("sleep", "wait")
            },
            "records": len(records),
            "given": given,
            "has_output": out is not msgspec.UNSET,
            "out": None if out is msgspec.UNSET else out,
            "data": data_of(records),
            "verbs": verbs_for(info),
            "graph": await self._graph(request.path_params["workflow"], line),
            # Where in the code it was is for whoever has the folder.
            "shows_trace": session.caller.tenant is None,
            "given_text": pretty(given),
        }
        return self._guard.shell.page(request, "run.html", session, told)

    def _version(self, run: Run[Any], info: RunInfo, now_ms: int) -> str:
        """What tells whether the page that somebody has is still right, without reading the journal."""
        ref = run.ref
        activation = ref.activation or self._runtime.directory.activate(ref)
        prefix = journal_prefix(activation.prefix(b""))
        last = self._runtime.reader.scan(prefix, next_prefix(prefix), True, 1)
        position = int.from_bytes(last[0][0][len(prefix) :], "big") if last else 0
        # Bars of what goes on grow with time; those of a long journal less often, since it costs more.
        each_ms = _GROWS_EACH_MS * (1 + position // 500)
        moment = 0 if info.status in _ENDED else now_ms // each_ms
        return f"{info.status}-{info.state}-{info.updated_at.timestamp()}-{position}-{moment}".encode().hex()

    async def control(self, request: Request, session: Session, form: Form) -> Response:
        """Do a verb."""
        run = await run_of(self._runtime, session.caller, request)
        verb = request.path_params["verb"]
        by, why = session.caller.name, form.get("reason")
        given = self._changed_input(form)
        address = f"{base_of(request)}/runs/{address_of(run.ref)}"
        match verb:
            case "pause":
                await run.pause(by=by, reason=why)
            case "resume":
                await run.resume(by=by, reason=why)
            case "cancel":
                await run.cancel(by=by, reason=why)
            case "terminate":
                undo = form.get("undo") == "yes"
                await run.terminate(why or "terminated from outside", undo=undo, by=by)
            case "restart":
                await run.restart(input=given, by=by, reason=why)
            case "retry_now":
                await run.retry_now(by=by, reason=why)
            case "redrive":
                await run.redrive(input=given, by=by, reason=why)
            case "purge":
                await run.purge(by=by, reason=why)
                address = f"{base_of(request)}/runs"
            case _:
                raise CallerError(f"there is no verb {verb!r:.100}")
        session.tell(f"{verb.replace('_', ' ').capitalize()}: done.")
        return see(address)

    def _changed_input(self, form: Form) -> object:
        text = form.get("input")
        if text == form.get("input_before"):
            return msgspec.UNSET
        return from_json(text, "the input")

    async def send(self, request: Request, session: Session, form: Form) -> Response:
        """Send an event."""
        run = await run_of(self._runtime, session.caller, request)
        payload: object = msgspec.UNSET
        if form.get("payload").strip():
            payload = from_json(form.get("payload"), "the payload")
        await run.send(form.get("name"), payload, user=session.caller.name)
        session.tell(f"Event {form.get('name')} is sent.")
        return see(f"{base_of(request)}/runs/{address_of(run.ref)}")

    async def _graph(self, workflow: str, line: Timeline) -> Markup | None:
        """The flow of the workflow with what this run did of it; None where there is no source."""
        kind = find_workflow(self._runtime, workflow)
        if kind not in self._graphs:
            if len(self._graphs) >= _MAX_GRAPHS:
                self._graphs.clear()
            try:
                self._graphs[kind] = await anyio.to_thread.run_sync(workflow_graph, kind)
            except HoldfastError:
                self._graphs[kind] = None
        graph = self._graphs[kind]
        if graph is None:
            return None
        # Its own texts are escaped where the picture is made.
        return Markup(to_svg(graph, states=states_of(graph, line.spans)))


def states_of(graph: WorkflowGraph, spans: list[Span]) -> dict[int, str]:
    """A class for each node that the run came to: as its newest use stands."""
    states: dict[int, str] = {}
    for span in spans:
        for node in graph.nodes:
            if node.kind in _NODE_KINDS.get(span.kind, ()) and _means(node.name, node.kind, span):
                states[node.id] = f"is-{span.status.replace(' ', '-')}"
    if graph.nodes:
        states.setdefault(graph.nodes[0].id, "is-complete")
    return states


def _means(name: str | None, kind: str, span: Span) -> bool:
    if span.kind == "sleep":
        return True
    if name is None:
        return span.kind == "wait" and kind == "until" and span.name == "a condition"
    if span.kind == "call":  # `Type/key.method` is drawn as `Type.method`
        return span.name.partition("/")[0] == name.partition(".")[0] and span.name.endswith(
            "." + name.rpartition(".")[2]
        )
    if span.kind == "child":
        return span.name == f"child {name}"
    if span.kind == "wait":
        return name in span.name.split(" or ")
    if span.kind == "send":
        return span.name.startswith(f"send {name} to ")
    return span.name == name


def verbs_for(info: RunInfo) -> list[str]:
    """The verbs that a run takes as it stands."""
    status = info.status
    if status == "failed":
        return ["redrive", "restart", "purge"]
    if status in _ENDED:
        return ["restart", "purge"]
    if status == "stuck":
        return ["terminate", "restart"]
    if status in ("paused", "pausing"):
        return ["resume", "cancel", "terminate", "restart"]
    verbs = ["pause", "cancel", "terminate", "restart"]
    return ["retry_now", *verbs] if status == "retrying" else verbs


def from_json(text: str, what: str) -> Any:
    """What somebody wrote into a form; raises `CallerError`."""
    try:
        return msgspec.json.decode(text)
    except BAD_VALUE as error:
        raise CallerError(f"{what} must be JSON: {reason(error)}") from error


def _in_and_out(records: list[Record]) -> tuple[object, object]:
    given: object = None
    out: object = msgspec.UNSET
    for record in records:
        if isinstance(record, Started):
            given = decode_to_show(record.input) if bytes(record.input) else None
        elif isinstance(record, Redriven) and record.input is not None:
            given = decode_to_show(record.input)
        elif isinstance(record, Finished):
            out = decode_to_show(record.value)
    return given, out
