"""Waiting for what somebody else does, as long as there is a client that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final, TypeVar

import anyio
from starlette.requests import Request

Reply = TypeVar("Reply")
REPLY_SECONDS: Final = 30.0
# How soon it shows that who waits for a reply is gone.
LOOK_SECONDS: Final = 0.5


class NoReply(Exception):
    """Work gave nothing in time; not a TimeoutError, which may be what it raises itself."""


async def until_gone(request: Request, work: Awaitable[Reply]) -> Reply:
    """What `work` gives, as long as the client waits for it, and for `REPLY_SECONDS` at most.

    Raises `NoReply` then; work that somebody else does goes on.
    """
    task = asyncio.ensure_future(work)
    try:
        with anyio.move_on_after(REPLY_SECONDS):
            while not task.done() and not await request.is_disconnected():
                await asyncio.wait((task,), timeout=LOOK_SECONDS)
        if not task.done():
            raise NoReply
        return task.result()
    finally:
        task.cancel()
