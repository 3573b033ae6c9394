"""Histograms count what they are given, and tell quantiles within a bucket."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.storage.histogram import SECONDS, Buckets, quantile


def test_bounds_belong_to_their_bucket() -> None:
    """A value that equals a bound is counted below it; one above all bounds in the last bucket."""
    buckets = Buckets((1, 2))
    for value in (1, 1.5, 2, 3):
        buckets.observe(value)
    found = buckets.histogram()
    assert (found.counts, found.count, found.sum) == ((1, 2, 1), 4, 7.5)


def test_since_and_plus() -> None:
    """What came since is the difference; two together are the sum."""
    buckets = Buckets((1, 2))
    buckets.observe(1)
    before = buckets.histogram()
    buckets.observe(2)
    now = buckets.histogram()
    assert now.since(before).counts == (0, 1, 0)
    assert now.since(before).plus(before) == now


def test_nothing_has_no_quantile() -> None:
    """Without a value there is none."""
    assert Buckets((1, 2)).histogram().quantile(0.5) is None


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_quantile_lies_in_the_right_bucket(values: list[float], share: float) -> None:
    """The quantile told lies in the bucket of the true one."""
    buckets = Buckets(SECONDS)
    for value in values:
        buckets.observe(value)
    told = buckets.histogram().quantile(share)
    assert told is not None
    true = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
    above = [bound for bound in SECONDS if bound >= true]
    low = max([bound for bound in SECONDS if bound < true], default=0.0)
    assert low - 1e-9 <= told <= (above[0] if above else SECONDS[-1]) + 1e-9


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_above_all_bounds(share: float) -> None:
    """What lies above the last bound counts as that bound."""
    assert quantile((1.0, 2.0), (0, 0, 5), share) == 2.0
