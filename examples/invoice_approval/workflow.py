"""`InvoiceApproval`: from the draft to the decision.

    wait Submit                          else expired
    validate | check-budget | verify-approver    in parallel; one that fails rejects the invoice
    wait Approve | Reject                a reminder after a week, expired after another
    (again above the limit, somebody else)
    Ledger.book, Budget.spend            calls of run(): exactly once

The budget is reserved by a step that can be undone: whatever ends the run badly (a cancel, its deadline, a
mistake) gives the money back.  A rejection is no failure, so it gives it back by itself.
"""

from __future__ import annotations

from typing import Final

from holdfast import Event, Fatal, Retry, StepError, Workflow

from .approvers import Approvers
from .finance import Budget, Ledger, Outbox
from .records import SECOND_APPROVAL_CENTS, Approve, Decision, Invoice, Outcome, Reject, Submit

DRAFT_TIME: Final = "30d"
DECISION_TIME: Final = "7d"


class InvoiceApproval(Workflow):
    """One invoice; the run's id is the invoice's."""

    retry = Retry(3, "1s", "exponential")
    deadline = "90d"
    events = (Submit, Approve, Reject)
    states = {
        "": ("draft",),
        "draft": ("submitted", "expired"),
        "submitted": ("approved", "rejected", "expired", "approved once"),
        "approved once": ("approved", "rejected", "expired"),
    }

    async def run(self, invoice: Invoice) -> Decision:
        """The whole way."""
        self.set_status("draft")
        self.tags["department"] = invoice.department
        try:
            submitted = await self.wait_event(Submit, timeout=DRAFT_TIME)
        except TimeoutError:
            return self._end("expired", reason="never submitted")
        self.set_status("submitted")
        self.data["submitted by"] = submitted.user
        self.emit("submitted", {"by": submitted.user})
        problem = await self._check(invoice)
        if problem is not None:
            await self.runtime.get(Budget, invoice.department).release(invoice.id)
            return self._end("rejected", reason=problem)
        return await self._decide(invoice, submitted.user)

    async def _check(self, invoice: Invoice) -> str | None:
        """Three checks side by side; the first problem, None when all is well."""
        try:
            async with self.group() as checks:
                checks.step(validate, invoice)
                checks.step(self.reserve_budget, invoice, name="check-budget", undo=self.release_budget)
                checks.step(self.verify_approver, invoice.cents, name="verify-approver")
        except StepError as error:
            return error.cause.message
        return None

    async def _decide(self, invoice: Invoice, submitter: str | None) -> Decision:
        """One approval, two above the limit; or a rejection, or too much time."""
        wanted = 2 if invoice.cents > SECOND_APPROVAL_CENTS else 1
        approvals: list[str] = []
        while len(approvals) < wanted:
            event = await self._next_decision(invoice)
            if event is None:
                await self.runtime.get(Budget, invoice.department).release(invoice.id)
                return self._end("expired", reason="nobody decided")
            who = event.user or ""
            if isinstance(event.payload, Reject):
                await self.runtime.get(Budget, invoice.department).release(invoice.id)
                return self._end("rejected", by=(who,), reason=event.payload.reason)
            problem = await self.step(self.look_at_approver, who, submitter, approvals, invoice.cents)
            if problem is not None:
                self.emit("approval refused", {"by": who, "why": problem})
                continue
            approvals.append(who)
            self.emit("approved", {"by": who, "count": len(approvals)})
            if len(approvals) < wanted:
                self.set_status("approved once")
        booking = await self.runtime.get(Ledger, "ledger").book(invoice.id, invoice.cents)
        await self.runtime.get(Budget, invoice.department).spend(invoice.id)
        return self._end("approved", by=tuple(approvals), booking=booking)

    async def _next_decision(self, invoice: Invoice) -> Event[Approve] | Event[Reject] | None:
        """What somebody decided; None when nobody did, also after a reminder."""
        try:
            return await self.wait_event(Approve, Reject, timeout=DECISION_TIME)
        except TimeoutError:
            self.emit("reminded")
        await self.step(self.remind, invoice.id).optional(None)
        try:
            return await self.wait_event(Approve, Reject, timeout=DECISION_TIME)
        except TimeoutError:
            return None

    def _end(
        self, outcome: Outcome, *, by: tuple[str, ...] = (), reason: str = "", booking: int | None = None
    ) -> Decision:
        self.set_status(outcome)
        self.emit(outcome, {"by": by, "reason": reason})
        return Decision(outcome, by, reason, booking)

    # -- steps: outside of what is replayed ----------------------------------------------------------------

    async def reserve_budget(self, invoice: Invoice) -> Invoice:
        """Put the money aside; `Fatal` when there isn't enough."""
        if not await self.runtime.get(Budget, invoice.department).reserve(invoice.id, invoice.cents):
            raise Fatal(f"the budget of {invoice.department} has less than {invoice.cents} cents left")
        return invoice

    async def release_budget(self, invoice: Invoice) -> None:
        """Take that back."""
        await self.runtime.get(Budget, invoice.department).release(invoice.id)

    def verify_approver(self, cents: int) -> None:
        """Is there anybody who may approve so much?"""
        if not self.runtime.deps.get(Approvers).any_for(cents):
            raise Fatal(f"nobody may approve {cents} cents")

    def look_at_approver(self, who: str, submitter: str | None, before: list[str], cents: int) -> str | None:
        """Why this person's approval doesn't count; None when it does."""
        if who == submitter:
            return "nobody approves what they submitted"
        if who in before:
            return "the second approval must be somebody else's"
        if not self.runtime.deps.get(Approvers).may_approve(who, cents):
            return f"{who or 'nobody'} may not approve {cents} cents"
        return None

    async def remind(self, invoice: str) -> None:
        """Write to those who could decide."""
        await self.runtime.get(Outbox, invoice).send(f"invoice {invoice} waits for you")


def validate(invoice: Invoice) -> None:
    """Is it an invoice at all?"""
    if invoice.cents <= 0:
        raise Fatal(f"an invoice is for more than nothing; got {invoice.cents} cents")
    if not invoice.supplier:
        raise Fatal("an invoice names its supplier")
