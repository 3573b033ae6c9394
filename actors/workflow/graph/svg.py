"""A graph as an SVG picture: one text that needs nothing else, for light pages and for dark ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .boxes import FONT_SIZE, SMALL_SIZE, Box, text_width, wrap
from .layout import PlacedFrame, PlacedLabel, PlacedLine, PlacedNode, lay_out
from .level import Point
from .model import GraphWarning, WorkflowGraph
from .source_text import one_line
from .svg_style import CLASSES, FRAMES, style

_MARGIN: Final = 20.0
_HEAD: Final = 34.0
_CORNER: Final = 7.0
_ARROW: Final = 7.0
_WARNING_LINE: Final = 15.0
_MIN_WIDTH: Final = 320.0


def to_svg(graph: WorkflowGraph, *, states: Mapping[int, str] | None = None) -> str:
    """The picture of a graph, with the lint's warnings below it.

    states   a class for each of these nodes, for a page that shows how a run stands; the page has the style
             sheet then
    """
    picture = lay_out(graph)
    warned = {warning.node for warning in graph.warnings}
    title = one_line(graph.workflow)
    width = max(picture.width, _MIN_WIDTH, text_width(title, 14.0)) + 2 * _MARGIN
    notes = _notes(graph.warnings, width - 2 * _MARGIN)
    height = picture.height + _HEAD + 2 * _MARGIN + len(notes) * _WARNING_LINE + (10 if notes else 0)
    left, top = (width - picture.width) / 2, _MARGIN + _HEAD
    size = f'width="{_n(width)}" height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="hf" role="img" {size}>',
        f"<title>{escaped(title)}</title>",
        f"<style>{escaped(style(), quotes=False)}</style>" if states is None else "",
        f'<rect class="page" width="{_n(width)}" height="{_n(height)}"/>',
        f'<text class="title" x="{_n(_MARGIN)}" y="{_n(_MARGIN + 12)}">{escaped(title)}</text>',
        f'<g transform="translate({_n(left)} {_n(top)})">',
        *map(_frame, picture.frames),
        *map(_line, picture.lines),
        *map(_label, picture.labels),
        *(
            _node(one, (states or {}).get(one.node.id, ""), warned=one.node.id in warned)
            for one in picture.nodes
        ),
        *(
            f'<text class="title" x="{_n(one.x)}" y="{_n(one.y)}">{escaped(one_line(one.text))}</text>'
            for one in picture.titles
        ),
        "</g>",
    ]
    y = top + picture.height + 24
    for note in notes:
        parts.append(f'<text class="small" x="{_n(_MARGIN)}" y="{_n(y)}">{escaped(note)}</text>')
        y += _WARNING_LINE
    return "\n".join([*parts, "</svg>"]) + "\n"


# -- parts ---------------------------------------------------------------------------------------------------


def _frame(frame: PlacedFrame) -> str:
    return (
        f'<rect class="frame {FRAMES.get(frame.kind, "choice")}" x="{_n(frame.x)}" y="{_n(frame.y)}" '
        f'width="{_n(frame.width)}" height="{_n(frame.height)}" rx="8"/>'
    )


def _line(line: PlacedLine) -> str:
    points = list(line.points)
    head = ""
    kind = "error" if line.kind == "error" else "plain"
    if line.arrow:
        (_, y0), (x, y) = points[-2:]
        if y0 == y:  # from the left
            points[-1] = (x - _ARROW + 1, y)
            corners = [(x, y), (x - _ARROW, y - _ARROW / 2), (x - _ARROW, y + _ARROW / 2)]
        else:
            points[-1] = (x, y - _ARROW + 1)
            corners = [(x, y), (x - _ARROW / 2, y - _ARROW), (x + _ARROW / 2, y - _ARROW)]
        head = f'<polygon class="head {kind}" points="{_points(corners)}"/>'
    return f'<path class="line {kind}" d="{_path(points)}"/>{head}'


def _path(points: list[Point]) -> str:
    """Straight where the points are above or beside each other, else bent; corners are round."""
    x, y = points[0]
    parts = [f"M{_n(x)} {_n(y)}"]
    for at, (x1, y1) in enumerate(points[1:], 1):
        x0, y0 = points[at - 1]
        after = points[at + 1] if at + 1 < len(points) else None
        if x0 == x1 or y0 == y1:
            corner = (
                after is not None and (x0 == x1) != (x1 == after[0]) and (y1 == after[1] or x1 == after[0])
            )
            if corner and after is not None:
                back, ahead = _towards((x1, y1), (x0, y0)), _towards((x1, y1), after)
                parts.append(f"L{_points([back])}Q{_n(x1)} {_n(y1)} {_points([ahead])}")
            else:
                parts.append(f"L{_n(x1)} {_n(y1)}")
        else:
            middle = (y0 + y1) / 2
            parts.append(f"C{_n(x0)} {_n(middle)} {_n(x1)} {_n(middle)} {_n(x1)} {_n(y1)}")
    return "".join(parts)


def _towards(corner: Point, other: Point) -> Point:
    """The point of a line from a corner where its rounding ends."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = abs(dx) + abs(dy)
    part = min(_CORNER / length, 0.5) if length else 0.0
    return corner[0] + dx * part, corner[1] + dy * part


