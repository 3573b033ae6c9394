"""A graph as a picture: where each node, frame, line and label is.

Each block is laid out by itself (`level.py`), innermost first, and is one box in the block around it.  A line
that leaves a block goes to a port at the block's bottom, and from there on as a line of the block around it.
The way back to the beginning of a loop is a port too, with a line along the left side of the loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, TypeAlias

from .boxes import SMALL_SIZE, Box, box_of, text_width
from .level import LABEL_HEIGHT, Item, Line, Point, place
from .model import Block, BlockKind, Edge, EdgeKind, Node, WorkflowGraph
from .source_text import cut_end, one_line

_PAD: Final = 14.0
_BACK_LANE: Final = 20.0  # for the line back, left of what is in a loop
_BETWEEN_FUNCTIONS: Final = 36.0
_TITLE: Final = 22.0
_MAX_LABEL: Final = 40
LineKind: TypeAlias = Literal["next", "error", "parallel", "again"]
_GUARDS: Final[tuple[BlockKind, ...]] = ("try", "timeout")
_LINE_KINDS: Final[dict[EdgeKind, LineKind]] = {"error": "error", "parallel": "parallel"}


class PlacedNode(NamedTuple):
    """A node at its place."""

    node: Node
    box: Box
    x: float
    y: float


class PlacedFrame(NamedTuple):
    """The frame of a block."""

    kind: BlockKind
    x: float
    y: float
    width: float
    height: float


class PlacedLine(NamedTuple):
    """A line through points; `arrow` when a node is at its end."""

    points: tuple[Point, ...]
    kind: LineKind
    arrow: bool


class PlacedLabel(NamedTuple):
    """A label, around a point of its line."""

    text: str
    x: float
    y: float


@dataclass
class Picture:
    """All of it; frames from the outermost in."""

    width: float = 0.0
    height: float = 0.0
    frames: list[PlacedFrame] = field(default_factory=list[PlacedFrame])
    lines: list[PlacedLine] = field(default_factory=list[PlacedLine])
    labels: list[PlacedLabel] = field(default_factory=list[PlacedLabel])
    nodes: list[PlacedNode] = field(default_factory=list[PlacedNode])
    titles: list[PlacedLabel] = field(default_factory=list[PlacedLabel])

    def add(self, other: Picture, x: float, y: float) -> None:
        """Put another picture into this one."""
        self.frames += [one._replace(x=one.x + x, y=one.y + y) for one in other.frames]
        self.lines += [
            one._replace(points=tuple((px + x, py + y) for px, py in one.points)) for one in other.lines
        ]
        self.labels += [one._replace(x=one.x + x, y=one.y + y) for one in other.labels]
        self.nodes += [one._replace(x=one.x + x, y=one.y + y) for one in other.nodes]
        self.titles += [one._replace(x=one.x + x, y=one.y + y) for one in other.titles]


class _Port(NamedTuple):
    """Where lines leave a block: to which node, and as what."""

    target: int
    kind: LineKind


@dataclass
class _Laid:
    """A block that is laid out."""

    picture: Picture
    entry: float
    ports: dict[_Port, float]
    # Where the lines of errors begin: whatever in the block raises.
    error_exit: float
    # No frame is at its top, so a line to it ends at a node.
    node_at_top: bool


def lay_out(graph: WorkflowGraph) -> Picture:
    """The picture of a graph: run(), and below it the functions that are drawn by themselves."""
    layout = _Layout(graph)
    whole = Picture()
    y = 0.0
    for function in layout.inside(None):
        if function.id:
            whole.titles.append(PlacedLabel(function.title, 0.0, y + _TITLE - 8))
            y += _TITLE
        laid = layout.block(function)
        whole.add(laid.picture, 0.0, y)
        y += laid.picture.height + _BETWEEN_FUNCTIONS
        whole.width = max(whole.width, laid.picture.width)
    whole.height = y - _BETWEEN_FUNCTIONS
    return whole


class _Layout:
    """Lays blocks out, innermost first."""

    def __init__(self, graph: WorkflowGraph) -> None:
        self._nodes = graph.nodes
        self._blocks = graph.blocks
        self._edges = [edge for edge in graph.edges if edge.kind != "calls"]
        self._guards = {block.head: block for block in graph.blocks if block.kind in _GUARDS}
        self._members: dict[int, list[int]] = {block.id: [] for block in graph.blocks}
        for node in graph.nodes:
            self._members[node.block].append(node.id)
        # The blocks around each node, from the inside out.
        self._around = [list(self._outwards(node.block)) for node in graph.nodes]
        self._leaving: dict[int, list[Edge]] = {block.id: [] for block in graph.blocks}
        for edge in self._edges:
            for block in self._around[edge.source]:
                self._leaving[block].append(edge)

    def inside(self, parent: int | None) -> Iterator[Block]:
        """The blocks that lie directly in a block."""
        return (block for block in self._blocks if block.parent == parent)

    def _outwards(self, block: int | None) -> Iterator[int]:
        while block is not None:
            yield block
            block = self._blocks[block].parent

    # -- one block -------------------------------------------------------------------------------------------

    def block(self, block: Block) -> _Laid:
        """Lay out what is in a block, and the block."""
        level = _Level(block)
        inner = {one.head: self.block(one) for one in self.inside(block.id)}
        for number in sorted([*self._members[block.id], *inner]):
            level.add(number, inner.get(number), self._nodes[number])
        # Errors are drawn beside what is done when there is none: right of it.
        for edge in sorted(self._leaving[block.id], key=lambda edge: edge.kind == "error"):
            self._add_line(level, edge)
        return level.laid()

    def _add_line(self, level: _Level, edge: Edge) -> None:
        """The piece of an edge that lies in a level, if there is one."""
        block = level.block.id
        guarded = self._guarded(edge)
        if guarded == block:
            return  # it begins at the block's frame, so outside of it
        source, target = self._item_in(block, edge.source), self._item_in(block, edge.target)
        kind = _LINE_KINDS.get(edge.kind, "next")
        port = None
        if edge.kind == "again" and self._nodes[edge.target].block == block:
            port, kind = _Port(edge.target, "again"), "again"
        elif target is None:
            kind = "again" if edge.kind == "again" else kind
            port = _Port(edge.target, kind)
        elif source == target:
            return  # it lies in a block within
        assert source is not None
        if (guarded is not None and self._blocks[guarded].parent == block) or self._nodes[
            edge.source
        ].block == block:
            level.line(source, target, port, kind, edge.label, None)
        else:
            through = _Port(edge.target, "again" if edge.kind == "again" else kind)
            level.line(source, target, port, kind, "", through)

    def _guarded(self, edge: Edge) -> int | None:
        """The block whose errors an edge takes; None for other edges."""
        block = self._guards.get(edge.source)
        return block.id if edge.kind == "error" and block is not None else None

    def _item_in(self, block: int, node: int) -> int | None:
        """The node itself, or the head of the block that it lies in, as a part of an outer block."""
        around = self._around[node]
        if block not in around:
            return None
        at = around.index(block)
        return node if at == 0 else self._blocks[around[at - 1]].head


class _Level:
    """What lies directly in one block: its nodes, and blocks as boxes; by the number of their first node."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self._items: list[Item] = []
        self._lines: list[Line] = []
        self._index: dict[int, int] = {}
        self._content: list[_Laid | PlacedNode] = []
        self._ports: dict[_Port, int] = {}
        self._told: dict[tuple[int, float, int, str], tuple[Line, LineKind, str]] = {}

    def add(self, number: int, laid: _Laid | None, node: Node) -> None:
        """An item behind the others."""
        self._index[number] = len(self._items)
        if laid is None:
            box = box_of(node)
            self._content.append(PlacedNode(node, box, 0, 0))
            self._items.append(Item(box.width, box.height, box.width / 2))
        else:
            self._content.append(laid)
            self._items.append(Item(laid.picture.width, laid.picture.height, laid.entry))

    def line(
        self,
        source: int,
        target: int | None,
        port: _Port | None,
        kind: LineKind,
        label: str,
        through: _Port | None,
    ) -> None:
        """A line between two items, or from an item to a port; equal ones are one."""
        at = self._index[source]
        content = self._content[at]
        if isinstance(content, PlacedNode):
            leaves = content.box.width / 2
        else:
            leaves = content.error_exit if through is None else content.ports[through]
        if port is None:
            assert target is not None
            to = self._index[target]
        else:
            to = self._ports.get(port, -1)
            if to < 0:
                to = self._ports[port] = len(self._items) + len(self._ports)
        shown = cut_end(one_line(label), _MAX_LABEL)
        line = Line(at, to, leaves, text_width(shown, SMALL_SIZE) + 8 if shown else 0.0)
        self._told.setdefault((at, leaves, to, shown), (line, kind, shown))

    def laid(self) -> _Laid:
        """All items and lines at their places, in a frame."""
        items = [*self._items, *(Item(2, 0, 1, is_port=True, side=_side(port)) for port in self._ports)]
        lines = [line for line, _, _ in self._told.values()]
        entered = {line.target for line in lines}
        for at in range(1, len(self._items)):
            if at not in entered:  # never reached: it stands below what it is written behind
                lines.append(Line(at - 1, at, self._items[at - 1].width / 2, shown=False))
        size = place(items, lines)
        is_frame = self.block.kind not in ("function", "arm")
        pad = _PAD if is_frame else 0.0
        back = next((at for port, at in self._ports.items() if port == _Port(self.block.head, "again")), None)
        left = pad + (_BACK_LANE if back is not None else 0.0)
        width, height = size.width + left + pad, size.height + 2 * pad
        picture = Picture(width, height)
        if is_frame:
            picture.frames.append(PlacedFrame(self.block.kind, 0, 0, width, height))
        for item, content in zip(self._items, self._content, strict=True):
            x, y = item.x + left, item.y + pad
            if isinstance(content, PlacedNode):
                picture.nodes.append(content._replace(x=x, y=y))
            else:
                picture.add(content.picture, x, y)
        for line, kind, label in self._told.values():
            arrow = line.target < len(self._items) and _node_at_top(self._content[line.target])
            _add_points(picture, line, kind, label, (left, pad), arrow=arrow)
        entry, first = items[0].x + items[0].entry + left, self._content[0]
        if is_frame:
            picture.lines.append(PlacedLine(((entry, 0.0), (entry, pad)), "next", _node_at_top(first)))
        ports: dict[_Port, float] = {}
        for port, at in self._ports.items():
            x = items[at].x + 1 + left
            if at == back:
                head = items[0]
                middle = head.y + pad + head.height / 2
                bottom, lane = height - pad, left - _BACK_LANE + 4
                points = ((x, bottom), (lane, bottom), (lane, middle), (head.x + left, middle))
                picture.lines.append(PlacedLine(points, "again", True))
            else:
                ports[port] = x
                picture.lines.append(PlacedLine(((x, height - pad), (x, height)), port.kind, False))
        error_exit = _free_place(width, list(ports.values()))
        return _Laid(picture, entry, ports, error_exit, not is_frame and _node_at_top(first))


