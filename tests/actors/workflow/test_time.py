"""Time in `run()`: sleeps, the clock it sees, chance and ids, and awaits that belong elsewhere."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from holdfast import Counter, Retry, Runtime, StepError, Workflow
from holdfast.actors.errors import RunFailed
from holdfast.actors.workflow.journal import TimerFired
from holdfast.runtime.clock import ManualClock
from tests.actors.workflow.support import (
    Folder,
    next_timer_seconds,
    pass_time,
    play,
    settle,
    soon,
    until_status,
)

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()


async def mark(what: str) -> str:
    SEEN.append(what)
    return what


class Hour(Workflow):
    async def run(self, how: str) -> str:
        begin = self.now()
        if how == "sleep":
            await self.sleep("1h")
        elif how == "until":
            await self.sleep_until(self.now() + timedelta(hours=1))
        elif how == "asyncio":
            await asyncio.sleep(3600)
        elif how == "anyio":
            await anyio.sleep(3600)
        elif how == "timeout":
            try:
                async with asyncio.timeout(3600):
                    await asyncio.Event().wait()
            except TimeoutError:
                pass
        elif how == "wait_for":
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 3600)
            except TimeoutError:
                pass
        elif how == "move_on":
            with anyio.move_on_after(3600):
                await anyio.sleep_forever()
        elif how == "call_later":
            done = asyncio.Event()
            asyncio.get_running_loop().call_later(3600, done.set)
            await done.wait()
        return str((self.now() - begin).total_seconds())


HOURS = ["sleep", "until", "asyncio", "anyio", "timeout", "wait_for", "move_on", "call_later"]


@pytest.mark.parametrize("how", HOURS)
async def test_a_sleep_is_durable(rt: Runtime, clock: ManualClock, how: str) -> None:
    """Every way to let time pass in `run()` is an alarm on disk, and takes exactly its time."""
    run = await rt.start(Hour, how)
    await settle(rt)
    assert await run.status() == "waiting"
    assert rt.engine.places.running == 0
    clock.advance(3599.999)
    await settle(rt)
    assert await run.status() == "waiting"
    clock.advance(0.001)
    await settle(rt)
    assert await soon(run.result()) == "3600.0"


@pytest.mark.parametrize("how", HOURS)
async def test_a_sleep_keeps_its_due_time_over_a_restart(
    folder: Folder, clock: ManualClock, how: str
) -> None:
    """AC-53: down for 40 minutes of an hour, it ends at the original time."""
    rt = await folder.open()
    await rt.start(Hour, how, id="a")
    await settle(rt)
    await folder.crash()
    clock.advance(2400)
    rt = await folder.open()
    await settle(rt)
    clock.advance(1199.999)
    await settle(rt)
    assert await rt.run(Hour, "a").status() == "waiting"
    clock.advance(0.001)
    await settle(rt)
    assert await soon(rt.run(Hour, "a").result()) == "3600.0"


@pytest.mark.parametrize("how", ["sleep", "until", "timeout"])
async def test_a_sleep_that_passed_while_down_ends_at_once(
    folder: Folder, clock: ManualClock, how: str
) -> None:
    """AC-53: down for two hours of an hour, it ends when the folder is opened, and only once."""
    rt = await folder.open()
    await rt.start(Hour, how, id="a")
    await settle(rt)
    await folder.crash()
    clock.advance(7200)
    rt = await folder.open()
    assert await play(rt, clock, rt.run(Hour, "a"), most_seconds=1) == "3600.0"


async def test_a_sleep_is_not_early_when_the_wall_clock_is_set_back(rt: Runtime, clock: ManualClock) -> None:
    """A wall clock set back makes a sleep end at its time by that clock, once."""
    run = await rt.start(Hour, "sleep")
    await settle(rt)
    clock.set_wall(clock.now_ms() - 600_000)
    await pass_time(rt, clock, 3700, step=100)
    assert await run.status() == "waiting"
    await pass_time(rt, clock, 600, step=100)
    assert await soon(run.result()) == "3600.0"
    assert sum(isinstance(record, TimerFired) for record in await run.history()) == 1


class Short(Workflow):
    async def run(self, seconds: float) -> str:
        await self.sleep(seconds)
        await self.sleep_until(datetime(1999, 1, 1, tzinfo=UTC))
        await self.sleep(0)
        return "awake"


async def test_a_sleep_of_nothing_and_one_that_passed(rt: Runtime, clock: ManualClock) -> None:
    """A sleep of zero seconds, or until a moment that passed, does not wait."""
    assert await soon((await rt.start(Short, 0)).result()) == "awake"
    assert await play(rt, clock, await rt.start(Short, 0.0001), most_seconds=1) == "awake"


class BadSleep(Workflow):
    async def run(self, how: str) -> str:
        try:
            if how == "negative":
                await self.sleep(-1)
            elif how == "text":
                await self.sleep("soon")
            else:
                await self.sleep_until(datetime(2030, 1, 1))
        except ValueError as error:
            return str(error)
        return "slept"


@pytest.mark.parametrize("how", ["negative", "text", "naive"])
async def test_a_sleep_that_makes_no_sense_is_refused(rt: Runtime, how: str) -> None:
    """Durations and moments are checked."""
    assert await soon((await rt.start(BadSleep, how)).result()) != "slept"


async def test_a_thousand_sleepers_wake_in_order(rt: Runtime, clock: ManualClock) -> None:
    """Many sleeps in one run end in the order of their times, each once."""

    class Sleepers(Workflow):
        async def run(self) -> list[int]:
            order: list[int] = []

            async def one(n: int) -> None:
                await self.sleep((n * 7919) % 1000 + 1)
                order.append((n * 7919) % 1000)

            async with asyncio.TaskGroup() as group:
                for n in range(200):
                    group.create_task(one(n))
            return order

    order = await play(rt, clock, await rt.start(Sleepers))
    assert order == sorted(order)
    assert len(order) == 200


class Chance(Workflow):
    async def run(self) -> list[str]:
        seen = [str(self.uuid()), str(self.random.random()), str(self.now()), self.id, self.correlation_id]
        SEEN.append(list(seen))
        await self.sleep(10)
        seen += [str(self.uuid()), str(self.random.randint(0, 10**9)), str(self.now())]
        SEEN.append(list(seen))
        return seen


async def test_time_chance_and_ids_are_the_same_on_replay(folder: Folder, clock: ManualClock) -> None:
    """`now`, `random`, `uuid`, `id` and `correlation_id` give on replay what they gave live; runs differ."""
    rt = await folder.open()
    await rt.start(Chance, id="a")
    other = await rt.start(Chance, id="b")
    await settle(rt)
    first = SEEN[0]
    rt = await folder.reopen()
    clock.advance(5)
    result = await play(rt, clock, rt.run(Chance, "a"))
    assert SEEN.count(first) == 2
    assert result[:5] == first
    assert (await play(rt, clock, rt.run(Chance, other.id)))[0] != first[0]


async def test_time_stands_still_between_records(rt: Runtime, clock: ManualClock) -> None:
    """`now()` and the loop's time move only with what is delivered."""

    async def takes_time() -> None:
        clock.advance(7)

    class Reads(Workflow):
        async def run(self) -> list[float]:
            times = [self.now().timestamp(), asyncio.get_running_loop().time()]
            await asyncio.sleep(0)
            times.append(self.now().timestamp())
            await self.step(takes_time)
            return [*times, self.now().timestamp()]

    a, b, c, d = await soon((await rt.start(Reads)).result())
    assert a == b == c == d - 7


