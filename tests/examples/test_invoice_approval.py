"""The invoice of examples/invoice_approval: every branch, every crash, and the audit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast import RunFailed
from holdfast.examples.invoice_approval.approvers import Approvers
from holdfast.examples.invoice_approval.finance import Budget, Ledger, Outbox
from holdfast.examples.invoice_approval.records import Approve, Decision, Invoice, Reject, Submit
from holdfast.examples.invoice_approval.workflow import InvoiceApproval
from holdfast.testing import SimRun, Simulation, simulate

APPROVERS = Approvers({"ann": 500_00, "bob": 50_000_00, "carl": 50_000_00})
SMALL = Invoice("i", "Mills", "garden", 90_00)
LARGE = Invoice("i", "Mills", "garden", 2_500_00)


def begin(sim: Simulation, invoice: Invoice, *, submit: bool = True) -> SimRun[Decision]:
    """A budget, an invoice, and who submitted it."""
    grant(sim)
    run = sim.start(InvoiceApproval, invoice, id="i")
    if submit:
        sim.send_event(run, Submit(), user="dora")
    return run


def grant(sim: Simulation) -> None:
    if free(sim) == 0:
        sim.run(sim.get(Budget, "garden").grant, 10_000_00)


def free(sim: Simulation) -> int:
    return sim.run(sim.get(Budget, "garden").free)


def test_a_small_invoice_needs_one_approval() -> None:
    """Booked, paid from the budget, and its states and progress tell the way."""
    with simulate(deps=[APPROVERS]) as sim:
        run = begin(sim, SMALL)
        sim.send_event(run, Approve(), user="ann")
        assert sim.result(run) == Decision("approved", ("ann",), booking=1)
        assert free(sim) == 10_000_00 - 90_00
        [booking] = sim.run(sim.get(Ledger, "ledger").bookings)
        assert (booking.invoice, booking.cents) == ("i", 90_00)
        assert [one.name for one in sim.progress(run)] == ["submitted", "approved", "approved"]
        [info] = sim.runtime.runs(state="approved", tag=("department", "garden"))
        assert info.id == "i"
        assert sim.journal(run).count("state") == 3


def test_a_large_invoice_needs_two_people() -> None:
    """The same person twice doesn't count, nor the one who submitted it, nor one without the right."""
    with simulate(deps=[APPROVERS]) as sim:
        run = begin(sim, LARGE)
        for user in ("dora", "ann", "bob", "bob", None, "carl"):
            sim.send_event(run, Approve(), user=user)
        assert sim.result(run) == Decision("approved", ("bob", "carl"), booking=1)
        refused = [one.data for one in sim.progress(run) if one.name == "approval refused"]
        assert [one["by"] for one in refused] == ["dora", "ann", "bob", ""]  # type: ignore[index]


def test_a_rejection_gives_the_budget_back() -> None:
    """Also after the first of two approvals."""
    with simulate(deps=[APPROVERS]) as sim:
        run = begin(sim, LARGE)
        sim.send_event(run, Approve(), user="bob")
        sim.settle()
        assert free(sim) == 10_000_00 - 2_500_00
        [info] = sim.runtime.runs(state="approved once")
        assert info.id == "i"
        sim.send_event(run, Reject("too dear"), user="carl")
        assert sim.result(run) == Decision("rejected", ("carl",), "too dear")
        assert free(sim) == 10_000_00


@pytest.mark.parametrize(
    ("invoice", "reason"),
    [
        (Invoice("i", "", "garden", 5), "names its supplier"),
        (Invoice("i", "Mills", "garden", 0), "more than nothing"),
        (Invoice("i", "Mills", "garden", 20_000_00), "budget of garden"),
        (Invoice("i", "Mills", "garden", 60_000_00), ""),
    ],
)
def test_a_check_that_fails_rejects_the_invoice(invoice: Invoice, reason: str) -> None:
    """Whichever of the three it is, nothing stays reserved."""
    with simulate(deps=[APPROVERS]) as sim:
        run = begin(sim, invoice)
        decision = sim.result(run)
        assert decision.outcome == "rejected"
        assert reason in decision.reason
        assert free(sim) == 10_000_00


