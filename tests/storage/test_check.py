"""storage/check.py: a sound folder has no problems, and each kind of damage is found."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from holdfast.storage import layout
from holdfast.storage.check import Problem, check
from holdfast.storage.environment import DATA_NAME, Environment
from holdfast.storage.errors import FolderRefused
from holdfast.storage.group_commit import Writes
from holdfast.storage.keys import encode_index_values, encode_key, encode_number
from holdfast.storage.store import Store
from holdfast.storage.table import Table, table_schema
from tests.storage.helpers import fill, open_store, raw_write, run_child, write

TYPE_NUMBER = b"\x00\x01"
NAME = b"Item"


class Item(msgspec.Struct):
    id: str
    group: str
    size: int = 0


class Into:
    """A table's access into a write set."""

    def __init__(self) -> None:
        self.writes: Writes = {}

    def read(self, key: bytes) -> bytes | None:
        return self.writes.get(key)

    def scan(
        self, start: bytes, end: bytes | None, reverse: bool, limit: int | None
    ) -> list[tuple[bytes, bytes]]:
        return []

    def write(self, key: bytes, value: bytes | None) -> None:
        self.writes[key] = value


def address(name: str) -> bytes:
    return layout.DIRECTORY + TYPE_NUMBER + encode_key(name)


def row_key(number: int, name: str) -> bytes:
    return layout.data_prefix(number) + layout.ROW + NAME + b"\x00" + encode_key(name)


def entry_key(number: int, group: str, name: str) -> bytes:
    base = layout.data_prefix(number) + layout.ROW_INDEX + NAME + b"\x00\x00"
    return base + encode_index_values((group,)) + encode_key(name)


SHARED = TYPE_NUMBER + b"Shared" + b"\x00"


def sound_writes() -> Writes:
    """Two actors with everything that a folder can have."""
    access = Into()
    schema = table_schema(Item, "id", ("group", ("group", "size")))
    writes = access.writes
    writes[layout.TYPE + b"Shop"] = TYPE_NUMBER
    writes[layout.TABLE + TYPE_NUMBER + NAME] = msgspec.msgpack.encode(schema)
    writes[layout.TABLE + TYPE_NUMBER + b"Shared"] = msgspec.msgpack.encode(schema)
    for number, name in ((1, "ann"), (2, "bob")):
        base = layout.data_prefix(number)
        owner = encode_number(number)
        writes[address(name)] = owner
        writes[base + layout.FIELDS] = msgspec.msgpack.encode({"n": number})
        writes[base + layout.STORAGE + encode_key(("cart", 1))] = b"\x00\x01"
        writes[base + layout.STORAGE + encode_key("old")] = b"\x01" + layout.time_bytes(5) + b"\x01"
        writes[layout.expiry_key(5, base + layout.STORAGE + encode_key("old"))] = b""
        writes[layout.expiry_key(4, base + layout.STORAGE + encode_key("gone"))] = b""  # stale, and allowed
        writes[base + layout.ALARM + b"wake"] = msgspec.msgpack.encode([1000, 1000, None])
        writes[layout.due_key(1000, number, b"wake")] = TYPE_NUMBER + encode_key(name)
        writes[layout.DEAD_ALARM + owner + b"late"] = msgspec.msgpack.encode([])
        writes[base + layout.REPLY + b"call"] = b""
        writes[base + layout.JOURNAL + b"\x01"] = b""
        field_entry = layout.FIELD_INDEX + TYPE_NUMBER + b"\x00" + encode_index_values((number,)) + owner
        writes[field_entry] = encode_key(name)
        rows = base + layout.ROW + NAME + b"\x00"
        own = Table(access, Item, schema, rows, base + layout.ROW_INDEX + NAME + b"\x00")
        shared = Table(access, Item, schema, layout.SHARED_ROW + SHARED, layout.SHARED_INDEX + SHARED, owner)
        for table in (own, shared):
            table.put(Item("x", "red", 1))
            table.put(Item("y", "blue"))
    return writes


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """A closed folder with nothing wrong."""
    asyncio.run(fill(tmp_path / "data", sound_writes(), actors=2))
    return tmp_path / "data"