async def test_time_never_runs_back_in_a_run(rt: Runtime, clock: ManualClock) -> None:
    """A wall clock set back between two steps: the run's time stands."""

    async def sets_back() -> None:
        clock.set_wall(clock.now_ms() - 3_600_000)

    class Reads(Workflow):
        async def run(self) -> float:
            begin = self.now()
            await self.step(sets_back)
            return (self.now() - begin).total_seconds()

    run = await rt.start(Reads)
    assert await soon(run.result()) == 0
    times = [record.at_ms for record in await run.history()]
    assert times == sorted(times)


# -- what doesn't belong in run() ----------------------------------------------------------------------------


async def foreign_future() -> None:
    await OUTER["future"]


async def foreign_lock() -> None:
    async with OUTER["lock"]:
        pass


async def foreign_queue() -> None:
    await OUTER["queue"].get()


async def foreign_task() -> None:
    await OUTER["task"]


async def foreign_event() -> None:
    await OUTER["event"].wait()


async def executor() -> None:
    await asyncio.get_running_loop().run_in_executor(None, print)


async def to_thread() -> None:
    await asyncio.to_thread(print)


async def connection() -> None:
    await asyncio.open_connection("127.0.0.1", 1)


async def server() -> None:
    await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)


async def raw_socket() -> None:
    with socket.socket() as one:
        one.setblocking(False)
        await asyncio.get_running_loop().sock_recv(one, 1)


