"""P6, deeper: an actor that a workflow calls calls others, and theirs take effect exactly once, too.

The actor called by the workflow is `Desk`; what it calls are purses, whose sums and calls are counted.  It
waits after each call, so that those commits are durable long before its own.  The process dies at every
commit; and the desk fails after its calls and is asked again.

Seen to fail when the calls of an answering turn are made as those of any turn, when equal ones are not
counted, when the ids of a level don't rest on those above, when a call that joined isn't made again, when a
@shared method's calls have no id, when a call that a failed turn left behind stands, and when rows stay.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import pytest

from holdfast import Actor, Queue, Retry, Runtime, StepError, Workflow, shared
from holdfast.actors.current_step import current_step
from holdfast.actors.errors import StepOver
from holdfast.actors.workflow.exact_calls import AnsweredCall, ExactCaller
from holdfast.storage import layout
from holdfast.storage.keys import decode_number
from holdfast.testing import Simulation, simulate

# How often a desk still fails after its calls; what happened in turns that nobody sees from outside.
FAILURES: list[None] = []
HAPPENED: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    FAILURES.clear()
    HAPPENED.clear()


def fail_if_told() -> None:
    if FAILURES:
        FAILURES.pop()
        raise OSError("after the calls")


class Purse(Actor):
    total: int = 0
    calls: int = 0

    async def add(self, n: int) -> int:
        self.total += n
        self.calls += 1
        return self.total

    async def add_late(self, n: int, seconds: float) -> int:
        await asyncio.sleep(seconds)
        HAPPENED.append("late")
        return await self.add(n)

    async def add_unless_told(self) -> int:
        fail_if_told()
        return await self.add(1)

    async def refuse(self, n: int) -> int:
        self.total += n
        raise PermissionError(f"not {n}")

    async def relay(self, to: str, n: int) -> int:
        """The same one deeper; fails once after it when told."""
        got = await self.runtime.get(Purse, to).add(n)
        await asyncio.sleep(1)
        return got + await self.add(n)

    async def relay_and_fail(self, to: str, n: int) -> int:
        await self.runtime.get(Purse, to).add(n)
        await asyncio.sleep(1)
        raise PermissionError("after the call")

    async def call_back(self, desk: str, n: int) -> int:
        """Calls the desk that called: that joins its turn."""
        noted = await self.runtime.get(Desk, desk).note(n)
        return noted + await self.add(n)

    async def call_back_through(self, to: str, desk: str, n: int) -> int:
        got = await self.runtime.get(Purse, to).call_back(desk, n)
        await asyncio.sleep(1)
        return got + await self.add(n)

    async def call_back_and_forth(self, desk: str, n: int) -> int:
        """The call that joins calls somebody itself."""
        return await self.runtime.get(Desk, desk).note_and_pay(n) + await self.add(n)

    async def call_back_in_vain(self, desk: str, n: int) -> int:
        """The call that joins is undone."""
        try:
            await self.runtime.get(Desk, desk).note_in_vain(n)
        except PermissionError:
            pass
        return await self.add(n)

    @shared
    async def look_and_pay(self, to: str, n: int) -> int:
        """Only reads, and has somebody else write."""
        got = await self.runtime.get(Purse, to).add(n)
        await asyncio.sleep(1)
        fail_if_told()
        return got

    @shared
    async def get(self) -> tuple[int, int]:
        return self.total, self.calls


class ByTheDesk(Workflow):
    async def run(self, n: int) -> int:
        return await self.runtime.get(Purse, "a").add(n)


class Desk(Actor):
    """Called by the workflow; each method calls purses, waits, and then may fail."""

    served: int = 0
    noted: int = 0

    async def serve(self, how: str) -> Any:
        self.served += 1
        reply = await getattr(self, f"_{how}")()
        await asyncio.sleep(1)
        fail_if_told()
        return reply

    @shared
    async def state(self) -> tuple[int, int]:
        return self.noted, self.served

    async def note(self, n: int) -> int:
        self.noted += n
        return self.noted

    async def note_and_pay(self, n: int) -> int:
        paid = await self.runtime.get(Purse, "c").add(n)
        await asyncio.sleep(1)
        return paid + await self.note(n)

    async def note_in_vain(self, n: int) -> int:
        await self.runtime.get(Purse, "c").add(n)
        self.noted += n
        raise PermissionError("noted in vain")

    def _purse(self, name: str) -> Purse:
        return self.runtime.get(Purse, name)

    async def _one(self) -> Any:
        return await self._purse("a").add(1)

    async def _deep(self) -> Any:
        return await self._purse("a").relay("b", 1)

    async def _twice(self) -> Any:
        first = await self._purse("a").add(1)
        await asyncio.sleep(1)
        return first, await self._purse("a").add(1), await self._purse("a").add(2)

    async def _gather(self) -> Any:
        a, b = self._purse("a"), self._purse("b")
        return await asyncio.gather(a.add(1), b.add(1), a.add(1), b.relay("c", 1))

    async def _refused(self) -> Any:
        """A call that raises takes no effect and has no number."""
        found: list[object] = []
        for n in (1, 2):
            try:
                await self._purse("a").refuse(5)
            except PermissionError as error:
                found.append(str(error))
            found.append(await self._purse("a").add(n))
        try:
            await self._purse("b").relay_and_fail("c", 1)
        except PermissionError as error:
            found.append(str(error))
        return found

    async def _joined(self) -> Any:
        self.noted += 100
        got = await self._purse("a").call_back(str(self.key), 1)
        await asyncio.sleep(1)
        return got, self.noted

    async def _joined_deep(self) -> Any:
        got = await self._purse("a").call_back_through("b", str(self.key), 1)
        return got, self.noted

    async def _joined_calls(self) -> Any:
        got = await self._purse("a").call_back_and_forth(str(self.key), 1)
        return got, self.noted

    async def _joined_in_vain(self) -> Any:
        got = await self._purse("a").call_back_in_vain(str(self.key), 1)
        return got, self.noted, await self._purse("c").add(1)

    async def _itself(self) -> Any:
        return await self.runtime.get(Desk, self.key).note_and_pay(1), self.noted

    async def _shared(self) -> Any:
        return await self._purse("a").look_and_pay("b", 1), await self._purse("a").look_and_pay("b", 1)

    async def _sends(self) -> Any:
        return await self.runtime.get(Queue, "mail").send("hello", id="m")

    async def _starts(self) -> Any:
        """Part of the desk's own commit."""
        runtime: Any = self.runtime
        run = await runtime.start(ByTheDesk, 1, id="child")
        return run.id


