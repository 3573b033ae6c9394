"""The folders are layers: what may import what, and that packaging knows all of them.

Read from the source (ast), so that an import inside a function or under TYPE_CHECKING counts as well.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FRONT_DOOR = "holdfast"

# A layer may import itself and every layer with a smaller number; equal numbers do not know each other.
RANK = {
    "storage": 0,
    "runtime": 1,
    "actors": 2,
    "service": 3,
    "client": 3,
    "testing": 3,
    "examples": 4,
    "cli": 5,
}
CODE_FROM_DATA = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle"}


class Import(NamedTuple):
    """One imported module: `relative` tells how it was written, `target` what it means."""

    relative: bool
    target: str
    line: int


def layers() -> list[str]:
    """The shipped folders that exist, lowest first."""
    return [name for name in sorted(RANK, key=lambda name: RANK[name]) if (ROOT / name).is_dir()]


def sources(folder: str) -> list[Path]:
    """The Python files of a top folder; links are not followed."""
    top = ROOT / folder
    found = top.glob("*.py") if folder == FRONT_DOOR else top.rglob("*.py")
    return sorted(found)


def module_of(path: Path) -> str:
    """The name under which a shipped file is imported."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == FRONT_DOOR else (FRONT_DOOR, *parts))


def imports(path: Path) -> Iterator[Import]:
    """Every module that a file imports, with relative names resolved as Python does."""
    package = module_of(path).split(".")[:-1]  # right for an __init__ as well: that is its last part
    for node in ast.walk(ast.parse(path.read_bytes(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(False, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = package[: max(0, len(package) - node.level + 1)] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            if module == FRONT_DOOR:
                # `from .. import storage` may mean a layer or a public name; only the name tells.
                for alias in node.names:
                    target = f"{module}.{alias.name}" if alias.name in RANK else module
                    yield Import(node.level > 0, target, node.lineno)
            else:
                yield Import(node.level > 0, module, node.lineno)


def layer_of(target: str) -> str | None:
    """The layer that a resolved module lies in; None for the front door and for foreign modules."""
    parts = target.split(".")
    return parts[1] if parts[0] == FRONT_DOOR and len(parts) > 1 else None


def may_import(layer: str, found: Import) -> bool:
    """Whether an import stays in its layer, goes down, or leaves Holdfast by an absolute name."""
    if not is_ours(found.target):
        return not found.relative
    other = layer_of(found.target)
    return other is None or other == layer or RANK.get(other, RANK[layer]) < RANK[layer]


def is_ours(target: str) -> bool:
    return target.partition(".")[0] == FRONT_DOOR


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


@pytest.mark.parametrize("layer", layers())
def test_imports_go_one_way(layer: str) -> None:
    """A layer imports only itself and lower layers."""
    wrong = [
        f"{place(path, found.line)} imports {found.target or 'beyond the package'}"
        for path in sources(layer)
        for found in imports(path)
        if not may_import(layer, found)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("layer", [name for name in layers() if name != "examples"])
def test_imports_between_layers_are_relative(layer: str) -> None:
    """Shipped code neither imports the front door nor names the package absolutely."""
    wrong = [
        f"{place(path, found.line)} imports {found.target}"
        for path in sources(layer)
        for found in imports(path)
        if (not found.relative and is_ours(found.target)) or found.target == FRONT_DOOR
    ]
    assert not wrong, "\n".join(wrong)


def test_examples_import_holdfast_as_a_user_does() -> None:
    """A relative import in the examples never leaves the examples."""
    wrong = [
        f"{place(path, found.line)} imports {found.target}"
        for path in sources("examples")
        for found in imports(path)
        if found.relative and layer_of(found.target) != "examples"
    ]
    assert not wrong, "\n".join(wrong)


def test_importing_holdfast_imports_no_example() -> None:
    """The front door's names come from the layers; the examples are for the CLI alone."""
    front = imports(ROOT / FRONT_DOOR / "__init__.py")
    assert "examples" not in {layer_of(found.target) for found in front}


@pytest.mark.parametrize("folder", [FRONT_DOOR, *layers(), "bench", "tests"])
def test_folders_are_never_imported_by_their_bare_name(folder: str) -> None:
    """`import storage` would load a second copy of the module beside `holdfast.storage`."""
    wrong = [
        f"{place(path, found.line)} imports {found.target}"
        for path in sources(folder)
        for found in imports(path)
        if not found.relative and found.target.partition(".")[0] in RANK
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("folder", [FRONT_DOOR, *layers(), "bench"])
def test_no_module_is_named_after_the_standard_library(folder: str) -> None:
    """A module of ours never hides one of Python's, nor confuses who reads an import."""
    names = {path.stem for path in sources(folder)} | {path.parent.name for path in sources(folder)}
    assert not names & sys.stdlib_module_names


@pytest.mark.parametrize("folder", [FRONT_DOOR, *layers(), "bench"])
def test_data_is_never_code(folder: str) -> None:
    """Nothing that is stored or received can be run: no pickle, no marshal, no eval."""
    wrong = [
        f"{place(path, found.line)} imports {found.target}"
        for path in sources(folder)
        for found in imports(path)
        if found.target.partition(".")[0] in CODE_FROM_DATA
    ]
    wrong += [
        f"{place(path, node.lineno)} calls {node.func.id}"
        for path in sources(folder)
        for node in ast.walk(ast.parse(path.read_bytes(), str(path)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}
    ]
    assert not wrong, "\n".join(wrong)


def settings(tool: str) -> dict[str, object]:
    """The table `[tool.<tool>]` of pyproject.toml."""
    table: dict[str, object] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"][tool]
    return table


def test_every_folder_is_packaged() -> None:
    """pyproject.toml lists exactly the package folders on disk, and each folder with code is a package."""
    folders = {path.parent for layer in layers() for path in sources(layer)}
    on_disk = {FRONT_DOOR} | {".".join((FRONT_DOOR, *folder.relative_to(ROOT).parts)) for folder in folders}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert settings("setuptools")["packages"] == sorted(on_disk)


def test_every_folder_is_mapped() -> None:
    """pyproject.toml says for each top folder where it lies."""
    expected = {FRONT_DOOR: FRONT_DOOR} | {f"{FRONT_DOOR}.{layer}": layer for layer in layers()}
    assert settings("setuptools")["package-dir"] == expected


def test_every_folder_has_its_link() -> None:
    """The front door holds one relative link per top folder, and no other folder."""
    links = {path.name: str(path.readlink()) for path in (ROOT / FRONT_DOOR).iterdir() if path.is_symlink()}
    assert links == {layer: f"../{layer}" for layer in layers()}


def test_every_link_is_type_checked() -> None:
    """pyright follows a link only when its settings name it."""
    links = [f"{FRONT_DOOR}/{layer}" for layer in sorted(layers())]
    expected = [FRONT_DOOR, *links, "tests", "bench", "_holdfast_pytestplugin.py"]
    assert settings("pyright")["include"] == expected


def test_every_top_folder_has_a_rank() -> None:
    """A new package beside the others is a layer, and has to be given its place here."""
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {FRONT_DOOR, "bench", "tests"} == set(layers())