def test_a_draft_that_nobody_submits_expires() -> None:
    """After thirty days."""
    with simulate(deps=[APPROVERS]) as sim:
        run = begin(sim, SMALL, submit=False)
        sim.advance("29d")
        assert sim.status(run) == "waiting"
        sim.advance("2d")
        assert sim.result(run).outcome == "expired"


def test_nobody_decides_a_reminder_and_then_expired() -> None:
    """A week, one reminder, another week; the money is free again."""
    with simulate(deps=[APPROVERS]) as sim:
        run = begin(sim, SMALL)
        sim.advance("8d")
        assert sim.call(Outbox, "i").all() == ["invoice i waits for you"]
        assert sim.status(run) == "waiting"
        sim.advance("7d")
        assert sim.result(run) == Decision("expired", reason="nobody decided")
        assert free(sim) == 10_000_00
        assert len(sim.run(sim.get(Outbox, "i").all)) == 1


def test_a_late_approval_after_the_reminder_counts() -> None:
    """The second week is as good as the first."""
    with simulate(deps=[APPROVERS]) as sim:
        run = begin(sim, SMALL)
        sim.advance("10d")
        sim.send_event(run, Approve(), user="ann")
        assert sim.result(run).outcome == "approved"


def test_an_approval_before_the_submit_is_kept() -> None:
    """Somebody was fast: it counts when its turn has come."""
    with simulate(deps=[APPROVERS]) as sim:
        run = begin(sim, SMALL, submit=False)
        sim.send_event(run, Approve(), user="ann")
        sim.send_event(run, Submit(), user="dora")
        assert sim.result(run).outcome == "approved"


def test_a_cancel_gives_the_money_back_and_is_in_the_audit() -> None:
    """Compensation: the reserved budget is undone; who cancelled is known."""
    with simulate(deps=[APPROVERS]) as sim:
        run = begin(sim, SMALL)
        sim.settle()
        assert free(sim) == 10_000_00 - 90_00
        sim.cancel(run, "a duplicate")
        with pytest.raises(RunFailed, match="a duplicate"):
            sim.result(run)
        assert free(sim) == 10_000_00
        [deed] = sim.runtime.audit()
        assert (deed.verb, deed.target, deed.reason) == ("cancel", "InvoiceApproval/i", "a duplicate")


def test_two_people_at_once_and_a_crash_at_every_commit() -> None:
    """Whatever commit the process dies at: booked once, paid once, the same decision."""
    with simulate(deps=[APPROVERS]) as sim:
        calm = _two_people(sim)
        commits = sim.commits
    for n in range(1, commits + 1):
        for when in ("before", "after"):
            with simulate(deps=[APPROVERS]) as sim:
                grant(sim)
                sim.crash_at("commit", n, when)
                assert _two_people(sim) == calm, (n, when)


def _two_people(sim: Simulation) -> tuple[Decision, object, int, list[str]]:
    run = begin(sim, LARGE)
    sim.send_event(run, Approve(), user="bob")
    sim.send_event(run, Approve(), user="carl")
    decision = sim.result(run)
    sim.run_until_idle()
    bookings = sim.run(sim.get(Ledger, "ledger").bookings)
    return decision, free(sim), len(bookings), [one.name for one in sim.progress(run)]


def test_the_demo_runs_and_runs_again(tmp_path: Path) -> None:
    """Three invoices, three ways; the second time nothing is done twice."""
    command = [sys.executable, "-m", "holdfast.examples.invoice_approval", str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for _ in range(2):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, env=environment
        )
        lines = done.stdout.splitlines()
        assert lines[0].split()[:4] == ["i-1", "approved", "bob,", "carl"]
        assert lines[1].split()[:3] == ["i-2", "rejected", "ann"]
        assert "budget of garden" in lines[2]
        assert lines[3] == "left of the budget: 7500.00"
