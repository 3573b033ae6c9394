"""P7 with messages: random programs that are talked to end as the plain model says, in calm and in storms.

The programs and the model are those of message_programs.py.  Events, updates, a cancel or a termination
with undo come at drawn moments of virtual time; in a storm the process dies before and after commits and
bodies, and between any two callbacks.  For what the model doesn't have (pause and resume, restart,
retry_now) the calm story is what the stormy one is held to.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Any, cast

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from holdfast import HoldfastError, Limits, RunEnded, Runtime
from holdfast.actors.handle import Run
from holdfast.actors.workflow.events import Event
from holdfast.actors.workflow.head import ENDED
from holdfast.actors.workflow.journal import EventArrived, Finished
from holdfast.runtime.clock import moment
from holdfast.storage import layout
from holdfast.testing import Crash, ProcessDied, Simulation, Storm
from holdfast.testing.sim_clock import SimClock
from holdfast.testing.sim_loop import new_loop
from holdfast.testing.sim_process import START_MS
from holdfast.testing.sim_run import SimRun
from holdfast.testing.sim_runtime import Plans
from tests.actors.workflow.support import rows
from tests.promises.message_programs import (
    NAMES,
    UNIT_MS,
    Hurried,
    Node,
    Place,
    PlainHurried,
    PlainRun,
    TakesNotes,
    Teller,
    Told,
    World,
    programs,
)

STORIES = settings(
    deadline=None,
    report_multiple_bugs=False,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
END_MS = 10_000_000 * UNIT_MS
TYPES = (Told, Hurried, TakesNotes, Teller)
PLANS = Plans()


class Deed(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """One thing that is said to the run from outside."""

    at_ms: int
    what: str
    name: str = ""
    n: int = 0
    copies: int = 1
    for_ms: int = 0
    """How long a pause is."""


class Story(msgspec.Struct, frozen=True):
    """Everything that is made up."""

    program: Node
    deeds: tuple[Deed, ...] = ()
    hurried: bool = False


class Ending(msgspec.Struct):
    """What a story came to."""

    status: str
    result: Any
    emits: list[Any]
    said: tuple[Any, ...]
    notes: list[int]
    begun: list[Any]
    undone: list[str]


@st.composite
def stories(draw: st.DrawFn, *, control: bool = False) -> Story:
    """A program, and what is said to it; `control` for deeds that the model doesn't have."""
    program = draw(programs(quick=control))
    whats = ["event", "event", "event", "event", "update", "later", "cancel", "terminate"]
    if control:
        whats = ["event", "event", "event", "update", "cancel", "pause", "pause", "restart", "retry"]
    deeds: list[Deed] = []
    free_ms = 0
    for place in range(draw(st.integers(0, 5))):
        what = draw(st.sampled_from(whats))
        # Off by a power of three, so that it comes together with nothing else.
        at_ms = max(
            free_ms, draw(st.integers(0, 60)) * draw(st.sampled_from([1, 10, 100])) * UNIT_MS
        ) + 3 ** (2 * place)
        name = draw(st.sampled_from(NAMES)) if what == "event" else ""
        copies = draw(st.integers(1, 2)) if what == "event" else 1
        for_ms = draw(st.integers(1, 3_000)) * UNIT_MS + 3 ** (2 * place + 1) if what == "pause" else 0
        deeds.append(Deed(at_ms, what, name, place + 1, copies, for_ms))
        if what == "pause":
            free_ms = at_ms + for_ms  # one pause at a time
    deeds.sort(key=lambda deed: deed.at_ms)
    return Story(program, tuple(deeds), draw(st.integers(0, 3)) == 0)


# -- the plain story ----------------------------------------------------------------------------------------


def plain(story: Story) -> Ending:
    """What the model says."""
    loop = new_loop()
    clock = SimClock(loop, START_MS * 1000)
    Place.world, Place.clock, Place.runtime, Place.notes = World(), clock.now_ms, None, []
    PlainRun.told = 0

    async def play() -> PlainRun:
        run = (PlainHurried if story.hurried else PlainRun)("main", story.program)
        for deed in story.deeds:
            loop.call_later(deed.at_ms / 1000, partial(do_plainly, run, deed, clock))
        await run.ended
        return run

    task = loop.create_task(play())
    loop.drive(task, until_us=END_MS * 1000)
    if not task.done():
        return Ending("open", None, [], (), [], [], [])
    run = task.result()
    loop.drive(until_us=END_MS * 1000)  # children that go on
    said = (run.data, run.state, run.tags)
    ending = Ending(run.status, run.result, run.emits, said, Place.notes, _begun(), list(Place.world.undone))
    loop.die()
    return ending


