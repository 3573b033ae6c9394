"""`self.version(tag, number)`: runs that were beyond a change go on in the old way, others in the new one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from holdfast import Actor, CallerError, Counter, Retry, RunFailed, Runtime, Workflow
from holdfast.actors.handle import Run
from holdfast.actors.workflow.journal import Record, VersionTaken
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import InvalidActor
from tests.actors.workflow.support import CrashLog, Folder, pass_time, play, settle, soon
from tests.promises.workflow_crashes import crash_points, live, read_disk

Code = Callable[["Versioned"], Awaitable[Any]]
CODE: list[Code] = []
SEEN: list[str] = []
BROKEN: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()
    BROKEN.clear()


class Versioned(Workflow):
    """Its code is changed by the test between two openings."""

    retry = Retry(3, 100, "constant", jitter=0)

    async def run(self) -> Any:
        return await CODE[0](self)

    def do(self, name: str) -> Awaitable[str]:
        return self.step(mark, name, name=name)


async def mark(what: str) -> str:
    SEEN.append(what)
    if what in BROKEN:
        raise OSError(f"{what} is broken")
    return what


async def old(self: Versioned) -> list[str]:
    got = [await self.do("one"), await self.do("two")]
    await self.sleep(60)
    return [*got, await self.do("three")]


async def new(self: Versioned) -> list[str]:
    """Another step between one and two, and another one behind the sleep."""
    got = [await self.do("one")]
    if self.version("extra", 1) >= 1:
        got.append(await self.do("extra"))
    got.append(await self.do("two"))
    await self.sleep(60)
    got.append(f"late {self.version('late', 2)}")
    return [*got, await self.do("three")]


async def begin(folder: Folder, code: Code) -> Run[Any]:
    CODE[:] = [code]
    rt = await folder.open()
    run: Run[Any] = await rt.start(Versioned, id="r")
    await settle(rt)
    return run


async def go_on(folder: Folder, clock: ManualClock, code: Code) -> Any:
    """Crash, and let the run go on with other code; its result."""
    await folder.crash()
    CODE[:] = [code]
    rt = await folder.open()
    return await play(rt, clock, rt.run(Versioned, "r"))


def taken(records: list[Record]) -> list[tuple[str, int]]:
    return [(one.tag, one.number) for one in records if isinstance(one, VersionTaken)]


async def test_a_new_run_takes_the_new_way_and_records_it(folder: Folder, clock: ManualClock) -> None:
    """The record lies before that of the next outcome, and every later call gives the same."""

    async def twice(self: Versioned) -> list[int]:
        numbers = [self.version("a", 3), self.version("a", 3)]
        await self.do("one")
        return [*numbers, self.version("a", 4), self.version("b", 1)]

    run = await begin(folder, twice)
    assert folder.rt is not None
    assert await play(folder.rt, clock, run) == [3, 3, 3, 1]
    kinds = [type(record).__name__ for record in await run.history()]
    assert kinds == ["Started", "VersionTaken", "StepDone", "VersionTaken", "Finished"]
    assert taken(await run.history()) == [("a", 3), ("b", 1)]


async def test_it_costs_no_commit(tmp_path: Path, clock: ManualClock) -> None:
    """A run with versions makes as many commits as one without."""

    async def plain(self: Versioned) -> list[str]:
        got = [await self.do("one"), await self.do("extra"), await self.do("two")]
        await self.sleep(60)
        return [*got, "late 2", await self.do("three")]

    commits: list[int] = []
    for code in (plain, new):
        home, log = Folder(tmp_path / code.__name__, clock), CrashLog(None)
        CODE[:] = [code]
        rt = await home.open(wrap_log=log.wrap)
        run: Run[Any] = await rt.start(Versioned, id="r")
        assert await play(rt, clock, run) == ["one", "extra", "two", "late 2", "three"]
        commits.append(log.commits)
        await home.end()
    assert commits[0] == commits[1]


async def test_a_run_that_was_beyond_the_point_takes_the_old_way(folder: Folder, clock: ManualClock) -> None:
    """What it passed before gives 0, and what lies ahead gives the number of the code."""
    await begin(folder, old)
    assert await go_on(folder, clock, new) == ["one", "two", "late 2", "three"]
    assert SEEN == ["one", "two", "three"]
    assert folder.rt is not None
    assert taken(await folder.rt.run(Versioned, "r").history()) == [("late", 2)]


async def test_a_run_that_slept_behind_the_point_was_beyond_it(folder: Folder, clock: ManualClock) -> None:
    """No record lies behind the point, but the sleep does."""

    async def sleeps(self: Versioned) -> str:
        await self.do("one")
        await self.sleep(60)
        return "old"

    async def changed(self: Versioned) -> str:
        await self.do("one")
        if self.version("x", 1):
            return "new"
        await self.sleep(60)
        return "old"

    await begin(folder, sleeps)
    assert await go_on(folder, clock, changed) == "old"


async def test_a_run_that_slept_before_the_point_was_not(folder: Folder, clock: ManualClock) -> None:
    """It comes there when it wakes."""

    async def sleeps(self: Versioned) -> str:
        await self.sleep(60)
        return "old"

    async def changed(self: Versioned) -> str:
        await self.sleep(60)
        return "new" if self.version("x", 1) else "old"

    await begin(folder, sleeps)
    assert await go_on(folder, clock, changed) == "new"


async def test_a_step_that_is_being_retried_lies_behind_the_point(folder: Folder, clock: ManualClock) -> None:
    """Its attempts are records."""

    async def changed(self: Versioned) -> str:
        if self.version("x", 1):
            await self.do("before")
        return await self.do("one")

    BROKEN.add("one")
    await begin(folder, lambda self: self.do("one"))
    BROKEN.clear()
    assert await go_on(folder, clock, changed) == "one"
    assert "before" not in SEEN


async def test_branches_side_by_side(folder: Folder, clock: ManualClock) -> None:
    """Outcomes of another branch say nothing of this one, unless they were asked for behind its point."""

    async def left(self: Versioned) -> list[str]:
        return [await self.do("l1"), await self.do("l2")]

    async def right(self: Versioned) -> list[str]:
        return [await self.step(hangs, "r1", name="r1")]

    async def right_changed(self: Versioned) -> list[str]:
        return [f"right {self.version('right', 1)}", *await right(self), f"late {self.version('late', 1)}"]

    async def before(self: Versioned) -> Any:
        got = await asyncio.gather(left(self), right(self))
        return [*got, f"end {self.version('end', 1)}"]

    async def after(self: Versioned) -> Any:
        got = await asyncio.gather(left(self), right_changed(self))
        return [*got, f"end {self.version('end', 1)}"]

    HANG[0] = True
    await begin(folder, before)
    HANG[0] = False
    # l1 and l2 are recorded, and l2 was asked for behind the beginning.
    assert await go_on(folder, clock, after) == [["l1", "l2"], ["right 0", "r1", "late 1"], "end 1"]


HANG = [False]


async def hangs(what: str) -> str:
    if HANG[0]:
        await asyncio.Event().wait()
    return what


async def test_the_recorded_number_stays_when_the_code_goes_on(folder: Folder, clock: ManualClock) -> None:
    """Code with a higher number, or without the call, may follow."""

    async def third(self: Versioned) -> list[str]:
        got = [await self.do("one")]
        number = self.version("extra", 3)
        got.append(await self.do("extra" if number == 1 else f"extra {number}"))
        got.append(await self.do("two"))
        await self.sleep(60)
        return [*got, str(number)]

    async def without(self: Versioned) -> list[str]:
        got = [await self.do("one"), await self.do("extra"), await self.do("two")]
        await self.sleep(60)
        return got

    await begin(folder, new)
    await folder.crash()
    CODE[:] = [third]
    await settle(await folder.open())
    assert await go_on(folder, clock, third) == ["one", "extra", "two", "1"]
    await folder.end()


async def test_a_call_that_is_taken_away_leaves_its_record_alone(folder: Folder, clock: ManualClock) -> None:
    """When no run needs the old way any more the call goes."""

    async def without(self: Versioned) -> list[str]:
        got = [await self.do("one"), await self.do("extra"), await self.do("two")]
        await self.sleep(60)
        return got

    await begin(folder, new)
    assert await go_on(folder, clock, without) == ["one", "extra", "two"]


async def test_code_that_is_older_than_the_run(folder: Folder, clock: ManualClock) -> None:
    """It can't know the run's way: the run is stuck, nothing is done, and newer code goes on."""

    async def newest(self: Versioned) -> str:
        number = self.version("x", 2)
        await self.do("one")
        await self.sleep(60)
        return f"way {number}"

    async def older(self: Versioned) -> str:
        number = self.version("x", 1)
        try:
            await self.do("one")
            await self.sleep(60)
        finally:
            await self.do("clean up")
        return f"way {number}"

    await begin(folder, newest)
    await folder.crash()
    CODE[:] = [older]
    clock.advance(60)
    rt = await folder.open()
    await settle(rt)
    with pytest.raises(
        RunFailed, match=r"the run has version 2 of 'x', and run\(\) knows 1 at most"
    ) as raised:
        await soon(rt.run(Versioned, "r").result())
    assert raised.value.status == "stuck"
    assert f"{__file__}:{older.__code__.co_firstlineno + 1} in " in str(raised.value)
    assert rt.engine.places.running == 0
    assert await go_on(folder, clock, newest) == "way 2"
    assert SEEN == ["one"]


async def test_a_lower_number_in_the_same_code(folder: Folder, clock: ManualClock) -> None:
    """Live it is the same: the run is stuck, and what its code does then has no effect."""

    async def confused(self: Versioned) -> int:
        self.version("x", 2)
        await self.do("one")
        number = self.version("x", 1)
        await self.do("two")
        return number

    async def mended(self: Versioned) -> int:
        self.version("x", 2)
        await self.do("one")
        return self.version("x", 2)

    run = await begin(folder, confused)
    with pytest.raises(RunFailed, match="version 2 of 'x'"):
        await soon(run.result())
    assert SEEN == ["one"]
    assert await go_on(folder, clock, mended) == 2
    assert SEEN == ["one"]


async def test_an_actor_whose_turn_is_undone_keeps_no_version(folder: Folder, clock: ManualClock) -> None:
    """The record that went with an actor's commit goes with the next one when that turn fails."""

    async def calls(self: Versioned) -> list[int]:
        numbers = [self.version("before", 1)]
        await self.runtime.get(Bloated, "b").grow()
        return numbers

    run = await begin(folder, calls)
    with pytest.raises(RunFailed, match="InvalidResult"):
        await soon(run.result())
    kinds = [type(record).__name__ for record in await run.history()]
    assert kinds == ["Started", "VersionTaken", "StepFailed", "Failed"]


