"""docs/on-disk-format.md lists every prefix of storage/layout.py, and its examples of keys are right."""

import re
from pathlib import Path

import pytest

from holdfast.storage import layout
from holdfast.storage.keys import Key, encode_key, encode_number

PAGE = (Path(__file__).parents[2] / "docs" / "on-disk-format.md").read_text(encoding="utf-8")
# | `04` number `03` name | ALARM: ...
ROWS = re.findall(r"^\| `(\w\w)`( number `(\w\w)`)?[^|]*\| ([A-Z_]+): ", PAGE, re.MULTILINE)
TOP = (
    "META",
    "TYPE",
    "DIRECTORY",
    "DUE",
    "DEAD_ALARM",
    "EXPIRY",
    "SHARED_ROW",
    "SHARED_INDEX",
    "FIELD_INDEX",
    "TABLE",
    "RUN_LABEL",
    "AUDIT",
    "CHANGE",
)
KINDS = (
    "FIELDS",
    "STORAGE",
    "ALARM",
    "ROW",
    "ROW_INDEX",
    "REPLY",
    "JOURNAL",
    "EMITTED",
    "EVENT_ID",
    "HEARTBEAT",
    "CHILD",
)


def test_every_prefix_is_listed_with_its_byte() -> None:
    """Names and bytes are those of layout.py, and none is missing."""
    told = {name: first + kind for first, _, kind, name in ROWS}
    wanted: dict[str, str] = {name: getattr(layout, name).hex() for name in TOP}
    wanted |= {name: (layout.DATA + getattr(layout, name)).hex() for name in KINDS}
    assert {name: text.lower() for name, text in told.items()} == wanted


def test_no_prefix_is_new() -> None:
    """A prefix that is added to layout.py must be added to the page and here."""
    found = {name for name, value in vars(layout).items() if name.isupper() and isinstance(value, bytes)}
    metas = {"META_FORMAT", "META_COMMIT", "META_AUDIT", "META_FEED"}
    assert found == {*TOP, *KINDS, *metas, "DATA", "PLAIN", "EXPIRES"}
    for head in (layout.PLAIN, layout.EXPIRES):
        assert re.search(rf"^{head.hex()} (time )?payload ", PAGE, re.MULTILINE)
    assert f"Format {layout.FORMAT}." in PAGE


@pytest.mark.parametrize(
    ("text", "key"), [('"ann"', "ann"), ("7", 7), ("-1", -1), ('("a", 300)', ("a", 300))]
)
def test_example_of_a_key(text: str, key: Key) -> None:
    """An example on the page is what `encode_key` makes."""
    match = re.search(rf"^{re.escape(text)} +([0-9A-F ]+)$", PAGE, re.MULTILINE)
    assert match is not None
    assert bytes.fromhex(match[1]) == encode_key(key)


@pytest.mark.parametrize("number", [0, 255, 256])
def test_example_of_a_number(number: int) -> None:
    """An example on the page is what `encode_number` makes."""
    match = re.search(rf"^{number} +([0-9A-F ]+)$", PAGE, re.MULTILINE)
    assert match is not None
    assert bytes.fromhex(match[1]) == encode_number(number)
