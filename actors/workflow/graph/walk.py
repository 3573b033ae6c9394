"""The walk over the source of one workflow, function by function.

It is made twice.  The first time each function is drawn by itself, and calls are counted; the second time a
function that is called at one place is drawn in that place.  So each step of the source is one node, whatever
calls what, and code that calls itself comes to an end.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Sequence
from typing import Final

from .draft import Draft, FunctionFrame
from .place import end_of, lines
from .scope import AnyFunction, Function, Scope
from .shows import Shows
from .source_text import short

_FROM_OUTSIDE: Final = 2  # calls: however many, it is not one


class Walk:
    """Where the walk is, and what it found."""

    def __init__(
        self,
        entry: Function,
        updates: Sequence[Function] = (),
        in_place: frozenset[AnyFunction] = frozenset(),
    ) -> None:
        """`entry` is run(), `updates` are what may be called from outside; `in_place` is what the first walk
        found to be called once.
        """
        from .expressions import Expressions
        from .parallel import Parallel
        from .statements import Statements

        self.draft: Final = Draft()
        self.shows: Final = Shows()
        self.scope = entry.scope
        self.statements: Final = Statements(self)
        self.expressions: Final = Expressions(self)
        self.parallel: Final = Parallel(self)
        self.calls: Final[Counter[AnyFunction]] = Counter()
        self._in_place = in_place
        self._file = entry.scope.module.file
        self._waiting: list[Function] = [entry]
        self._queued: set[AnyFunction] = {entry.node}
        self._calls_to_draw: list[tuple[int, AnyFunction]] = []
        for function in updates:
            if self.shows.function(function):
                self.calls[function.node] += _FROM_OUTSIDE
                self._queued.add(function.node)
                self._waiting.append(function)
                self._calls_to_draw.append((0, function.node))

    def go(self) -> None:
        """Draw the first function, and all that it calls."""
        starts: dict[AnyFunction, int] = {}
        for function in self._waiting:  # grows meanwhile
            starts[function.node] = self._draw(function)
        for source, node in self._calls_to_draw:
            self.draft.connect_call(source, starts[node])

    def shown(self, *nodes: ast.AST) -> bool:
        """Whether one of the nodes is to be drawn."""
        return self.shows.any(nodes, self.scope)

    # -- functions -------------------------------------------------------------------------------------------

    def may_draw_in_place(self, function: Function) -> bool:
        """Whether a function is called at one place only."""
        return function.node in self._in_place

    def draw_in_place(self, function: Function, call: ast.AST, text: str, *, awaits_result: bool) -> None:
        """A call, and in a block with it what the function does."""
        draft = self.draft
        self.calls[function.node] += 1
        draft.open_block("call", function.name)
        draft.add("call", text, call, name=function.name, calls=function.name)
        frame = FunctionFrame(drawn_in_place=True, awaits_result=awaits_result)
        draft.frames.append(frame)
        scope, file = self.scope, draft.file
        self._enter(function.scope)
        self._body(function)
        self.scope, draft.file = scope, file
        draft.frames.pop()
        draft.loose += frame.returns
        draft.close_block()

    def draw_apart(self, function: Function, call: ast.AST, text: str, *, begins: bool) -> None:
        """A call of a function that is drawn by itself."""
        self.calls[function.node] += 1
        node = self.draft.add("call", text, call, name=function.name, begins=begins, calls=function.name)
        if function.node not in self._queued:
            self._queued.add(function.node)
            self._waiting.append(function)
        self._calls_to_draw.append((node, function.node))

    def _draw(self, function: Function) -> int:
        draft, node = self.draft, function.node
        draft.open_block("function", function.name)
        self._enter(function.scope)
        draft.frames = [FunctionFrame(drawn_in_place=False)]
        draft.loose = []
        name = "lambda" if isinstance(node, ast.Lambda) else node.name
        start = draft.add("start", f"{name}({_parameters(function)})", lines(node))
        self._body(function)
        if draft.loose:
            draft.add("end", "end", end_of(node))
        draft.close_block()
        return start

    def _enter(self, scope: Scope) -> None:
        self.scope = scope
        file = scope.module.file
        self.draft.file = None if file == self._file else file

    def _body(self, function: Function) -> None:
        if isinstance(function.node, ast.Lambda):
            self.expressions.visit(function.node.body)
        else:
            self.statements.all(function.node.body)


def _parameters(function: Function) -> str:
    """The parameters of a function, but for the workflow."""
    arguments = copy.deepcopy(function.node.args)
    for some in (arguments.posonlyargs, arguments.args, arguments.kwonlyargs):
        some[:] = [one for one in some if one.arg not in function.scope.contexts]
    return short(arguments)
