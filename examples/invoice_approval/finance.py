"""The actors that money goes through: each change is a transaction, each call of a run happens once."""

from __future__ import annotations

import msgspec

from holdfast import Actor, shared


class Budget(Actor):
    """What a department may still spend; keyed by the department."""

    cents: int = 0
    reserved: dict[str, int] = {}

    async def grant(self, cents: int) -> int:
        """Give it money; returns what is free."""
        self.cents += cents
        return self.free_cents()

    async def reserve(self, invoice: str, cents: int) -> bool:
        """Put money aside for an invoice; False when there isn't enough."""
        if invoice in self.reserved:
            return True
        if cents > self.free_cents():
            return False
        self.reserved[invoice] = cents
        return True

    async def release(self, invoice: str) -> None:
        """Give back what was put aside."""
        self.reserved.pop(invoice, None)

    async def spend(self, invoice: str) -> None:
        """What was put aside is spent."""
        self.cents -= self.reserved.pop(invoice)

    @shared
    async def free(self) -> int:
        """What is neither spent nor put aside."""
        return self.free_cents()

    def free_cents(self) -> int:
        """The same, within a turn."""
        return self.cents - sum(self.reserved.values())


class Booking(msgspec.Struct):
    """A line of the ledger."""

    number: int
    invoice: str
    cents: int


class Ledger(Actor):
    """Bookings, numbered without gaps."""

    last: int = 0

    async def book(self, invoice: str, cents: int) -> int:
        """Enter an invoice; returns its number."""
        self.last += 1
        self.storage.table(Booking, key="number").put(Booking(self.last, invoice, cents))
        return self.last

    @shared
    async def bookings(self) -> list[Booking]:
        """All lines in order."""
        return list(self.storage.table(Booking, key="number").select(limit=1_000))


class Outbox(Actor):
    """Reminders that were sent; keyed by the invoice."""

    sent: list[str] = []

    async def send(self, text: str) -> int:
        """Send one; returns how many that are."""
        self.sent.append(text)
        return len(self.sent)

    @shared
    async def all(self) -> list[str]:
        """What was sent."""
        return self.sent
