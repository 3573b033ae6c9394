"""runtime/identity.py: which types may hold sets, and bytes that don't depend on their order."""

from __future__ import annotations

import dataclasses
import enum
import uuid
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Actor
from holdfast.runtime.codec import ENCODER
from holdfast.runtime.identity import in_order, may_hold_sets
from holdfast.runtime.methods import method_plans


class Tree(msgspec.Struct):
    kids: list[Tree]
    size: int


class Labelled(msgspec.Struct, frozen=True):
    labels: frozenset[str]


@dataclasses.dataclass
class Box:
    inner: list[Labelled]


class Colour(enum.Enum):
    RED = "red"


@pytest.mark.parametrize(
    "hint",
    [int, str | None, Tree, dict[str, int], tuple[int, ...], Annotated[int, msgspec.Meta(gt=0)],
     Literal["a"], Colour, uuid.UUID],
)  # fmt: skip
def test_plain_types_hold_no_sets(hint: object) -> None:
    """Their calls are known by the bytes that are sent."""
    assert not may_hold_sets([hint])


@pytest.mark.parametrize(
    "hint", [set[int], Labelled, Box, Box | None, dict[str, list[set[int]]], Any, list, dict[str, Any]]
)
def test_sets_are_found_however_deep(hint: object) -> None:
    """Where anything is allowed, a set may be there, too."""
    assert may_hold_sets([int, hint])


NUMBERS = st.integers(-(2**63), 2**64 - 1)
MEMBERS = NUMBERS | st.text() | st.tuples(NUMBERS, st.text()) | st.none()


@given(st.lists(MEMBERS, max_size=12).flatmap(lambda one: st.tuples(st.just(one), st.permutations(one))))
def test_equal_sets_have_equal_bytes(given: tuple[list[Any], list[Any]]) -> None:
    """Whatever order their members were put in, in whatever stands around them."""
    made = [
        ({"a": [set(one), (1, frozenset(one))]}, Labelled(frozenset(map(str, one))), Box([])) for one in given
    ]
    first, second = (ENCODER.encode(in_order(one)) for one in made)
    assert first == second


class Keeps(Actor):
    async def plain(self, n: int, name: str = "") -> None: ...

    async def sets(self, one: set[str], more: object = None) -> None: ...


def test_a_call_by_name_or_by_place_is_known_alike_over_orders() -> None:
    """A set in a declared parameter and one in a parameter for anything."""
    plan = method_plans(Keeps)["sets"]
    words = [f"w{n}" for n in range(50)]
    once = plan.encode_arguments((set(words), [frozenset(words)]), {}, "ref")
    again = plan.encode_arguments((set(reversed(words)), [frozenset(reversed(words))]), {}, "ref")
    assert once[2] == again[2]
    named = plan.encode_arguments((), {"more": [frozenset(words)], "one": set(words)}, "ref")
    turned = plan.encode_arguments((), {"one": set(reversed(words)), "more": [frozenset(words)]}, "ref")
    assert named[2] == turned[2]
    assert once[0][0] == set(words)


def test_other_arguments_are_another_call() -> None:
    """Nothing is lost in the bytes."""
    plans = method_plans(Keeps)
    seen = {
        plans["sets"].encode_arguments(args, {}, "ref")[2]
        for args in [
            ({"a"}, 1),
            ({"a"}, 2),
            ({"b"}, 1),
            ({"a", "b"}, 1),
            ({"a"}, {"b": 1}),
            ({"a"}, [["b", 1]]),
        ]
    }
    assert len(seen) == 6
    assert plans["plain"].encode_arguments((1, "a"), {}, "ref")[2] == ENCODER.encode((1, "a"))
