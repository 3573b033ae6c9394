"""`python -m holdfast.examples.book_import`: the server, on loopback.  Settings come from the environment."""

from __future__ import annotations

import argparse
import asyncio

import uvicorn

from holdfast import Runtime

from ..events_pipeline.step_watch import OracleFile, StepWatch
from .app import book_import_app
from .embedder import Embedder, WordLlamaEmbedder
from .http_web import HttpBookWeb
from .library import LibraryStore
from .settings import settings_from_environment


async def serve(folder: str, port: int, oracle: str | None) -> None:
    """Serve until told to stop."""
    settings = settings_from_environment()
    async with HttpBookWeb(settings) as web:
        deps: list[object] = [settings, web, LibraryStore(), *_embedders()]
        runtime = Runtime(folder, deps=deps)
        if oracle is not None:
            runtime.deps.put(OracleFile(oracle), as_type=StepWatch)
        async with runtime:
            config = uvicorn.Config(
                book_import_app(runtime, settings),
                host="127.0.0.1",
                port=port,
                lifespan="off",
                timeout_graceful_shutdown=5,
            )
            await uvicorn.Server(config).serve()


def _embedders() -> list[Embedder]:
    try:
        return [WordLlamaEmbedder()]
    except ModuleNotFoundError:
        print("holdfast[embeddings] is not installed: books get no vectors")
        return []


def main() -> None:
    """From arguments to a server."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.examples.book_import", description=__doc__)
    parser.add_argument("folder", nargs="?", default=".holdfast-books")
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--oracle", help="append a line `run step attempt` when a step's body begins")
    given = parser.parse_args()
    asyncio.run(serve(given.folder, given.port, given.oracle))


if __name__ == "__main__":
    main()
