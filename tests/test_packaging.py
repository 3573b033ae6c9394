"""What a user gets by installing and importing `holdfast`."""

import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

# Only needed by extras, or slow to import: the library must start without them.
BANNED = (
    "anyio",
    "build",
    "hypothesis",
    "jinja2",
    "mypy",
    "pip",
    "pydantic",
    "pytest",
    "rich",
    "setuptools",
    "starlette",
    "uvloop",
)


def loaded_after(statement: str, cwd: Path) -> set[str]:
    """The modules that a fresh interpreter holds after a statement and did not hold before it."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    command = [sys.executable, "-I", "-c", code]
    return set(subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.split())


@pytest.mark.parametrize("module", ["holdfast", "holdfast.__main__"])
def test_import_takes_only_what_it_needs(module: str, tmp_path: Path) -> None:
    """Importing the library, or its CLI, loads none of the heavy modules that only extras bring."""
    loaded = {name.partition(".")[0] for name in loaded_after(f"import {module}", tmp_path)}
    assert "holdfast" in loaded
    assert loaded.isdisjoint(BANNED)


def test_the_pytest_plugin_loads_nothing(tmp_path: Path) -> None:
    """pytest loads it at every start; before its fixture is used it brings no more than pytest."""
    (plugin,) = metadata.entry_points(group="pytest11", name="holdfast")
    loaded = loaded_after(f"import pytest; before = set(sys.modules); import {plugin.value}", tmp_path)
    assert loaded == {plugin.value}


def test_testing_loads_hypothesis_when_it_is_used(tmp_path: Path) -> None:
    """Importing `holdfast.testing` for the simulation takes neither hypothesis nor pytest."""
    loaded = {name.partition(".")[0] for name in loaded_after("import holdfast.testing", tmp_path)}
    assert loaded.isdisjoint(BANNED)


def test_dependencies_are_two() -> None:
    """Without extras an install brings LMDB and msgspec, nothing else."""
    required = [line for line in metadata.requires("holdfast") or [] if "extra ==" not in line]
    assert sorted(required) == ["lmdb>=3.0", "msgspec>=0.20"]


def test_command_line_is_installed() -> None:
    """The command `holdfast` starts `holdfast.__main__:main`."""
    (script,) = metadata.entry_points(group="console_scripts", name="holdfast")
    assert script.value == "holdfast.__main__:main"


def test_assets_are_packed() -> None:
    """Templates, styles and scripts of the pages are package data: each is named by a pattern."""
    root = Path(__file__).parents[1]
    told = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    pages = root / "service" / "pages"
    named = {file for pattern in told["holdfast.service.pages"] for file in pages.glob(pattern)}
    assert named == {file for folder in ("templates", "static") for file in (pages / folder).iterdir()}
    assert {file.suffix for file in named} == {".html", ".css", ".js", ".svg"}
