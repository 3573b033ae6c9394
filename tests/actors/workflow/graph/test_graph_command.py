"""`holdfast graph`: from a module's name to text or a file."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from holdfast.__main__ import main
from holdfast.actors.workflow.graph.model import WorkflowGraph

MODULE = "holdfast.examples.events_pipeline.workflow"


def test_formats(capsys: pytest.CaptureFixture[str]) -> None:
    """Mermaid by default, SVG and JSON when asked for."""
    assert main(["graph", MODULE]) == 0
    assert capsys.readouterr().out.startswith("%% ProcessEvent\nflowchart TD\n")
    assert main(["graph", f"{MODULE}:ProcessEvent", "--format", "svg"]) == 0
    assert capsys.readouterr().out.startswith("<svg ")
    assert main(["graph", MODULE, "--format", "json"]) == 0
    graph = msgspec.json.decode(capsys.readouterr().out, type=WorkflowGraph)
    assert [node.name for node in graph.nodes if node.kind == "step"] == [
        "validate-event",
        "store-event",
        "update-metrics",
    ]
    assert [node.text for node in graph.nodes if node.kind == "actor"] == [
        "EventStore.fail",
        "EventStore.deliver",
    ]


@pytest.mark.parametrize(("name", "beginning"), [("a.svg", "<svg"), ("a.json", "{"), ("a.mmd", "%%")])
def test_to_a_file(name: str, beginning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file's name says which format."""
    out = tmp_path / name
    assert main(["graph", MODULE, "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8").startswith(beginning)
    assert str(out) in capsys.readouterr().out


def test_what_cannot_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No module, no workflow, several, no place for the file: a sentence and exit code 2."""
    (tmp_path / "holdfast_two_flows.py").write_text(
        "from holdfast import Workflow\n"
        "class OneOfTwo(Workflow):\n    async def run(self): ...\n"
        "class TwoOfTwo(OneOfTwo):\n    async def run(self): ...\n"
    )
    for target, told in [
        ("holdfast_no_such_module", "no module"),
        ("holdfast.examples", "no workflows"),
        (f"{MODULE}:Nobody", "no workflow named 'Nobody'"),
        ("holdfast_two_flows", "has 2 workflows; name one, as in holdfast_two_flows:OneOfTwo"),
    ]:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            patch.syspath_prepend(tmp_path)
            assert main(["graph", target]) == 2
        assert told in capsys.readouterr().err
    assert main(["graph", MODULE, "--out", str(tmp_path / "nowhere" / "a.svg")]) == 2
    assert "can't be written" in capsys.readouterr().err
