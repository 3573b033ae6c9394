"""storage/store.py: reads over what is staged, and room that is watched."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.storage.commit_log import CommitLog, Space
from holdfast.storage.errors import (
    Damaged,
    InvalidValue,
    Overloaded,
    StorageClosed,
    StorageFailed,
    StorageFull,
)
from holdfast.storage.group_commit import Writes
from holdfast.storage.store import Store
from tests.storage.helpers import FAILED, GatedLog, HeldLog, open_store, storage_key, turn_loop, write

KEYS = st.sampled_from(
    [bytes((n,)) + tail for n in (0x41, 0x42, 0x43) for tail in (b"", b"\x00", b"\xff", b"x")]
)
VALUES = st.one_of(st.none(), st.binary(max_size=3))
LAYER: st.SearchStrategy[Writes] = st.dictionaries(KEYS, VALUES, max_size=5)


def expected(
    model: dict[bytes, bytes], start: bytes, end: bytes | None, reverse: bool, limit: int | None
) -> list[tuple[bytes, bytes]]:
    """What a scan must give, by the plainest means."""
    rows = sorted((key, value) for key, value in model.items() if start <= key and (end is None or key < end))
    if reverse:
        rows.reverse()
    return rows if limit is None else rows[: max(0, limit)]


@given(
    layers=st.tuples(LAYER, LAYER, LAYER, LAYER, LAYER),
    scans=st.lists(
        st.tuples(
            st.one_of(KEYS, st.just(b"")),
            st.one_of(KEYS, st.none()),
            st.booleans(),
            st.one_of(st.none(), st.integers(-1, 14)),
        ),
        min_size=1,
        max_size=8,
    ),
)
def test_reads_lay_every_layer_over_the_disk(
    tmp_path_factory: pytest.TempPathFactory,
    layers: tuple[Writes, ...],
    scans: list[tuple[bytes, bytes | None, bool, int | None]],
) -> None:
    """Gets and scans see disk, in flight, sealed, gathering and a turn's own writes as one sorted map."""

    async def run() -> None:
        held = HeldLog()
        logs: list[CommitLog] = []

        def wrap(log: CommitLog) -> CommitLog:
            logs.append(log)
            return held

        store = Store(tmp_path_factory.mktemp("data"), min_free_bytes=0, wrap_log=wrap, max_batch_puts=1)
        disk, *staged, extra = layers
        logs[0].commit(disk, lambda: None)
        model: dict[bytes, bytes] = {}
        for writes in staged:
            store.stage(writes)
            await turn_loop(1)  # the first of them is in flight, the next sealed, the last gathers
        for writes in (disk, *staged):
            lay(model, writes)
        for key in {key for layer in layers for key in layer}:
            assert store.get(key) == model.get(key)
        with_extra = dict(model)
        lay(with_extra, extra)
        for start, end, reverse, limit in scans:
            own = [(key, value) for key, value in store.scan(start, end) if key[:1] != b"\x01"]
            assert own == expected(model, start, end, False, None)
            if start > b"\x01":
                found = store.scan(start, end, reverse=reverse, limit=limit, extra=extra)
                assert found == expected(with_extra, start, end, reverse, limit)
        held.answer(*[FAILED] * 5)
        store.abandon(StorageClosed("the test is over"))

    asyncio.run(run())


def lay(model: dict[bytes, bytes], writes: Writes) -> None:
    """Apply a write set to a model."""
    for key, value in writes.items():
        if value is None:
            model.pop(key, None)
        else:
            model[key] = value


async def test_what_is_durable_is_there_after_reopening(tmp_path: Path) -> None:
    """Values, numbers and counters go on where the last commit left them."""
    async with open_store(tmp_path / "data") as store:
        store.next_actor_number = 7
        await write(store, {b"a": b"1", b"b": b"2"})
        number = await write(store, {b"b": None})
    async with open_store(tmp_path / "data") as store:
        assert (store.get(b"a"), store.get(b"b")) == (b"1", None)
        assert (store.durable, store.next_actor_number) == (number, 7)
        assert store.stage({b"c": b""}) == number + 1


