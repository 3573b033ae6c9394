"""`assert_equivalent` finds what differs, makes it small, and doesn't mistake silence for agreement."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import strategies as st

from holdfast import CallerError, Counter, Fatal, Runtime, Workflow
from holdfast.testing import NotEquivalent, WayEnding, assert_equivalent


class EquivOrder(msgspec.Struct, frozen=True):
    """What is ordered."""

    price: int
    count: int


class EquivShelf:
    """The world outside: what was sold."""

    def __init__(self) -> None:
        self.sold: list[int] = []


ORDERS = st.builds(EquivOrder, st.integers(0, 1000), st.integers(0, 20))


async def sell(total: int) -> int:
    if total > 15_000:
        raise Fatal("too dear")
    return total


class EquivSale(Workflow):
    """The new way."""

    async def run(self, order: EquivOrder) -> int:
        await self.sleep("1h")
        total = await self.step(sell, order.price * order.count)
        await self.step(self.note, total)
        return total

    async def note(self, total: int) -> None:
        self.runtime.deps.get(EquivShelf).sold.append(total)


async def sale_before(runtime: Runtime, order: EquivOrder) -> int:
    """The old way."""
    total = order.price * order.count
    if total > 15_000:
        raise ValueError("no")
    runtime.deps.get(EquivShelf).sold.append(total)
    return total


async def sale_with_a_bug(runtime: Runtime, order: EquivOrder) -> int:
    """Gives a discount that nobody asked for."""
    return await sale_before(runtime, EquivOrder(order.price, order.count - (order.count > 12)))


async def sale_without_a_note(runtime: Runtime, order: EquivOrder) -> int:
    """Forgets what it sold."""
    return await sell(order.price * order.count)


def sold(shelf: EquivShelf) -> list[int]:
    return shelf.sold


def world() -> list[object]:
    return [EquivShelf()]


def test_the_same_is_the_same() -> None:
    """A workflow and a function that do the same agree, also where both fail."""
    assert_equivalent(sale_before, EquivSale, inputs=ORDERS, deps=world, observe=sold, examples=40)


def test_what_differs_is_found_and_made_small() -> None:
    """The smallest input is told, with what both ways did."""
    with pytest.raises(NotEquivalent) as caught:
        assert_equivalent(sale_with_a_bug, EquivSale, inputs=ORDERS, deps=world, observe=sold)
    assert caught.value.input == EquivOrder(1, 13)
    assert "the old way returned 12" in str(caught.value)
    assert "the new way returned 13" in str(caught.value)


def test_what_outside_saw_counts() -> None:
    """The same result with another effect is not the same."""
    with pytest.raises(NotEquivalent, match="outside saw"):
        assert_equivalent(
            sale_without_a_note, EquivSale, inputs=st.just(EquivOrder(1, 1)), deps=world, observe=sold
        )


def test_same_decides() -> None:
    """Who knows better says what is good enough."""

    def nearly(old: WayEnding, new: WayEnding) -> bool:
        return old.result == new.result

    assert_equivalent(
        sale_without_a_note, EquivSale, inputs=ORDERS, deps=world, observe=sold, same=nearly, examples=20
    )


def test_an_old_way_that_always_fails_agrees_with_nothing() -> None:
    """That both failed each time shows nothing."""

    async def broken(runtime: Runtime, order: EquivOrder) -> int:
        raise ValueError("not set up")

    with pytest.raises(NotEquivalent, match="nothing was compared"):
        assert_equivalent(broken, broken, inputs=ORDERS, examples=5)


@pytest.mark.parametrize("way", [Counter, int, "sale", None])
def test_what_is_no_way(way: Any) -> None:
    """It is refused by name."""
    with pytest.raises(CallerError, match="old"):
        assert_equivalent(way, EquivSale, inputs=ORDERS)