def do_plainly(run: PlainRun, deed: Deed, clock: SimClock) -> None:
    if run.main.done() and run.status != "running":
        return
    if deed.what == "event":
        run.event(Event(deed.name, deed.n, moment(clock.now_ms()), "ann"))
    elif deed.what in ("update", "later"):
        run.update("add" if deed.what == "update" else "add_later", deed.n)
    elif deed.what == "terminate":
        run.terminate()
    else:
        run.cancel()


def _begun() -> list[Any]:
    return sorted(set(Place.world.begun))


# -- the real story -----------------------------------------------------------------------------------------


def enter(runtime: Runtime) -> None:
    """The runtime of a new life."""
    Place.runtime = runtime


def real(
    story: Story,
    storm: Storm = Storm(),  # noqa: B008  # frozen
    *,
    max_running: int = 10_000,
    max_active: int = 10_000,
) -> tuple[Ending, list[Crash], int]:
    """The story in a storm; the ending, and where the process could have died."""
    Place.world = World()
    limits = Limits(max_active=max_active)
    with Simulation(
        seed=storm.seed, types=TYPES, setup=enter, plans=PLANS, limits=limits, max_running=max_running
    ) as sim:
        Place.clock = lambda: sim.now_ms
        sim.face(storm)
        collector = sim.start(TakesNotes, id="collector")
        run = sim.start(Hurried if story.hurried else Told, story.program, id="main")
        sent: list[int] = []
        acts: list[tuple[int, Deed, bool]] = [(deed.at_ms, deed, False) for deed in story.deeds]
        acts += [(deed.at_ms + deed.for_ms, deed, True) for deed in story.deeds if deed.what == "pause"]
        for at_ms, deed, again in sorted(acts, key=lambda act: (act[0], act[1].n)):
            sim.advance(max(0, at_ms - round(sim.now * 1000)) / 1000)
            if do_really(sim, run, deed, again=again) and deed.what == "event":
                sent.append(deed.n)
        sim.run_until_idle(limit=END_MS / 1000)
        sim.no_more_crashes()
        ending = _ending(sim, run, collector)
        _check(sim, story, run, sent)
        return ending, sim.places, sim.callbacks


def do_really(sim: Simulation, run: SimRun[Any], deed: Deed, *, again: bool) -> bool:
    """Do it as a client does, over crashes; whether it was taken."""
    try:
        if deed.what == "event":
            sim.send_event(run, deed.name, deed.n, user="ann", id=f"event {deed.n}")
            if deed.copies > 1:
                with suppress(RunEnded):
                    sim.send_event(run, deed.name, deed.n, user="ann", id=f"event {deed.n}")
        elif deed.what == "update":
            sim.update(run, "add", deed.n)
        elif deed.what == "later":
            _accept_later(sim, run, deed.n)
        elif deed.what == "pause":
            (sim.resume if again else sim.pause)(run)
        elif deed.what == "terminate":
            sim.terminate(run, undo=True)
        else:
            getattr(sim, {"retry": "retry_now"}.get(deed.what, deed.what))(run)
    except HoldfastError:
        return False  # it has ended, or the process died
    return True


def _accept_later(sim: Simulation, run: SimRun[Any], n: int) -> None:
    """Ask for an update that takes its time until it is accepted; nobody waits for the reply."""

    async def accept() -> None:
        handle: Run[Any] = _handle(sim, run)
        asked = asyncio.ensure_future(handle.update_once("add_later", f"later {n}", n))
        asked.add_done_callback(lambda task: task.cancelled() or task.exception())
        waiting = sim.runtime.engine.messages._waiting
        while not asked.done() and (handle.ref.directory_key, f"later {n}") not in waiting:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await sim.runtime.store.wait_durable(sim.runtime.store.newest)
        if asked.done():
            await asked

    while True:
        try:
            return sim.run(accept)
        except ProcessDied:
            continue