class Bloated(Actor):
    """Its turn fails when it ends, after the workflow's record was added to it."""

    text: str = ""

    async def grow(self) -> None:
        self.text = "x" * (9 << 20)


# -- crashes -----------------------------------------------------------------------------------------------


async def everything(self: Versioned) -> Any:
    """Versions at the beginning, behind outcomes, in branches, and before a call."""

    async def branch(name: str, seconds: float) -> list[str]:
        got = [f"{name} {self.version(name, 1)}"]
        await self.sleep(seconds)
        got.append(await self.do(f"{name}1"))
        got.append(f"{name} late {self.version(f'{name} late', 2)}")
        got.append(await self.do(f"{name}2"))
        return got

    got: list[Any] = [self.version("first", 7)]
    got.append(await self.do("one"))
    got.append(self.version("then", 1))
    got.append(await self.runtime.get(Counter, "versions").increment())
    got.append(self.version("called", 1))
    got.append(await asyncio.gather(branch("left", 10), branch("right", 10.5)))
    got.append(self.version("last", 3))
    return got


EXPECTED: list[Any] = [
    7, "one", 1, 1, 1,
    [["left 1", "left1", "left late 2", "left2"], ["right 1", "right1", "right late 2", "right2"]],
    3,
]  # fmt: skip


