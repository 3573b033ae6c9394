"""The bounds of a runtime, each with its name."""

from __future__ import annotations

import msgspec

from ..storage.errors import CallerError
from ..storage.group_commit import MAX_BATCH_BYTES, MAX_BATCH_PUTS, MAX_STAGED_BYTES


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a runtime holds at most.  Errors name the bound that was met."""

    max_active: int = 10_000
    """Activations in memory; beyond it the longest unused leave (more stay only while all are needed)."""
    idle_seconds: float = 60.0
    """An activation leaves memory after so long without a call."""
    max_mailbox: int = 10_000
    """Calls that wait for one actor; beyond it `Overloaded`."""
    max_firing: int = 1_000
    """Alarms being handled at the same time; the others wait on disk."""
    stall_seconds: float | None = 1.0
    """A turn that blocks the loop longer is named in the log; None for no watchdog."""
    max_batch_puts: int = MAX_BATCH_PUTS
    """Keys written by one commit; the loop waits about 1 us for each."""
    max_batch_bytes: int = MAX_BATCH_BYTES
    """Bytes written by one commit."""
    max_staged_bytes: int = MAX_STAGED_BYTES
    """Bytes that wait for the disk; beyond it `Overloaded`."""
    max_history_records: int = 100_000
    """Records of a run's history beyond which it takes no more events; beyond it `Overloaded`."""
    max_audit_records: int = 1_000_000
    """Deeds that the audit keeps; beyond it the oldest go."""
    audit_seconds: float = 34_560_000.0
    """How long the audit keeps a deed: a year and what one needs to look back at it."""
    close_seconds: float = 5.0
    """How long `close` waits for turns that still run."""

    def __post_init__(self) -> None:
        """Raises `CallerError` for a bound that would let nothing through."""
        for name in self.__struct_fields__:
            value: object = getattr(self, name)
            if value is None and name == "stall_seconds":
                continue
            whole = not name.endswith("_seconds")
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                kind = "a whole number" if whole else "a number of seconds"
                raise CallerError(f"Limits.{name} must be {kind}; got {value!r}")
            least = 1 if whole else 0
            if not value >= least or (value == 0 and name != "close_seconds"):
                raise CallerError(
                    f"Limits.{name} must be {'at least 1' if whole else 'more than 0'}; got {value!r}"
                )
