"""The store: how large it is, what lies in it, and a check of all of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response

from ...storage.check import MAX_PROBLEMS, check
from ...storage.environment import DATA_NAME
from ...storage.errors import Overloaded
from ..bodies import Form
from .guard import Guard, see
from .sessions import Session
from .shell import base_of

if TYPE_CHECKING:
    from ...actors.system import Runtime

_SHOWN_PROBLEMS: Final = 20


class StorePage:
    """The page."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard
        self._checking = False

    async def show(self, request: Request, session: Session) -> Response:
        """Sizes and counts."""
        session.caller.must_be_nobodys("the store")
        store = self._runtime.store
        environment = store.environment
        stat, info = environment.lmdb.stat(), environment.lmdb.info()
        file_bytes = _size_of(Path(environment.path, DATA_NAME))
        told = {
            "title": "Store",
            "path": str(environment.path),
            "file_bytes": file_bytes,
            "used_bytes": store.space.used_bytes,
            "free_bytes": store.space.free_bytes,
            "quota_bytes": store.quota_bytes,
            "map_bytes": info["map_size"],
            "readers": info["num_readers"],
            "entries": stat["entries"],
            "depth": stat["depth"],
            "pages": (stat["branch_pages"], stat["leaf_pages"], stat["overflow_pages"]),
            "durable": store.durable,
            "staged": store.newest - store.durable,
            "staged_bytes": store.group_commit.staged_bytes,
            "failures": self._runtime.failures,
            "in_memory": len(self._runtime.directory),
            "most_in_memory": self._runtime.limits.max_active,
            "long_reader": environment.long_reader,
            "metrics": self._runtime.metrics(),
        }
        return self._guard.shell.page(request, "store.html", session, told)

    async def check(self, request: Request, session: Session, form: Form) -> Response:
        """Read all of it in a thread; one check at a time."""
        session.caller.must_be_nobodys("the store")
        if self._checking:
            raise Overloaded("a check goes on already; wait for its end")
        self._checking = True
        try:
            found = await anyio.to_thread.run_sync(check, self._runtime.store.environment)
        finally:
            self._checking = False
        if found:
            count = f"at least {len(found)}" if len(found) >= MAX_PROBLEMS else str(len(found))
            session.tell(f"{count} problems: " + "; ".join(map(str, found[:_SHOWN_PROBLEMS])), bad=True)
        else:
            session.tell("The check read all of it and found nothing wrong.")
        return see(f"{base_of(request)}/store")


def _size_of(file: Path) -> int:
    """As the file system has it in memory: no wait."""
    return file.stat().st_size
