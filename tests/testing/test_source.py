"""testing/source.py and storm.py: values as source, and storms that get simpler."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
import zoneinfo
from decimal import Decimal

import msgspec
import pytest

from holdfast.testing import ClockJump, Crash, Storm
from holdfast.testing.source import Source


class Color(enum.Enum):
    """An enum, whose repr is no source."""

    RED = 1


class Point(msgspec.Struct):
    """A struct."""

    x: int
    colors: list[Color] = []


@dataclasses.dataclass
class Box:
    """A dataclass with a field that is no argument."""

    points: dict[str, Point]
    size: int = dataclasses.field(init=False, default=0)


VALUES: list[object] = [
    1,
    "it's",
    None,
    b"\x00",
    [1, (2,), ()],
    {"a": {1, 2}},
    set(),
    frozenset({"x"}),
    Color.RED,
    Point(1, [Color.RED]),
    Box({"p": Point(2)}),
    datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC),
    datetime.datetime(2030, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")),
    datetime.timedelta(days=1),
    [float("inf"), float("-inf"), 0.5],
    uuid.UUID(int=1),
    Decimal("1.5"),
    Storm(seed=3, crashes=(Crash("step", 2, "before", "pay"),), clock_jumps=(ClockJump(1, -3600.0),)),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_source_is_the_value_again(value: object) -> None:
    """With the imports that it names, and nothing else."""
    source = Source()
    text = source.value(value)
    names: dict[str, object] = {}
    exec(f"{source.imports()}\nmade = {text}", names)  # noqa: S102  # that is what is promised
    assert names["made"] == value
    assert source.unreachable == []


def test_what_was_made_in_a_function_is_told() -> None:
    """It can't be imported, so the script says that it has to be brought along."""

    class Here(msgspec.Struct):
        x: int

    source = Source()
    assert source.value(Here(1)) == "Here(x=1)"
    assert source.unreachable == [f"{__name__}.test_what_was_made_in_a_function_is_told.<locals>.Here"]


def test_simpler_storms_have_less_in_them() -> None:
    """The first is calm; each other one has one thing less, or one crash at a place that is easy to read."""
    crashes = (Crash("callback", 7), Crash())
    storm = Storm(seed=5, crashes=crashes, duplicates=2, failing_commits=(3,), slow_commits_ms=20)
    assert storm.size() == (2 + 1 + 2 + 1 + 1, 1)
    simpler = [one for one in storm.simpler([Crash("step", step="pay")]) if one.size() < storm.size()]
    assert simpler[0] == Storm()
    assert simpler[1] == Storm(crashes=(Crash("step", step="pay"),))
    assert msgspec.structs.replace(storm, failing_commits=()) in simpler
    assert msgspec.structs.replace(storm, crashes=(Crash(),)) in simpler
    assert next(iter(Storm().simpler([Crash()]))).size() == (0, 0)
