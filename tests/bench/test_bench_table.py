"""The tables: every column is aligned, every line says how it compares."""

from bench.report import FLOOR, HOLDFAST, Figure, Line
from bench.table import make_growth_table, make_scale_tables, make_table, make_text
from tests.bench.support import make_report


def test_table_lines_are_aligned() -> None:
    """Every column begins and ends where its heading does."""
    report = make_report({FLOOR: (123456,), HOLDFAST: (100,)})

    heading, rule, *lines = make_table(report.results).splitlines()

    assert len(lines) == 2
    assert len(rule) == len(heading)
    assert lines[0].index(FLOOR) == heading.index("side")


def test_a_peers_line_says_how_many_times_as_fast_holdfast_is() -> None:
    """Holdfast's line has its part of the floor."""
    report = make_report({FLOOR: (1000, 1000), HOLDFAST: (500, 500), "neighbour": (10, 20)})

    floor, ours, peer = make_table(report.results).splitlines()[2:]

    assert floor.split()[-1] == "2"
    assert ours.endswith("0.50 (0.50 - 0.50)")
    assert peer.endswith("37.5 x (25.0 - 50.0)")
    assert "67%" in peer


def test_growth_has_a_line_a_side() -> None:
    """One at the larger size over one at the smaller."""
    report = make_report({FLOOR: (100,)})
    assert report.growth == []
    assert make_growth_table([]).splitlines()[0].split()[0] == "scenario"


def test_scale_tables_show_figures_where_a_line_has_them() -> None:
    """A missed target is seen at a glance, a figure that a line lacks is blank, a spread is shown."""
    lines = [
        Line("actors", "a", {"x": Figure.of("x", [1.0, 1.0, 1.5])}, "x < 2", True),
        Line("actors", "b", {"y": Figure.of("y", [300.0])}, "x < 2", False),
    ]

    heading, _, first, second, target = make_scale_tables(lines).splitlines()

    assert heading.split() == ["scenario", "case", "target", "met", "x", "y"]
    assert first.split() == ["actors", "a", "yes", "1.00", "(50%)"]
    assert second.split() == ["actors", "b", "NO", "300"]
    assert target == "target: x < 2"


def test_the_text_says_units_machine_and_load() -> None:
    """A figure is nothing without them."""
    text = make_text(make_report({FLOOR: (100,), HOLDFAST: (50,)}))

    for part in (
        "writes/s: one is a put",
        "a processor",
        "0123456789abcdef",
        "load: 0.500 before, 1.500 after",
    ):
        assert part in text
