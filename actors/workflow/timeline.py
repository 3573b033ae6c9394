"""When a run asked for what, and how long each took: its journal as bars on a line of time.

    records -> a replay beside the real run -> when each step, wait and sleep was asked for
            -> the records' own times       -> attempts, the time between them, ends

The journal has no record of a step's beginning; a replay tells what `run()` had asked for behind each record.
Where the present code can't be replayed, or there is too much of it, a bar begins with the outcome before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec

from ..errors import ErrorRecord
from .call_op import CallOp
from .children import ChildOp, SendOp, StartOp
from .conditions import ConditionWait
from .debugging import ObservedRun, observe_as
from .events import EventWait
from .journal import (
    AttemptFailed,
    CancelAsked,
    Cancelled,
    EventArrived,
    Failed,
    Finished,
    Paused,
    Record,
    Redriven,
    Resumed,
    RetriedNow,
    Started,
    StepDone,
    StepFailed,
    Terminated,
    TimerFired,
    UndoBegan,
    UpdateAccepted,
)
from .live_run import DEADLINE_TIMER
from .ops import Op
from .undo import UNDO

if TYPE_CHECKING:
    from ...runtime.ref import Ref
    from .engine import Engine

# A replay drives run() in the loop: a few milliseconds for so many.
MAX_REPLAYED_RECORDS: Final = 1_000

SpanKind: TypeAlias = Literal["step", "undo", "call", "child", "start", "send", "sleep", "wait"]
SpanStatus: TypeAlias = Literal["running", "retrying", "waiting", "complete", "failed", "given up"]
_ENDS = (Finished, Failed, Terminated, Cancelled)
_OUTCOMES = (StepDone, StepFailed, TimerFired, EventArrived, UpdateAccepted, Resumed, CancelAsked, UndoBegan)


class Attempt(msgspec.Struct):
    """One attempt of a step: `end_ms` is None while it is in progress."""

    begin_ms: int
    end_ms: int | None = None
    error: ErrorRecord | None = None


class Span(msgspec.Struct):
    """One thing that `run()` asked for."""

    kind: SpanKind
    name: str
    nth: int
    begin_ms: int
    end_ms: int | None = None
    """None while it goes on."""
    status: SpanStatus = "running"
    attempts: list[Attempt] = []
    due_ms: int | None = None
    """When a sleep ends, or the next attempt begins."""
    child: Ref | None = None


class Mark(msgspec.Struct):
    """Something that came from outside at one moment."""

    at_ms: int
    text: str


class Timeline(msgspec.Struct):
    """A run on its line of time."""

    begin_ms: int
    end_ms: int | None
    spans: list[Span]
    pauses: list[tuple[int, int | None]]
    marks: list[Mark]
    replayed: bool
    """Whether the beginnings are known; else they are those of the outcomes before."""


async def timeline(engine: Engine, ref: Ref, records: list[Record], now_ms: int) -> Timeline:
    """The line of a run with these records, all of them; raises `RunNotFound`."""
    trace: _Trace | None = None
    if len(records) <= MAX_REPLAYED_RECORDS:
        run = await observe_as(TracedRun, engine, ref, list(enumerate(records)))
        try:
            if run.difference is None and run.problem is None:
                trace = run.trace
                trace.end(run)
        finally:
            run.close()
    return _Builder(records, trace, now_ms).build()


class _Trace:
    """What a replay shows of the times at which things were asked for."""

    def __init__(self) -> None:
        self.ops: dict[tuple[str, int], Span] = {}
        self.given_up: dict[tuple[str, int], int] = {}
        self.sleeps: dict[int, Span] = {}
        self.waits: list[Span] = []
        self._open_waits: dict[int, tuple[EventWait | ConditionWait, Span]] = {}
        self._seen_ops = 0
        self._seen_timers = 0

    def look(self, run: TracedRun) -> None:
        """run() has come to rest behind a record."""
        now_ms = run.loop.now_ms
        for op in run.asked_ops(self._seen_ops):
            self._seen_ops += 1
            child = op.ref if isinstance(op, ChildOp) else None
            self.ops[op.name, op.nth] = Span(_kind_of(op), op.name, op.nth, now_ms, child=child)
        waits = run.open_waits()
        here = {id(wait) for wait in waits}
        for number in [one for one in self._open_waits if one not in here]:
            wait, span = self._open_waits.pop(number)
            span.end_ms = now_ms
            span.status = "given up" if wait.cancelled() or wait.exception() is not None else "complete"
        timed = {wait.timer.nth for wait in waits if wait.timer is not None}
        for wait in waits:
            if id(wait) not in self._open_waits:
                name = wait.kinds.shown if isinstance(wait, EventWait) else "a condition"
                due_ms = None if wait.timer is None else wait.timer.due_ms
                span = Span("wait", name, len(self.waits) + 1, now_ms, status="waiting", due_ms=due_ms)
                self._open_waits[id(wait)] = (wait, span)
                self.waits.append(span)
        if run.loop.timer_count > self._seen_timers:
            for nth, timer in run.loop.timers.items():
                if nth > self._seen_timers and nth not in timed and nth != DEADLINE_TIMER:
                    self.sleeps[nth] = Span(
                        "sleep", "sleep", nth, timer.set_ms, status="waiting", due_ms=timer.due_ms
                    )
            self._seen_timers = run.loop.timer_count

    def end(self, run: TracedRun) -> None:
        """Which sleeps still go on, and until when."""
        for nth, span in self.sleeps.items():
            timer = run.loop.timers.get(nth)
            if timer is None:
                span.status = "given up"
            else:
                span.due_ms = timer.due_ms


class TracedRun(ObservedRun):
    """An observed run that notes when what was asked for."""

    __slots__ = ("trace",)

    trace: _Trace

    def replay(self) -> None:
        """See `ObservedRun`."""
        self.trace = _Trace()
        super().replay()

    def _run_to_rest(self) -> None:
        super()._run_to_rest()
        if not self.dropped:
            self.trace.look(self)

    def op_cancelled(self, op: Op) -> None:
        """See `LiveRun`."""
        self.trace.given_up[op.name, op.nth] = self.loop.now_ms
        super().op_cancelled(op)

    def asked_ops(self, first: int) -> list[Op]:
        """What run() asked for behind the first so many."""
        return self._unstarted[first:]

    def open_waits(self) -> list[EventWait | ConditionWait]:
        """Waits that nothing met yet."""
        waits: list[EventWait | ConditionWait] = []
        if self._box is not None:
            waits.extend(self._box.waits)
        if self._conditions is not None:
            waits.extend(self._conditions.waits)
        return waits


def _kind_of(op: Op) -> SpanKind:
    if isinstance(op, CallOp):
        return "call"
    if isinstance(op, ChildOp):
        return "child"
    if isinstance(op, StartOp):
        return "start"
    if isinstance(op, SendOp):
        return "send"
    return "undo" if op.name.startswith(UNDO) else "step"


class _Builder:
    """Puts records and trace together."""

    def __init__(self, records: list[Record], trace: _Trace | None, now_ms: int) -> None:
        self._records = records
        self._trace = trace
        self._now_ms = now_ms
        self._spans: dict[tuple[str, int], Span] = {} if trace is None else trace.ops
        self._sleeps: dict[int, Span] = {} if trace is None else trace.sleeps
        self._pauses: list[tuple[int, int | None]] = []
        self._marks: list[Mark] = []
        # Where a bar begins of which nothing better is known.
        self._before_ms = records[0].at_ms
        self._end_ms: int | None = None

    def build(self) -> Timeline:
        for record in self._records:
            self._add(record)
            if isinstance(record, _OUTCOMES):
                self._before_ms = record.at_ms
        spans = [*self._spans.values(), *self._sleeps.values()]
        if self._trace is not None:
            spans.extend(self._trace.waits)
        for span in spans:
            self._close(span)
        # A timer that was given up belonged to a timeout that wasn't needed.
        spans = [one for one in spans if not (one.kind == "sleep" and one.status == "given up")]
        spans.sort(key=lambda span: span.begin_ms)
        return Timeline(
            self._records[0].at_ms,
            self._end_ms,
            spans,
            self._pauses,
            self._marks,
            self._trace is not None,
        )

    def _add(self, record: Record) -> None:
        if isinstance(record, AttemptFailed):
            span = self._span(record.name, record.nth)
            self._last_attempt(span).end_ms = record.at_ms
            span.attempts[-1].error = record.error
            span.due_ms = record.next_ms
            span.status = "retrying"
        elif isinstance(record, StepDone | StepFailed):
            span = self._span(record.name, record.nth)
            attempt = self._last_attempt(span)
            attempt.end_ms = span.end_ms = record.at_ms
            span.due_ms = None
            span.status = "complete"
            if isinstance(record, StepFailed):
                attempt.error, span.status = record.error, "failed"
        elif isinstance(record, TimerFired):
            sleep = self._sleeps.get(record.nth)
            if sleep is not None:
                sleep.end_ms, sleep.status, sleep.due_ms = record.at_ms, "complete", None
            elif self._trace is None and record.nth:
                self._sleeps[record.nth] = Span(
                    "sleep", "sleep", record.nth, self._before_ms, record.at_ms, "complete"
                )
        elif isinstance(record, Paused):
            self._pauses.append((record.at_ms, None))
        elif isinstance(record, Resumed):
            self._resumed(record)
        elif isinstance(record, RetriedNow | Redriven):
            self._go_on(record)
        elif isinstance(record, _ENDS):
            self._end_ms = record.at_ms
        elif isinstance(record, EventArrived):
            by = f" from {record.user}" if record.user else ""
            self._marks.append(Mark(record.at_ms, f"event {record.name}{by}"))
        elif isinstance(record, UpdateAccepted):
            self._marks.append(Mark(record.at_ms, f"update {record.name}"))
        elif isinstance(record, CancelAsked):
            self._marks.append(Mark(record.at_ms, "terminate asked" if record.terminate else "cancel asked"))
        elif isinstance(record, UndoBegan):
            self._marks.append(Mark(record.at_ms, "undoing began"))
        elif isinstance(record, Started) and self._trace is None:
            self._before_ms = record.at_ms

    def _span(self, name: str, nth: int) -> Span:
        span = self._spans.get((name, nth))
        if span is None:
            span = self._spans[name, nth] = Span(_kind_by_name(name), name, nth, self._before_ms)
        if span.attempts == []:
            span.attempts = [Attempt(span.begin_ms)]
        return span

    def _last_attempt(self, span: Span) -> Attempt:
        """The attempt that a record of the end of one means."""
        last = span.attempts[-1]
        if last.end_ms is not None:
            last = Attempt(last.end_ms if span.due_ms is None else span.due_ms)
            span.attempts.append(last)
        return last

    def _resumed(self, record: Resumed) -> None:
        self._pauses = [*self._pauses[:-1], (record.paused_ms, record.at_ms)]
        for span in self._spans.values():
            if span.due_ms is not None and span.due_ms > record.paused_ms:
                span.due_ms += record.at_ms - record.paused_ms

    def _go_on(self, record: RetriedNow | Redriven) -> None:
        retried = isinstance(record, RetriedNow)
        self._marks.append(Mark(record.at_ms, "retry now" if retried else "redriven"))
        if not retried:
            self._end_ms = None
        for span in self._spans.values():
            if retried and span.status == "retrying" and span.due_ms is not None:
                span.due_ms = min(span.due_ms, record.at_ms)
            elif not retried and span.status == "failed":
                # Whose failure ended the run begins again; for the others the next record tells it.
                span.due_ms = record.at_ms

    def _close(self, span: Span) -> None:
        """What has no end yet goes on, or was given up, or ended with the run."""
        if span.status == "retrying" and span.due_ms is not None and span.due_ms <= self._now_ms:
            span.attempts.append(Attempt(span.due_ms))
            span.status, span.due_ms = "running", None
        if span.status == "running" and not span.attempts:
            span.attempts = [Attempt(span.begin_ms)]
        if span.status == "running" and span.kind == "child":
            span.status = "waiting"
        if span.end_ms is not None:
            return
        given_up_ms = None
        if self._trace is not None:
            given_up_ms = self._trace.given_up.get((span.name, span.nth))
        ended_ms = given_up_ms if given_up_ms is not None else self._end_ms
        if ended_ms is not None:
            span.end_ms, span.status, span.due_ms = max(ended_ms, span.begin_ms), "given up", None
            if span.attempts and span.attempts[-1].end_ms is None:
                span.attempts[-1].end_ms = span.end_ms


def _kind_by_name(name: str) -> SpanKind:
    for kind in ("child", "start", "send"):
        if name.startswith(f"{kind} "):
            return kind
    return "undo" if name.startswith(UNDO) else "step"
