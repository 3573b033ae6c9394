"""testing/replay_property.py and replay_check.py: sound ones pass, mistakes are found and made small."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st

from holdfast import Counter, Runtime
from holdfast.testing import Crash, ReplayViolation, check_replay, replay_property
from holdfast.testing.storm import Storm
from tests.testing.support import FiveSteps, Tally, run_pasted
from tests.testing.workflows import (
    ChargesTwice,
    CountsItsReplays,
    EffectOutsideOfAStep,
    KeepsStateInMemory,
    LooksAtTheClock,
    Order,
    Sound,
    charged,
    make_bank,
    make_bank_and_tries,
)

ORDERS = st.builds(Order, st.sampled_from(["a", "b"]), st.integers(0, 1000), st.booleans())


def test_sound_workflows_pass() -> None:
    """Steps, sleeps and actor calls: nothing is found, whatever goes wrong."""
    replay_property(
        FiveSteps,
        inputs=st.integers(0, 100),
        crashes=4,
        duplicates=2,
        failures=2,
        failing_commits=2,
        clock_jumps=1,
        slow_commits=True,
        examples=60,
    )
    replay_property(Tally, inputs=st.integers(0, 4), crashes=4, examples=40)


def test_several_runs_at_once_pass() -> None:
    """Runs that share an actor, started in any order: what the bank and the counter have is the same."""
    replay_property(
        Sound, inputs=ORDERS, runs=3, reorder=True, duplicates=2, deps=make_bank, observe=charged, examples=60
    )


def bind_orders(rt: Runtime) -> None:
    """The queue of the next test."""
    rt.bind("orders", Sound, id=lambda message, order: order.id, max_wait="1s")


def test_messages_of_a_queue_pass() -> None:
    """Each comes twice, and in any order; one run for each id, whatever crashes and fails."""
    replay_property(
        Sound,
        inputs=ORDERS,
        runs=4,
        queue="orders",
        setup=bind_orders,
        duplicates=1,
        failing_commits=1,
        unknown_commits=1,
        deps=make_bank,
        observe=lambda bank: len(bank.by_key),
        # Of two orders with one id the first one counts.
        leave_out=[Counter],
        examples=60,
    )


def found(workflow: type[object], deps: Callable[[], list[object]] = make_bank) -> str:
    """The message about the smallest story that shows a mistake."""
    with pytest.raises(ReplayViolation) as caught:
        replay_property(workflow, inputs=ORDERS, deps=deps, observe=charged, examples=200)
    return str(caught.value)


def storm_of(message: str) -> str:
    """The storm of the script in a message."""
    match = re.search(r"^        (Storm\(.*\)),$", message, re.MULTILINE)
    assert match is not None, message
    return match[1]


def test_a_charge_without_a_key_is_found() -> None:
    """One crash after the body is the smallest storm in which the bank has two charges."""
    message = found(ChargesTwice)
    assert message.startswith("outside saw something else\n  calm:   [0]\n  stormy: [0, 0]")
    assert storm_of(message) == "Storm(crashes=(Crash(at='step', step='charge_plainly'),))"
    assert "[Order(id='a', cents=0, gift=False)]" in message


def test_a_look_at_the_clock_is_found() -> None:
    """It needs no crash at all: the second story is another one."""
    message = found(LooksAtTheClock)
    assert message.startswith("run-1 ended otherwise")
    assert storm_of(message) == "Storm()"


def test_an_effect_outside_of_a_step_is_found() -> None:
    """One crash is enough: run() is done again."""
    message = found(EffectOutsideOfAStep)
    assert message.startswith("outside saw something else\n  calm:   [0, 0]\n  stormy: [0, 0, 0]")
    assert message.count("Crash(") == 1


def test_memory_that_a_crash_takes_is_found() -> None:
    """An actor that counts in plain memory counts anew after a crash."""
    message = found(KeepsStateInMemory)
    assert message.startswith("run-1 ended otherwise\n  calm:   complete: 2\n  stormy: complete: 1")
    assert message.count("Crash(") == 1


def test_code_that_asks_for_other_steps_on_replay_is_found() -> None:
    """Another step takes effect; and behind a checkpoint the run is stuck, which the message says."""
    message = found(CountsItsReplays, make_bank_and_tries)
    assert message.startswith("other steps took effect")
    assert message.count("Crash(") == 1
    with pytest.raises(ReplayViolation, match="stormy: stuck: Divergence: "):
        check_replay(
            CountsItsReplays,
            [Order("a", 5)],
            Storm(crashes=(Crash("commit", 2),)),
            deps=make_bank_and_tries,
        )


def test_the_script_fails_in_the_same_way(tmp_path: Path) -> None:
    """What is printed is a whole test: pasted into a file it finds the same thing."""
    message = found(ChargesTwice)
    told = run_pasted(message, tmp_path)
    assert "outside saw something else" in told
    assert "stormy: [0, 0]" in told


def test_a_story_is_checked_by_hand() -> None:
    """`check_replay` plays one storm."""
    check_replay(FiveSteps, [5, 6], Storm(seed=3, duplicates=1))
    check_replay(Sound, [Order("a", 5)], Storm(), deps=make_bank, observe=charged, leave_out=[Counter])
