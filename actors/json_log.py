"""`JsonLogFormatter`: log records as JSON, one on a line, with all their fields.

    {"time": "2030-01-01T00:00:00.000Z", "level": "INFO", "logger": "holdfast.workflow", "message": "...",
     "workflow": "Greet", "run_id": "Greet/17", "correlation_id": "...", "duration_ms": 12}

Fields are what was given as `extra=`, and what the running code belongs to (correlation.py).  What JSON has
no form for is shown as Python does.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Final

import msgspec

from ..runtime.error_text import clean, cut
from .correlation import CorrelationFilter

MAX_FIELD_CHARACTERS: Final = 8_000
# What a record has by itself.
_OWN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLogFormatter(logging.Formatter):
    """Give it to a handler: `handler.setFormatter(JsonLogFormatter())`."""

    def __init__(self) -> None:
        super().__init__()
        self._context = CorrelationFilter()
        self._encode = msgspec.json.Encoder(enc_hook=repr).encode

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; no record fails."""
        self._context.filter(record)
        at = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": _text(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _OWN and name not in line and value is not None:
                line[name] = _text(value) if isinstance(value, str) else value
        if record.exc_info:
            line["error"] = _text(self.formatException(record.exc_info))
        if record.stack_info:
            line["stack"] = _text(self.formatStack(record.stack_info))
        try:
            return self._encode(line).decode()
        except Exception:  # a field whose own code raises, or that nests too deep
            shown = {name: _plain(value) for name, value in line.items()}
            return self._encode(shown).decode()


def _plain(value: object) -> str | int:
    return value if isinstance(value, str | int) else type(value).__name__


def _text(text: str) -> str:
    return cut(clean(text), MAX_FIELD_CHARACTERS)
