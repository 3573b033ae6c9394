"""`workflow_graph(Order)`: what a workflow does, as a graph.

The analyser (workflow/graph/) is loaded when it is first asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .workflow.workflow import Workflow

if TYPE_CHECKING:
    from .workflow.graph.model import WorkflowGraph


def workflow_graph(workflow: type[Workflow]) -> WorkflowGraph:
    """The flow of a workflow, read from its source: steps, branches, loops, waits, parallel parts.

    The graph is plain data; `mermaid()`, `svg()` and `json()` of it give it as text.  Raises `CallerError`
    when there is no source to read.
    """
    from .workflow.graph.analyse import graph_of_class

    return graph_of_class(workflow)
