"""actors/actions/executor.py: graphs of actions run as far as they may, and end alike whatever crashes."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from holdfast import ActionContext, Node, Outcome, ResultOf, Retry, Workflow, action, run_graph
from holdfast.actors.actions.graph import OnError
from holdfast.testing import Crash, Storm, check_replay, replay_property, simulate


class World:
    """What the actions of a story did, from its beginning on."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.undone: list[str] = []
        self.early: list[str] = []
        self.most_at_once = 0
        self.at_once = 0
        # When the work of an attempt ends, whatever becomes of who waits for it.
        self.ends: dict[tuple[str, int], float] = {}


WORLD: list[World] = []


def make_world() -> list[World]:
    """A new world for each story."""
    WORLD[:] = [World()]
    return list(WORLD)


@action
async def work(
    context: ActionContext, name: str, needs: list[str], fails: int = 0, takes: float = 1.0, given: int = 0
) -> int:
    """Work for a while; fail in the first attempts."""
    world = WORLD[-1]
    world.begun.append(name)
    world.early += [f"{name} before {one}" for one in needs if one not in world.ended]
    world.at_once += 1
    world.most_at_once = max(world.most_at_once, world.at_once)
    now = context.runtime.clock.now_ms() / 1000 if context.runtime is not None else 0.0
    end = world.ends.setdefault((name, context.attempt), now + takes)
    try:
        await asyncio.sleep(end - now)
    finally:
        world.at_once -= 1
    if context.attempt <= fails:
        raise ConnectionError(f"{name} fails")
    world.ended.append(name)
    return given + 1


@action
def undo_work(name: str, result: int) -> None:
    """Undo, and fail for the one that can't be undone."""
    if name == "stubborn":
        raise ConnectionError("it stays")
    WORLD[-1].undone.append(f"{name} {result}")


def node(name: str, *depends_on: str, on_error: OnError = "stop", fails: int = 0, **options: Any) -> Node:
    """A node that works and can be undone."""
    params: dict[str, object] = {"name": name, "needs": list(depends_on), "fails": fails}
    params |= options.pop("params", {})
    undo = {"name": name, "result": ResultOf(name)}
    return Node(
        name, work, params, depends_on, on_error=on_error, undo=undo_work, undo_params=undo, **options
    )


def outcomes_of(*nodes: Node, parallel: int = 8) -> tuple[dict[str, Outcome], World]:
    """Run a graph by itself."""

    class Graphed(Workflow):
        retry = Retry(3, "1s")

        async def run(self) -> list[Outcome]:
            return await run_graph(self, nodes, parallel=parallel)

    (world,) = make_world()
    with simulate() as sim:
        outcomes = sim.result(sim.start(Graphed))
    assert [one.name for one in outcomes] == [one.name for one in nodes]
    assert world.early == []
    return {one.name: one for one in outcomes}, world


# -- order and bound ---------------------------------------------------------------------------------------


def test_nodes_wait_for_what_they_depend_on_and_run_side_by_side() -> None:
    """A diamond: two in the middle at once, the join behind both, results handed on."""
    both = {"given": ResultOf("b")}
    outcomes, world = outcomes_of(
        node("d", "b", "c", params=both), node("b", "a", params={"takes": 5.0}), node("c", "a"), node("a")
    )
    assert world.begun == ["a", "b", "c", "d"]
    assert world.most_at_once == 2
    assert [outcomes["d"].result, outcomes["a"].attempts, outcomes["a"].error] == [2, 1, None]


def test_the_bound_holds_and_the_first_of_the_list_is_next() -> None:
    """Nodes that could all run at once."""
    _, world = outcomes_of(*[node(name) for name in "fedcba"], parallel=2)
    assert world.begun == list("fedcba")
    assert world.most_at_once == 2


# -- on_error ----------------------------------------------------------------------------------------------


