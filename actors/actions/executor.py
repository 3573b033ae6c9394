"""`run_graph`: the nodes of a graph as steps of a run, side by side as far as dependencies and a bound allow.

    waiting -> running -> done | failed
            -> skipped                   what it needs failed or was skipped, or the graph was stopped
    done    -> undone                    the graph is compensated, the newest first

It runs in run() and is made of steps, so what it decides follows from what is recorded, in the order of the
journal: on replay it decides the same.

Promises
  * No node begins before all that it depends on has ended; what is recorded never runs again (P5).
  * A node that fails raises nothing: it is in the list of outcomes, which are in the order of the nodes
    given.
  * At most `parallel` nodes run at the same time; of several that could begin, the first of the list does.
  * Nodes that run when the graph is stopped are let to their end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

import msgspec

from ...runtime.durations import Duration
from ..errors import ErrorRecord, InvalidGraph, InvalidParameters, StepError, record_error
from ..workflow.retry import Retry
from .action import Action
from .graph import SKIPPED, UNDO, Graph, MissingResult, Node, Outcome, PlannedNode, with_results

if TYPE_CHECKING:
    from ..workflow.workflow import Workflow

PARALLEL: Final = 8
_ONCE: Final = Retry(0)


async def run_graph(workflow: Workflow, nodes: Sequence[Node], *, parallel: int = PARALLEL) -> list[Outcome]:
    """Run a graph of actions in run(), and return what became of each node, in the order given.

        outcomes = await run_graph(self, [Node("a", check), Node("b", pay, {"cents": ResultOf("a")})])

    parallel   nodes that run at the same time, at most

    Raises `InvalidGraph`, `UnknownAction` and `InvalidParameters` before anything runs, and nothing for nodes
    that fail.
    """
    if type(parallel) is not int or parallel < 1:
        raise InvalidGraph(f"parallel must be a whole number from 1 on; got {parallel!r}")
    execution = _Execution(workflow, Graph(nodes), parallel)
    outcomes = await execution.run()
    return [outcomes[node.name] for node in nodes]


class _Execution:
    """One graph while it runs."""

    def __init__(self, workflow: Workflow, graph: Graph, parallel: int) -> None:
        self._workflow = workflow
        self._graph = graph
        self._parallel = parallel
        self._outcomes: dict[str, Outcome] = {}
        # Results of nodes that are done, in the order in which they ended.
        self._results: dict[str, object] = {}
        self._waiting = dict(graph.by_name)
        self._running: list[asyncio.Task[None]] = []
        # The node whose failure stopped the graph, and whether what was done is to be undone.
        self._stopped_by: PlannedNode | None = None
        self._compensate = False

    async def run(self) -> dict[str, Outcome]:
        """All nodes to their end."""
        try:
            while True:
                self._begin_ready()
                if not self._running:
                    break
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                for task in self._running:
                    if task.done():
                        task.result()  # what is no failure of a node ends the run
                self._running = [task for task in self._running if not task.done()]
        finally:
            for task in self._running:  # the run was cancelled, or gave the graph up
                task.cancel()
        if self._compensate:
            await self._undo_all()
        return self._outcomes

    # -- which node is next --------------------------------------------------------------------------------

    def _begin_ready(self) -> None:
        """Skip what never will begin, then begin, in the order of the list, what may."""
        for planned in self._graph.ordered:
            if planned.name in self._waiting:
                why = self._why_not(planned)
                if why is not None:
                    del self._waiting[planned.name]
                    self._outcomes[planned.name] = Outcome(
                        planned.name, False, error=ErrorRecord(SKIPPED, why)
                    )
        for planned in list(self._waiting.values()):
            if len(self._running) >= self._parallel:
                break
            if all(name in self._outcomes for name in planned.depends_on):
                del self._waiting[planned.name]
                self._running.append(asyncio.create_task(self._run_node(planned)))

    def _why_not(self, planned: PlannedNode) -> str | None:
        """Why a node will never begin; None while it may."""
        if self._stopped_by is not None:
            return f"the graph was stopped by the failure of {self._stopped_by.name!r}"
        for name in planned.depends_on:
            outcome = self._outcomes.get(name)
            if outcome is not None and outcome.skipped:
                return f"it depends on {name!r}, which was skipped"
        if all(name in self._outcomes for name in planned.depends_on):
            try:
                with_results(planned.node.params, self._results)
            except MissingResult as error:
                return str(error)
            except InvalidParameters:
                pass  # a failure of the node itself
        return None

    # -- one node ------------------------------------------------------------------------------------------

    async def _run_node(self, planned: PlannedNode) -> None:
        name, node, action = planned.name, planned.node, planned.action
        retry = node.retry or action.retry or (None if node.on_error == "retry" else _ONCE)
        timeout = action.timeout if node.timeout is None else node.timeout
        try:
            values = self._values(action, node.params)
            result, attempts = await self._perform(action, values, name, retry, timeout)
        except StepError as error:
            self._failed(planned, error.cause, error.attempts)
        except InvalidParameters as error:  # a result that it was given doesn't fit
            self._failed(planned, record_error(error), 0)
        else:
            self._results[name] = result
            self._outcomes[name] = Outcome(name, True, result, attempts=attempts)

    def _values(self, action: Action[..., object], params: Mapping[str, object]) -> tuple[object, ...]:
        given = cast("Mapping[str, object]", with_results(dict(params), self._results))
        return action.handler.plan.check((), given)

    async def _perform(
        self,
        action: Action[..., object],
        values: tuple[object, ...],
        step: str,
        retry: Retry | None,
        timeout: Duration | None,
    ) -> tuple[object, int]:
        """Run an action; its result and the attempts that it took."""
        if action.in_run is not None:
            return await action.in_run(self._workflow, *values), 1
        future = self._workflow.step(action.step_body(), *values, name=step, retry=retry, timeout=timeout)
        return await future, cast("int", getattr(future, "attempts", 1))

    def _failed(self, planned: PlannedNode, error: ErrorRecord, attempts: int) -> None:
        self._outcomes[planned.name] = Outcome(planned.name, False, error=error, attempts=attempts)
        on_error = planned.node.on_error
        if on_error == "continue":
            return
        if self._stopped_by is None:
            self._stopped_by = planned
        if on_error == "compensate":
            self._compensate = True

    # -- compensation --------------------------------------------------------------------------------------

    async def _undo_all(self) -> None:
        """Undo what was done, the newest first; an undo that fails for good keeps none of the others."""
        for name in reversed(list(self._results)):
            node, undo, outcome = (
                self._graph.by_name[name].node,
                self._graph.by_name[name].undo,
                self._outcomes[name],
            )
            if undo is None:
                continue
            try:
                values = self._values(undo, node.undo_params)
                await self._perform(undo, values, UNDO + name, undo.retry, undo.timeout)
            except StepError as error:
                self._outcomes[name] = msgspec.structs.replace(outcome, undo_error=error.cause)
            except (InvalidParameters, MissingResult) as error:
                self._outcomes[name] = msgspec.structs.replace(outcome, undo_error=record_error(error))
            else:
                self._outcomes[name] = msgspec.structs.replace(outcome, undone=True)
