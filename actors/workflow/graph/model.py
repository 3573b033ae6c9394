"""What the analyser finds: a workflow as nodes, edges and blocks.  Plain data; msgspec writes it as JSON.

Nodes are numbered in the order of the source, node 0 is where run() begins.  A block is a part of the source
that belongs together and is entered by its first node alone: a loop, what a `try` guards, one way of a
branch.  Blocks lie within each other; block 0 is run() as a whole.

What can't be told from the source is shown as it is written there: a `Setting` that isn't `literal`, a node
without a `name`, a node of kind "await".
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

NodeKind: TypeAlias = Literal[
    "start",  # run(), or a function that is drawn by itself
    "end",  # run() ends without a `return`
    "step",
    "actor",  # a call of an actor's method
    "sleep",
    "wait",  # for an event
    "until",  # for a condition
    "child",  # another workflow
    "send",  # an event to another run
    "emit",
    "status",
    "continue",  # continue_as_new: the run ends and another one begins
    "call",  # a method or function that is part of the flow
    "await",  # something else is awaited; the source doesn't tell what
    "branch",
    "match",
    "loop",
    "each",  # what follows is done for each item, side by side
    "fork",
    "join",
    "try",
    "except",
    "finally",
    "timeout",
    "return",
    "raise",
]

EdgeKind: TypeAlias = Literal[
    "next",
    "again",  # back to the beginning of a loop
    "error",  # whatever in the block of the source node raises
    "parallel",  # a branch that is begun while others go on
    "calls",  # a function that is drawn by itself
]

BlockKind: TypeAlias = Literal[
    "function",
    "call",  # a function that is drawn where it is called
    "loop",
    "try",  # what a `try` guards
    "timeout",
    "parallel",  # from the fork to the join
    "arm",  # one way of a branch, a handler, one of several parallel branches
]


class Setting(msgspec.Struct, frozen=True):
    """An option of a node: its source, and whether that is a value (`"10s"`) or only known when it runs."""

    source: str
    literal: bool


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that happens, or is decided."""

    id: int
    kind: NodeKind
    text: str
    line: int
    end_line: int
    block: int
    name: str | None = None
    """The name of a step, event, child or method, where the source tells it."""
    settings: dict[str, Setting] = {}
    begins: bool = False
    """It is begun here, and not waited for here."""
    unreachable: bool = False
    calls: str | None = None
    """The function that is part of the flow here."""
    file: str | None = None
    """The file of `line`, when it isn't the graph's."""


class Edge(msgspec.Struct, frozen=True, omit_defaults=True):
    """The way from one node to another."""

    source: int
    target: int
    kind: EdgeKind = "next"
    label: str = ""


class Block(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part that belongs together; `head` is the node by which it is entered."""

    id: int
    kind: BlockKind
    head: int
    parent: int | None = None
    title: str = ""


class GraphWarning(msgspec.Struct, frozen=True, omit_defaults=True):
    """A finding of the lint, with the node on whose lines it is; None when there is no node."""

    line: int
    text: str
    node: int | None = None
    file: str | None = None


class WorkflowGraph(msgspec.Struct, frozen=True):
    """The flow of one workflow."""

    workflow: str
    file: str
    line: int
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    blocks: tuple[Block, ...]
    options: dict[str, Setting] = {}
    """Class options: retry, step_timeout, deadline and the like."""
    warnings: tuple[GraphWarning, ...] = ()

    def json(self) -> str:
        """The graph as JSON."""
        return msgspec.json.format(msgspec.json.encode(self)).decode()

    def mermaid(self) -> str:
        """The graph as a Mermaid flowchart."""
        from .mermaid import to_mermaid

        return to_mermaid(self)

    def svg(self) -> str:
        """The graph as a picture."""
        from .svg import to_svg

        return to_svg(self)