async def test_crashes_at_every_commit_change_no_decision(tmp_path: Path) -> None:
    """A number that was given is given again, whatever was on disk when the process died."""
    CODE[:] = [everything]
    for point, (commit, kept) in enumerate(crash_points()):
        folder = Folder(tmp_path / str(point), ManualClock())

        async def start(rt: Runtime) -> Run[Any]:
            return await rt.start(Versioned, id="r", on_conflict="join")

        first = CrashLog(commit, kept=kept)
        found = await live(folder, first, start)
        if found is None:
            found = await live(folder, CrashLog(None), start)
        assert found == EXPECTED, (commit, kept)
        disk = await read_disk(folder.path)
        assert len(taken(disk.journals["r"])) == 8
        if not first.crashed:
            return


async def test_changed_after_a_crash_at_every_commit(tmp_path: Path) -> None:
    """Wherever the old code was cut off, the new code goes on in one of the two ways, by what is recorded."""
    ways: set[tuple[str, ...]] = set()
    for point, (commit, kept) in enumerate(crash_points()):
        SEEN.clear()
        folder = Folder(tmp_path / str(point), ManualClock())

        async def start(rt: Runtime) -> Run[Any]:
            return await rt.start(Versioned, id="r", on_conflict="join")

        CODE[:] = [old]
        first = CrashLog(commit, kept=kept)
        await live(folder, first, start)
        if not first.crashed:
            break
        ended = len((await read_disk(folder.path)).outcomes("r"))
        CODE[:] = [new]
        found = await live(folder, CrashLog(None), start)
        assert found is not None
        if found == ["one", "two", "three"]:
            continue  # it had ended
        ways.add(tuple(found))
        assert ("extra" in found) == (ended < 2), (commit, kept, found)
    assert ways == {("one", "extra", "two", "late 2", "three"), ("one", "two", "late 2", "three")}


