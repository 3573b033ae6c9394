"""`replay_property`: a workflow ends alike whatever goes wrong, for inputs and storms made up by hypothesis.

    def test_fulfil_survives_anything() -> None:
        replay_property(Fulfil, inputs=orders(), crashes=3, deps=make_world, observe=what_was_charged)

Each example plays a calm story, draws a storm from the places that it passed, plays that, and compares
(replay_check.py).  What fails is made as small as it can be, and printed as a test.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from ..runtime.actor import Actor
from ..runtime.address import GivenKey
from ..runtime.durations import Duration, to_seconds
from ..storage.errors import CallerError
from .checks import check_count
from .crash import Crash
from .errors import ReplayViolation
from .replay_check import TIMES, Ended, MakeDeps, Observe, ReplayPlan, Told, compare, make_plan, play
from .sent_event import SentEvent, check_events, made_event
from .sim_process import Setup
from .sim_runtime import Plans
from .storm import ClockJump, Storm

if TYPE_CHECKING:
    from hypothesis import strategies
    from hypothesis.strategies import SearchStrategy

_CALM: Final = Storm()
_MAX_SEED: Final = 1 << 16
# The seconds by which a wall clock is set: back and forth, by little and by more than any timeout.
_JUMPS: Final = (-86_400.0, -3_600.0, -1.0, 1.0, 3_600.0, 86_400.0)


def replay_property(
    workflow: type[object],
    *,
    inputs: SearchStrategy[Any] | None = None,
    events: SearchStrategy[Any] | None = None,
    event_times: SearchStrategy[Any] | None = None,
    most_events: int = 3,
    runs: int = 1,
    crashes: int = 3,
    duplicates: int = 1,
    failures: int = 0,
    failing_commits: int = 0,
    unknown_commits: int = 0,
    clock_jumps: int = 0,
    slow_commits: bool = False,
    schedules: bool = True,
    reorder: bool = False,
    deps: MakeDeps | None = None,
    observe: Observe | None = None,
    setup: Setup | None = None,
    ignore: Collection[str] = TIMES,
    leave_out: Collection[type[Actor]] = (),
    after: Duration | None = None,
    limit: Duration = "400d",
    queue: GivenKey | None = None,
    examples: int = 100,
) -> None:
    """Run a workflow in storms that hypothesis makes up; raises `ReplayViolation` with the smallest story.

    inputs           makes the input of a run; None for a workflow that takes none
    events           makes an event that is sent to a run: an instance of an event type, a name, or a name and
                     a payload.  A run that still waits in the end is compared as it waits
    event_times      makes the moment of an event, in virtual seconds after the start (or a duration): whole
                     seconds of a day by default.  Name moments at which something else happens, too
    most_events      so many events in a story, at most
    runs             so many runs at the same time, at most, each with an input of its own
    crashes          the process dies so often, at most: before and after commits and bodies, and between any
                     two callbacks
    duplicates       each start is sent so often once more, at most; events likewise, with their ids
    failures         so many bodies fail, or succeed and their answer is lost, where a retry is left
    failing_commits  so many commits are refused by the disk, at most
    unknown_commits  so many commits have an outcome that nobody knows, so the process ends itself
    clock_jumps      the wall clock is set so often, at most
    slow_commits     commits may take time
    schedules        tasks that are ready may go on in another order
    reorder          the runs may be started, and the events sent, in another order
    examples         how many stories are played

    The others are those of `check_replay`.  What goes wrong makes a story take longer, so times that are part
    of stored fields differ: name them in `ignore`.
    """
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st

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
    for most, what in (
        (crashes, "crashes"),
        (duplicates, "duplicates"),
        (failures, "failures"),
        (failing_commits, "failing_commits"),
        (unknown_commits, "unknown_commits"),
        (clock_jumps, "clock_jumps"),
    ):
        check_count(most, what, least=0)
    check_count(runs, "runs")
    check_count(most_events, "most_events")
    if events is not None and queue is not None:
        raise CallerError(
            "events are for runs that the story starts itself, not for those that a queue starts"
        )
    check_count(examples, "examples")
    plans = Plans()
    one_input: SearchStrategy[Any] = st.just(()) if inputs is None else inputs
    moments: SearchStrategy[Any] = st.integers(0, 86_400) if event_times is None else event_times

    @settings(
        max_examples=examples,
        deadline=None,
        report_multiple_bugs=False,
        # Telling which lines ran only in failing stories takes ten times as long, and they are lines of ours.
        phases=[phase for phase in Phase if phase is not Phase.explain],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )
    @given(data=st.data())
    def holds(data: strategies.DataObject) -> None:
        given_inputs = data.draw(st.lists(one_input, min_size=1, max_size=runs), label="inputs")
        sent: list[SentEvent] = []
        if events is not None:
            one_event = st.tuples(events, moments, st.integers(1, len(given_inputs)))
            drawn = data.draw(st.lists(one_event, max_size=most_events), label="events")
            sent = [made_event(event, to_seconds(at, what="the moment"), run) for event, at, run in drawn]
        told = Told(tuple(given_inputs), check_events(sent, len(given_inputs)), may_wait=events is not None)
        calm = play(plan, told, _CALM, plans)

        def up_to(most: int, among: SearchStrategy[Any]) -> tuple[Any, ...]:
            return tuple(data.draw(st.lists(among, max_size=most, unique=True))) if most else ()

        bodies = st.integers(1, 2 * max(1, len(calm.ending.steps)))
        commits = st.integers(1, 2 * max(1, calm.commits))
        storm = Storm(
            seed=data.draw(st.integers(0, _MAX_SEED)) if schedules else 0,
            crashes=up_to(crashes, _crash_places(calm)),
            duplicates=data.draw(st.integers(0, duplicates)) if duplicates else 0,
            order=tuple(data.draw(st.permutations(range(len(given_inputs))))) if reorder else (),
            event_copies=data.draw(st.integers(0, duplicates)) if duplicates and sent else 0,
            event_order=tuple(data.draw(st.permutations(range(len(sent))))) if reorder and sent else (),
            failing_bodies=up_to(failures, bodies),
            lost_answers=up_to(failures, bodies),
            failing_commits=up_to(failing_commits, commits),
            unknown_commits=up_to(unknown_commits, commits),
            slow_commits_ms=data.draw(st.sampled_from([0, 1, 20, 1_000])) if slow_commits else 0,
            clock_jumps=up_to(clock_jumps, st.builds(ClockJump, commits, st.sampled_from(_JUMPS))),
        )
        compare(plan, told, storm, calm, plans)

    try:
        holds()
    except ReplayViolation as violation:
        raise _smallest(plan, violation, plans, may_wait=events is not None) from None


def _smallest(
    plan: ReplayPlan, violation: ReplayViolation, plans: Plans, *, may_wait: bool
) -> ReplayViolation:
    """The same mistake in the simplest storm.

    Hypothesis takes choices away one at a time.  That two crashes can most often become one at another place
    it has no way to know.
    """
    told, found = Told(violation.inputs, violation.events, may_wait=may_wait), violation
    try:
        calm = play(plan, told, _CALM, plans)
    except ReplayViolation:
        return violation
    improved = True
    while improved:
        improved = False
        storm = found.storm or _CALM
        for simpler in storm.simpler(calm.places):
            if simpler.size() < storm.size():
                try:
                    compare(plan, told, simpler, calm, plans)
                except ReplayViolation as smaller:
                    found, improved = smaller, True
                    break
    return found


def _crash_places(calm: Ended) -> SearchStrategy[Crash]:
    """Places that the calm story passed, and a little beyond; places between callbacks after the others."""
    from hypothesis import strategies as st

    callbacks = st.integers(1, 2 * max(1, calm.callbacks)).map(lambda n: Crash("callback", n))
    return st.sampled_from(calm.places) | callbacks
