"""uvicorn's server, which tells the clients of hubs first when it is stopped.

uvicorn waits for streams, which end by themselves never, until its bound is over; and it closes WebSockets
before what waits for them was sent.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from ..actors.errors import MissingPackage
from .closing import CLOSE_SECONDS

try:
    import uvicorn
except ModuleNotFoundError as error:
    raise MissingPackage("serving needs uvicorn: pip install 'holdfast[serve]'") from error

if TYPE_CHECKING:
    from ..actors.system import Runtime


class DrainingServer(uvicorn.Server):
    """For an application with hubs of `runtime`; everything else is as uvicorn has it."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._runtime = runtime

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let nobody in any more, close hubs' clients with 1001 behind what waits for them, then the rest."""
        for server in self.servers:
            server.close()
        await self._runtime.sockets.close(CLOSE_SECONDS)
        await super().shutdown(sockets)
