"""What a workflow's source says is in its graph: what happens, in which order, and what isn't known."""

from __future__ import annotations

import textwrap
import time

import pytest

from holdfast import CallerError, Counter, Retry, Workflow, WorkflowContext, workflow, workflow_graph
from holdfast.actors.workflow.graph.analyse import graph_of_source
from holdfast.actors.workflow.graph.model import Node, WorkflowGraph

HEAD = """\
import asyncio
import functools
import time
from contextlib import suppress

import anyio

from holdfast import Counter, Retry, Workflow
from steps import charge as take_money

LIMIT = "10s"

async def body(*args): ...

@action(name="its-own")
async def named(*args): ...

class Flow(Workflow):
"""


def graph(run: str, methods: str = "", functions: str = "") -> WorkflowGraph:
    """The graph of a workflow whose run() has this body, with methods, and functions of the module."""
    code = textwrap.indent(textwrap.dedent(run), " " * 8)
    more = textwrap.indent(textwrap.dedent(methods), " " * 4) + textwrap.dedent(functions)
    return graph_of_source(f"{HEAD}    async def run(self, input):\n{code}\n{more}", "Flow")


def ways(found: WorkflowGraph) -> list[str]:
    """All edges as text, by the texts of their nodes."""
    return [
        f"{found.nodes[edge.source].text} -{edge.label or edge.kind}-> {found.nodes[edge.target].text}"
        for edge in found.edges
    ]


def the(found: WorkflowGraph, kind: str) -> Node:
    """The only node of a kind."""
    (node,) = [node for node in found.nodes if node.kind == kind]
    return node


def kinds(found: WorkflowGraph) -> list[str]:
    """The kinds of all nodes but the first and the end."""
    return [node.kind for node in found.nodes[1:] if node.kind != "end"]


# -- what happens --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind", "text", "name"),
    [
        ("await self.step(body)", "step", "body", "body"),
        ("await self.step(self.pack, 1)", "step", "pack", "pack"),
        ("await self.step(take_money)", "step", "charge", "charge"),
        ("await self.step(body, name='store-event')", "step", "store-event", "store-event"),
        ("await self.step(body, name=f'store-{input}')", "step", "f'store-{input}'", None),
        ("await self.step(input)", "step", "input", None),
        ("await self.step(lambda: 1)", "step", "<lambda>", "<lambda>"),
        ("await self.step(functools.partial(body, 1))", "step", "partial", "partial"),
        ("await self.run_action(take_money, cents=1)", "step", "charge", "charge"),
        ("await self.run_action(body.with_options(step='pay'), 1)", "step", "pay", "pay"),
        ("await self.run_action(input, 1)", "step", "input", None),
        ("await self.actions.charge_card(cents=1)", "step", "charge_card", "charge_card"),
        ("await self.step(named)", "step", "its-own", "its-own"),
        ("await self.sleep('1h')", "sleep", "sleep 1h", None),
        ("await self.sleep(duration=input)", "sleep", "sleep input", None),
        ("await asyncio.sleep(5)", "sleep", "sleep 5", None),
        ("await self.sleep_until(input)", "sleep", "sleep until input", None),
        ("await self.wait(Approve)", "wait", "wait for Approve", "Approve"),
        ("await self.wait(Approve | Reject)", "wait", "wait for Approve | Reject", None),
        ("await self.wait('approve', 'reject')", "wait", "wait for approve | reject", None),
        ("await self.wait_event()", "wait", "wait for any event", None),
        ("await self.until(lambda: self.data['x'] > 1)", "until", "until self.data['x'] > 1", None),
        ("await self.until(input)", "until", "until input", None),
        ("await self.child(Other, input)", "child", "Other", "Other"),
        ("await self.child(input, 1)", "child", "input", None),
        ("await self.start(Other, 1, id='x')", "child", "start Other", "Other"),
        ("await self.send(Other, 'x', Go(1))", "send", "send Go(1) to Other", None),
        ("self.emit('stored', input)", "emit", "emit stored", "stored"),
        ("self.set_status('submitted')", "status", "status submitted", "submitted"),
        ("self.continue_as_new(input)", "continue", "continue as new with input", None),
        ("await self.runtime.get(Counter, 'a').increment()", "actor", "Counter.increment", "increment"),
        ("await input.unknown(1)", "await", "await input.unknown(1)", None),
        ("await input", "await", "await input", None),
        ("async with input: pass", "await", "async with input", None),
        ("return 1", "return", "return 1", None),
        ("raise ValueError(input)", "raise", "raise ValueError(input)", None),
    ],
)
def test_what_happens(line: str, kind: str, text: str, name: str | None) -> None:
    """A line is one node, with a name where the source tells it."""
    found = graph(line)
    assert [(node.kind, node.text, node.name) for node in found.nodes[1:2]] == [(kind, text, name)]
    assert kinds(found) == [kind]


