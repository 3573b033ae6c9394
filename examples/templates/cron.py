"""A schedule: a run each night, each planned time once, whatever crashes.

Run it:   python cron.py [FOLDER]
Test it:  pytest cron.py
"""

from __future__ import annotations

import asyncio
import sys

from holdfast import Counter, Retry, Runtime, Workflow, scheduled_at
from holdfast.testing import Simulation, simulate

NAME = "tidy-up"
NIGHTLY = "30 2 * * *"  # minute, hour, day, month, day of the week
ZONE = "Europe/Berlin"


# -- the steps: plain functions; put your own work here ------------------------------------------------------


async def tidy(folder: str) -> int:
    """The work of one night; how much was done.  After a crash it may run once more."""
    return len(folder)


# -- the workflow --------------------------------------------------------------------------------------------


class TidyUp(Workflow):
    """One night's run."""

    retry = Retry(5, "1m")

    async def run(self, folder: str) -> str:
        """`scheduled_at` is the planned time, also when the run is late."""
        done = await self.step(tidy, folder)
        nights = await self.runtime.get(Counter, "nights").increment()
        planned = scheduled_at(self)
        when = "by hand" if planned is None else f"planned for {planned:%H:%M} UTC"
        return f"night {nights}: {done} things, {when}"


async def set_up(rt: Runtime) -> None:
    """Do this at each start: what is set up in the same way already stays as it is.

    A time that passed while the process was down is made up once; a night that takes longer than a day is not
    begun twice.
    """
    await rt.schedule(NAME, TidyUp, "/tmp", cron=NIGHTLY, tz=ZONE, missed="one", overlap="skip")


async def main(folder: str) -> None:
    """Set the schedule up, and do one run now to see that it works."""
    async with Runtime(folder) as rt:
        await set_up(rt)
        run = await rt.start(TidyUp, "/tmp", id="by-hand", on_conflict="join")
        print(await run.result())
        print(f"from now on: {NIGHTLY} in {ZONE}")
        # A service stays here: await asyncio.Event().wait()


# -- tests: virtual time, so a night passes at once; stories begin at midnight of 1 January 2030, UTC --------


def results(sim: Simulation) -> list[str]:
    """What the runs of the schedule came to."""
    runs = [sim.runtime.run(TidyUp, info.id) for info in sim.runtime.runs(TidyUp)]
    return [sim.run(run.result) for run in runs]


def test_a_run_each_night() -> None:
    """At half past two by the clock of the zone."""
    with simulate(setup=set_up) as sim:
        sim.advance("2d")
        assert [result.rpartition(", ")[2] for result in results(sim)] == ["planned for 01:30 UTC"] * 2


def test_a_crash_doubles_no_night() -> None:
    """Killed behind the step, it goes on, and the night counts once."""
    with simulate(setup=set_up) as sim:
        sim.crash_at(step="tidy")
        sim.advance("1d")
        assert len(results(sim)) == 1
        assert sim.call(Counter, "nights").get() == 1
        assert sim.attempts("tidy") == 2


def test_a_service_that_was_down_makes_up_once() -> None:
    """The wall clock jumps over a week; one run is made up."""
    with simulate(setup=set_up) as sim:
        sim.advance("1h")
        sim.jump_clock(7 * 86_400)
        sim.advance("10m")
        assert len(results(sim)) == 1


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "cron-data"))
