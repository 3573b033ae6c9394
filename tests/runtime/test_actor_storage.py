"""`self.storage`: keys, values, ranges, times to live, rollback."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.actor_storage import MAX_VALUE_BYTES, ActorStorage
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.durations import InvalidDuration
from holdfast.runtime.system import ActorSystem
from holdfast.storage import layout
from holdfast.storage.errors import CallerError, InvalidKey, InvalidValue
from holdfast.storage.keys import Key
from tests.runtime.support import pass_time, quiet


class Point(msgspec.Struct):
    x: int
    y: int = 0


class Work:
    """What a turn is to do with its storage."""

    def __init__(self) -> None:
        self.todo: Callable[[ActorStorage], object] = lambda storage: None
        self.result: object = None


class Box(Actor):
    count: int = 0

    async def do(self, fail: bool = False) -> None:
        work = self.runtime.deps.get(Work)
        work.result = work.todo(self.storage)
        if fail:
            raise ZeroDivisionError

    async def set_alarm(self) -> None:
        self.count += 1
        self.alarms.set(1000, "a")

    async def alarm_names(self) -> list[str]:
        return [alarm.name for alarm in self.alarms.list()]

    async def counted(self) -> int:
        return self.count

    async def on_alarm(self, alarm: object) -> None: ...


class Shelf:
    """Runs functions as turns of one box."""

    def __init__(self, system: ActorSystem, key: str = "box") -> None:
        self.system = system
        self.box = system.get(Box, key)
        self._work = system.deps.find(Work) or Work()
        system.deps.put(self._work)

    async def __call__(self, todo: Callable[[ActorStorage], object], *, fail: bool = False) -> Any:
        self._work.todo = todo
        await self.box.do(fail)
        return self._work.result


@pytest.fixture
def shelf(system: ActorSystem) -> Shelf:
    return Shelf(system)


VALUES = [
    None,
    True,
    0,
    -5,
    2**63,
    1.5,
    "text",
    "ü\u20ac\U0001f600",
    b"\x00\xff",
    [1, [2, "x"]],
    {"a": {"b": None}},
    {1: "int key"},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
async def test_plain_values_come_back(shelf: Shelf, value: object) -> None:
    """What is put is what is got, in the turn, after it, and after the disk took it."""

    def put_and_get(storage: ActorStorage) -> object:
        storage.put("k", value)
        return storage.get("k")

    assert await shelf(put_and_get) == value
    assert await shelf(lambda storage: storage.get("k")) == value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (Point(1, 2), Point),
        ([Point(1)], list[Point]),
        (datetime(2020, 1, 1, tzinfo=UTC), datetime),
        ({"a": Point(1)}, dict[str, Point]),
        ((1, "a"), tuple[int, str]),
        (timedelta(seconds=5), timedelta),
    ],
)
async def test_typed_values_come_back(shelf: Shelf, value: object, kind: type[object]) -> None:
    """With `type` a value is checked and made into that type."""
    await shelf(lambda storage: storage.put("k", value))
    assert await shelf(lambda storage: storage.get("k", kind)) == value


async def test_missing_key(shelf: Shelf) -> None:
    """A key that was never put is None, and deleting it says so."""
    assert await shelf(lambda storage: storage.get("k")) is None
    assert await shelf(lambda storage: storage.delete("k")) is False
    await shelf(lambda storage: storage.put("k", 1))
    assert await shelf(lambda storage: storage.delete("k")) is True
    assert await shelf(lambda storage: storage.get("k")) is None


async def test_values_are_copies(shelf: Shelf) -> None:
    """Changing an object after `put`, or one that `get` gave, changes nothing stored."""
    given = [1]

    def put_and_change(storage: ActorStorage) -> None:
        storage.put("k", given)
        given.append(2)
        got: Any = storage.get("k")
        got.append(3)

    await shelf(put_and_change)
    assert await shelf(lambda storage: storage.get("k")) == [1]


async def test_wrong_type_asked_for(shelf: Shelf) -> None:
    """A stored value that doesn't match `type` is refused, and stays."""
    await shelf(lambda storage: storage.put("k", "text"))
    with pytest.raises(InvalidValue, match="'k'"):
        await shelf(lambda storage: storage.get("k", int))
    assert await shelf(lambda storage: storage.get("k", str)) == "text"


@pytest.mark.parametrize(
    "value",
    [object(), lambda: 1, {"a": object()}, "\ud800", 2**70],
    ids=["object", "lambda", "dict", "surrogate", "large"],
)
async def test_values_that_cannot_be_stored(shelf: Shelf, value: object) -> None:
    """A value that can't be encoded raises `InvalidValue` with the key; nothing is written."""
    with pytest.raises(InvalidValue, match="'k'"):
        await shelf(lambda storage: storage.put("k", value))
    assert await shelf(lambda storage: storage.get("k")) is None


