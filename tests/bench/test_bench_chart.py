"""The chart: bars are as long as they should be, no two texts touch, and it has a light and a dark look."""

import re
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.chart import BAR_WIDTH, SIZE, draw_chart, width_of
from bench.report import FLOOR, HOLDFAST, Report
from tests.bench.support import make_report

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawn: ElementTree.Element) -> list[tuple[float, float, float, float]]:
    """Left, right, top and bottom of each text."""
    found = []
    for text in drawn.iter(f"{SVG}text"):
        left, baseline = float(text.attrib["x"]), float(text.attrib["y"])
        found.append((left, left + width_of(text.text or ""), baseline - SIZE, baseline + SIZE / 4))
    return found


def check(report: Report) -> ElementTree.Element:
    """The picture of a report, its texts looked at."""
    drawn = ElementTree.fromstring(draw_chart(report))  # noqa: S314  # our own
    boxes = texts(drawn)
    for number, (left, right, top, bottom) in enumerate(boxes):
        assert 0 <= left < right <= float(drawn.attrib["width"])
        assert bottom <= float(drawn.attrib["height"])
        for other in boxes[number + 1 :]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] or other[3] <= top
    return drawn


def test_bars_are_as_long_as_their_medians() -> None:
    """The longest repetition of a case fills the width, a spread has a line."""
    drawn = check(make_report({FLOOR: (1000, 1000), HOLDFAST: (250, 500, 500), "neighbour": (1, 1)}))

    bars = [bar for bar in drawn.iter(f"{SVG}rect") if bar.attrib["class"] != "paper"]
    assert [bar.attrib["class"] for bar in bars] == ["floor", "holdfast", "peer"]
    assert [float(bar.attrib["width"]) for bar in bars] == [BAR_WIDTH, BAR_WIDTH / 2, 1.0]
    (spread,) = [path for path in drawn.iter(f"{SVG}path") if path.attrib["class"] == "spread"]
    first, last = map(float, re.findall(r"[MH]([0-9.]+)", spread.attrib["d"])[:2])
    assert round(last - first) == BAR_WIDTH / 4


def test_less_is_better_where_a_case_is_about_a_latency() -> None:
    """The heading says so, and the bars are the latencies."""
    drawn = check(make_report({FLOOR: (1000,), HOLDFAST: (500,)}, headline="p50"))

    said = " ".join(text.text or "" for text in drawn.iter(f"{SVG}text"))
    assert "median latency in ms, less is better" in said
    floor, ours = [float(bar.attrib["width"]) for bar in drawn.iter(f"{SVG}rect")][1:]
    assert (floor, ours) == (BAR_WIDTH / 2, BAR_WIDTH)


def test_dark_is_another_set_of_the_same_colours() -> None:
    """Each colour that the light look names has its dark one."""
    light, dark = draw_chart(make_report({FLOOR: (1,)})).split("prefers-color-scheme: dark")
    named = re.compile(r"(--\w+): #")
    assert set(named.findall(light)) == set(named.findall(dark))
    assert all(f"var({name})" in dark for name in named.findall(light))


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.text('abcdefgh-<&"', min_size=1, max_size=30),
        st.lists(st.floats(0.001, 1e9), min_size=1, max_size=3).map(tuple),
        min_size=1,
        max_size=6,
    )
)
def test_no_two_texts_touch(rates: dict[str, tuple[float, ...]]) -> None:
    """Whatever the names and figures are, every text has a place of its own inside the picture."""
    drawn = check(make_report({HOLDFAST: (5.0,), **{name: (max(1, one[0]),) for name, one in rates.items()}}))

    bars = [bar for bar in drawn.iter(f"{SVG}rect") if bar.attrib["class"] != "paper"]
    ends = [float(bar.attrib["x"]) + float(bar.attrib["width"]) for bar in bars]
    values = [float(text.attrib["x"]) for text in drawn.iter(f"{SVG}text")][-1:]
    assert max(ends) < values[0]
