"""Real actors on a real folder against a model, driven by hypothesis.

The model is a dict of what was acknowledged.  Every rule makes calls, failures, cancellations, time,
evictions, failed commits or crashes, and after each of them all that the actors say must be what the model
says.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.runtime.actor import Actor
from holdfast.runtime.alarms import Alarm
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import NotRunning
from holdfast.runtime.limits import Limits
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from holdfast.storage.errors import StorageError, StorageFailed
from tests.runtime.support import FailingLog, HeldLog, crash, pass_time, turns

T = TypeVar("T")
KEYS = st.sampled_from(["a", "b", "c"])
NAMES = st.sampled_from(["x", "y"])


class Odd(Exception):
    """An error of user code."""


class State:
    """What the model knows of one actor."""

    def __init__(self) -> None:
        self.value = 0
        self.stored: dict[str, int] = {}
        self.alarms: dict[str, int] = {}
        self.rung = 0

    def copy(self) -> State:
        made = State()
        made.value, made.stored, made.alarms, made.rung = (
            self.value, dict(self.stored), dict(self.alarms), self.rung,
        )  # fmt: skip
        return made

    def facts(self) -> tuple[int, dict[str, int], list[str], int]:
        return self.value, self.stored, sorted(self.alarms), self.rung


class Machine(Actor):
    indexes = ("value",)
    value: int = 0
    rung: int = 0

    async def add(self, amount: int, name: str) -> int:
        self.value += amount
        self.storage.put(name, self.value)
        return self.value

    async def add_and_fail(self, amount: int, name: str) -> None:
        await self.add(amount, name)
        self.alarms.set(1, name)
        raise Odd

    async def add_and_wait(self, amount: int, name: str) -> None:
        await self.add(amount, name)
        await asyncio.Event().wait()

    async def transfer(self, other: str, amount: int) -> int:
        self.value -= amount
        await self.runtime.get(Machine, other).receive(amount, str(self.key))
        return self.value

    async def receive(self, amount: int, back: str) -> int:
        self.value += amount
        return await self.runtime.get(Machine, back).noted()

    async def noted(self) -> int:
        self.storage.put("noted", self.value)
        return self.value

    async def transfer_and_fail_inside(self, other: str, amount: int) -> int:
        self.value += amount
        try:
            await self.runtime.get(Machine, other).call_back_to_fail(str(self.key))
        except Odd:
            pass
        return self.value

    async def call_back_to_fail(self, back: str) -> None:
        self.value += 1000
        await self.runtime.get(Machine, back).add_and_fail(1000, "x")

    async def remove(self, name: str) -> bool:
        return self.storage.delete(name)

    async def set_alarm(self, name: str, seconds: int) -> None:
        self.alarms.set(seconds, name)

    async def cancel_alarm(self, name: str) -> bool:
        return self.alarms.cancel(name)

    async def on_alarm(self, alarm: Alarm) -> None:
        self.rung += 1
        self.storage.put("alarm", self.rung)

    async def facts(self) -> tuple[int, dict[str, int], list[str], int]:
        stored = {str(key): value for key, value in self.storage.list(type=int).items()}
        return self.value, stored, [alarm.name for alarm in self.alarms.list()], self.rung

    @shared
    async def peek(self) -> int:
        return self.value


class ActorMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="machine"))
        self.clock = ManualClock()
        self.model: dict[str, State] = {}
        self.log = FailingLog()
        self.held = HeldLog()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(30):
                return await work

        return self.loop.run_until_complete(bounded())

    async def open(self) -> None:
        self.log, self.held = FailingLog(), HeldLog()
        self.system = ActorSystem(
            self.folder,
            clock=self.clock,
            seed=1,
            limits=Limits(idle_seconds=10, max_active=2, stall_seconds=None),
            wrap_log=lambda log: self.held.wrap(self.log.wrap(log)),
        )
        await self.system.open()
        self.system.type_of(Machine)
        await pass_time(self.system, 0)

    def actor(self, key: str) -> Machine:
        return self.system.get(Machine, key)

    def state(self, key: str) -> State:
        return self.model.setdefault(key, State())

    @initialize()
    def start(self) -> None:
        self.do(self.open())

    # -- calls ---------------------------------------------------------------------------------------------

    @rule(key=KEYS, name=NAMES, amount=st.integers(-5, 5))
    def add(self, key: str, name: str, amount: int) -> None:
        state = self.state(key)
        state.value += amount
        state.stored[name] = state.value
        assert self.do(self.actor(key).add(amount, name)) == state.value

    @rule(key=KEYS, name=NAMES, count=st.integers(2, 8))
    def add_at_once(self, key: str, name: str, count: int) -> None:
        async def calls() -> list[int]:
            return await asyncio.gather(*[self.actor(key).add(1, name) for _ in range(count)])

        state = self.state(key)
        assert self.do(calls()) == list(range(state.value + 1, state.value + count + 1))
        state.value += count
        state.stored[name] = state.value

    @rule(key=KEYS, name=NAMES)
    def fail(self, key: str, name: str) -> None:
        try:
            self.do(self.actor(key).add_and_fail(7, name))
        except Odd:
            return
        raise AssertionError("the error was lost")

    @rule(key=KEYS, name=NAMES, waiting=st.integers(0, 4), after=st.integers(0, 4))
    def cancel(self, key: str, name: str, waiting: int, after: int) -> None:
        """A turn is cancelled in the middle, and one of those who wait behind it as well."""

        async def calls() -> int:
            first = asyncio.create_task(self.actor(key).add_and_wait(7, name))
            others = [asyncio.create_task(self.actor(key).add(1, name)) for _ in range(waiting)]
            await turns(after)
            if others:
                others[0].cancel()
            first.cancel()
            found = await asyncio.gather(first, *others, return_exceptions=True)
            assert isinstance(found[0], asyncio.CancelledError)
            return sum(isinstance(one, int) for one in found)

        done = self.do(calls())
        assert done == max(0, waiting - 1)
        state = self.state(key)
        if done:
            state.value += done
            state.stored[name] = state.value

    @rule(key=KEYS, other=KEYS, amount=st.integers(1, 5))
    def transfer(self, key: str, other: str, amount: int) -> None:
        """A call to another actor (or to itself), which calls back."""
        state, receiver = self.state(key), self.state(other)
        state.value -= amount
        receiver.value += amount
        state.stored["noted"] = state.value
        assert self.do(self.actor(key).transfer(other, amount)) == state.value

    @rule(key=KEYS, other=KEYS)
    def fail_inside(self, key: str, other: str) -> None:
        """A failure deep in a chain is caught at its top: only the top's own change stays."""
        state = self.state(key)
        state.value += 3
        assert self.do(self.actor(key).transfer_and_fail_inside(other, 3)) == state.value

    @rule(key=KEYS, name=NAMES)
    def remove(self, key: str, name: str) -> None:
        had = self.state(key).stored.pop(name, None) is not None
        assert self.do(self.actor(key).remove(name)) is had

    # -- alarms --------------------------------------------------------------------------------------------

    @rule(key=KEYS, name=NAMES, seconds=st.integers(0, 30))
    def set_alarm(self, key: str, name: str, seconds: int) -> None:
        self.do(self.actor(key).set_alarm(name, seconds))
        self.state(key).alarms[name] = self.clock.now_ms() + seconds * 1000
        self.do(pass_time(self.system, 0))
        self.ring()

    @rule(key=KEYS, name=NAMES)
    def cancel_alarm(self, key: str, name: str) -> None:
        had = self.state(key).alarms.pop(name, None) is not None
        assert self.do(self.actor(key).cancel_alarm(name)) is had

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        """Alarms fire, idle actors leave."""
        self.do(pass_time(self.system, seconds))
        self.ring()

    def ring(self) -> None:
        for state in self.model.values():
            due = [name for name, due_ms in state.alarms.items() if due_ms <= self.clock.now_ms()]
            for name in due:
                del state.alarms[name]
                state.rung += 1
                state.stored["alarm"] = state.rung

    # -- memory, disk, crashes -----------------------------------------------------------------------------

    @rule()
    def evict_all(self) -> None:
        for key in "abc":
            live = self.system.directory.find(self.actor(key).directory_key)  # type: ignore[attr-defined]  # pyright: ignore
            if live is not None and live.evictable():
                self.system.directory.evict(live)

    @rule(key=KEYS, other=KEYS, name=NAMES, reads=st.booleans())
    def failed_commit(self, key: str, other: str, name: str, reads: bool) -> None:
        """The commit of several turns fails: all callers are told, nobody remembers."""

        async def calls() -> None:
            self.log.fail_next = 1
            tasks = [asyncio.ensure_future(self.actor(key).add(1, name))]
            tasks.append(asyncio.ensure_future(self.actor(other).add(1, name)))
            if reads:
                tasks.append(asyncio.ensure_future(self.actor(key).peek()))
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(one, StorageFailed) for one in found), found
            assert not self.log.fail_next
            await pass_time(self.system, 0)

        self.do(calls())

    @rule(key=KEYS, name=NAMES)
    def crash_with_a_commit_under_way(self, key: str, name: str) -> None:
        """The process dies while a call's commit isn't durable: after reopening it never was."""

        async def die() -> None:
            self.held.hold()
            call = asyncio.ensure_future(self.actor(key).add(1, name))
            await self.held.arrived()
            behind = asyncio.ensure_future(self.actor(key).add(1, name))
            await turns()
            self.held.lose_track()  # the commit is not made, and the store gives up
            found = await asyncio.gather(call, behind, return_exceptions=True)
            assert all(isinstance(one, (StorageError, NotRunning)) for one in found), found
            await turns()
            await self.open()

        self.do(die())

    @rule()
    def crash_at_rest(self) -> None:
        async def die() -> None:
            await crash(self.system)
            await self.open()

        self.do(die())

    @rule()
    def close_and_open(self) -> None:
        async def again() -> None:
            await self.system.close()
            await self.open()

        self.do(again())

    # -- what holds always ---------------------------------------------------------------------------------

    @invariant()
    @precondition(lambda self: hasattr(self, "system"))
    def actors_are_what_the_model_says(self) -> None:
        for key, state in self.model.items():
            assert self.do(self.actor(key).facts()) == state.facts()
            assert self.do(self.actor(key).peek()) == state.value
        values = sorted(state.value for state in self.model.values() if state.value)
        found = self.system.query(Machine, order_by="value")
        indexed = [self.do(actor.peek()) for actor in found]
        assert [value for value in indexed if value] == values
        assert len(self.system.directory) <= 3

    def teardown(self) -> None:
        if hasattr(self, "system"):
            self.do(self.system.close())
        self.loop.close()
        shutil.rmtree(self.folder)


ActorMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestActorMachine = ActorMachine.TestCase
