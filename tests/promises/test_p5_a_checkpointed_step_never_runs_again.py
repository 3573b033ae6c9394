"""P5: a checkpointed step never runs again; an unfinished one does.

The process dies at every commit of a workflow, before the commit is stored and after it.  Between two lives
the disk is read: a step whose outcome is there has no body run in any later life, every other one that
run() asks for has.  Then the same with kill -9 of a child.

Seen to fail when replay leaves out the journal's last outcome, when a final failure is no checkpoint, and
when a body starts as soon as it is asked for, before the journal is delivered.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from collections import Counter as Tally
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from holdfast import Fatal, Retry, Runtime, StepError, Workflow
from holdfast.actors.current_step import current_step
from holdfast.actors.handle import Run
from holdfast.runtime.clock import ManualClock
from holdfast.storage.check import check
from tests.actors.workflow.support import CrashLog, Folder
from tests.promises.workflow_crashes import MAX_LIVES, crash_points, live, read_disk
from tests.storage.helpers import start_child


class BodyRun(NamedTuple):
    """A body began."""

    life: int
    name: str
    nth: int
    attempt: int


BODIES: list[BodyRun] = []
LIFE = [0]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget()


def forget() -> None:
    BODIES.clear()
    LIFE[0] = 0


def note() -> int:
    """Note that a body begins; returns the attempt."""
    step = current_step()
    assert step is not None
    BODIES.append(BodyRun(LIFE[0], step.name, step.nth, step.attempt))
    return step.attempt


async def add(a: int, b: int) -> int:
    note()
    await asyncio.sleep(0)
    return a + b


def double(n: int) -> int:
    note()
    return 2 * n


async def stumble(n: int, times: int) -> int:
    if note() <= times:
        raise OSError("not yet")
    return n


async def refuse(n: int) -> int:
    note()
    raise Fatal(f"never {n}")


class EachStepOnce(Workflow):
    """Every kind of body and every kind of outcome, one after the other and side by side."""

    retry = Retry(2, 1.0, "constant", jitter=0)

    async def run(self) -> list[Any]:
        first = await self.step(add, 1, 2)
        second = await self.step(double, first)
        third = await self.step(double, second, thread=True)
        fourth = await self.step(stumble, third, 2)
        try:
            await self.step(stumble, 0, 99, name="hopeless")
            failure = ""
        except StepError as error:
            failure = f"{error.attempts} attempts"
        try:
            await self.step(refuse, 7)
        except StepError as error:
            failure += f", {error.attempts} attempt"
        await self.sleep(5)
        async with self.group() as group:
            parts = [group.step(add, fourth, n) for n in range(3)] + [group.step(stumble, 5, 1)]
        return [
            first,
            second,
            third,
            fourth,
            failure,
            [part.result() for part in parts],
            await self.step(double, 50),
        ]


RESULT = [3, 6, 12, 12, "3 attempts, 1 attempt", [12, 13, 14, 5], 100]
# Attempts of each step when nothing comes in between.
ATTEMPTS = {
    ("add", 1): 1, ("double", 1): 1, ("double", 2): 1, ("stumble", 1): 3, ("hopeless", 1): 3,
    ("refuse", 1): 1, ("add", 2): 1, ("add", 3): 1, ("add", 4): 1, ("stumble", 2): 2, ("double", 3): 1,
}  # fmt: skip


async def start(rt: Runtime) -> Run[list[Any]]:
    return await rt.start(EachStepOnce, id="a", on_conflict="join")


async def next_life(folder: Folder, log: CrashLog, done: set[tuple[str, int]]) -> list[Any] | None:
    """One life, in which no step of `done` may run; adds to `done` what is on disk at its end."""
    LIFE[0] += 1
    found = await live(folder, log, start)
    again = [body for body in BODIES if body.life == LIFE[0] and (body.name, body.nth) in done]
    assert not again, f"checkpointed, and run again: {again}"
    done |= (await read_disk(folder.path)).checkpointed("a")
    return found


def check_all_ran(crashes: int) -> None:
    """At least once, and at most once more than it takes for each crash."""
    tally = Tally((body.name, body.nth) for body in BODIES)
    assert tally.keys() == ATTEMPTS.keys()
    for step, attempts in ATTEMPTS.items():
        assert attempts <= tally[step] <= attempts + crashes


async def test_a_crash_at_every_commit(tmp_path: Path) -> None:
    """Whatever commit the process dies at: nothing checkpointed runs again, the rest does."""
    for commit, kept in crash_points():
        forget()
        folder, log = Folder(tmp_path / f"{commit}-{kept}", ManualClock()), CrashLog(commit, kept=kept)
        done: set[tuple[str, int]] = set()
        found = await next_life(folder, log, done)
        if not log.crashed:
            assert found == RESULT
            assert commit > 20
            return
        unfinished = {(body.name, body.nth) for body in BODIES} - done
        found = await next_life(folder, CrashLog(None), done)
        assert found == RESULT
        later = {(body.name, body.nth) for body in BODIES if body.life == 2}
        assert unfinished <= later, f"crash at {commit}: an unfinished step did not run again"
        check_all_ran(crashes=1)
        assert list(check(folder.path)) == []


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("commits", [2, 3, 5, 8])
async def test_lives_of_a_few_commits(tmp_path: Path, commits: int, kept: bool) -> None:
    """Every life dies after a few commits; it comes to the same end, and P5 holds all along."""
    folder, done = Folder(tmp_path / "data", ManualClock()), set[tuple[str, int]]()
    for lives in range(MAX_LIVES):
        log = CrashLog(commits, kept=kept)
        found = await next_life(folder, log, done)
        if not log.crashed:
            assert found == RESULT
            assert lives > 1
            check_all_ran(crashes=lives)
            return
    raise AssertionError("the run never ended")


# -- kill -9 -----------------------------------------------------------------------------------------------

WORKERS = 8
PARALLEL = 3

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.promises.test_p5_a_checkpointed_step_never_runs_again import child

asyncio.run(child(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
"""

