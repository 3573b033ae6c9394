"""What names mean at one place of the source: the workflow, functions of the flow, actors.

The workflow is known by a name: `self` in its methods, the first parameter (commonly `wf`) of a function that
is a workflow, and whatever parameter of another function it is given as.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from ..module_names import FunctionNode, ModuleNames, stored_names
from .source_text import short

AnyFunction: TypeAlias = FunctionNode | ast.Lambda
# Variables and methods that are followed to see which actor they stand for; code may go in circles.
_MAX_STEPS_TO_ACTOR: Final = 4
_UNBOUND: Final = frozenset({"staticmethod", "classmethod"})


class Method(NamedTuple):
    """A method of the workflow, and the module that it is written in."""

    node: FunctionNode
    module: ModuleNames


class Function(NamedTuple):
    """A function of the flow, with what its body sees."""

    name: str
    node: AnyFunction
    scope: Scope


class Scope:
    """The names that the body of one function sees."""

    def __init__(
        self,
        module: ModuleNames,
        methods: Mapping[str, Method],
        node: AnyFunction,
        owner: str,
        contexts: frozenset[str],
        outer: Scope | None = None,
    ) -> None:
        self.module = module
        self.methods = methods
        self.owner = owner
        arguments = node.args
        parameters = {
            one.arg
            for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg,
                        arguments.kwarg)
            if one is not None
        }  # fmt: skip
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        stored = {name for part in body for name in stored_names(part)}
        outer_contexts = frozenset[str]() if outer is None else outer.contexts - parameters
        self.contexts: frozenset[str] = contexts | outer_contexts
        self.nested: dict[str, FunctionNode] = {
            one.name: one for part in body for one in ast.walk(part) if isinstance(one, FunctionNode)
        }
        self.local: frozenset[str] = frozenset((parameters | stored) - self.nested.keys()) | (
            frozenset[str]() if outer is None else outer.local
        )
        self.outer = outer
        self._body = body

    # -- the workflow ----------------------------------------------------------------------------------------

    def is_context(self, node: ast.expr) -> bool:
        """Whether an expression is the workflow."""
        return isinstance(node, ast.Name) and node.id in self.contexts

    def full_name(self, node: ast.expr) -> str | None:
        """The dotted name of an expression that is no local variable."""
        return self.module.full_name(node, self.local)

    # -- functions of the flow -------------------------------------------------------------------------------

    def function(self, node: ast.expr, call: ast.Call | None = None) -> Function | None:
        """The function with a known source that an expression names; None for any other."""
        if isinstance(node, ast.Lambda):
            return Function(f"lambda of line {node.lineno}", node, self._inside(node, self))
        if isinstance(node, ast.Attribute) and self.is_context(node.value):
            method = self.methods.get(node.attr)
            if method is None or node.attr == "run":
                return None
            contexts = method_context(method.node) or self._given(method.node, call)
            scope = Scope(method.module, self.methods, method.node, self.owner, contexts)
            return Function(f"{self.owner}.{node.attr}", method.node, scope)
        if not isinstance(node, ast.Name) or node.id in self.local:
            return None
        holder: Scope | None = self
        while holder is not None:
            nested = holder.nested.get(node.id)
            if nested is not None:
                return Function(node.id, nested, self._inside(nested, holder, call))
            holder = holder.outer
        of_module = self.module.functions.get(node.id)
        if of_module is None:
            return None
        contexts = self._given(of_module, call)
        return Function(node.id, of_module, Scope(self.module, self.methods, of_module, self.owner, contexts))

    def _inside(self, node: AnyFunction, outer: Scope, call: ast.Call | None = None) -> Scope:
        return Scope(self.module, self.methods, node, self.owner, self._given(node, call), outer)

    def _given(self, node: AnyFunction, call: ast.Call | None) -> frozenset[str]:
        """The parameters that get the workflow in a call."""
        if call is None:
            return frozenset()
        names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
        given = {name for name, value in zip(names, call.args, strict=False) if self.is_context(value)}
        given |= {one.arg for one in call.keywords if one.arg is not None and self.is_context(one.value)}
        return frozenset(given)

    # -- actors ----------------------------------------------------------------------------------------------

    def actor(self, node: ast.expr, steps: int = 0) -> str | None:
        """The type of actor that an expression is a ref of; None when the source doesn't tell."""
        if steps > _MAX_STEPS_TO_ACTOR:
            return None
        if isinstance(node, ast.Name):
            return self._variable(node.id, steps)
        if not isinstance(node, ast.Call):
            return None
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == "get" and node.args:
            on = function.value
            if isinstance(on, ast.Attribute) and on.attr == "runtime" and self.is_context(on.value):
                return short(node.args[0])
        # A method that only gives a ref: `def _store(self): return self.runtime.get(Store, "all")`.
        found = self.function(function, node)
        if found is None or not isinstance(found.node, ast.FunctionDef):
            return None
        *before, last = found.node.body
        if not isinstance(last, ast.Return) or last.value is None:
            return None
        return found.scope.actor(last.value, steps + 1) if all(map(_is_text, before)) else None

    def _variable(self, name: str, steps: int) -> str | None:
        """The actor that all assignments of a variable give."""
        values = [value for part in self._body for target, value in _assignments(part) if target == name]
        if not values:
            return None if self.outer is None else self.outer.actor(ast.Name(name), steps + 1)
        kinds = {None if value is None else self.actor(value, steps + 1) for value in values}
        return kinds.pop() if len(kinds) == 1 else None


def method_context(node: FunctionNode) -> frozenset[str]:
    """The name by which a method knows the workflow."""
    plain = not any(isinstance(one, ast.Name) and one.id in _UNBOUND for one in node.decorator_list)
    names = [one.arg for one in (*node.args.posonlyargs, *node.args.args)]
    return frozenset(names[:1]) if plain else frozenset()


def _assignments(tree: ast.AST) -> Iterator[tuple[str, ast.expr | None]]:
    """Each name that a tree assigns, with the expression where it is a plain assignment."""
    plain: set[int] = set()
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            targets, value = [node.target], node.value
        pairs = [(target, value) for target in targets]
        if len(targets) == 1 and isinstance(targets[0], ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(targets[0].elts, value.elts, strict=False))
        for target, one in pairs:
            if isinstance(target, ast.Name):
                plain.add(id(target))
                yield target.id, one
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in plain:
            yield node.id, None


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
