"""Declared fields: defaults, copies, checks, evolution."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.errors import InvalidActor, InvalidResult
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from holdfast.storage.errors import Damaged


class Address(msgspec.Struct):
    street: str
    number: int = 1


class Person(Actor):
    title: str = "nobody"
    tags: list[str] = []
    home: Address | None = None
    seen: dict[str, int] = {}
    born: datetime | None = None
    id: UUID | None = None
    scores: tuple[int, ...] = ()
    limit: ClassVar[int] = 3
    _cache: int = 0

    async def tag(self, tag: str) -> list[str]:
        self.tags.append(tag)
        return self.tags

    async def move(self, home: Address) -> Address | None:
        self.home = home
        return self.home

    async def fill(self) -> None:
        self.born = datetime(2000, 1, 2, tzinfo=UTC)
        self.id = UUID(int=7)
        self.scores = (1, 2)
        self.seen["x"] = 1

    async def all(
        self,
    ) -> tuple[str, list[str], Address | None, dict[str, int], datetime | None, UUID | None]:
        return self.title, self.tags, self.home, self.seen, self.born, self.id

    async def remember(self) -> int:
        self._cache += 1
        return self._cache

    async def spoil(self, how: str) -> None:
        broken: Any = {"type": 5, "value": object()}.get(how)
        self.title = broken
        if how == "nested":
            self.tags.append(broken)
        if how == "cycle":
            loop: Any = []
            loop.append(loop)
            self.tags = loop

    @shared
    async def titled(self) -> str:
        return self.title


async def test_new_actor_has_the_defaults(system: ActorSystem) -> None:
    """An actor that was never written to has the values that its class gives."""
    assert await system.get(Person, "a").all() == ("nobody", [], None, {}, None, None)


async def test_mutable_defaults_are_copied(system: ActorSystem) -> None:
    """Two actors never share a default list, nor is the class's own changed."""
    await system.get(Person, "a").tag("x")
    assert await system.get(Person, "b").tag("y") == ["y"]
    assert Person.tags == []


async def test_fields_come_back_after_reopening(folder: Path) -> None:
    """What a turn left in the fields is there in the next runtime, with its types."""
    async with ActorSystem(folder) as system:
        await system.get(Person, "a").fill()
        await system.get(Person, "a").move(Address("Elm", 3))
    async with ActorSystem(folder) as system:
        expected: tuple[object, ...] = (
            "nobody",
            [],
            Address("Elm", 3),
            {"x": 1},
            datetime(2000, 1, 2, tzinfo=UTC),
            UUID(int=7),
        )
        assert await system.get(Person, "a").all() == expected


async def test_reading_an_actor_stores_nothing(system: ActorSystem) -> None:
    """An actor whose fields are still the defaults takes no room on disk."""
    await system.get(Person, "a").all()
    assert system.keys(Person) == []


async def test_a_turn_that_changes_nothing_commits_nothing(system: ActorSystem) -> None:
    """The record is written when its bytes changed, not on each turn."""
    await system.get(Person, "a").tag("x")
    commits = system.store.group_commit.commits
    await system.get(Person, "a").all()
    assert system.store.newest == system.store.durable
    assert system.store.group_commit.commits == commits


async def test_private_names_are_plain_memory(folder: Path) -> None:
    """A name with an underscore lives as long as the activation and is not stored."""
    async with ActorSystem(folder) as system:
        assert [await system.get(Person, "a").remember() for _ in range(2)] == [1, 2]
        assert system.keys(Person) == []
    async with ActorSystem(folder) as system:
        assert await system.get(Person, "a").remember() == 1


async def test_class_variables_are_no_fields(system: ActorSystem) -> None:
    """A ClassVar is the class's own affair."""
    assert "limit" not in system.type_of(Person).fields.names


@pytest.mark.parametrize("how", ["type", "value", "nested", "cycle"])
async def test_a_field_that_breaks_its_annotation_fails_the_turn(system: ActorSystem, how: str) -> None:
    """A value that the annotation doesn't allow raises `InvalidResult`, and the fields are what they were."""
    person = system.get(Person, "a")
    await person.tag("kept")
    with pytest.raises(InvalidResult):
        await person.spoil(how)
    assert (await person.all())[:2] == ("nobody", ["kept"])


class Shop(Actor):
    name = "Shop"
    pears: int = 0

    async def add(self) -> int:
        self.pears += 1
        return self.pears