class Asks(Workflow):
    """Asks a desk, from run() or from a step, and something else before and after."""

    retry = Retry(3, 1.0, "constant", jitter=0)

    async def run(self, given: tuple[str, str, bool]) -> Any:
        where, how, direct = given
        await self.runtime.get(Purse, "other").add(1)
        reply = await (self.ask(how, direct) if where == "run" else self.step(self.ask, how, direct))
        await self.runtime.get(Purse, "other").add(1)
        return reply

    async def ask(self, how: str, direct: bool = False) -> Any:
        if direct:
            return await self.runtime.get(Purse, "a").look_and_pay("b", 1)
        return await self.runtime.get(Desk, "d").serve(how)


# The sums of the purses and their calls in the end, and what the desk noted.
HOWS: dict[str, tuple[dict[str, tuple[int, int]], int]] = {
    "one": ({"a": (1, 1)}, 0),
    "deep": ({"a": (1, 1), "b": (1, 1)}, 0),
    "twice": ({"a": (4, 3)}, 0),
    "gather": ({"a": (2, 2), "b": (2, 2), "c": (1, 1)}, 0),
    "refused": ({"a": (3, 2), "c": (1, 1)}, 0),
    "joined": ({"a": (1, 1)}, 101),
    "joined_deep": ({"a": (1, 1), "b": (1, 1)}, 1),
    "joined_calls": ({"a": (1, 1), "c": (1, 1)}, 1),
    "joined_in_vain": ({"a": (1, 1), "c": (2, 2)}, 0),
    "itself": ({"c": (1, 1)}, 1),
    "shared": ({"b": (2, 2)}, 0),
    "sends": ({}, 0),
    "starts": ({"a": (1, 1)}, 0),
}


def replies_kept(rt: Runtime) -> list[bytes]:
    """The rows of kept replies that are on disk or staged."""
    found: list[bytes] = []
    for key, _ in rt.store.scan_prefix(layout.DATA):
        _, end = decode_number(key, 1)
        if key[end : end + 1] == layout.REPLY:
            found.append(key)
    return found


