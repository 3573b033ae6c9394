"""actors/actions/once.py: one recorded result for a key, whoever asks, whatever crashes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from holdfast import (
    ActionContext,
    CallerError,
    Fatal,
    Retry,
    RunFailed,
    Runtime,
    Workflow,
    action,
    current_correlation_id,
)
from holdfast.actors.errors import ActionInterrupted, ActionKeyReused, InvalidParameters, UnknownAction
from holdfast.runtime.clock import ManualClock
from holdfast.testing import Crash, Storm, check_replay, simulate

BEGUN: list[str] = []
GOES_ON: list[asyncio.Event] = []


@pytest.fixture(autouse=True)
def nothing_begun() -> None:
    """Each test begins with empty lists."""
    BEGUN.clear()
    GOES_ON.clear()


async def begun(count: int) -> None:
    """Wait until so many handlers have begun."""
    while len(BEGUN) < count:  # noqa: ASYNC110  # they begin behind commits, which have no event
        await asyncio.sleep(0.001)


@action(keep="1h")
async def charge(context: ActionContext, cents: int) -> str:
    """Charge, and note that it was begun."""
    BEGUN.append(context.idempotency_key)
    for event in GOES_ON:
        await event.wait()
    if cents < 0:
        raise ValueError(f"no {cents}")
    return f"{cents} for {context.idempotency_key} of {context.tenant}"


@action(on_interrupted="fail")
async def ship(context: ActionContext, parcel: str) -> str:
    """What must not be done twice."""
    BEGUN.append(context.idempotency_key)
    for event in GOES_ON:
        await event.wait()
    if parcel == "broken" and context.attempt == 1:
        raise ConnectionError("again")
    return f"shipped {parcel}"


async def test_the_same_key_runs_it_once(folder: Path) -> None:
    """All who ask at the same time, or later, get the one result, also after the folder was opened again."""
    async with Runtime(folder) as rt:
        results = await asyncio.gather(*[charge.once(rt, "o-7", 3) for _ in range(50)])
        assert set(results) == {"3 for charge/o-7 of None"}
        assert await charge.once(rt, "o-8", cents=3) == "3 for charge/o-8 of None"
        assert BEGUN == ["charge/o-7", "charge/o-8"]
    async with Runtime(folder) as rt:
        assert await charge.once(rt, "o-7", 3) == "3 for charge/o-7 of None"
        assert len(BEGUN) == 2


async def test_a_result_is_kept_for_its_time(folder: Path, clock: ManualClock) -> None:
    """After `keep` the key is free."""
    async with Runtime(folder, clock=clock) as rt:
        await charge.once(rt, "o", 3)
        clock.advance(3_599)
        await charge.once(rt, "o", 3)
        assert len(BEGUN) == 1
        clock.advance(2)
        await charge.once(rt, "o", 3)
        assert len(BEGUN) == 2


async def test_a_key_is_for_one_effect(folder: Path) -> None:
    """Other parameters under a used key are refused, while it runs and later; a bad key too."""
    async with Runtime(folder) as rt:
        GOES_ON[:] = [asyncio.Event()]
        first = asyncio.create_task(charge.once(rt, "o", 3))
        await asyncio.sleep(0)
        with pytest.raises(
            ActionKeyReused, match=r"action charge: the key 'charge/o' was used with other parameters"
        ):
            await charge.once(rt, "o", 4)
        GOES_ON[0].set()
        await first
        with pytest.raises(ActionKeyReused):
            await charge.once(rt, "o", 4)
        with pytest.raises(CallerError, match="expected a key"):
            await charge.once(rt, "", 4)
        with pytest.raises(InvalidParameters):
            await charge.once(rt, "p", "4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_an_error_reaches_all_and_is_not_recorded(folder: Path) -> None:
    """The next one tries again."""
    async with Runtime(folder) as rt:
        results = await asyncio.gather(
            charge.once(rt, "o", -1), charge.once(rt, "o", -1), return_exceptions=True
        )
        assert [str(one) for one in results] == ["no -1", "no -1"]
        assert len(BEGUN) == 1
        with pytest.raises(ValueError, match="no -1"):
            await charge.once(rt, "o", -1)
        assert len(BEGUN) == 2


async def test_it_goes_on_when_who_asked_has_left(folder: Path) -> None:
    """A caller that is cancelled cuts nobody off."""
    async with Runtime(folder) as rt:
        GOES_ON[:] = [asyncio.Event()]
        first = asyncio.create_task(charge.once(rt, "o", 3))
        second = asyncio.create_task(charge.once(rt, "o", 3))
        await begun(1)
        first.cancel()
        await asyncio.wait([first])
        GOES_ON[0].set()
        assert await second == "3 for charge/o of None"
        assert len(BEGUN) == 1


async def test_by_name_with_tenant_and_event(folder: Path) -> None:
    """What a service calls: names and values from outside; without a key it is a plain call."""
    async with Runtime(folder) as rt:
        told = await rt.actions.execute("charge", {"cents": 3}, key="o", tenant="acme", event_id="e-1")
        assert told == "3 for charge/o of acme"
        plain = [await rt.actions.execute("charge", {"cents": 3}) for _ in range(2)]
        assert plain[0] != plain[1]
        with pytest.raises(UnknownAction):
            await rt.actions.execute("nothing_like_it")
        with pytest.raises(InvalidParameters, match="parameter cents is missing"):
            await rt.actions.execute("charge")


async def test_the_action_s_retries_hold_outside_of_runs(folder: Path) -> None:
    """With the same key and the next attempt's number; `Fatal` is not tried again."""
    attempts: list[int] = []

    @action(retry=Retry(2, 0))
    async def shaky(context: ActionContext, fatal: bool) -> None:
        attempts.append(context.attempt)
        assert current_correlation_id() == context.correlation_id
        raise Fatal("no") if fatal else ConnectionError("no")

    async with Runtime(folder) as rt:
        with pytest.raises(ConnectionError):
            await shaky.once(rt, "o", False)
        assert attempts == [1, 2, 3]
        with pytest.raises(Fatal):
            await shaky.once(rt, "p", True)
        assert attempts == [1, 2, 3, 1]


