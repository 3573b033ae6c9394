"""The names of one module, as its source has them: imports, functions, classes, variables.

What looks at the source of workflows (`lint.py`, the folder graph/) asks here what a name stands for, and
which methods a class has.  Nothing is imported and nothing is run.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final, TypeAlias

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_WORKFLOW: Final = "Workflow"
_DECORATOR: Final = "workflow"


class ModuleNames:
    """The names of one module: what is imported, defined and assigned at its top."""

    def __init__(self, tree: ast.Module, file: str) -> None:
        self.file = file
        self.imports: dict[str, str] = {}
        self.functions: dict[str, FunctionNode] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self.variables: set[str] = set()
        for node in _top(tree.body):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self.imports.update(imported_names(node))
            elif isinstance(node, FunctionNode):
                self.functions[node.name] = node
            elif isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            else:
                self.variables |= stored_names(node)

    def methods(self, class_name: str) -> dict[str, FunctionNode]:
        """Methods of a class and of its bases in this module."""
        found: dict[str, FunctionNode] = {}
        for name in reversed(self.line(class_name)):
            for node in self.classes[name].body:
                if isinstance(node, FunctionNode):
                    found[node.name] = node
        return found

    def line(self, class_name: str) -> list[str]:
        """A class and its bases in this module, nearest first."""
        names = [class_name]
        for name in names:
            for base in self.classes[name].bases:
                if isinstance(base, ast.Name) and base.id in self.classes and base.id not in names:
                    names.append(base.id)
        return names

    def workflows(self) -> list[str]:
        """The classes with a run() and the functions that are workflows."""
        classes = [name for name in self.classes if self.is_workflow(name)]
        return classes + [name for name in self.functions if self.is_workflow_function(name)]

    def is_workflow(self, class_name: str) -> bool:
        """Whether a class has a run(), and a base called Workflow, or at least a run() with steps."""
        run = self.methods(class_name).get("run")
        if run is None:
            return False
        for name in self.line(class_name):
            for base in self.classes[name].bases:
                while isinstance(base, ast.Subscript):  # a generic base
                    base = base.value
                full = self.full_name(base, frozenset()) or ""
                if full.rpartition(".")[2] == _WORKFLOW:
                    return True
        # A base of another module: it is a workflow if run() has steps.
        return isinstance(run, ast.AsyncFunctionDef) and any(
            isinstance(node, ast.Call) and is_step(node) for node in ast.walk(run)
        )

    def is_workflow_function(self, name: str) -> bool:
        """Whether a function is a workflow: it is decorated with something called workflow."""
        decorators = self.functions[name].decorator_list
        called = [one.func if isinstance(one, ast.Call) else one for one in decorators]
        full = [self.full_name(one, frozenset()) or "" for one in called]
        return any(one.rpartition(".")[2] == _DECORATOR for one in full)

    def full_name(self, node: ast.expr, local: frozenset[str]) -> str | None:
        """The dotted name of an expression, with what was imported under its own name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in local:
            return None
        return ".".join([self.imports.get(node.id, node.id), *reversed(parts)])


def imported_names(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Names that an import binds, with what they stand for."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: alias.name
            if alias.asname
            else alias.name.partition(".")[0]
            for alias in node.names
        }
    module = "." * node.level + (node.module or "")
    return {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}


def stored_names(tree: ast.AST) -> set[str]:
    """Names that are assigned anywhere in a tree."""
    return {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }


def is_step(node: ast.Call) -> bool:
    """Whether a call makes a step: of the workflow, or of a group."""
    return isinstance(node.func, ast.Attribute) and node.func.attr == "step"


def _top(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements at the top of a module, those under `if` and `try` too."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _top([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            yield from _top([*node.body, *node.orelse, *node.finalbody])
            for handler in node.handlers:
                yield from _top(handler.body)
        else:
            yield node
