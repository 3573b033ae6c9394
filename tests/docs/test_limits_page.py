"""docs/limits.md tells the numbers that the code has, and leaves no bound out."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import holdfast
from holdfast import Limits
from holdfast.runtime.durations import to_seconds

PAGE = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| [^|]+ \| `([\w.()]+)` \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE)
UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "KiB": 1024.0, "MiB": 1024.0**2, "%": 0.01}


def told(text: str) -> float | None:
    """A number of the page: `10 000`, `8 MiB`, `none`."""
    if text == "none":
        return None
    match = re.fullmatch(r"(\d[\d ]*\d|\d)(?: ([A-Za-z%]+))?", text)
    assert match is not None, text
    return float(match[1].replace(" ", "")) * UNITS[match[2] or ""]


def in_code(name: str) -> float | None:
    """What the code has under a name of the page."""
    value: object
    if name.startswith("Limits."):
        value = getattr(Limits(), name.removeprefix("Limits."))
    elif name.endswith(")"):
        path, _, parameter = name.removesuffix(")").partition("(")
        function: object = holdfast
        for part in path.split("."):
            function = getattr(function, part)
        assert callable(function)
        value = inspect.signature(function).parameters[parameter].default
    elif name[0].isupper():
        class_name, _, attribute = name.partition(".")
        value = getattr(getattr(holdfast, class_name), attribute)
    else:
        module, _, constant = name.rpartition(".")
        value = getattr(importlib.import_module(f"holdfast.{module}"), constant)
    if isinstance(value, str):
        return to_seconds(value)
    assert value is None or isinstance(value, int | float)
    return None if value is None else float(value)


@pytest.mark.parametrize(("name", "text"), ROWS, ids=[name for name, _ in ROWS])
def test_number(name: str, text: str) -> None:
    """The page's number is the code's."""
    assert told(text) == in_code(name)


def test_no_bound_is_left_out() -> None:
    """All of `Limits`, and every public constant MAX_..., is on the page."""
    wanted = {f"Limits.{name}" for name in Limits.__struct_fields__}
    values = {in_code(name) for name in wanted}
    for module in pkgutil.walk_packages(holdfast.__path__, "holdfast."):
        if module.name.startswith("holdfast.examples") or module.name.endswith("__main__"):
            continue
        lines = inspect.getsource(importlib.import_module(module.name))
        for constant in re.findall(r"^(MAX_\w+)\b.* = ", lines, re.MULTILINE):
            name = f"{module.name.removeprefix('holdfast.')}.{constant}"
            # The bounds of a batch are options, whose defaults stand in two places.
            if not (module.name == "holdfast.storage.group_commit" and in_code(name) in values):
                wanted.add(name)
    assert wanted - {name for name, _ in ROWS} == set()
