"""Mermaid text and SVG: whatever stands in a source stays text, and fits."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from holdfast.actors.workflow.graph.analyse import graph_of_source
from holdfast.actors.workflow.graph.boxes import box_of, cells_of, text_width, wrap
from holdfast.actors.workflow.graph.mermaid import escaped
from holdfast.actors.workflow.graph.model import Node, Setting, WorkflowGraph
from holdfast.actors.workflow.graph.source_text import one_line
from holdfast.actors.workflow.graph.svg_style import CLASSES

HOSTILE = [
    '"quoted" `tick`',
    "]|--> n0; click n0 call f()",
    "<script>alert(1)</script>&amp; a & b",
    "#35; #quot; style a:b#c;",
    "line\nbreak\r\ttab",
    "nul\x00 bidi\u202e lone\ud800 private\ue000",
    "名前 \U0001f600 e\u0301",
    "end",
    "%% comment",
    "x" * 500,
    "",
]


def graph(name: str) -> WorkflowGraph:
    """A graph in which a text is a step's name, a condition, a pattern and a setting."""
    text = repr(name)
    source = (
        "class Flow(Workflow):\n"
        "    async def run(self, x):\n"
        f"        await self.step(f, name={text}, timeout={text})\n"
        f"        if x == {text}:\n"
        f"            self.emit({text}, 1)\n"
        "        match x:\n"
        f"            case {text}: await self.wait({text})\n"
        f"            case {{'a': {text}}}: await self.sleep({text})\n"
    )
    return graph_of_source(source)


@pytest.mark.parametrize("name", HOSTILE)
def test_mermaid_keeps_text_as_text(name: str) -> None:
    """In the quotes of a label are harmless signs and numbers of characters; nodes are told once."""
    found = graph(name)
    lines = found.mermaid().splitlines()
    assert lines[1] == "flowchart TD"
    for line in lines[2:]:
        for label in re.findall(r'"([^"]*)"', line):
            assert re.fullmatch(r"(#\d+;|<br>|[^\W]|[ .,_\-+*/=()\[\]'?!])*", label), label
        assert line.count('"') in (0, 2)
    told = [match[1] for line in lines if (match := re.match(r" *n(\d+)[^ ]*\"", line))]
    assert sorted(map(int, told)) == [node.id for node in found.nodes]


def test_escaped() -> None:
    """Letters of any script stay; what Mermaid could read as its own becomes a number."""
    assert escaped("store_event 名 (x)") == "store_event 名 (x)"
    assert escaped('a"b#c:d<e>') == "a#34;b#35;c#58;d#60;e#62;"
    assert escaped("a\nb\x00") == "a b#92;x00"


@pytest.mark.parametrize("name", HOSTILE)
def test_svg_is_well_formed(name: str) -> None:
    """It is XML in UTF-8 that says all it should, with each node once."""
    found = graph(name)
    root = ElementTree.fromstring(found.svg().encode("utf-8"))  # noqa: S314  # our own text
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    titles = {
        number: next(iter(one)).text for one in root.iter() if (number := one.get("data-node")) is not None
    }
    assert titles == {str(node.id): f"{one_line(node.text)} (line {node.line})" for node in found.nodes}


def test_svg_knows_light_and_dark() -> None:
    """Colours follow the reader's choice; styles touch nothing outside of the picture."""
    text = graph("x").svg()
    style = text[text.index("<style>") + 7 : text.index("</style>")]
    light, _, dark = style.partition("@media (prefers-color-scheme:dark)")
    assert ".hf .page{fill:#ffffff}" in light
    assert ".hf .page{fill:#0f1318}" in dark
    rules = [line for line in style.splitlines() if line.strip() not in ("}", "")]
    assert all(rule.startswith((".hf", "@media")) for rule in rules)


def test_warnings_are_told_below() -> None:
    """A warned node has a mark, and each warning is a line of text, also one without a node."""
    source = (
        "import time\n"
        "class Flow(Workflow):\n"
        "    async def run(self, x):\n"
        "        y = time.time()\n"
        "        await self.step(f, time.time())\n"
    )
    found = graph_of_source(source)
    text = found.svg()
    assert text.count('class="warning"') == 1
    assert "! line 4: calls time.time()" in text
    assert "! line 5: calls time.time()" in text
    assert "class n1 warned" in found.mermaid()


def test_unreachable_nodes_say_so() -> None:
    """They are drawn, and are told apart."""
    found = graph_of_source(
        "class Flow(Workflow):\n    async def run(self):\n        return\n        await x"
    )
    assert "never reached" in found.svg()
    assert "class n2,n3 unreachable" in found.mermaid()


@pytest.mark.parametrize("text", [*HOSTILE, "a.b(" * 40, "word " * 40, "名" * 100])
def test_boxes_hold_their_text(text: str) -> None:
    """No line of a box is wider than the box; long texts end with an ellipsis."""
    for kind in CLASSES:
        box = box_of(Node(1, kind, text, 1, 1, 0, settings={"timeout": Setting(text, True)}))
        for line in box.lines:
            size = 12.0 if line.style == "main" else 10.0
            assert text_width(line.text, size) < box.width - 8
    assert all(cells_of(part) <= 20 for part in wrap(text, 20, 3))


def test_wrap() -> None:
    """Texts break at blanks, else behind a sign, else anywhere; nothing is lost but by an ellipsis."""
    assert wrap("one two three", 8, 3) == ["one two", "three"]
    assert wrap("Receipt(order=1)", 10, 3) == ["Receipt(", "order=1)"]
    assert wrap("abcdefghij", 4, 2) == ["abcd", "efg…"]
    assert wrap("", 4, 2) == [""]
