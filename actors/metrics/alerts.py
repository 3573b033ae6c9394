"""Alerts: who wants to know hears once that something is wrong, and once that it is over.

    a new point of the course -> the rules (alert_rules.py) -> what changed -> the handler's queue -> handler

Promises
  * A rule that goes on is told once, and told again as over when it is.
  * A handler that is slow, hangs or raises harms nobody: it has a task and a bounded queue of its own, from
    which the oldest leaves when it is full, and its failure is a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

import msgspec

from ...runtime.chain import CALLER
from ...storage.errors import CallerError
from .alert_rules import AlertLimits, Finding, Room, RuleName, findings
from .course import CoursePoint, Recorder

if TYPE_CHECKING:
    from ..system import Runtime

MAX_WAITING_ALERTS: Final = 100
MAX_ALERT_HANDLERS: Final = 100

_log = logging.getLogger("holdfast.alerts")


class Alert(msgspec.Struct, frozen=True):
    """Something is wrong, or is wrong no more."""

    rule: RuleName
    state: Literal["on", "over"]
    at: datetime
    message: str
    value: float
    """What was measured; when it is over, what was measured last while it was on."""
    threshold: float


AlertHandler: TypeAlias = Callable[[Alert], Awaitable[None] | None]


class Alerts:
    """The alerts of one runtime."""

    def __init__(self, runtime: Runtime, recorder: Recorder) -> None:
        self._runtime = runtime
        self._recorder = recorder
        self._listeners: list[_Listener] = []

    def add(self, handler: AlertHandler, limits: AlertLimits) -> Callable[[], None]:
        """See `Runtime.on_alert`."""
        given: object = handler
        if not callable(given):
            raise CallerError(f"on_alert needs a function that takes an Alert; got {given!r}")
        if len(self._listeners) >= MAX_ALERT_HANDLERS:
            raise CallerError(f"a runtime has at most {MAX_ALERT_HANDLERS} handlers of alerts")
        listener = _Listener(self._runtime, handler, limits)
        self._listeners.append(listener)
        forget = self._recorder.on_point(lambda point: listener.look(self._recorder, point))

        def stop() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)
                forget()
                listener.stop()

        return stop

    def stop(self) -> None:
        """Tell nobody anything more."""
        for listener in self._listeners:
            listener.stop()


class _Listener:
    """One handler, what it was told is on, and what it has still to be told."""

    def __init__(self, runtime: Runtime, handler: AlertHandler, limits: AlertLimits) -> None:
        self._runtime = runtime
        self._handler = handler
        self._limits = limits
        self._on: dict[RuleName, Finding] = {}
        self._waiting: deque[Alert] = deque()
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    def look(self, recorder: Recorder, point: CoursePoint) -> None:
        """A new point came."""
        store = self._runtime.store
        space = store.look_at_space()
        room = Room(space.used_bytes, space.free_bytes, store.quota_bytes, store.min_free_bytes)
        for rule, finding in findings(self._limits, recorder.totals, recorder.points, room).items():
            told = self._on.get(rule)
            if finding is not None:
                self._on[rule] = finding
                if told is None:
                    self._tell(Alert(rule, "on", point.at, finding.message, finding.value, finding.threshold))
            elif told is not None:
                del self._on[rule]
                over = f"over: {told.message}"
                self._tell(Alert(rule, "over", point.at, over, told.value, told.threshold))

    def _tell(self, alert: Alert) -> None:
        level = logging.WARNING if alert.state == "on" else logging.INFO
        _log.log(level, "alert %s: %s", alert.rule, alert.message, extra={"rule": alert.rule})
        if self._stopped:
            return
        if len(self._waiting) >= MAX_WAITING_ALERTS:
            lost = self._waiting.popleft()
            _log.error("a handler of alerts is behind; it is not told: %s", lost.message)
        self._waiting.append(alert)
        if self._task is None:
            token = CALLER.set(None)
            try:
                self._task = self._runtime.spawn(self._deliver(), "a handler of alerts")
            finally:
                CALLER.reset(token)

    async def _deliver(self) -> None:
        try:
            while self._waiting:
                alert = self._waiting.popleft()
                try:
                    told = cast("object", self._handler(alert))
                    if isinstance(told, Awaitable):
                        await told
                except Exception:
                    _log.exception("a handler of alerts raised at: %s", alert.message)
        finally:
            self._task = None

    def stop(self) -> None:
        """Tell nothing more; what is being told is cancelled."""
        self._stopped = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