def _label(label: PlacedLabel) -> str:
    y = label.y + SMALL_SIZE / 3
    return f'<text class="small middle" x="{_n(label.x)}" y="{_n(y)}">{escaped(label.text)}</text>'


def _node(placed: PlacedNode, state: str, *, warned: bool) -> str:
    node, box = placed.node, placed.box
    lines = f"line {node.line}" if node.line == node.end_line else f"lines {node.line} to {node.end_line}"
    where = lines if node.file is None else f"{one_line(node.file)}, {lines}"
    classes = f"{CLASSES[node.kind]} unreachable" if node.unreachable else CLASSES[node.kind]
    if state:
        classes += f" {state}"
    texts = [
        f'<text class="{line.style} middle" x="{_n(box.width / 2)}" y="{_n(line.y)}">'
        f"{escaped(line.text)}</text>"
        for line in box.lines
    ]
    mark = ""
    if warned:
        mark = (
            f'<g class="warning"><circle class="shape" cx="{_n(box.width)}" cy="0" r="8"/>'
            f'<text class="middle" x="{_n(box.width)}" y="{_n(FONT_SIZE / 3)}">!</text></g>'
        )
    return (
        f'<g class="{classes}" data-node="{node.id}" transform="translate({_n(placed.x)} {_n(placed.y)})">'
        f"<title>{escaped(f'{one_line(node.text)} ({where})')}</title>{_shape(box)}{''.join(texts)}{mark}</g>"
    )


def _shape(box: Box) -> str:
    width, height = box.width, box.height
    if box.shape in ("point", "cut", "slant"):
        if box.shape == "point":
            corners = [
                (12, 0),
                (width - 12, 0),
                (width, height / 2),
                (width - 12, height),
                (12, height),
                (0, height / 2),
            ]
        elif box.shape == "cut":
            corners = [
                (7, 0), (width - 7, 0), (width, 7), (width, height - 7), (width - 7, height), (7, height),
                (0, height - 7), (0, 7),
            ]  # fmt: skip
        else:
            corners = [(8, 0), (width, 0), (width - 8, height), (0, height)]
        return f'<polygon class="shape" points="{_points(corners)}"/>'
    radius = {"round": 12.0, "pill": height / 2, "bar": 2.0}.get(box.shape, 4.0)
    rect = f'<rect class="shape" width="{_n(width)}" height="{_n(height)}" rx="{_n(radius)}"/>'
    if box.shape == "double":
        inner = f'<path class="shape" d="M6 0V{_n(height)}M{_n(width - 6)} 0V{_n(height)}"/>'
        return rect + inner
    return rect


def _notes(warnings: tuple[GraphWarning, ...], width: float) -> list[str]:
    """The warnings as lines of text that fit below the picture."""
    cells = max(20, int(width / text_width("x", SMALL_SIZE)))
    return [
        part
        for one in warnings
        for part in wrap(f"! {f'{one.file}, ' if one.file else ''}line {one.line}: {one.text}", cells, 8)
    ]


# -- text ----------------------------------------------------------------------------------------------------


def escaped(text: str, *, quotes: bool = True) -> str:
    """Text as it may stand in XML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;") if quotes else text


def _points(points: list[Point]) -> str:
    return " ".join(f"{_n(x)} {_n(y)}" for x, y in points)


def _n(number: float) -> str:
    """A number with a tenth at most."""
    return f"{number:.1f}".removesuffix(".0")
