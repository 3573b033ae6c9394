"""A service in a process of its own, which is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn

from holdfast import Retry, Runtime, Workflow
from holdfast.service import Token, http_app

TOKEN = Token("operator-operator-1", "otto", "operator")
WAIT_SECONDS = 60
# Not `-m`: the classes must be those of the module that tests import.
_CODE = """
import asyncio, sys
from {} import serve
asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
"""


class ServedSteps(Workflow):
    """Some steps, one of which fails at first."""

    retry = Retry(3, delay="5ms", backoff="constant")

    async def run(self, steps: int) -> int:
        for n in range(steps):
            await self.step(_work, n, name=f"step-{n}")
            self.emit("done", n)
        return steps


class ServedFailure(Workflow):
    retry = Retry(0)

    async def run(self) -> None:
        await self.step(_fail)


class ServedWaits(Workflow):
    async def run(self) -> str:
        event = await self.wait("go")
        return f"went by {event.user}"


_failed: set[int] = set()


async def _work(n: int) -> int:
    await asyncio.sleep(0.002)
    if n == 1 and n not in _failed:
        _failed.add(n)
        raise OSError("at first")
    return n


def _fail() -> None:
    raise ValueError("no good")


async def serve(folder: str, port: int) -> None:
    """Serve a folder until the process is killed."""
    async with Runtime(folder) as rt:
        app = http_app(rt, tokens=[TOKEN])
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="critical", lifespan="off")
        await uvicorn.Server(config).serve()


class ServerProcess:
    """The process, started again under the same address after each kill."""

    def __init__(self, folder: Path, module: str = "tests.client.server") -> None:
        self._folder = folder
        self._module = module
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Return when it answers."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CODE.format(self._module), str(self._folder), str(self.port)
        )
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                assert self._process.returncode is None
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.01)
                    continue
                writer.close()
                await writer.wait_closed()
                return

    async def kill(self) -> None:
        """As a power cut does it to a process."""
        assert self._process is not None
        if self._process.returncode is None:
            os.kill(self._process.pid, signal.SIGKILL)
        await self._process.wait()


@asynccontextmanager
async def server_process(folder: Path, module: str = "tests.client.server") -> AsyncIterator[ServerProcess]:
    """A service that runs, and is gone afterwards."""
    server = ServerProcess(folder, module)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
