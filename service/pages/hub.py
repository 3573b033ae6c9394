"""Hubs: their topics, and who is connected to them in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...actors.hub.web_socket_hub import TopicInfo, WebSocketHub
from ...runtime.address import show_key
from ...runtime.clock import moment
from .addresses import address_of
from .guard import Guard
from .sessions import Session

if TYPE_CHECKING:
    from datetime import datetime

    from ...actors.system import Runtime
    from ...runtime.ref import Ref

MAX_HUBS: Final = 20
MAX_TOPICS: Final = 50
MAX_SOCKETS_SHOWN: Final = 50


class SocketRow(msgspec.Struct, frozen=True):
    """A client that is connected."""

    id: str
    user: str | None
    topics: list[str]
    waiting: int
    heard_at: datetime


class HubRow(msgspec.Struct, frozen=True):
    """One hub."""

    type: str
    key: str
    address: str
    topics: list[TopicInfo]
    sockets: list[SocketRow]
    open_sockets: int


class HubPage:
    """The page."""

    def __init__(self, runtime: Runtime, guard: Guard) -> None:
        self._runtime = runtime
        self._guard = guard

    async def show(self, request: Request, session: Session) -> Response:
        """Stored hubs with their topics and sockets."""
        session.caller.must_be_nobodys("a hub")
        refs = self._refs()
        told = {
            "title": "Hub",
            "hubs": [await self._row(ref) for ref in refs[:MAX_HUBS]],
            "more": len(refs) > MAX_HUBS,
            "most_topics": MAX_TOPICS,
            "most_sockets": MAX_SOCKETS_SHOWN,
        }
        return self._guard.shell.page(request, "hub.html", session, told)

    def _refs(self) -> list[Ref]:
        runtime = self._runtime
        found: list[Ref] = []
        for kind in list(runtime.actor_types.by_class.values()):
            if issubclass(kind.actor_class, WebSocketHub):
                for key in runtime.keys(kind.actor_class, limit=MAX_HUBS + 1):
                    found.append(cast("Ref", runtime.get(kind.actor_class, key)))
        return found

    async def _row(self, ref: Ref) -> HubRow:
        sockets = [one for one in self._runtime.sockets.of_hub(ref) if one.is_open]
        return HubRow(
            ref.type.name,
            show_key(ref.key),
            address_of(ref),
            await cast("WebSocketHub", ref).topics("", MAX_TOPICS),
            [
                SocketRow(one.id, one.user, one.topics, one.waiting, moment(one.heard_ms))
                for one in sockets[:MAX_SOCKETS_SHOWN]
            ],
            len(sockets),
        )
