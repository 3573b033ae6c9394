"""The layered layout of one block: what leads on stands above, lines are straight where they may be."""

from __future__ import annotations

from holdfast.actors.workflow.graph.level import Item, Line, place


def boxes(*widths: float) -> list[Item]:
    return [Item(width, 20, width / 2) for width in widths]


def test_a_sequence_is_one_column() -> None:
    """One below the other, on one line."""
    items = boxes(40, 80, 60)
    lines = [Line(0, 1, 20), Line(1, 2, 40)]
    size = place(items, lines)
    assert [item.x for item in items] == [20, 0, 10]
    assert items[0].y < items[1].y < items[2].y
    assert all(x == 40 for line in lines for x, _ in line.points)
    assert (size.width, size.height) == (80, items[2].y + 20)


def test_two_ways_stand_beside_each_other() -> None:
    """In the order of their lines, the box that they come from in the middle above."""
    items = boxes(40, 40, 40, 40)
    place(items, [Line(0, 1, 20), Line(0, 2, 20), Line(1, 3, 20), Line(2, 3, 20)])
    assert items[1].x < items[2].x
    assert items[1].y == items[2].y
    middle = (items[1].x + items[2].x) / 2
    assert abs(items[0].x - middle) < 0.5
    assert abs(items[3].x - middle) < 0.5


def test_a_long_line_passes_beside_boxes() -> None:
    """It has a lane of its own, in which it goes straight down."""
    items = boxes(40, 90, 90, 40)
    lines = [Line(0, 1, 20), Line(1, 2, 45), Line(2, 3, 45), Line(0, 3, 20)]
    place(items, lines)
    inner = [x for x, _ in lines[3].points[2:-1]]
    assert len(set(inner)) == 1
    assert inner[0] > items[1].x + 90 or inner[0] < items[1].x


def test_a_label_has_room() -> None:
    """Between its two boxes, on its line."""
    items = boxes(40, 40)
    line = Line(0, 1, 20, label_width=30)
    place(items, [line])
    assert line.label_at is not None
    x, y = line.label_at
    assert x == 20
    assert items[0].y + 20 < y
    assert y + 16 < items[1].y


def test_lines_that_would_cross_are_sorted() -> None:
    """Boxes change places when that saves a crossing; ports keep the sides that they ask for."""
    items = [
        *boxes(40, 40, 40, 40, 40),
        Item(2, 0, 1, is_port=True, side=1),
        Item(2, 0, 1, is_port=True, side=-1),
    ]
    lines = [Line(0, 1, 20), Line(0, 2, 20), Line(1, 4, 20), Line(2, 3, 20), Line(3, 6, 20), Line(4, 5, 20)]
    place(items, lines)
    assert (items[1].x < items[2].x) == (items[4].x < items[3].x)
    assert items[6].x < items[5].x
    assert items[5].y == items[6].y


def test_a_line_that_leaves_beside_the_middle() -> None:
    """Is as straight: what it leads to stands below where it leaves."""
    items = boxes(100, 40)
    line = Line(0, 1, 80)
    place(items, [line])
    assert {round(x, 3) for x, _ in line.points} == {80}
