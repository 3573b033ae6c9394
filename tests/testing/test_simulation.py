"""testing/simulation.py: stories from plain code, on virtual time, with crashes."""

from __future__ import annotations

import time

import msgspec
import pytest

from holdfast import Actor, Counter, Retry, StepError, Workflow
from holdfast.testing import Crash, Storm, check_replay, simulate
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


class NoRepr(Exception):
    """It can't be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


async def raises_no_repr() -> None:
    raise NoRepr("\ud800")


class Shows(Workflow):
    async def run(self) -> str:
        try:
            await self.step(raises_no_repr, retry=Retry(1, 0))
        except StepError as error:
            return error.cause.type
        return "nothing"


def test_what_a_body_raises_need_not_be_showable() -> None:
    """The run gets to know of the very exception that was raised, and the story can be told."""
    with simulate() as sim:
        assert sim.result(sim.start(Shows)) == "NoRepr"
        assert sim.attempts("raises_no_repr") == 2
        assert "its text can't be made: RuntimeError" in str(sim.story)
        assert sim.story.digest()


class Sku(msgspec.Struct, frozen=True):
    """A key of a dict; stored, it is a map."""

    code: str


async def twice(stock: dict[Sku, int]) -> dict[Sku, int]:
    return {sku: n * 2 for sku, n in stock.items()}


class Store(Actor):
    stock: dict[Sku, int] = {}

    async def put(self, stock: dict[Sku, int]) -> dict[Sku, int]:
        self.stock = stock
        return stock


class Stocks(Workflow):
    async def run(self, stock: dict[Sku, int]) -> dict[Sku, int]:
        return await self.runtime.get(Store, "main").put(await self.step(twice, stock))


def test_dicts_with_structs_as_keys_can_be_told_and_compared() -> None:
    """Input, results and fields that plain data can't hold."""
    with simulate() as sim:
        run = sim.start(Stocks, {Sku("tea"): 1})
        assert sim.result(run) == {Sku("tea"): 2}
        assert "complete: b'" in sim.journal(run)
    check_replay(Stocks, [{Sku("tea"): 1}], Storm(crashes=(Crash(n=2),)))
