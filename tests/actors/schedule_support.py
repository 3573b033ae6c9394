"""What the tests of schedules share: workflows to schedule, and a story with short words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from holdfast import Runtime, Schedule, Workflow, scheduled_at
from holdfast.actors.schedule_records import ScheduleInfo
from holdfast.testing import ProcessDied, simulate
from holdfast.testing.simulation import Simulation

MIDNIGHT = datetime(2030, 1, 1, tzinfo=UTC)  # when stories begin; a Tuesday


class QuickRun(Workflow):
    """Ends at once, and tells when it was planned for."""

    async def run(self, what: str = "") -> str:
        return f"{what} {scheduled_at(self)}"


class SlowRun(Workflow):
    """Takes 25 minutes."""

    async def run(self) -> str:
        await self.sleep("25m")
        return "done"


def at(hours: float = 0, minutes: float = 0, seconds: float = 0) -> datetime:
    """A time so long after the story begins."""
    return MIDNIGHT + timedelta(hours=hours, minutes=minutes, seconds=seconds)


class Story:
    """A simulation with one schedule."""

    def __init__(self, sim: Simulation, name: str = "s") -> None:
        self.sim = sim
        self.name = name

    @property
    def rt(self) -> Runtime:
        return self.sim.runtime

    def set_up(self, workflow: type[Any] = QuickRun, *args: object, **options: Any) -> None:
        """Set the schedule up, again after a crash, as a program does that is started again."""
        while True:
            try:
                schedule: Any = self.rt.schedule
                self.sim.run(schedule, self.name, workflow, *args, **options)
                return
            except ProcessDied:
                pass

    def call(self, method: str, *args: object, **options: object) -> Any:
        """Call a method of the schedule."""
        return getattr(self.sim.call(Schedule, self.name), method)(*args, **options)

    def info(self) -> ScheduleInfo:
        """How it stands."""
        info: ScheduleInfo = self.call("info")
        return info

    def runs(self) -> list[str]:
        """What its runs were planned for, as hours and minutes, in the order of their starts."""
        prefix = f"{self.name}/"
        found: list[str] = []
        for info in self.rt.runs(limit=10_000):
            if info.id.startswith(prefix):
                planned, _, trigger = info.id[len(prefix) :].partition("/")
                found.append(f"{planned[11:16]}{trigger and '!'}")
        return found

    def wait_until(self, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Let time pass until so long after the beginning, by the wall clock."""
        self.sim.advance((at(hours, minutes, seconds) - self.wall()).total_seconds())

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self.sim.now_ms / 1000, UTC)

    def jump(self, **by: float) -> None:
        """Set the wall clock forth, which is what a process finds that was down so long."""
        self.sim.jump_clock(timedelta(**by).total_seconds())
        self.sim.advance(1)


def story(**options: Any) -> Simulation:
    """A simulation that knows the workflows of this file."""
    return simulate(types=[QuickRun, SlowRun], **options)
