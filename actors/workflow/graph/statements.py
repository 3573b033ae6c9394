"""Statements, one after the other: branches, loops, what guards what, and jumps."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

from .draft import FinallyFrame, FunctionFrame, LoopFrame, Loose
from .expressions import loop_text
from .operations import operation
from .place import lines
from .source_text import setting, short

if TYPE_CHECKING:
    from .walk import Walk

_TIMEOUTS: Final = frozenset(
    {"asyncio.timeout", "asyncio.timeout_at", "anyio.fail_after", "anyio.move_on_after"}
)
_GOES_ON: Final = "anyio.move_on_after"
_SUPPRESS: Final = "contextlib.suppress"


class Statements:
    """Adds what statements do to the draft."""

    def __init__(self, walk: Walk) -> None:
        self._walk = walk
        self._draft = walk.draft

    def arm(self, body: list[ast.stmt], *entering: Loose) -> list[Loose]:
        """One way of several; its ends."""
        draft = self._draft
        draft.loose = list(entering)
        draft.open_block("arm")
        self.all(body)
        draft.close_block()
        return draft.loose

    def all(self, body: list[ast.stmt]) -> None:
        """A block of code."""
        for statement in body:
            self.one(statement)

    def one(self, node: ast.stmt) -> None:
        """One statement, if there is something in it to be shown."""
        if not self._walk.shown(node):
            return
        if isinstance(node, ast.If):
            self._if(node)
        elif isinstance(node, (ast.For, ast.AsyncFor)):
            self._for(node)
        elif isinstance(node, ast.While):
            self._while(node)
        elif isinstance(node, (ast.Try, ast.TryStar)):
            self._try(node)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            self._with(node, node.items)
        elif isinstance(node, ast.Match):
            self._match(node)
        elif isinstance(node, ast.Return):
            self._return(node)
        elif isinstance(node, ast.Raise):
            self._raise(node)
        elif isinstance(node, ast.Break):
            self._draft.jump("break", node)
        elif isinstance(node, ast.Continue):
            self._draft.jump("continue", node)
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            self._assign(node)
        else:
            for child in ast.iter_child_nodes(node):
                self._walk.expressions.visit(child)

    def _assign(self, node: ast.Assign | ast.AugAssign | ast.AnnAssign) -> None:
        """The value is worked out before the targets."""
        if node.value is not None:
            self._walk.expressions.visit(node.value)
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            self._walk.expressions.visit(target)

    # -- branches --------------------------------------------------------------------------------------------

    def _if(self, node: ast.If) -> None:
        draft = self._draft
        self._walk.expressions.visit(node.test)
        head = draft.add("branch", short(node.test), lines(node, node.test))
        ends = self.arm(node.body, Loose(head, "next", "yes"))
        draft.loose = ends + self.arm(node.orelse, Loose(head, "next", "no"))

    def _match(self, node: ast.Match) -> None:
        draft = self._draft
        self._walk.expressions.visit(node.subject)
        head = draft.add("match", short(node.subject), lines(node, node.subject))
        ends: list[Loose] = []
        for case in node.cases:
            guard = "" if case.guard is None else f" if {short(case.guard, 30)}"
            pattern = "any other" if _is_wildcard(case.pattern) else short(case.pattern, 40)
            draft.loose = [Loose(head, "next", pattern + guard)]
            if case.guard is not None:
                self._walk.expressions.visit(case.guard)
            ends += self.arm(case.body, *draft.loose)
        if not any(case.guard is None and _takes_all(case.pattern) for case in node.cases):
            ends.append(Loose(head, "next", "no case"))
        draft.loose = ends

    # -- loops -----------------------------------------------------------------------------------------------

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        draft = self._draft
        self._walk.expressions.visit(node.iter)
        draft.open_block("loop")
        head = draft.add("loop", loop_text(node), lines(node, node.iter))
        self._loop(node, head, [Loose(head, "next", "done")])

    def _while(self, node: ast.While) -> None:
        draft = self._draft
        draft.open_block("loop")
        if self._walk.shown(node.test):  # something is awaited each time, before it is decided
            head = draft.add("loop", "repeat", lines(node))
            self._walk.expressions.visit(node.test)
            test = draft.add("branch", short(node.test), lines(node, node.test))
            draft.loose = [Loose(test, "next", "yes")]
            self._loop(node, head, [Loose(test, "next", "no")])
        elif isinstance(node.test, ast.Constant) and node.test.value:
            head = draft.add("loop", "repeat", lines(node, node.test))
            self._loop(node, head, [])
        else:
            head = draft.add("loop", f"while {short(node.test)}", lines(node, node.test))
            self._loop(node, head, [Loose(head, "next", "done")])

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, head: int, done: list[Loose]) -> None:
        draft = self._draft
        frame = LoopFrame(head)
        draft.frames.append(frame)
        self.all(node.body)
        draft.connect(head, again=True)
        draft.frames.pop()
        draft.close_block()
        draft.loose = done
        self.all(node.orelse)
        draft.loose += frame.breaks

    # -- guards ----------------------------------------------------------------------------------------------

    def _try(self, node: ast.Try | ast.TryStar) -> None:
        draft = self._draft
        last = FinallyFrame()
        if node.finalbody:
            draft.frames.append(last)
        draft.open_block("try")
        head = draft.add("try", "try", lines(node))
        self.all(node.body)
        draft.close_block()
        self.all(node.orelse)
        ends = draft.loose
        for handler in node.handlers:
            draft.loose = [Loose(head, "error")]
            draft.open_block("arm")
            draft.add("except", _handler_text(handler), lines(handler, handler.type))
            self.all(handler.body)
            draft.close_block()
            ends += draft.loose
        draft.loose = ends
        if node.finalbody:
            draft.frames.pop()
            self._finally(node, head, last)

    def _finally(self, node: ast.Try | ast.TryStar, head: int, frame: FinallyFrame) -> None:
        """All ways lead through it: the ends of the body, jumps out of it, errors."""
        draft = self._draft
        goes_on = bool(draft.loose)
        draft.loose = [*draft.loose, *frame.entering, Loose(head, "error")]
        draft.add("finally", "finally", lines(node.finalbody[0]))
        self.all(node.finalbody)
        draft.through_finally(frame, node)
        here = draft.loose
        if here:
            draft.loose = [one._replace(kind="error", label=one.label) for one in here]
            draft.add("raise", "the error goes on", lines(node.finalbody[-1]))
        draft.loose = here if goes_on else []

    def _with(self, node: ast.With | ast.AsyncWith, items: list[ast.withitem]) -> None:
        """One item after the other; each guards those behind it, and the body."""
        if not items:
            self.all(node.body)
            return
        draft = self._draft
        item, *others = items
        context = item.context_expr
        full = self._walk.scope.full_name(context.func) if isinstance(context, ast.Call) else None
        if isinstance(node, ast.AsyncWith) and self._walk.parallel.is_group(context):
            rest: list[ast.stmt] = [_with_items(node, others)] if others else node.body
            self._walk.parallel.group(node, item, rest)
        elif full in _TIMEOUTS or full == _SUPPRESS:
            assert isinstance(context, ast.Call)
            if not self._walk.shown(*node.body, *others):
                return
            draft.open_block("timeout" if full in _TIMEOUTS else "try")
            what = ", ".join(short(one, 40) for one in context.args)
            if full == _SUPPRESS:
                head = draft.add("try", f"suppress {what}", lines(node, context))
            else:
                limit = {} if not context.args else {"seconds": setting(context.args[0])}
                head = draft.add("timeout", "time limit", lines(node, context), settings=limit)
            self._with(node, others)
            draft.close_block()
            if full in (_GOES_ON, _SUPPRESS):
                draft.loose.append(Loose(head, "error", "time is up" if full == _GOES_ON else what))
        else:
            self._walk.expressions.visit(context)
            if isinstance(node, ast.AsyncWith) and not isinstance(context, ast.Await):
                draft.add("await", f"async with {short(context)}", lines(node, context))
            self._with(node, others)

    # -- jumps -----------------------------------------------------------------------------------------------

    def _return(self, node: ast.Return) -> None:
        draft, walk = self._draft, self._walk
        frame = next(one for one in reversed(draft.frames) if isinstance(one, FunctionFrame))
        if node.value is not None:
            if frame.awaits_result:
                walk.expressions.awaited(node.value)
            else:
                walk.expressions.visit(node.value)
        if not frame.drawn_in_place and not self._ends_run(node.value):
            draft.add("return", _return_text(node.value), node)
        draft.jump("return", node)

    def _ends_run(self, value: ast.expr | None) -> bool:
        """`return self.continue_as_new(...)`."""
        call = value.value if isinstance(value, ast.Await) else value
        found = operation(call, self._walk.scope) if isinstance(call, ast.Call) else None
        return found is not None and found.kind == "continue"

    def _raise(self, node: ast.Raise) -> None:
        for part in (node.exc, node.cause):
            if part is not None:
                self._walk.expressions.visit(part)
        text = "raise" if node.exc is None else f"raise {short(node.exc)}"
        self._draft.add("raise", text, node)
        self._draft.loose = []


def _handler_text(handler: ast.ExceptHandler) -> str:
    return "except" if handler.type is None else f"except {short(handler.type)}"


def _return_text(value: ast.expr | None) -> str:
    return "return" if value is None else f"return {short(value)}"


def _takes_all(pattern: ast.pattern) -> bool:
    """`case _` and `case name`."""
    if isinstance(pattern, ast.MatchOr):
        return any(map(_takes_all, pattern.patterns))
    return isinstance(pattern, ast.MatchAs) and (pattern.pattern is None or _takes_all(pattern.pattern))


def _is_wildcard(pattern: ast.pattern) -> bool:
    return isinstance(pattern, ast.MatchAs) and pattern.pattern is None and pattern.name is None


def _with_items(node: ast.AsyncWith, items: list[ast.withitem]) -> ast.AsyncWith:
    return ast.copy_location(ast.AsyncWith(items, node.body), node)