def check_effects(sim: Simulation, how: str, *, served: int = 1) -> None:
    """Everything happened once, and no reply is left."""
    sim.no_more_crashes()
    sim.run_until_idle()
    purses, noted = HOWS[how]
    for name in "abc":
        assert sim.call(Purse, name).get() == purses.get(name, (0, 0)), name
    assert sim.call(Purse, "other").get() == (2, 2)
    assert sim.call(Desk, "d").state() == (noted, served)
    stats: Any = sim.call(Queue, "mail").stats()
    assert stats.depth == (how == "sends")
    assert replies_kept(sim.runtime) == []


def play(how: str, where: str, *, fails: int = 0, direct: bool = False) -> Any:
    """What the run returns when nothing fails."""
    with simulate(types=[Purse, Desk, Queue, ByTheDesk]) as sim:
        reply = sim.result(sim.start(Asks, (where, how, direct), id="r"))
        check_effects(sim, how, served=int(not direct))
    return reply


@pytest.mark.parametrize("where", ["step", "run"])
@pytest.mark.parametrize("how", list(HOWS))
def test_a_crash_at_every_commit(how: str, where: str) -> None:
    """Whatever commit the process dies at, each call of the desk has counted once, with the same reply."""
    wanted = play(how, where)
    between = 0
    for n in range(1, 100):
        kept: list[int] = []
        with simulate(
            types=[Purse, Desk, Queue, ByTheDesk],
            setup=lambda rt, kept=kept: kept.append(len(replies_kept(rt))),  # type: ignore[misc]
        ) as sim:
            sim.crash_at("commit", n)
            run = sim.start(Asks, (where, how, False), id="r")
            assert sim.result(run) == wanted, f"crash after commit {n}\n{sim.story}"
            died = sim.life > 1
            between += any(kept)
            check_effects(sim, how)
        if not died:
            break
    else:
        raise AssertionError("the run never ends")
    if (where, how) != ("run", "starts"):
        assert between, "no crash came between a call's commit and the desk's"


@pytest.mark.parametrize("fails", [1, 2])
@pytest.mark.parametrize("how", list(HOWS))
def test_the_desk_fails_after_its_calls(how: str, fails: int) -> None:
    """The step is tried again: the calls that succeeded in the turn that was undone are not made again."""
    wanted = play(how, "step")
    for n in range(100):
        FAILURES[:] = [None] * fails
        with simulate(types=[Purse, Desk, Queue, ByTheDesk]) as sim:
            if n:
                sim.crash_at("commit", n)
            assert sim.result(sim.start(Asks, ("step", how, False), id="r")) == wanted
            died = sim.life > 1
            check_effects(sim, how)
        if n and not died:
            break


@pytest.mark.parametrize("where", ["step", "run"])
def test_a_shared_method_called_by_the_workflow(where: str) -> None:
    """What a @shared method calls counts as a call of the workflow's own."""
    for n in range(1, 100):
        with simulate(types=[Purse, Desk, Queue, ByTheDesk]) as sim:
            sim.crash_at("commit", n)
            FAILURES[:] = [None] if where == "step" else []
            assert sim.result(sim.start(Asks, (where, "", True), id="r")) == 1
            died = sim.life > 1
            sim.no_more_crashes()
            sim.run_until_idle()
            assert sim.call(Purse, "b").get() == (1, 1)
            assert replies_kept(sim.runtime) == []
        if not died:
            break


def test_the_desk_fails_for_good() -> None:
    """A call of run() whose turn is undone: the desk's own is undone, its calls stand, no reply is left."""

    class AsksOnce(Workflow):
        async def run(self) -> str:
            try:
                await self.runtime.get(Desk, "d").serve("one")
            except StepError as error:
                return error.cause.message
            return "served"

    FAILURES[:] = [None]
    with simulate(types=[Purse, Desk]) as sim:
        assert sim.result(sim.start(AsksOnce, id="r")) == "after the calls"
        assert sim.call(Purse, "a").get() == (1, 1)
        assert replies_kept(sim.runtime) == []


def test_calls_outside_workflows_are_made_again() -> None:
    """A turn that answers nobody's workflow: what it called stands, and calling again calls again."""
    FAILURES[:] = [None]
    with simulate(types=[Purse, Desk]) as sim:
        with pytest.raises(OSError, match="after the calls"):
            sim.call(Desk, "d").serve("one")
        sim.call(Desk, "d").serve("one")
        assert sim.call(Purse, "a").get() == (2, 2)
        assert replies_kept(sim.runtime) == []