async def test_closing_cuts_off_what_is_in_progress(folder: Path) -> None:
    """An attempt that may be repeated is, by the next call; one that may not is told as interrupted."""
    async with Runtime(folder) as rt:
        GOES_ON[:] = [asyncio.Event()]
        calls = [asyncio.create_task(charge.once(rt, "o", 3)), asyncio.create_task(ship.once(rt, "o", "a"))]
        await begun(2)
    assert all(
        isinstance(one, asyncio.CancelledError)
        for one in await asyncio.gather(*calls, return_exceptions=True)
    )
    GOES_ON.clear()
    async with Runtime(folder) as rt:
        assert await charge.once(rt, "o", 3) == "3 for charge/o of None"
        with pytest.raises(ActionInterrupted, match=r"ship with key 'ship/o' was cut off: nobody knows"):
            await ship.once(rt, "o", "a")
        assert await ship.once(rt, "p", "a") == "shipped a"
        assert await ship.once(rt, "p", "a") == "shipped a"
        assert sorted(BEGUN) == ["charge/o", "charge/o", "ship/o", "ship/p"]


def test_a_crash_before_the_record_repeats_it() -> None:
    """With `retry`: begun twice, recorded once."""
    with simulate() as sim:
        GOES_ON[:] = [asyncio.Event()]
        first = sim.runtime.loop.create_task(charge.once(sim.runtime, "o", 3))
        sim.advance("1s")
        assert BEGUN == ["charge/o"] and not first.done()
        sim.crash()
        GOES_ON.clear()
        for _ in range(2):
            assert sim.run(lambda: charge.once(sim.runtime, "o", 3)) == "3 for charge/o of None"
        assert BEGUN == ["charge/o"] * 2


def test_a_crash_before_the_record_is_told() -> None:
    """With `fail`: begun once, and told from then on, for good."""
    with simulate() as sim:
        GOES_ON[:] = [asyncio.Event()]
        first = sim.runtime.loop.create_task(ship.once(sim.runtime, "o", "a"))
        sim.advance("1s")
        assert BEGUN == ["ship/o"] and not first.done()
        sim.crash()
        GOES_ON.clear()
        sim.advance("400d")
        with pytest.raises(ActionInterrupted):
            sim.run(lambda: ship.once(sim.runtime, "o", "a"))
        assert BEGUN == ["ship/o"]


# -- in runs -----------------------------------------------------------------------------------------------


class Ship(Workflow):
    """A step that must not be repeated."""

    retry = Retry(2, "1s")

    async def run(self, parcel: str) -> str:
        return await self.run_action(ship, parcel)


def test_a_step_that_was_cut_off_fails_for_good() -> None:
    """The process died in the body: it is not run again, and the run is told why."""
    with simulate() as sim:
        run = sim.start(Ship, "a", id="s")
        GOES_ON[:] = [asyncio.Event()]
        sim.advance("1s")
        assert len(BEGUN) == 1
        sim.crash()
        GOES_ON.clear()
        with pytest.raises(
            RunFailed, match=r"step ship was tried once and failed: ActionInterrupted"
        ) as failed:
            sim.result(run)
        assert len(BEGUN) == 1
        # Somebody looked, and says that it may run again.
        assert BEGUN[0] in str(failed.value)
        sim.run(lambda: sim.runtime.actions.release("ship", BEGUN[0]))
        sim.run(lambda: sim.runtime.run(Ship, "s").redrive())
        assert sim.result(run) == "shipped a"


def test_an_attempt_that_raised_ended_and_is_tried_again() -> None:
    """It was not cut off."""
    with simulate() as sim:
        assert sim.result(sim.start(Ship, "broken")) == "shipped broken"
        assert len(BEGUN) == 2


def test_an_attempt_that_timed_out_was_cut_off() -> None:
    """Nobody knows how far it came."""

    class Late(Workflow):
        async def run(self) -> str:
            return await self.run_action(ship.with_options(timeout="1s"), "a")

    with simulate() as sim:
        GOES_ON[:] = [asyncio.Event()]
        with pytest.raises(RunFailed, match=r"tried twice|tried 2 times and failed: ActionInterrupted"):
            sim.result(sim.start(Late))
        assert len(BEGUN) == 1


def test_a_result_that_was_recorded_before_the_crash_is_given() -> None:
    """The action's own record outlives a crash before the step's."""
    check_replay(Ship, ["a"], Storm(crashes=(Crash("step", 1, "after", "ship"),)), observe=None)
    for n in range(1, 7):
        for when in ("before", "after"):
            BEGUN.clear()
            with simulate() as sim:
                run = sim.start(Ship, "a", id="s")
                sim.crash_at("commit", n, when)
                try:
                    assert sim.result(run) == "shipped a"
                    assert len(BEGUN) == 1
                except RunFailed as failure:
                    assert "ActionInterrupted" in str(failure)
                    assert len(BEGUN) <= 1