async def test_a_failed_commit_changes_nothing_that_was_durable(tmp_path: Path) -> None:
    """After a failure reads show the last durable state, and writing goes on."""
    gates: list[GatedLog] = []

    def wrap(log: CommitLog) -> CommitLog:
        gates.append(GatedLog(log))
        return gates[0]

    async with open_store(tmp_path / "data", wrap_log=wrap) as store:
        await write(store, {b"a": b"old"})
        gates[0].verdicts = [FAILED]
        with pytest.raises(StorageFailed):
            await write(store, {b"a": b"new", b"b": b""})
        assert store.scan(b"a", None) == [(b"a", b"old")]
        await write(store, {b"a": b"newer"})
        assert store.get_durable(b"a") == b"newer"


async def test_a_flipped_bit_is_never_returned(tmp_path: Path) -> None:
    """Every single flipped bit in a stored value is told as damage by get and by scan."""
    path = tmp_path / "data"
    payload = bytes(range(64)) * 2
    async with open_store(path) as store:
        await write(store, {storage_key(b"k"): payload})
    whole = (path / "data.mdb").read_bytes()
    assert whole.count(payload) == 1
    at = whole.index(payload)
    flips = [(at - 4 + byte, bit) for byte in range(len(payload) + 4) for bit in range(0, 8, 3)]
    found = 0
    for place, bit in flips:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        (path / "data.mdb").write_bytes(damaged)
        async with open_store(path) as store:
            with pytest.raises(Damaged):
                store.get(storage_key(b"k"))
            with pytest.raises(Damaged):
                store.scan_prefix(b"\x04")
            found += 1
    assert found == len(flips)


# -- room ----------------------------------------------------------------------------------------------------


