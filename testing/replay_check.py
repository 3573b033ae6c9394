"""One workflow, two stories: a calm one and a stormy one must end alike.

Compared are what the runs came to, what all actors have stored, and what outside saw.  On its way the stormy
story is watched: a step whose outcome is recorded must never run again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final, TypeAlias, cast

import msgspec

from ..actors.durable_queue import Queue
from ..actors.errors import RunEnded, RunFailed
from ..actors.workflow.head import ENDED
from ..actors.workflow.journal import EventArrived, Started
from ..runtime.actor import Actor
from ..runtime.address import GivenKey
from ..runtime.durations import Duration
from ..storage.errors import CallerError
from .checks import check_callable
from .crash import Crash
from .errors import NeverAtRest, NotFinished, ReplayViolation
from .sent_event import SentEvent, check_events, in_order
from .sim_process import Setup
from .sim_run import SimRun
from .sim_runtime import Plans
from .simulation import Simulation
from .source import Source
from .stored_state import StoredState, kept_replies, stored_state
from .storm import Storm, check_storm

MakeDeps: TypeAlias = Callable[[], Iterable[object]]
Observe: TypeAlias = Callable[..., object]
_CALM: Final = Storm()
# Runs that one story may start by a queue.
MAX_RUNS: Final = 10_000
# A body that a crash cut off takes its time again, so later times differ.
TIMES: Final = ("updated_ms",)


class ReplayPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is the same in all stories of a property; see `check_replay`."""

    workflow: type[object]
    deps: MakeDeps | None = None
    observe: Observe | None = None
    setup: Setup | None = None
    ignore: frozenset[str] = frozenset()
    leave_out: tuple[type[Actor], ...] = ()
    after: Duration | None = None
    limit: Duration = "400d"
    queue: GivenKey | None = None


def make_plan(
    workflow: type[object],
    *,
    deps: MakeDeps | None,
    observe: Observe | None,
    setup: Setup | None,
    ignore: Collection[str],
    leave_out: Collection[type[Actor]],
    after: Duration | None,
    limit: Duration,
    queue: GivenKey | None,
) -> ReplayPlan:
    """The plan of a property; raises `CallerError` when there can be none."""
    for function, what in ((deps, "deps, which makes the objects of a story,"), (observe, "observe")):
        if function is not None:
            check_callable(function, what)
    if isinstance(ignore, str):
        raise CallerError(f"ignore must be a list of names of fields; got {ignore!r}")
    for kind in cast("Iterable[object]", leave_out):
        if not isinstance(kind, type):
            raise CallerError(f"leave_out must be a list of classes of actors; got {kind!r} in it")
    return ReplayPlan(
        workflow=workflow,
        deps=deps,
        observe=observe,
        setup=setup,
        ignore=frozenset(ignore),
        leave_out=tuple(leave_out),
        after=after,
        limit=limit,
        queue=queue,
    )


class Told(msgspec.Struct, frozen=True):
    """What the runs of a story are told."""

    inputs: tuple[object, ...]
    events: tuple[SentEvent, ...] = ()
    may_wait: bool = False
    """A run may still wait for an event in the end."""


class Ending(msgspec.Struct, frozen=True):
    """What a story came to."""

    runs: dict[str, tuple[str, object]]
    """What each run came to, by its id."""
    state: StoredState
    steps: frozenset[str]
    """Bodies that returned at least once."""
    seen: object
    """What `observe` made of the world outside."""


class Ended(msgspec.Struct, frozen=True):
    """A story with its ending."""

    ending: Ending
    text: str
    places: tuple[Crash, ...]
    callbacks: int
    commits: int


def check_replay(
    workflow: type[object],
    inputs: Sequence[object],
    storm: Storm,
    *,
    events: Sequence[SentEvent] | None = None,
    deps: MakeDeps | None = None,
    observe: Observe | None = None,
    setup: Setup | None = None,
    ignore: Collection[str] = TIMES,
    leave_out: Collection[type[Actor]] = (),
    after: Duration | None = None,
    limit: Duration = "400d",
    queue: GivenKey | None = None,
) -> None:
    """Run a workflow for each input, calm and in a storm; raises `ReplayViolation` when they end otherwise.

    workflow    started once for each input, with the ids "run-1", "run-2" ...  No input: `[()]`
    storm       what goes wrong
    events      sent to the runs at moments of virtual time; one that a run doesn't take any more is refused.
                A run that still waits when all was sent is compared as it waits
    deps        makes the objects for `runtime.deps`, anew for each story; they survive crashes
    observe     called with these objects at the end: what it returns must be the same.  Return what happened
                at least once (a set), and what must have happened exactly once, by its key
    setup       as for `simulate`
    ignore      names of stored fields that may differ: times.  By default the one that a `Counter` keeps
    leave_out   actor types whose state may differ; queues always may
    after       virtual time that passes behind the last result before states are compared; None until nothing
                is left to happen (where an alarm repeats that is never)
    limit       a story that goes on for longer in virtual time is a violation
    queue       the inputs are sent to this queue in place of starts; `setup` has to bind it to the workflow,
                with an id that follows from the message's body
    """
    plan = make_plan(
        workflow,
        deps=deps,
        observe=observe,
        setup=setup,
        ignore=ignore,
        leave_out=leave_out,
        after=after,
        limit=limit,
        queue=queue,
    )
    check_storm(storm)
    if not inputs:
        raise CallerError("a story without inputs shows nothing; [()] is one run without an input")
    if events and queue is not None:
        raise CallerError(
            "events are for runs that the story starts itself, not for those that a queue starts"
        )
    told = Told(tuple(inputs), check_events(events or (), len(inputs)), may_wait=events is not None)
    plans = Plans()
    compare(plan, told, storm, play(plan, told, _CALM, plans), plans)


