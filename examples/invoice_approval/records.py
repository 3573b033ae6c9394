"""The invoice, the events that people send, and what comes out."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

# Above this amount two people must approve.
SECOND_APPROVAL_CENTS: Final = 1_000_00

Outcome: TypeAlias = Literal["approved", "rejected", "expired"]


class Invoice(msgspec.Struct, frozen=True):
    """What somebody wants to be paid."""

    id: str
    supplier: str
    department: str
    cents: int


class Submit(msgspec.Struct, frozen=True):
    """The invoice is ready to be looked at."""

    note: str = ""


class Approve(msgspec.Struct, frozen=True):
    """Somebody is for it."""

    note: str = ""


class Reject(msgspec.Struct, frozen=True):
    """Somebody is against it."""

    reason: str


class Decision(msgspec.Struct, frozen=True):
    """How it ended."""

    outcome: Outcome
    by: tuple[str, ...] = ()
    """Who decided: one or two for an approval, one for a rejection."""
    reason: str = ""
    booking: int | None = None
    """The number in the ledger, of an approved invoice."""