def test_a_refused_call_that_the_turn_makes_again() -> None:
    """The call that counted in one turn is what the same call of the repeated turn gets."""

    class Insists(Actor):
        async def ask(self) -> int:
            got = 0
            while not got:
                try:
                    got = await self.runtime.get(Purse, "a").add_unless_told()
                except OSError:
                    HAPPENED.append("refused")
            if len(HAPPENED) == 2:
                HAPPENED.append("failed")
                raise OSError("after the calls")
            return got

    class AsksInsisting(Workflow):
        async def run(self) -> int:
            return await self.step(self.ask)

        async def ask(self) -> int:
            return await self.runtime.get(Insists, "i").ask()

    FAILURES[:] = [None, None]
    with simulate(types=[Purse]) as sim:
        assert sim.result(sim.start(AsksInsisting, id="r")) == 1
        assert HAPPENED == ["refused", "refused", "failed"]
        assert sim.call(Purse, "a").get() == (1, 1)
        assert replies_kept(sim.runtime) == []


def test_what_on_activate_calls_is_a_plain_call() -> None:
    """It runs whenever the actor is loaded, so what it calls is called as often."""

    class Greets(Actor):
        async def on_activate(self) -> None:
            await self.runtime.get(Purse, "a").add(1)

        async def ask(self) -> int:
            got = await self.runtime.get(Purse, "b").add(1)
            await asyncio.sleep(1)
            return got

    class AsksGreeting(Workflow):
        async def run(self) -> int:
            return await self.step(self.ask)

        async def ask(self) -> int:
            return await self.runtime.get(Greets, "g").ask()

    with simulate(types=[Purse, Greets]) as sim:
        run = sim.start(AsksGreeting, id="r")
        sim.advance(0.5)
        sim.crash()
        assert sim.result(run) == 1
        assert sim.call(Purse, "a").get() == (2, 2)
        assert sim.call(Purse, "b").get() == (1, 1)
        assert replies_kept(sim.runtime) == []


def test_other_arguments_are_another_call() -> None:
    """The repeated turn asks for something else: that is a call of its own, and both stand."""

    class Moody(Actor):
        async def ask(self) -> int:
            HAPPENED.append("asked")
            got = await self.runtime.get(Purse, "a").add(len(HAPPENED))
            if len(HAPPENED) == 1:
                raise OSError("once")
            return got

    class AsksMoody(Workflow):
        async def run(self) -> int:
            return await self.step(self.ask)

        async def ask(self) -> int:
            return await self.runtime.get(Moody, "m").ask()

    with simulate(types=[Purse]) as sim:
        assert sim.result(sim.start(AsksMoody, id="r")) == 3
        assert sim.call(Purse, "a").get() == (3, 2)
        assert replies_kept(sim.runtime) == []


@pytest.mark.parametrize("fails", [0, 1])
@pytest.mark.parametrize("how", list(HOWS))
def test_a_turn_takes_the_replies_below_it_away(how: str, fails: int) -> None:
    """When the desk's commit is durable, its own reply is the only one that is kept."""

    class AsksAndHangs(Workflow):
        async def run(self) -> Any:
            return await self.step(self.ask)

        async def ask(self) -> Any:
            reply = await self.runtime.get(Desk, "d").serve(how)
            await asyncio.sleep(100)
            return reply

    FAILURES[:] = [None] * fails
    with simulate(types=[Purse, Desk, Queue, ByTheDesk]) as sim:
        run = sim.start(AsksAndHangs, id="r")
        sim.advance(50)
        assert len(replies_kept(sim.runtime)) == 1
        sim.crash()
        assert len(replies_kept(sim.runtime)) == 1
        reply = sim.result(run)
        assert reply == play(how, "step") or how == "starts"
        assert replies_kept(sim.runtime) == []
        assert sim.call(Desk, "d").state() == (HOWS[how][1], 1)


def test_actors_and_methods_are_told_apart() -> None:
    """Key and method of a call stand apart in its id, so "y".eat is not "ye".at."""

    class Animal(Actor):
        async def at(self) -> str:
            return f"{self.key} at"

        async def eat(self) -> str:
            return f"{self.key} eat"

    class Feeds(Workflow):
        async def run(self) -> list[str]:
            return await self.step(self.feed)

        async def feed(self) -> list[str]:
            one, two = self.runtime.get(Animal, "y"), self.runtime.get(Animal, "ye")
            step = current_step()
            assert step is not None
            if step.attempt == 1:
                await one.eat()
                await two.at()
                raise OSError("once")
            at = await two.at()
            return [await one.eat(), at]

    with simulate() as sim:
        assert sim.result(sim.start(Feeds, id="r")) == ["y eat", "ye at"]


