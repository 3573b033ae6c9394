"""A graph of actions, as data: nodes that depend on each other, checked whole before anything runs.

    Node("validate", validate, {"invoice": invoice}),
    Node("budget", "check_budget", {"cents": 900}, on_error="continue"),
    Node("pay", pay, {"cents": ResultOf("validate", "cents")}, depends_on=["budget"], undo=refund),

Promises
  * Names are unique, dependencies and actions exist, parameters fit, nothing depends on itself: else an
    error, that of a cycle with the cycle, and nothing runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args

import msgspec

from ...runtime.durations import Duration
from ..errors import ErrorRecord, InvalidGraph, InvalidParameters, UnknownAction
from ..workflow.asking import MAX_STEP_NAME_CHARACTERS
from ..workflow.retry import Retry
from .action import Action
from .registry import find_action

OnError = Literal["stop", "continue", "retry", "compensate"]
_ON_ERROR: Final = get_args(OnError)
# The type of the error of a node that was skipped.
SKIPPED: Final = "Skipped"
# What the name of the step that undoes a node begins with.
UNDO: Final = "undo "


@dataclass(frozen=True, slots=True)
class ResultOf:
    """In the parameters of a node: the result of another one, which it depends on by that.

    path      what of it: names of fields, keys or positions, with dots between them; empty for all of it
    default   in place of it where that node failed and the graph went on (`on_error="continue"`); without one
              the node that asks is skipped then
    """

    node: str
    path: str = ""
    default: object = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Node:
    """One action of a graph.

    name        unique in the graph; also the name of its step
    action      an action, or the name of one
    params      its parameters; a value may be `ResultOf(...)`, or hold some in lists, tuples and dicts
    depends_on  nodes that must have ended before it begins
    on_error    when it failed for good: "stop" begins no more nodes; "continue" goes on, also with those that
                depend on it; "compensate" stops and undoes what was done, the newest first; "retry" is
                "stop", and it is tried as the workflow's steps are
    retry       how often it is tried; by default as its action says, else (but with "retry") once
    timeout     of an attempt
    undo        the action that undoes it when the graph is compensated
    undo_params   its parameters; `ResultOf` may name the node itself and what it depends on
    """

    name: str
    action: Action[..., object] | str
    params: Mapping[str, object] = field(default_factory=dict[str, object])
    depends_on: Sequence[str] = ()
    on_error: OnError = "stop"
    retry: Retry | None = None
    timeout: Duration | None = None
    undo: Action[..., object] | str | None = None
    undo_params: Mapping[str, object] = field(default_factory=dict[str, object])


class Outcome(msgspec.Struct, frozen=True):
    """What became of a node."""

    name: str
    success: bool
    result: object = None
    error: ErrorRecord | None = None
    """Why there is no success; of a skipped node, what kept it from beginning."""
    attempts: int = 0
    """0 for a node that never began."""
    undone: bool = False
    """Its `undo` has run."""
    undo_error: ErrorRecord | None = None
    """Why its `undo` failed for good."""

    @property
    def skipped(self) -> bool:
        """It never began: what it needs failed or was skipped, or the graph was stopped."""
        return self.error is not None and self.error.type == SKIPPED


class PlannedNode:
    """A node with its actions found, its dependencies gathered and its parameters checked."""

    __slots__ = ("action", "depends_on", "node", "undo")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.action = _action(node, node.action)
        self.undo = None if node.undo is None else _action(node, node.undo)
        # Named ones first; those that its parameters name are dependencies as well.
        named = [*node.depends_on, *(one.node for one in references(node.params))]
        self.depends_on = tuple(dict.fromkeys(named))

    @property
    def name(self) -> str:
        """The node's name."""
        return self.node.name


