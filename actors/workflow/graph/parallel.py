"""Branches side by side: `asyncio.gather` and its like, groups of steps, task groups."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from .draft import Loose
from .expressions import loop_text, spawned_call
from .place import end_of
from .source_text import setting, short

if TYPE_CHECKING:
    from .walk import Walk

_TOGETHER: Final = frozenset({"asyncio.gather", "asyncio.wait", "asyncio.as_completed"})
_TASK_GROUPS: Final = frozenset({"asyncio.TaskGroup", "anyio.create_task_group"})


class Parallel:
    """Adds forks, branches and joins to the draft."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._draft = walk.draft

    # -- asyncio.gather, wait, as_completed ------------------------------------------------------------------

    def is_parallel(self, full_name: str) -> bool:
        """Whether a function takes what it is given side by side."""
        return full_name in _TOGETHER

    def together(self, node: ast.Call, full_name: str, *, awaited: bool) -> bool:
        """A call such as `asyncio.gather(a, b)`; False when it has to be looked at as any other call."""
        branches = [part for argument in node.args for part in _parts(argument)]
        draft, walk = self._draft, self._walk
        if not walk.shown(*branches):
            if awaited:
                draft.add("join", short(node), node)
            return awaited
        if not awaited and full_name != "asyncio.as_completed":
            return False
        draft.open_block("parallel")
        fork = draft.add("fork", "in parallel", node)
        ends: list[Loose] = []
        for branch in branches:
            ends += self._arm(branch, [Loose(fork)])
        draft.loose = ends
        settings = {one.arg or "**": setting(one.value) for one in node.keywords}
        when = settings.pop("return_when", None)
        text = "as each is done" if full_name == "asyncio.as_completed" else "all done"
        if when is not None:
            text = when.source.rpartition(".")[2].lower().replace("_", " ")
        draft.add("join", text, node, settings=settings)
        draft.close_block()
        return True

    def _arm(self, node: ast.expr, base: list[Loose]) -> list[Loose]:
        """One branch, beside others; its ends."""
        draft = self._draft
        draft.loose = [one._replace(kind="parallel") for one in base]
        draft.open_block("arm")
        self._branch(node)
        draft.close_block()
        return draft.loose

    def _branch(self, node: ast.expr) -> None:
        """One branch, from the fork to its end."""
        expressions, draft = self._walk.expressions, self._draft
        while isinstance(node, ast.Starred):
            node = node.value
        spawned = spawned_call(node)
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
            for generator in node.generators:
                expressions.visit(generator.iter)
                conditions = "".join(f" if {short(one, 40)}" for one in generator.ifs)
                draft.add("each", loop_text(generator) + conditions, generator.iter)
            self._branch(node.elt)
        elif spawned is not None:
            self._branch(spawned)
        elif self._maps(node):
            assert isinstance(node, ast.Call)
            draft.add("each", f"for each of {', '.join(short(one, 40) for one in node.args[1:])}", node)
            self._branch(ast.copy_location(ast.Call(node.args[0], [], []), node.args[0]))
        elif isinstance(node, ast.Call) or self._walk.shown(node):
            expressions.awaited(node)
        else:
            draft.add("await", short(node), node)

    def _maps(self, node: ast.expr) -> bool:
        """`map(function, items)` with a function of the flow."""
        return (
            isinstance(node, ast.Call)
            and self._walk.scope.full_name(node.func) == "map"
            and len(node.args) > 1
            and self._walk.scope.function(node.args[0]) is not None
        )

    # -- groups ----------------------------------------------------------------------------------------------

    def is_group(self, node: ast.expr) -> bool:
        """Whether an expression, given to `async with`, is a group."""
        if not isinstance(node, ast.Call):
            return False
        function, scope = node.func, self._walk.scope
        if (
            isinstance(function, ast.Attribute)
            and function.attr == "group"
            and scope.is_context(function.value)
        ):
            return True
        return scope.full_name(function) in _TASK_GROUPS

    def group(self, node: ast.AsyncWith, item: ast.withitem, body: list[ast.stmt]) -> None:
        """`async with self.group() as g`: what is begun at the top of its body are branches."""
        draft = self._draft
        variable = item.optional_vars.id if isinstance(item.optional_vars, ast.Name) else None
        draft.open_block("parallel")
        draft.add("fork", "in parallel", item.context_expr)
        ends: list[Loose] = []
        # What the branches were begun behind: it is joined by them, if nothing else comes.
        begun_behind: list[Loose] | None = None
        for statement in body:
            if variable is not None and self._begins(statement, variable):
                base = draft.loose
                self._begun(statement, base, ends)
                draft.loose = begun_behind = base
            else:
                self._walk.statements.one(statement)
        if draft.loose != begun_behind:
            ends += draft.loose
        draft.loose = ends
        if ends:
            draft.add("join", "all done", end_of(node))
        draft.close_block()

    def _begun(self, statement: ast.stmt, base: list[Loose], ends: list[Loose]) -> None:
        """The branch, or branches, of a statement."""
        draft = self._draft
        if isinstance(statement, ast.For):
            draft.loose = [one._replace(kind="parallel") for one in base]
            self._walk.expressions.visit(statement.iter)
            draft.add("each", loop_text(statement), statement.iter)
            inner = draft.loose
            for one in statement.body:
                self._begun(one, inner, ends)
            return
        value = _value(statement)
        assert value is not None
        ends += self._arm(value, base)

    def _begins(self, statement: ast.stmt, variable: str) -> bool:
        """Whether all that a statement does is to begin branches of a group."""
        if isinstance(statement, ast.For):
            return not statement.orelse and all(self._begins(one, variable) for one in statement.body)
        value = _value(statement)
        if isinstance(value, (ast.ListComp, ast.SetComp, ast.GeneratorExp)):
            value = value.elt
        function = value.func if isinstance(value, ast.Call) else None
        return (
            isinstance(function, ast.Attribute)
            and isinstance(function.value, ast.Name)
            and function.value.id == variable
            and (function.attr == "step" or spawned_call(value or function) is not None)
        )


def _parts(node: ast.expr) -> list[ast.expr]:
    """The elements of a list that is written out, or the expression itself."""
    inner = node.value if isinstance(node, ast.Starred) else node
    if isinstance(inner, (ast.List, ast.Tuple, ast.Set)):
        return [part for element in inner.elts for part in _parts(element)]
    return [node]


def _value(statement: ast.stmt) -> ast.expr | None:
    """What a statement works out; of `tasks.append(group.create_task(...))`, the task."""
    value: ast.expr | None = None
    if isinstance(statement, (ast.Expr, ast.Assign, ast.AnnAssign)):
        value = statement.value
    if (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr == "append"
        and len(value.args) == 1
    ):
        return value.args[0]
    return value
