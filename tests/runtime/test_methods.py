"""Methods as the outside sees them: who may be called, how arguments and results are checked and copied."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any, cast

import msgspec
import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.errors import InvalidActor, InvalidArgument, InvalidResult, PrivateMethod, UnknownMethod
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from holdfast.storage.errors import CallerError


class Colour(Enum):
    RED = "red"


class Point(msgspec.Struct):
    x: int
    y: int = 0
    names: list[str] = []


class Desk(Actor):
    points: list[Point] = []
    loose: dict[str, list[int]] = {}

    def __init__(self) -> None:
        self._last: object = None

    async def add(self, point: Point, times: int = 1) -> int:
        self._last = point
        self.points.extend([point] * times)
        return len(self.points)

    async def first(self) -> Point:
        return self.points[0]

    async def keep(self, loose: dict[str, list[int]]) -> dict[str, list[int]]:
        self.loose = loose
        return self.loose

    async def named(self, a: int, *, b: int, c: str = "c") -> str:
        return f"{a}{b}{c}"

    async def scalars(self, a: int, b: float, c: str, d: bytes, e: bool, f: None = None) -> list[str]:
        return [type(value).__name__ for value in (a, b, c, d, e, f)]

    async def optional(self, at: datetime | None = None, colour: Colour = Colour.RED) -> tuple[bool, Colour]:
        return at is None, colour

    async def loosely(self, value, other=2):
        return [value, other]

    async def lie(self) -> int:
        return cast("int", "text")

    async def leak(self) -> object:
        return object()

    async def _hidden(self) -> None: ...

    def plain(self) -> int:
        return 1

    @staticmethod
    async def fixed() -> int:
        return 1

    @shared
    async def peek(self, at: int) -> Point:
        return self.points[at]


async def test_arguments_are_copied(system: ActorSystem) -> None:
    """Changing an object after the call changes nothing in the actor."""
    desk, point = system.get(Desk, 1), Point(1, names=["a"])
    await desk.add(point)
    point.names.append("b")
    point.x = 9
    assert await desk.first() == Point(1, names=["a"])


async def test_results_are_copied(system: ActorSystem) -> None:
    """Changing what a call returned changes nothing in the actor."""
    desk = system.get(Desk, 1)
    loose = await desk.keep({"a": [1]})
    loose["a"].append(2)
    await desk.add(Point(1))
    (await desk.first()).x = 9
    (await desk.peek(0)).x = 9
    assert await desk.first() == Point(1)
    assert (await desk.keep({"a": [1]})) == {"a": [1]}


class Courier(Actor):
    async def carry(self) -> tuple[Point, Point]:
        point = Point(5)
        await self.runtime.get(Desk, "courier").add(point)
        point.x = 6
        return point, await self.runtime.get(Desk, "courier").first()


async def test_actors_share_no_struct(system: ActorSystem) -> None:
    """Arguments between actors are copied as those from outside are."""
    assert await system.get(Courier, 1).carry() == (Point(6), Point(5))


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        (("text",), {"b": 1}, "'a'.*int"),
        ((1,), {}, "'b'"),
        ((1, 2), {"b": 3}, "positional"),
        ((1,), {"b": 3, "z": 4}, "'z'"),
        ((1,), {"b": 3, "c": 4}, "'c'.*str"),
        ((1,), {"b": True}, "'b'.*int"),
        ((1.5,), {"b": 1}, "'a'.*int"),
        ((None,), {"b": 1}, "'a'.*int"),
    ],
)
async def test_wrong_arguments_are_refused(
    system: ActorSystem, args: tuple[object, ...], kwargs: dict[str, object], says: str
) -> None:
    """An argument that doesn't fit the signature raises `InvalidArgument`, a TypeError, naming it."""
    call: Any = system.get(Desk, 1).named
    with pytest.raises(InvalidArgument, match=says) as caught:
        await call(*args, **kwargs)
    assert isinstance(caught.value, TypeError)
    assert "Desk/1.named" in str(caught.value)


async def test_nested_errors_say_where(system: ActorSystem) -> None:
    """A wrong value deep inside an argument is told with its place."""
    call: Any = system.get(Desk, 1).add
    with pytest.raises(InvalidArgument, match=r"\$\.x"):
        await call({"x": "one"})


async def test_wrong_call_does_not_wake_the_actor(system: ActorSystem) -> None:
    """Arguments are checked before the actor is loaded."""
    call: Any = system.get(Desk, 1).add
    with pytest.raises(InvalidArgument):
        await call("no point")
    assert len(system.directory) == 0


