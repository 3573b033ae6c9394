"""actors/workflow/change_feed.py: what a commit changed, durably and in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import Retry, Runtime, Workflow
from holdfast.actors.workflow import change_feed
from holdfast.runtime.clock import ManualClock
from holdfast.storage import layout
from holdfast.storage.check import check
from holdfast.storage.errors import StorageFailed
from holdfast.storage.keys import decode_key
from tests.actors.workflow.support import until_status
from tests.runtime.support import FailingLog


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plain path."""
    return tmp_path / "data"


class FeedSteps(Workflow):
    """Two steps, an event between them."""

    async def run(self, name: str) -> str:
        await self.step(_shout, name, name="first")
        self.emit("half", {"name": name})
        await self.wait("go")
        return await self.step(_shout, name, name="second")


class FeedFails(Workflow):
    retry = Retry(1, delay="1h")

    async def run(self) -> None:
        await self.step(_fail)


def _shout(name: str) -> str:
    return name.upper()


def _fail() -> None:
    raise OSError("no")


def ids(rt: Runtime, after: int) -> list[str]:
    """Keys of all runs in the feed behind a commit, in order."""
    return [str(decode_key(run.key)) for _, change in rt.changes.read(after, 10_000) for run in change.runs]


async def until(rt: Runtime, after: int, wanted: int) -> None:
    """Wait for so many rows."""
    while len(rows := rt.changes.read(after, 10_000)) < wanted:
        await rt.changes.wait(rows[-1][0] if rows else after)


async def test_off_it_leaves_nothing(folder: Path) -> None:
    """Where nobody watches no commit has a row, and no commit is looked at."""
    async with Runtime(folder) as rt:
        run = await rt.start(FeedSteps, "a", id="a")
        await run.send("go")
        await run.result()
        assert rt.store.on_seal is None
        assert rt.store.scan_prefix(layout.CHANGE) == []


async def test_every_change_is_told_in_order(folder: Path) -> None:
    """Start, steps, progress and end of a run are in rows of rising commits, each record once."""
    async with Runtime(folder) as rt:
        with rt.changes.watched():
            await rt.changes.ready()
            since = rt.changes.floor
            run = await rt.start(FeedSteps, "a", id="a")
            await run.send("go")
            assert await run.result() == "A"
            records = len(await run.history())
            rows = rt.changes.read(since, 1000)
            assert [number for number, _ in rows] == sorted({number for number, _ in rows})
            assert [change.before for _, change in rows] == [since, *(number for number, _ in rows[:-1])]
            positions = [at for _, change in rows for one in change.runs for at in one.positions]
            assert positions == list(range(records))
            assert [n for _, change in rows for one in change.runs for n in one.progress] == [1]
            await run.purge()
            while not (rows := rt.changes.read(since, 1000))[-1][1].runs[-1].gone:
                await rt.changes.wait(rows[-1][0])
    assert check(folder) == []


async def test_a_status_alone_is_a_change(folder: Path) -> None:
    """A run that rests has changed although it has no new record."""
    async with Runtime(folder) as rt:
        with rt.changes.watched():
            since = rt.changes.floor
            run = await rt.start(FeedSteps, "a", id="a")
            while await run.status() != "waiting":
                await rt.changes.wait(since)
                since = rt.changes.read(since, 1000)[-1][0]


async def test_runs_that_were_there_before_are_known(folder: Path) -> None:
    """What happens to a run that began before anybody watched is told."""
    async with Runtime(folder) as rt:
        run = await rt.start(FeedSteps, "a", id="a")
        await until_status(run, "waiting")
        with rt.changes.watched():
            await rt.changes.ready()
            since = rt.changes.floor
            await run.send("go")
            await run.result()
            assert set(ids(rt, since)) == {"a"}