def _handle(sim: Simulation, run: SimRun[Any]) -> Run[Any]:
    return sim.runtime.run(cast("Any", run.workflow), run.key)


def _ending(sim: Simulation, run: SimRun[Any], collector: SimRun[Any]) -> Ending:
    status: str = sim.status(run)
    if status not in ENDED:
        return Ending("open", None, [], (), [], [], [])
    result = sim.result(run) if status == "complete" else None
    emits = [(event.number, event.name, event.data) for event in sim.progress(run)]
    info = sim.run(_handle(sim, run).info)
    data = sim.run(_handle(sim, run).data)
    if info.state is not None:
        assert [one.id for one in sim.runtime.runs(state=info.state)].count("main") == 1
    for name, value in info.tags.items():
        assert "main" in [one.id for one in sim.runtime.runs(tag=(name, value))]
    sim.send_event(collector, "stop")
    notes = sim.result(collector)
    said = (data, info.state, dict(info.tags))
    return Ending(status, result, emits, said, notes, _begun(), list(dict.fromkeys(Place.world.undone)))


def _check(sim: Simulation, story: Story, run: SimRun[Any], sent: list[int]) -> None:
    """What holds in every story."""
    assert sim.reran == []
    assert not [one for one in sim.pending() if one.status in ("stuck", "running", "queued", "pausing")]
    history = sim.history(run)
    begins_anew = story.program[0] == "again" or any(deed.what == "restart" for deed in story.deeds)
    if not begins_anew:
        arrived = [msgspec.msgpack.decode(one.payload) for one in history if isinstance(one, EventArrived)]
        assert arrived == sent, "acknowledged, delivered"
    numbers = [event.number for event in sim.progress(run)]
    assert numbers == list(range(1, len(numbers) + 1))
    if not sim.pending():
        for kind in (layout.REPLY, layout.HEARTBEAT, layout.CHILD):
            assert rows(sim.runtime, kind) == []
    if isinstance(history[-1], Finished):
        assert sum(isinstance(one, Finished) for one in history) == 1
    assert sim.runtime.engine.places.running == 0


def _in_any_order(ending: Ending) -> Ending:
    """Two things that take no time at all may come in either order in the plain story."""
    if ending.result is None:
        return ending
    result, at_ms, trace, total = ending.result
    return msgspec.structs.replace(ending, result=[result, at_ms, sorted(trace), total])


def differs(wanted: Ending, got: Ending) -> list[str]:
    """Where two endings differ."""
    return [
        f"{name}: {getattr(wanted, name)} / {getattr(got, name)}"
        for name in Ending.__struct_fields__
        if getattr(wanted, name) != getattr(got, name)
    ]


# -- properties ---------------------------------------------------------------------------------------------


def play(examples: int, *, control: bool) -> None:
    """So many stories, each by the model, calm, and in a storm."""
    Place.quick = control

    @settings(max_examples=examples, parent=STORIES)
    @given(story=stories(control=control), data=st.data())
    def holds(story: Story, data: st.DataObject) -> None:
        calm, places, callbacks = real(story)
        if not control:
            said, told = _in_any_order(plain(story)), _in_any_order(calm)
            assert not differs(said, told), ("the model and the calm story", differs(said, told))
        anywhere = st.sampled_from(places) | st.integers(1, 2 * callbacks).map(lambda n: Crash("callback", n))
        crashes = tuple(data.draw(st.lists(anywhere, min_size=1, max_size=4, unique=True), label="crashes"))
        stormy, _, _ = real(
            story, Storm(seed=data.draw(st.integers(0, 1_000), label="seed"), crashes=crashes)
        )
        assert not differs(calm, stormy), ("the calm and the stormy story", differs(calm, stormy))

    holds()


