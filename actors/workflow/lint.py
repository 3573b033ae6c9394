"""`holdfast lint`: what run() does outside of steps that replay would do otherwise, or once more.

It reads source and runs none of it.  For each workflow of a module it looks at run(), and from there at the
methods of the class and the functions of the module that are called by name.  What is given to `step` is a
step's body and may do as it likes.  What it can't see: code of other modules, and calls through variables;
the guard for tests (testing/replay_guard.py) sees those.

A line that ends with the comment `# holdfast: allow` is left out.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from ...runtime.error_text import error_text
from ...storage.errors import CallerError
from .lint_rules import CHANGING, METHODS, NAMES, SETS, SHARED, Rule, rule_of
from .module_names import FunctionNode, ModuleNames, imported_names, is_step, stored_names

ALLOW: Final = "# holdfast: allow"
# Calls that keep the order of what they are given.
_GOING_THROUGH: Final = frozenset({"enumerate", "iter", "list", "map", "tuple", "zip"})


class Finding(NamedTuple):
    """One thing that run() should not do, with the place where it does."""

    file: str
    line: int
    column: int
    function: str
    does: str
    rule: Rule

    def __str__(self) -> str:
        return (
            f"{self.file}:{self.line}:{self.column}: {self.function} {self.does}: {self.rule.why}; use "
            f"{self.rule.instead}"
        )


def lint_targets(targets: Iterable[str]) -> list[Finding]:
    """Look at files, folders (all Python files below) and modules, by path or by name.

    Raises `CallerError` when there is no such thing, when a folder has no Python file, and when a file can't
    be read as Python.
    """
    findings: list[Finding] = []
    for target in targets:
        files = _files(target)
        if not files:
            raise CallerError(f"there is no Python file in folder {target!r}, so nothing was looked at")
        for file in files:
            try:
                source = file.read_text(encoding="utf-8")
                findings += lint_source(source, str(file))
            except (OSError, SyntaxError, ValueError) as error:
                raise CallerError(f"{file} can't be read as Python: {error}") from error
    return findings


def lint_source(source: str, file: str, *, only: str | None = None) -> list[Finding]:
    """Look at the workflows of one module's source, or at `only` one; raises `SyntaxError`."""
    module = ModuleNames(ast.parse(source, file), file)
    lines = source.splitlines()
    names = [*module.classes, *module.functions] if only is None else [only]
    found = {finding for name in names for finding in _look_at(module, name)}
    return sorted(one for one in found if not lines[one.line - 1].rstrip().endswith(ALLOW))


def _files(target: str) -> list[Path]:
    path = Path(target)
    if path.is_dir():
        below = sorted(path.rglob("*.py"))
        return [file for file in below if not any(part[0] == "." for part in file.relative_to(path).parts)]
    if path.is_file():
        return [path]
    try:
        spec = importlib.util.find_spec(target)
    except (ImportError, ValueError) as error:
        raise CallerError(f"there is neither a path nor a module {target!r}: {error}") from error
    except (Exception, SystemExit) as error:  # of the code of a package above it, which is imported for that
        raise CallerError(f"importing the package of {target!r} raised {error_text(error)}") from error
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise CallerError(f"there is neither a path nor a module with a source {target!r}")
    if spec.submodule_search_locations:
        return [file for folder in spec.submodule_search_locations for file in _files(folder)]
    return [Path(spec.origin)]


def _look_at(module: ModuleNames, name: str) -> Iterator[Finding]:
    """What a workflow does, a class or a function, with what it calls by name; nothing when it is none."""
    if name in module.classes and module.is_workflow(name):
        methods = module.methods(name)
        own = {f"{name}.{one}": method for one, method in methods.items()}
        yield from _follow(module, f"{name}.run", methods["run"], own)
    elif name in module.functions and module.is_workflow_function(name):
        yield from _follow(module, name, module.functions[name], {})


def _follow(
    module: ModuleNames, name: str, function: FunctionNode, methods: dict[str, FunctionNode]
) -> Iterator[Finding]:
    """What a function does, and what it calls by name."""
    prefix = name.rpartition(".")[0]
    waiting = [(name, function, True)]
    seen: set[FunctionNode] = set()
    while waiting:
        name, function, has_self = waiting.pop()
        if function in seen:
            continue
        seen.add(function)
        body = _Body(module, name, function, has_self=has_self)
        yield from body.findings
        own = [f"{prefix}.{one}" for one in body.methods]
        waiting += [(one, methods[one], True) for one in own if one in methods]
        waiting += [(one, module.functions[one], False) for one in body.functions if one in module.functions]