async def test_value_size_is_bounded(shelf: Shelf) -> None:
    """A value over the limit is refused before anything is written."""
    with pytest.raises(InvalidValue, match=str(MAX_VALUE_BYTES)):
        await shelf(lambda storage: storage.put("k", bytes(MAX_VALUE_BYTES + 1)))


@pytest.mark.parametrize("key", [None, 1.5, True, ["a"], ("a", None), "x" * 300, (("a",),)], ids=repr)
async def test_keys_that_cannot_be(shelf: Shelf, key: Any) -> None:
    """A key of another type, or too long, raises `InvalidKey`."""
    with pytest.raises(InvalidKey):
        await shelf(lambda storage: storage.put(key, 1))


def fill(storage: ActorStorage) -> None:
    keys: list[Key] = ["p1", "p2", "p3", "q1", 5, -5, 70000, b"b", ("t", 1), ("t", 2), ("t", 10), ("u", 1)]
    for key in keys:
        storage.put(key, str(key))


LISTS: list[tuple[dict[str, Any], list[Key]]] = [
    ({}, [b"b", "p1", "p2", "p3", "q1", -5, 5, 70000, ("t", 1), ("t", 2), ("t", 10), ("u", 1)]),
    ({"prefix": "p"}, ["p1", "p2", "p3"]),
    ({"prefix": "p", "limit": 2}, ["p1", "p2"]),
    ({"prefix": "p", "limit": 2, "reverse": True}, ["p3", "p2"]),
    ({"prefix": "p", "start_after": "p1", "end": "p3"}, ["p2"]),
    ({"prefix": "p", "start": "p2"}, ["p2", "p3"]),
    ({"prefix": "p", "start": "p2", "reverse": True}, ["p3", "p2"]),
    ({"prefix": "p", "end": "p3", "reverse": True}, ["p2", "p1"]),
    ({"prefix": "p", "start": "a"}, ["p1", "p2", "p3"]),
    ({"prefix": "p", "end": "z"}, ["p1", "p2", "p3"]),
    ({"prefix": "p", "start": "q"}, []),
    ({"prefix": ("t",)}, [("t", 1), ("t", 2), ("t", 10)]),
    ({"prefix": ("t",), "start_after": ("t", 1)}, [("t", 2), ("t", 10)]),
    ({"start": -5, "end": 70000}, [-5, 5]),
    ({"start": "q1", "end": "p1"}, []),
    ({"prefix": "none"}, []),
    ({"limit": 1, "reverse": True}, [("u", 1)]),
]


@pytest.mark.parametrize(("options", "keys"), LISTS, ids=repr)
@pytest.mark.parametrize("when", ["in the turn", "staged", "durable"])
async def test_list(shelf: Shelf, options: dict[str, Any], keys: list[Key], when: str) -> None:
    """`list` gives keys in key order within its bounds, wherever the values are on their way to the disk."""

    def fill_and_list(storage: ActorStorage) -> list[Key]:
        fill(storage)
        return list(storage.list(**options))

    if when == "in the turn":
        assert await shelf(fill_and_list) == keys
        return
    await shelf(fill)
    if when == "durable":
        await quiet(shelf.system)
    assert await shelf(lambda storage: list(storage.list(**options))) == keys


async def test_list_merges_turn_and_disk(shelf: Shelf) -> None:
    """New values, replaced ones and deletes of the turn are seen in place of what is stored."""
    await shelf(fill)

    def change_and_list(storage: ActorStorage) -> dict[Key, object]:
        storage.put("p0", "new")
        storage.put("p2", "changed")
        storage.delete("p1")
        return storage.list("p", limit=3)

    assert await shelf(change_and_list) == {"p0": "new", "p2": "changed", "p3": "p3"}


async def test_list_with_type(shelf: Shelf) -> None:
    """With `type` each value is made into it."""
    await shelf(lambda storage: storage.put("a", Point(1)))
    assert await shelf(lambda storage: storage.list(type=Point)) == {"a": Point(1)}


@pytest.mark.parametrize("options", [{"start": "a", "start_after": "b"}, {"limit": 0}, {"limit": -1}])
async def test_list_refuses(shelf: Shelf, options: dict[str, Any]) -> None:
    """Both kinds of start, or a limit below 1, are mistakes of the caller."""
    with pytest.raises(CallerError):
        await shelf(lambda storage: storage.list(**options))


async def test_actors_have_separate_keys(system: ActorSystem) -> None:
    """No actor sees a key of another, nor another type's."""
    one, other = Shelf(system, "one"), Shelf(system, "other")
    await one(fill)
    assert await other(lambda storage: storage.list()) == {}
    await other(lambda storage: storage.put("p1", "mine"))
    assert await one(lambda storage: storage.get("p1")) == "p1"