def test_settings_are_kept_as_written() -> None:
    """Options are literal, or only known when it runs; a default in place of a failure is one of them."""
    found = graph(
        "await self.step(body, retry=Retry(3, '1s'), timeout=LIMIT, undo=self.unpack, thread=True)"
        ".optional(None)"
    )
    settings = {name: (one.source, one.literal) for name, one in the(found, "step").settings.items()}
    assert settings == {
        "retry": ("Retry(3, '1s')", True),
        "timeout": ("LIMIT", False),
        "undo": ("self.unpack", False),
        "thread": ("True", True),
        "optional": ("None", True),
    }


def test_outcomes() -> None:
    """A step's failure as a value is a setting of the step, or of the child."""
    found = graph("await self.step(body).outcome()\nawait self.child(Other, 1).optional(default=0)")
    assert [list(node.settings) for node in found.nodes[1:3]] == [["outcome"], ["optional"]]


def test_options_of_the_class() -> None:
    """Class options are part of the graph, with those of its bases."""
    source = (
        f"{HEAD}    retry = Retry(1)\n    deadline = LIMIT\n\n"
        "class Own(Flow):\n    retry: Retry = Retry(2)\n    async def run(self): ..."
    )
    options = graph_of_source(source, "Own").options
    assert {name: one.source for name, one in options.items()} == {"retry": "Retry(2)", "deadline": "LIMIT"}


def test_actors_behind_names() -> None:
    """A ref in a variable, or from a method that gives one, is known; one of two types is not."""
    found = graph(
        """
        store = self.runtime.get(Store, "all")
        await store.put(1)
        await self._counter().increment()
        both = self.runtime.get(Store, 1)
        both = self.runtime.get(Counter, 1)
        await both.get()
        """,
        """
            def _counter(self):
                return self.runtime.get(Counter, "n")
        """,
    )
    assert [node.text for node in found.nodes[1:4]] == ["Store.put", "Counter.increment", "await both.get()"]


def test_begun_and_not_waited_for() -> None:
    """A step that isn't awaited is begun; who awaits it later is shown as it is written."""
    found = graph("task = self.step(body)\nawait self.sleep(1)\nawait task")
    assert [(node.text, node.begins) for node in found.nodes[1:4]] == [
        ("body", True),
        ("sleep 1", False),
        ("await task", False),
    ]


def test_order_within_an_expression() -> None:
    """What is worked out first comes first."""
    found = graph("return self.emit('x', await self.step(a, await self.step(b))) + await self.step(c)")
    assert [node.text for node in found.nodes[1:]] == [
        "b",
        "a",
        "emit x",
        "c",
        "return self.emit('x', result) + result",
    ]


# -- branches and loops --------------------------------------------------------------------------------------


def test_branches() -> None:
    """Ways of an `if` have labels; an empty one leads on; an `if` of mere assignments is left out."""
    found = graph("if input:\n    await self.step(a)\nelse:\n    x = 1\nif x:\n    y = 2\nawait self.step(b)")
    assert ways(found) == [
        "run(input) -next-> input",
        "input -yes-> a",
        "a -next-> b",
        "input -no-> b",
        "b -next-> end",
    ]


def test_elif_and_awaited_conditions() -> None:
    """What a condition awaits is a node before it, and `result` in it."""
    found = graph("if input:\n    return 1\nelif await self.step(a) > 3:\n    return 2")
    assert ways(found)[1:] == [
        "input -yes-> return 1",
        "input -no-> a",
        "a -next-> result > 3",
        "result > 3 -yes-> return 2",
        "result > 3 -no-> end",
    ]