def _node_at_top(content: _Laid | PlacedNode) -> bool:
    return isinstance(content, PlacedNode) or content.node_at_top


def _side(port: _Port) -> int:
    """The way back is at the left, since its line is; errors are at the right."""
    return {"again": -1, "error": 1}.get(port.kind, 0)


def _free_place(width: float, taken: list[float]) -> float:
    """A place at the bottom of a frame, right if may be, that no other line leaves from."""
    places = [width - _PAD - step * 4 for step in range(int((width - 2 * _PAD) / 4) + 1)]
    free = [x for x in places if all(abs(x - other) >= _PAD for other in taken)]
    return free[0] if free else width - _PAD


def _add_points(
    picture: Picture, line: Line, kind: LineKind, label: str, shift: Point, *, arrow: bool
) -> None:
    """A line as it is drawn: in two pieces when there is a label on it."""
    points = [(x + shift[0], y + shift[1]) for x, y in line.points]
    if line.label_at is None:
        picture.lines.append(PlacedLine(tuple(points), kind, arrow))
        return
    x, y = line.label_at[0] + shift[0], line.label_at[1] + shift[1]
    cut = next(at for at, point in enumerate(points) if point == (x, y) and at)
    picture.labels.append(PlacedLabel(label, x, y + LABEL_HEIGHT / 2))
    picture.lines.append(PlacedLine(tuple(points[: cut + 1]), kind, False))
    picture.lines.append(PlacedLine(((x, y + LABEL_HEIGHT), *points[cut + 1 :]), kind, arrow))