BODY_LOG: list[int] = []


async def append(value: int) -> int:
    """Write down that this body runs, where a kill of the process leaves it."""
    step = current_step()
    assert step is not None
    os.write(BODY_LOG[0], f"{step.run} {step.name} {step.nth}\n".encode())
    await asyncio.sleep(0)
    if value % 5 == 0 and step.attempt == 1:
        raise OSError("once more")
    return value


class Appends(Workflow):
    retry = Retry(3, 0.002, "constant", jitter=0)

    async def run(self, n: int) -> int:
        total = await self.step(append, n)
        total += await self.step(append, n + 1, name="other")
        async with self.group() as group:
            parts = [group.step(append, n + k) for k in range(PARALLEL)]
        total += sum(part.result() for part in parts)
        return await self.step(append, total, name="last")


def appended(n: int) -> int:
    """What `Appends` returns."""
    return n + n + 1 + sum(n + k for k in range(PARALLEL))


async def child(path: Path, first: int, finish: int) -> None:
    """What a killed process does: run after run, until it is killed; or finish all those before `first`."""
    BODY_LOG[:] = [os.open(f"{path}.bodies", os.O_WRONLY | os.O_CREAT | os.O_APPEND)]
    async with Runtime(path, min_free_bytes=0) as rt:
        os.write(1, b"open\n")

        async def work(n: int) -> None:
            while True:
                run = await rt.start(Appends, n, id=str(n), on_conflict="join")
                assert await run.result() == appended(n)
                n += WORKERS

        if not finish:
            await asyncio.gather(*(work(first + n) for n in range(WORKERS)))
        results = await asyncio.gather(
            *(rt.run(Appends, str(n)).result() for n in rt.keys(Appends, limit=100_000))
        )
        os.write(1, f"{len(results)} {sum(results)}\n".encode())


def kill_and_compare(path: Path, kills: int, seed: int) -> int:
    """Kill a working child again and again over one folder; returns the checkpoints that a later life met."""
    rng = random.Random(seed)
    bodies = Path(f"{path}.bodies")
    bodies.touch()
    done: set[tuple[str, str, int]] = set()
    asked: set[tuple[str, str, int]] = set()
    first = met = 0
    for life in range(kills + 1):
        offset = bodies.stat().st_size
        last = life == kills
        process = start_child(CHILD, path, str(first), str(int(last)), env={"PYTHONPATH": os.getcwd()})
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "open\n"
        if last:
            count, total = map(int, process.stdout.readline().split())
        else:
            killer = threading.Timer(rng.uniform(0.010, 0.200), process.kill)
            killer.start()
            count = total = 0
        code = process.wait()
        process.stdout.close()
        process.stdin.close()
        assert code == (0 if last else -signal.SIGKILL)
        ran = {read_line(line) for line in bodies.read_bytes()[offset:].decode().splitlines()}
        assert not ran & done, f"checkpointed, and run again: {ran & done}"
        assert last is False or ran >= asked - done, "an unfinished step did not run again"
        disk = asyncio.run(read_disk(path))
        met += len(done)
        done = {(str(run), *step) for run in disk.journals for step in disk.checkpointed(run)}
        asked |= ran
        # Only of runs whose start is on disk; that of the others was never acknowledged.
        asked = {step for step in asked if step[0] in disk.journals}
        first = max((int(str(run)) for run in disk.journals), default=-1) + 1
        if last:
            assert asked == done
            assert count == len(disk.journals)
            assert total == sum(appended(int(str(run))) for run in disk.journals)
    assert list(check(path)) == []
    return met


def read_line(line: str) -> tuple[str, str, int]:
    run, name, nth = line.split()
    return run, name, int(nth)


def test_ten_kills(tmp_path: Path) -> None:
    """Over 10 kills no step that the journal has runs again, and all the others do."""
    assert kill_and_compare(tmp_path / "data", 10, seed=5) > 100


@pytest.mark.slow
def test_a_hundred_kills(tmp_path: Path) -> None:
    """Over 100 kills no step that the journal has runs again, and all the others do."""
    assert kill_and_compare(tmp_path / "data", 100, seed=6) > 1000
