"""Whether a part of the source has anything that a graph shows.

An `if` in which nothing happens but assignments is left out: it changes what is decided later, and the flow
as little as the assignments do.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import NamedTuple

from ..module_names import FunctionNode
from .operations import operation
from .scope import Function, Scope


class _Asked(NamedTuple):
    node: ast.AST
    # `return`, `raise`, `break` and `continue` count, since they change where the flow goes on ...
    jumps: bool
    # ... but for those of a loop that has nothing else.
    own_loop: bool


class Shows:
    """Remembers what was asked, so that nested statements aren't looked at again for each level."""

    def __init__(self) -> None:
        self._known: dict[_Asked, bool] = {}
        self._asking: set[ast.AST] = set()

    def any(
        self, nodes: Iterable[ast.AST], scope: Scope, *, jumps: bool = True, own_loop: bool = False
    ) -> bool:
        """Whether one of the nodes is to be shown."""
        return any(self._ask(_Asked(node, jumps, own_loop), scope) for node in nodes)

    def function(self, function: Function) -> bool:
        """Whether something happens in a function: that it returns is nothing."""
        if function.node in self._asking:  # it calls itself: the rest of it decides
            return False
        self._asking.add(function.node)
        try:
            node = function.node
            body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
            return self.any(body, function.scope, jumps=False)
        finally:
            self._asking.discard(function.node)

    def _ask(self, asked: _Asked, scope: Scope) -> bool:
        known = self._known.get(asked)
        if known is None:
            known = self._look(asked, scope)
            if not self._asking:  # what was asked within a circle may be half an answer
                self._known[asked] = known
        return known

    def _look(self, asked: _Asked, scope: Scope) -> bool:  # one case after the other
        node, jumps, own_loop = asked
        if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith)):
            return True
        if isinstance(node, (ast.Return, ast.Raise)) and jumps:
            return True
        if isinstance(node, (ast.Break, ast.Continue)):
            return jumps and not own_loop
        if isinstance(node, (FunctionNode, ast.ClassDef)):
            return False
        if isinstance(node, (ast.For, ast.While)):
            head = node.iter if isinstance(node, ast.For) else node.test
            return (
                self.any([head], scope)
                or self.any(node.body, scope, jumps=jumps, own_loop=True)
                or self.any(node.orelse, scope, jumps=jumps, own_loop=own_loop)
            )
        if isinstance(node, ast.Call) and operation(node, scope) is not None:
            return True
        if isinstance(node, (ast.Lambda, ast.Name, ast.Attribute)):
            function = scope.function(node)
            if function is not None:
                return self.function(function)
        return self.any(ast.iter_child_nodes(node), scope, jumps=jumps, own_loop=own_loop)
