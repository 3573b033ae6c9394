"""A file that may not grow: the limit that every user can set stands in for a disk that is full."""

from __future__ import annotations

from pathlib import Path

from tests.storage.helpers import ROOT, run_child

CODE = """
import asyncio, resource, sys
from holdfast.storage.errors import StorageFailed
from holdfast.storage.store import Store
from tests.storage.helpers import storage_key, write

async def main():
    store = Store(sys.argv[1], min_free_bytes=0)
    await write(store, {storage_key(b"first"): b"1"})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    stored, failed = [], 0
    for n in range(80):
        try:
            await write(store, {storage_key(b"%d" % n): bytes(50_000)})
            stored.append(n)
        except StorageFailed:
            failed += 1
    assert failed > 0 and stored, (failed, stored)
    assert all(store.get(storage_key(b"%d" % n)) == bytes(50_000) for n in stored)
    await write(store, {storage_key(b"%d" % stored[0]): None})
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await write(store, {storage_key(b"after"): bytes(50_000)})
    await store.close()
    store = Store(sys.argv[1], min_free_bytes=0)
    assert store.get(storage_key(b"first")) == b"1"
    assert len(store.scan_prefix(b"\\x04")) == len(stored) - 1 + 2
    await store.close()
    print("sound", len(stored), failed)

asyncio.run(main())
"""


def test_a_file_that_may_not_grow_fails_cleanly(tmp_path: Path) -> None:
    """Commits beyond the limit fail, nothing durable is harmed, deletes fit, lifting it mends all."""
    child = run_child(CODE, tmp_path / "data", env={"PYTHONPATH": str(ROOT)})
    assert child.returncode == 0, child.stderr
    assert child.stdout.startswith("sound ")
