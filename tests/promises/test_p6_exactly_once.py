"""P6: an actor call made by a workflow takes effect exactly once, over all crashes and retries in between.

The callees are counters, so a call that is lost or made twice shows in a sum.  The process dies at every
commit, hence also between a callee's commit and the checkpoint of the step; steps fail after their calls and
are tried again; attempts are given up while their calls are on the way.  Then the same with kill -9.

Seen to fail when calls of steps keep no reply, when replies are not read after a crash, when equal calls are
not counted, when the checkpoint leaves the rows, when a call of run() is recorded in a commit of its own, and
when an attempt that is over may still call, or its call's turn may still end.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import threading
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast import Actor, Retry, Runtime, StepError, Workflow, shared
from holdfast.actors.current_step import current_step
from holdfast.actors.errors import StepOver
from holdfast.actors.handle import Run
from holdfast.runtime.clock import ManualClock
from holdfast.storage import layout
from holdfast.storage.check import check
from holdfast.storage.keys import decode_number, encode_key
from tests.actors.workflow.support import CrashLog, Folder, pass_time, play, rows, settle, until
from tests.promises.workflow_crashes import MAX_LIVES, Disk, crash_points, live, read_disk
from tests.storage.helpers import start_child


class Refused(Exception):
    pass


class Account(Actor):
    """Counts what it is given."""

    total: int = 0
    calls: int = 0

    async def add(self, n: int) -> int:
        self.total += n
        self.calls += 1
        return self.total

    async def add_nothing_back(self, n: int) -> None:
        self.total += n
        self.calls += 1

    async def refuse(self, n: int) -> int:
        self.total += n
        raise Refused(f"not {n}")

    async def add_now_and_then(self, n: int) -> int:
        """Refuse the calls that the test says."""
        HAPPENED.append("asked")
        if REFUSALS:
            REFUSALS.pop()
            raise Refused(f"not now: {n}")
        return await self.add(n)

    async def add_slowly(self, n: int) -> int:
        self.total += n
        HAPPENED.append("in the turn")
        await GATES[0].wait()
        self.calls += 1
        return self.total

    @shared
    async def get(self) -> int:
        return self.total


# What each body saw, by name and use of its step: every attempt must get the same replies.
REPLIES: dict[tuple[str, int], list[list[object]]] = {}
HAPPENED: list[str] = []
REFUSALS: list[None] = []
GATES: list[asyncio.Event] = []


def forget() -> None:
    REPLIES.clear()
    HAPPENED.clear()
    REFUSALS.clear()
    GATES[:] = [asyncio.Event()]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def replies_of_this_attempt() -> tuple[list[object], int]:
    """A list for the replies that this attempt gets, and its number."""
    step = current_step()
    assert step is not None
    seen: list[object] = []
    REPLIES.setdefault((step.name, step.nth), []).append(seen)
    return seen, step.attempt


class Pays(Workflow):
    """Calls from run() and from steps, one by one and side by side, equal ones, refused ones."""

    retry = Retry(3, 1.0, "constant", jitter=0)

    async def run(self, fails: int) -> list[Any]:
        ann, bob = self.runtime.get(Account, "ann"), self.runtime.get(Account, "bob")
        found: list[Any] = [await ann.add(1)]
        found.append(await self.step(self.pay, fails))
        try:
            await ann.refuse(100_000)
        except StepError as error:
            found.append(f"{error.attempts}: {error.cause.message}")
        found.append(await asyncio.gather(ann.add(1), bob.add(1)))
        async with self.group() as group:
            parts = [group.step(self.pay_one, name, fails) for name in ("ann", "bob")]
        found.append([part.result() for part in parts])
        found.append(await self.step(self.pay, 0))
        await self.sleep(5)
        await bob.add_nothing_back(1)
        found.append([await ann.get(), await bob.get()])
        return found

    async def pay(self, fails: int) -> list[object]:
        """Equal calls of one actor, one of another, one that is refused."""
        seen, attempt = replies_of_this_attempt()
        ann, bob = self.runtime.get(Account, "ann"), self.runtime.get(Account, "bob")
        for _ in range(2):
            seen.append(await ann.add(10))
        seen.append(await bob.add(10))
        try:
            await ann.refuse(100_000)
        except Refused as error:
            seen.append(str(error))
        await ann.add_nothing_back(10)
        if attempt <= fails:
            raise OSError("after the calls")
        return seen

    async def pay_one(self, name: str, fails: int) -> object:
        seen, attempt = replies_of_this_attempt()
        account = self.runtime.get(Account, name)
        seen.extend(await asyncio.gather(account.add(100), account.add(100)))
        if attempt <= fails:
            raise OSError("after the calls")
        return sum(int(str(one)) for one in seen)


RESULT: list[Any] = [
    1, [11, 21, 10, "not 100000"], "1: not 100000", [32, 11], [132 + 232, 111 + 211],
    [242, 252, 221, "not 100000"], [262, 222],
]  # fmt: skip
CALLS = {"ann": 1 + 3 + 1 + 2 + 3, "bob": 1 + 1 + 2 + 1 + 1}


async def start(rt: Runtime) -> Run[list[Any]]:
    return await rt.start(Pays, START[0], id="a", on_conflict="join")


START = [0]


async def check_effects(folder: Folder) -> None:
    """All sums are exact, and no kept reply is left."""
    rt = await folder.open()
    for name, total in (("ann", RESULT[-1][0]), ("bob", RESULT[-1][1])):
        assert [one.total for one in [await state(rt, name)]] == [total]
        assert (await state(rt, name)).calls == CALLS[name]
    assert rows(rt, layout.REPLY) == []
    await folder.end()
    for seen in REPLIES.values():
        longest = max(seen, key=len)
        assert all(one == longest[: len(one)] for one in seen), "another attempt got other replies"
    assert list(check(folder.path)) == []


async def state(rt: Runtime, name: str) -> Account:
    """An account's fields as they are on disk."""
    ref: Any = rt.get(Account, name)
    await ref.get()
    return ref.activation.instance  # type: ignore[no-any-return]


