"""What the pages point at is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    """A relative link leads to a file of the checkout."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_files_named_in_the_architecture() -> None:
    """Files of ARCHITECTURE.md exist; one without a folder stands beside the one before."""
    folder = ROOT
    for line in (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines():
        if "File (`actors/workflow/`)" in line:
            folder = ROOT / "actors" / "workflow"
        for name in re.findall(r"`([\w/]+\.py)`", line):
            places = [ROOT / name, ROOT / "tests" / name, folder / name, ROOT / "actors" / "workflow" / name]
            found = next((place for place in places if place.exists()), None)
            assert found is not None, name
            folder = found.parent