class ShopWithApples(Actor):
    name = "Shop"
    pears: int = 0
    apples: int = 10

    async def count(self) -> tuple[int, int]:
        return self.pears, self.apples


class ShopOfText(Actor):
    name = "Shop"
    pears: str = ""

    async def count(self) -> str:
        return self.pears


class ShopUpgraded(Actor):
    name = "Shop"
    version = 2
    fruit: dict[str, int] = {}

    async def add(self) -> dict[str, int]:
        self.fruit["pears"] += 1
        return self.fruit

    @staticmethod
    def upgrade(stored_version: int, data: dict[str, Any]) -> dict[str, Any]:
        assert stored_version == 1
        return {"fruit": {"pears": data["pears"]}}


class ShopForgotten(Actor):
    name = "Shop"
    version = 3
    pears: int = 0

    async def count(self) -> int:
        return self.pears


@pytest.fixture
async def shop_folder(folder: Path) -> Path:
    """A folder with one stored shop of the first version."""
    async with ActorSystem(folder) as system:
        await system.get(Shop, 1).add()
    return folder


async def test_new_field_takes_its_default(shop_folder: Path) -> None:
    """A field added later has its default in actors stored before."""
    async with ActorSystem(shop_folder) as system:
        assert await system.get(ShopWithApples, 1).count() == (1, 10)


async def test_changed_type_is_refused_with_advice(shop_folder: Path) -> None:
    """A record that doesn't fit the class raises `Damaged` and says what to do; nothing is overwritten."""
    async with ActorSystem(shop_folder) as system:
        with pytest.raises(Damaged, match="upgrade"):
            await system.get(ShopOfText, 1).count()
    async with ActorSystem(shop_folder) as system:
        assert await system.get(Shop, 1).add() == 2


async def test_upgrade_rewrites_old_records(shop_folder: Path) -> None:
    """`upgrade` makes the fields of an older version into this one's, once, with the next write."""
    async with ActorSystem(shop_folder) as system:
        assert await system.get(ShopUpgraded, 1).add() == {"pears": 2}
    async with ActorSystem(shop_folder) as system:
        assert await system.get(ShopUpgraded, 1).add() == {"pears": 3}


async def test_version_without_upgrade_is_refused(shop_folder: Path) -> None:
    """A raised version without `upgrade` names both versions."""
    async with ActorSystem(shop_folder) as system:
        with pytest.raises(Damaged, match=r"version 1.*version 3"):
            await system.get(ShopForgotten, 1).count()


def _broken_class(how: str) -> type[Actor]:
    if how == "no default":

        class NoDefault(Actor):
            count: int

        return NoDefault
    if how == "no type for it":

        class Unstorable(Actor):
            call: type = int

        return Unstorable
    if how == "unknown annotation":

        class Unknown(Actor):
            value: "Nowhere" = None  # type: ignore[name-defined] # noqa: F821, UP037  # pyright: ignore

        return Unknown
    if how == "wrong default":

        class WrongDefault(Actor):
            count: int = "many"  # type: ignore[assignment]  # pyright: ignore

        return WrongDefault
    if how == "version":

        class BadVersion(Actor):
            version = 0

        return BadVersion
    if how == "index":

        class BadIndex(Actor):
            indexes = (("nothing",),)

        return BadIndex
    if how == "taken":

        class Taken(Actor):
            storage: int = 0  # type: ignore[assignment]  # pyright: ignore

        return Taken

    class Named(Actor):
        name: str = ""  # type: ignore[misc]  # pyright: ignore

    return Named


@pytest.mark.parametrize(
    "how",
    [
        "no default",
        "no type for it",
        "unknown annotation",
        "wrong default",
        "version",
        "index",
        "taken",
        "name",
    ],
)
async def test_class_that_breaks_a_rule_is_refused_at_first_use(system: ActorSystem, how: str) -> None:
    """A class that can't be an actor type is named when it is first used."""
    with pytest.raises((InvalidActor, InvalidResult)):
        system.get(_broken_class(how), "a")


class Base(Actor):
    first: int = 1

    async def both(self) -> int:
        return self.first


class Derived(Base):
    second: int = 2

    async def both(self) -> int:
        self.first += 1
        return self.first + self.second


async def test_fields_are_inherited(system: ActorSystem) -> None:
    """A derived actor has the fields of its bases; the base stays a type of its own."""
    assert await system.get(Derived, "a").both() == 4
    assert await system.get(Base, "a").both() == 1