async def process() -> None:
    await asyncio.create_subprocess_exec("true")


async def names() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 1)


async def thread_safe() -> None:
    asyncio.get_running_loop().call_soon_threadsafe(print)


OUTER: dict[str, Any] = {}
FOREIGN: dict[str, Callable[[], Awaitable[None]]] = {
    one.__name__: one
    for one in (foreign_future, foreign_lock, foreign_queue, foreign_task, foreign_event, executor, to_thread,
                connection, server, raw_socket, process, names, thread_safe)
}  # fmt: skip


class Foreign(Workflow):
    async def run(self, what: str) -> None:
        await FOREIGN[what]()


@pytest.mark.parametrize("what", list(FOREIGN))
async def test_io_in_run_is_refused_at_once(rt: Runtime, what: str) -> None:
    """What would reach outside raises, and the run's error says where it belongs; nothing else is harmed."""
    OUTER.update(
        future=asyncio.get_running_loop().create_future(),
        lock=asyncio.Lock(),
        queue=asyncio.Queue(),
        event=asyncio.Event(),
    )
    OUTER["task"] = asyncio.ensure_future(OUTER["event"].wait())
    await OUTER["lock"].acquire()
    # Tie them to this loop.
    waiting = [
        asyncio.ensure_future(one)
        for one in (OUTER["queue"].get(), OUTER["lock"].acquire(), OUTER["event"].wait())
    ]
    await asyncio.sleep(0)
    try:
        with pytest.raises(RunFailed, match="I/O belongs in a step") as raised:
            await soon((await rt.start(Foreign, what)).result())
        assert raised.value.status == "failed"
        assert await rt.get(Counter, "still").increment() == 1
    finally:
        for one in (*waiting, OUTER["task"]):
            one.cancel()


class Spins(Workflow):
    async def run(self, how: str) -> str:
        if how == "spin" and FIXED == ["broken"]:
            while True:  # noqa: ASYNC110  # spinning is what is tested
                await asyncio.sleep(0)
        if how == "nothing" and FIXED == ["broken"]:
            await asyncio.get_running_loop().create_future()
        if how == "lock" and FIXED == ["broken"]:
            lock = asyncio.Lock()
            await lock.acquire()
            await lock.acquire()
        return await self.step(mark, "fixed")


FIXED = ["broken"]