async def test_it_goes_on_over_a_restart(folder: Path) -> None:
    """What the next process does before anybody comes back is in the feed, too."""
    async with Runtime(folder) as rt:
        with rt.changes.watched():
            await rt.start(FeedSteps, "a", id="a")
            await until(rt, rt.changes.floor, 1)
            since = rt.store.durable
    async with Runtime(folder) as rt:
        await rt.run(FeedSteps, "a").send("go")
        await rt.run(FeedSteps, "a").result()
        with rt.changes.watched():
            assert rt.changes.floor <= since
            assert set(ids(rt, since)) == {"a"}


async def test_the_time_ends(folder: Path, clock: ManualClock) -> None:
    """When nobody has come back for long it is off, and an old number is before its floor."""
    async with Runtime(folder, clock=clock) as rt:
        with rt.changes.watched():
            await rt.start(FeedSteps, "a", id="a")
        since = rt.store.durable
        clock.advance(change_feed.KEEP_SECONDS + 1)
        await rt.start(FeedSteps, "b", id="b")
        assert rt.store.on_seal is None
        with rt.changes.watched():
            await rt.changes.ready()
            assert rt.changes.floor > since
            await rt.start(FeedSteps, "c", id="c")
            assert "c" in ids(rt, 0)
            assert "a" not in ids(rt, 0)


async def test_rows_are_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest rows go, and the floor rises."""
    monkeypatch.setattr(change_feed, "MAX_CHANGES", 5)
    async with Runtime(folder) as rt:
        with rt.changes.watched():
            since = rt.changes.floor
            for n in range(20):
                await rt.start(FeedSteps, "a", id=f"r{n}")
            await until(rt, rt.changes.floor, 5)
            assert rt.changes.floor > since
            assert len(rt.store.scan_prefix(layout.CHANGE)) <= 6
            first, change = rt.changes.read(0, 1)[0]
            assert change.before == rt.changes.floor < first


async def test_a_commit_that_cannot_be_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is committed all the same; whoever watches must begin anew, in the next process as well."""

    def fails(self: change_feed.ChangeFeed, *args: object) -> None:
        raise ValueError("a mistake")

    async with Runtime(folder) as rt:
        with rt.changes.watched():
            await rt.changes.ready()
            since = rt.changes.floor
            with monkeypatch.context() as patched:
                patched.setattr(change_feed.ChangeFeed, "_changed", fails)
                run = await rt.start(FeedSteps, "a", id="a")
            assert rt.changes.floor > since
            await run.send("go")
            assert await run.result() == "A"
            assert ids(rt, rt.changes.floor) != []
    async with Runtime(folder) as rt:
        with rt.changes.watched():
            assert rt.changes.floor > since


async def test_a_failed_commit_has_no_row(folder: Path) -> None:
    """What was not kept is not told, and what comes of it later is, in a chain without a gap."""
    log = FailingLog()
    async with Runtime(folder, wrap_log=log.wrap) as rt:
        with rt.changes.watched():
            await rt.changes.ready()
            since = rt.changes.floor
            run = await rt.start(FeedSteps, "a", id="a")
            await until_status(run, "waiting")
            log.fail_next = 1
            with pytest.raises(StorageFailed):
                await rt.start(FeedSteps, "b", id="b")
            await run.send("go")
            assert await run.result() == "A"
            rows = rt.changes.read(since, 1000)
            assert [change.before for _, change in rows] == [since, *(number for number, _ in rows[:-1])]
            assert set(ids(rt, since)) == {"a"}
            positions = [at for _, change in rows for one in change.runs for at in one.positions]
            assert positions == list(range(len(await run.history())))
    assert check(folder) == []


async def test_attempts_that_failed_are_changes(folder: Path) -> None:
    """A failed attempt is a record, and so a change."""
    async with Runtime(folder) as rt:
        with rt.changes.watched():
            since = rt.changes.floor
            run = await rt.start(FeedFails, id="f")
            await until_status(run, "retrying")
            runs = [one for _, change in rt.changes.read(since, 99) for one in change.runs]
            assert [at for one in runs for at in one.positions] == [0, 1]
