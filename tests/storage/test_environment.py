"""storage/environment.py, owner_lock.py and file_length.py: who may open a folder, and what is refused."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import stat
import subprocess
import threading
from pathlib import Path

import lmdb
import msgspec
import pytest

from holdfast.storage import environment as environment_module
from holdfast.storage import layout
from holdfast.storage.environment import DATA_NAME, Environment
from holdfast.storage.errors import (
    Damaged,
    FolderInUse,
    FolderRefused,
    ForkedProcess,
    FormatRefused,
    StorageClosed,
    StorageError,
)
from holdfast.storage.file_length import refuse_cut_off
from holdfast.storage.owner_lock import LOCK_NAME, OwnerLock, owner_pid, refuse_network
from holdfast.storage.store import Store
from tests.storage.helpers import (
    OWNER,
    open_store,
    raw_write,
    run_child,
    start_child,
    storage_key,
    write,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A path where no folder is yet."""
    return tmp_path / "data"


@pytest.fixture
def made(folder: Path) -> Path:
    """A folder with a store of some hundred values."""

    async def make() -> None:
        async with open_store(folder) as store:
            await write(store, {storage_key(b"%04d" % n): bytes(n % 500) for n in range(800)})
            # Leave free pages in front for the root and the free list of the last commit, so that the file
            # ends in the pages of its large value.
            await write(store, {storage_key(b"%04d" % n): None for n in range(0, 400)})
            for turn in range(5):
                await write(store, {storage_key(b"0500"): b"%d" % turn})
            await write(store, {storage_key(b"large"): bytes(160_000)})

    asyncio.run(make())
    return folder


# -- creating ------------------------------------------------------------------------------------------------


def test_a_new_folder_is_private(folder: Path) -> None:
    """The folder and its files are for the owner's user alone."""
    Environment(folder).close()
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in (folder, *folder.iterdir())}
    assert modes == {"data": 0o700, DATA_NAME: 0o600, f"{DATA_NAME}-lock": 0o600, LOCK_NAME: 0o600}


def test_parents_are_made(folder: Path) -> None:
    """A path of several new folders is made."""
    Environment(folder / "a" / "b").close()
    assert (folder / "a" / "b" / DATA_NAME).is_file()


STEPS = ["_open_lmdb", "sync_file", "sync_folder"]


@pytest.mark.parametrize("step", STEPS)
def test_a_failure_while_creating_leaves_nothing_in_the_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever step of the creation fails, the folder can be opened afterwards."""
    folder.mkdir(mode=0o700)

    def fail(*_: object, **__: object) -> None:
        raise OSError("the test stops here")

    with monkeypatch.context() as patch:
        patch.setattr(environment_module, step, fail)
        with pytest.raises(FolderRefused, match="the test stops here"):
            Environment(folder)
    Environment(folder).close()


CREATION_KILLED = """
import os, signal, sys
from pathlib import Path
from holdfast.storage import environment
count = 0
def stop_before(function):
    def counted(*arguments, **options):
        global count
        count += 1
        if count == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return counted
for name in ("_open_lmdb", "sync_file", "sync_folder", "seal_value"):
    setattr(environment, name, stop_before(getattr(environment, name)))
Path.unlink, Path.rename = stop_before(Path.unlink), stop_before(Path.rename)
environment.Environment(sys.argv[1]).close()
print("made", count)
"""


def test_a_kill_while_creating_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """Killed before any step of the creation, the folder opens at the next start."""
    steps = 0
    while True:
        folder = tmp_path / str(steps)
        child = run_child(CREATION_KILLED, folder, steps + 1)
        Environment(folder).close()
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL, child.stderr
        steps += 1
    assert steps >= 7


@pytest.mark.parametrize("size", [0, 1, 4096, 8191, 8192, 12288])
def test_leftovers_of_a_creation_are_replaced(folder: Path, size: int) -> None:
    """A half-made file under its first name is thrown away, whatever is in it."""
    folder.mkdir(mode=0o700)
    (folder / f"{DATA_NAME}.creating").write_bytes(b"\xa5" * size)
    (folder / f"{DATA_NAME}.creating-lock").write_bytes(b"x")
    Environment(folder).close()
    assert sorted(os.listdir(folder)) == [DATA_NAME, f"{DATA_NAME}-lock", LOCK_NAME]


# -- what is refused -----------------------------------------------------------------------------------------


def test_a_newer_format_is_refused(made: Path) -> None:
    """A folder of a newer version is refused with both numbers, for reading too."""
    with raw_write(made) as put:
        put(layout.META_FORMAT, msgspec.msgpack.encode(layout.FORMAT + 1))
    for read_only in (False, True):
        with pytest.raises(
            FormatRefused, match=rf"in format {layout.FORMAT + 1}.*reads up to {layout.FORMAT}"
        ):
            Environment(made, read_only=read_only)


def test_a_foreign_database_is_refused(folder: Path) -> None:
    """An LMDB file without our stamp is left alone."""
    folder.mkdir(mode=0o700)
    env = lmdb.open(str(folder / DATA_NAME), subdir=False, lib_version=0)
    with env.begin(write=True) as txn:
        txn.put(b"theirs", b"1")
    env.close()
    with pytest.raises(FormatRefused, match="not made by Holdfast"):
        Environment(folder)


@pytest.mark.parametrize("payload", [b"\xc1", msgspec.msgpack.encode("one")])
def test_a_stamp_that_is_no_number_is_damage(made: Path, payload: bytes) -> None:
    """A format stamp that doesn't decode is told as damage."""
    with raw_write(made) as put:
        put(layout.META_FORMAT, payload)
    with pytest.raises(Damaged, match="format stamp"):
        Environment(made)