def test_match() -> None:
    """Patterns and guards are labels; without a case for all else there is one more way."""
    found = graph(
        "match await self.wait(Go):\n  case Go(by=b) if b: await self.step(a)\n  case Stop(): return"
    )
    assert ways(found)[2:] == [
        "result -Go(by=b) if b-> a",
        "result -Stop()-> return",
        "a -next-> end",
        "result -no case-> end",
    ]
    found = graph("match input:\n  case 1: return\n  case _: raise")
    assert ways(found)[1:] == ["input -1-> return", "input -any other-> raise"]


def test_loops() -> None:
    """A loop goes back to its head, and on when it is done; `break`, `continue`, `else` do as they do."""
    found = graph(
        """
        for x in input:
            if x: continue
            if not x: break
            await self.step(a)
        else:
            await self.step(b)
        """
    )
    assert ways(found)[1:] == [
        "for x in input -next-> x",
        "x -yes-> for x in input",
        "x -no-> not x",
        "not x -no-> a",
        "a -again-> for x in input",
        "for x in input -done-> b",
        "b -next-> end",
        "not x -yes-> end",
    ]


def test_while() -> None:
    """An endless loop has no way out; what a condition awaits is awaited each time."""
    found = graph("while True:\n    await self.step(a)\nawait self.step(b)")
    assert ways(found)[1:3] == ["repeat -next-> a", "a -again-> repeat"]
    assert [node.text for node in found.nodes if node.unreachable] == ["b", "end"]
    found = graph("while await self.step(a):\n    await self.step(b)")
    assert ways(found)[1:] == [
        "repeat -next-> a",
        "a -next-> result",
        "result -yes-> b",
        "b -again-> repeat",
        "result -no-> end",
    ]


def test_choices_within_expressions() -> None:
    """`x if c else y`, `and`, `or` and comprehensions are branches and loops if something happens there."""
    assert kinds(graph("x = (await self.step(a)) if input else 1")) == ["branch", "step"]
    assert kinds(graph("x = input and await self.step(a)")) == ["branch", "step"]
    assert kinds(graph("x = 1 if input else 2")) == []
    found = graph("x = [await self.step(a) for y in input if y]")
    assert ways(found)[1:-1] == ["for y in input -next-> y", "y -yes-> a", "a -again-> for y in input",
                                 "y -no-> for y in input"]  # fmt: skip


# -- guards --------------------------------------------------------------------------------------------------


def test_try() -> None:
    """Errors lead from what is guarded to each handler; `else` is behind the body; all pass `finally`."""
    found = graph(
        """
        try:
            await self.step(a)
        except StepError as error:
            return 1
        else:
            await self.step(b)
        finally:
            await self.step(c)
        await self.step(d)
        """
    )
    assert ways(found)[1:] == [
        "try -next-> a",
        "a -next-> b",
        "try -error-> except StepError",
        "except StepError -next-> return 1",
        "b -next-> finally",
        "return 1 -return-> finally",
        "try -error-> finally",
        "finally -next-> c",
        "c -return-> end",
        "c -error-> the error goes on",
        "c -next-> d",
        "d -next-> end",
    ]
    assert [block.kind for block in found.blocks] == ["function", "try", "arm"]


def test_jumps_through_finally() -> None:
    """`break` and `continue` pass the `finally` between them and their loop."""
    found = graph(
        """
        for x in input:
            try:
                if x: break
                continue
            finally:
                await self.step(c)
        """
    )
    assert {"c -continue-> for x in input", "c -break-> end", "for x in input -done-> end"} <= set(
        ways(found)
    )


def test_suppressed_and_limited() -> None:
    """`suppress` and time limits are blocks; what they swallow leads on."""
    found = graph("with suppress(StepError):\n    await self.step(a)\nawait self.step(b)")
    assert ways(found)[1:4] == [
        "suppress StepError -next-> a",
        "a -next-> b",
        "suppress StepError -StepError-> b",
    ]
    found = graph(
        "async with asyncio.timeout(5):\n    await self.step(a)\nawait asyncio.wait_for(self.step(b), 7)"
    )
    limits = [node.settings["seconds"].source for node in found.nodes if node.kind == "timeout"]
    assert limits == ["5", "7"]
    found = graph("with anyio.move_on_after(5):\n    await self.step(a)")
    assert "time limit -time is up-> end" in ways(found)


# -- side by side --------------------------------------------------------------------------------------------


