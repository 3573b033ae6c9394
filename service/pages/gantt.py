"""A run's timeline as bars: places in percent of the width, so that a template can draw them at any width."""

from __future__ import annotations

from typing import Final
from zlib import crc32

import msgspec

from ...actors.errors import ErrorRecord
from ...actors.workflow.timeline import Span, Timeline
from .addresses import address_of
from .shown import duration

# What a page shows of a run with thousands of steps: the last ones, where it is now.
MAX_BARS: Final = 200
MAX_MARKS: Final = 50
_TICKS: Final = 5
# No bar is narrower, or nobody would see it.
_MIN_PERCENT: Final = 0.4
_NICE_MS: Final = (
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000,
    600_000, 1_800_000, 3_600_000, 7_200_000, 14_400_000, 43_200_000, 86_400_000, 172_800_000, 604_800_000,
    2_592_000_000, 31_536_000_000,
)  # fmt: skip


class Piece(msgspec.Struct, frozen=True):
    """One stretch of a bar."""

    look: str
    """work, failed, back-off, wait, open"""
    x: float
    width: float
    text: str


class Bar(msgspec.Struct, frozen=True):
    """One row."""

    id: str
    kind: str
    name: str
    nth: int
    status: str
    length: str
    attempts: int
    pieces: tuple[Piece, ...]
    errors: tuple[tuple[int, ErrorRecord], ...]
    due_ms: int | None
    begin_ms: int
    end_ms: int | None
    child: str | None


class Gantt(msgspec.Struct, frozen=True):
    """All of it."""

    bars: tuple[Bar, ...]
    left_out: int
    ticks: tuple[tuple[float, str], ...]
    pauses: tuple[tuple[float, float], ...]
    marks: tuple[tuple[float, str, int], ...]
    now: float | None
    """Where the present moment is, for a run that goes on."""
    replayed: bool


class _Scale:
    def __init__(self, begin_ms: int, end_ms: int) -> None:
        self.begin_ms = begin_ms
        self.span_ms = max(end_ms - begin_ms, 1)

    def x(self, at_ms: int) -> float:
        return round(min(max((at_ms - self.begin_ms) / self.span_ms, 0.0), 1.0) * 100, 3)

    def piece(self, look: str, begin_ms: int, end_ms: int, text: str) -> Piece:
        x = self.x(begin_ms)
        width = max(round(self.x(end_ms) - x, 3), _MIN_PERCENT)
        return Piece(look, min(x, 100 - width), width, text)


def gantt(line: Timeline, now_ms: int) -> Gantt:
    """The bars of a run at a moment."""
    left_out = max(0, len(line.spans) - MAX_BARS)
    spans = line.spans[left_out:]
    begin_ms = spans[0].begin_ms if left_out and spans else line.begin_ms
    end_ms = line.end_ms if line.end_ms is not None else max(now_ms, begin_ms)
    scale = _Scale(begin_ms, end_ms)
    return Gantt(
        tuple(_bar(one, scale, end_ms) for one in spans),
        left_out,
        _ticks(scale),
        tuple(
            (scale.x(begin), round(scale.x(end_ms if end is None else end) - scale.x(begin), 3))
            for begin, end in line.pauses
        ),
        tuple((scale.x(mark.at_ms), mark.text, mark.at_ms) for mark in line.marks[-MAX_MARKS:]),
        None if line.end_ms is not None else 100.0,
        line.replayed,
    )


def _bar(span: Span, scale: _Scale, until_ms: int) -> Bar:
    end_ms = span.end_ms if span.end_ms is not None else until_ms
    pieces: list[Piece] = []
    before_ms = span.begin_ms
    for nth, attempt in enumerate(span.attempts, 1):
        if nth > 1 and attempt.begin_ms > before_ms:
            text = f"back-off {duration(attempt.begin_ms - before_ms)}"
            pieces.append(scale.piece("back-off", before_ms, attempt.begin_ms, text))
        attempt_end_ms = attempt.end_ms if attempt.end_ms is not None else end_ms
        look = "failed" if attempt.error is not None else "open" if attempt.end_ms is None else "work"
        if span.kind == "child":
            look = "failed" if attempt.error is not None else "wait"
        text = f"attempt {nth}, {duration(attempt_end_ms - attempt.begin_ms)}"
        if attempt.error is not None:
            text += f": {attempt.error}"[:300]
        pieces.append(scale.piece(look, attempt.begin_ms, attempt_end_ms, text))
        before_ms = attempt_end_ms
    if not span.attempts:
        text = f"{span.status}, {duration(end_ms - span.begin_ms)}"
        pieces.append(scale.piece("wait", span.begin_ms, end_ms, text))
    elif span.status == "retrying" and end_ms > before_ms:
        pieces.append(scale.piece("back-off", before_ms, end_ms, "waits for its next attempt"))
    return Bar(
        f"{span.kind}-{span.nth}-{crc32(span.name.encode('utf-8', 'replace')):x}",
        span.kind,
        span.name,
        span.nth,
        span.status,
        duration(end_ms - span.begin_ms),
        len(span.attempts),
        tuple(pieces),
        tuple((nth, one.error) for nth, one in enumerate(span.attempts, 1) if one.error is not None),
        span.due_ms,
        span.begin_ms,
        span.end_ms,
        None if span.child is None else address_of(span.child),
    )


def _ticks(scale: _Scale) -> tuple[tuple[float, str], ...]:
    """Round lengths of time since the beginning, a handful of them."""
    step = next((one for one in _NICE_MS if scale.span_ms / one <= _TICKS), _NICE_MS[-1])
    count = min(scale.span_ms // step, _TICKS)
    # A label at the very end would stand out over the edge.
    return tuple(
        (scale.x(scale.begin_ms + nth * step), duration(nth * step) if nth else "0")
        for nth in range(count + 1)
        if nth * step <= scale.span_ms * 0.94
    )