def compare(plan: ReplayPlan, told: Told, storm: Storm, calm: Ended, plans: Plans) -> None:
    """Play a storm and compare it with the calm story; raises `ReplayViolation`."""
    try:
        stormy = play(plan, told, storm, plans)
    except ReplayViolation as violation:
        text = _message(str(violation), plan, told, storm)
        raise ReplayViolation(text, told.inputs, storm, told.events) from violation
    differs = _difference(calm.ending, stormy.ending)
    if differs is not None:
        text = f"{differs}\n\nthe stormy story:\n{stormy.text}"
        raise ReplayViolation(_message(text, plan, told, storm), told.inputs, storm, told.events)


def play(plan: ReplayPlan, told: Told, storm: Storm, plans: Plans) -> Ended:
    """One story, whole; raises `ReplayViolation` when a promise is broken on the way."""
    inputs = told.inputs
    world = tuple(plan.deps()) if plan.deps is not None else ()
    with Simulation(seed=storm.seed, deps=world, setup=plan.setup, plans=plans) as sim:
        try:
            sim.face(storm)
            started = _begin(sim, plan, inputs, storm)
            _send(sim, plan, started, told, storm)
            runs = {run.id: _came_to(sim, run, may_wait=told.may_wait) for run in started}
            _let_pass(sim, plan)
        except (NotFinished, NeverAtRest) as error:
            raise ReplayViolation(str(error)) from error
        if sim.reran:
            raise ReplayViolation(f"recorded steps ran again: {', '.join(sim.reran)}\n\n{sim.story}")
        kept = kept_replies(sim.runtime)
        if kept and not sim.pending():
            raise ReplayViolation(f"replies were left behind by {', '.join(kept)}\n\n{sim.story}")
        left_out = {name for name, kind in _types(sim) if issubclass(kind, (Queue, *plan.leave_out))}
        state = stored_state(sim.runtime, leave_out=left_out, ignore=plan.ignore)
        seen = plan.observe(*world) if plan.observe is not None else None
        ending = Ending(runs, state, sim.bodies_returned(), seen)
        return Ended(ending, str(sim.story), tuple(sim.places), sim.callbacks, sim.commits)


def _begin(sim: Simulation, plan: ReplayPlan, inputs: Sequence[object], storm: Storm) -> list[SimRun[Any]]:
    """Start the runs, or send the messages that start them."""
    order = storm.order or tuple(range(len(inputs)))
    if sorted(order) != [*range(len(inputs))]:
        raise CallerError(f"the order of a storm names each input once, by its place from 0; got {order}")
    copies = 1 + storm.duplicates
    if plan.queue is not None:
        for place in order:
            sim.send(plan.queue, inputs[place], copies=copies)
        _let_pass(sim, plan)
        keys = sim.runtime.keys(cast("type[Actor]", plan.workflow), limit=MAX_RUNS)
        if not keys and storm == _CALM:
            raise CallerError(
                f"no message of queue {plan.queue!r} started a run of {plan.workflow.__name__}: setup has to "
                f"bind the queue to it"
            )
        return [SimRun[Any](plan.workflow, key) for key in keys]
    start = cast("Callable[..., SimRun[Any]]", sim.start)
    started: dict[int, SimRun[Any]] = {}
    for place in order:
        given = () if inputs[place] == () else (inputs[place],)
        started[place] = start(plan.workflow, *given, id=f"run-{place + 1}", copies=copies)
    return [started[place] for place in range(len(inputs))]


