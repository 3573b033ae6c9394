"""A graph as the text of a Mermaid flowchart, which many pages and editors draw.

Every label is quoted, and every character in it that Mermaid might take for something else is written as its
number: whatever stands in a source, it stays text.
"""

from __future__ import annotations

from typing import Final

from .model import Block, Edge, Node, NodeKind, WorkflowGraph
from .source_text import one_line

_SHAPES: Final[dict[NodeKind, tuple[str, str]]] = {
    "start": ("([", "])"),
    "end": ("([", "])"),
    "return": ("([", "])"),
    "raise": ("([", "])"),
    "continue": ("([", "])"),
    "actor": ("[[", "]]"),
    "child": ("[[", "]]"),
    "call": ("[[", "]]"),
    "sleep": ("(", ")"),
    "wait": ("(", ")"),
    "until": ("(", ")"),
    "branch": ("{", "}"),
    "match": ("{", "}"),
    "loop": ("{{", "}}"),
    "each": ("{{", "}}"),
    "send": ("[/", "/]"),
    "emit": ("[/", "/]"),
    "status": ("[/", "/]"),
}
_BOX: Final = ("[", "]")
_ARROWS: Final = {"next": "-->", "again": "-->", "error": "-.->", "parallel": "==>", "calls": "-.->"}
_TITLES: Final = {"loop": "loop", "try": "try", "timeout": "timeout", "parallel": "in parallel"}
# Besides letters and digits of any script.
_SAFE: Final = frozenset(" .,_-+*/=()[]'?!")


def to_mermaid(graph: WorkflowGraph) -> str:
    """The text of a flowchart; each node is told once, in the part of the source where it belongs."""
    lines = [f"%% {_comment(graph.workflow)}", "flowchart TD"]
    inside: dict[int | None, list[Block]] = {}
    for block in graph.blocks:
        inside.setdefault(block.parent, []).append(block)
    own: dict[int, list[Node]] = {}
    for node in graph.nodes:
        own.setdefault(node.block, []).append(node)
    warned = {warning.node for warning in graph.warnings}

    def tell(block: Block, indent: str) -> None:
        for node in own.get(block.id, ()):
            lines.append(f"{indent}{_node(node)}")
        for inner in inside.get(block.id, ()):
            if inner.kind == "arm":
                tell(inner, indent)
                continue
            lines.append(f'{indent}subgraph b{inner.id}["{escaped(inner.title or _TITLES[inner.kind])}"]')
            tell(inner, f"{indent}    ")
            lines.append(f"{indent}end")

    for function in inside.get(None, ()):
        if function.id == 0:
            tell(function, "    ")
        else:
            lines.append(f'    subgraph b{function.id}["{escaped(function.title)}"]')
            tell(function, "        ")
            lines.append("    end")
    lines += [f"    {_edge(edge)}" for edge in graph.edges]
    _mark(
        lines,
        "warned",
        [node for node in graph.nodes if node.id in warned],
        "stroke:#d97706,stroke-width:3px",
    )
    _mark(lines, "unreachable", [node for node in graph.nodes if node.unreachable], "stroke-dasharray:4")
    return "\n".join(lines) + "\n"


def _node(node: Node) -> str:
    left, right = _SHAPES.get(node.kind, _BOX)
    parts = [escaped(f"{node.text} (begins)" if node.begins else node.text)]
    parts += [escaped(f"{name} {value.source}") for name, value in node.settings.items()]
    return f'n{node.id}{left}"{"<br>".join(parts)}"{right}'


def _edge(edge: Edge) -> str:
    label = edge.label or ("error" if edge.kind == "error" else "")
    told = f'|"{escaped(label)}"|' if label else ""
    return f"n{edge.source} {_ARROWS[edge.kind]}{told} n{edge.target}"


def _mark(lines: list[str], name: str, nodes: list[Node], style: str) -> None:
    if nodes:
        lines.append(f"    classDef {name} {style}")
        lines.append(f"    class {','.join(f'n{node.id}' for node in nodes)} {name}")


def escaped(text: str) -> str:
    """Text as it may stand between the quotes of a label."""
    return "".join(char if char.isalnum() or char in _SAFE else f"#{ord(char)};" for char in one_line(text))


def _comment(text: str) -> str:
    return "".join(char for char in text if char.isalnum() or char in "._ ")
