"""What a simulation says to arguments that make no sense, and to uses at the wrong time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import strategies as st

from holdfast import Counter, Runtime, Workflow
from holdfast.storage.errors import CallerError, FolderInUse, FolderRefused, StorageFailed
from holdfast.testing import (
    ClockJump,
    Crash,
    NotFinished,
    Simulation,
    Storm,
    actor_machine,
    check_replay,
    replay_property,
    simulate,
)


class Simple(Workflow):
    async def run(self, number: int) -> int:
        return number


simulate_any = cast("Callable[..., Simulation]", simulate)


@pytest.mark.parametrize(
    "options",
    [
        {"seed": "x"}, {"seed": -1}, {"seed": None}, {"start_ms": 1.5}, {"start_ms": 10**30}, {"limits": 5},
        {"setup": 5},
    ],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(CallerError):
        simulate_any(**options)


def test_what_goes_wrong_must_make_sense() -> None:
    def body() -> None: ...

    with simulate() as sim:
        anything = cast("Any", sim)
        for call in (
            lambda: anything.crash_at(step=body),
            lambda: anything.crash_at_random("x"),
            lambda: anything.crash_at_random(0.5, most="x"),
            lambda: anything.fail_commit(0),
            lambda: anything.fail_step(body),
            lambda: anything.fail_step("body", 0),
            lambda: anything.fail_step("body", when="x"),
            lambda: anything.fail_step("body", error=ValueError("x")),
            lambda: anything.delay_step(body, 1),
            lambda: anything.mock_step("body", None),
            lambda: anything.jump_clock("1d"),
            lambda: anything.jump_clock(float("inf")),
            lambda: anything.face(None),
            lambda: anything.attempts(body),
            lambda: anything.start(None),
            lambda: anything.start(Simple, 1, copies=0),
            lambda: anything.send("q", 1, copies=0),
            lambda: anything.result("run-1"),
        ):
            with pytest.raises(CallerError):
                call()
        assert sim.crashes_to_come == []
        assert sim.pending() == []


def test_a_step_given_as_a_function_is_told_its_name() -> None:
    def pay() -> None: ...

    with simulate() as sim, pytest.raises(CallerError, match="write 'pay'"):
        sim.fail_step(cast("str", pay))


@pytest.mark.parametrize(
    "storm",
    [
        Storm(seed=-1),
        Storm(crashes=(cast("Crash", 5),)),
        Storm(crashes=(Crash(n=0),)),
        Storm(failing_commits=(0,)),
        Storm(failing_bodies=cast("tuple[int]", 5)),
        Storm(slow_commits_ms=-1),
        Storm(clock_jumps=(cast("ClockJump", 5),)),
        Storm(clock_jumps=(ClockJump(1, float("nan")),)),
        Storm(order=(0, 5)),
    ],
)
def test_storms_that_make_no_sense(storm: Storm) -> None:
    with pytest.raises(CallerError):
        check_replay(Simple, [1], storm)


def test_a_setup_that_raises_is_told() -> None:
    async def setup(runtime: Runtime) -> None:
        raise LookupError("no such consumer")

    with pytest.raises(LookupError, match="no such consumer"), simulate(setup=setup):
        pass


def test_a_setup_that_raises_in_a_later_life_is_told_and_ends_the_story() -> None:
    lives: list[Runtime] = []

    def setup(runtime: Runtime) -> None:
        lives.append(runtime)
        if len(lives) > 1:
            raise CallerError("not twice")

    with simulate(setup=setup) as sim:
        sim.crash_at("commit")
        with pytest.raises(CallerError, match="not twice"):
            sim.start(Simple, 1)
        with pytest.raises(CallerError, match="has ended"):
            sim.run_until_idle()
    assert len(lives) == 2


def test_a_setup_that_waits_for_ever_is_told() -> None:
    async def setup(runtime: Runtime) -> None:
        await asyncio.Event().wait()

    with pytest.raises(NotFinished, match="setup"), simulate(setup=setup):
        pass


@pytest.mark.parametrize("unknown", [False, True])
def test_a_commit_refused_to_setup_lets_the_process_start_again(unknown: bool) -> None:
    refused: list[str] = []

    async def setup(runtime: Runtime) -> None:
        if refused:
            refused.append("again")
            await runtime.get(Counter, "starts").increment()
        else:
            refused.append("first")

    with simulate(setup=setup) as sim:
        sim.fail_commit(1, unknown=unknown)
        sim.crash()
        assert sim.life == 3
        assert cast("int", sim.call(Counter, "starts").get()) == 1 + unknown
    assert refused == ["first", "again", "again"]


def test_a_folder_that_is_refused_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FolderRefused), simulate(path=tmp_path):
        pass
    with (
        simulate(path=tmp_path / "data"),
        pytest.raises(FolderInUse),
        simulate(path=tmp_path / "data"),
    ):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_nothing_is_done_before_and_after_the_story() -> None:
    sim = simulate()
    for _ in range(2):
        for call in (
            lambda: sim.run(asyncio.sleep, 1),
            lambda: sim.start(Simple, 1),
            lambda: sim.send("q", 1),
            lambda: sim.call(Counter, "a").increment(),
            sim.crash,
            sim.pending,
        ):
            with pytest.raises(CallerError, match="inside `with`"):
                call()
        if not sim.life:
            with pytest.raises(CallerError):
                sim.path  # noqa: B018
            with sim:
                pass
            sim.close()
    assert sim.life == 1
    assert not sim.path.exists()


def test_code_inside_the_process_can_not_end_it() -> None:
    with simulate() as sim:

        async def crash() -> None:
            sim.crash()

        async def close() -> None:
            sim.close()

        for function in (crash, close):
            with pytest.raises(CallerError, match="crash_at"):
                sim.run(function)
        assert sim.life == 1


def test_a_disk_that_refuses_is_still_told_to_who_called() -> None:
    with simulate() as sim:
        sim.fail_commit()
        with pytest.raises(StorageFailed):
            sim.call(Counter, "a").increment()
        assert cast("int", sim.call(Counter, "a").increment()) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"deps": [1]}, {"observe": 5}, {"ignore": "updated_ms"}, {"leave_out": [5]}, {"setup": 5},
        {"queue": "bound to nothing"}, {"crashes": -1}, {"runs": 0}, {"examples": 0}, {"duplicates": "x"},
    ],
)  # fmt: skip
def test_properties_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(CallerError):
        cast("Any", replay_property)(Simple, inputs=st.integers(0, 3), **options)


def test_a_story_without_inputs_or_storm_shows_nothing() -> None:
    with pytest.raises(CallerError, match="without inputs"):
        check_replay(Simple, [], Storm())
    with pytest.raises(CallerError, match="Storm"):
        check_replay(Simple, [1], cast("Storm", None))


@pytest.mark.parametrize("actor", [5, None, int])
def test_a_machine_is_over_actors(actor: Any) -> None:
    with pytest.raises(CallerError, match="subclass of Actor"):
        actor_machine(actor)


def test_what_is_refused_does_not_happen_later() -> None:
    """A call from inside the process, or from another loop, leaves nothing behind that runs with the next."""
    with simulate() as sim:

        async def inside() -> None:
            for refused in (
                lambda: sim.call(Counter, "a").increment(),
                lambda: sim.start(Simple, 1, id="refused"),
                lambda: sim.send("q", 1),
            ):
                with pytest.raises(CallerError):
                    refused()

        sim.run(inside)
        asyncio.run(inside())
        sim.run_until_idle()
        assert cast("int", sim.call(Counter, "a").get()) == 0
        assert not [place for place in sim.story.lines if "refused" in place.text]
