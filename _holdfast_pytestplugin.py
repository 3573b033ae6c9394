"""The pytest plugin: the fixture `sim`, and the story of a test that failed.

A module of its own beside the package, since pytest imports it at the start of every test run, also of those
that never use Holdfast: it imports nothing but pytest before the fixture is asked for.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from holdfast.testing import Simulation


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line(
        "markers", "simulate(**options): options of the fixture `sim`, those of holdfast.testing.simulate"
    )


@pytest.fixture
def sim(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    """A simulation for a plain `def test_...`; `@pytest.mark.simulate(seed=7)` gives it options."""
    from holdfast.testing import simulate

    node: pytest.Item = request.node
    mark = node.get_closest_marker("simulate")
    arguments: tuple[Any, ...] = () if mark is None else mark.args
    options: dict[str, Any] = {} if mark is None else dict(mark.kwargs)
    with simulate(*arguments, **options) as simulation:  # arguments without a name are refused there
        yield simulation


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what happened in the simulation of a test that failed."""
    report = yield
    if report.when == "call" and report.failed:
        fixtures: dict[str, object] = getattr(item, "funcargs", {})
        story = getattr(fixtures.get("sim"), "story", None)
        if story is not None:
            report.sections.append(("the story of sim", str(story)))
    return report
