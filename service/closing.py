"""How long a connection that is to be closed may still take what waits for it, by either transport."""

from __future__ import annotations

from typing import Final

import anyio

from ..actors.hub.hub_socket import HubSocket

CLOSE_SECONDS: Final = 5.0


async def wait_time_up(socket: HubSocket) -> None:
    """Return when nothing more is to be sent: at once where the hub cut the client off (hub_socket.py), else
    `CLOSE_SECONDS` after somebody closed it.
    """
    await socket.closing.wait()
    if not socket.cut_off:
        await anyio.sleep(CLOSE_SECONDS)
