"""Which class a stored type name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.errors import InvalidActor, UnknownActorType
from holdfast.runtime.registry import find_actor_class, register_actor_class, type_name
from holdfast.runtime.system import ActorSystem


class OnceOnly(Actor):
    value: int = 0

    async def add(self) -> int:
        self.value += 1
        return self.value


class Renamed(Actor):
    name = "older_name"
    value: int = 0

    async def add(self) -> int:
        self.value += 1
        return self.value


def twin(place: str) -> type[OnceOnly]:
    """A class named Twin, as if defined in `place`."""

    class Twin(OnceOnly):
        pass

    Twin.__qualname__ = place
    register_actor_class(Twin)
    return Twin


def test_a_class_is_found_by_its_name() -> None:
    """Defining a class is enough."""
    assert find_actor_class("OnceOnly") is OnceOnly
    assert find_actor_class("Nowhere") is None


def test_the_name_may_be_set() -> None:
    """`name` is what is stored, so a class can be renamed; it isn't inherited."""

    class Heir(Renamed):
        pass

    assert type_name(Renamed) == "older_name"
    assert type_name(Heir) == "Heir"


async def test_a_renamed_class_finds_its_actors(folder: Path) -> None:
    """Actors belong to the stored name."""

    class OlderClass(Actor):
        name = "older_name"
        value: int = 0

        async def add(self) -> int:
            self.value += 10
            return self.value

    async with ActorSystem(folder) as system:
        assert await system.get(OlderClass, 1).add() == 10
    async with ActorSystem(folder) as system:
        assert await system.get(Renamed, 1).add() == 11


def test_defined_again_in_the_same_place() -> None:
    """Running a cell or a module again replaces the class."""
    first, second = twin("cell.Twin1"), twin("cell.Twin1")
    assert first is not second
    assert find_actor_class("Twin") is second


def test_a_name_claimed_twice() -> None:
    """Two classes with one name are told with their places, and how to choose."""
    one, other = twin("here.Twin"), twin("there.Twin")
    with pytest.raises(UnknownActorType, match=r"'Twin' is registered twice.*here.*there.*name"):
        find_actor_class("Twin")
    del one, other


async def test_two_classes_of_one_name_in_one_runtime(system: ActorSystem) -> None:
    """A runtime takes the first that is used and refuses the other."""
    one, other = twin("here.Twin"), twin("there.Twin")
    await system.get(one, 1).add()
    with pytest.raises(UnknownActorType, match="registered twice"):
        system.get(other, 1)


async def test_types_decide(folder: Path) -> None:
    """`types=` names the class to use where several claim the name."""
    one, other = twin("here.Twin"), twin("there.Twin")
    async with ActorSystem(folder, types=[other]) as system:
        assert await system.get(other, 1).add() == 1
        with pytest.raises(UnknownActorType):
            system.get(one, 1)


@pytest.mark.parametrize("wrong", [Actor, int, str])
async def test_what_is_no_actor_type(system: ActorSystem, wrong: type) -> None:
    """Only subclasses of Actor can be asked for."""
    with pytest.raises(UnknownActorType, match="subclass of Actor"):
        system.get(wrong, 1)


async def test_a_name_that_cannot_be_stored(system: ActorSystem) -> None:
    """A type's name is an identifier of bounded length."""

    class Spaced(Actor):
        name = "two words"

    class Long(Actor):
        name = "x" * 101

    for broken in (Spaced, Long):
        with pytest.raises(InvalidActor, match="identifier"):
            system.get(broken, 1)


async def test_stored_type_that_is_not_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stored address whose class is unknown here is told by name."""
    async with ActorSystem(folder) as system:
        await system.get(OnceOnly, 1).add()
        number = system.type_of(OnceOnly).number_bytes
        key_bytes = system.get(OnceOnly, 1).key_bytes  # type: ignore[attr-defined]  # pyright: ignore
    monkeypatch.setattr("holdfast.runtime.registry._classes", {})
    async with ActorSystem(folder) as system:
        with pytest.raises(UnknownActorType, match=r"'OnceOnly'.*import"):
            system.ref_from_bytes(number, key_bytes)
        assert "OnceOnly" in system.actor_types.stored()
