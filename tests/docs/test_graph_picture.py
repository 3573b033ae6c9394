"""The picture on docs/graph.md is what `holdfast graph` draws."""

from pathlib import Path

from holdfast import workflow_graph
from holdfast.examples.templates.fan_out import FanOut

PICTURE = Path(__file__).parents[2] / "docs" / "fan-out.svg"


def test_picture() -> None:
    """`holdfast graph holdfast.examples.templates.fan_out --out docs/fan-out.svg` draws it anew."""
    assert PICTURE.read_text(encoding="utf-8") == workflow_graph(FanOut).svg()