def test_gather() -> None:
    """Branches begin at a fork and end at a join; a generator is one branch for each item."""
    found = graph("await asyncio.gather(self.step(a), *(self.step(b) for x in input), *more)")
    assert ways(found)[1:] == [
        "in parallel -parallel-> a",
        "in parallel -parallel-> for x in input",
        "for x in input -next-> b",
        "in parallel -parallel-> more",
        "a -next-> all done",
        "b -next-> all done",
        "more -next-> all done",
        "all done -next-> end",
    ]
    found = graph("await asyncio.wait([self.step(a), t], return_when=asyncio.FIRST_COMPLETED)")
    assert the(found, "join").text == "first completed"
    assert kinds(graph("await asyncio.gather(*tasks)")) == ["join"]


def test_groups() -> None:
    """What is begun at the top of a group's body, also in a plain loop, are branches beside the rest."""
    found = graph(
        """
        async with self.group() as g:
            x = g.step(a)
            for y in input:
                g.step(b, y)
            await self.step(c)
        """
    )
    assert ways(found)[1:] == [
        "in parallel -parallel-> a",
        "in parallel -parallel-> for y in input",
        "for y in input -parallel-> b",
        "in parallel -next-> c",
        "a -next-> all done",
        "b -next-> all done",
        "c -next-> all done",
        "all done -next-> end",
    ]


def test_task_groups() -> None:
    """Task groups of asyncio and anyio begin branches too; so does a list that tasks are kept in."""
    more = """
        async def one(self, x):
            await self.step(a)
    """
    found = graph("async with asyncio.TaskGroup() as g:\n    tasks.append(g.create_task(self.one(1)))", more)
    assert kinds(found) == ["fork", "call", "step", "join"]
    found = graph("async with anyio.create_task_group() as g:\n    g.start_soon(self.one, 1)", more)
    assert kinds(found) == ["fork", "call", "step", "join"]
    assert found.nodes[2].text == "self.one(1)"


# -- functions -----------------------------------------------------------------------------------------------


def test_a_method_is_drawn_where_it_is_called() -> None:
    """Called at one place it is a block there; its `return` leads behind the call."""
    found = graph(
        "x = await self.one(1)\nawait self.step(b)",
        """
            async def one(self, x):
                if x:
                    return 1
                await self.step(a)
        """,
    )
    assert set(ways(found)[1:]) == {
        "self.one(1) -next-> x",
        "x -no-> a",
        "x -yes-> b",
        "a -next-> b",
        "b -next-> end",
    }
    assert [(block.kind, block.title) for block in found.blocks] == [
        ("function", "Flow.run"),
        ("call", "Flow.one"),
    ]


def test_a_method_of_several_calls_is_drawn_by_itself() -> None:
    """Also one that calls itself: each step of the source stays one node."""
    found = graph(
        "await self.one(1)",
        """
            async def one(self, x):
                await self.step(a)
                if x:
                    return await self.one(x - 1)
        """,
    )
    assert [node.text for node in found.nodes if node.kind == "step"] == ["a"]
    calls = [edge for edge in found.edges if edge.kind == "calls"]
    (start,) = {edge.target for edge in calls}
    assert found.nodes[start].text == "one(x)"
    assert len(calls) == 2
    assert not any(node.unreachable for node in found.nodes)


def test_functions_that_get_the_workflow() -> None:
    """A function of the module, or within run(), that is given the workflow is part of the flow."""
    found = graph(
        """
        async def inner(x):
            await self.step(a)
        await inner(1)
        await outer(1, flow=self)
        """,
        functions="""
        async def outer(x, flow):
            await flow.step(b)
        """,
    )
    assert [node.text for node in found.nodes[1:5]] == ["inner(1)", "a", "outer(1, flow=self)", "b"]


def test_what_others_may_call() -> None:
    """A function that is handed on is begun by somebody else; the body of a step is outside code."""
    found = graph("hand_on(lambda: self.step(a))\nawait self.step(lambda: self.step(b))")
    assert [(node.kind, node.begins) for node in found.nodes[1:3]] == [("call", True), ("step", False)]
    assert [node.text for node in found.nodes if node.kind == "step"] == ["<lambda>", "a"]


def test_a_plain_method_that_gives_a_step() -> None:
    """Awaiting what it returns is waiting for the step."""
    found = graph("await self.one()", "def one(self):\n    return self.step(a)\n")
    assert [(node.text, node.begins) for node in found.nodes[1:3]] == [("self.one()", False), ("a", False)]


