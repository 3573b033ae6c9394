"""The README's examples run, and do what they say."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
OUTPUTS = ["2\n", "charged 1250 for o-17\n1\n"]


def run(code: str, folder: Path) -> str:
    """What an example prints in a process of its own."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_an_output_for_each_example() -> None:
    """No example is left out."""
    assert len(EXAMPLES) == len(OUTPUTS)


@pytest.mark.parametrize(("code", "output"), list(zip(EXAMPLES, OUTPUTS, strict=False)))
def test_example(code: str, output: str, tmp_path: Path) -> None:
    """An example prints what it should."""
    assert run(code, tmp_path) == output


def test_what_was_done_is_kept(tmp_path: Path) -> None:
    """Run again on the same folder, the cart is fuller and the order is not charged again."""
    assert [run(EXAMPLES[0], tmp_path) for _ in range(2)] == ["2\n", "4\n"]
    assert [run(EXAMPLES[1], tmp_path) for _ in range(2)] == [OUTPUTS[1]] * 2
