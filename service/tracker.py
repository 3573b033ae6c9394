"""The tracker's socket: all runs, live, to whoever may see them.

    asked -> refused (refusals.py), or accepted -> a snapshot, or what is behind `since` -> updates -> closed

A client has a place in the feed (actors/workflow/change_feed.py), and nothing is kept for it here: what it
has not taken lies on disk.  One that doesn't take a frame for `SEND_SECONDS` is closed with 1013, and comes
back with the `seq` of its last frame; one that fell out of what the feed keeps gets a new snapshot.

Who it is says `Authorization: Bearer TOKEN`; a browser, which can't set that header, offers the subprotocols
`holdfast.tracker.v1` and `holdfast.token.` with the token in base64url behind it, and gets the first of them.
Not the address: that stands in logs, histories and on screens.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections import OrderedDict
from collections.abc import Collection
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import anyio
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from ..actors.hub.hub_socket import GOING_AWAY
from ..runtime.address import normal_key
from ..runtime.errors import NotRunning
from ..storage.errors import CallerError, HoldfastError, Overloaded
from .access import Access, Caller
from .api.addresses import key_of
from .api.asked import tenant_of
from .origins import is_allowed
from .refusals import problem, refusal
from .tracker_frames import MadeUpdate, Wanted, snapshot, update
from .websocket import CUT_OFF_SECONDS, refuse

if TYPE_CHECKING:
    from ..actors.system import Runtime

PROTOCOL: Final = "holdfast.tracker.v1"
_TOKEN_PROTOCOL: Final = "holdfast.token."  # what a token stands behind
DEFAULT_RUNS: Final = 100
MAX_RUNS: Final = 500
MAX_WATCHERS: Final = 1_000
SEND_SECONDS: Final = 10.0
# Between two frames, and more for each client: what comes meanwhile is one frame, and the work of telling all
# is bounded.
PACE_SECONDS: Final = 0.05
_PACE_SECONDS_EACH: Final = 0.001
TRY_AGAIN_LATER: Final = 1013
INTERNAL_ERROR: Final = 1011
# Frames that were just made: clients that are at the same place get the same text.
_KEPT_FRAMES: Final = 64
_MOST_DIGITS: Final = 18
_FILTERS: Final = ("since", "runs", "workflow", "id", "ref_type", "ref_id", "tenant")

_log = logging.getLogger("holdfast.service")


class TrackerSocket:
    """The endpoint of one service."""

    def __init__(self, runtime: Runtime, access: Access, origins: Collection[str]) -> None:
        self._runtime = runtime
        self._access = access
        self._origins = origins
        self._watchers = 0
        self._frames: OrderedDict[tuple[Wanted, int, bool], MadeUpdate] = OrderedDict()

    async def serve(self, websocket: WebSocket) -> None:
        """Serve one client until it is gone."""
        if not is_allowed(websocket, self._origins):
            await refuse(websocket, problem(HTTPStatus.FORBIDDEN, "pages of this origin may not connect"))
            return
        try:
            caller = self._access.caller(_with_token(websocket), "viewer")
            wanted, since, limit = _asked(websocket, caller)
            if self._watchers >= MAX_WATCHERS:
                raise Overloaded(f"{MAX_WATCHERS} clients watch already; try again later")
            self._runtime.check_open()
            changes = self._runtime.changes
            self._watchers += 1
            try:
                with changes.watched():
                    await changes.ready()
                    offered = PROTOCOL in websocket.scope.get("subprotocols", ())
                    await websocket.accept(PROTOCOL if offered else None)
                    await self._exchange(websocket, wanted, since, limit)
            finally:
                self._watchers -= 1
        except WebSocketDisconnect:
            _log.debug("a client of the tracker was gone before it was let in")
        except Exception as error:
            if websocket.application_state is not WebSocketState.CONNECTING:
                raise  # of what came later
            await refuse(websocket, refusal(error))

    async def _exchange(self, websocket: WebSocket, wanted: Wanted, since: int | None, limit: int) -> None:
        code: int | None = None
        async with anyio.create_task_group() as group:

            async def listen() -> None:
                while (await websocket.receive())["type"] != "websocket.disconnect":
                    pass  # a client has nothing to say
                group.cancel_scope.cancel()

            group.start_soon(listen)
            try:
                code = await self._tell(websocket, wanted, since, limit)
            except NotRunning:
                code = GOING_AWAY
            except HoldfastError:
                _log.exception("a client of the tracker can't be told what changed")
                code = INTERNAL_ERROR
            group.cancel_scope.cancel()
        if code is not None and websocket.client_state is WebSocketState.CONNECTED:
            reason = "too slow" if code == TRY_AGAIN_LATER else "the server is closing"
            with anyio.move_on_after(CUT_OFF_SECONDS):
                try:
                    await websocket.close(code, reason)
                except (RuntimeError, OSError, WebSocketDisconnect):
                    _log.debug("a client of the tracker was gone before it was closed")

    async def _tell(self, websocket: WebSocket, wanted: Wanted, since: int | None, limit: int) -> int | None:
        """Send frames until the client is gone (None), or is to be closed with a code."""
        changes = self._runtime.changes
        at = since if since is not None and since <= self._runtime.store.durable else -1
        text: str | None
        more = False
        while True:
            if at < changes.floor:
                text, at = snapshot(self._runtime, wanted, limit)
                more = False
            else:
                await changes.wait(at)
                # Who was told that there is more gets to know when it has all.
                made = self._update(wanted, at, always=more)
                text, at = made.text, made.seq
                more = made.more and (more or text is not None)
            if text is None:
                continue
            sent = False
            try:
                with anyio.move_on_after(SEND_SECONDS):
                    await websocket.send_text(text)
                    sent = True
            except (WebSocketDisconnect, OSError):
                return None
            if not sent:
                _log.info("a client of the tracker took nothing for %g s, and is cut off", SEND_SECONDS)
                return TRY_AGAIN_LATER
            await anyio.sleep(PACE_SECONDS + self._watchers * _PACE_SECONDS_EACH)

    def _update(self, wanted: Wanted, after: int, *, always: bool) -> MadeUpdate:
        key = (wanted, after, always)
        known = self._frames.get(key)
        if known is not None and (known.more or known.seq >= self._runtime.changes.newest):
            return known
        made = self._frames[key] = update(self._runtime, wanted, after, always=always)
        while len(self._frames) > _KEPT_FRAMES:
            self._frames.popitem(last=False)
        return made


def _with_token(websocket: WebSocket) -> HTTPConnection:
    """The connection with its token where programs have it, also when a browser sent it."""
    if "authorization" in websocket.headers:
        return websocket
    for offered in websocket.scope.get("subprotocols", ()):
        if offered.startswith(_TOKEN_PROTOCOL):
            encoded = offered[len(_TOKEN_PROTOCOL) :]
            try:
                secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
            except (binascii.Error, ValueError):
                break
            header = (b"authorization", b"Bearer " + secret)
            return HTTPConnection({**websocket.scope, "headers": [*websocket.scope["headers"], header]})
    return websocket


def _asked(websocket: WebSocket, caller: Caller) -> tuple[Wanted, int | None, int]:
    """What a client wants, the commit that it has, and how many runs a snapshot may have."""
    asked = websocket.query_params
    for name in asked:
        if name not in _FILTERS:
            raise CallerError(f"?{name}= is nothing that the tracker knows; it knows {', '.join(_FILTERS)}")
    workflow, id_, ref_type, ref_id = (asked.get(one) for one in ("workflow", "id", "ref_type", "ref_id"))
    if (ref_type is None) != (ref_id is None):
        raise CallerError("a ref is asked for with ref_type and ref_id")
    if id_ is not None and workflow is None:
        raise CallerError("a run is asked for with workflow and id")
    wanted = Wanted(
        tenant_of(caller, asked.get("tenant")),
        workflow,
        None if id_ is None or workflow is None else normal_key(key_of(id_), workflow)[1],
        None if ref_type is None or ref_id is None else (ref_type, ref_id),
    )
    since = _number(asked.get("since"), "since", None)
    limit = _number(asked.get("runs"), "runs", DEFAULT_RUNS)
    assert limit is not None
    if limit > MAX_RUNS:
        raise CallerError(f"runs is at most {MAX_RUNS}; got {limit}")
    return wanted, since, limit


def _number(text: str | None, name: str, default: int | None) -> int | None:
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise CallerError(f"{name}: expected a whole number; got {text!r:.100}")
    return int(text)
