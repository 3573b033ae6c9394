"""Where something stands in a source."""

from __future__ import annotations

import ast
from typing import NamedTuple


class Place(NamedTuple):
    """Lines of a file; 0 where there are none."""

    line: int
    end_line: int


def place_of(node: ast.AST) -> Place:
    """The lines of a node."""
    line: int = getattr(node, "lineno", 0)
    return Place(line, getattr(node, "end_lineno", None) or line)


def lines(first: ast.AST, last: ast.AST | None = None) -> Place:
    """The head of a statement: from its first line to the end of its condition."""
    line = place_of(first).line
    return Place(line, line if last is None else place_of(last).end_line)


def end_of(node: ast.AST) -> Place:
    """The last line of a node."""
    line = place_of(node).end_line
    return Place(line, line)
