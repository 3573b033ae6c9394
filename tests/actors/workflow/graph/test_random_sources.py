"""Whatever a workflow's source is, its graph is whole, and its pictures are sound."""

from __future__ import annotations

import ast
import re
from collections import Counter
from itertools import combinations
from xml.etree import ElementTree

import msgspec
from hypothesis import given, settings

from holdfast.actors.workflow.graph.analyse import graph_of_source
from holdfast.actors.workflow.graph.boxes import SMALL_SIZE, text_width
from holdfast.actors.workflow.graph.layout import Picture, lay_out
from holdfast.actors.workflow.graph.model import WorkflowGraph
from holdfast.actors.workflow.graph.source_text import cut_end, one_line

from .random_sources import Source, sources

EXAMPLES = 30


@settings(max_examples=EXAMPLES, deadline=None)
@given(source=sources())
def test_graphs_of_random_sources(source: Source) -> None:
    """Each step is one node; nodes are reached or say that they aren't; texts are sound; boxes lie apart."""
    ast.parse(source.text)
    graph = graph_of_source(source.text)
    named = Counter(node.name for node in graph.nodes if node.kind == "step")
    assert named == Counter(source.steps)
    check_whole(graph)
    check_mermaid(graph)
    check_svg(graph)
    picture = lay_out(graph)
    check_picture(picture)
    labelled = Counter(cut_end(one_line(edge.label), 40) for edge in graph.edges if edge.label)
    assert not Counter(label.text for label in picture.labels) - labelled
    assert labelled.keys() == {label.text for label in picture.labels}


def check_whole(graph: WorkflowGraph) -> None:
    """Ids are positions; edges and blocks name what exists; JSON gives the same graph back."""
    assert [node.id for node in graph.nodes] == list(range(len(graph.nodes)))
    assert [block.id for block in graph.blocks] == list(range(len(graph.blocks)))
    reached = {0}
    for _ in graph.nodes:
        reached |= {edge.target for edge in graph.edges if edge.source in reached}
    assert {node.id for node in graph.nodes if not node.unreachable} == reached
    inside = {block.id: blocks_around(graph, block.id) for block in graph.blocks}
    for edge in graph.edges:
        # A block is entered by its head alone.
        entered = set(inside[graph.nodes[edge.target].block]) - set(inside[graph.nodes[edge.source].block])
        assert all(graph.blocks[one].head == edge.target for one in entered)
        assert edge.kind in ("again", "calls") or edge.source < edge.target
    assert msgspec.json.decode(graph.json(), type=WorkflowGraph) == graph


def blocks_around(graph: WorkflowGraph, block: int | None) -> list[int]:
    found: list[int] = []
    while block is not None:
        found.append(block)
        block = graph.blocks[block].parent
    return found


def check_mermaid(graph: WorkflowGraph) -> None:
    """Each node is told once, each line is one of a few forms, and nothing but labels has signs."""
    text = graph.mermaid()
    label = r'"[^"<>&|`{}:;]*"'
    told: list[str] = []
    for line in text.splitlines()[2:]:
        plain = re.sub(r"#\d+;", "", line).replace("<br>", " ")
        node = re.fullmatch(rf" *n(\d+)[\[\]()/{{}}]+{label}[\[\]()/{{}}]+", plain)
        edge = re.fullmatch(rf" *n\d+ (-->|-\.->|==>)(\|{label}\|)? n\d+", plain)
        other = re.fullmatch(rf" *(subgraph b\d+\[{label}\]|end|class(Def)? [\w,:#\- ]+)", plain)
        assert node or edge or other, line
        if node:
            told.append(node[1])
    assert sorted(map(int, told)) == [node.id for node in graph.nodes]
    assert text.count("subgraph ") == len(re.findall(r"^ +end$", text, re.MULTILINE))


def check_svg(graph: WorkflowGraph) -> None:
    """Well-formed XML with each node once."""
    root = ElementTree.fromstring(graph.svg())  # noqa: S314  # our own text
    drawn = [int(number) for one in root.iter() if (number := one.get("data-node")) is not None]
    assert sorted(drawn) == [node.id for node in graph.nodes]


def check_picture(picture: Picture) -> None:
    """Boxes and labels lie apart and inside the picture, text lies inside its box."""
    places = [(one.x, one.y, one.x + one.box.width, one.y + one.box.height) for one in picture.nodes]
    for label in picture.labels:
        half = text_width(label.text, SMALL_SIZE) / 2
        places.append((label.x - half, label.y - 5, label.x + half, label.y + 5))
    for x0, y0, x1, y1 in places:
        assert min(x0, y0) > -0.01
        assert x1 <= picture.width + 0.01
        assert y1 <= picture.height + 0.01
    for one, other in combinations(places, 2):
        beside = one[2] < other[0] or other[2] < one[0]
        assert beside or one[3] < other[1] or other[3] < one[1], (one, other)
    for placed in picture.nodes:
        assert all(0 < line.y < placed.box.height for line in placed.box.lines)
    for line in picture.lines:
        for (ax, ay), (bx, by) in zip(line.points, line.points[1:], strict=False):
            if ax == bx:  # a piece that goes straight down passes no box
                low, high = min(ay, by), max(ay, by)
                hit = [
                    placed.node.text
                    for placed in picture.nodes
                    if placed.x + 1 < ax < placed.x + placed.box.width - 1
                    and low < placed.y + placed.box.height - 1
                    and high > placed.y + 1
                ]
                assert not hit, (line, hit)
