"""A rollout by percent: stable, growing only, and as large as it says."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import CallerError, rollout

KEYS = [f"key-{i}" for i in range(20_000)]


@pytest.mark.parametrize("percent", [0.5, 10, 50, 90])
def test_so_many_percent_of_the_keys(percent: float) -> None:
    """Within five standard deviations of so many draws."""
    taken = sum(rollout("import", key, percent) for key in KEYS)
    share = percent / 100
    assert abs(taken - share * len(KEYS)) < 5 * math.sqrt(len(KEYS) * share * (1 - share))


def test_none_and_all() -> None:
    """0 takes nobody, 100 everybody."""
    assert not any(rollout("import", key, 0) for key in KEYS)
    assert all(rollout("import", key, 100) for key in KEYS)


@given(key=st.text(), low=st.floats(0, 100), high=st.floats(0, 100))
def test_raising_takes_nobody_back(key: str, low: float, high: float) -> None:
    """Who takes the new way at some percentage does so at each higher one."""
    low, high = sorted((low, high))
    assert rollout("import", key, high) or not rollout("import", key, low)


def test_the_places_are_for_good() -> None:
    """A place may never change, or keys would change sides with a new version of the library."""
    taken = [number for number in range(16) if rollout("import", KEYS[number], 50)]
    assert taken == [1, 2, 3, 5, 9, 11, 14, 15]


def test_two_rollouts_begin_with_other_keys() -> None:
    """Names are part of the place, and are not mixed up with keys."""
    assert [rollout("a", key, 50) for key in KEYS] != [rollout("b", key, 50) for key in KEYS]
    assert [rollout("a", "b" + key, 50) for key in KEYS] != [rollout("ab", key, 50) for key in KEYS]


@pytest.mark.parametrize("percent", [-1, 100.01, math.nan, math.inf, True])
def test_what_is_no_percentage(percent: Any) -> None:
    """It is refused, not rounded."""
    with pytest.raises(CallerError, match="from 0 to 100"):
        rollout("import", "key", percent)
