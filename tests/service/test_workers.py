"""Several processes on one folder: servers refuse it with a sentence; one that is replaced is waited for."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from holdfast import Counter, Runtime
from tests.service.server_process import ServerProcess
from tests.service.test_serve import APP, as_client, exists, listens, refuses, uvicorn_process

ADVICE = r"in use by process \d+.*one worker .*a folder each.*over HTTP"


async def test_uvicorn_with_workers(folder: Path) -> None:
    """All but one of the workers are refused, and say why."""
    with uvicorn_process(folder, "--workers", 4) as server:
        await asyncio.to_thread(server.said, ADVICE)
        server.send_signal()  # it may end by itself
        await asyncio.to_thread(server.ended)


async def test_gunicorn_with_workers(folder: Path) -> None:
    """So does gunicorn, and then it ends."""
    with gunicorn(folder, "--workers", 3) as server:
        await asyncio.to_thread(server.said, ADVICE)
        assert await asyncio.to_thread(server.ended) != 0


async def test_gunicorn_with_one_worker(folder: Path) -> None:
    """Serves; a signal ends it with 0, and what it acknowledged is there."""
    with gunicorn(folder) as server:
        async with as_client(server.address()) as client:
            assert (await client.post("/fast/x")).json() == 1
        server.send_signal()
        assert await asyncio.to_thread(server.ended) == 0
    async with Runtime(folder) as rt:
        assert await rt.get(Counter, "x").get() == 1


async def test_gunicorn_reloads(folder: Path) -> None:
    """SIGHUP starts a new worker beside the old one, which waits until that has given the folder back."""
    with gunicorn(folder, EMBEDDED_WAIT="60") as server:
        address = server.address()
        async with as_client(address) as client:
            assert (await client.post("/fast/x")).json() == 1
            server.send_signal(signal.SIGHUP)
            await asyncio.to_thread(server.said, r"(?s)startup complete.*startup complete")
            assert (await client.post("/fast/x")).json() == 2
        server.send_signal()
        assert await asyncio.to_thread(server.ended) == 0
        assert "in use" not in server.text


async def test_uvicorn_reloads(folder: Path, tmp_path: Path) -> None:
    """--reload: the new process opens the folder behind the old one's end."""
    (tmp_path / "code").mkdir()
    source = tmp_path / "code" / "reloaded_app.py"
    source.write_text(f"from {APP} import app\n")
    with ServerProcess(
        "uvicorn", "reloaded_app:app", "--port", 0, "--app-dir", source.parent, "--reload",
        "--reload-dir", source.parent,
        environment={"EMBEDDED_FOLDER": str(folder), "PYTHONPATH": "."},
    ) as server:  # fmt: skip
        address = server.address()
        async with as_client(address) as client:
            await asyncio.to_thread(server.said, "Application startup complete")
            await listens(address)  # it does so after it said that
            assert (await client.post("/fast/x")).json() == 1
        source.write_text(f"from {APP} import app as app\n")
        await asyncio.to_thread(server.said, r"(?s)startup complete.*shutdown complete.*startup complete")
        await listens(address)
        async with as_client(address) as client:
            assert (await client.post("/fast/x")).json() == 2
        assert "in use" not in server.text


async def test_a_new_process_waits_for_the_old_one(folder: Path) -> None:
    """Started while the old one still lets a request end, it serves as soon as that has closed."""
    with uvicorn_process(folder) as old:
        async with as_client(old.address()) as client:
            waiting = asyncio.create_task(client.post("/slow/x"))
            await exists(folder.parent / "x.begun")
            old.send_signal()
            await refuses(old.address())
            with uvicorn_process(folder, EMBEDDED_WAIT="60") as new:
                await asyncio.to_thread(new.said, "Waiting for application startup")
                assert "startup complete" not in new.text
                (folder.parent / "x.go").touch()
                assert (await waiting).json() == 1
                async with as_client(await asyncio.to_thread(new.address)) as new_client:
                    assert (await new_client.post("/fast/x")).json() == 2


def gunicorn(folder: Path, *arguments: object, **environment: str) -> ServerProcess:
    """On a free port."""
    return ServerProcess(
        "gunicorn", f"{APP}:app", "-k", "uvicorn_worker.UvicornWorker", "--bind", "127.0.0.1:0",
        "--graceful-timeout", 20, *arguments,
        environment={"EMBEDDED_FOLDER": str(folder), "HOME": str(folder.parent), **environment},
    )  # fmt: skip