def test_a_sound_folder_has_no_problems(sound: Path) -> None:
    """Everything that a folder can hold passes, by path and by an open environment."""
    assert check(sound) == []
    environment = Environment(sound)
    assert check(environment) == []
    environment.close()


def test_a_new_folder_has_no_problems(tmp_path: Path) -> None:
    """An empty store is sound."""
    Environment(tmp_path / "data").close()
    assert check(tmp_path / "data") == []


Put = Callable[[bytes, bytes | None], None]


def nameless_type(put: Put) -> None:
    put(layout.DIRECTORY + b"\x00\x05" + BOB, b"\x01\x03")
    put(layout.META_COMMIT, msgspec.msgpack.encode((1, 9, 2)))


def data_of_nobody(put: Put) -> None:
    for kind in range(1, 5):
        put(layout.data_prefix(7) + bytes((kind,)), b"")


OWN = layout.data_prefix(1)
BOB = encode_key("bob")
ROW = msgspec.msgpack.encode(Item("x", "green", 1))
SHARED_X = SHARED + encode_number(1) + encode_key("x")
RED = encode_index_values(("red",))
DAMAGE: dict[str, tuple[str, int, Callable[[Put], None]]] = {
    "a row without entries": ("index", 2, lambda put: put(row_key(1, "z"), ROW)),
    "an entry is gone": ("index", 1, lambda put: put(entry_key(1, "red", "x"), None)),
    "the row is gone": ("index", 2, lambda put: put(row_key(1, "x"), None)),
    "the row changed alone": ("index", 4, lambda put: put(row_key(1, "x"), ROW)),
    "an entry too many": ("index", 1, lambda put: put(entry_key(1, "pink", "x"), encode_key("x"))),
    "an entry of no index": (
        "index",
        1,
        lambda put: put(entry_key(1, "a", "x").replace(b"Item\x00\x00", b"Item\x00\x07"), b""),
    ),
    "an entry that names another row": (
        "index",
        1,
        lambda put: put(entry_key(1, "red", "x"), encode_key("y")),
    ),
    "a shared row is gone": ("index", 2, lambda put: put(layout.SHARED_ROW + SHARED_X, None)),
    "a shared row without entries": (
        "index",
        2,
        lambda put: put(layout.SHARED_ROW + SHARED + encode_number(2) + encode_key("new"), ROW),
    ),
    "a shared entry is gone": (
        "index",
        1,
        lambda put: put(
            layout.SHARED_INDEX + SHARED + b"\x00" + RED + encode_number(1) + encode_key("x"), None
        ),
    ),
    "a shared row of nobody": (
        "orphan",
        3,
        lambda put: put(layout.SHARED_ROW + SHARED + encode_number(9) + encode_key("x"), ROW),
    ),
    "a row that is none": ("value", 1, lambda put: put(row_key(1, "z"), b"\xc1")),
    "a row without the indexed field": (
        "value",
        1,
        lambda put: put(row_key(1, "z"), msgspec.msgpack.encode({"id": "z"})),
    ),
    "a table without schema": ("table", 1, lambda put: put(layout.TABLE + TYPE_NUMBER + NAME, None)),
    "a shared table without schema": (
        "table",
        1,
        lambda put: put(layout.TABLE + TYPE_NUMBER + b"Shared", None),
    ),
    "a schema that is none": ("value", 2, lambda put: put(layout.TABLE + TYPE_NUMBER + NAME, b"\x93")),
    "an alarm without its place": ("alarm", 1, lambda put: put(layout.due_key(1000, 1, b"wake"), None)),
    "a place without its alarm": ("alarm", 1, lambda put: put(OWN + layout.ALARM + b"wake", None)),
    "an alarm at another time": (
        "alarm",
        2,
        lambda put: put(OWN + layout.ALARM + b"wake", msgspec.msgpack.encode([2000, 1000, None])),
    ),
    "a place that names another actor": (
        "alarm",
        1,
        lambda put: put(layout.due_key(1000, 1, b"wake"), TYPE_NUMBER + BOB),
    ),
    "an alarm that is none": ("key", 2, lambda put: put(OWN + layout.ALARM + b"wake", b"\x01")),
    "a dead alarm of nobody": (
        "orphan",
        1,
        lambda put: put(layout.DEAD_ALARM + encode_number(9) + b"x", b""),
    ),
    "two addresses of one number": ("directory", 1, lambda put: put(address("eve"), encode_number(1))),
    "a number that was never given": ("directory", 1, lambda put: put(address("eve"), encode_number(3))),
    "a number that goes on": ("directory", 1, lambda put: put(address("eve"), encode_number(2) + b"x")),
    "an address whose type has no name": (
        "type",
        1,
        nameless_type,
    ),
    "an address that doesn't decode": (
        "key",
        1,
        lambda put: put(layout.DIRECTORY + TYPE_NUMBER + b"\x99", b"\x01\x01"),
    ),
    "an address that is encoded in another way": (
        "key",
        1,
        lambda put: put(layout.DIRECTORY + TYPE_NUMBER + b"\x15\x00", b"\x01\x01"),
    ),
    "two types of one number": ("type", 1, lambda put: put(layout.TYPE + b"Other", TYPE_NUMBER)),
    "a type number that was never given": ("type", 1, lambda put: put(layout.TYPE + b"Other", b"\x00\x02")),
    "data of nobody": ("orphan", 1, data_of_nobody),
    "data of a number that is cut off": ("key", 1, lambda put: put(layout.DATA + b"\x08\x01", b"")),
    "a storage key that doesn't decode": (
        "key",
        1,
        lambda put: put(OWN + layout.STORAGE + b"\x30\x03a", b""),
    ),
    "data of no kind": ("key", 1, lambda put: put(OWN + b"\x99", b"")),
    "fields with a longer key": ("key", 1, lambda put: put(OWN + layout.FIELDS + b"x", b"")),
    "a key of no kind": ("key", 1, lambda put: put(b"\x77what", b"")),
    "an entry of expiry that names nothing": (
        "key",
        1,
        lambda put: put(layout.EXPIRY + layout.time_bytes(1) + b"x", b""),
    ),
    "a field index of nobody": (
        "field index",
        1,
        lambda put: put(layout.FIELD_INDEX + TYPE_NUMBER + b"\x00\x01\x01\x07", encode_key("eve")),
    ),
    "a field index of another number": (
        "field index",
        1,
        lambda put: put(layout.FIELD_INDEX + TYPE_NUMBER + b"\x00\x01\x01\x07", BOB),
    ),
    "no format stamp": ("meta", 1, lambda put: put(layout.META_FORMAT, msgspec.msgpack.encode(0))),
    "no commit record": ("meta", 1, lambda put: put(layout.META_COMMIT, None)),
    "a commit record that is none": ("meta", 1, lambda put: put(layout.META_COMMIT, b"\xc1")),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_each_kind_of_damage_is_found(sound: Path, name: str) -> None:
    """What is wrong is found, as its kind, and what is right beside it is not blamed."""
    kind, count, damage = DAMAGE[name]
    with raw_write(sound) as put:
        damage(put)
    problems = check(sound)
    assert kind in {problem.kind for problem in problems}
    assert len(problems) == count, "\n".join(map(str, problems))
    assert all(problem.text and problem.key.hex() in str(problem) for problem in problems)


def test_every_flipped_bit_in_a_value_is_found(tmp_path: Path) -> None:
    """Of 400 single flipped bits in stored values, all are found, each under its key."""
    path = tmp_path / "data"
    keys = [layout.data_prefix(1) + layout.STORAGE + encode_key(n) for n in range(40)]
    rng = random.Random(7)
    values = {key: b"#%03d#" % n + rng.randbytes(60) for n, key in enumerate(keys)}
    asyncio.run(fill(path, {layout.TYPE + b"T": TYPE_NUMBER, address("ann"): encode_number(1), **values}))
    assert check(path) == []
    whole = (path / DATA_NAME).read_bytes()
    found = 0
    for flip in range(400):
        key = keys[flip % len(keys)]
        assert whole.count(values[key]) == 1
        place = whole.index(values[key]) - 4 + rng.randrange(len(values[key]) + 4)
        damaged = bytearray(whole)
        damaged[place] ^= 1 << rng.randrange(8)
        (path / DATA_NAME).write_bytes(damaged)
        found += [(problem.kind, problem.key) for problem in check(path)] == [("checksum", key)]
    assert found == 400


def test_a_zeroed_page_is_found_or_was_free(sound: Path, tmp_path: Path) -> None:
    """With any one page of zeros the folder is refused, or check finds problems, or the page was in no
    use."""
    code = """
import sys
from holdfast.storage.check import check
from holdfast.storage.errors import StorageError
for line in sys.stdin:
    try:
        print(len(check(line.strip())), flush=True)
    except StorageError as error:
        print(type(error).__name__, flush=True)
"""
    pages = (sound / DATA_NAME).stat().st_size // 4096
    whole = (sound / DATA_NAME).read_bytes()
    folders = []
    for page in range(pages):
        folder = tmp_path / f"zero{page}"
        folder.mkdir(mode=0o700)
        (folder / DATA_NAME).write_bytes(whole[: page * 4096] + bytes(4096) + whole[(page + 1) * 4096 :])
        folders.append(folder)
    done = subprocess.run(
        [sys.executable, "-c", code],
        input="\n".join(map(str, folders)),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    results = done.stdout.split()
    assert len(results) == pages
    assert results[:2] == ["Damaged", "Damaged"]
    assert sum(result != "0" for result in results) >= 3


def test_the_number_of_problems_is_bounded(sound: Path) -> None:
    """A folder with a thousand things wrong gives no longer list than was asked for."""
    with raw_write(sound) as put:
        for n in range(50):
            put(b"\x77%d" % n, b"")
    assert len(check(sound, limit=7)) == 7


def test_there_must_be_a_store(tmp_path: Path) -> None:
    """Checking a path without a store is refused and makes nothing."""
    with pytest.raises(FolderRefused):
        check(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


async def test_a_check_beside_a_writing_owner_sees_no_false_problems(sound: Path) -> None:
    """While the owner moves rows between groups without pause, a check in a thread sees one sound
    snapshot."""
    async with open_store(sound) as store:
        access = Live(store)
        schema = table_schema(Item, "id", ("group", ("group", "size")))
        base = layout.data_prefix(1)
        table = Table(
            access, Item, schema, base + layout.ROW + NAME + b"\x00", base + layout.ROW_INDEX + NAME + b"\x00"
        )
        done = threading.Event()
        results: list[list[Problem]] = []

        def run_checks() -> None:
            for _ in range(15):
                results.append(check(store.environment))
            done.set()

        checking = asyncio.create_task(asyncio.to_thread(run_checks))
        turn = 0
        while not done.is_set():
            turn += 1
            access.writes = {}
            for name in "abcdefgh":
                table.put(Item(name, f"group{turn % 5}", turn))
            await write(store, access.writes)
        await checking
        assert results == [[]] * 15
        assert turn > 0


class Live(Into):
    """A table's access to a store, with a write set of its own."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store

    def read(self, key: bytes) -> bytes | None:
        return self.writes[key] if key in self.writes else self.store.get(key)


def test_a_check_from_another_process(sound: Path) -> None:
    """Another process may check a folder while this one owns it, and leaves no reader behind."""
    environment = Environment(sound)
    code = "import sys; from holdfast.storage.check import check; print(len(check(sys.argv[1])))"
    child = run_child(code, sound)
    assert (child.stdout, child.stderr) == ("0\n", "")
    assert environment.lmdb.reader_check() == 0
    environment.close()
    assert os.path.exists(sound / DATA_NAME)
