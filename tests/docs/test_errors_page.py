"""docs/errors.md has every public error class, in the section of who is to blame, and no other."""

import importlib
import pkgutil
import re
from pathlib import Path

import holdfast
from holdfast import Fatal, HoldfastError

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \|(.*)\| `([\w.]+)` \|$", re.MULTILINE)


def error_classes() -> dict[str, type[HoldfastError]]:
    """All error classes below HoldfastError that the library defines."""
    for module in pkgutil.walk_packages(holdfast.__path__, "holdfast."):
        if not module.name.startswith("holdfast.examples") and not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: dict[str, type[HoldfastError]] = {}
    waiting: list[type[HoldfastError]] = [HoldfastError]
    while waiting:
        for one in waiting.pop().__subclasses__():
            if one.__module__.startswith("holdfast."):
                found[one.__name__] = one
                waiting.append(one)
    return found


def sections() -> dict[str, str]:
    """The page's sections by their titles."""
    parts = re.split(r"^## (\w+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_class_is_on_the_page_and_no_other() -> None:
    """First level as sections, the rest as rows, `Fatal` beside them."""
    classes = error_classes()
    first = {name for name, one in classes.items() if one.__base__ is HoldfastError}
    assert set(sections()) == {*first, Fatal.__name__}
    assert {match[1] for match in ROW.finditer(PAGE)} == set(classes) - first


def test_rows_are_in_the_section_of_their_blame() -> None:
    """A row stands below its first-level base, and its module has the class."""
    classes = error_classes()
    for title, text in sections().items():
        for name, also, module in ROW.findall(text):
            assert issubclass(classes[name], classes[title]), name
            assert getattr(importlib.import_module(module), name) is classes[name]
            others = set(re.findall(r"^ `(\w+)`", also))
            bases = {base.__name__ for base in classes[name].__bases__} - {title}
            assert others == bases, name
