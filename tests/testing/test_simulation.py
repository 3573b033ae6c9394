"""testing/simulation.py: stories from plain code, on virtual time, with crashes."""

from __future__ import annotations

import time

import pytest

from holdfast import Counter, Workflow
from holdfast.testing import Crash, simulate
from tests.testing.support import RESULT_OF_FIVE, FiveSteps


def test_a_day_passes_at_once() -> None:
    """A run that sleeps a day ends, with its result, and the clock of the story moved by a day."""
    began = time.monotonic()
    with simulate() as sim:
        run = sim.start(FiveSteps, 5, id="1")
        assert sim.result(run) == RESULT_OF_FIVE
        assert 86_400 <= sim.now < 86_500
        assert sim.call(Counter, "total").get() == 11
        assert sim.status(run) == "complete"
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("seed", range(3))
def test_a_crash_at_every_place(seed: int) -> None:
    """Wherever the process dies, around each commit and each body, the run ends as it does undisturbed."""

    def story(place: Crash | None) -> list[Crash]:
        with simulate(seed=seed) as sim:
            if place is not None:
                sim.crash_at(place)
            run = sim.start(FiveSteps, 5, id="1")
            assert sim.result(run) == RESULT_OF_FIVE
            assert sim.call(Counter, "total").get() == 11
            assert sim.life == (1 if place is None else 2)
            assert sim.reran == []
            assert sim.pending() == []
            assert sim.attempts("slowly") in (1, 2)
            return sim.places

    places = story(None)
    if not seed:
        assert len(places) == 2 * (9 + 5)  # nine commits and five bodies
    for place in places:
        story(place)


class PassesAVersion(Workflow):
    """Takes a version on its way."""

    async def run(self) -> int:
        return self.version("greeting", 2)


def test_the_journal_tells_versions() -> None:
    """A version that a run took stands in its journal with tag and number."""
    with simulate() as sim:
        run = sim.start(PassesAVersion)
        assert sim.result(run) == 2
        assert "version 2 of 'greeting'" in sim.journal(run)
