"""`holdfast new`: each template is a program that runs, with tests that pass."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import CallerError
from holdfast.__main__ import main
from holdfast.examples.templates.new_file import TEMPLATES, new_file

TEMPLATE_FILES = Path(__file__).parents[2] / "examples" / "templates"


def in_a_child(folder: Path, *arguments: str) -> str:
    """What a Python of its own prints; it ends well."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_template_is_offered() -> None:
    """The files in the folder are the templates."""
    files = {path.stem.replace("_", "-") for path in TEMPLATE_FILES.glob("*.py")}
    assert files - {"--init--", "new-file"} == set(TEMPLATES)


@pytest.mark.parametrize("template", TEMPLATES)
def test_template(template: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is written, runs, runs again on its folder with the same outcome, and its tests pass."""
    path = tmp_path / "mine.py"
    assert main(["new", template, "--out", str(path)]) == 0
    assert str(path) in capsys.readouterr().out
    assert "python mine.py" in path.read_text(encoding="utf-8")
    first = in_a_child(tmp_path, "mine.py", "data")
    assert first
    assert in_a_child(tmp_path, "mine.py", "data") == first
    told = in_a_child(tmp_path, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "mine.py")
    assert "3 passed" in told
    assert main(["lint", str(path)]) == 0


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_can_be_drawn(template: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its flow has its steps."""
    module = f"holdfast.examples.templates.{template.replace('-', '_')}"
    assert main(["graph", module]) == 0
    assert "flowchart TD" in capsys.readouterr().out


def test_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is there stays as it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fan_out.py").write_text("mine")
    assert main(["new", "fan-out"]) == 2
    assert "fan_out.py is there already" in capsys.readouterr().err
    assert (tmp_path / "fan_out.py").read_text() == "mine"


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    """No such folder, no Python file, no such template: each is told."""
    with pytest.raises(CallerError, match="can't be written"):
        new_file("saga", tmp_path / "nowhere" / "saga.py")
    with pytest.raises(CallerError, match=r"ends with \.py"):
        new_file("saga", tmp_path / "saga")
    with pytest.raises(CallerError, match="no template 'nothing'"):
        new_file("nothing")


def test_a_strange_name_stays_out_of_the_text(tmp_path: Path) -> None:
    """A file's name can't end the text that it would stand in."""
    path = new_file("pipeline", tmp_path / 'x""".py')
    assert "python pipeline.py" in path.read_text(encoding="utf-8")
