"""Every program in docs/ runs, and prints what the page says."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

DOCS = Path(__file__).parents[2] / "docs"
# A Python block and, where one follows at once, the block of what it prints.
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """One program of a page."""

    page: str
    line: int
    code: str
    output: str | None


def examples() -> list[Example]:
    """All programs of all pages."""
    found: list[Example] = []
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Example(page.name, line, match[1], match[2]))
    return found


def test_the_guide_has_programs() -> None:
    """The blocks are found, and each says what it prints."""
    assert len([example for example in examples() if example.page == "guide.md"]) >= 8
    assert [f"{example.page}:{example.line}" for example in examples() if example.output is None] == []


@pytest.mark.parametrize("example", examples(), ids=lambda example: f"{example.page}:{example.line}")
def test_example(example: Example, tmp_path: Path) -> None:
    """A program ends well and prints what stands below it."""
    command = [sys.executable, "-c", example.code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == example.output
