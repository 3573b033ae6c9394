"""Who may approve what.  An application has this somewhere already; here it is a table."""

from __future__ import annotations

from collections.abc import Mapping


class Approvers:
    """People by name, with the highest amount in cents that each may approve."""

    def __init__(self, limits: Mapping[str, int]) -> None:
        self._limits = dict(limits)

    def any_for(self, cents: int) -> bool:
        """Whether anybody may approve so much."""
        return any(limit >= cents for limit in self._limits.values())

    def may_approve(self, name: str | None, cents: int) -> bool:
        """Whether this person may."""
        return name is not None and self._limits.get(name, -1) >= cents
