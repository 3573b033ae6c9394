"""testing/actor_machine.py: a machine over an actor, which passes, and one whose actor has a mistake."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test

from holdfast import Actor, Alarm, shared
from holdfast.testing import ProcessDied, actor_machine

QUICK = settings(max_examples=25, stateful_step_count=15, deadline=None)


class Cart(Actor):
    """Items that are forgotten an hour after the last change."""

    items: dict[str, int] = {}

    async def add(self, sku: str) -> int:
        self.items[sku] = self.items.get(sku, 0) + 1
        self.alarms.set("1h", "abandoned")
        return self.items[sku]

    @shared
    async def contents(self) -> dict[str, int]:
        return self.items

    async def on_alarm(self, alarm: Alarm) -> None:
        self.items.clear()


class Leaky(Actor):
    """Keeps what it counts in memory that is not durable."""

    async def add(self, sku: str) -> int:
        self._kept = getattr(self, "_kept", 0) + 1
        return self._kept


class CartMachine(actor_machine(Cart, longest_advance="2h")):  # type: ignore[misc]
    """The model is a dict and the time at which it is emptied."""

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, int] = {}
        self.empties_at = 0.0

    @rule(sku=st.sampled_from(["pear", "fig"]))
    def add(self, sku: str) -> None:
        self.forget()
        assert self.run(self.actor("ann").add, sku) == self.model.get(sku, 0) + 1
        self.model[sku] = self.model.get(sku, 0) + 1
        self.empties_at = self.sim.now + 3600

    @rule(n=st.integers(1, 2), sku=st.sampled_from(["pear", "fig"]))
    def add_while_the_process_dies(self, n: int, sku: str) -> None:
        self.forget()
        self.sim.crash_at("any", n)
        with pytest.raises(ProcessDied):
            self.run(self.actor("ann").add, sku)
        # Before the commit nothing happened; after it all of it did.
        if n == 2:
            self.model[sku] = self.model.get(sku, 0) + 1
            self.empties_at = self.sim.now + 3600

    def forget(self) -> None:
        if self.sim.now >= self.empties_at:
            self.model.clear()

    @invariant()
    def it_is_what_the_model_says(self) -> None:
        self.forget()
        assert self.run(self.actor("ann").contents) == self.model


class LeakyMachine(actor_machine(Leaky, longest_advance=0)):  # type: ignore[misc]
    """Its model counts what was acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    @rule()
    def add(self) -> None:
        self.count += 1
        assert self.run(self.actor("ann").add, "pear") == self.count


def test_a_sound_actor_passes() -> None:
    """Crashes, in calls and between them, and time change nothing that was acknowledged."""
    run_state_machine_as_test(CartMachine, settings=QUICK)


def test_a_mistake_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    """The smallest story is one call, one crash, one call."""
    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(LeakyMachine, settings=QUICK)
    told = "\n".join(caught.value.__notes__)
    assert told.count("state.add()") == 2
    assert told.count("state.crash()") == 1


def test_without_crashes_there_is_no_such_rule() -> None:
    """A machine without crashes passes over the mistake."""

    class Calm(actor_machine(Leaky, crashes=False, longest_advance=0)):  # type: ignore[misc]
        @rule()
        def add(self) -> None:
            self.run(self.actor("ann").add, "pear")

    run_state_machine_as_test(Calm, settings=QUICK)
    assert Calm.TestCase is not None