async def test_failed_turn_leaves_storage_as_it_was(shelf: Shelf) -> None:
    """Puts, deletes and clears of a turn that raises never happened."""
    await shelf(fill)
    before = await shelf(lambda storage: storage.list())

    def change(storage: ActorStorage) -> None:
        storage.put("p1", "changed")
        storage.delete("p2")
        storage.clear()
        storage.put("new", 1)

    with pytest.raises(ZeroDivisionError):
        await shelf(change, fail=True)
    assert await shelf(lambda storage: storage.list()) == before


async def test_clear(shelf: Shelf) -> None:
    """`clear` removes keys and alarms, also those of the same turn, and leaves the fields."""
    await shelf(fill)
    await shelf.box.set_alarm()

    def put_and_clear(storage: ActorStorage) -> None:
        storage.put("another", 1)
        storage.clear()
        storage.put("after", 2)

    await shelf(put_and_clear)
    assert await shelf(lambda storage: storage.list()) == {"after": 2}
    assert await shelf.box.alarm_names() == []
    assert await shelf.box.counted() == 1


async def test_storage_comes_back_after_reopening(folder: Path) -> None:
    """Stored values belong to the key, not to the process."""
    async with ActorSystem(folder) as system:
        await Shelf(system)(fill)
    async with ActorSystem(folder) as system:
        assert await Shelf(system)(lambda storage: storage.get(("t", 10))) == "('t', 10)"


# -- times to live -----------------------------------------------------------------------------------------


def put_with_ttl(storage: ActorStorage) -> None:
    storage.put("stays", 1)
    storage.put("goes", 2, ttl="10s")
    storage.put("goes later", 3, ttl=timedelta(seconds=20))


async def test_ttl(shelf: Shelf, clock: ManualClock) -> None:
    """A value with a ttl is there until its time and not after it, in `get`, `list` and `delete`."""
    await shelf(put_with_ttl)
    clock.advance(9.999)
    assert await shelf(lambda storage: list(storage.list())) == ["goes", "goes later", "stays"]
    clock.advance(0.001)
    assert await shelf(lambda storage: storage.get("goes")) is None
    assert await shelf(lambda storage: list(storage.list())) == ["goes later", "stays"]
    assert await shelf(lambda storage: list(storage.list(limit=1, reverse=True))) == ["stays"]
    assert await shelf(lambda storage: storage.delete("goes")) is False


async def test_limit_does_not_count_expired_values(shelf: Shelf, clock: ManualClock) -> None:
    """`limit` is met by values that are there, however many expired ones lie between."""

    def put_many(storage: ActorStorage) -> None:
        for number in range(100):
            storage.put(number, number, ttl=None if number % 10 == 9 else 5)

    await shelf(put_many)
    clock.advance(6)
    assert await shelf(lambda storage: list(storage.list(limit=3))) == [9, 19, 29]
    assert await shelf(lambda storage: list(storage.list(limit=3, reverse=True))) == [99, 89, 79]


async def test_expired_values_leave_the_disk(shelf: Shelf) -> None:
    """They are swept some time after they ended, with their entries in the order of expiry."""
    await shelf(put_with_ttl)
    await pass_time(shelf.system, 130)
    store = shelf.system.store
    assert store.scan_prefix(layout.EXPIRY) == []
    stored = [key for key, _ in store.scan_prefix(layout.DATA) if b"goes" in key]
    assert stored == []
    assert await shelf(lambda storage: storage.get("stays")) == 1


async def test_a_put_renews_the_time(shelf: Shelf, clock: ManualClock) -> None:
    """A later put, with a ttl or without, replaces the earlier one's; the sweep leaves it alone."""
    await shelf(put_with_ttl)
    clock.advance(5)
    await shelf(lambda storage: storage.put("goes", 5))
    await shelf(lambda storage: storage.put("goes later", 6, ttl=100))
    await pass_time(shelf.system, 70)
    assert await shelf(lambda storage: storage.get("goes")) == 5
    assert await shelf(lambda storage: storage.get("goes later")) == 6
    await pass_time(shelf.system, 100)
    assert await shelf(lambda storage: list(storage.list())) == ["goes", "stays"]


async def test_many_expired_values_are_swept_page_by_page(shelf: Shelf) -> None:
    """More than one page goes too."""

    def put_many(storage: ActorStorage) -> None:
        for number in range(1200):
            storage.put(number, number, ttl=1)

    await shelf(put_many)
    for _ in range(5):
        await pass_time(shelf.system, 61)
    assert shelf.system.store.scan_prefix(layout.EXPIRY) == []
    assert await shelf(lambda storage: storage.list()) == {}


async def test_bad_ttl(shelf: Shelf) -> None:
    """A ttl that can't be read is refused, and nothing is written."""
    with pytest.raises(InvalidDuration):
        await shelf(lambda storage: storage.put("k", 1, ttl="soon"))
    assert await shelf(lambda storage: storage.get("k")) is None
