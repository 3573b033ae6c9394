"""Source as short text: what stands in a box or at an edge."""

from __future__ import annotations

import ast
import copy
from typing import Final

from .model import Setting

_TEXT_CHARACTERS: Final = 80  # three lines of a box


def short(node: ast.AST, limit: int = _TEXT_CHARACTERS) -> str:
    """An expression on one line, cut at the end.

    What it awaits is a node before it, so here it is `result`.
    """
    if any(isinstance(one, ast.Await) for one in ast.walk(node)):
        node = _Results().visit(copy.deepcopy(node))
    return cut_end(one_line(ast.unparse(node)), limit)


def one_line(text: str) -> str:
    """Text without breaks and without characters that can't be seen."""
    return "".join(char if char.isprintable() else _escaped(char) for char in " ".join(text.split()))


def cut_end(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= limit else f"{text[: limit - 1].rstrip()}…"


def setting(node: ast.expr) -> Setting:
    """An option as it is written."""
    return Setting(short(node), is_literal(node))


def is_literal(node: ast.expr) -> bool:
    """Whether an expression is a value: constants, and calls such as `Retry(3, "1s")` of constants."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return all(map(is_literal, node.elts))
    if isinstance(node, ast.Dict):
        return all(key is not None and is_literal(key) for key in node.keys) and all(
            map(is_literal, node.values)
        )
    if isinstance(node, ast.UnaryOp):
        return is_literal(node.operand)
    if isinstance(node, ast.Call):
        return (
            isinstance(node.func, ast.Name)
            and node.func.id in ("Retry", "timedelta")
            and all(map(is_literal, node.args))
            and all(one.arg is not None and is_literal(one.value) for one in node.keywords)
        )
    return False


def text_of(node: ast.expr) -> str | None:
    """The text that a literal is; None for anything else."""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def plain(node: ast.expr, limit: int = _TEXT_CHARACTERS) -> str:
    """A literal text without its quotes, anything else as it is written."""
    text = text_of(node)
    return short(node, limit) if text is None else cut_end(one_line(text), limit)


class _Results(ast.NodeTransformer):
    def visit_Await(self, node: ast.Await) -> ast.expr:
        return ast.Name("result", ast.Load())


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
