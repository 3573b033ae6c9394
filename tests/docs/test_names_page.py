"""docs/names.md has every public name, below the package it is imported from, and no other."""

import importlib
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "names.md").read_text(encoding="utf-8")
PACKAGES = (
    "holdfast",
    "holdfast.testing",
    "holdfast.client",
    "holdfast.actions",
    "holdfast.sql",
    "holdfast.telemetry",
)


def told(package: str) -> list[str]:
    """The names in the first cells of a section's tables, and in its list of errors."""
    parts = re.split(r"^## ([\w.]+)$", PAGE, flags=re.MULTILINE)
    section = dict(zip(parts[1::2], parts[2::2], strict=True))[package]
    cells = re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE)
    errors = re.findall(r"^Errors (.*?)\n\n", section, re.MULTILINE | re.DOTALL)
    return re.findall(r"`(\w+)`", " ".join([*cells, *errors]))


@pytest.mark.parametrize("package", PACKAGES)
def test_names(package: str) -> None:
    """Each once; what is missing here nobody finds, and what is more nobody can import."""
    assert sorted(told(package)) == sorted(importlib.import_module(package).__all__)
