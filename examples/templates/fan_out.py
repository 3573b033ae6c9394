"""Fan-out: one step for each item, side by side, then one that takes all results.

Run it:   python fan_out.py [FOLDER]
Test it:  pytest fan_out.py
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from holdfast import Retry, Runtime, StepError, Workflow
from holdfast.testing import simulate

BATCH = 10  # items at the same time


class Report(msgspec.Struct):
    """What came of all items."""

    total: int
    failed: list[str]


# -- the steps: plain functions; put your own work here ------------------------------------------------------


async def measure(item: str) -> int:
    """The work for one item."""
    return len(item)


async def save(report: Report) -> None:
    """What is done with all results.  After a crash it may run once more."""


# -- the workflow --------------------------------------------------------------------------------------------


class FanOut(Workflow):
    """Measure all items, a batch at a time; an item that can't be measured is told and spoils nothing."""

    retry = Retry(2, "1s")

    async def run(self, items: list[str]) -> Report:
        """Each item has its place in the results, whichever is done first."""
        report = Report(0, [])
        for begin in range(0, len(items), BATCH):
            batch = items[begin : begin + BATCH]
            sizes = await asyncio.gather(*(self.measure_one(item) for item in batch))
            for item, size in zip(batch, sizes, strict=True):
                if size is None:
                    report.failed.append(item)
                else:
                    report.total += size
        await self.step(save, report)
        return report

    async def measure_one(self, item: str) -> int | None:
        """One branch; None when its step failed for good."""
        try:
            return await self.step(measure, item, timeout="10s")
        except StepError:
            return None


async def main(folder: str) -> None:
    """Fifty items.  Run again on the same folder it answers from there."""
    async with Runtime(folder) as rt:
        items = [f"item {number}" for number in range(50)]
        run = await rt.start(FanOut, items, id="fifty", on_conflict="join")
        report = await run.result()
        print(f"total {report.total}, failed {len(report.failed)}")


# -- tests: virtual time, so no retry is waited for ----------------------------------------------------------


def test_all_items_are_measured() -> None:
    """Each once."""
    with simulate() as sim:
        items = [f"{number:03}" for number in range(25)]
        assert sim.result(sim.start(FanOut, items, id="r")) == Report(75, [])
        assert sim.attempts("measure") == 25


def test_an_item_that_fails_spoils_nothing() -> None:
    """It is named in the report."""

    async def refuse(item: str) -> int:
        if item == "bad":
            raise ValueError("this one can't be measured")
        return len(item)

    with simulate() as sim:
        sim.mock_step("measure", refuse)
        assert sim.result(sim.start(FanOut, ["good", "bad", "fine"], id="r")) == Report(8, ["bad"])


def test_a_crash_keeps_what_is_done() -> None:
    """What was recorded is not measured again."""
    with simulate() as sim:
        sim.crash_at(step="save")
        assert sim.result(sim.start(FanOut, ["a", "bb"], id="r")).total == 3
        assert sim.attempts("measure") == 2


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "fan-out-data"))