async def test_defaults_and_keyword_only(system: ActorSystem) -> None:
    """Parameters are bound as Python binds them."""
    desk = system.get(Desk, 1)
    assert await desk.named(1, b=2) == "12c"
    assert await desk.named(b=2, a=1, c="d") == "12d"
    assert await desk.add(Point(1)) == 1
    assert await desk.add(times=2, point=Point(1)) == 3
    assert await desk.optional() == (True, Colour.RED)
    assert await desk.optional(colour=Colour.RED) == (True, Colour.RED)


async def test_scalars_keep_their_types(system: ActorSystem) -> None:
    """An int given for a float becomes one; all other scalars pass as they are."""
    desk = system.get(Desk, 1)
    assert await desk.scalars(1, 2.0, "c", b"d", True) == ["int", "float", "str", "bytes", "bool", "NoneType"]
    assert await desk.scalars(1, 2, "c", b"d", False) == ["int", "float", "str", "bytes", "bool", "NoneType"]


async def test_parameters_without_annotation_take_what_the_codec_takes(system: ActorSystem) -> None:
    """Without an annotation a value is copied as plain data."""
    desk: Any = system.get(Desk, 1)
    assert await desk.loosely(Point(1)) == [{"x": 1, "y": 0, "names": []}, 2]
    with pytest.raises(InvalidArgument):
        await desk.loosely(object())


@pytest.mark.parametrize("method", ["lie", "leak"])
async def test_wrong_result_is_the_actors_fault(system: ActorSystem, method: str) -> None:
    """A result that doesn't fit its annotation, or can't be copied, raises `InvalidResult`."""
    with pytest.raises(InvalidResult, match=method):
        await getattr(system.get(Desk, 1), method)()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("nothing", UnknownMethod),
        ("_hidden", PrivateMethod),
        ("_anything", PrivateMethod),
        ("on_activate", PrivateMethod),
        ("on_alarm", PrivateMethod),
        ("on_evict", PrivateMethod),
        ("plain", PrivateMethod),
        ("fixed", PrivateMethod),
        ("points", PrivateMethod),
        ("storage", PrivateMethod),
    ],
)
async def test_names_that_cannot_be_called(system: ActorSystem, name: str, error: type[CallerError]) -> None:
    """Unknown, private and plain names, hooks and fields are refused when they are looked up."""
    with pytest.raises(error, match=f"Desk.*{name}") as caught:
        getattr(system.get(Desk, 1), name)
    assert isinstance(caught.value, AttributeError)


async def test_unknown_method_lists_those_there_are(system: ActorSystem) -> None:
    """The message helps who mistyped a name."""
    with pytest.raises(UnknownMethod, match="it has add, first"):
        getattr(system.get(Desk, 1), "ad")  # noqa: B009


def _broken_class(how: str) -> type[Actor]:
    if how == "star":

        class Star(Actor):
            async def call(self, *args: int) -> None: ...

        return Star
    if how == "two stars":

        class TwoStars(Actor):
            async def call(self, **kwargs: int) -> None: ...

        return TwoStars
    if how == "parameter":

        class Parameter(Actor):
            async def call(self, of: list[int] | set[int]) -> None: ...

        return Parameter
    if how == "shared":

        class Shared(Actor):
            @shared  # type: ignore[type-var]  # pyright: ignore
            def call(self) -> None: ...

        return Shared

    class OfTheRef(Actor):
        async def system(self) -> None: ...

    return OfTheRef


@pytest.mark.parametrize("how", ["star", "two stars", "parameter", "shared", "taken"])
async def test_methods_that_cannot_be_messages(system: ActorSystem, how: str) -> None:
    """A signature that can't be sent is refused when the class is first used."""
    with pytest.raises(InvalidActor):
        system.get(_broken_class(how), 1)


async def test_refs_are_values(system: ActorSystem) -> None:
    """Refs to one address are equal and hash alike, and show their address."""
    one, other = system.get(Desk, ("a", 1)), system.get(Desk, ("a", 1))
    assert one == other
    assert hash(one) == hash(other)
    assert one != system.get(Desk, ("a", 2))
    assert str(one) == "Desk/a/1"
    assert repr(one) == "<ref to Desk/a/1>"


async def test_making_a_ref_touches_nothing(system: ActorSystem) -> None:
    """An actor is loaded by its first call, not by its ref."""
    system.get(Desk, 1)
    assert len(system.directory) == 0
    assert system.keys(Desk) == []