def play_roughly(examples: int) -> None:
    """So many stories in which the disk fails and room is scarce: times differ, so only what always holds is
    looked at.
    """
    Place.quick = False

    @settings(max_examples=examples, parent=STORIES)
    @given(story=stories() | stories(control=True), data=st.data())
    def holds(story: Story, data: st.DataObject) -> None:
        commits = st.lists(st.integers(1, 30), max_size=3, unique=True).map(tuple)
        storm = Storm(
            seed=data.draw(st.integers(0, 1_000)),
            crashes=tuple(
                data.draw(st.lists(st.integers(1, 300).map(lambda n: Crash("callback", n)), max_size=2))
            ),
            failing_commits=data.draw(commits),
            unknown_commits=data.draw(commits),
            slow_commits_ms=data.draw(st.sampled_from([0, 1, 1_000])),
        )
        real(
            story,
            storm,
            max_running=data.draw(st.sampled_from([1, 2, 10_000])),
            max_active=data.draw(st.sampled_from([1, 3, 10_000])),
        )

    holds()


def test_p7_two_ways_that_take_no_time() -> None:
    """Of branches that end in the same moment, as many have ended in a run as on a plain loop, also when one
    gives up a wait with a timeout for it.
    """
    quick = ["try", ["first", ["say", 1], ["tell", 7, False]], ["sleep", 6]]
    program = ["seq", ["first", quick, ["first", ["wait", ["red"], 3], ["say", 2], ["sleep", 2]]]]
    story = Story(program)
    said, told = plain(story), real(story)[0]
    assert not differs(said, told)
    assert told.result[0] == [[[0, [[0, "said 1"]]], [1, [[1, "said 2"]]]]]


def test_p7_a_child_that_was_given_up_is_told_before_its_parent_rests() -> None:
    """The process dies between the two; the parent sleeps on, and the child must not go on meanwhile."""
    Place.quick = True
    child = ["child", 2, ["seq", ["step", 5, 0, False, True]], False]
    story = Story(["gather", ["first", ["until", 1, 4], child], ["sleep", 6]])
    calm, places, _ = real(story)
    assert calm.begun == []
    for place in places:
        stormy, _, _ = real(story, Storm(crashes=(place,)))
        assert not differs(calm, stormy), place


def test_p7_a_deadline_that_was_told_and_caught_is_not_told_again_when_the_run_begins_anew() -> None:
    """The clean-up fails, which is caught; the run goes on beyond its deadline, and continues as new."""
    Place.quick = False
    late = [
        "try",
        ["finally", ["step", 7, 0, False, False], ["step", 5, 5, False, False]],
        ["step", 3, 0, False, False],
    ]
    story = Story(["again", late, ["seq", ["step", 2, 0, False, False]]], hurried=True)
    said = plain(story)
    assert said.status == "complete"
    calm, places, _ = real(story)
    assert not differs(said, calm)
    for place in places:
        stormy, _, _ = real(story, Storm(crashes=(place,)))
        assert not differs(calm, stormy), place


def test_p7_no_update_begins_while_steps_are_undone() -> None:
    """The undo waits for its second attempt when the update comes: its step is not begun."""
    Place.quick = False
    program = ["seq", ["outcome", 3, 0, False], ["optional", 7, False]]
    story = Story(program, (Deed(10_000_001, "later", n=1),), hurried=True)
    calm, places, _ = real(story)
    assert not differs(plain(story), calm)
    assert [key[1] for key in calm.begun] == ["s3", "s7", "undo s3", "undo s3"]
    for place in places:
        stormy, _, _ = real(story, Storm(crashes=(place,)))
        assert not differs(calm, stormy), place


def test_p7_messages_on_a_failing_disk() -> None:
    """Commits that fail or have no known outcome, few places, little memory: nothing acknowledged is lost."""
    play_roughly(80)


def test_p7_messages_by_the_model() -> None:
    """Events, updates, waits, children, undo, deadlines, what runs say: as the model has it, in any storm."""
    play(100, control=False)


def test_p7_control_in_storms() -> None:
    """Pauses, restarts, retries and cancels at any moment: what was acknowledged holds, in any storm."""
    play(100, control=True)


@pytest.mark.slow
@pytest.mark.parametrize("control", [False, True])
def test_p7_messages_for_long(control: bool) -> None:
    """The same for longer."""
    play(4_000, control=control)


@pytest.mark.slow
def test_p7_messages_on_a_failing_disk_for_long() -> None:
    """The same for longer."""
    play_roughly(4_000)