def test_updates() -> None:
    """An update that does something is drawn by itself: it comes from outside."""
    found = graph(
        "await self.change(1)",
        """
            @update
            async def change(self, x):
                await self.step(a)
            @holdfast.update
            def note(self, x):
                self.x = x
            @query
            def look(self):
                return self.x
        """,
    )
    assert [node.text for node in found.nodes] == [
        "run(input)",
        "self.change(1)",
        "end",
        "change(x)",
        "a",
        "end",
    ]
    assert [(edge.source, edge.target) for edge in found.edges if edge.kind == "calls"] == [(0, 3), (1, 3)]


def test_a_function_that_is_a_workflow() -> None:
    """The workflow is its first parameter, or the one that is named."""
    source = "async def pay(wf, order):\n    await wf.step(charge, order)\n"
    assert graph_of_source(source, "pay").nodes[1].text == "charge"
    assert graph_of_source(source, "pay").nodes[0].text == "pay(order)"
    swapped = "async def pay(order, wf):\n    await wf.step(charge, order)\n    await order.unknown()\n"
    found = graph_of_source(swapped, "pay", context="wf")
    assert kinds(found) == ["step", "await"]
    with pytest.raises(CallerError, match="no parameter 'x'; got order, wf"):
        graph_of_source(swapped, "pay", context="x")


# -- the whole -----------------------------------------------------------------------------------------------


def test_warnings_of_the_lint() -> None:
    """A finding stands at the node on whose lines it is, or at none."""
    found = graph("x = time.time()\nif time.time() > 1:\n    await self.step(a, time.time())")
    assert [(one.line, one.node) for one in found.warnings] == [(20, None), (21, 1), (22, 2)]
    assert "use self.now()" in found.warnings[0].text


def test_lines() -> None:
    """Nodes know their lines; of a statement with a body those of its head."""
    found = graph("if (input and\n        input):\n    await self.step(\n        a,\n    )")
    assert [(node.text, node.line, node.end_line) for node in found.nodes[1:3]] == [
        ("input and input", 20, 21),
        ("a", 22, 24),
    ]


class Base(Workflow):
    """Its method is part of the flow of who inherits it."""

    async def one(self, x: int) -> None:
        await self.step(print, x)


class Own(Base):
    """Drawn from the class itself."""

    async def run(self, x: int) -> None:
        await self.one(x)
        await self.runtime.get(Counter, "n").increment()


@workflow(title="A function", retry=Retry(2))
async def by_function(wf: WorkflowContext, x: int) -> int:
    """Drawn as a class is."""
    await wf.step(print, time.time())
    return x


def test_graph_of_a_function() -> None:
    """A function that `@workflow` made a workflow is drawn from its source, with options and warnings."""
    found = workflow_graph(by_function)
    assert [node.text for node in found.nodes] == ["by_function(x: int)", "print", "return x"]
    assert {name: one.source for name, one in found.options.items()} == {
        "title": "'A function'",
        "retry": "Retry(2)",
    }
    assert [one.node for one in found.warnings] == [1]


def test_graph_of_a_class() -> None:
    """`workflow_graph` reads the sources of a class and its bases."""
    found = workflow_graph(Own)
    assert [node.text for node in found.nodes] == [
        "run(x: int)",
        "self.one(x)",
        "print",
        "Counter.increment",
        "end",
    ]
    assert found.workflow == "Own"
    assert found.file == __file__


def test_no_source_to_read() -> None:
    """What can't be read is told."""

    class Inside(Workflow):
        async def run(self, x: int) -> None: ...

    with pytest.raises(CallerError, match=r"no class .*Inside at its top"):
        workflow_graph(Inside)
    with pytest.raises(CallerError, match="can't be read as Python"):
        graph_of_source("def (", "x")
    with pytest.raises(CallerError, match="has no workflow 'x'"):
        graph_of_source("class y: pass", "x")
    with pytest.raises(CallerError, match="has no workflows; say which"):
        graph_of_source("class y: pass")
    with pytest.raises(CallerError, match=r"nested too deeply|can't be read"):
        graph(f"x = {'-' * 3000}1\nawait self.step(a, {'(' * 60}1{')' * 60}, {'x.' * 3000}x)")