class Graph:
    """Checked nodes, in the order given (`by_name`) and in one that follows the dependencies (`ordered`)."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        """Raises `InvalidGraph`, `UnknownAction` or `InvalidParameters`, each with the name of the node."""
        self.by_name: dict[str, PlannedNode] = {}
        for node in nodes:
            _check_node(node)
            if node.name in self.by_name:
                raise InvalidGraph(f"two nodes are named {node.name!r}; each needs a name of its own")
            self.by_name[node.name] = PlannedNode(node)
        for planned in self.by_name.values():
            for other in planned.depends_on:
                if other not in self.by_name:
                    raise InvalidGraph(
                        f"node {planned.name!r} depends on {other!r}, which is no node of the graph; there "
                        f"are {', '.join(self.by_name)}"
                    )
        # Each stands behind what it depends on.
        self.ordered = self._ordered()
        for planned in self.ordered:
            _check_parameters(planned, planned.action, planned.node.params)
            if planned.undo is not None:
                _check_parameters(planned, planned.undo, planned.node.undo_params)
                self._check_undo(planned)
            elif planned.node.undo_params:
                raise InvalidGraph(f"node {planned.name!r} has undo_params but no undo")

    def _ordered(self) -> list[PlannedNode]:
        ordered: dict[str, PlannedNode] = {}
        waiting = list(self.by_name.values())
        while waiting:
            ready = [one for one in waiting if all(name in ordered for name in one.depends_on)]
            if not ready:
                raise InvalidGraph(f"the graph has a cycle: {' -> '.join(self._cycle(waiting, ordered))}")
            ordered.update((one.name, one) for one in ready)
            waiting = [one for one in waiting if one.name not in ordered]
        return list(ordered.values())

    def _cycle(self, waiting: list[PlannedNode], ordered: Mapping[str, PlannedNode]) -> list[str]:
        """Each of the nodes that are left depends on one of them: go on until one comes again."""
        path = [waiting[0].name]
        while True:
            depends_on = self.by_name[path[-1]].depends_on
            following = next(name for name in depends_on if name not in ordered)
            if following in path:
                return [*path[path.index(following) :], following]
            path.append(following)

    def _check_undo(self, planned: PlannedNode) -> None:
        known = {planned.name}
        waiting = [planned]
        while waiting:
            for name in waiting.pop().depends_on:
                if name not in known:
                    known.add(name)
                    waiting.append(self.by_name[name])
        for reference in references(planned.node.undo_params):
            if reference.node not in known:
                raise InvalidGraph(
                    f"node {planned.name!r}: undo_params name the result of {reference.node!r}, which is "
                    "neither the node itself nor what it depends on"
                )


class MissingResult(Exception):
    """The result that a parameter names isn't there, since its node failed."""

    def __init__(self, node: str) -> None:
        super().__init__(f"it needs the result of {node!r}, which failed")


def references(value: object) -> Iterator[ResultOf]:
    """All `ResultOf` in a value."""
    if isinstance(value, ResultOf):
        yield value
    elif isinstance(value, Mapping):
        for one in cast("Mapping[object, object]", value).values():
            yield from references(one)
    elif isinstance(value, (list, tuple)):
        for one in cast("Sequence[object]", value):
            yield from references(one)


def with_results(value: object, results: Mapping[str, object]) -> object:
    """A value with results in place of `ResultOf`; raises `MissingResult` and `InvalidParameters`."""
    if isinstance(value, ResultOf):
        if value.node not in results:
            if value.default is msgspec.UNSET:
                raise MissingResult(value.node)
            return value.default
        return _at_path(results[value.node], value)
    if isinstance(value, dict):
        return {key: with_results(one, results) for key, one in cast("dict[Any, object]", value).items()}
    if isinstance(value, (list, tuple)):
        found = [with_results(one, results) for one in cast("Sequence[object]", value)]
        return found if isinstance(value, list) else tuple(found)
    return value


def _at_path(result: object, reference: ResultOf) -> object:
    for part in reference.path.split(".") if reference.path else ():
        kind = type(result)
        try:
            if isinstance(result, Mapping):
                result = cast("Mapping[str, object]", result)[part]
            elif isinstance(result, (list, tuple)):
                result = cast("Sequence[object]", result)[int(part)]
            else:
                result = getattr(result, part)
        except (LookupError, ValueError, AttributeError) as error:
            raise InvalidParameters(
                f"the result of node {reference.node!r} has no {reference.path!r}: nothing at {part!r} in a "
                f"{kind.__qualname__}"
            ) from error
    return result


def _check_node(node: Node) -> None:
    if not isinstance(node, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidGraph(f"a graph is made of nodes; got {node!r}")
    name = cast("object", node.name)
    longest = MAX_STEP_NAME_CHARACTERS - len(UNDO)
    if not isinstance(name, str) or not 0 < len(name) <= longest or not name.isprintable():
        raise InvalidGraph(f"the name of a node must have 1 to {longest} printable characters; got {name!r}")
    if node.on_error not in _ON_ERROR:
        raise InvalidGraph(
            f"node {name!r}: on_error must be one of {', '.join(_ON_ERROR)}; got {node.on_error!r}"
        )
    if cast("object", node.depends_on).__class__ is str:  # a sequence of letters, for type checkers
        raise InvalidGraph(f"node {name!r}: depends_on must be a list of names; got {node.depends_on!r}")


def _action(node: Node, given: object) -> Action[..., object]:
    if isinstance(given, Action):
        return cast("Action[..., object]", given)
    if not isinstance(given, str):
        raise InvalidGraph(f"node {node.name!r}: expected an action or the name of one; got {given!r}")
    try:
        return find_action(given)
    except UnknownAction as error:
        raise UnknownAction(f"node {node.name!r}: {error}") from None


def _check_parameters(planned: PlannedNode, action: Action[..., object], params: object) -> None:
    if not isinstance(params, Mapping):
        raise InvalidGraph(f"node {planned.name!r}: expected parameters by name; got {params!r}")
    given = cast("Mapping[str, object]", params)
    plan = action.handler.plan
    try:
        bound = plan.bind((), given)
        for name, value in bound.items():
            if not any(references(value)):
                plan.check_one(name, value)
    except InvalidParameters as error:
        raise InvalidParameters(f"node {planned.name!r}: {error}") from None