def test_a_foreign_folder_is_refused(folder: Path) -> None:
    """A folder with other files is not taken, so a wrong path mixes nothing up."""
    folder.mkdir(mode=0o700)
    (folder / "letters.txt").write_text("mine")
    with pytest.raises(FolderRefused, match=r"holds other files \(letters.txt\)"):
        Environment(folder)
    assert os.listdir(folder) == ["letters.txt"]


def test_a_world_writable_folder_is_refused(folder: Path) -> None:
    """A folder that everybody may write to is refused, with what to do."""
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(FolderRefused, match=r"writable by everybody.*chmod it to 0700"):
        Environment(folder)


def test_a_file_in_place_of_the_folder_is_refused(folder: Path) -> None:
    """A path that is a file is refused by a sentence."""
    folder.write_text("")
    with pytest.raises(FolderRefused, match="is not a folder"):
        Environment(folder)


def test_a_read_only_folder_is_refused(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that can't be written to is refused as read-only; it still opens for reading."""
    if os.geteuid() == 0:  # root may write everywhere, so the system's answer is played
        monkeypatch.setattr(os, "access", lambda *_: False)
    made.chmod(0o500)
    try:
        with pytest.raises(FolderRefused, match="is read-only; a runtime must be able to write there"):
            Environment(made)
        Environment(made, read_only=True).close()
    finally:
        made.chmod(0o700)


@pytest.mark.parametrize("name", [DATA_NAME, LOCK_NAME])
def test_links_are_not_followed(made: Path, name: str) -> None:
    """Neither the data nor the lock may be a link to somewhere else."""
    (made / name).rename(made.parent / name)
    (made / name).symlink_to(made.parent / name)
    with pytest.raises(FolderRefused):
        Environment(made)


def test_reading_needs_a_store(folder: Path) -> None:
    """Opening for reading makes nothing."""
    with pytest.raises(FolderRefused, match="holds no store"):
        Environment(folder, read_only=True)
    assert not folder.exists()


# -- damage --------------------------------------------------------------------------------------------------

OPEN = """
import asyncio, sys
from holdfast.storage.errors import StorageError
from holdfast.storage.store import Store
async def main():
    for _ in range(int(sys.argv[2])):
        path = sys.stdin.readline().strip()
        try:
            store = Store(path, min_free_bytes=0)
        except StorageError as error:
            print(type(error).__name__, flush=True)
            continue
        await store.close()
        print("open", flush=True)
asyncio.run(main())
"""


def opened(folders: list[Path]) -> list[str]:
    """What opening each folder gives, in one child; fails when that child was killed by a signal."""
    child = subprocess.run(
        [__import__("sys").executable, "-c", OPEN, "-", str(len(folders))],
        input="".join(f"{folder}\n" for folder in folders),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.split()


def copies(made: Path, count: int) -> list[Path]:
    """Copies of a folder's data file, each in a folder of its own."""
    made_copies: list[Path] = []
    for n in range(count):
        copy = made.parent / f"copy{n}"
        copy.mkdir(mode=0o700)
        shutil.copy(made / DATA_NAME, copy / DATA_NAME)
        made_copies.append(copy)
    return made_copies


def test_a_file_cut_at_any_page_is_refused(made: Path) -> None:
    """Cut off at each page, and between pages, the file is refused as damaged and kills nobody."""
    pages = (made / DATA_NAME).stat().st_size // 4096
    cuts = [page * 4096 for page in range(pages)] + [page * 4096 + 100 for page in range(pages)]
    folders = copies(made, len(cuts))
    for folder, size in zip(folders, cuts, strict=True):
        os.truncate(folder / DATA_NAME, size)
    assert opened(folders) == ["Damaged"] * len(cuts)


def test_a_zeroed_page_is_refused_or_harmless(made: Path) -> None:
    """With any one page of zeros the folder opens or is refused as damaged, and kills nobody."""
    pages = (made / DATA_NAME).stat().st_size // 4096
    folders = copies(made, pages)
    for page, folder in enumerate(folders):
        with open(folder / DATA_NAME, "r+b") as file:
            file.seek(page * 4096)
            file.write(bytes(4096))
    results = opened(folders)
    assert set(results) == {"open", "Damaged"}
    assert results[:2] == ["Damaged", "Damaged"]  # both meta pages are needed


def test_a_file_that_ends_before_its_free_pages_is_whole(tmp_path: Path) -> None:
    """LMDB leaves pages unwritten that a commit took and gave back; such a file is no cut-off file."""
    short = 0
    for seed in range(100, 150):
        rng = random.Random(seed)
        file = tmp_path / f"{seed}.mdb"
        env = lmdb.open(str(file), subdir=False, map_size=1 << 30, lib_version=0, sync=False)
        for _ in range(25):
            base = rng.randrange(5000)
            writes: dict[bytes, bytes | None] = {
                b"%06d" % rng.randrange(6000): bytes(rng.choice([100, 1500, 9000]))
                for _ in range(rng.choice([0, 50, 500]))
            }
            for n in range(rng.choice([0, 100, 2000])):
                writes.setdefault(b"%06d" % ((base + n) % 6000), None)
            with env.begin(write=True) as txn:
                for key, value in writes.items():
                    if value is None:
                        txn.delete(key)
                    else:
                        txn.put(key, value)
            refuse_cut_off(env, file)
            short += file.stat().st_size < (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        env.close()
        if short >= 3:
            break
    assert short >= 3, "no such file came up, so nothing was tested"


# -- one owner -----------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_told_the_pid(made: Path) -> None:
    """While one process owns a folder another one is refused, with the owner's pid."""
    with start_child(OWNER, made) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        with pytest.raises(FolderInUse, match=rf"in use by process {owner.pid};"):
            Environment(made)
        owner.communicate("")
    Environment(made).close()


def test_a_second_runtime_of_this_process_is_refused(made: Path) -> None:
    """The same process can't own a folder twice either, and the refusal harms neither."""
    first = Environment(made)
    for _ in range(2):
        with pytest.raises(FolderInUse, match=rf"another runtime of this process \({os.getpid()}\)"):
            Environment(made)
    first.close()
    Environment(made).close()


def test_a_deleted_lock_file_lets_nobody_in(made: Path) -> None:
    """The lock on the data file stands when the lock file is gone, and still tells the pid."""
    with start_child(OWNER, made) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        (made / LOCK_NAME).unlink()
        named = f"process {owner.pid};" if os.path.exists("/proc/locks") else "another process"
        for _ in range(2):
            with pytest.raises(FolderInUse, match=f"in use by {named}"):
                Environment(made)
        owner.communicate("")


def test_a_lock_file_without_a_pid_still_locks(made: Path) -> None:
    """An owner whose pid couldn't be written down is still the owner."""
    first = Environment(made)
    (made / LOCK_NAME).write_text("")
    assert owner_pid(made) is None
    with pytest.raises(FolderInUse, match="in use by another process"):
        Environment(made)
    first.close()


def test_a_stale_lock_file_stands_in_nobodys_way(made: Path) -> None:
    """The pid in the file says who it was; only the kernel's lock counts."""
    (made / LOCK_NAME).write_text("1\n")
    environment = Environment(made)
    assert owner_pid(made) == os.getpid()
    environment.close()


def test_reading_beside_an_owner(made: Path) -> None:
    """A folder opens for reading while its owner writes, and takes no lock."""
    with start_child(OWNER, made) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        Environment(made, read_only=True).close()
        owner.communicate("")


def test_the_folder_is_free_at_once_after_a_kill(made: Path) -> None:
    """After kill -9 of the owner the very next start succeeds, and reads what was there."""
    with start_child(OWNER, made) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        owner.kill()
        owner.wait()

    async def read() -> bytes | None:
        async with open_store(made) as store:
            return store.get(storage_key(b"0707"))

    assert asyncio.run(read()) == bytes(207)


async def test_a_forked_child_is_refused(made: Path) -> None:
    """A forked child can neither read nor write nor close its parent's store, which goes on unharmed."""
    async with open_store(made) as store:
        key = storage_key(b"0701")
        readable, writable = os.pipe()
        pid = fork()
        if pid == 0:
            answers = [outcome(lambda: store.get(key)), outcome(lambda: store.stage({key: b"child"}))]
            answers.append(outcome(lambda: store.scan_prefix(layout.DATA)))
            store.environment.close()
            os.write(writable, " ".join(answers).encode())
            os._exit(0)
        os.close(writable)
        _, status = os.waitpid(pid, 0)  # noqa: ASYNC222
        assert (os.read(readable, 1000), status) == (b"ForkedProcess ForkedProcess ForkedProcess", 0)
        os.close(readable)
        await write(store, {key: b"parent"})
        assert store.get(key) == b"parent"


def test_a_forked_child_does_not_keep_the_folder(made: Path) -> None:
    """A child that outlives its killed parent holds no lock."""
    code = """
import os, signal, sys
from holdfast.storage.environment import Environment
environment = Environment(sys.argv[1])
pid = os.fork()
if pid == 0:
    print(os.getpid(), flush=True)
    signal.pause()
signal.pause()
"""
    with start_child(code, made) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            parent.kill()
            parent.wait()
            Environment(made).close()
        finally:
            os.kill(child, signal.SIGKILL)


def fork() -> int:
    """Fork although there are threads: that is what the test is about."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def outcome(action: object) -> str:
    """The name of what an action raises."""
    try:
        action()  # type: ignore[operator]
    except StorageError as error:
        return type(error).__name__
    return "done"


@pytest.mark.parametrize(
    ("kind", "mount", "refused"),
    [
        ("nfs4", "{}", True),
        ("cifs", "{}", True),
        ("fuse.sshfs", "{}", True),
        ("ext4", "{}", False),
        ("nfs4", "/none", False),
    ],
)
def test_network_file_systems_are_refused(tmp_path: Path, kind: str, mount: str, refused: bool) -> None:
    """A folder below a network mount is refused with kind and place; the nearest mount decides."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"dev / ext4 rw 0 0\nshort line\nhost:/x {mount.format(tmp_path)} {kind} rw 0 0\n")
    folder = tmp_path / "a" / "b"
    if refused:
        with pytest.raises(FolderRefused, match=rf"network file system \({kind} at {tmp_path}\)"):
            refuse_network(folder, mounts)
    else:
        refuse_network(folder, mounts)


def test_a_local_mount_inside_a_network_one_is_taken(tmp_path: Path) -> None:
    """The mount with the longest path is the one a folder lies on, spaces in it included."""
    inner = tmp_path / "with space"
    mounts = tmp_path / "mounts"
    escaped = str(inner).replace(" ", "\\040")
    mounts.write_text(f"h:/ {tmp_path} nfs rw 0 0\ndev {escaped} ext4 rw 0 0\n")
    refuse_network(inner / "data", mounts)
    with pytest.raises(FolderRefused):
        refuse_network(tmp_path / "data", mounts)


def test_no_table_of_mounts_refuses_nothing(tmp_path: Path) -> None:
    """Where the system doesn't tell its mounts every folder is taken."""
    refuse_network(tmp_path, tmp_path / "absent")


def test_releasing_a_lock_twice_is_nothing(tmp_path: Path) -> None:
    """A lock that was given back can be given back again, and taken anew."""
    lock = OwnerLock(tmp_path)
    lock.release()
    lock.release()
    OwnerLock(tmp_path).release()


# -- closing -------------------------------------------------------------------------------------------------


async def test_a_closed_store_says_so(made: Path) -> None:
    """Every use after closing raises StorageClosed, each time with a traceback of its own."""
    store = Store(made, min_free_bytes=0)
    await store.close()
    depths = set()
    for _ in range(5):
        with pytest.raises(StorageClosed, match="is closed") as caught:
            store.get(b"x")
        depths.add(len(caught.traceback))
    assert len(depths) == 1
    with pytest.raises(StorageClosed):
        store.scan_prefix(b"x")
    with pytest.raises(StorageClosed):
        store.stage({b"x": b""})
    await store.close()


def test_closing_waits_for_who_reads_in_a_thread(made: Path) -> None:
    """LMDB isn't closed under a copy or a check that runs in another thread."""
    environment = Environment(made)
    with environment.long_read("a check"):
        closing = threading.Thread(target=environment.close)
        closing.start()
        with environment.lmdb.begin() as txn:
            assert txn.get(layout.META_FORMAT) is not None
        assert closing.is_alive()
    closing.join(timeout=30)
    assert isinstance(environment.refusal, StorageClosed)


def test_an_error_while_opening_gives_the_folder_back(made: Path) -> None:
    """A refused folder isn't kept locked by the refusal."""
    with raw_write(made) as put:
        put(layout.META_COMMIT, b"\xc1")

    async def open_it() -> None:
        with pytest.raises(Damaged, match="commit record"):
            Store(made)

    asyncio.run(open_it())
    OwnerLock(made).release()


def test_forked_process_is_a_storage_error() -> None:
    """All refusals of this layer can be caught as StorageError."""
    assert issubclass(ForkedProcess, StorageError)
