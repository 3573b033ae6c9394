"""A node as a box: its lines of text, its shape, and the room it takes.

Which font will be there isn't known, so widths are those of a wide monospaced one: what fits here fits.
"""

from __future__ import annotations

import unicodedata
from typing import Final, Literal, NamedTuple, TypeAlias

from .model import Node, NodeKind
from .source_text import one_line

Shape: TypeAlias = Literal["box", "round", "pill", "point", "cut", "slant", "double", "bar"]

FONT_SIZE: Final = 12.0
SMALL_SIZE: Final = 10.0
# The width of a cell in parts of the font's size: 0.602 in DejaVu Sans Mono, the widest of the usual ones.
_CELL: Final = 0.625
_WRAP_CELLS: Final = 30
_MAX_LINES: Final = 3
_SMALL_CELLS: Final = 40
_BREAKS: Final = "([{,.="
_LINE: Final = 15.0
_SMALL_LINE: Final = 12.5
_PAD_X: Final = 12.0
_PAD_Y: Final = 7.0

_SHAPES: Final[dict[NodeKind, Shape]] = {
    "start": "pill", "end": "pill", "return": "pill", "raise": "pill", "continue": "pill",
    "sleep": "round", "wait": "round", "until": "round",
    "branch": "point", "match": "point", "loop": "cut", "each": "cut",
    "send": "slant", "emit": "slant", "status": "slant",
    "actor": "double", "child": "double", "call": "double",
    "fork": "bar", "join": "bar",
}  # fmt: skip
# What a shape needs at each side besides.
_SIDES: Final[dict[Shape, float]] = {"point": 12.0, "cut": 4.0, "slant": 6.0, "double": 6.0, "pill": 4.0}
# Kinds that a text alone doesn't tell.
_CAPTIONS: Final[dict[NodeKind, str]] = {
    "step": "step", "actor": "actor", "child": "child workflow", "call": "function", "await": "awaited",
}  # fmt: skip


class TextLine(NamedTuple):
    """One line of a box; `y` is its base line below the box's top."""

    text: str
    y: float
    style: Literal["caption", "main", "small"]


class Box(NamedTuple):
    """A node's text and size."""

    shape: Shape
    width: float
    height: float
    lines: tuple[TextLine, ...]


def box_of(node: Node) -> Box:
    """The box of a node."""
    shape = _SHAPES.get(node.kind, "box")
    lines: list[TextLine] = []
    y = _PAD_Y
    width = 0.0
    caption = _CAPTIONS.get(node.kind, "")
    if node.begins:
        caption = f"{caption or node.kind}, begun here".lstrip()
    if node.unreachable:
        caption = f"{caption or node.kind}, never reached"
    if caption:
        lines.append(TextLine(caption, y + SMALL_SIZE - 1, "caption"))
        y += _SMALL_LINE
        width = text_width(caption, SMALL_SIZE)
    for text in wrap(node.text, _WRAP_CELLS, _MAX_LINES):
        lines.append(TextLine(text, y + FONT_SIZE - 1, "main"))
        y += _LINE
        width = max(width, text_width(text, FONT_SIZE))
    for name, value in node.settings.items():
        for text in wrap(f"{name} {value.source}", _SMALL_CELLS, 1):
            lines.append(TextLine(text, y + SMALL_SIZE, "small"))
            y += _SMALL_LINE
            width = max(width, text_width(text, SMALL_SIZE))
    side = _PAD_X + _SIDES.get(shape, 0.0)
    return Box(shape, max(width + 2 * side, 44.0), y + _PAD_Y - 1, tuple(lines))


def wrap(text: str, cells: int, most: int) -> list[str]:
    """A text in lines of so many cells, broken at blanks or signs if may be, cut at the end if need be."""
    lines: list[str] = []
    rest = one_line(text)
    while cells_of(rest) > cells and len(lines) < most - 1:
        cut = _cut_at(rest, cells)
        blank = rest.rfind(" ", cut // 2, cut + 1)
        if blank > 0:
            cut = blank
        else:
            cut = max((rest.rfind(one, cut // 2, cut) + 1 for one in _BREAKS), default=0) or cut
        lines.append(rest[:cut])
        rest = rest[cut:].lstrip()
    if cells_of(rest) > cells:
        rest = f"{rest[: _cut_at(rest, cells - 1)].rstrip()}…"
    return [*lines, rest]


def text_width(text: str, size: float) -> float:
    """How wide a text is at most."""
    return cells_of(text) * size * _CELL


def cells_of(text: str) -> int:
    """How many cells of a monospaced font a text takes."""
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    # An emoji or a script without fixed cells may be as wide as a Chinese character.
    return 1 if char.isascii() or ord(char) < 0x500 or char == "…" else 2


def _cut_at(text: str, cells: int) -> int:
    """How many characters fit; at least one."""
    taken = 0
    for index, char in enumerate(text):
        taken += _cells(char)
        if taken > cells:
            return max(1, index)
    return len(text)
