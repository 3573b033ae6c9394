"""P6: an actor call made by a workflow takes effect exactly once, whatever crashes and retries come between.

Beside test_p6_exactly_once.py, which kills and counts: what kinds of calls there are, and where their replies
lie.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from holdfast import Actor, Retry, Runtime, StepError, Workflow, shared
from holdfast.actors.current_step import current_step
from holdfast.actors.workflow.journal import StepDone
from holdfast.runtime.clock import ManualClock
from holdfast.storage import layout
from tests.actors.workflow.support import CrashLog, Folder, play, rows, settle, soon, until
from tests.runtime.support import HeldLog

RUNTIME: list[Runtime] = []
SEEN: list[Any] = []
GATES: dict[str, asyncio.Event] = {}


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()
    GATES.clear()


class Account(Actor):
    balance: int = 0
    calls: int = 0

    async def add(self, amount: int, note: str = "") -> int:
        self.calls += 1
        self.balance += amount
        self.storage.put(("note", self.calls), note)
        return self.balance

    async def refuse(self) -> int:
        self.calls += 1
        raise PermissionError("no")

    async def forward(self, to: str, amount: int) -> int:
        self.calls += 1
        return await self.runtime.get(Account, to).add(amount)

    @shared
    async def get(self) -> tuple[int, int]:
        return self.balance, self.calls


async def deposit(how: str) -> int:
    """A body that calls and then fails in its first attempts."""
    rt, step = RUNTIME[-1], current_step()
    assert step is not None
    account = rt.get(Account, how)
    total: int
    if how == "twice":
        await account.add(1)
        total = await account.add(1)
    elif how == "gather":
        total = max(await asyncio.gather(*[account.add(1) for _ in range(5)]))
    elif how == "loop":
        total = [await account.add(n) for n in (3, 2, 1)][-1]
    elif how == "keyword":
        total = await account.add(amount=1, note="x")
    elif how == "keys":
        total = sum([await rt.get(Account, (how, n)).add(1) for n in range(3)])
    elif how == "nested":
        total = await account.forward("nested to", 1)
    else:
        total = await account.add(1)
    SEEN.append((how, step.attempt, total))
    if step.attempt <= 2:
        raise OSError("after the call")
    return total


class Deposits(Workflow):
    retry = Retry(3, 1, jitter=0)

    async def run(self, hows: list[str]) -> list[int]:
        return [await self.step(deposit, how) for how in hows]


HOWS = {"one": 1, "twice": 2, "gather": 5, "loop": 6, "keyword": 1, "keys": 3, "nested": 1}


async def balance(rt: Runtime, how: str) -> int:
    if how == "keys":
        return sum([(await rt.get(Account, (how, n)).get())[0] for n in range(3)])
    return (await rt.get(Account, "nested to" if how == "nested" else how).get())[0]


@pytest.mark.parametrize("how", list(HOWS))
async def test_p6_calls_of_a_body_over_its_retries(folder: Path, clock: ManualClock, how: str) -> None:
    """A body is tried three times: its calls count once, and each attempt gets the same replies."""
    home = Folder(folder, clock)
    rt = await home.open()
    RUNTIME[:] = [rt]
    result = await play(rt, clock, await rt.start(Deposits, [how]))
    assert await balance(rt, how) == HOWS[how]
    assert {total for _, _, total in SEEN} == set(result)
    assert rows(rt, layout.REPLY) == [], "the checkpoint's commit took the replies away"
    await home.end()


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("at", range(1, 20, 2))
async def test_p6_calls_of_bodies_over_crashes(folder: Path, clock: ManualClock, at: int, kept: bool) -> None:
    """The process dies at any commit, for instance between the callee's and the checkpoint's."""
    home = Folder(folder, clock)
    log = CrashLog(at, kept=kept)
    rt = await home.open(wrap_log=log.wrap)
    hows = list(HOWS)
    RUNTIME[:] = [rt]
    try:
        await play(rt, clock, await rt.start(Deposits, hows, id="r"))
        await settle(rt)
    except Exception:
        assert log.crashed
    if not rt.is_closed:
        await home.end()
    rt = await home.open()
    RUNTIME[:] = [rt]
    run = await rt.start(Deposits, hows, id="r", on_conflict="join")
    await play(rt, clock, run)
    assert {how: await balance(rt, how) for how in hows} == HOWS
    assert rows(rt, layout.REPLY) == []
    await home.end()


async def test_p6_the_reply_survives_a_crash_before_the_checkpoint(folder: Path, clock: ManualClock) -> None:
    """The callee's commit is durable, the body hangs, the process dies: the reply is kept."""
    home = Folder(folder, clock)

    async def calls_and_hangs() -> int:
        total = await RUNTIME[-1].get(Account, "a").add(7)
        SEEN.append(total)
        await GATES["go"].wait()
        return total

    class Hangs(Workflow):
        async def run(self) -> int:
            return await self.step(calls_and_hangs)

    GATES["go"] = asyncio.Event()
    rt = await home.open()
    RUNTIME[:] = [rt]
    await rt.start(Hangs, id="h")
    await until(lambda: SEEN == [7])
    assert len(rows(rt, layout.REPLY)) == 1
    rt = await home.reopen()
    RUNTIME[:] = [rt]
    await until(lambda: SEEN == [7, 7])
    GATES["go"].set()
    assert await play(rt, clock, rt.run(Hangs, "h")) == 7
    assert await rt.get(Account, "a").get() == (7, 1)
    assert rows(rt, layout.REPLY) == []
    await home.end()