def check_rows(disk: Disk) -> None:
    """Replies are kept for steps without a checkpoint only."""
    over = disk.checkpointed("a")
    steps = [("pay", 1), ("pay", 2), ("pay_one", 1), ("pay_one", 2)]
    still = {call for step in steps if step not in over for call in calls_of(*step)}
    for key in disk.replies:
        _, end = decode_number(key, 1)
        assert key[end + 1 : end + 17] in still, "a reply was kept beyond the checkpoint"


def calls_of(step: str, nth: int) -> Iterator[bytes]:
    """What the rows of a step's calls have for `call` (docs/on-disk-format.md)."""
    for name, method, n in itertools.product(("ann", "bob"), ("add", "add_nothing_back"), (10, 100)):
        for number in range(10):  # whichever the type's number is
            actor = layout.DIRECTORY + number.to_bytes(2, "big") + encode_key(name)
            call = method.encode() + len(actor).to_bytes(2, "big") + actor + msgspec.msgpack.encode([n])
            yield blake2b(f"{nth} {step}\0".encode() + call, digest_size=16).digest()


@pytest.mark.parametrize("fails", [0, 1, 3])
async def test_without_a_crash(tmp_path: Path, fails: int) -> None:
    """Steps that fail after their calls, so many times, count once."""
    START[0] = fails
    folder = Folder(tmp_path / "data", ManualClock())
    assert await live(folder, CrashLog(None), start) == RESULT
    assert len(REPLIES["pay", 1]) == fails + 1
    await check_effects(folder)


@pytest.mark.parametrize("fails", [0, 1])
async def test_a_crash_at_every_commit(tmp_path: Path, fails: int) -> None:
    """Whatever commit the process dies at, each call has counted once in the end."""
    START[0] = fails
    between = 0
    for commit, kept in crash_points():
        forget()
        folder, log = Folder(tmp_path / f"{commit}-{kept}", ManualClock()), CrashLog(commit, kept=kept)
        found = await live(folder, log, start)
        if log.crashed:
            disk = await read_disk(folder.path)
            check_rows(disk)
            between += bool(disk.replies)
            found = await live(folder, CrashLog(None), start)
        assert found == RESULT, f"crash at {commit}"
        await check_effects(folder)
        if not log.crashed:
            break
    assert between > 10, "no crash came between a callee's commit and the checkpoint"


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("commits", [2, 3, 5, 8])
async def test_lives_of_a_few_commits(tmp_path: Path, commits: int, kept: bool) -> None:
    """Every life dies after a few commits, and each call still counts once."""
    START[0] = 1
    folder = Folder(tmp_path / "data", ManualClock())
    for lives in range(MAX_LIVES):
        log = CrashLog(commits, kept=kept)
        found = await live(folder, log, start)
        check_rows(await read_disk(folder.path))
        if not log.crashed:
            assert found == RESULT
            assert lives > 1
            await check_effects(folder)
            return
    raise AssertionError("the run never ended")


