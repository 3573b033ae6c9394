"""P6 in depth: actors that call actors that call actors, by one call of a workflow, crashed again and again.

A tree says who calls whom, one after the other or side by side, and whose error is caught and the call made
again, or caught for good.  In a chain, calls come back to actors that called them, and join their turns; they
call on, and come back again.  Whatever happens on the way, every actor counts each of its calls exactly once,
but for turns that failed for good and what joined them, and no reply is left behind.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from holdfast import Actor, Retry, Workflow, shared
from holdfast.testing import Crash, Storm, simulate
from holdfast.testing.stored_state import kept_replies


class Call(msgspec.Struct, frozen=True):
    """One call, and the calls that its turn makes."""

    key: int
    calls: list[Call] = []
    side_by_side: bool = False
    # So many turns that answer it raise at their end; its caller catches that and calls again.
    failures: int = 0
    # Time that passes in its turn.
    seconds: float = 0.0
    # By way of a @shared method of another actor.
    by_look: bool = False
    # Every turn that answers it raises at its end; its caller goes on without.
    refuses: bool = False
    # So many times its caller waits for `PATIENCE_SECONDS` only, and then calls again.
    hurries: int = 0


PATIENCE_SECONDS = 0.3
FAILED: dict[int, int] = {}
HURRIED: dict[int, int] = {}


class Refused(Exception):
    """A turn that fails for good."""


class Node(Actor):
    """Counts its calls, makes those that it is told to, and fails as often as it is told to."""

    calls: int = 0

    async def work(self, call: Call) -> int:
        self.calls += 1
        if call.side_by_side:
            counted = await asyncio.gather(*(self._ask(one) for one in call.calls))
        else:
            counted = [await self._ask(one) for one in call.calls]
        await asyncio.sleep(call.seconds)
        if FAILED.get(call.key, 0) < call.failures:
            FAILED[call.key] = FAILED.get(call.key, 0) + 1
            raise OSError("the turn fails after all that it called succeeded")
        if call.refuses:
            raise Refused
        return 1 + sum(counted)

    async def _ask(self, call: Call) -> int:
        while True:
            patience = None
            if HURRIED.get(call.key, 0) < call.hurries:
                HURRIED[call.key] = HURRIED.get(call.key, 0) + 1
                patience = PATIENCE_SECONDS
            node: Any = self.runtime.get(Node, call.key)
            try:
                async with asyncio.timeout(patience):
                    if call.by_look:
                        return await self.runtime.get(Window, call.key).look(call)
                    got: int = await node.work(call)
                    return got
            except OSError:
                pass  # and again (a TimeoutError is one, too)
            except Refused:
                return 0

    async def count(self) -> int:
        return self.calls


class Window(Actor):
    """What only reads, and asks a node."""

    @shared
    async def look(self, call: Call) -> int:
        return await self.runtime.get(Node, call.key).work(call)


How = Literal["by itself", "in a step", "in two steps at once"]


class Asks(Workflow):
    """Makes the first call, by itself or in steps."""

    retry = Retry(60, 1.0, "constant", jitter=0)

    async def run(self, order: tuple[How, Call]) -> int:
        how, call = order
        if how == "by itself":
            return await self.ask(call)
        first = self.step(self.ask, call, name="first")
        if how == "in a step":
            return await first
        return sum(await asyncio.gather(first, self.step(self.ask, call, name="second")))

    async def ask(self, call: Call) -> int:
        return await self.runtime.get(Node, call.key).work(call)


@st.composite
def trees(draw: st.DrawFn) -> Call:
    """Calls three deep at most, every actor once."""
    keys = itertools.count(1)

    def tree(depth: int) -> Call:
        below = [tree(depth + 1) for _ in range(draw(st.integers(0, 3)))] if depth < 3 else []
        return Call(
            next(keys),
            below,
            draw(st.booleans()),
            # The first call's failures are the step's, and its attempts.
            draw(st.sampled_from([0, 0, 1, 2])),
            draw(st.sampled_from([0.0, 0.0, 0.5])),
            refuses=depth > 0 and draw(st.sampled_from([False, False, False, True])),
            hurries=draw(st.sampled_from([0, 0, 0, 1])) if depth > 0 else 0,
        )

    return tree(0)


@st.composite
def chains(draw: st.DrawFn) -> Call:
    """Calls four deep at most, half of them back to an actor that they come from."""
    keys = itertools.count(1)

    def chain(above: list[int], alone: bool) -> Call:
        comes_back = bool(above) and draw(st.booleans())
        key = draw(st.sampled_from(above)) if comes_back else next(keys)
        side_by_side = draw(st.booleans())
        # Calls that joined one turn side by side can't be told apart when one fails for good.
        alone = alone and not side_by_side
        below: list[Call] = []
        if len(above) < 4:
            below = [chain([*above, key], alone) for _ in range(draw(st.integers(0, 2)))]
        return Call(
            key,
            below,
            side_by_side,
            draw(st.sampled_from([0, 0, 0, 1])),
            draw(st.sampled_from([0.0, 0.0, 0.5])),
            draw(st.sampled_from([False, False, True])),
            refuses=alone and bool(above) and draw(st.sampled_from([False, False, False, True])),
            hurries=draw(st.sampled_from([0, 0, 0, 1])) if alone and above else 0,
        )

    return chain([], True)


def counts(call: Call) -> tuple[Counter[int], int]:
    """How often every actor is to have counted in the end, and what the call returns."""
    done: Counter[int] = Counter()
    running: dict[int, Counter[int]] = {}

    def work(call: Call) -> int:
        joins = call.key in running
        mine = running.setdefault(call.key, Counter())
        before = mine.copy()
        mine[call.key] += 1
        got = 1
        for one in call.calls:
            try:
                got += work(one)
            except Refused:
                pass
        if not joins:
            del running[call.key]
        if call.refuses:
            mine.clear()
            mine.update(before)
            raise Refused
        if not joins:
            done.update(mine)
        return got

    got = work(call)
    return done, got


def all_of(call: Call) -> Iterator[Call]:
    """A call and all below it."""
    yield call
    for one in call.calls:
        yield from all_of(one)


CRASHES = st.lists(
    st.builds(Crash, st.just("commit"), st.integers(1, 40), st.sampled_from(["before", "after"]))
    | st.builds(Crash, st.just("callback"), st.integers(1, 400)),
    max_size=6,
    unique=True,
).map(tuple)
COMMITS = st.lists(st.integers(1, 20), max_size=2, unique=True).map(tuple)
STORMS = st.builds(
    Storm,
    seed=st.integers(0, 1000),
    crashes=CRASHES,
    failing_commits=COMMITS,
    unknown_commits=COMMITS,
    slow_commits_ms=st.sampled_from([0, 0, 7]),
)
HOW = st.sampled_from(get_args(How))
QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def every_call_counts_once(how: How, call: Call, storm: Storm, forgets: bool = False) -> None:
    """`forgets`: what failed before the process died fails anew."""
    FAILED.clear()
    HURRIED.clear()
    if how == "by itself":  # an error that run() doesn't catch would fail it: an answer, and not tried again
        call = msgspec.structs.replace(call, failures=0)
    times = 2 if how == "in two steps at once" else 1
    expected, result = counts(call)
    with simulate(
        seed=storm.seed,
        types=[Node, Window, Asks],
        setup=(lambda runtime: FAILED.clear()) if forgets else None,
    ) as sim:
        sim.face(storm)
        run = sim.start(Asks, (how, call), id="r")
        assert sim.result(run) == times * result
        sim.no_more_crashes()
        sim.run_until_idle()
        counted = {key: sim.call(Node, key).count() for key in {one.key for one in all_of(call)}}
        assert counted == {key: times * expected[key] for key in counted}
        assert kept_replies(sim.runtime) == []


@QUICK
@given(HOW, trees(), STORMS, st.booleans())
def test_p6_trees_of_calls(how: How, call: Call, storm: Storm, forgets: bool) -> None:
    """Exactly once at every depth."""
    every_call_counts_once(how, call, storm, forgets)


def every_chain_counts_once(how: How, call: Call, storm: Storm, forgets: bool = False) -> None:
    # Calls that joined one turn side by side can't be told apart when one fails; then the whole turn fails
    # with them, which only a step tries again.
    mixed = any(one.side_by_side and len(one.calls) > 1 for one in all_of(call))
    fails = any(one.failures for one in all_of(call))
    every_call_counts_once(
        "in a step" if how == "by itself" and mixed and fails else how, call, storm, forgets
    )


# Each was made twice, or not at all, before notes told which turn a call had joined.
COMES_BACK = {
    "what joined the turn between is kept with it": (
        Call(1, [Call(1), Call(2, [Call(1, [Call(2)])]), Call(3)]),
        [Crash("commit", 2)],
    ),
    "the turn between fails, what joined above stands": (Call(1, [Call(2, [Call(1)], failures=1)]), []),
    "so does what a turn below noted": (Call(1, [Call(2, [Call(3, [Call(1)])], failures=1)]), []),
    "but what joined the one that failed is made again": (
        Call(1, [Call(2, [Call(3), Call(1, [Call(2)])], failures=1)]),
        [],
    ),
    "also when the call that made it failed once": (
        Call(1, [Call(2, [Call(1, [Call(2)], failures=1), Call(3)], failures=1)]),
        [],
    ),
    "what joined is undone with the call above that joined, too": (
        Call(1, [Call(1, [Call(2, [Call(1)])], failures=1)]),
        [],
    ),
    "what joined a turn that is kept isn't made again when its caller is": (
        Call(1, [Call(2, [Call(1, [Call(3, [Call(2)])])])], failures=1),
        [],
    ),
    "a turn that fails as a whole takes with it what joined it": (
        Call(1, [Call(2, [Call(1, [Call(2), Call(2, failures=1)], side_by_side=True)])]),
        [],
    ),
    "what a @shared method calls counts as called by whoever called it": (
        Call(1, [Call(2, [Call(3, [Call(2, [Call(3, by_look=True)])])], failures=1)]),
        [],
    ),
    "a turn that failed for good called one between, which isn't called again": (
        Call(1, [Call(2, [Call(1, [Call(3, [Call(2)], refuses=True)])])]),
        [Crash("commit", 2, "after")],
    ),
    "what joined a turn that failed for good has no effect, also when it is made again": (
        Call(1, [Call(2, [Call(3, [Call(1, [Call(3)])], refuses=True)])], failures=1),
        [],
    ),
    "also when who caught that had joined a turn between": (
        Call(1, [Call(2, [Call(3, [Call(2, [Call(4, [Call(1, [Call(4)])], refuses=True)])])])], failures=1),
        [],
    ),
    "what joined a call that failed once is known when its turn is repeated": (
        Call(1, [Call(2, [Call(3, [Call(1, [Call(3)], failures=1)])])], failures=1),
        [Crash("commit", 2, "after")],
    ),
    "so is what joined by way of one that failed for good": (
        Call(
            1,
            [Call(2, [Call(1, [Call(3, [Call(2), Call(3, refuses=True)], refuses=True)])], failures=1)],
            failures=1,
        ),
        [],
    ),
    "replies outlive the turn between": (
        Call(1, [Call(2, [Call(3, [Call(1, [Call(4)], failures=1), Call(5)])]), Call(6)]),
        [Crash("commit", 4)],
    ),
}


@pytest.mark.parametrize("how", ["by itself", "in a step"])
@pytest.mark.parametrize("case", COMES_BACK)
def test_p6_calls_that_come_back(case: str, how: How) -> None:
    """Calls that join turns of their own chain, and call on."""
    call, crashes = COMES_BACK[case]
    every_chain_counts_once(how, call, Storm(crashes=tuple(crashes)))


def test_p6_a_turn_that_was_called_back_is_lost_with_a_commit() -> None:
    """2 calls back to 1, which joins and calls 5, whose commit fails; 2 itself rests on nothing that is lost.

    It must not be kept all the same: 5 is called again, and comes back to it again.
    """
    pause = 0.5
    call = Call(1, [Call(2, [Call(1, [Call(5, [Call(2)], seconds=pause)], seconds=pause)])])
    with simulate(types=[Node, Asks]) as sim:
        sim.face(Storm(failing_commits=(2,), slow_commits_ms=7))
        assert sim.result(sim.start(Asks, ("in a step", call), id="r")) == 5
        assert [sim.call(Node, key).count() for key in (1, 2, 5)] == [2, 2, 1]


def test_p6_a_turn_takes_a_reply_whose_commit_fails_on_the_way() -> None:
    """2 fails and is called again, and takes the reply of 4, which comes back to it; that commit has failed.

    What rests on it must not be kept: 4 is called again.
    """
    call = Call(1, [Call(2, [Call(4, [Call(2)])], failures=1)])
    every_chain_counts_once("in two steps at once", call, Storm(seed=68, failing_commits=(2,)))


def test_p6_a_reply_is_kept_by_two_turns_and_the_later_commit_fails() -> None:
    """3 fails once, so 2 keeps what joined it; 3 is called again and keeps the same reply, before 2 is lost.

    What 3 keeps is still known then: it is not called back a third time.
    """
    call = Call(1, [Call(2, [Call(3, [Call(1, [Call(3)])], failures=1)])])
    every_chain_counts_once("in a step", call, Storm(failing_commits=(3,)))


def test_p6_a_call_comes_back_to_a_turn_that_is_lost() -> None:
    """The commit that 1 rests on fails while it makes again what 2 noted: that must be no turn by itself."""
    below = Call(6, [Call(7, [Call(8), Call(1)]), Call(9)], side_by_side=True)
    above = Call(1, [Call(2, [Call(3, [Call(4, [Call(5)])]), below], side_by_side=True)], side_by_side=True)
    every_chain_counts_once("in two steps at once", above, Storm(seed=1, failing_commits=(14, 6)))


@QUICK
@given(HOW, chains(), STORMS, st.booleans())
def test_p6_chains_of_calls(how: How, call: Call, storm: Storm, forgets: bool) -> None:
    """Exactly once for calls that come back, whatever they call then."""
    every_chain_counts_once(how, call, storm, forgets)


@pytest.mark.slow
@settings(QUICK, max_examples=2_000)
@given(HOW, chains(), STORMS, st.booleans())
def test_p6_many_chains_of_calls(how: How, call: Call, storm: Storm, forgets: bool) -> None:
    """The same for longer."""
    every_chain_counts_once(how, call, storm, forgets)


@pytest.mark.slow
@settings(QUICK, max_examples=3_000)
@given(HOW, trees(), STORMS, st.booleans())
def test_p6_many_trees_of_calls(how: How, call: Call, storm: Storm, forgets: bool) -> None:
    """The same for longer."""
    every_call_counts_once(how, call, storm, forgets)
