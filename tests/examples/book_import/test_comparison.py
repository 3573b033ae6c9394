"""docs/book_import.md compares both ways by their lines; the numbers are those of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def code_lines(file: Path) -> int:
    """Lines that hold code: no blanks, comments, docstrings or imports."""
    source = file.read_text(encoding="utf-8")
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt) or node.end_lineno is None:
            continue
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            left_out.update(range(node.lineno, node.end_lineno + 1))
    lines = enumerate(source.splitlines(), 1)
    return sum(number not in left_out and line.strip()[:1] not in ("", "#") for number, line in lines)


def test_lines() -> None:
    """As many as the page says."""
    page = (ROOT / "docs" / "book_import.md").read_text(encoding="utf-8")
    told = {name: int(lines) for name, lines in re.findall(r"`(\w+\.py)`, (\d+) lines", page)}
    folder = ROOT / "examples" / "book_import"
    assert told == {name: code_lines(folder / name) for name in ("legacy.py", "workflow.py")}