def test_a_failed_commit_of_the_desk() -> None:
    """The disk refuses the desk's commit: its calls, durable before, are not made again."""
    for where in ("step", "run"):
        for n in range(1, 12):
            with simulate(types=[Purse, Desk, Queue, ByTheDesk]) as sim:
                sim.fail_commit(n)
                assert sim.result(sim.start(Asks, (where, "deep", False), id="r")) == 2
                check_effects(sim, "deep")


def test_calls_of_calls_leave_no_rings() -> None:
    """What such calls held goes back without the collector."""

    class AsksTwice(Workflow):
        async def run(self, how: str) -> None:
            await self.runtime.get(Desk, f"{how} 1").serve(how)
            await self.step(self.ask, how)

        async def ask(self, how: str) -> None:
            await self.runtime.get(Desk, f"{how} 2").serve(how)

    def held() -> set[int]:
        return {id(one) for one in gc.get_objects() if isinstance(one, (ExactCaller, AnsweredCall))}

    with simulate(types=[Purse, Desk, Queue, ByTheDesk]) as sim:
        for how in ("deep", "joined_calls", "shared", "gather"):
            sim.result(sim.start(AsksTwice, how, id=f"first-{how}"))
            gc.collect()
            gc.disable()
            before = held()
            try:
                sim.result(sim.start(AsksTwice, how, id=f"second-{how}"))
                sim.settle()
                assert held() <= before, how
            finally:
                gc.enable()


# -- calls that outlive the turn that made them -------------------------------------------------------------


class Hasty(Actor):
    """Leaves a call behind in a task."""

    tasks: list[int] = []

    async def leave(self, fail: bool) -> int:
        HAPPENED.append("asked")
        task = asyncio.create_task(self._pay())
        await asyncio.sleep(0.5)
        if fail and HAPPENED.count("asked") == 1:
            raise OSError("the call is on the way")
        if fail:
            return await task
        return 0

    async def _pay(self) -> int:
        try:
            return await self.runtime.get(Purse, "a").add_late(1, 2)
        except StepOver:
            HAPPENED.append("undone")
            return 0


class AsksHasty(Workflow):
    retry = Retry(3, 1.0, "constant", jitter=0)

    async def run(self, given: tuple[bool, bool]) -> int:
        got = await self.step(self.ask, *given)
        await self.sleep(10)
        return got

    async def ask(self, fail: bool, at_once: bool) -> int:
        hasty = self.runtime.get(Hasty, "h")
        try:
            return await hasty.leave(fail)
        except OSError:
            if not at_once:
                raise
            return await hasty.leave(fail)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_call_whose_turn_was_undone_is_undone(at_once: bool) -> None:
    """The turn failed while its call was on the way: the repeated turn makes it, the first is undone.

    The body itself repeats it, or the next attempt does.
    """
    with simulate(types=[Purse, Hasty]) as sim:
        assert sim.result(sim.start(AsksHasty, (True, at_once), id="r")) == 1
        assert HAPPENED == ["asked", "asked", "late", "undone", "late"]
        assert sim.call(Purse, "a").get() == (1, 1)
        assert replies_kept(sim.runtime) == []


def test_a_call_that_outlives_its_turn_stands() -> None:
    """The turn ended well and left a call behind: that is a plain call, made once, which keeps nothing."""
    with simulate(types=[Purse, Hasty]) as sim:
        assert sim.result(sim.start(AsksHasty, (False, False), id="r")) == 0
        assert HAPPENED == ["asked", "late"]
        assert sim.call(Purse, "a").get() == (1, 1)
        assert replies_kept(sim.runtime) == []


LOOSE = {"starts": False}  # whether a run


class Loose(Actor):
    """Leaves a task behind that makes its call when the turn is over."""

    async def leave(self, joins: bool) -> int:
        HAPPENED.append("asked")
        if joins:  # the call that joins leaves it behind
            return await self.runtime.get(Between, "b").call_back()
        return await self.loosen()

    async def loosen(self) -> int:
        task = asyncio.create_task(self._pay_later())
        self.runtime.deps.get(set).add(task)
        await asyncio.sleep(0.5)
        if HAPPENED.count("asked") < 2:
            raise OSError("the task goes on")
        return await task

    async def _pay_later(self) -> int:
        await asyncio.sleep(0.6)
        try:
            if LOOSE["starts"]:
                await cast(Runtime, self.runtime).start(ByTheDesk, 1)
                return 1
            return await self.runtime.get(Purse, "a").add(1)
        except StepOver:
            HAPPENED.append("refused")
            return 0

    @shared
    async def glance(self) -> int:
        """Ends well, which doesn't keep it from being repeated."""
        self.runtime.deps.get(set).add(asyncio.create_task(self._pay_later()))
        return 1