def test_stop_lets_what_runs_end_and_begins_nothing_more() -> None:
    """Those that never began say why."""
    outcomes, world = outcomes_of(
        node("bad", fails=9), node("slow", params={"takes": 9.0}), node("next", "bad"), node("last", "slow")
    )
    assert world.begun == ["bad", "slow"]
    assert [outcomes["slow"].success, outcomes["bad"].attempts] == [True, 1]
    assert "ConnectionError: bad fails" in str(outcomes["bad"].error)
    for name in ("next", "last"):
        assert outcomes[name].skipped and outcomes[name].attempts == 0
        assert str(outcomes[name].error) == "Skipped: the graph was stopped by the failure of 'bad'"
    assert world.undone == []


def test_continue_goes_on_also_with_those_that_depend_on_it() -> None:
    """But not with those that ask for its result, nor with those that depend on these."""
    outcomes, _ = outcomes_of(
        node("bad", fails=9, on_error="continue"),
        node("next", "other"),
        node("other"),
        Node("after", work, {"name": "after", "needs": []}, ["bad"]),
        Node("asks", work, {"name": "asks", "needs": [], "given": ResultOf("bad")}),
        Node("has", work, {"name": "has", "needs": [], "given": ResultOf("bad", default=7)}),
        Node("behind", work, {"name": "behind", "needs": []}, ["asks"]),
    )
    done = {name: one.result for name, one in outcomes.items() if one.success}
    assert done == {"next": 1, "other": 1, "after": 1, "has": 8}
    assert str(outcomes["asks"].error) == "Skipped: it needs the result of 'bad', which failed"
    assert str(outcomes["behind"].error) == "Skipped: it depends on 'asks', which was skipped"
    assert not outcomes["bad"].skipped


def test_retry_tries_as_the_steps_do_and_then_stops() -> None:
    """The workflow's policy, else the node's own; other nodes are tried once unless they say more."""
    outcomes, world = outcomes_of(
        node("a", fails=2, on_error="retry"),
        node("b", fails=1, on_error="stop", retry=Retry(1, "1s")),
        node("c", "a", "b", fails=9, on_error="retry", retry=Retry(1, "1s")),
        node("d", "c"),
    )
    assert [outcomes[name].attempts for name in "abcd"] == [3, 2, 2, 0]
    assert [outcomes[name].success for name in "abcd"] == [True, True, False, False]
    assert world.undone == []


def test_compensate_undoes_what_was_done_the_newest_first() -> None:
    """In the reverse order of completion, also what still ran; an undo that fails keeps none of the
    others.
    """
    outcomes, world = outcomes_of(
        node("a"),
        node("late", "a", params={"takes": 30.0}),
        node("stubborn", "a", params={"takes": 2.0}),
        node("b", "a"),
        node("bad", "b", fails=9, on_error="compensate"),
        node("never", "bad"),
        Node("plain", work, {"name": "plain", "needs": []}),
    )
    assert world.undone == ["late 1", "b 1", "a 1"]
    undone = {name for name, one in outcomes.items() if one.undone}
    assert undone == {"late", "b", "a"}
    assert "it stays" in str(outcomes["stubborn"].undo_error) and outcomes["stubborn"].success
    assert outcomes["plain"].success and not outcomes["plain"].undone
    assert outcomes["never"].skipped


def test_a_result_that_does_not_fit_fails_the_node() -> None:
    """It is checked when it is there."""
    outcomes, _ = outcomes_of(
        node("a"),
        Node("b", work, {"name": ResultOf("a"), "needs": []}, on_error="continue"),
        Node("c", work, {"name": "c", "needs": [], "given": ResultOf("a", "x")}, on_error="continue"),
    )
    assert "parameter name: expected str, got 1 of type int" in str(outcomes["b"].error)
    assert "the result of node 'a' has no 'x'" in str(outcomes["c"].error)
    assert [outcomes["b"].attempts, outcomes["b"].skipped] == [0, False]


def test_sleep_is_durable_as_a_node() -> None:
    """What the run does itself is no step: a sleep of a day costs nothing and survives a crash."""

    class Sleepy(Workflow):
        async def run(self) -> list[Outcome]:
            return await run_graph(
                self, [Node("wait", "sleep", {"duration": "1d"}), node("a", "wait", params={"needs": []})]
            )

    make_world()
    with simulate() as sim:
        run = sim.start(Sleepy)
        sim.advance("12h")
        sim.crash()
        outcomes = sim.result(run)
        assert [one.success for one in outcomes] == [True, True]
        assert sim.runtime.clock.now_ms() == 1_893_456_000_000 + 86_400_000 + 1_000


