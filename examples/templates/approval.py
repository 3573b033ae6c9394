"""An approval: somebody decides within two days; large amounts need two who say yes.

Run it:   python approval.py [FOLDER]
Test it:  pytest approval.py
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from holdfast import Retry, Run, Runtime, Workflow
from holdfast.testing import SimRun, Simulation, simulate

LARGE_CENTS = 100_000


class Invoice(msgspec.Struct):
    """What is to be approved."""

    id: str
    cents: int


class Approve(msgspec.Struct):
    """Somebody says yes."""

    by: str


class Reject(msgspec.Struct):
    """Somebody says no."""

    by: str
    reason: str


# -- the steps: plain functions; put your own work here ------------------------------------------------------


async def ask(invoice: Invoice) -> None:
    """Tell those who may decide.  After a crash they may be told once more."""


async def pay(invoice: Invoice) -> None:
    """What an approval is for; give the bank the invoice's id, so that it pays once."""


# -- the workflow --------------------------------------------------------------------------------------------


class Approval(Workflow):
    """submitted -> approved, rejected or expired."""

    retry = Retry(5, "1s")
    events = Approve | Reject
    states = {"": ("submitted",), "submitted": ("approved", "rejected", "expired")}

    async def run(self, invoice: Invoice) -> str:
        """Wait for as many as are needed; they may answer while the process is down for a while, too."""
        self.set_status("submitted")
        await self.step(ask, invoice)
        needed = 2 if invoice.cents > LARGE_CENTS else 1
        approved_by: set[str] = set()
        try:
            async with asyncio.timeout(2 * 86_400):
                while len(approved_by) < needed:
                    decision = await self.wait(Approve, Reject)
                    if isinstance(decision, Reject):
                        self.set_status("rejected")
                        return f"rejected by {decision.by}: {decision.reason}"
                    approved_by.add(decision.by)
        except TimeoutError:
            self.set_status("expired")
            return "nobody decided in time"
        await self.step(pay, invoice)
        self.set_status("approved")
        return f"approved by {', '.join(sorted(approved_by))}"


async def main(folder: str) -> None:
    """Three invoices; the last one needs two approvals.  Run again, it tells what came of them."""
    async with Runtime(folder) as rt:
        for invoice, decisions in (
            (Invoice("i-1", 900), [Approve("ann")]),
            (Invoice("i-2", 900), [Reject("bob", "not ours")]),
            (Invoice("i-3", 900_000), [Approve("ann"), Approve("bob")]),
        ):
            run: Run[str] = await rt.start(Approval, invoice, id=invoice.id, on_conflict="join")
            if await run.status() != "complete":
                for decision in decisions:
                    await run.send(decision, user=decision.by)
            print(invoice.id, await run.result())


# -- tests: virtual time, so two days pass at once -----------------------------------------------------------


def decide(sim: Simulation, run: SimRun[str], *decisions: Approve | Reject) -> None:
    """Send decisions to a run."""

    async def send() -> None:
        for decision in decisions:
            await sim.runtime.run(Approval, run.id).send(decision)

    sim.run(send)


def test_one_approval_is_enough() -> None:
    """For a small amount."""
    with simulate() as sim:
        run = sim.start(Approval, Invoice("i", 900), id="i")
        decide(sim, run, Approve("ann"))
        assert sim.result(run) == "approved by ann"
        assert sim.attempts("pay") == 1


def test_a_large_amount_needs_two() -> None:
    """Two who say yes, not one who says it twice."""
    with simulate() as sim:
        run = sim.start(Approval, Invoice("i", 900_000), id="i")
        decide(sim, run, Approve("ann"), Approve("ann"))
        sim.advance("1d")
        assert sim.attempts("pay") == 0
        decide(sim, run, Approve("bob"))
        assert sim.result(run) == "approved by ann, bob"


def test_a_rejection_and_a_silence() -> None:
    """Nothing is paid in either case."""
    with simulate() as sim:
        run = sim.start(Approval, Invoice("i", 900), id="i")
        decide(sim, run, Reject("bob", "not ours"))
        assert sim.result(run) == "rejected by bob: not ours"
        assert sim.result(sim.start(Approval, Invoice("j", 900), id="j")) == "nobody decided in time"
        assert sim.attempts("pay") == 0


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "approval-data"))
