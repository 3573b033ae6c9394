"""What stories found in the library, each kept as the smallest one."""

from __future__ import annotations

from holdfast import Workflow
from holdfast.testing import simulate

BEGUN: list[str] = []


async def note(text: str) -> str:
    """A step."""
    return text


class Changes(Workflow):
    """Asks for another step whenever it is replayed."""

    async def run(self) -> None:
        BEGUN.append("run")
        await self.step(note, "a", name=f"step {len(BEGUN)}")
        await self.step(note, "b", name="last")


def test_a_stuck_run_is_tried_once_at_each_opening() -> None:
    """Those that were stuck are taken up first, so one that gets stuck then is not among them."""
    BEGUN.clear()
    with simulate() as sim:
        sim.crash_at("commit", 2)
        run = sim.start(Changes, id="c")
        sim.run_until_idle()
        assert (sim.life, sim.status(run), len(BEGUN)) == (2, "stuck", 2)
        sim.crash()
        sim.run_until_idle()
        assert (sim.status(run), len(BEGUN)) == ("stuck", 3)
