"""The comparison: changed is what lies beyond the spread of both, and nothing else."""

import pytest

from bench.compare import Place, judge, make_comparison
from bench.report import FLOOR, HOLDFAST, Figure, Line
from tests.bench.support import make_report


@pytest.mark.parametrize(
    ("name", "old", "new", "verdict"),
    [
        ("runs/s", (90, 100), (101, 110), "faster"),
        ("runs/s", (90, 100), (80, 89), "slower"),
        ("runs/s", (90, 100), (95, 200), ""),
        ("p50 ms", (1.0, 1.1), (2.0, 2.1), "slower"),
        ("ms", (2.0, 2.1), (1.0, 1.1), "faster"),
        ("RAM B/run", (200, 210), (300, 310), "more"),
        ("RAM B/run", (300, 310), (200, 210), "less"),
        # One repetition has no spread of its own.
        ("runs/s", (100,), (120,), ""),
        ("runs/s", (100,), (140,), "faster"),
    ],
)
def test_changed_is_what_lies_beyond_both_spreads(
    name: str, old: tuple[float, ...], new: tuple[float, ...], verdict: str
) -> None:
    """Ranges that touch are no change; which way is better depends on the unit."""
    place = Place("s", "c", HOLDFAST, name)
    assert judge(place, Figure.of(name, old), Figure.of(name, new)) == verdict


def test_only_what_changed_is_listed() -> None:
    """The floor did not change, so it has no line; what is on one side only is counted."""
    line = Line("actors", "a", {"x/s": Figure.of("x/s", [1.0, 2.0])})
    old = make_report({FLOOR: (1000, 1010), HOLDFAST: (100, 110)}, (line,))
    new = make_report({FLOOR: (1005, 1010), HOLDFAST: (200, 210)})

    text = make_comparison(old, new)

    (changed,) = [one for one in text.splitlines() if "writes/s" in one]
    assert changed.split()[-5:] == ["writes/s", "105", "205", "1.95", "faster"]
    assert FLOOR not in text
    assert "3 figures changed beyond their spread, 3 did not; 1 are only in the old report" in text


def test_it_is_said_when_more_than_the_code_differs() -> None:
    """Another size or machine makes another figure."""
    old, new = make_report({HOLDFAST: (100,)}), make_report({HOLDFAST: (100,)})
    new.settings["quick"] = True
    new.machine["model"] = "another"
    new.versions["python"] = "CPython 3.13"

    notes = [one for one in make_comparison(old, new).splitlines() if one.startswith("Note:")]

    assert len(notes) == 3
