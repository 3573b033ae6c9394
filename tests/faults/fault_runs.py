"""The child of test_failing_calls.py: runs with the shim loaded, one folder for each case, results as JSON
lines.

python -m tests.faults.fault_runs <folder> <commits> <kinds> <error> <lasting> <write first> <nth> [<nth> ...]
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import sys
from pathlib import Path

from holdfast.storage.check import check
from holdfast.storage.errors import StorageClosed, StorageFailed
from holdfast.storage.store import Store
from tests.storage.helpers import storage_key

KEYS = [storage_key(b"%d" % n) for n in range(3)]


async def run_case(
    shim: ctypes.CDLL, path: Path, commits: int, fault: tuple[int, int, int, int, int]
) -> dict[str, object]:
    """Commit turn after turn while one call fails; what was told, and what is there after reopening."""
    broken: list[str] = []
    store = Store(path, min_free_bytes=0, on_broken=lambda error: broken.append(str(error)))
    await store.wait_durable(store.stage(write_set(0)))
    acknowledged = [0]
    failed: list[int] = []
    stale: list[object] = []
    refused = ""
    shim.fault_arm(*fault)
    for turn in range(1, commits + 1):
        try:
            number = store.stage(write_set(turn))
            behind = store.stage({storage_key(b"behind"): b"%d" % turn})  # shares the commit, and its fate
            results = await asyncio.gather(
                store.wait_durable(number), store.wait_durable(behind), return_exceptions=True
            )
        except StorageClosed as error:
            refused = str(error)
            break
        if all(result is None for result in results):
            acknowledged.append(turn)
            continue
        assert all(isinstance(result, StorageFailed) for result in results), results
        failed.append(turn)
        try:
            seen = [store.get(key) for key in KEYS]
        except StorageClosed:
            seen = []  # the store closed itself
        if seen and seen != [b"%d" % acknowledged[-1]] * 3:
            stale.append([turn, str(seen)])
    shim.fault_disarm()
    fired, calls = shim.fault_fired(), shim.fault_seen()
    if broken:
        store.abandon(StorageClosed("given up"))
    else:
        await store.close()
    store = Store(path, min_free_bytes=0)
    found = [store.get(key) for key in KEYS]
    behind_value = store.get(storage_key(b"behind"))
    await store.wait_durable(store.stage(write_set(commits + 1)))
    again = [store.get_durable(key) for key in KEYS]
    await store.close()
    return {
        "fired": fired,
        "calls": calls,
        "acknowledged": acknowledged,
        "failed": failed,
        "stale": stale,
        "broken": broken,
        "refused": refused,
        "found": sorted({int(value or b"-1") for value in found}),
        "behind": int(behind_value or b"0"),
        "goes_on": again == [b"%d" % (commits + 1)] * 3,
        "problems": [problem.text for problem in check(path) if problem.kind != "orphan"],
    }


def write_set(turn: int) -> dict[bytes, bytes | None]:
    """The turn under three keys, with enough beside it that a commit writes several pages."""
    writes: dict[bytes, bytes | None] = dict.fromkeys(KEYS, b"%d" % turn)
    writes[storage_key(b"pad%04d" % turn)] = bytes(3000)
    writes[storage_key(b"pad%04d" % (turn - 3))] = None
    return writes


async def main() -> None:
    """All cases of the command line."""
    folder, commits, kinds, error, lasting, write_first, *nths = sys.argv[1:]
    shim = ctypes.CDLL(None)  # the shim was loaded before
    for nth in nths:
        path = Path(folder) / f"case{nth}"
        case = await run_case(
            shim, path, int(commits), (int(kinds), int(nth), int(error), int(lasting), int(write_first))
        )
        sys.stdout.write(json.dumps(case) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
