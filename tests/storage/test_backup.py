"""storage/backup.py: a copy while the owner works."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import lmdb
import pytest

from holdfast.storage import backup as backup_module
from holdfast.storage.backup import backup, backup_now
from holdfast.storage.check import check
from holdfast.storage.environment import DATA_NAME
from holdfast.storage.errors import FolderRefused, StorageClosed, StorageError
from holdfast.storage.store import Store
from tests.storage.helpers import open_store, storage_key, write


async def test_a_backup_under_load_is_one_moment(tmp_path: Path) -> None:
    """A copy made while the owner commits equals the state at one commit, and opens as a store that goes on
    from there."""
    async with open_store(tmp_path / "data") as store:
        await write(store, {storage_key(b"pad%04d" % n): bytes(500) for n in range(2000)})
        first = store.durable
        copying = asyncio.create_task(backup(store.environment, tmp_path / "copy"))
        while not copying.done():
            number = store.durable + 1
            await write(store, {storage_key(b"%d" % n): b"%d" % number for n in range(50)})
        last = store.durable
        assert await copying == tmp_path / "copy"
    async with open_store(tmp_path / "copy") as copy:
        assert first <= copy.durable <= last
        seen = {copy.get(storage_key(b"%d" % n)) for n in range(50)}
        assert seen == {b"%d" % copy.durable} or (copy.durable == first and seen == {None})
        assert len(copy.scan_prefix(storage_key(b"pad"))) == 2000
        await write(copy, {storage_key(b"new"): b""})
    assert [problem for problem in check(tmp_path / "copy") if problem.kind != "orphan"] == []


async def test_a_backup_is_compact_and_private(tmp_path: Path) -> None:
    """Free pages stay behind, and the copy is for the owner's user alone."""
    async with open_store(tmp_path / "data") as store:
        keys = [storage_key(b"%04d" % n) for n in range(2000)]
        await write(store, dict.fromkeys(keys, bytes(1000)))
        await write(store, dict.fromkeys(keys[100:], None))
        await backup(store.environment, tmp_path / "copy")
    before, after = ((tmp_path / name / DATA_NAME).stat().st_size for name in ("data", "copy"))
    assert after < before / 5
    assert os.listdir(tmp_path / "copy") == [DATA_NAME]
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "copy" / DATA_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["folder", "full folder", "file", "dangling link"])
async def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    """Whatever is at the destination, empty folders included, is refused and left as it was."""
    target = tmp_path / "copy"
    if kind == "file":
        target.write_text("mine")
    elif kind == "dangling link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        target.mkdir()
        if kind == "full folder":
            (target / "letter").write_text("mine")
    async with open_store(tmp_path / "data") as store:
        with pytest.raises(FolderRefused, match="a backup never overwrites"):
            await backup(store.environment, target)
    assert sorted(os.listdir(tmp_path)) == ["copy", "data"]
    if kind == "full folder":
        assert (target / "letter").read_text() == "mine"


async def test_a_folder_made_meanwhile_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A destination that comes up while the copy is made is left alone, although a rename would take its
    place."""
    monkeypatch.setattr(backup_module, "sync_file", lambda _: (tmp_path / "copy").mkdir())
    async with open_store(tmp_path / "data") as store:
        with pytest.raises(FolderRefused, match="exists"):
            await backup(store.environment, tmp_path / "copy")
    assert sorted(os.listdir(tmp_path)) == ["copy", "data"]
    assert os.listdir(tmp_path / "copy") == []


@pytest.mark.parametrize("step", ["sync_file", "sync_folder"])
async def test_a_backup_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """When copying or flushing fails there is neither a destination nor a rest of it, and the store goes
    on."""

    def fail(_: Path) -> None:
        raise OSError(28, "No space left on device")

    async with open_store(tmp_path / "data") as store:
        with monkeypatch.context() as patch:
            patch.setattr(backup_module, step, fail)
            with pytest.raises(StorageError, match=r"failed: .*No space left"):
                await backup(store.environment, tmp_path / "copy")
        assert os.listdir(tmp_path) == ["data"]
        await write(store, {b"a": b""})
        await backup(store.environment, tmp_path / "copy")


async def test_everything_is_flushed_before_the_name_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File and folder are synced under the first name, the parent after the rename."""
    order: list[str] = []
    for step in ("sync_file", "sync_folder"):
        original = getattr(backup_module, step)

        def noted(path: Path, step: str = step, original: object = original) -> None:
            order.append(
                f"{step} {'aside' if 'partial' in str(path) else path.name} {(tmp_path / 'copy').exists()}"
            )
            original(path)  # type: ignore[operator]

        monkeypatch.setattr(backup_module, step, noted)
    async with open_store(tmp_path / "data") as store:
        await backup(store.environment, tmp_path / "copy")
    assert order == ["sync_file aside False", "sync_folder aside False", f"sync_folder {tmp_path.name} True"]


async def test_a_closed_store_cannot_be_copied(tmp_path: Path) -> None:
    """A backup of a store that was closed raises, and leaves nothing."""
    store = Store(tmp_path / "data", min_free_bytes=0)
    await store.close()
    with pytest.raises(StorageClosed):
        backup_now(store.environment, tmp_path / "copy")
    assert os.listdir(tmp_path) == ["data"]


async def test_closing_waits_for_a_running_copy(tmp_path: Path) -> None:
    """A store that is closed while it is copied lets the copy end first."""
    store = Store(tmp_path / "data", min_free_bytes=0)
    await write(store, {storage_key(b"%04d" % n): bytes(2000) for n in range(3000)})
    store.environment._long_read = started = StartedLock()  # type: ignore[assignment]
    copying = asyncio.create_task(backup(store.environment, tmp_path / "copy"))
    await asyncio.to_thread(started.entered.wait, 30)
    await store.close()
    await copying
    env = lmdb.open(
        str(tmp_path / "copy" / DATA_NAME), subdir=False, readonly=True, lock=False, lib_version=0
    )
    assert env.stat()["entries"] == 3002
    env.close()


class StartedLock:
    """A lock that tells when it was first taken."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.lock = threading.Lock()

    def __enter__(self) -> None:
        self.lock.acquire()
        self.entered.set()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