async def test_p6_a_call_of_run_is_one_commit_with_its_checkpoint(folder: Path, clock: ManualClock) -> None:
    """The effect of a call made by `run()` and its record lie in the same commit."""
    home = Folder(folder, clock)
    log = HeldLog()
    rt = await home.open(wrap_log=log.wrap)

    class Calls(Workflow):
        async def run(self) -> int:
            return await self.runtime.get(Account, "a").add(7)

    rt.workflow_type(Calls)
    rt.get(Account, "a")
    await rt.get(Account, "a").add(0)
    await settle(rt)
    log.hold()
    start = asyncio.ensure_future(rt.start(Calls, id="c"))
    await log.arrived()
    log.let()
    run = await soon(start)
    await log.arrived()
    writes = {key: value for key, value in log.commits[-1].items() if value is not None}
    account = rt.get(Account, "a").activation  # type: ignore[attr-defined]
    journal = run._ref.activation
    assert account is not None and journal is not None
    assert account.fields_key in writes
    assert any(key.startswith(journal.prefix(layout.JOURNAL)) for key in writes)
    log.release()
    assert await play(rt, clock, run) == 7
    await home.end()


class CallsOnly(Workflow):
    async def run(self, key: str) -> int:
        account = self.runtime.get(Account, key)
        total = 0
        for _ in range(3):
            total = await account.add(1)
        one, two = await asyncio.gather(account.add(10), self.runtime.get(Account, f"{key} other").add(1))
        return total + one + two


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("at", range(1, 8))
async def test_p6_calls_of_run_over_crashes(folder: Path, clock: ManualClock, at: int, kept: bool) -> None:
    """Calls of `run()` itself are exact over a crash at any commit."""
    home = Folder(folder, clock)
    log = CrashLog(at, kept=kept)
    rt = await home.open(wrap_log=log.wrap)
    try:
        await play(rt, clock, await rt.start(CallsOnly, "k", id="r"))
        await settle(rt)
    except Exception:
        assert log.crashed
    if not rt.is_closed:
        await home.end()
    rt = await home.open()
    run = await rt.start(CallsOnly, "k", id="r", on_conflict="join")
    assert await play(rt, clock, run) == 3 + 13 + 1
    assert await rt.get(Account, "k").get() == (13, 4)
    assert await rt.get(Account, "k other").get() == (1, 1)
    calls = [record for record in await run.history() if isinstance(record, StepDone)]
    assert len(calls) == 5
    await home.end()


async def test_p6_an_error_of_the_actor_is_an_answer(folder: Path, clock: ManualClock) -> None:
    """What the actor raises is recorded for `run()` (not tried again), and undone in the actor."""
    home = Folder(folder, clock)

    class Asks(Workflow):
        async def run(self) -> str:
            try:
                await self.runtime.get(Account, "a").refuse()
            except StepError as error:
                await self.sleep(10)
                return f"{error.cause.type} {error.attempts}"
            return "allowed"

    rt = await home.open()
    await rt.start(Asks, id="a")
    await settle(rt)
    rt = await home.reopen()
    assert await play(rt, clock, rt.run(Asks, "a")) == "PermissionError 1"
    assert await rt.get(Account, "a").get() == (0, 0)
    await home.end()


async def test_p6_the_order_of_calls_may_change_between_attempts(folder: Path, clock: ManualClock) -> None:
    """Calls are told apart by method and arguments, so each attempt gets the right replies."""
    home = Folder(folder, clock)
    rt = await home.open()

    async def shuffles() -> list[int]:
        step = current_step()
        assert step is not None
        amounts = [1, 10, 100] if step.attempt == 1 else [100, 1, 10]
        replies = {amount: await rt.get(Account, "s").add(amount) for amount in amounts}
        if step.attempt == 1:
            raise OSError
        return [replies[amount] for amount in (1, 10, 100)]

    class Shuffles(Workflow):
        async def run(self) -> list[int]:
            return await self.step(shuffles, retry=Retry(1, 0))

    assert await play(rt, clock, await rt.start(Shuffles)) == [1, 11, 111]
    assert await rt.get(Account, "s").get() == (111, 3)
    await home.end()


async def test_p6_the_final_failure_takes_the_replies_away(folder: Path, clock: ManualClock) -> None:
    """A step that fails for good leaves no kept replies behind; redriven, its calls are new calls."""
    home = Folder(folder, clock)
    rt = await home.open()
    RUNTIME[:] = [rt]

    class Fails(Workflow):
        async def run(self) -> list[int]:
            return [await self.step(deposit, "f", retry=Retry(0))]

    run = await rt.start(Fails, id="f")
    with pytest.raises(Exception, match="after the call"):
        await play(rt, clock, run)
    assert rows(rt, layout.REPLY) == []
    assert await rt.get(Account, "f").get() == (1, 1)
    await home.end()
