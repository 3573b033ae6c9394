"""Pages of runs: together they are the whole listing, in order, whatever the filter and the size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast import CallerError, RunFilter, Runtime, Workflow
from holdfast.actors.workflow import run_index
from holdfast.testing import Simulation, simulate


class PagedShort(Workflow):
    """Ends at once; odd ones fail."""

    async def run(self, number: int) -> int:
        if number % 2:
            raise ValueError("odd")
        return number


class PagedLong(Workflow):
    """Sleeps."""

    async def run(self, number: int) -> int:
        await self.sleep("100d")
        return number


class PagedOther(Workflow):
    """Never started: an index without entries."""

    async def run(self) -> None: ...


@pytest.fixture(scope="module")
def folder() -> Iterator[Simulation]:
    """Runs of two workflows, tenants and tags, many in the same millisecond."""
    with simulate(types=[PagedShort, PagedLong, PagedOther]) as sim:
        for number in range(60):
            sim.run(
                sim.runtime.start,
                (PagedShort, PagedLong)[number % 3 == 0],
                number,
                id=f"run-{(number * 37) % 60:02}",
                tenant=("acme", "zeta", None)[number % 3],
                tags={"size": "large" if number % 4 else "small"},
            )
            if number % 5 == 0:
                sim.advance("1ms")
        yield sim


FILTERS: dict[str, dict[str, Any]] = {
    "all": {},
    "one workflow": {"workflow": PagedShort},
    "nothing": {"workflow": PagedOther},
    "one status": {"status": "failed"},
    "two statuses": {"status": ["failed", "complete"]},
    "tenant": {"tenant": "acme"},
    "tag": {"tag": ("size", "large")},
    "tag and status": {"tag": ("size", "small"), "status": "waiting"},
    "tag, workflow, tenant": {"tag": ("size", "large"), "workflow": PagedShort, "tenant": "zeta"},
}


def filtered(runtime: Runtime, options: dict[str, Any]) -> RunFilter:
    options = dict(options)
    return runtime.run_filter(options.pop("workflow", None), **options)


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(FILTERS)),
    size=st.integers(1, 70),
    most=st.integers(1, 70),
    reverse=st.booleans(),
)
def test_pages_together_are_the_listing(
    folder: Simulation, name: str, size: int, most: int, reverse: bool
) -> None:
    """Nothing is left out or told twice, however few entries are looked at for a page."""
    runtime = folder.runtime
    wanted = filtered(runtime, FILTERS[name])
    found: list[str] = []
    after: str | None = None
    before, run_index.MAX_LOOKED_AT = run_index.MAX_LOOKED_AT, most  # type: ignore[misc]  # what a busy folder does
    try:
        while True:
            page = runtime.run_page(wanted, limit=size, after=after, reverse=reverse)
            assert len(page.runs) <= min(size, most)
            found += [f"{run.workflow}/{run.id}" for run in page.runs]
            assert len(found) == len({*found}), "told twice"
            assert page.next is None or page.next != after, "the same page again"
            after = page.next
            if after is None:
                break
    finally:
        run_index.MAX_LOOKED_AT = before  # type: ignore[misc]
    listed = runtime.runs(**FILTERS[name], limit=1_000, reverse=reverse)
    assert found == [f"{run.workflow}/{run.id}" for run in listed]
    assert (name == "nothing") == (not found)


def test_a_run_that_changes_its_status_keeps_its_place() -> None:
    """Runs that end, begin and are erased between two pages: the others are listed once."""
    with simulate() as sim:
        for number in range(10):
            sim.run(sim.runtime.start, PagedLong, number, id=f"run-{number}")
            sim.advance("1s")
        wanted = sim.runtime.run_filter(PagedLong)
        page = sim.runtime.run_page(wanted, limit=4)
        assert [run.id for run in page.runs] == [f"run-{number}" for number in range(4)]
        for number in (1, 3, 5):
            sim.run(sim.runtime.run(PagedLong, f"run-{number}").terminate)
        sim.run(sim.runtime.run(PagedLong, "run-3").purge)  # the last one of the page
        sim.run(sim.runtime.start, PagedLong, 10, id="run-x")
        page = sim.runtime.run_page(wanted, limit=100, after=page.next)
        assert [run.id for run in page.runs] == [
            "run-4",
            "run-5",
            "run-6",
            "run-7",
            "run-8",
            "run-9",
            "run-x",
        ]
        assert page.next is None


def test_a_tenant_sees_its_own_pages(folder: Simulation) -> None:
    """Whatever the filter says."""
    wanted = folder.runtime.run_filter(tenant="zeta")
    page = folder.runtime.tenant("acme").run_page(wanted)
    assert {run.tenant for run in page.runs} == {"acme"}


@pytest.mark.parametrize("cursor", ["", "x", "1.2.3", "1.0001.", "é.0001.01", "1.0001.01 ", "1" * 99])
def test_what_is_no_cursor(folder: Simulation, cursor: str) -> None:
    """It is refused with a sentence."""
    with pytest.raises(CallerError, match="a cursor is what the page before gave"):
        folder.runtime.run_page(folder.runtime.run_filter(), after=cursor)