class _Body(ast.NodeVisitor):
    """What one function does by itself, outside of steps, and what it calls by name."""

    def __init__(self, module: ModuleNames, name: str, function: FunctionNode, *, has_self: bool) -> None:
        self.findings: list[Finding] = []
        self.methods: list[str] = []
        self.functions: list[str] = []
        self._module = module
        self._name = name
        arguments = function.args
        given = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        self._self = given[0].arg if given and has_self else None
        self._global = {
            one for node in ast.walk(function) if isinstance(node, ast.Global) for one in node.names
        }
        imported: set[str] = set()
        for node in ast.walk(function):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imported |= set(imported_names(node))
                module.imports.update(imported_names(node))
        names = stored_names(function)
        names |= {one.arg for one in ast.walk(function) if isinstance(one, ast.arg)}
        self._local = frozenset(names - self._global - imported)
        # Functions within it that are given to steps.
        self._bodies = {
            call.args[0].id
            for call in ast.walk(function)
            if isinstance(call, ast.Call)
            and is_step(call)
            and call.args
            and isinstance(call.args[0], ast.Name)
        }
        for statement in function.body:
            self.visit(statement)

    def _found(self, node: ast.expr | ast.stmt, does: str, rule: Rule) -> None:
        self.findings.append(
            Finding(self._module.file, node.lineno, node.col_offset + 1, self._name, does, rule)
        )

    # -- calls ---------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        if is_step(node) and node.args:
            body = node.args[0]
            if isinstance(body, ast.Call):  # a partial: what it holds is made here
                for argument in body.args:
                    self.visit(argument)
            self.visit(node.func)
            for part in (*node.args[1:], *node.keywords):
                self.visit(part)
            return
        name = self._module.full_name(node.func, self._local)
        if name is not None:
            rule = rule_of(name, len(node.args) + len(node.keywords))
            if rule is not None and not (name in self._module.functions or name in self._module.classes):
                self._found(node, f"calls {name}()", rule)
            elif "." not in name:
                self.functions.append(name)
                if name in _GOING_THROUGH:
                    for argument in node.args:
                        self._iterated(argument)
        if isinstance(node.func, ast.Attribute):
            self._method(node, node.func)
        self.generic_visit(node)

    def _method(self, node: ast.Call, function: ast.Attribute) -> None:
        on = function.value
        if isinstance(on, ast.Name) and on.id == self._self:
            self.methods.append(function.attr)
        elif isinstance(on, ast.Attribute) and on.attr == "actions":
            pass  # an action by name, that is a step
        elif function.attr in METHODS:
            self._found(node, f"calls .{function.attr}()", METHODS[function.attr])
        elif function.attr in CHANGING and self._is_shared(on, variables_only=True):
            self._found(node, f"changes {ast.unparse(on)}", SHARED)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self._module.full_name(node, self._local)
        if name in NAMES:
            self._found(node, f"reads {name}", NAMES[name])
        if isinstance(node.ctx, (ast.Store, ast.Del)) and self._is_shared(node.value, variables_only=False):
            self._found(node, f"writes {ast.unparse(node)}", SHARED)
        self.generic_visit(node)

    # -- state that others see -----------------------------------------------------------------------------

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, (ast.Store, ast.Del)) and node.id in self._global:
            self._found(node, f"writes the global {node.id}", SHARED)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, (ast.Store, ast.Del)) and self._is_shared(node.value, variables_only=False):
            self._found(node, f"writes {ast.unparse(node)}", SHARED)
        self.generic_visit(node)

    def _is_shared(self, node: ast.expr, *, variables_only: bool) -> bool:
        """Whether an expression is of the module or the class, and not of the run."""
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            if isinstance(node, ast.Attribute) and node.attr == "__class__":
                return True
            return self._is_shared(node.value, variables_only=variables_only)
        if isinstance(node, ast.Call):  # type(self).x = ...
            return isinstance(node.func, ast.Name) and node.func.id == "type"
        if not isinstance(node, ast.Name) or node.id in self._local:
            return False
        module = self._module
        if node.id in module.variables or node.id in self._global:
            return True
        return not variables_only and (node.id in module.classes or node.id in module.imports)

    # -- order ---------------------------------------------------------------------------------------------

    def visit_For(self, node: ast.For) -> None:
        self._iterated(node.iter)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._iterated(node.iter)
        self.generic_visit(node)

    def _iterated(self, node: ast.expr) -> None:
        is_set = isinstance(node, (ast.Set, ast.SetComp)) or (
            isinstance(node, ast.Call)
            and self._module.full_name(node.func, self._local) in ("set", "frozenset")
        )
        if is_set:
            self._found(node, "goes through a set", SETS)

    # -- functions within it -------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._inner(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._inner(node)

    def _inner(self, node: FunctionNode) -> None:
        if node.name not in self._bodies:
            for statement in node.body:
                self.visit(statement)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)
