"""Blobs as files: what is left of them after crashes, deletes and replacements; what is damaged."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
from pathlib import Path

import pytest

from holdfast import Actor, Runtime, Workflow
from holdfast.actors.blobs.local_blobs import LocalBlobs
from holdfast.storage.check import check
from holdfast.storage.content_folder import ContentFolder
from holdfast.storage.errors import Damaged, StorageFull
from tests.storage.helpers import FAILED, GatedLog, start_child

CHILD = """
import asyncio, os, sys
from holdfast import Runtime
from tests.actors.blobs.test_local_blobs import content

async def put(blobs, name, turn):
    while True:
        turn += 1
        info = await blobs.put(f"blob/{name}", content(name, turn), content_type="image/jpeg")
        os.write(1, b"%d %d\\n" % (name, turn))
        if turn % 5 == 0:
            await blobs.put("shared", content(0, 0))
            await blobs.delete("shared")

async def main():
    async with Runtime(sys.argv[1]) as runtime:
        os.write(1, b"open\\n")
        starts = map(int, sys.argv[2].split(","))
        await asyncio.gather(*[put(runtime.blobs, name, turn) for name, turn in enumerate(starts)])

asyncio.run(main())
"""
PUTTERS = 3


def content(name: int, turn: int) -> bytes:
    """What a putter puts in a turn, in sizes around what is written at once."""
    return (b"%d/%d " % (name, turn)) * (1 + (turn * 37) % 40_000)


def files(folder: Path) -> list[str]:
    """Names of all files below blobs/."""
    return sorted(path.name for path in (folder / "blobs").rglob("*") if path.is_file())


async def compare(folder: Path, told: list[int]) -> list[int]:
    """Open the folder: each blob is one that was put, whole, and at least as new as acknowledged."""
    turns: list[int] = []
    async with Runtime(folder) as runtime:
        assert isinstance(runtime.blobs, LocalBlobs)
        await runtime.blobs.collect()
        names = {one.name: one for one in await runtime.blobs.list()}
        for name in range(PUTTERS):
            info = names.pop(f"blob/{name}", None)
            if info is None:
                assert told[name] == 0
                turns.append(0)
                continue
            got = await runtime.blobs.get(info.name)
            turn = int(got.split(b" ", 1)[0].split(b"/")[1])
            assert got == content(name, turn)
            assert turn >= told[name]
            turns.append(turn)
        assert set(names) <= {"shared"}
        wanted = {one.digest for one in await runtime.blobs.list()}
        assert set(files(folder)) == wanted
    return turns


def kill_and_compare(folder: Path, kills: int, seed: int) -> None:
    """Kill a child that puts blobs again and again over one folder."""
    chance = random.Random(seed)
    turns = [0] * PUTTERS
    for _ in range(kills):
        told = list(turns)
        child = start_child(CHILD, folder, ",".join(map(str, turns)), env={"PYTHONPATH": os.getcwd()})
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        killer = threading.Timer(chance.uniform(0.02, 0.3), child.kill)
        killer.start()
        for line in child.stdout:
            if line.endswith("\n"):
                name, turn = map(int, line.split())
                told[name] = turn
        child.stdout.close()
        assert child.stdin is not None
        child.stdin.close()
        assert child.wait() == -signal.SIGKILL
        killer.join()
        turns = asyncio.run(compare(folder, told))
        assert check(folder) == []


def test_killed_while_putting(folder: Path) -> None:
    """What was acknowledged is there, everything is whole, and no file is left that no name shows."""
    kill_and_compare(folder, kills=5, seed=random.randrange(1_000_000))


@pytest.mark.slow
def test_killed_fifty_times(folder: Path) -> None:
    """The same, fifty times on one folder."""
    kill_and_compare(folder, kills=50, seed=random.randrange(1_000_000))


async def test_one_content_under_two_names(folder: Path) -> None:
    """It is one file, which goes with the last of its names."""
    async with Runtime(folder) as runtime:
        await runtime.blobs.put("a", b"same")
        await runtime.blobs.put("b", b"same")
        assert len(files(folder)) == 1
        await runtime.blobs.delete("a")
        assert await runtime.blobs.get("b") == b"same"
        await runtime.blobs.put("b", b"other")
        assert len(files(folder)) == 1


async def test_put_while_the_same_content_is_removed(folder: Path) -> None:
    """Names that come and go over one content, side by side, never show a missing file."""
    async with Runtime(folder) as runtime:
        blobs = runtime.blobs

        async def come_and_go(name: str) -> None:
            for _ in range(20):
                await blobs.put(name, b"same")
                assert await blobs.get(name) == b"same"
                await blobs.delete(name)

        await asyncio.gather(*[come_and_go(f"n{number}") for number in range(5)])
        assert files(folder) == []


async def test_what_a_crash_left_is_cleared_at_opening(folder: Path) -> None:
    """A half-written file and a content without a name are gone; what has a name stays."""
    async with Runtime(folder) as runtime:
        await runtime.blobs.put("a", b"named")
        named = (await runtime.blobs.info("a")).digest
    left = ContentFolder(folder / "blobs")
    half = left.begin()
    half.write(b"half")
    writer = left.begin()
    writer.write(b"no name")
    left.place(writer.seal())
    assert len(files(folder)) == 3
    async with Runtime(folder) as runtime:
        assert isinstance(runtime.blobs, LocalBlobs)
        await runtime.blobs.collect()
        assert files(folder) == [named]
    half.discard()


async def test_nothing_is_made_without_blobs(folder: Path) -> None:
    """A runtime that keeps no blobs has no folder for them."""
    async with Runtime(folder) as runtime:
        assert await runtime.blobs.list() == []
    assert not (folder / "blobs").exists()


@pytest.mark.parametrize("harm", ["changed", "cut", "missing"])
async def test_damaged_files(folder: Path, harm: str) -> None:
    """A content that is not what was written is `Damaged`, and says which."""
    async with Runtime(folder) as runtime:
        info = await runtime.blobs.put("a", os.urandom(3 << 20))
        file = ContentFolder(folder / "blobs").file(info.digest)
        if harm == "changed":
            with file.open("r+b") as opened:
                opened.write(b"????")
        elif harm == "cut":
            os.truncate(file, 2 << 20)
        else:
            file.unlink()
        with pytest.raises(Damaged, match="blob 'a'"):
            await runtime.blobs.get("a")


async def test_a_name_that_is_not_kept(folder: Path) -> None:
    """A failed commit of the name fails the put, and the old content stays."""
    gates: list[GatedLog] = []

    def gated(log: object) -> GatedLog:
        gates.append(GatedLog(log))  # type: ignore[arg-type]
        return gates[0]

    async with Runtime(folder, wrap_log=gated) as runtime:
        await runtime.blobs.put("a", b"old")
        gates[0].verdicts = [FAILED]
        with pytest.raises(Exception, match="the test failed this commit"):
            await runtime.blobs.put("a", b"new")
        assert await runtime.blobs.get("a") == b"old"


@pytest.mark.parametrize("call", ["os.fsync", "pathlib.Path.rename"])
async def test_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """No room is told as such, and leaves nothing aside."""

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    async with Runtime(folder) as runtime:
        await runtime.blobs.put("a", b"old")
        with monkeypatch.context() as patched:
            patched.setattr(call, full)
            with pytest.raises(StorageFull, match="No space left"):
                await runtime.blobs.put("a", b"new")
        assert len(files(folder)) == 1


class BlobKeeper(Actor):
    """Puts a blob in its turn."""

    async def keep(self, data: bytes) -> int:
        """The size."""
        return (await self.runtime.blobs.put(f"of/{self.key}", data)).size_bytes  # type: ignore[attr-defined,no-any-return]


class BlobKeeping(Workflow):
    """Puts a blob in a step."""

    async def run(self, name: str) -> int:
        """The size."""
        return await self.step(self.put, name)

    async def put(self, name: str) -> int:
        """The step."""
        return (await self.runtime.blobs.put(name, b"by a step")).size_bytes


async def test_in_turns_and_steps(folder: Path) -> None:
    """Actors and steps put blobs as code outside does."""
    async with Runtime(folder) as runtime:
        assert await runtime.get(BlobKeeper, "k").keep(b"by a turn") == 9
        assert await (await runtime.start(BlobKeeping, "s")).result() == 9
        assert [one.name for one in await runtime.blobs.list()] == ["of/k", "s"]
