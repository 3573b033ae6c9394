"""actors/actions/graph.py: what can be no graph is told before anything runs."""

from __future__ import annotations

from typing import Any, cast

import pytest

from holdfast import Node, ResultOf, RunFailed, Workflow, action, run_graph
from holdfast.actors.actions.graph import Graph, with_results
from holdfast.actors.errors import InvalidGraph, InvalidParameters, UnknownAction
from holdfast.testing import simulate

RAN: list[str] = []


@action
def graph_add(a: int, b: int = 1) -> int:
    """Add."""
    RAN.append("graph_add")
    return a + b


A1 = {"a": 1}


UNDO_OF_B = {"a": ResultOf("b")}
# Nodes that can be no graph, by what is said of them.
WRONG: dict[str, tuple[type[Exception], list[object]]] = {
    "two nodes are named 'a'": (InvalidGraph, [Node("a", graph_add, A1), Node("a", graph_add, A1)]),
    "node 'a' depends on 'x', which is no node of the graph; there are a": (
        InvalidGraph,
        [Node("a", graph_add, A1, depends_on=["x"])],
    ),
    "node 'a' depends on 'y'": (InvalidGraph, [Node("a", graph_add, {"a": ResultOf("y")})]),
    "node 'a': no action named 'nothing_like_it'": (UnknownAction, [Node("a", "nothing_like_it")]),
    "node 'a': no action named 'nothing_to_undo'": (
        UnknownAction,
        [Node("a", graph_add, A1, undo="nothing_to_undo")],
    ),
    "node 'a': action graph_add: parameter a is missing": (InvalidParameters, [Node("a", graph_add)]),
    "node 'a': .* parameter a: expected int, got '1'": (
        InvalidParameters,
        [Node("a", graph_add, {"a": "1"})],
    ),
    "node 'a': action graph_add has no parameter c": (InvalidParameters, [Node("a", graph_add, {"c": 1})]),
    "node 'b': .* parameter a is missing": (InvalidParameters, [Node("b", graph_add, A1, undo=graph_add)]),
    "node 'a': undo_params name the result of 'b', which is neither the node itself nor": (
        InvalidGraph,
        [
            Node("a", graph_add, A1, undo=graph_add, undo_params=UNDO_OF_B),
            Node("b", graph_add, A1),
        ],
    ),
    "node 'a' has undo_params but no undo": (InvalidGraph, [Node("a", graph_add, A1, undo_params=A1)]),
    "on_error must be one of stop, continue": (
        InvalidGraph,
        [Node("a", graph_add, A1, on_error=cast("Any", "wait"))],
    ),
    "depends_on must be a list of names; got 'bc'": (
        InvalidGraph,
        [Node("a", graph_add, A1, depends_on="bc")],
    ),
    "the name of a node must have 1 to 251 printable characters": (InvalidGraph, [Node("", graph_add, A1)]),
    "node 'a': expected an action or the name of one; got <built-in": (
        InvalidGraph,
        [Node("a", cast("Any", len))],
    ),
    r"node 'a': expected parameters by name; got \[1\]": (
        InvalidGraph,
        [Node("a", graph_add, cast("Any", [1]))],
    ),
    "a graph is made of nodes; got 'a'": (InvalidGraph, ["a"]),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_graph_is_told(message: str) -> None:
    """With the name of the node."""
    error, nodes = WRONG[message]
    with pytest.raises(error, match=message):
        Graph(cast("list[Node]", nodes))


@pytest.mark.parametrize(
    ("depends_on", "cycle"),
    [
        ({"a": ["a"]}, "a -> a"),
        ({"a": ["b"], "b": ["a"]}, "a -> b -> a"),
        ({"a": [], "b": ["a", "d"], "c": ["b"], "d": ["c"], "e": ["b"]}, "b -> d -> c -> b"),
        ({"e": ["b"], "a": [], "b": ["d"], "c": ["b"], "d": ["c"]}, "b -> d -> c -> b"),
    ],
)
def test_a_cycle_is_named(depends_on: dict[str, list[str]], cycle: str) -> None:
    """Only what is in it, and the way round."""
    with pytest.raises(InvalidGraph, match=f"the graph has a cycle: {cycle}$"):
        Graph([Node(name, graph_add, A1, depends_on=on) for name, on in depends_on.items()])


def test_a_cycle_through_parameters_is_one() -> None:
    """Asking for a result is depending on it."""
    with pytest.raises(InvalidGraph, match="cycle: a -> b -> a"):
        Graph([Node("a", graph_add, {"a": ResultOf("b")}), Node("b", graph_add, A1, depends_on=["a"])])


def test_nothing_runs_when_the_graph_is_wrong() -> None:
    """The error is raised in run(), before a step."""

    class Wrong(Workflow):
        async def run(self) -> None:
            await run_graph(self, [Node("a", graph_add, A1), Node("b", graph_add, {"a": "1"})])

    class Narrow(Workflow):
        async def run(self) -> None:
            await run_graph(self, [Node("a", graph_add, A1)], parallel=0)

    RAN.clear()
    with simulate() as sim:
        with pytest.raises(RunFailed, match="InvalidParameters: node 'b'"):
            sim.result(sim.start(Wrong))
        with pytest.raises(RunFailed, match="parallel must be a whole number from 1 on; got 0"):
            sim.result(sim.start(Narrow))
        assert sim.bodies_returned() == frozenset()
    assert RAN == []


def test_results_stand_in_for_references() -> None:
    """Also within lists, tuples and dicts, and by path."""
    results: dict[str, object] = {"a": {"x": [1, 2]}, "b": 3}
    wanted = {"k": [ResultOf("b"), (ResultOf("a", "x.1"),)], "l": ResultOf("c", default=None)}
    assert with_results(wanted, results) == {"k": [3, (2,)], "l": None}
    with pytest.raises(
        InvalidParameters, match=r"the result of node 'a' has no 'x.7': nothing at '7' in a list"
    ):
        with_results(ResultOf("a", "x.7"), results)
