"""actors/audit.py: what is kept of deeds, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import CallerError, Limits, Runtime, Workflow
from holdfast.runtime.clock import ManualClock
from holdfast.storage import layout
from holdfast.storage.check import check


class AuditedNap(Workflow):
    async def run(self) -> None:
        await self.sleep("1d")


def verbs(rt: Runtime) -> list[str]:
    return [deed.verb for deed in rt.audit()]


async def _deeds(rt: Runtime, count: int) -> None:
    run = await rt.start(AuditedNap, id=f"r{count}-{rt.store.newest}")
    for n in range(count):
        await (run.resume if n % 2 else run.pause)(by="ann", reason=str(n))


async def test_the_newest_are_kept_when_there_are_too_many(folder: Path) -> None:
    """Beyond `max_audit_records` each deed takes the oldest away, over restarts too."""
    for _ in range(2):
        async with Runtime(folder, limits=Limits(max_audit_records=3)) as rt:
            await _deeds(rt, 5)
            assert [deed.reason for deed in rt.audit()] == ["4", "3", "2"]
            assert int.from_bytes(rt.store.get(layout.META_AUDIT) or b"", "big") == 3
    assert check(folder) == []
    async with Runtime(folder, limits=Limits(max_audit_records=2)) as rt:  # a bound that became less
        await _deeds(rt, 2)
        assert [deed.reason for deed in rt.audit()] == ["1", "0"]


async def test_old_ones_go(folder: Path) -> None:
    """Older than `audit_seconds`, up to two with each deed."""
    clock = ManualClock()
    async with Runtime(folder, clock=clock, limits=Limits(audit_seconds=100)) as rt:
        await _deeds(rt, 3)
        clock.advance(101)
        await _deeds(rt, 1)
        assert [deed.reason for deed in rt.audit()] == ["0", "2"]
        await _deeds(rt, 1)
        assert [deed.reason for deed in rt.audit()] == ["0", "0"]


async def test_a_folder_without_the_count_is_counted_once(folder: Path) -> None:
    """One that was written before there was a count."""
    async with Runtime(folder) as rt:
        await _deeds(rt, 4)
        rt.store.stage({layout.META_AUDIT: None})
    async with Runtime(folder, limits=Limits(max_audit_records=4)) as rt:
        await _deeds(rt, 1)
        assert [deed.reason for deed in rt.audit()] == ["0", "3", "2", "1"]


async def test_pages_go_on_behind_the_last_deed(folder: Path) -> None:
    """Also when deeds came meanwhile."""
    async with Runtime(folder) as rt:
        await _deeds(rt, 5)
        first = rt.audit(limit=2)
        await _deeds(rt, 1)
        second = rt.audit(limit=2, after=first[-1].cursor)
        third = rt.audit(limit=2, after=second[-1].cursor)
        assert [deed.reason for deed in (*first, *second, *third)] == ["4", "3", "2", "1", "0"]
        with pytest.raises(CallerError, match="`after` is the cursor of a deed; got 'x'"):
            rt.audit(after="x")
        with pytest.raises(CallerError):
            rt.audit(after="ab" * 1_000)
