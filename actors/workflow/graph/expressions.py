"""Expressions, in the order in which they are worked out: what is awaited, called, chosen, gone through."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final, TypeAlias

from .draft import Loose
from .operations import operation
from .scope import Function
from .source_text import setting, short

if TYPE_CHECKING:
    from .walk import Walk

_Comprehension: TypeAlias = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_GIVEN_ON: Final = frozenset({"asyncio.shield", "asyncio.ensure_future"})
_SPAWNS: Final = frozenset({"create_task", "ensure_future"})
_SOON: Final = frozenset({"start_soon"})


class Expressions:
    """Adds what expressions do to the draft."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._draft = walk.draft

    def visit(self, node: ast.AST) -> None:
        """What an expression does that isn't awaited."""
        if not self._walk.shown(node):
            return
        if isinstance(node, ast.Await):
            self.awaited(node.value)
        elif isinstance(node, ast.Call):
            self._call(node, awaited=False)
        elif isinstance(node, ast.IfExp):
            self._choose(node, awaited=False)
        elif isinstance(node, ast.BoolOp):
            self._either(node)
        elif isinstance(node, _Comprehension):
            self._comprehension(node)
        elif isinstance(node, (ast.Lambda, ast.Name, ast.Attribute)):
            self._named(node)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                for part in (key, value):
                    if part is not None:
                        self.visit(part)
        else:
            for child in ast.iter_child_nodes(node):
                self.visit(child)

    def awaited(self, node: ast.expr) -> None:
        """What an expression does that is awaited: at least one node."""
        if isinstance(node, ast.Call):
            self._call(node, awaited=True)
        elif isinstance(node, ast.IfExp):
            self._choose(node, awaited=True)
        elif isinstance(node, ast.NamedExpr):
            self.awaited(node.value)
        else:
            self.visit(node)
            self._draft.add("await", f"await {short(node)}", node)

    # -- calls -----------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, *, awaited: bool) -> None:
        scope = self._walk.scope
        found = operation(node, scope)
        if found is not None:
            for part in found.before:
                self.visit(part)
            self._draft.add(
                found.kind, found.text, node, name=found.name, settings=found.settings,
                begins=found.waits and not awaited,
            )  # fmt: skip
            if found.kind == "continue":
                self._draft.loose = []
            return
        full = scope.full_name(node.func) or ""
        if self._walk.parallel.is_parallel(full) and self._walk.parallel.together(
            node, full, awaited=awaited
        ):
            return
        if full == "asyncio.wait_for" and node.args and awaited:
            self._within(node)
            return
        spawned = spawned_call(node)
        if full in _GIVEN_ON and node.args:
            spawned = node.args[0]
        if spawned is not None:
            if awaited:
                self.awaited(spawned)
            else:
                self.visit(spawned)
            return
        function = scope.function(node.func, node)
        if function is not None:
            self._arguments(node)
            self.call_function(function, node, awaited=awaited)
            return
        self.visit(node.func)
        self._arguments(node)
        if awaited:
            self._draft.add("await", f"await {short(node)}", node)

    def _arguments(self, node: ast.Call) -> None:
        for part in (*node.args, *node.keywords):
            self.visit(part)

    def call_function(self, function: Function, call: ast.expr, *, awaited: bool) -> None:
        """A function of the flow is called (or its coroutine is only made, if it isn't awaited)."""
        walk = self._walk
        is_async = isinstance(function.node, ast.AsyncFunctionDef)
        text = short(call)
        if not walk.shows.function(function):
            if awaited and is_async:
                self._draft.add("call", text, call, name=function.name)
            elif awaited:
                self._draft.add("await", f"await {text}", call)
        elif is_async and not awaited:
            walk.draw_apart(function, call, text, begins=True)
        elif walk.may_draw_in_place(function):
            walk.draw_in_place(function, call, text, awaits_result=awaited and not is_async)
        else:
            walk.draw_apart(function, call, text, begins=False)

    def _named(self, node: ast.Lambda | ast.Name | ast.Attribute) -> None:
        """A function of the flow is handed to somebody who may call it."""
        function = self._walk.scope.function(node)
        if function is not None and self._walk.shows.function(function):
            text = "lambda" if isinstance(node, ast.Lambda) else short(node)
            self._walk.draw_apart(function, node, f"{text}, called by another", begins=True)
        elif isinstance(node, ast.Attribute):
            self.visit(node.value)

    def _within(self, node: ast.Call) -> None:
        """`asyncio.wait_for(something, timeout)`."""
        limit = node.args[1] if len(node.args) > 1 else next(
            (one.value for one in node.keywords if one.arg == "timeout"), None
        )  # fmt: skip
        draft = self._draft
        draft.open_block("timeout")
        settings = {} if limit is None else {"seconds": setting(limit)}
        draft.add("timeout", "time limit", node, settings=settings)
        self.awaited(node.args[0])
        draft.close_block()

    # -- choices and repetitions -----------------------------------------------------------------------------

    def _choose(self, node: ast.IfExp, *, awaited: bool) -> None:
        visit = self.awaited if awaited else self.visit
        draft = self._draft
        self.visit(node.test)
        head = draft.add("branch", short(node.test), node.test)
        ends: list[Loose] = []
        for label, arm in (("yes", node.body), ("no", node.orelse)):
            draft.loose = [Loose(head, "next", label)]
            draft.open_block("arm")
            visit(arm)
            draft.close_block()
            ends += draft.loose
        draft.loose = ends

    def _either(self, node: ast.BoolOp) -> None:
        """`a and b`, `a or b`: b is worked out or not."""
        draft = self._draft
        goes_on, ends = ("yes", "no") if isinstance(node.op, ast.And) else ("no", "yes")
        skipped: list[Loose] = []
        for number, value in enumerate(node.values):
            rest = node.values[number:]
            if number and not self._walk.shown(*rest):
                break
            if number and self._walk.shown(value):
                head = draft.add("branch", short(_both(node, number)), node)
                skipped.append(Loose(head, "next", ends))
                draft.loose = [Loose(head, "next", goes_on)]
            self.visit(value)
        draft.loose += skipped

    def _comprehension(self, node: _Comprehension) -> None:
        elements = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        self._generators(node.generators, elements)

    def _generators(self, generators: list[ast.comprehension], elements: list[ast.expr]) -> None:
        if not generators:
            for element in elements:
                self.visit(element)
            return
        draft = self._draft
        first, *others = generators
        self.visit(first.iter)
        inside = [*first.ifs, *others, *elements]
        if not self._walk.shown(*inside):
            return
        draft.open_block("loop")
        head = draft.add("loop", loop_text(first), first.iter)
        skipped: list[Loose] = []
        for condition in first.ifs:
            self.visit(condition)
            test = draft.add("branch", short(condition), condition)
            skipped.append(Loose(test, "next", "no"))
            draft.loose = [Loose(test, "next", "yes")]
        self._generators(others, elements)
        draft.loose += skipped
        draft.connect(head, again=True)
        draft.loose = [Loose(head, "next", "done")]
        draft.close_block()


def loop_text(node: ast.comprehension | ast.For | ast.AsyncFor) -> str:
    """`for x in items`."""
    is_async = isinstance(node, ast.AsyncFor) or (isinstance(node, ast.comprehension) and node.is_async)
    return f"{'async ' if is_async else ''}for {short(node.target, 30)} in {short(node.iter, 50)}"


def spawned_call(node: ast.expr) -> ast.expr | None:
    """What `create_task(...)` of asyncio or of a group is given."""
    if isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Attribute):
        if node.func.attr in _SPAWNS:
            return node.args[0]
        if node.func.attr in _SOON:
            return ast.copy_location(ast.Call(node.args[0], node.args[1:], []), node)
    return None


def _both(node: ast.BoolOp, number: int) -> ast.expr:
    """The first operands of `and` or `or`."""
    return node.values[0] if number == 1 else ast.BoolOp(node.op, node.values[:number])