async def test_the_quota_refuses_growth_and_lets_go(tmp_path: Path) -> None:
    """Over nine tenths of the quota growth is refused, deletes and the reserve pass, and deleting lets it go
    on."""
    quota = 1 << 20
    async with open_store(tmp_path / "data", quota_bytes=quota) as store:
        stored: list[bytes] = []
        with pytest.raises(StorageFull, match=rf"its quota_bytes={quota}"):
            for _ in range(2000):
                key = storage_key(b"%04d" % len(stored))
                await write(store, {key: bytes(3000)})
                stored.append(key)
        used = store.space.used_bytes
        assert quota * 0.85 < used < quota
        assert store.get(stored[0]) == bytes(3000)
        await write(store, {storage_key(b"done"): b"completion"}, reserve=True)
        for key in stored[: len(stored) // 2]:
            await write(store, {key: None})
        assert store.space.used_bytes < used * 0.7
        await write(store, {storage_key(b"more"): bytes(3000)})
        assert store.get(storage_key(b"more")) == bytes(3000)


async def test_staged_bytes_count_against_the_quota(tmp_path: Path) -> None:
    """A flood within one turn of the loop can't pass the quota before the first commit."""
    async with open_store(tmp_path / "data", quota_bytes=1 << 20) as store:
        with pytest.raises(StorageFull, match="staged"):
            for n in range(1000):
                store.stage({storage_key(b"%d" % n): bytes(10_000)})


async def test_little_free_space_refuses_growth_until_there_is_more(tmp_path: Path) -> None:
    """Below min_free_bytes growth is refused; once the disk has room again writing goes on without any commit
    between."""
    gates: list[GatedLog] = []

    def wrap(log: CommitLog) -> CommitLog:
        gates.append(GatedLog(log))
        return gates[0]

    async with open_store(tmp_path / "data", min_free_bytes=1000, wrap_log=wrap) as store:
        await write(store, {b"a": b"1"})
        gates[0].fake_space = Space(0, 999)
        await write(store, {b"b": b"1"})
        with pytest.raises(StorageFull, match=r"999 bytes free, fewer than min_free_bytes=1000"):
            store.stage({b"c": b"1"})
        await write(store, {b"a": None})
        gates[0].fake_space = Space(0, 5000)
        store._space_seen -= 1  # a moment later
        await write(store, {b"c": b"1"})
        assert store.get(b"c") == b"1"


async def test_too_much_waiting_for_the_disk_is_refused(tmp_path: Path) -> None:
    """Too many staged bytes are Overloaded, what can never fit is InvalidValue; completions pass both."""
    async with open_store(tmp_path / "data", max_staged_bytes=1000) as store:
        store.stage({b"b": bytes(600)})
        with pytest.raises(Overloaded):
            store.stage({b"a": bytes(600)})
        with pytest.raises(InvalidValue, match="more than max_staged_bytes=1000"):
            store.stage({b"a": bytes(2000)})
        await write(store, {b"a": bytes(2000)}, reserve=True)


async def test_a_full_map_is_told_as_full_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the address space of the file ends the commit fails as StorageFull; what was stored stays, and
    smaller writes go on."""
    monkeypatch.setattr("holdfast.storage.environment._MAP_BYTES", 1 << 20)
    monkeypatch.setattr("holdfast.storage.environment._MIN_MAP_BYTES", 1 << 19)
    async with open_store(tmp_path / "data") as store:
        await write(store, {storage_key(b"a"): b"old"})
        with pytest.raises(StorageFull, match="address space"):
            await write(store, {storage_key(b"%d" % n): bytes(4000) for n in range(300)})
        assert store.scan_prefix(b"\x04") == [(storage_key(b"a"), b"old")]
        await write(store, {storage_key(b"b"): b"new"})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB, where the test may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("this user may not mount a small file system")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_fails_cleanly_and_lets_go(small_disk: Path) -> None:
    """On a disk that really is full commits fail as StorageFull, nothing durable is harmed, and freed space
    is used at once."""
    async with open_store(small_disk / "data") as store:
        await write(store, {storage_key(b"first"): b"1"})
        ballast = small_disk / "ballast"
        with ballast.open("wb") as file:
            while True:
                try:
                    file.write(bytes(65536))
                    file.flush()
                except OSError:
                    break
        failures = 0
        for n in range(40):
            try:
                await write(store, {storage_key(b"%d" % n): bytes(50_000)})
            except StorageFull:
                failures += 1
        assert failures > 0
        assert store.get(storage_key(b"first")) == b"1"
        ballast.unlink()
        await write(store, {storage_key(b"after"): bytes(50_000)})
    async with open_store(small_disk / "data") as store:
        assert store.get(storage_key(b"after")) == bytes(50_000)
        assert store.get(storage_key(b"first")) == b"1"


async def test_the_floor_of_free_space_comes_before_the_full_disk(small_disk: Path) -> None:
    """With min_free_bytes growth is refused while deletes still fit, and goes on when they made room."""
    async with open_store(small_disk / "data", min_free_bytes=2 << 20, quota_bytes=6 << 20) as store:
        stored: list[bytes] = []
        with pytest.raises(StorageFull):
            for _ in range(2000):
                stored.append(storage_key(b"%04d" % len(stored)))
                await write(store, {stored[-1]: bytes(40_000)})
        await write(store, dict.fromkeys(stored[:-1], None))
        assert store.scan_prefix(b"\x04") == []


# -- readers -------------------------------------------------------------------------------------------------


def open_readers(env: lmdb.Environment) -> int:
    """Read transactions that hold a snapshot."""
    rows = [line.split() for line in env.readers().splitlines()[1:]]
    return sum(1 for row in rows if len(row) == 3 and row[2] != "-")


async def test_no_reader_stays_open(tmp_path: Path) -> None:
    """After gets, scans that stop early, scans that fail and commits no read transaction is left."""
    async with open_store(tmp_path / "data") as store:
        await write(store, {storage_key(b"%d" % n): b"x" for n in range(50)})
        store.get(storage_key(b"1"))
        store.scan_prefix(b"\x04", limit=3)
        store.scan_prefix(b"\x04", limit=3, reverse=True, extra={storage_key(b"zz"): b""})
        with pytest.raises(TypeError):
            store.scan("wrong", None)  # type: ignore[arg-type]
        with store.environment.lmdb.begin():
            assert open_readers(store.environment.lmdb) == 1  # so the count does count
        assert open_readers(store.environment.lmdb) == 0


async def test_the_file_does_not_grow_by_rewriting(tmp_path: Path) -> None:
    """Thousands of overwrites with reads between use freed pages anew instead of growing the file."""
    path = tmp_path / "data"
    async with open_store(path) as store:
        keys = [storage_key(b"%05d" % n) for n in range(2000)]
        await write(store, dict.fromkeys(keys, bytes(100)))
        for turn in range(20):
            await write(store, {key: bytes((turn,)) * 100 for key in keys[turn::20]})
        settled = (path / "data.mdb").stat().st_size
        for turn in range(300):
            store.scan_prefix(b"\x04", limit=10)
            await write(store, {key: bytes((turn % 256,)) * 100 for key in keys[turn % 20 :: 20]})
            store.get(keys[turn])
        assert (path / "data.mdb").stat().st_size <= settled * 1.5