# -- attempts that are over --------------------------------------------------------------------------------


class Once(Workflow):
    """One step by a function that the test gives."""

    retry = Retry(3, 1.0, "constant", jitter=0)

    async def run(self, kind: str) -> int:
        return await self.step(getattr(self, kind), timeout=10)

    async def calls_late(self) -> int:
        """The first attempt outlives its time and calls then."""
        step = current_step()
        assert step is not None
        account = self.runtime.get(Account, "ann")
        if step.attempt == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass
            try:
                await account.add(1)
            except StepOver:
                HAPPENED.append("refused")
                raise
        return await account.add(1)

    async def outlived_by_its_call(self) -> int:
        """The first attempt ends while its call is in the callee's turn."""
        call = asyncio.create_task(self.call_slowly())
        return await asyncio.shield(call)

    async def call_slowly(self) -> int:
        try:
            return await self.runtime.get(Account, "ann").add_slowly(1)
        except StepOver:
            HAPPENED.append("refused")
            return 0

    async def fails_beside_its_call(self) -> int:
        """The first attempt fails while a call of it is on the way."""
        step = current_step()
        assert step is not None
        call = asyncio.create_task(self.call_slowly())
        if step.attempt == 1:
            await until(lambda: "in the turn" in HAPPENED)
            raise OSError("beside the call")
        return await call

    async def asks_until_it_is_given(self) -> int:
        """Tries a refused call again by itself; the first attempt fails after the call that counted."""
        step = current_step()
        assert step is not None
        account = self.runtime.get(Account, "ann")
        for _ in range(5):
            try:
                given = await account.add_now_and_then(1)
                break
            except Refused:
                continue
        else:
            raise AssertionError("refused for ever")
        if step.attempt == 1:
            raise OSError("after the calls")
        return given


async def test_a_late_call_of_a_timed_out_attempt_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    """An attempt whose time is up can't call any more; the next one's call counts alone."""
    folder = Folder(tmp_path / "data", clock)
    rt = await folder.open()
    run = await rt.start(Once, "calls_late", id="a")
    assert await play(rt, clock, run) == 1
    assert HAPPENED == ["refused"]
    assert (await state(rt, "ann")).calls == 1
    await folder.end()


@pytest.mark.parametrize("kind", ["outlived_by_its_call", "fails_beside_its_call"])
async def test_a_call_that_outlives_its_attempt_is_undone(
    tmp_path: Path, clock: ManualClock, kind: str
) -> None:
    """The attempt ended while the callee was at work: that turn is undone, and the next attempt's counts."""
    folder = Folder(tmp_path / "data", clock)
    rt = await folder.open()
    run = await rt.start(Once, kind, id="a")
    await until(lambda: HAPPENED == ["in the turn"])
    await pass_time(rt, clock, 11)  # the first attempt is over by now, and the second one is queued
    GATES[0].set()
    assert await play(rt, clock, run) == 1
    assert HAPPENED == ["in the turn", "refused", "in the turn"]
    account = await state(rt, "ann")
    assert (account.total, account.calls) == (1, 1)
    assert rows(rt, layout.REPLY) == []
    await folder.end()


async def test_a_queued_call_leaves_with_its_attempt(tmp_path: Path, clock: ManualClock) -> None:
    """The attempt's time is up while its call waits for the callee: that call is never made."""
    folder = Folder(tmp_path / "data", clock)
    rt = await folder.open()
    holder = asyncio.create_task(rt.get(Account, "ann").add_slowly(100))
    await until(lambda: HAPPENED == ["in the turn"])
    run = await rt.start(Once, "outlived_by_its_call", id="a")
    await pass_time(rt, clock, 10.5)  # timed out; the next attempt is due in half a second
    GATES[0].set()
    assert await holder == 100
    await settle(rt)
    assert await play(rt, clock, run) == 101
    account = await state(rt, "ann")
    assert (account.total, account.calls) == (101, 2)
    await folder.end()