@pytest.mark.parametrize("how", ["spin", "nothing", "lock"])
async def test_a_run_that_can_never_go_on_is_stuck_and_goes_on_when_fixed(
    folder: Folder, clock: ManualClock, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that spins, or waits for what nothing delivers, is stuck with a reason; fixed, it goes on."""
    FIXED[:] = ["broken"]
    rt = await folder.open()
    run = await rt.start(Spins, how, id="a")
    with pytest.raises(RunFailed, match=r"I/O belongs in a step|went round") as raised:
        await soon(run.result())
    assert raised.value.status == "stuck"
    info = await run.info()
    assert info.status == "stuck"
    assert info.error is not None
    assert any(record.levelno == logging.ERROR for record in caplog.records)
    rt = await folder.reopen()
    await settle(rt)
    assert await until_status(rt.run(Spins, "a"), "stuck") == "stuck"
    FIXED[:] = ["fixed"]
    rt = await folder.reopen()
    assert await play(rt, clock, rt.run(Spins, "a")) == "fixed"


async def test_tasks_end_with_run(rt: Runtime, clock: ManualClock) -> None:
    """A task that `run()` started and left alone ends with the run; its steps don't run on."""

    class Leaves(Workflow):
        async def run(self) -> str:
            async def later() -> None:
                try:
                    await self.sleep(10)
                    await self.step(mark, "after the end")
                finally:
                    SEEN.append("closed")

            task = asyncio.create_task(later())
            await self.step(mark, "in time")
            del task
            return "done"

    run = await rt.start(Leaves)
    assert await soon(run.result()) == "done"
    await pass_time(rt, clock, 20)
    assert SEEN == ["in time", "closed"]
    assert await run.status() == "complete"


async def test_structured_concurrency_inside(rt: Runtime, clock: ManualClock) -> None:
    """TaskGroup, anyio, gather, wait, as_completed, Queue, Lock, Condition and Semaphore work inside."""

    class Everything(Workflow):
        async def run(self) -> list[str]:
            out: list[str] = []
            queue: asyncio.Queue[str] = asyncio.Queue(1)
            lock, limit = asyncio.Lock(), asyncio.Semaphore(1)

            async def producer(name: str) -> None:
                async with limit:
                    await queue.put(await self.step(mark, name))

            async def consumer() -> None:
                for _ in range(4):
                    async with lock:
                        out.append(await queue.get())

            async with asyncio.TaskGroup() as group:
                group.create_task(consumer())
                for name in "abcd":
                    group.create_task(producer(name))
            async with anyio.create_task_group() as anyio_group:
                send, receive = anyio.create_memory_object_stream[str](1)

                async def sender() -> None:
                    async with send:
                        await send.send(await self.step(mark, "e"))

                anyio_group.start_soon(sender)
                async with receive:
                    out.append(await receive.receive())
            with anyio.move_on_after(5) as scope:
                await self.sleep(10)
            out.append(str(scope.cancelled_caught))
            with anyio.CancelScope() as outer:
                outer.cancel()
                with anyio.CancelScope(shield=True):
                    out.append(await self.step(mark, "shielded"))
            for coro in asyncio.as_completed([self.step(mark, "f")]):
                out.append(await coro)
            out.append(await asyncio.wait_for(asyncio.shield(self.step(mark, "g")), 5))
            return out

    run = await rt.start(Everything)
    assert await play(rt, clock, run) == ["a", "b", "c", "d", "e", "True", "shielded", "f", "g"]


async def test_a_timer_that_races_a_step(rt: Runtime, clock: ManualClock) -> None:
    """A timeout around a step that hangs: the step is given up, its body cancelled, and the run goes on."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hangs() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    class Races(Workflow):
        async def run(self) -> str:
            try:
                async with asyncio.timeout(5):
                    await self.step(hangs)
            except TimeoutError:
                await self.sleep(100)
                return "too late"
            return "in time"

    run = await rt.start(Races)
    await soon(begun.wait())
    clock.advance(5)
    await soon(ended.wait())
    await settle(rt)
    assert await run.status() == "waiting", "what was given up doesn't count as work"
    assert rt.engine.places.running == 0
    assert await play(rt, clock, run) == "too late"


async def test_a_step_given_up_before_it_began(rt: Runtime, clock: ManualClock) -> None:
    """A step that is cancelled while it waits for the disk never begins, and the run can rest."""

    class GivesUp(Workflow):
        async def run(self) -> str:
            steps = [asyncio.ensure_future(self.step(mark, "never")) for _ in range(3)]
            await asyncio.sleep(0)
            for one in steps:
                one.cancel()
            await asyncio.wait(steps)
            first = self.step(mark, "first")
            second = asyncio.ensure_future(self.step(mark, "second", name="second"))
            await asyncio.wait([asyncio.ensure_future(first), second], return_when=asyncio.FIRST_COMPLETED)
            second.cancel()
            await self.sleep(100)
            return "done"

    run = await rt.start(GivesUp)
    await settle(rt)
    assert "never" not in SEEN
    assert await run.status() == "waiting"
    assert next_timer_seconds(clock) is not None
    assert await play(rt, clock, run) == "done"


async def test_the_starters_context_is_not_runs(rt: Runtime) -> None:
    """Context variables of whoever starts a run are not seen by `run()`: they wouldn't be there on replay."""
    from contextvars import ContextVar

    variable: ContextVar[str] = ContextVar("variable", default="default")

    class Sees(Workflow):
        async def run(self) -> str:
            return variable.get()

    variable.set("the starter's")
    assert await soon((await rt.start(Sees)).result()) == "default"


async def test_a_retry_beside_a_race(rt: Runtime, clock: ManualClock) -> None:
    """A plain step whose retry wins a race ends the run; it isn't called stuck afterwards."""
    tries: list[int] = []

    def flaky() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise OSError
        return "flaky"

    async def slow() -> str:
        await asyncio.Event().wait()
        return "slow"

    class Race(Workflow):
        async def run(self) -> str:
            steps = [
                asyncio.ensure_future(self.step(slow)),
                asyncio.ensure_future(self.step(flaky, retry=Retry(1, 5, jitter=0))),
            ]
            done, losers = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            for loser in losers:
                loser.cancel()
            return done.pop().result()

    run = await rt.start(Race)
    await pass_time(rt, clock, 6)
    assert await soon(run.result()) == "flaky"
    assert await run.status() == "complete"


async def test_step_errors_in_groups(rt: Runtime) -> None:
    """A failed step in a TaskGroup is found in the ExceptionGroup, and names the dead letter's step."""

    async def bad() -> None:
        raise ValueError("bad")

    class Grouped(Workflow):
        retry = Retry(0)

        async def run(self, catch: bool) -> str:
            caught = 0
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._one())
                    group.create_task(self._sleeps())
            except* StepError as error:
                if not catch:
                    raise
                caught = len(error.exceptions)
            return str(caught)

        async def _one(self) -> None:
            await self.step(bad)

        async def _sleeps(self) -> None:
            await self.sleep(100)

    assert await soon((await rt.start(Grouped, True)).result()) == "1"
    run = await rt.start(Grouped, False)
    with pytest.raises(RunFailed):
        await soon(run.result())
    assert (await run.dead_letter()).step == "bad"


