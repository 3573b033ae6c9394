"""Figures over time as charts: places in a picture of 600 by 120, so that a template can draw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

WIDTH: Final = 600.0
HEIGHT: Final = 120.0
# More columns than this are narrower than two pixels of a wide screen.
MAX_COLUMNS: Final = 150
_TIME_LABELS: Final = 4
# What stands at the upper edge would else lie on the highest value.
_HEADROOM: Final = 1.2


class Column(msgspec.Struct, frozen=True):
    """A column of a chart: what went well, and on it what didn't."""

    x: float
    width: float
    good_y: float
    good_height: float
    bad_y: float
    bad_height: float
    text: str


class Chart(msgspec.Struct, frozen=True):
    """One picture."""

    title: str
    now: str
    """The newest value."""
    top: str
    """What the upper edge stands for."""
    columns: tuple[Column, ...] = ()
    curve: str = ""
    """The points of a line."""
    area: str = ""
    """The same, closed along the lower edge."""
    second: str = ""
    """Another line."""
    times: tuple[tuple[float, str], ...] = ()
    text: str = ""
    """All of it in words."""


def columns(
    title: str,
    points: Sequence[tuple[datetime, float, float]],
    show: Callable[[float], str],
    bad_word: str,
) -> Chart:
    """A chart of columns, of (moment, good, bad)."""
    points = _merged(points)
    top = _HEADROOM * max((good + bad for _, good, bad in points), default=0.0) or 1.0
    step = WIDTH / max(len(points), 1)
    drawn: list[Column] = []
    for nth, (at, good, bad) in enumerate(points):
        good_height, bad_height = good / top * HEIGHT, bad / top * HEIGHT
        text = f"{at:%H:%M:%S} {show(good)}" + (f", {show(bad)} {bad_word}" if bad else "")
        drawn.append(
            Column(
                round(nth * step, 2),
                round(max(step - 1, 0.8), 2),
                round(HEIGHT - good_height, 2),
                round(good_height, 2),
                round(HEIGHT - good_height - bad_height, 2),
                round(bad_height, 2),
                text,
            )
        )
    good, bad = sum(one[1] for one in points), sum(one[2] for one in points)
    words = f"{title}: {show(good)}" + (f", {show(bad)} {bad_word}" if bad else "")
    return Chart(title, show(good + bad), show(top), tuple(drawn), times=_times(points), text=words)


def lines(
    title: str,
    points: Sequence[tuple[datetime, float | None, float | None]],
    show: Callable[[float], str],
) -> Chart:
    """A chart of one line, or two; None is no point of a line."""
    values = [value for _, *several in points for value in several if value is not None]
    top = _HEADROOM * max(values, default=0.0) or 1.0
    first = _line([(at, value) for at, value, _ in points], points, top)
    second = _line([(at, value) for at, _, value in points], points, top)
    newest = next((one[1] for one in reversed(points) if one[1] is not None), None)
    now = "\N{EN DASH}" if newest is None else show(newest)
    area = ""
    if first:
        begin, end = first.split()[0].partition(",")[0], first.split()[-1].partition(",")[0]
        area = f"{begin},{HEIGHT:g} {first} {end},{HEIGHT:g}"
    words = f"{title}: {now} now, at most {show(max(values)) if values else now}"
    return Chart(title, now, show(top), (), first, area, second, _times(points), words)


def _line(
    values: list[tuple[datetime, float | None]], points: Sequence[tuple[datetime, object, object]], top: float
) -> str:
    begin_s, span_s = _span(points)
    return " ".join(
        f"{(at.timestamp() - begin_s) / span_s * WIDTH:.1f},{HEIGHT - value / top * HEIGHT:.1f}"
        for at, value in values
        if value is not None
    )


def _span(points: Sequence[tuple[datetime, object, object]]) -> tuple[float, float]:
    if not points:
        return 0.0, 1.0
    begin_s = points[0][0].timestamp()
    return begin_s, max(points[-1][0].timestamp() - begin_s, 1.0)


def _times(points: Sequence[tuple[datetime, object, object]]) -> tuple[tuple[float, str], ...]:
    if len(points) < 2:
        return ()
    begin_s, span_s = _span(points)
    return tuple(
        (
            round(nth / _TIME_LABELS * 100, 2),
            datetime.fromtimestamp(begin_s + span_s * nth / _TIME_LABELS, UTC).strftime("%H:%M"),
        )
        for nth in range(_TIME_LABELS)
    )


def _merged(points: Sequence[tuple[datetime, float, float]]) -> Sequence[tuple[datetime, float, float]]:
    """Neighbours added up, until there are few enough."""
    each = -(-len(points) // MAX_COLUMNS)
    if each <= 1:
        return points
    return [
        (group[-1][0], sum(one[1] for one in group), sum(one[2] for one in group))
        for group in (points[begin : begin + each] for begin in range(0, len(points), each))
    ]