@pytest.mark.parametrize("crash", [False, True])
async def test_a_refused_call_that_the_body_tries_again(
    tmp_path: Path, clock: ManualClock, crash: bool
) -> None:
    """A body that makes a refused call again: what counted in one attempt is what the next attempt gets."""
    folder = Folder(tmp_path / "data", clock)
    rt = await folder.open()
    REFUSALS[:] = [None, None]
    run = await rt.start(Once, "asks_until_it_is_given", id="a")
    await settle(rt)
    assert await run.status() == "retrying"
    if crash:
        rt = await folder.reopen()
        run = rt.run(Once, "a")
    assert await play(rt, clock, run) == 1
    assert len(HAPPENED) == 3
    assert (await state(rt, "ann")).calls == 1
    assert rows(rt, layout.REPLY) == []
    await folder.end()


# -- kill -9 -----------------------------------------------------------------------------------------------

WORKERS = 8
ACCOUNTS = 5

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.promises.test_p6_exactly_once import child

asyncio.run(child(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""


class Transfers(Workflow):
    retry = Retry(3, 0.002, "constant", jitter=0)

    async def run(self, n: int) -> int:
        await self.runtime.get(Account, str(n % ACCOUNTS)).add(1)
        await self.step(self.transfer, n)
        await asyncio.gather(*(self.runtime.get(Account, str(k)).add(1) for k in (n % ACCOUNTS, "run()")))
        return n

    async def transfer(self, n: int) -> None:
        step = current_step()
        assert step is not None
        for name in (n % ACCOUNTS, n % ACCOUNTS, "steps"):
            await self.runtime.get(Account, str(name)).add(10)
        if n % 3 == 0 and step.attempt == 1:
            raise OSError("after the calls")
        await self.runtime.get(Account, "steps").add(10)


async def child(path: Path, first: int, finish: int) -> None:
    """What a killed process does: run after run, until it is killed; or finish all runs that there are."""
    async with Runtime(path, min_free_bytes=0) as rt:
        os.write(1, b"open\n")

        async def work(n: int) -> None:
            while True:
                run = await rt.start(Transfers, n, id=str(n), on_conflict="join")
                assert await run.result() == n
                n += WORKERS

        if not finish:
            await asyncio.gather(*(work(first + n) for n in range(WORKERS)))
        runs = [str(key) for key in rt.keys(Transfers, limit=100_000)]
        await asyncio.gather(*(rt.run(Transfers, run).result() for run in runs))
        for name in rt.keys(Account):
            os.write(1, f"{name} {await rt.get(Account, name).get()}\n".encode())


def kill_and_count(path: Path, kills: int, seed: int) -> int:
    """Kill a working child again and again over one folder; returns how many kept replies the kills left."""
    rng = random.Random(seed)
    first = left = 0
    for life in range(kills + 1):
        last = life == kills
        process = start_child(CHILD, path, str(first), str(int(last)), env={"PYTHONPATH": os.getcwd()})
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "open\n"
        if not last:
            killer = threading.Timer(rng.uniform(0.010, 0.200), process.kill)
            killer.start()
        totals = {name: int(total) for name, total in map(str.split, process.stdout)}
        process.stdout.close()
        process.stdin.close()
        assert process.wait() == (0 if last else -signal.SIGKILL)
        disk = asyncio.run(read_disk(path))
        left += len(disk.replies)
        runs = [int(str(run)) for run in disk.journals]
        first = max(runs, default=-1) + 1
        if last:
            expected = {"run()": len(runs), "steps": 20 * len(runs)}
            for n in runs:
                expected[str(n % ACCOUNTS)] = expected.get(str(n % ACCOUNTS), 0) + 22
            assert totals == expected
            assert disk.replies == []
    assert list(check(path)) == []
    return left


def test_ten_kills(tmp_path: Path) -> None:
    """Over 10 kills all sums are exact."""
    assert kill_and_count(tmp_path / "data", 10, seed=7) > 0


@pytest.mark.slow
def test_a_hundred_kills(tmp_path: Path) -> None:
    """Over 100 kills all sums are exact."""
    assert kill_and_count(tmp_path / "data", 100, seed=8) > 50
