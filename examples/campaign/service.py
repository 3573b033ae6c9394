"""The service of the campaigns: the runtime behind HTTP, as a program of its own would have it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from holdfast import Runtime
from holdfast.service import Token, http_app

from .campaign import SendCampaign
from .mail import Mailer


@asynccontextmanager
async def campaign_app(folder: Path, mailer: Mailer, token: str) -> AsyncGenerator[Starlette]:
    """The app, while its runtime is open."""
    async with Runtime(folder, deps=[mailer], types=[SendCampaign]) as rt:
        yield http_app(rt, tokens=[Token(token, "marketing", "operator")])


async def serve_campaigns(folder: Path, mailer: Mailer, token: str, port: int) -> None:
    """Serve on loopback until the process is told to stop."""
    async with campaign_app(folder, mailer, token) as app:
        config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan="off")
        await uvicorn.Server(config).serve()
