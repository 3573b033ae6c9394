"""The tables of docs/bench.md: between its marks, with commit, machine and load."""

from pathlib import Path

import pytest

from bench import __main__ as bench_main
from bench.markdown import BEGIN, END, NoMarks, make_markdown, write_markdown
from bench.options import EVERY_SCENARIO
from bench.peers import PEERS
from bench.report import FLOOR, HOLDFAST, Figure, Line, write_report
from tests.bench.support import make_report

PAGE = Path(__file__).parent.parent.parent / "docs" / "bench.md"


def test_only_what_is_between_the_marks_changes(tmp_path: Path) -> None:
    """Twice the same is once; the words around it stay."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{BEGIN}\nstale\n{END}\n\nafter\n")
    report = make_report({FLOOR: (100,), HOLDFAST: (50,)})

    write_markdown(report, page)
    once = page.read_text()
    write_markdown(report, page)

    assert page.read_text() == once
    assert once.startswith(
        f"before\n\n{BEGIN}\n\n- Measured 2026-01-01T00:00+00:00 at commit `0123456789ab`;"
    )
    assert once.endswith(f"\n{END}\n\nafter\n")
    assert "stale" not in once


def test_a_page_without_marks_is_left_alone(tmp_path: Path) -> None:
    """It is not for the figures."""
    page = tmp_path / "page.md"
    page.write_text("something else\n")
    file = tmp_path / "report.json"
    write_report(make_report({FLOOR: (100,)}), file)

    with pytest.raises(NoMarks, match=r"page\.md: expected the lines"):
        write_markdown(make_report({FLOOR: (100,)}), page)
    with pytest.raises(SystemExit, match="expected the lines"):
        bench_main.main(["--from", str(file), "--markdown", str(page)])
    assert page.read_text() == "something else\n"


def test_every_table_has_as_many_cells_in_each_row() -> None:
    """Also where a name has a bar in it."""
    line = Line("actors", "a | b", {"x/s": Figure.of("x/s", [1.0, 2.0])}, "x < 2", False)
    text = make_markdown(make_report({FLOOR: (100, 110), HOLDFAST: (50, 55), "peer": (5, 6)}, (line,)))

    tables = [[row for row in part.splitlines() if row.startswith("|")] for part in text.split("\n\n")]
    for table in filter(None, tables):
        assert len({row.replace("\\|", "").count("|") for row in table}) == 1
    assert "| commit | 10 writes | floor | 105 (100 - 110) writes/s |" in text
    assert "| peer | 5.50 (5.00 - 6.00) writes/s |" in text
    assert "| **no** |" in text


def test_the_page_names_every_scenario_and_peer() -> None:
    """What `--scenario` and `--peers` take is what the page explains."""
    text = PAGE.read_text()
    assert BEGIN in text and END in text
    for name in (*EVERY_SCENARIO, *PEERS):
        assert f"`{name}`" in text, name
