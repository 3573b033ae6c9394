"""Three invoices, three ways: approved by two, rejected, over the budget."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from holdfast import Runtime

from .approvers import Approvers
from .finance import Budget
from .records import Approve, Invoice, Reject, Submit
from .workflow import InvoiceApproval


async def demo(folder: Path) -> None:
    """Run them on a folder, and print what became of them."""
    approvers = Approvers({"ann": 500_00, "bob": 50_000_00, "carl": 50_000_00})
    async with Runtime(folder, deps=[approvers]) as rt:
        budget = rt.get(Budget, "garden")
        if not await budget.free():
            await budget.grant(10_000_00)
        large = await rt.start(
            InvoiceApproval, Invoice("i-1", "Mills", "garden", 2_500_00), id="i-1", on_conflict="join"
        )
        small = await rt.start(
            InvoiceApproval, Invoice("i-2", "Mills", "garden", 90_00), id="i-2", on_conflict="join"
        )
        huge = await rt.start(
            InvoiceApproval, Invoice("i-3", "Mills", "garden", 40_000_00), id="i-3", on_conflict="join"
        )
        for run in (large, small, huge):
            if (await run.info()).state == "draft":
                await run.send(Submit(), user="dora", id="submit")
        if (await large.info()).status != "complete":
            await large.send(Approve(), user="bob", id="first")
            await large.send(Approve(), user="carl", id="second")
        if (await small.info()).status != "complete":
            await small.send(Reject("paid already"), user="ann", id="first")
        for run in (large, small, huge):
            decision = await run.result()
            print(f"{run.id}  {decision.outcome:<9} {', '.join(decision.by) or '-':<10} {decision.reason}")
        print(f"left of the budget: {await budget.free() / 100:.2f}")


def main() -> None:
    """`python -m holdfast.examples.invoice_approval [FOLDER]`."""
    asyncio.run(demo(Path(sys.argv[1] if len(sys.argv) > 1 else "invoices")))
