"""Histograms: how often something took how long, or was how large, in buckets that are fixed beforehand.

`Buckets` counts, on the way of whatever is measured; `Histogram` is what it held at one moment.  Neither
grows with what it has counted.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

import msgspec

# From what a plain turn takes to what a slow service does: three to a decade.
SECONDS: Final = (
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
# What people wait for: steps and runs, lateness; up to a day.
LONG_SECONDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    900.0, 3600.0, 21600.0, 86400.0,
)  # fmt: skip
COUNTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 4_000, 10_000)
BYTES: Final = (256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20)


class Histogram(msgspec.Struct, frozen=True):
    """What was counted up to one moment.

    bounds   the upper bound of each bucket, rising; a value that equals one belongs to its bucket
    counts   how many fell into each bucket; one more than there are bounds, for what lies above them all
    sum      all values together
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    def quantile(self, share: float) -> float | None:
        """The value that this share of all stays below, as well as the buckets tell it; None for no values.

        What lies above the last bound counts as that bound.
        """
        return quantile(self.bounds, self.counts, share)

    def since(self, before: Histogram) -> Histogram:
        """What was counted since an earlier moment."""
        counts = tuple(now - then for now, then in zip(self.counts, before.counts, strict=True))
        return Histogram(self.bounds, counts, self.sum - before.sum)

    def plus(self, other: Histogram) -> Histogram:
        """Both together; their bounds are the same."""
        counts = tuple(one + another for one, another in zip(self.counts, other.counts, strict=True))
        return Histogram(self.bounds, counts, self.sum + other.sum)


class Buckets:
    """Counts values."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def histogram(self) -> Histogram:
        """What was counted so far."""
        return Histogram(self.bounds, tuple(self.counts), self.sum)


def quantile(bounds: tuple[float, ...], counts: tuple[int, ...], share: float) -> float | None:
    """See `Histogram.quantile`."""
    total = sum(counts)
    if not total:
        return None
    rank = share * total
    below = 0
    for index, count in enumerate(counts):
        if count and below + count >= rank:
            if index == len(bounds):
                break
            low = bounds[index - 1] if index else 0.0
            return low + (bounds[index] - low) * max(0.0, rank - below) / count
        below += count
    return float(bounds[-1])