def test_a_run_that_gives_the_graph_up_cancels_what_runs() -> None:
    """A timeout around it."""

    class Hasty(Workflow):
        async def run(self) -> str:
            try:
                async with asyncio.timeout(3):
                    await run_graph(self, [node("a", params={"takes": 60.0}), node("b", "a")])
            except TimeoutError:
                return "late"
            return "done"

    (world,) = make_world()
    with simulate() as sim:
        assert sim.result(sim.start(Hasty)) == "late"
    assert world.begun == ["a"] and world.at_once == 0


# -- crashes -----------------------------------------------------------------------------------------------


class Spec(msgspec.Struct):
    """One node of a random graph."""

    depends_on: list[int]
    takes: int
    fails: int
    on_error: OnError
    limit: int | None
    asks: bool


class Plan(msgspec.Struct):
    """A random graph."""

    nodes: list[Spec]
    parallel: int


class RandomGraph(Workflow):
    """Runs a graph, and says what became of it."""

    retry = Retry(2, "1s", jitter=0)
    step_timeout = None

    async def run(self, plan: Plan) -> list[Outcome]:
        nodes: list[Node] = []
        for n, one in enumerate(plan.nodes):
            depends_on = [f"n{other}" for other in one.depends_on]
            # What the body can see of them: those that fail go on only where that was asked for.
            strict = [f"n{other}" for other in one.depends_on if not plan.nodes[other].fails]
            # No two ends fall together, however often each is tried: which came first would be chance.
            takes = one.takes * 100 + 4**n / 1000
            params: dict[str, object] = {"name": f"n{n}", "needs": strict, "fails": one.fails, "takes": takes}
            if one.asks and depends_on:
                params["given"] = ResultOf(depends_on[0])
            undo = {"name": f"n{n}", "result": ResultOf(f"n{n}")}
            nodes.append(
                Node(
                    f"n{n}", work, params, depends_on, on_error=one.on_error, undo=undo_work,
                    undo_params=undo,
                    retry=None if one.limit is None else Retry(one.limit, "500ms", jitter=0),
                )
            )  # fmt: skip
        return await run_graph(self, nodes, parallel=plan.parallel)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Graphs without cycles: a node depends on some of those before it; the list is in any order."""
    size = draw(st.integers(1, 7))
    nodes = [
        Spec(
            sorted(draw(st.sets(st.integers(0, n - 1), max_size=3))) if n else [],
            draw(st.integers(0, 3)),
            draw(st.sampled_from([0, 0, 0, 1, 9])),
            draw(st.sampled_from(["stop", "continue", "retry", "compensate"])),
            draw(st.sampled_from([None, None, 0, 2])),
            draw(st.booleans()),
        )
        for n in range(size)
    ]
    return Plan(nodes, draw(st.integers(1, 4)))


def seen(world: World) -> object:
    """No node began before what it depends on had ended; what ran and was undone."""
    assert world.early == []
    return sorted(set(world.begun)), list(dict.fromkeys(world.undone))


def test_random_graphs_end_alike_whatever_crashes() -> None:
    """No node before its dependencies, no recorded node again, the outcomes of a calm run."""
    replay_property(
        RandomGraph, inputs=plans(), crashes=3, schedules=False, deps=make_world, observe=seen, examples=40
    )


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_compensation_survives_a_crash_at_each_commit(when: Any) -> None:
    """It goes on with what was not undone yet."""
    ok = Spec([], 1, 0, "stop", None, False)
    graph = Plan(
        [ok, ok, msgspec.structs.replace(ok, depends_on=[0, 1]), Spec([2], 1, 9, "compensate", 0, False)], 2
    )
    for n in range(1, 16):
        check_replay(
            RandomGraph, [graph], Storm(crashes=(Crash("commit", n, when),)), deps=make_world, observe=seen
        )
    assert WORLD[-1].undone == ["n2 1", "n1 1", "n0 1"]
