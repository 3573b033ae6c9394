"""Structured logs: one JSON object for each line, each with `correlation_id` and `event_id`.

A failed attempt has `error` and `retry_attempt` besides.  The library's own lines (a run failed, a step is
tried again) come out in the same form.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from types import TracebackType
from typing import Final

import msgspec

from holdfast import CorrelationFilter, StepError, StepInfo, current_step

_EXTRA: Final = ("run_id", "step", "duration_ms", "retry_attempt", "error", "message_id")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, message, the two ids, and what else is known."""
        fields = record.__dict__
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "correlation_id": fields.get("correlation_id"),
            "event_id": fields.get("event_id") or _event_of(fields.get("run_id")),
        }
        for name in _EXTRA:
            if fields.get(name) is not None:
                line[name] = fields[name]
        if fields.get("attempt") is not None:
            line.setdefault("retry_attempt", fields["attempt"])
        if record.levelno >= logging.WARNING:
            error = None if record.exc_info is None else record.exc_info[1]
            if isinstance(error, StepError):
                line.setdefault("retry_attempt", error.attempts)
            line.setdefault("error", line["message"] if error is None else f"{type(error).__name__}: {error}")
        return _encode(line).decode()


def _event_of(run_id: object) -> str | None:
    """The event's id in a run's address, `ProcessEvent/<event id>/<batch id>`."""
    if not isinstance(run_id, str) or run_id.count("/") < 2:
        return None
    return run_id.partition("/")[2].rpartition("/")[0]


def log_to(handler: logging.Handler, level: int | str) -> logging.Handler:
    """Let a handler write this form, for the library and the pipeline; `stop_logging` takes it away again."""
    handler.setFormatter(JsonFormatter())
    handler.addFilter(CorrelationFilter())
    logger = logging.getLogger("holdfast")
    logger.addHandler(handler)
    logger.setLevel(level)
    return handler


def stop_logging(handler: logging.Handler) -> None:
    """Take a handler of `log_to` away."""
    logger = logging.getLogger("holdfast")
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
    handler.close()


class StepLog:
    """Logs the entry, and the success or the failure, of a step's body; a `with` block around it."""

    __slots__ = ("_began", "_chatty", "_event_id", "_log")

    def __init__(self, log: logging.Logger, event_id: str) -> None:
        self._log = log
        self._event_id = event_id
        self._chatty = log.isEnabledFor(logging.INFO)
        self._began = time.monotonic()

    def __enter__(self) -> None:
        if self._chatty:
            step = _this_step()
            self._log.info("%s begins", step.name, extra={"event_id": self._event_id})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self._chatty:
            return
        step = _this_step()
        fields: dict[str, object] = {
            "event_id": self._event_id,
            "duration_ms": round((time.monotonic() - self._began) * 1000),
        }
        if error is None:
            self._log.info("%s is done", step.name, extra=fields)
        elif not isinstance(error, Exception):
            # Cancelled: it took too long (the library logs that), or the runtime closes and it begins anew.
            self._log.warning("%s is given up", step.name, extra=fields)
        else:
            fields |= {"error": f"{type(error).__name__}: {error}", "retry_attempt": step.attempt}
            self._log.error("%s failed: %s", step.name, error, extra=fields)


def _this_step() -> StepInfo:
    step = current_step()
    assert step is not None
    return step


_encode = msgspec.json.Encoder().encode
