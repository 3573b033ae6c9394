"""A client of the tracker's socket that comes back by itself: what it asks, has seen, and waits for.

    connect -> frames ... -> lost -> a pause, longer each time -> connect with `since` -> ...
            -> refused: the error                              -> nobody for `give_up_seconds`: the error

No I/O here: a driver connects, reads and waits (workflow_client.py).

Promise: each change is given once, in order, over any loss of the connection and restart of the service; who
was away for longer than the service keeps changes gets a new snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal
from urllib.parse import urlencode

import msgspec

from .answer import Answer, read_answer
from .errors import BadAnswer, ResultLate, ServiceBusy, ServiceError, ServiceUnreachable
from .request import get
from .tries import pause_seconds
from .views import GoneRun, RunUpdate, TrackerFrame, WorkflowState

PATH: Final = "/api/tracker-websocket"
MAX_FRAME_BYTES: Final = 64 << 20
CONNECT_SECONDS: Final = 20.0
GIVE_UP_SECONDS: Final = 300.0
_VERSION: Final = 1


class _Data(msgspec.Struct):
    runs: list[RunUpdate] = []
    gone: list[GoneRun] = []
    workflows: list[WorkflowState] = []


class _Frame(msgspec.Struct):
    type: Literal["initial_data", "update"]
    seq: int
    data: _Data
    version: int = _VERSION
    more: bool = False


_decode: Final = msgspec.json.Decoder(_Frame).decode


class Follower:
    """One stream of frames, over many connections."""

    def __init__(
        self,
        base: str,
        query: Mapping[str, str],
        since: int | None,
        *,
        give_up_seconds: float,
        until: float | None = None,
    ) -> None:
        """`until` is when the time of it all is up, by the driver's clock in seconds."""
        self._url = f"ws{base.removeprefix('http')}{PATH}"
        self._query = dict(query)
        self._give_up_seconds = give_up_seconds
        self._until = until
        self._failures = 0
        self._lost_at: float | None = None
        self.since = since
        """The `seq` of the last frame."""

    @property
    def url(self) -> str:
        """Where to connect now."""
        query = self._query if self.since is None else {**self._query, "since": str(self.since)}
        return f"{self._url}?{urlencode(query)}" if query else self._url

    def seconds_left(self, now: float) -> float | None:
        """How long may be waited for the next frame; None for as long as it takes.  Raises `ResultLate`."""
        if self._until is None:
            return None
        left = self._until - now
        if left <= 0:
            raise ResultLate(f"{PATH}: what was waited for did not come in time")
        return left

    def connect_seconds(self, now: float) -> float:
        """How long connecting may take."""
        left = self.seconds_left(now)
        return CONNECT_SECONDS if left is None else min(CONNECT_SECONDS, left)

    def take(self, text: str | bytes) -> TrackerFrame | None:
        """The frame that came; None for one that was there already.  Raises `BadAnswer`."""
        try:
            frame = _decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise BadAnswer(f"{PATH}: a frame can't be read: {error}") from error
        if frame.version != _VERSION:
            raise BadAnswer(f"{PATH}: expected frames of version {_VERSION}; got {frame.version}")
        self._failures, self._lost_at = 0, None
        if frame.type == "update" and self.since is not None and frame.seq <= self.since:
            return None
        self.since = frame.seq
        data = frame.data
        return TrackerFrame(frame.type, frame.seq, data.runs, data.gone, data.workflows, frame.more)

    def refused(
        self, status: int, headers: Mapping[str, str], body: bytes | bytearray | None
    ) -> ServiceError:
        """Why the service let nobody in."""
        small = {name.lower(): value for name, value in headers.items()}
        try:
            read_answer(get(PATH, object), Answer(max(status, 400), small, bytes(body or b"")))
        except ServiceError as error:
            return error
        raise AssertionError("such a status is an error")

    def lost(self, error: Exception, now: float) -> float:
        """There is no connection: how long to wait for another; raises an error that waiting won't mend."""
        if isinstance(error, ServiceError) and not isinstance(error, ServiceBusy | ServiceUnreachable):
            raise error
        self._failures += 1
        if self._lost_at is None:
            self._lost_at = now
        if now - self._lost_at > self._give_up_seconds:
            raise ServiceUnreachable(
                f"{PATH}: nobody could be reached for {self._give_up_seconds:g} s; the last time: {error}"
            ) from error
        pause = pause_seconds(self._failures)
        if isinstance(error, ServiceBusy) and error.retry_after_seconds is not None:
            pause += error.retry_after_seconds
        left = self.seconds_left(now)
        return pause if left is None else min(pause, left)