class Between(Actor):
    async def call_back(self) -> int:
        return await self.runtime.get(Loose, "l").loosen()


class AsksLoose(Workflow):
    retry = Retry(3, 1.0, "constant", jitter=0)

    async def run(self, given: tuple[str, bool]) -> int:
        how, joins = given
        got = await (self.step(self.ask, how, joins) if how != "run" else self.ask("glance", joins))
        await self.sleep(10)
        return got

    async def ask(self, how: str, joins: bool) -> int:
        loose = self.runtime.get(Loose, "l")
        return await (loose.glance() if how == "glance" else loose.leave(joins))


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("joins", [False, True])
def test_what_a_turn_that_was_undone_left_behind_calls_nobody(
    joins: bool, starts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repeated turn makes the call, or starts the run: made by both it would count twice."""
    monkeypatch.setitem(LOOSE, "starts", starts)
    with simulate(types=[Purse, Loose, Between, ByTheDesk], deps=[set[asyncio.Task[int]]()]) as sim:
        assert sim.result(sim.start(AsksLoose, ("leave", joins), id="r")) == 1
        assert HAPPENED == ["asked", "refused", "asked"]
        sim.run_until_idle()
        assert sim.call(Purse, "a").get() == (1, 1)
        assert replies_kept(sim.runtime) == []


@pytest.mark.parametrize("how", ["glance", "run"])
def test_what_a_shared_method_left_behind_calls_nobody(how: str) -> None:
    """Called by a step, and by run() itself."""
    with simulate(types=[Purse, Loose, Between, ByTheDesk], deps=[set[asyncio.Task[int]]()]) as sim:
        assert sim.result(sim.start(AsksLoose, (how, False), id="r")) == 1
        assert HAPPENED == ["refused"]
        assert sim.call(Purse, "a").get() == (0, 0)


@pytest.mark.parametrize("where", ["step", "run"])
def test_a_shared_method_leaves_a_call_behind(where: str) -> None:
    """Nothing of its own is kept that would keep it from being repeated, so what it left behind is undone."""

    class Glance(Actor):
        @shared
        async def leave(self) -> int:
            self.runtime.deps.get(set).add(asyncio.create_task(self._pay()))
            await asyncio.sleep(0.5)
            return 0

        async def _pay(self) -> None:
            try:
                await self.runtime.get(Purse, "a").add_late(1, 2)
            except StepOver:
                HAPPENED.append("undone")

    class AsksGlance(Workflow):
        async def run(self) -> int:
            got = await (self.ask() if where == "run" else self.step(self.ask))
            await self.sleep(10)
            return got

        async def ask(self) -> int:
            return await self.runtime.get(Glance, "g").leave()

    with simulate(types=[Purse], deps=[set[asyncio.Task[None]]()]) as sim:
        assert sim.result(sim.start(AsksGlance, id="r")) == 0
        assert HAPPENED == ["late", "undone"]
        assert sim.call(Purse, "a").get() == (0, 0)
        assert replies_kept(sim.runtime) == []


def test_the_deadline_of_an_attempt_ends_calls_at_every_level() -> None:
    """An attempt is given up while a call two levels below is at work: that one is undone."""

    class Slow(Actor):
        async def ask(self) -> int:
            step = current_step()
            assert step is not None
            got = await self.runtime.get(Purse, "b").add(1)
            return got + await self.runtime.get(Purse, "a").add_late(1, 5 if step.attempt == 1 else 1)

    class AsksSlow(Workflow):
        async def run(self) -> int:
            return await self.step(self.ask, timeout=3)

        async def ask(self) -> int:
            return await self.runtime.get(Slow, "s").ask()

    with simulate(types=[Purse, Slow]) as sim:
        run = sim.start(AsksSlow, id="r")
        assert sim.result(run) == 2
        for name in "ab":
            # add_late's arguments differ between the attempts, and the first never took effect.
            assert sim.call(Purse, name).get() == (1, 1)
        assert replies_kept(sim.runtime) == []