# -- rules -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "number", "says"),
    [
        ("", 1, "the tag of a version must have 1 to 256 printable characters"),
        ("x" * 257, 1, "the tag of a version"),
        ("a\nb", 1, "the tag of a version"),
        (7, 1, "the tag of a version"),
        ("x", 0, "must be a whole number from 1 to 2147483647"),
        ("x", -1, "must be a whole number"),
        ("x", True, "must be a whole number"),
        ("x", 1.0, "must be a whole number"),
        ("x", 2**31, "must be a whole number"),
    ],
)
async def test_tags_and_numbers_have_rules(folder: Folder, tag: Any, number: Any, says: str) -> None:
    """Both sides of a mistake are named."""

    async def wrong(self: Versioned) -> str:
        try:
            self.version(tag, number)
        except CallerError as error:
            return str(error)
        return "nothing was raised"

    run = await begin(folder, wrong)
    assert says in await soon(run.result())
    assert taken(await run.history()) == []


async def test_it_is_for_run_alone(folder: Folder) -> None:
    """Neither a step nor anybody else may ask."""

    async def in_a_step(self: Versioned) -> str:
        def body() -> str:
            try:
                self.version("x", 1)
            except CallerError as error:
                return str(error)
            return "nothing was raised"

        return await self.step(body)

    run = await begin(folder, in_a_step)
    assert "not inside a step" in await soon(run.result())
    with pytest.raises(CallerError, match="while it runs"):
        Versioned().version("x", 1)


async def test_a_version_of_the_fields_is_refused(rt: Runtime) -> None:
    """The name is taken: a run has no fields of its own."""

    class Wrong(Workflow):
        name = "VersionedWrong"
        version = 2  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

        async def run(self) -> None: ...

    with pytest.raises(InvalidActor, match=r"self.version\(tag, number\)"):
        await rt.start(Wrong)


async def test_redriving_keeps_the_way(folder: Folder, clock: ManualClock) -> None:
    """A failed run goes on in the way that it took."""

    async def fails(self: Versioned) -> str:
        number = self.version("x", 1)
        await self.do("one")
        return f"way {number}"

    async def later(self: Versioned) -> str:
        number = self.version("x", 2)
        await self.do("one")
        return f"way {number}"

    BROKEN.add("one")
    run = await begin(folder, fails)
    assert folder.rt is not None
    with pytest.raises(RunFailed):
        await play(folder.rt, clock, run)
    BROKEN.clear()
    CODE[:] = [later]
    await run.redrive()
    assert await play(folder.rt, clock, run) == "way 1"
    await pass_time(folder.rt, clock, 1)
