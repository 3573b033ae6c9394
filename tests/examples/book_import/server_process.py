"""A server of the import in a process of its own, that can be killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter as Tally
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.examples.book_import.book_server import BookServer

ROOT = Path(__file__).parents[3]
WAIT_SECONDS = 30.0


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Server:
    """A server in a process of its own, that can be killed and started again on its folder and port."""

    def __init__(
        self, tmp_path: Path, books: BookServer, code: str | None = None, *arguments: object
    ) -> None:
        self.folder = tmp_path / "store"
        self.oracle = tmp_path / "oracle"
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        settings = books.settings
        self._env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "BOOK_IMPORT_GOOGLE_BOOKS_URL": settings.google_books_url,
            "BOOK_IMPORT_ISBNDB_URL": settings.isbndb_url,
            "BOOK_IMPORT_ISBNDB_KEY": "isbndb-key",
            "BOOK_IMPORT_OPENLIBRARY_URL": settings.openlibrary_url,
            "BOOK_IMPORT_ALLOW_LOOPBACK": "true",
            "BOOK_IMPORT_IMPORTS_PER_MINUTE": "1000",
        }
        begin = (
            ["-m", "holdfast.examples.book_import"] if code is None else ["-c", code, *map(str, arguments)]
        )
        self._command = [
            sys.executable, *begin, str(self.folder), "--port", str(self.port), "--oracle", str(self.oracle),
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin a process."""
        log = (self.folder.parent / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen(self._command, env=self._env, stdout=log, stderr=log)

    async def until_ready(self) -> None:
        """Return when it answers."""
        async with asyncio.timeout(WAIT_SECONDS), httpx2.AsyncClient(trust_env=False) as client:
            while True:
                try:
                    await client.get(f"{self.base}/v2/import/status/none")
                    return
                except httpx2.TransportError:
                    await asyncio.sleep(0.05)

    def kill(self) -> None:
        """As the system does it when it must."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def until_dead(self) -> None:
        """Return when it has died by itself; raises when it didn't by SIGKILL."""
        assert self._process is not None
        assert await asyncio.to_thread(self._process.wait, WAIT_SECONDS) == -signal.SIGKILL

    def steps(self) -> Tally[str]:
        """How often each step's body began."""
        return Tally(line.split()[1] for line in self.oracle.read_text().splitlines())


@contextmanager
def server_process(
    tmp_path: Path, books: BookServer, code: str | None = None, *arguments: object
) -> Iterator[Server]:
    """A server that is gone with the test."""
    server = Server(tmp_path, books, code, *arguments)
    server.start()
    try:
        yield server
    finally:
        server.kill()
