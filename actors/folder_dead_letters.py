"""Dead letters of a folder that nobody has open: of its queues, and of runs whose classes are imported.

For the command line.  It opens the folder as its owner for as long as that takes.
"""

from __future__ import annotations

import os

from ..runtime.errors import UnknownActorType
from ..runtime.registry import find_actor_class
from ..storage.errors import CallerError
from .durable_queue import Queue
from .errors import RunFailed
from .handle import Run
from .system import Runtime
from .workflow.head import FAILED
from .workflow.run_index import RunFilter, list_runs
from .workflow.workflow import Workflow


async def redrive(path: str | os.PathLike[str], letter: str, *, reason: str = "") -> str:
    """Let `Queue/name/id` or `Workflow/id` go on, and wait for what becomes of a run; returns a sentence.

    Raises `CallerError` when there is no such dead letter, or its class isn't imported.
    """
    async with Runtime(path) as runtime:
        kind, _, rest = letter.partition("/")
        if kind == "Queue":
            queue, _, id_ = rest.rpartition("/")
            if not await runtime.get(Queue, queue).redrive([id_], reason=reason):
                raise CallerError(f"queue {queue!r} holds no dead message {id_!r}")
            return f"message {id_} is back in queue {queue}"
        workflow = find_actor_class(kind)
        if workflow is None or not issubclass(workflow, Workflow):
            raise UnknownActorType(f"no workflow {kind!r} is imported; name its module with --import")
        run = await _failed_run(runtime, workflow, rest)
        await run.redrive(reason=reason)
        try:
            return f"run {letter} is complete: {await run.result()}"
        except RunFailed as failure:
            return f"run {letter} failed again: {failure.cause}"


async def _failed_run(runtime: Runtime, workflow: type[Workflow], id_: str) -> Run[object]:
    """The failed run that is shown as `id_`: its key may be a text, a number or a tuple."""
    kind = runtime.workflow_type(workflow)
    for ref, _ in list_runs(runtime, RunFilter((kind,), FAILED), limit=1_000_000, reverse=False):
        run = Run[object](runtime, ref)
        if run.id == id_:
            return run
    raise CallerError(f"there is no failed run {workflow.__name__}/{id_}")