def _send(sim: Simulation, plan: ReplayPlan, started: list[SimRun[Any]], told: Told, storm: Storm) -> None:
    """Send the events at their moments, and look whether each that was accepted got to its run."""
    if not told.may_wait:
        return
    begin_us = round(sim.now * 1_000_000)
    taken: list[tuple[SimRun[Any], str]] = []
    for place, one in enumerate(in_order(told.events, storm.event_order)):
        sim.advance(max(0, begin_us + round(one.at * 1_000_000) - round(sim.now * 1_000_000)) / 1_000_000)
        run = started[one.run - 1]
        for _ in range(1 + storm.event_copies):
            payload = one.payload if isinstance(one.event, str) else msgspec.UNSET
            try:
                sim.send_event(run, one.event, payload, id=f"event-{place + 1}")
            except RunEnded:
                continue  # as its sender is told
            taken.append((run, f"event-{place + 1}"))
    for run, id_ in dict.fromkeys(taken):
        history = sim.history(run)
        first = history[0]
        begun_anew = isinstance(first, Started) and first.generation
        got = sum(isinstance(one, EventArrived) and one.id == id_ for one in history)
        if got != 1 and not begun_anew:
            raise ReplayViolation(f"{id_} was accepted for {run.id} and is there {got} times\n\n{sim.story}")
    sim.run_until_idle(limit=plan.limit) if plan.after is None else sim.advance(plan.after)


def _let_pass(sim: Simulation, plan: ReplayPlan) -> None:
    if plan.after is None:
        sim.run_until_idle(limit=plan.limit)
    else:
        sim.advance(plan.after)


def _came_to(sim: Simulation, run: SimRun[Any], *, may_wait: bool) -> tuple[str, object]:
    """What became of a run: its status, with the result or the cause."""
    if may_wait and (status := sim.status(run)) not in ENDED and status != "stuck":
        return status, None
    try:
        return "complete", sim.result(run)
    except RunFailed as failure:
        cause = failure.cause
        # The trace tells lines of the library too; they differ on replay.
        return failure.status, None if cause is None else f"{cause.type}: {cause.message}"


def _types(sim: Simulation) -> list[tuple[str, type[Actor]]]:
    kinds = sim.runtime.actor_types
    return [(name, kinds.numbered(number).actor_class) for name, number in kinds.stored().items()]


def _difference(calm: Ending, stormy: Ending) -> str | None:
    for id_ in sorted(calm.runs.keys() | stormy.runs.keys()):
        left, right = calm.runs.get(id_), stormy.runs.get(id_)
        if left != right:
            return f"{id_} ended otherwise\n  calm:   {_told(left)}\n  stormy: {_told(right)}"
    for address in sorted(calm.state.keys() | stormy.state.keys()):
        left_state, right_state = calm.state.get(address), stormy.state.get(address)
        if left_state != right_state:
            return f"{address} has stored something else\n  calm:   {left_state}\n  stormy: {right_state}"
    if calm.steps != stormy.steps:
        missing, more = sorted(calm.steps - stormy.steps), sorted(stormy.steps - calm.steps)
        return f"other steps took effect\n  only calm:   {missing}\n  only stormy: {more}"
    if calm.seen != stormy.seen:
        return f"outside saw something else\n  calm:   {calm.seen!r}\n  stormy: {stormy.seen!r}"
    return None


def _told(came_to: tuple[str, object] | None) -> str:
    if came_to is None:
        return "was never started"
    status, value = came_to
    return f"{status}: {value!r}" if status == "complete" else f"{status}: {value}"


def _message(what: str, plan: ReplayPlan, told: Told, storm: Storm) -> str:
    return f"{what}\n\nthis test shows it:\n\n{script(plan, told, storm)}"


def script(plan: ReplayPlan, told: Told, storm: Storm) -> str:
    """The story as a test to be pasted."""
    source = Source()
    lines = [
        f"{source.named(plan.workflow)},",
        f"{source.value(list(told.inputs))},",
        f"{storm!r},",
    ]
    if told.may_wait:
        lines.append(f"events=[{', '.join(one.source(source) for one in told.events)}],")
    for name in ("deps", "observe", "setup"):
        function = getattr(plan, name)
        if function is not None:
            lines.append(f"{name}={source.named(function)},")
    if plan.ignore != frozenset(TIMES):
        lines.append(f"ignore={sorted(plan.ignore)!r},")
    if plan.leave_out:
        lines.append(f"leave_out=[{', '.join(source.named(one) for one in plan.leave_out)}],")
    for name, default in (("after", None), ("limit", "400d"), ("queue", None)):
        if getattr(plan, name) != default:
            lines.append(f"{name}={getattr(plan, name)!r},")
    body = "\n".join(f"        {line}" for line in lines)
    missing = "".join(f"# {name} was made in a function: bring it here\n" for name in source.unreachable)
    names = ["Storm", "check_replay"]
    names += ["Crash"] if storm.crashes else []
    names += ["ClockJump"] if storm.clock_jumps else []
    names += ["SentEvent"] if told.events else []
    imports = f"from holdfast.testing import {', '.join(sorted(names))}\n{source.imports()}"
    return f"{imports}\n{missing}\n\ndef test_found_story() -> None:\n    check_replay(\n{body}\n    )\n"
