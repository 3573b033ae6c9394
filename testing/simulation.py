"""The simulation: the real runtime on virtual time, whose process dies where a test wants it to.

    with simulate(seed=7) as sim:
        run = sim.start(Fulfil, order, id="o-1")
        sim.crash_at("step", step="charge")
        assert sim.result(run) == "done"

A story is a row of lives.  A life is one process: a loop (sim_loop.py), a clock, a `Runtime` on the folder.
When it dies nothing of it runs any more (graveyard.py) and the next life opens the same folder.  What a test
holds, and the objects in `deps`, stay: they are the world outside.

    SimProcess (sim_process.py)   the lives, and how they are driven
    SimFaults, SimTalk            what goes wrong; what is said to runs
    Simulation                    actors, runs and queues as a client outside has them

Promises
  * Nothing sleeps for real, nothing depends on the machine: the same seed and the same calls are the same
    story.
  * What was committed before a crash is there after it, and nothing else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from functools import partial
from typing import Any, TypeVar, cast, overload

import msgspec

from ..actors.durable_queue import Queue
from ..actors.workflow.head import RunStatus
from ..actors.workflow.journal import Record
from ..actors.workflow.journal_text import record_text
from ..actors.workflow.protocols import TakesInput, TakesNothing
from ..actors.workflow.start_options import OnConflict
from ..runtime.actor import Actor
from ..runtime.address import GivenKey
from ..runtime.limits import Limits
from ..storage.errors import CallerError
from .bodies import BodyKey
from .calls import Calls
from .checks import check_count, check_step_name
from .sim_faults import SimFaults
from .sim_process import START_MS, Deps, Setup
from .sim_run import SimRun, checked_run
from .sim_talk import SimTalk
from .stage import shown_body

A = TypeVar("A", bound=Actor)
In = TypeVar("In")
Out = TypeVar("Out")


class Simulation(SimFaults, SimTalk):
    """A story: the lives of one simulated process on one folder.  Use it as `with simulate(...) as sim`."""

    # Runs that were started without an id.
    _ids = 0

    # -- actors --------------------------------------------------------------------------------------------

    def get(self, actor_type: type[A], key: GivenKey) -> A:
        """A ref to an actor, for `run`; it belongs to the present life."""
        return self.runtime.get(actor_type, key)

    def call(self, actor_type: type[Actor], key: GivenKey) -> Calls:
        """An actor whose methods are called from plain code: `sim.call(Counter, "total").increment(2)`.

        Raises what the method raises, and what `run` raises.  For results with types use `run` and `get`.
        """
        return Calls(self, actor_type, key)

    # -- workflows -----------------------------------------------------------------------------------------

    @overload
    def start(
        self, workflow: type[TakesInput[In, Out]], input: In, *, id: GivenKey | None = ...,
        on_conflict: OnConflict = ..., copies: int = ...,
    ) -> SimRun[Out]: ...  # fmt: skip
    @overload
    def start(
        self, workflow: type[TakesNothing[Out]], *, id: GivenKey | None = ..., on_conflict: OnConflict = ...,
        copies: int = ...,
    ) -> SimRun[Out]: ...  # fmt: skip

    def start(
        self,
        workflow: type[object],
        input: object = msgspec.UNSET,
        *,
        id: GivenKey | None = None,
        on_conflict: OnConflict = "join",
        copies: int = 1,
    ) -> SimRun[Any]:
        """Start a run, as a client outside does: a start that a crash cut off is made again.

        id            identifies the run; "run-1", "run-2" ... by default
        on_conflict   as for `Runtime.start`; a client that starts again has to "join"
        copies        so many clients start it at the same time

        Raises what `Runtime.start` raises.
        """
        check_count(copies, "copies of a start")
        if not isinstance(workflow, type):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CallerError(f"expected a class of a workflow; got {workflow!r}")
        if id is None:
            self._ids += 1
            id = f"run-{self._ids}"
        run = SimRun[Any](workflow, id)

        async def start_once() -> None:
            await self.runtime.start(
                cast("type[TakesInput[object, object]]", workflow),
                input,
                id=id,
                on_conflict=on_conflict,
                correlation_id=f"story-{run.id}",
            )

        async def start() -> None:
            if copies == 1:
                await start_once()
            else:
                await asyncio.gather(*[start_once() for _ in range(copies)])

        self._again_and_again(start, f"the start of {run}")
        return run

    def result(self, run: SimRun[Out]) -> Out:
        """What a run returned; lets happen what must until then, over crashes.

        Raises `RunFailed` when it failed, was terminated or is stuck, `RunNotFound` when there is none, and
        `NotFinished` when nothing is left that could end it.
        """

        async def result() -> Out:
            return await self._handle(run).result()

        return self._again_and_again(result, f"the result of {run}")

    def status(self, run: SimRun[Any]) -> RunStatus:
        """The status of a run at this moment; raises `RunNotFound`."""
        return self._again_and_again(lambda: self._handle(run).status(), f"the status of {run}")

    def history(self, run: SimRun[Any]) -> list[Record]:
        """The records of a run; raises `RunNotFound`."""
        return self._again_and_again(lambda: self._handle(run).history(), f"the history of {run}")

    def journal(self, run: SimRun[Any]) -> str:
        """The records of a run as text, one on a line; raises `RunNotFound`."""
        records = self.history(run)
        return "\n".join(
            f"{place:3}  +{(record.at_ms - records[0].at_ms) / 1000:.3f} s  {record_text(record)}"
            for place, record in enumerate(records)
        )

    def attempts(self, step: str, run: SimRun[Any] | None = None) -> int:
        """How often bodies of a step were begun, in all runs or in one."""
        return self._sum(self._stage.bodies.begun, step, run)

    def effects(self, step: str, run: SimRun[Any] | None = None) -> int:
        """How often bodies of a step returned: their effect happened, recorded or not."""
        return self._sum(self._stage.bodies.returned, step, run)

    def bodies_returned(self) -> frozenset[str]:
        """Bodies of steps that returned at least once: run, name and use of each."""
        return frozenset(shown_body(body) for body in self._stage.bodies.returned)

    @property
    def reran(self) -> list[str]:
        """Bodies that began after the outcome of their step was recorded: there must not be any (P5)."""
        return list(self._stage.reran)

    def _sum(self, counts: dict[BodyKey, int], step: str, run: SimRun[Any] | None) -> int:
        check_step_name(step)
        address = None if run is None else self._address(run)
        return sum(n for body, n in counts.items() if body.step == step and address in (None, body.run))

    def _address(self, run: SimRun[Any]) -> str:
        return f"{self.runtime.workflow_type(checked_run(run).workflow).name}/{run.id}"

    # -- queues --------------------------------------------------------------------------------------------

    def send(self, queue: GivenKey, *bodies: object, copies: int = 1, mix: bool = False) -> None:
        """Put messages into a queue, as a sender outside does.

        copies   each message comes so often: senders that got no answer send again
        mix      in an order chosen by the seed
        """
        check_count(copies, "copies of a message")
        messages = [body for body in bodies for _ in range(copies)]
        if mix:
            self._mixing.shuffle(messages)
        for body in messages:
            send = partial(self._send, queue, body)
            self._again_and_again(send, f"sending to {queue!r}")

    async def _send(self, queue: GivenKey, body: object) -> None:
        await self.runtime.get(Queue, queue).send(body)


def simulate(
    *,
    seed: int = 0,
    deps: Deps = (),
    types: Iterable[type[Actor]] = (),
    setup: Setup | None = None,
    path: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    max_running: int = 10_000,
    start_ms: int = START_MS,
) -> Simulation:
    """A simulation, for `with`: the real runtime on virtual time, from a plain `def test_...`.

    seed        chooses among tasks that are ready, random crashes, the order of mixed messages.  0 lets ready
                tasks go on in order, as asyncio does
    deps        objects for `runtime.deps`; they are the world outside and survive crashes.  A function makes
                new ones for each life
    types       as for `Runtime`
    setup       called with the runtime at the beginning of each life: consumers and bindings of queues belong
                here.  May be async
    path        the folder; by default a temporary one, in memory where the system has /dev/shm
    limits, max_running   as for `Runtime`
    start_ms    the wall clock at the beginning, in milliseconds since 1970; 2030-01-01 by default
    """
    return Simulation(
        seed=seed,
        deps=deps,
        types=types,
        setup=setup,
        path=path,
        limits=limits,
        max_running=max_running,
        start_ms=start_ms,
    )
