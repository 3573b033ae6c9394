"""Where things stand that are connected from top to bottom: the layered layout of one block.

Plain numbers in, plain numbers out.  An item is a box that a line enters at its top and leaves at its bottom.
The way (Sugiyama's): each item gets a rank below all that leads to it; long lines get a bend in each rank
that they pass; each rank is sorted so that few lines cross; then each rank is moved to where its lines are
straight.  A label is an item on its line, so no line and no box comes to lie on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Final, NamedTuple, TypeAlias

Point: TypeAlias = tuple[float, float]

_SWEEPS_OF_ORDER: Final = 8  # beyond that hand-drawn samples had no crossing less
_ROUGH_SWEEPS: Final = 8
_FINE_SWEEPS: Final = 40  # until what is left to move can't be seen
_GAP_X: Final = 26.0
_BEND_GAP_X: Final = 12.0
_GAP_Y: Final = 30.0
_LABEL_GAP_Y: Final = 12.0
LABEL_HEIGHT: Final = 16.0


@dataclass
class Item:
    """A box, with where its line comes in; `first` and `last` ask for a side of its rank."""

    width: float
    height: float
    entry: float
    is_port: bool = False
    side: int = 0  # -1: as far left as may be, 1: as far right
    x: float = 0.0
    y: float = 0.0


@dataclass
class Line:
    """A line from an item to one below; afterwards with the points that it goes through."""

    source: int
    target: int
    exit: float  # from the left side of its source
    label_width: float = 0.0
    shown: bool = True
    points: list[Point] = field(default_factory=list[Point])
    label_at: Point | None = None


class Size(NamedTuple):
    """What a level takes."""

    width: float
    height: float


@dataclass
class _Vertex:
    """An item, a bend or a label in its rank; `x` is its middle."""

    rank: int
    width: float
    height: float
    item: int | None = None
    label: bool = False
    side: int = 0
    x: float = 0.0


class _Link(NamedTuple):
    """A piece of a line between two ranks, with where it touches: from the middles of its ends."""

    upper: int
    lower: int
    upper_offset: float
    lower_offset: float
    weight: float


def place(items: Sequence[Item], lines: Sequence[Line]) -> Size:
    """Give items and lines their places.  Lines go from an item to a later one; the first is the topmost."""
    ranks = _ranks(items, lines)
    vertices = [
        _Vertex(ranks[number], item.width, item.height, number, side=item.side)
        for number, item in enumerate(items)
    ]
    links: list[_Link] = []
    ways = [_way(line, items, vertices, links) for line in lines]
    layers: list[list[int]] = [[] for _ in range(max(vertex.rank for vertex in vertices) + 1)]
    for number in _depth_first(len(vertices), links):
        layers[vertices[number].rank].append(number)
    _sort(layers, links, vertices)
    _move(layers, links, vertices)
    for way in ways:
        _straighten(way[1:-1], layers, vertices)
    tops, bottoms = _heights(layers, vertices)
    left = min(vertex.x - vertex.width / 2 for vertex in vertices)
    for vertex in vertices:
        vertex.x -= left
        if vertex.item is not None:
            item = items[vertex.item]
            item.x, item.y = vertex.x - item.width / 2, tops[vertex.rank]
    for line, way in zip(lines, ways, strict=True):
        _draw(line, way, items, vertices, tops, bottoms)
    return Size(max(vertex.x + vertex.width / 2 for vertex in vertices), bottoms[-1])


# -- ranks ---------------------------------------------------------------------------------------------------


def _ranks(items: Sequence[Item], lines: Sequence[Line]) -> list[int]:
    """Each below all that leads to it; ports in one rank at the bottom."""
    ranks = [0] * len(items)
    for line in sorted(lines, key=lambda line: line.source):
        ranks[line.target] = max(ranks[line.target], ranks[line.source] + (2 if line.label_width else 1))
    ports = [number for number, item in enumerate(items) if item.is_port]
    if ports:
        bottom = max(ranks)
        if any(not item.is_port and ranks[number] == bottom for number, item in enumerate(items)):
            bottom += 1
        for number in ports:
            ranks[number] = bottom
    return ranks


def _way(line: Line, items: Sequence[Item], vertices: list[_Vertex], links: list[_Link]) -> list[int]:
    """The bends (and the label) of a line, and its pieces."""
    way = [line.source]
    for rank in range(vertices[line.source].rank + 1, vertices[line.target].rank):
        label = bool(line.label_width) and len(way) == 1
        vertex = _Vertex(
            rank, line.label_width if label else 0.0, LABEL_HEIGHT if label else 0.0, label=label
        )
        vertex.side = vertices[line.target].side
        way.append(len(vertices))
        vertices.append(vertex)
    way.append(line.target)
    for upper, lower in pairwise(way):
        bends = (vertices[upper].item is None) + (vertices[lower].item is None)
        links.append(
            _Link(
                upper,
                lower,
                line.exit - items[line.source].width / 2 if upper == line.source else 0.0,
                items[line.target].entry - items[line.target].width / 2 if lower == line.target else 0.0,
                # Long lines are worth more straight than short ones: their bends are many.
                (1.0, 3.0, 8.0)[bends] if line.shown else 0.2,
            )
        )
    return way


# -- order ---------------------------------------------------------------------------------------------------


def _depth_first(count: int, links: Sequence[_Link]) -> list[int]:
    """All vertices, each branch to its end before the next begins."""
    below: list[list[int]] = [[] for _ in range(count)]
    has_upper = [False] * count
    for link in links:
        below[link.upper].append(link.lower)
        has_upper[link.lower] = True
    order: list[int] = []
    seen = [False] * count
    waiting = [number for number in reversed(range(count)) if not has_upper[number]]
    while waiting:
        number = waiting.pop()
        if not seen[number]:
            seen[number] = True
            order.append(number)
            waiting += reversed(below[number])
    return order


def _sort(layers: list[list[int]], links: Sequence[_Link], vertices: Sequence[_Vertex]) -> None:
    """Sort each rank by the middle of what it hangs on, down and up, and keep the best."""
    upper: list[list[int]] = [[] for _ in vertices]
    lower: list[list[int]] = [[] for _ in vertices]
    for link in links:
        upper[link.lower].append(link.upper)
        lower[link.upper].append(link.lower)
    _keep_sides(layers, vertices)
    best, fewest = [list(layer) for layer in layers], _crossings(layers, links)
    for sweep in range(_SWEEPS_OF_ORDER):
        if not fewest:
            break
        down = sweep % 2 == 0
        neighbours = upper if down else lower
        for layer in layers if down else reversed(layers):
            position = {number: index for one in layers for index, number in enumerate(one)}
            layer.sort(key=_middle_of(neighbours, position))
        _keep_sides(layers, vertices)
        crossings = _crossings(layers, links)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    layers[:] = best


def _middle_of(neighbours: Sequence[Sequence[int]], position: dict[int, int]) -> Callable[[int], float]:
    def middle(number: int) -> float:
        near = neighbours[number]
        return sum(position[one] for one in near) / len(near) if near else position[number]

    return middle


def _keep_sides(layers: list[list[int]], vertices: Sequence[_Vertex]) -> None:
    """What asked for a side of its rank is there."""
    for layer in layers:
        layer.sort(key=lambda number: vertices[number].side)


def _crossings(layers: Sequence[Sequence[int]], links: Sequence[_Link]) -> int:
    position = {number: index for layer in layers for index, number in enumerate(layer)}
    rank = {number: depth for depth, layer in enumerate(layers) for number in layer}
    pieces: dict[int, list[tuple[float, float]]] = {}
    for link in links:
        pieces.setdefault(rank[link.upper], []).append(
            # Where a line leaves its box breaks the tie of two lines of one box.
            (position[link.upper] + link.upper_offset * 1e-6, position[link.lower] + link.lower_offset * 1e-6)
        )
    return sum(
        (one[0] - other[0]) * (one[1] - other[1]) < 0
        for group in pieces.values()
        for index, one in enumerate(group)
        for other in group[:index]
    )


# -- places --------------------------------------------------------------------------------------------------


def _move(layers: Sequence[Sequence[int]], links: Sequence[_Link], vertices: Sequence[_Vertex]) -> None:
    """Move the ranks, down and up, to where their lines are straight."""
    above: list[list[_Link]] = [[] for _ in vertices]
    below: list[list[_Link]] = [[] for _ in vertices]
    for link in links:
        above[link.lower].append(link)
        below[link.upper].append(link)
    for layer in layers:
        _spread(layer, vertices, {}, {})
    for sweep in range(_ROUGH_SWEEPS + _FINE_SWEEPS):
        down = sweep % 2 == 0
        both = sweep >= _ROUGH_SWEEPS
        for layer in layers if down else reversed(layers):
            wishes: dict[int, float] = {}
            weights: dict[int, float] = {}
            for number in layer:
                total = weight = 0.0
                if down or both:
                    for link in above[number]:
                        goal = vertices[link.upper].x + link.upper_offset - link.lower_offset
                        total += goal * link.weight
                        weight += link.weight
                if both or not down:
                    for link in below[number]:
                        goal = vertices[link.lower].x + link.lower_offset - link.upper_offset
                        total += goal * link.weight
                        weight += link.weight
                if weight:
                    wishes[number], weights[number] = total / weight, weight
            _spread(layer, vertices, wishes, weights)


def _spread(
    layer: Sequence[int], vertices: Sequence[_Vertex], wishes: dict[int, float], weights: dict[int, float]
) -> None:
    """Put a rank as near as may be to where each one wishes to be, in order and with room between.

    Least squares under constraints of order: neighbours that would overlap are pooled at their common mean.
    """
    pools: list[tuple[float, float, int]] = []  # where, weight, how many
    shifts: list[float] = []
    shift = 0.0
    for index, number in enumerate(layer):
        if index:
            shift += _distance(vertices[layer[index - 1]], vertices[number])
        shifts.append(shift)
        wish = wishes.get(number, vertices[number].x)
        where, weight, count = wish - shift, weights.get(number, 0.01), 1
        while pools and pools[-1][0] > where:
            other, other_weight, other_count = pools.pop()
            where = (where * weight + other * other_weight) / (weight + other_weight)
            weight += other_weight
            count += other_count
        pools.append((where, weight, count))
    places = [where for where, _, count in pools for _ in range(count)]
    for number, where, shift in zip(layer, places, shifts, strict=True):
        vertices[number].x = where + shift


def _straighten(bends: Sequence[int], layers: Sequence[Sequence[int]], vertices: Sequence[_Vertex]) -> None:
    """Put the bends of a line above each other, as many as there is a free lane for."""
    lane: list[int] = []
    free = (-inf, inf)
    for number in bends:
        low, high = _room(number, layers[vertices[number].rank], vertices)
        both = max(free[0], low), min(free[1], high)
        if lane and both[0] > both[1]:
            _align(lane, free, vertices)
            lane, both = [], (low, high)
        lane.append(number)
        free = both
    if lane:
        _align(lane, free, vertices)


def _align(lane: Sequence[int], free: tuple[float, float], vertices: Sequence[_Vertex]) -> None:
    wish = sum(vertices[number].x for number in lane) / len(lane)
    x = min(max(wish, free[0]), free[1])
    for number in lane:
        vertices[number].x = x


def _room(number: int, layer: Sequence[int], vertices: Sequence[_Vertex]) -> tuple[float, float]:
    """Where the middle of a vertex may be, between its neighbours."""
    at = layer.index(number)
    low, high = -inf, inf
    if at:
        left = vertices[layer[at - 1]]
        low = left.x + _distance(left, vertices[number])
    if at + 1 < len(layer):
        right = vertices[layer[at + 1]]
        high = right.x - _distance(vertices[number], right)
    return min(low, vertices[number].x), max(high, vertices[number].x)


def _distance(left: _Vertex, right: _Vertex) -> float:
    """How far the middles of neighbours are apart at least."""
    return (left.width + right.width) / 2 + (_GAP_X if left.width and right.width else _BEND_GAP_X)


def _heights(layers: Sequence[Sequence[int]], vertices: Sequence[_Vertex]) -> tuple[list[float], list[float]]:
    """Top and bottom of each rank."""
    tops: list[float] = []
    bottoms: list[float] = []
    y = 0.0
    labels_only = False
    for depth, layer in enumerate(layers):
        was_labels = labels_only
        labels_only = all(vertices[number].item is None for number in layer)
        if depth:
            flat = labels_only or was_labels or not any(vertices[number].height for number in layer)
            y += _LABEL_GAP_Y if flat else _GAP_Y
            if was_labels:
                y += _LABEL_GAP_Y / 2  # for the arrow's head
        tops.append(y)
        y += max(vertices[number].height for number in layer)
        bottoms.append(y)
    return tops, bottoms


def _draw(
    line: Line,
    way: Sequence[int],
    items: Sequence[Item],
    vertices: Sequence[_Vertex],
    tops: Sequence[float],
    bottoms: Sequence[float],
) -> None:
    """The points of a line: in each rank where it comes in and where it goes out."""
    source, target = items[line.source], items[line.target]
    x = source.x + line.exit
    line.points = [(x, source.y + source.height), (x, bottoms[vertices[way[0]].rank])]
    for number in way[1:-1]:
        vertex = vertices[number]
        line.points += [(vertex.x, tops[vertex.rank]), (vertex.x, bottoms[vertex.rank])]
        if vertex.label:
            line.label_at = (vertex.x, tops[vertex.rank])
    line.points.append((target.x + target.entry, target.y))
