"""A run that was exported somewhere is replayed against the present code: a test made of yesterday's run.

def test_the_order_of_may_still_replays() -> None:
    replay_exported(Fulfil, Path("tests/data/order-of-may.json"))
"""

from __future__ import annotations

from pathlib import Path

from ..actors.exported_run import read_export
from ..actors.workflow.debugging import DebugView, debug_records
from ..actors.workflow.journal import decode_records, position_key
from ..actors.workflow.workflow import Workflow
from ..runtime.address import normal_key
from ..storage.errors import CallerError
from .errors import ReplayViolation
from .simulation import simulate


def replay_exported(workflow: type[Workflow], exported: str | Path, *, at: int | None = None) -> DebugView:
    """Replay an exported run against `workflow`, without effects; returns the run behind its records.

    exported   the file's path, or its text
    at         stop behind the record at this position

    Raises `ReplayViolation` when the code asks for something else than is recorded, `InvalidExport` when it
    is no exported run, and `CallerError` when it is a run of another workflow.
    """
    text = exported.read_text(encoding="utf-8") if isinstance(exported, Path) else exported
    run = read_export(text)
    with simulate(types=(workflow,)) as sim:
        runtime = sim.runtime
        kind = runtime.workflow_type(workflow)
        if kind.name != run.workflow:
            raise CallerError(f"the exported run is one of {run.workflow}, not of {kind.name}")
        ref = runtime.make_ref(kind, *normal_key("exported", kind.name))
        rows = [(position_key(b"", position), stored) for position, stored in run.stored()]
        records = decode_records(rows, f"{run.workflow}/{run.id}")

        async def replay() -> DebugView:
            return await debug_records(runtime.engine, ref, records, at)

        view = sim.run(replay)
    if view.problem:
        raise ReplayViolation(
            f"the exported run {run.workflow}/{run.id} doesn't replay with this code: {view.problem}"
        )
    return view