class Ordered(Workflow):
    async def run(self) -> list[list[int]]:
        tasks = [asyncio.create_task(self._one(n)) for n in range(40)]
        done, _ = await asyncio.wait(tasks)
        orders = [[tasks.index(task) for task in done]]
        orders.append([await coming for coming in asyncio.as_completed([self._one(n) for n in range(40)])])
        steps = {self.step(mark, f"{n}") for n in range(40)}
        orders.append([int(await step) for step in steps])
        losers = {asyncio.create_task(self._loses(n)) for n in range(40)}
        await asyncio.sleep(0)
        for loser in losers:
            loser.cancel()
        await asyncio.wait(losers)
        orders.append([int(await loser) for loser in losers])
        SEEN.append(orders)
        await self.sleep(1000)
        return orders

    async def _one(self, n: int) -> int:
        await self.sleep(1 + n % 3)
        return n

    async def _loses(self, n: int) -> str:
        try:
            await self.sleep(5000)
        except asyncio.CancelledError:
            return await self.step(mark, f"{n}", name="clean-up")
        return ""


async def test_sets_of_tasks_and_steps_keep_their_order(folder: Folder, clock: ManualClock) -> None:
    """asyncio holds tasks in sets, as_completed even coroutines: the order is the same on replay."""
    rt = await folder.open()
    await rt.start(Ordered, id="o")
    await pass_time(rt, clock, 20)
    (live,) = [one for one in SEEN if isinstance(one, list)]
    for _ in range(3):
        rt = await folder.reopen()
    result = await play(rt, clock, rt.run(Ordered, "o"))
    assert result == live
    assert all(one == live for one in SEEN if isinstance(one, list))
    assert live[1] == sorted(range(40), key=lambda n: (n % 3, n))
    assert sorted(live[3]) == list(range(40))


async def test_coroutines_without_an_order_are_refused(rt: Runtime) -> None:
    """as_completed over a set of coroutines would be another one on replay."""

    class Unordered(Workflow):
        async def run(self) -> None:
            for coming in asyncio.as_completed({self._one(n) for n in range(3)}):
                await coming

        async def _one(self, n: int) -> int:
            return n

    with pytest.raises(RunFailed, match="give it a list"):
        await soon((await rt.start(Unordered)).result())
    gc.collect()
