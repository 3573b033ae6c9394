"""`Telemetry`: traces a runtime with OpenTelemetry (extra `telemetry`, its API alone).

    Runtime("data", telemetry=Telemetry())

Which spans there are is in docs/observability.md.  Where no SDK is set up, OpenTelemetry's own no-op tracer
takes them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import Token
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Final, cast

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ..runtime.actor import Actor, activation_of
from ..runtime.address import show_key
from ..runtime.error_text import message_text
from .workflow.journal import Failed, Finished
from .workflow.workflow_type import WorkflowType

if TYPE_CHECKING:
    from ..runtime.actor_type import ActorType
    from ..runtime.ref import Ref
    from .workflow.journal import End, Started
    from .workflow.start_options import StartOptions
    from .workflow.step_op import StepScope

_HEADERS: Final = TraceContextTextMapPropagator()
_MAX_MESSAGE_IDS: Final = 10


class Telemetry:
    """Spans of calls, alarms, runs, attempts of steps and deliveries of queues."""

    def __init__(self, tracer_provider: TracerProvider | None = None) -> None:
        """`tracer_provider` takes the spans; the global one by default."""
        self._tracer = trace.get_tracer("holdfast", tracer_provider=tracer_provider)

    # -- actors --------------------------------------------------------------------------------------------

    def trace_methods(self, kind: ActorType) -> None:
        """See `Tracing`."""
        for name, plan in kind.methods.items():
            plan.function = self._traced(f"{kind.name}.{name}", plan.function)

    def _traced(self, name: str, function: Callable[..., Awaitable[object]]) -> Callable[..., Any]:
        tracer = self._tracer

        async def traced(actor: Actor, *args: object, **kwargs: object) -> object:
            attributes = _of(activation_of(actor).ref)
            with tracer.start_as_current_span(name, attributes=attributes):
                return await function(actor, *args, **kwargs)

        return update_wrapper(traced, function)

    def alarm(self, ref: Ref, name: str) -> AbstractContextManager[object]:
        """See `Tracing`.  The alarms of runs are the engine's own way to wake them: no span tells of them."""
        if isinstance(ref.type, WorkflowType):
            return contextmanager(_nothing)()
        attributes = _of(ref) | {"holdfast.alarm": name}
        return self._tracer.start_as_current_span(
            f"alarm {ref.type.name}", Context(), SpanKind.CONSUMER, attributes
        )

    # -- runs ----------------------------------------------------------------------------------------------

    def run_starts(self, ref: Ref, options: StartOptions) -> str | None:
        """See `RunTracing`."""
        cause = contexts.get_current() if options.traceparent is None else _context(options.traceparent)
        attributes = _of_run(ref) | {"holdfast.correlation_id": options.correlation_id}
        span = self._tracer.start_span(f"start {ref.type.name}", cause, SpanKind.PRODUCER, attributes)
        span.end()
        return _header(trace.set_span_in_context(span, Context()))

    def run_ended(self, ref: Ref, started: Started, record: End) -> None:
        """See `RunTracing`."""
        outcome = "complete" if isinstance(record, Finished) else type(record).__name__.lower()
        span = self._tracer.start_span(
            f"run {ref.type.name}",
            _context(started.traceparent),
            SpanKind.CONSUMER,
            _of_run(ref) | {"holdfast.correlation_id": started.correlation_id, "holdfast.outcome": outcome},
            start_time=started.at_ms * 1_000_000,
        )
        if isinstance(record, Failed):
            span.set_status(Status(StatusCode.ERROR, str(record.error)))
        span.end(record.at_ms * 1_000_000)

    def attempt_begins(self, scope: StepScope) -> _Attempt:
        """See `RunTracing`."""
        op = scope.op
        run = op.run
        before = cast("_Attempt | None", op.span_before)
        cause = _context(run.started.traceparent)
        attributes = _of_run(run.activation.ref) | {
            "holdfast.correlation_id": run.correlation_id,
            "holdfast.step": op.name,
            "holdfast.step.nth": op.nth,
            "holdfast.attempt": scope.attempt,
        }
        links = [] if before is None else [Link(before.span.get_span_context())]
        name = f"{run.type.name} step {op.name}"
        return _Attempt(self._tracer.start_span(name, cause, SpanKind.INTERNAL, attributes, links), cause)

    # -- from and to others --------------------------------------------------------------------------------

    def delivery(self, queue: Ref, group: str, message_ids: list[str]) -> AbstractContextManager[object]:
        """See `RunTracing`."""
        return self._tracer.start_as_current_span(
            f"deliver {show_key(queue.key)}",
            Context(),
            SpanKind.CONSUMER,
            {
                "messaging.system": "holdfast",
                "messaging.destination.name": show_key(queue.key),
                "messaging.consumer.group.name": group,
                "messaging.batch.message_count": len(message_ids),
                "holdfast.message_ids": message_ids[:_MAX_MESSAGE_IDS],
            },
        )

    @contextmanager
    def incoming(self, headers: Mapping[str, str]) -> Generator[None]:
        """See `RunTracing`; whoever traces the server already has the say."""
        if trace.get_current_span().get_span_context().is_valid:
            yield
            return
        token = contexts.attach(_HEADERS.extract(headers))
        try:
            yield
        finally:
            contexts.detach(token)

    def outgoing(self) -> dict[str, str]:
        """See `RunTracing`."""
        headers: dict[str, str] = {}
        _HEADERS.inject(headers)
        return headers


class _Attempt:
    """See `AttemptSpan`."""

    __slots__ = ("_cause", "_token", "span")

    def __init__(self, span: Span, cause: Context) -> None:
        self.span = span
        self._cause = cause
        self._token: Token[Context] | None = None

    def enter(self) -> None:
        self._token = contexts.attach(trace.set_span_in_context(self.span, self._cause))

    def leave(self) -> None:
        if self._token is not None:
            contexts.detach(self._token)
            self._token = None

    def failed(self, error: BaseException) -> None:
        self.span.record_exception(error)
        self.span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {message_text(error)}"))

    def end(self) -> None:
        self.span.end()


def _nothing() -> Generator[None]:
    yield


def _of(ref: Ref) -> dict[str, str]:
    return {"holdfast.actor.type": ref.type.name, "holdfast.actor.key": show_key(ref.key)}


def _of_run(ref: Ref) -> dict[str, str | int]:
    return {"holdfast.workflow": ref.type.name, "holdfast.run.id": show_key(ref.key)}


def _context(traceparent: str | None) -> Context:
    return Context() if traceparent is None else _HEADERS.extract({"traceparent": traceparent}, Context())


def _header(context: Context) -> str | None:
    carrier: dict[str, str] = {}
    _HEADERS.inject(carrier, context)
    return carrier.get("traceparent")
