"""A graph while it is made: nodes so far, the ends that wait for a node, and where jumps lead.

The walk over the source adds one node after the other.  `loose` holds the ends that lead to the next one: one
behind a step, two behind an `if`, none behind a `return`.  A jump (`break`, `continue`, `return`) takes the
loose ends to where it leads, through each `finally` that lies between.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from .model import Block, BlockKind, Edge, EdgeKind, Node, NodeKind, Setting
from .place import Place, place_of

Jump: TypeAlias = Literal["break", "continue", "return"]


class Loose(NamedTuple):
    """An edge without a target yet."""

    source: int
    kind: EdgeKind = "next"
    label: str = ""


@dataclass
class LoopFrame:
    """Where `break` and `continue` lead."""

    head: int
    breaks: list[Loose] = field(default_factory=list[Loose])


@dataclass
class FinallyFrame:
    """A `finally` that jumps go through, with the jumps that did."""

    entering: list[Loose] = field(default_factory=list[Loose])
    jumps: list[Jump] = field(default_factory=list[Jump])


@dataclass
class FunctionFrame:
    """Where `return` leads: behind the call of a function that is drawn in place."""

    drawn_in_place: bool
    # A plain function that gives something to be awaited: what it returns is waited for.
    awaits_result: bool = False
    returns: list[Loose] = field(default_factory=list[Loose])


Frame: TypeAlias = LoopFrame | FinallyFrame | FunctionFrame


@dataclass
class _OpenBlock:
    kind: BlockKind
    parent: int | None
    title: str
    head: int | None = None


class Draft:
    """Nodes, edges and blocks so far."""

    def __init__(self) -> None:
        self.loose: list[Loose] = []
        self.frames: list[Frame] = []
        self.file: str | None = None
        self._nodes: list[Node] = []
        self._edges: dict[Edge, None] = {}
        self._blocks: list[_OpenBlock] = []
        self._block: int | None = None

    # -- nodes and edges -------------------------------------------------------------------------------------

    def add(
        self,
        kind: NodeKind,
        text: str,
        at: ast.AST | Place,
        *,
        name: str | None = None,
        settings: dict[str, Setting] | None = None,
        begins: bool = False,
        calls: str | None = None,
    ) -> int:
        """A node behind all loose ends; from now on it is the only one."""
        assert self._block is not None
        number = len(self._nodes)
        line, end_line = at if isinstance(at, Place) else place_of(at)
        self._nodes.append(
            Node(
                number, kind, text, line, end_line, self._block, name,
                settings or {}, begins, calls=calls, file=self.file,
            )
        )  # fmt: skip
        around: int | None = self._block
        while around is not None and self._blocks[around].head is None:
            self._blocks[around].head = number
            around = self._blocks[around].parent
        self.connect(number)
        self.loose = [Loose(number)]
        return number

    def connect(self, target: int, *, again: bool = False) -> None:
        """The loose ends lead to a node."""
        for one in self.loose:
            self._edges.setdefault(Edge(one.source, target, "again" if again else one.kind, one.label))
        self.loose = []

    def connect_call(self, source: int, target: int) -> None:
        """A node calls a function that is drawn by itself."""
        self._edges.setdefault(Edge(source, target, "calls"))

    # -- blocks ----------------------------------------------------------------------------------------------

    def open_block(self, kind: BlockKind, title: str = "") -> None:
        """What is added from now on lies in a new block."""
        self._blocks.append(_OpenBlock(kind, None if kind == "function" else self._block, title))
        self._block = len(self._blocks) - 1

    def close_block(self) -> None:
        """What is added from now on lies in the block around it."""
        assert self._block is not None
        self._block = self._blocks[self._block].parent

    # -- jumps -----------------------------------------------------------------------------------------------

    def jump(self, jump: Jump, at: ast.AST) -> None:
        """The loose ends go where a jump leads."""
        for frame in reversed(self.frames):
            if isinstance(frame, FinallyFrame):
                frame.entering += [one._replace(label=one.label or jump) for one in self.loose]
                if self.loose and jump not in frame.jumps:
                    frame.jumps.append(jump)
                break
            if isinstance(frame, LoopFrame) and jump != "return":
                if jump == "break":
                    frame.breaks += self.loose
                else:
                    self.connect(frame.head, again=True)
                break
            if isinstance(frame, FunctionFrame):
                if frame.drawn_in_place:
                    frame.returns += self.loose
                elif self.loose and self._nodes[self.loose[-1].source].kind != "return":
                    self.add("end", "end", at)
                break
        self.loose = []

    def through_finally(self, frame: FinallyFrame, at: ast.AST) -> None:
        """Behind a `finally`: the jumps that went through it go on, the loose ends stay."""
        here = self.loose
        for jump in frame.jumps:
            self.loose = [one._replace(label=f"{one.label}, {jump}" if one.label else jump) for one in here]
            self.jump(jump, at)
        self.loose = here

    # -- the whole -------------------------------------------------------------------------------------------

    def finished(self) -> tuple[tuple[Node, ...], tuple[Edge, ...], tuple[Block, ...]]:
        """All of it; a call or an arm that has but its head is no block, unless that decides something."""
        kept: dict[int, int] = {}
        blocks: list[Block] = []
        members = {node.block for node in self._nodes if self._blocks[node.block].head != node.id}
        members |= {one.parent for one in self._blocks if one.parent is not None and one.head is not None}
        members |= {node.block for node in self._nodes if node.kind in ("branch", "match")}
        for number, block in enumerate(self._blocks):
            parent = None if block.parent is None else kept[block.parent]
            if block.head is None or (block.kind in ("call", "arm") and number not in members):
                assert parent is not None
                kept[number] = parent
                continue
            kept[number] = len(blocks)
            blocks.append(Block(len(blocks), block.kind, block.head, parent, block.title))
        edges = tuple(self._edges)
        reached = _reached(edges)
        nodes = tuple(
            Node(
                node.id, node.kind, node.text, node.line, node.end_line, kept[node.block], node.name,
                node.settings, node.begins, node.id not in reached, node.calls, node.file,
            )
            for node in self._nodes
        )  # fmt: skip
        return nodes, edges, tuple(blocks)


def _reached(edges: tuple[Edge, ...]) -> set[int]:
    """What can be come to from node 0."""
    targets: dict[int, list[int]] = {}
    for edge in edges:
        targets.setdefault(edge.source, []).append(edge.target)
    reached = {0}
    waiting = [0]
    while waiting:
        for target in targets.get(waiting.pop(), ()):
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    return reached
