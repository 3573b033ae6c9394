"""Runs of another process: `WorkflowClient` waits in its thread, `AsyncWorkflowClient` in an event loop.

    with WorkflowClient("http://127.0.0.1:8000/_holdfast", token) as client:
        run_id = client.start("SendCampaign", {"subject": "..."}, ref=("campaign", "123"))
        for update in client.stream("SendCampaign", run_id):
            print(update.run.status)

What is asked is in workflow_requests.py, what comes in views.py, how a stream goes on in tracker.py: the two
classes below only send and wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import aclosing, closing
from types import TracebackType
from typing import Any, Final, TypeVar, overload

import httpx2
import msgspec
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect as connect_sync

from ..runtime.durations import Duration, to_seconds
from . import workflow_requests as ask
from .errors import BadAnswer, NotThere, RunUnsuccessful, ServiceError
from .http_client import DEFAULT_TIMEOUT, AsyncClient, Client
from .request import RunId
from .tracker import GIVE_UP_SECONDS, MAX_FRAME_BYTES, Follower
from .views import HistoryRecord, RunDetails, RunState, RunUpdate, TrackerFrame, WorkflowState
from .workflow_requests import Standing, Verb

T = TypeVar("T")
RESULT_TIMEOUT: Final = "300s"
_LOST: Final = (OSError, WebSocketException, TimeoutError, ServiceError)


class WorkflowClient:
    """Runs of a service, for code without an event loop.

    The parameters are those of `Client`; `http` is that client, for every other address of the service.  All
    methods raise `ServiceError` (errors.py).
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: Duration = DEFAULT_TIMEOUT,
        http: httpx2.Client | None = None,
    ) -> None:
        self.http = Client(url, token, timeout=timeout, http=http)

    def start(
        self,
        workflow: str,
        params: object = msgspec.UNSET,
        *,
        ref: tuple[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> str:
        """Start a run and return its id, once that is durable.

        ref        the outside thing that it is for, as (type, id): `by_ref` finds it
        metadata   texts by name; the run has them as tags, with `started_by`
        id         its id; a new one by default.  One in use is a `Conflict`
        """
        return self.http.ask(ask.start(workflow, params, ref, metadata, id)).run_id

    def get(self, workflow: str, id: RunId) -> RunDetails:
        """One run with its steps, input and output."""
        return self.http.ask(ask.look(workflow, id))

    def by_ref(self, type: str, id: str, *, workflow: str | None = None, limit: int = 100) -> list[RunState]:
        """The runs of an outside thing, the oldest first."""
        return self.http.ask(ask.by_ref((type, id), workflow, limit)).runs

    def history(self, workflow: str, id: RunId) -> list[HistoryRecord]:
        """All records of a run."""
        return self.http.ask(ask.history(workflow, id)).history

    def control(
        self,
        verb: Verb,
        workflow: str,
        id: RunId,
        *,
        reason: str = "",
        input: object = msgspec.UNSET,
        undo: bool = False,
    ) -> RunState | None:
        """Do a verb; how the run stands behind it, None where it is erased."""
        return self.http.ask(ask.control(verb, workflow, id, reason, input, undo))

    def send(
        self,
        workflow: str,
        id: RunId,
        event: str,
        payload: object = msgspec.UNSET,
        *,
        event_id: str | None = None,
    ) -> None:
        """Send an event to a run; returns when the run has it for good.  It takes an `event_id` once."""
        self.http.ask(ask.send_event(workflow, id, event, payload, event_id))

    @overload
    def update(
        self, workflow: str, id: RunId, method: str, *arguments: object, update_id: str | None = None
    ) -> object: ...
    @overload
    def update(
        self,
        workflow: str,
        id: RunId,
        method: str,
        *arguments: object,
        update_id: str | None = None,
        into: type[T],
    ) -> T: ...

    def update(
        self,
        workflow: str,
        id: RunId,
        method: str,
        *arguments: object,
        update_id: str | None = None,
        into: type[Any] = object,
    ) -> object:
        """The reply of an update method of a run; what it raises is a `ServiceRefused` with status 422."""
        reply = self.http.ask(ask.call_update(workflow, id, method, arguments, update_id))
        return _read(reply.reply, into, f"the reply of {method}")

    def workflows(self) -> list[WorkflowState]:
        """All workflows of the service."""
        return self.http.ask(ask.workflows()).workflows

    def set_workflow_status(self, workflow: str, status: Standing, *, reason: str = "") -> None:
        """Let runs of a workflow begin, wait, or not be started."""
        self.http.ask(ask.set_status(workflow, status, reason))

    def set_workflow_metadata(self, workflow: str, metadata: Mapping[str, str], *, reason: str = "") -> None:
        """Note something about a workflow, in place of what was noted."""
        self.http.ask(ask.set_metadata(workflow, metadata, reason))

    @overload
    def result(self, workflow: str, id: RunId, *, timeout: Duration = ...) -> object: ...
    @overload
    def result(self, workflow: str, id: RunId, *, timeout: Duration = ..., into: type[T]) -> T: ...

    def result(
        self, workflow: str, id: RunId, *, timeout: Duration = RESULT_TIMEOUT, into: type[Any] = object
    ) -> object:
        """What `run()` returned, when it has.

        Raises `RunUnsuccessful`, `NotThere`, or `ResultLate` behind `timeout`.
        """
        until = time.monotonic() + to_seconds(timeout, what="timeout of a result")
        with closing(self._stream(workflow, id, None, GIVE_UP_SECONDS, until)) as updates:
            for update in updates:
                _check_stuck(update.run)
        return _output(self.get(workflow, id), into)

    def stream(
        self, workflow: str, id: RunId, *, since: int | None = None, give_up: Duration = GIVE_UP_SECONDS
    ) -> Generator[RunUpdate]:
        """How a run stands now, and each change, until it has ended or was erased.

        It connects again by itself and goes on behind the last update.  Raises `NotThere`, and
        `ServiceUnreachable` when nobody could be reached for `give_up`.
        """
        return self._stream(workflow, id, since, to_seconds(give_up, what="give_up"), None)

    def _stream(
        self, workflow: str, id: RunId, since: int | None, give_up_seconds: float, until: float | None
    ) -> Generator[RunUpdate]:
        query = ask.run_query(workflow, id)
        has_ended = False
        with closing(self._frames(query, since, give_up_seconds, until)) as frames:
            for frame in frames:
                _check_there(frame, workflow, id)
                for update in frame.runs:
                    has_ended = update.run.has_ended
                    yield update
                if frame.gone or (has_ended and not frame.more):
                    return

    def watch(
        self,
        *,
        workflow: str | None = None,
        ref: tuple[str, str] | None = None,
        since: int | None = None,
        runs: int | None = None,
        give_up: Duration = GIVE_UP_SECONDS,
    ) -> Generator[TrackerFrame]:
        """What the tracker tells of all runs, of those of a workflow, or of an outside thing; without end.

        First the newest runs (`runs` of them at most), or with `since` what is behind that frame; then each
        change, over any loss of the connection.
        """
        query = ask.watch_query(workflow, ref, runs)
        return self._frames(query, since, to_seconds(give_up, what="give_up"), None)

    def _frames(
        self, query: Mapping[str, str], since: int | None, give_up_seconds: float, until: float | None
    ) -> Generator[TrackerFrame]:
        follower = Follower(self.http.url, query, since, give_up_seconds=give_up_seconds, until=until)
        pause = 0.0
        while True:
            try:
                try:
                    socket = connect_sync(
                        follower.url,
                        additional_headers=self.http.socket_headers(),
                        open_timeout=follower.connect_seconds(time.monotonic()),
                        max_size=MAX_FRAME_BYTES,
                        proxy=None,
                    )
                except InvalidStatus as error:
                    told = error.response
                    raise follower.refused(told.status_code, dict(told.headers), told.body) from error
                with socket:
                    while True:
                        text = socket.recv(follower.seconds_left(time.monotonic()))
                        frame = follower.take(text)
                        if frame is not None:
                            yield frame
            except _LOST as error:
                pause = follower.lost(error, time.monotonic())
            time.sleep(pause)

    def close(self) -> None:
        """Close the connections."""
        self.http.close()

    def __enter__(self) -> WorkflowClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncWorkflowClient:
    """Runs of a service, for code in an event loop; otherwise as `WorkflowClient`."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: Duration = DEFAULT_TIMEOUT,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        self.http = AsyncClient(url, token, timeout=timeout, http=http)

    async def start(
        self,
        workflow: str,
        params: object = msgspec.UNSET,
        *,
        ref: tuple[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        id: str | None = None,
    ) -> str:
        """See `WorkflowClient.start`."""
        return (await self.http.ask(ask.start(workflow, params, ref, metadata, id))).run_id

    async def get(self, workflow: str, id: RunId) -> RunDetails:
        """See `WorkflowClient.get`."""
        return await self.http.ask(ask.look(workflow, id))

    async def by_ref(
        self, type: str, id: str, *, workflow: str | None = None, limit: int = 100
    ) -> list[RunState]:
        """See `WorkflowClient.by_ref`."""
        return (await self.http.ask(ask.by_ref((type, id), workflow, limit))).runs

    async def history(self, workflow: str, id: RunId) -> list[HistoryRecord]:
        """See `WorkflowClient.history`."""
        return (await self.http.ask(ask.history(workflow, id))).history

    async def control(
        self,
        verb: Verb,
        workflow: str,
        id: RunId,
        *,
        reason: str = "",
        input: object = msgspec.UNSET,
        undo: bool = False,
    ) -> RunState | None:
        """See `WorkflowClient.control`."""
        return await self.http.ask(ask.control(verb, workflow, id, reason, input, undo))

    async def send(
        self,
        workflow: str,
        id: RunId,
        event: str,
        payload: object = msgspec.UNSET,
        *,
        event_id: str | None = None,
    ) -> None:
        """See `WorkflowClient.send`."""
        await self.http.ask(ask.send_event(workflow, id, event, payload, event_id))

    @overload
    async def update(
        self, workflow: str, id: RunId, method: str, *arguments: object, update_id: str | None = None
    ) -> object: ...
    @overload
    async def update(
        self,
        workflow: str,
        id: RunId,
        method: str,
        *arguments: object,
        update_id: str | None = None,
        into: type[T],
    ) -> T: ...

    async def update(
        self,
        workflow: str,
        id: RunId,
        method: str,
        *arguments: object,
        update_id: str | None = None,
        into: type[Any] = object,
    ) -> object:
        """See `WorkflowClient.update`."""
        reply = await self.http.ask(ask.call_update(workflow, id, method, arguments, update_id))
        return _read(reply.reply, into, f"the reply of {method}")

    async def workflows(self) -> list[WorkflowState]:
        """See `WorkflowClient.workflows`."""
        return (await self.http.ask(ask.workflows())).workflows

    async def set_workflow_status(self, workflow: str, status: Standing, *, reason: str = "") -> None:
        """See `WorkflowClient.set_workflow_status`."""
        await self.http.ask(ask.set_status(workflow, status, reason))

    async def set_workflow_metadata(
        self, workflow: str, metadata: Mapping[str, str], *, reason: str = ""
    ) -> None:
        """See `WorkflowClient.set_workflow_metadata`."""
        await self.http.ask(ask.set_metadata(workflow, metadata, reason))

    @overload
    async def result(self, workflow: str, id: RunId, *, timeout: Duration = ...) -> object: ...
    @overload
    async def result(self, workflow: str, id: RunId, *, timeout: Duration = ..., into: type[T]) -> T: ...

    async def result(
        self, workflow: str, id: RunId, *, timeout: Duration = RESULT_TIMEOUT, into: type[Any] = object
    ) -> object:
        """See `WorkflowClient.result`."""
        until = time.monotonic() + to_seconds(timeout, what="timeout of a result")
        async with aclosing(self._stream(workflow, id, None, GIVE_UP_SECONDS, until)) as updates:
            async for update in updates:
                _check_stuck(update.run)
        return _output(await self.get(workflow, id), into)

    def stream(
        self, workflow: str, id: RunId, *, since: int | None = None, give_up: Duration = GIVE_UP_SECONDS
    ) -> AsyncGenerator[RunUpdate]:
        """See `WorkflowClient.stream`; who leaves it early closes it (`contextlib.aclosing`)."""
        return self._stream(workflow, id, since, to_seconds(give_up, what="give_up"), None)

    async def _stream(
        self, workflow: str, id: RunId, since: int | None, give_up_seconds: float, until: float | None
    ) -> AsyncGenerator[RunUpdate]:
        query = ask.run_query(workflow, id)
        has_ended = False
        async with aclosing(self._frames(query, since, give_up_seconds, until)) as frames:
            async for frame in frames:
                _check_there(frame, workflow, id)
                for update in frame.runs:
                    has_ended = update.run.has_ended
                    yield update
                if frame.gone or (has_ended and not frame.more):
                    return

    def watch(
        self,
        *,
        workflow: str | None = None,
        ref: tuple[str, str] | None = None,
        since: int | None = None,
        runs: int | None = None,
        give_up: Duration = GIVE_UP_SECONDS,
    ) -> AsyncGenerator[TrackerFrame]:
        """See `WorkflowClient.watch`; who leaves it early closes it (`contextlib.aclosing`)."""
        query = ask.watch_query(workflow, ref, runs)
        return self._frames(query, since, to_seconds(give_up, what="give_up"), None)

    async def _frames(
        self, query: Mapping[str, str], since: int | None, give_up_seconds: float, until: float | None
    ) -> AsyncGenerator[TrackerFrame]:
        follower = Follower(self.http.url, query, since, give_up_seconds=give_up_seconds, until=until)
        pause = 0.0
        while True:
            try:
                try:
                    socket = await connect_async(
                        follower.url,
                        additional_headers=self.http.socket_headers(),
                        open_timeout=follower.connect_seconds(time.monotonic()),
                        max_size=MAX_FRAME_BYTES,
                        proxy=None,
                    )
                except InvalidStatus as error:
                    told = error.response
                    raise follower.refused(told.status_code, dict(told.headers), told.body) from error
                async with socket:
                    while True:
                        async with asyncio.timeout(follower.seconds_left(time.monotonic())):
                            text = await socket.recv()
                        frame = follower.take(text)
                        if frame is not None:
                            yield frame
            except _LOST as error:
                pause = follower.lost(error, time.monotonic())
            await asyncio.sleep(pause)

    async def close(self) -> None:
        """Close the connections."""
        await self.http.close()

    async def __aenter__(self) -> AsyncWorkflowClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _check_there(frame: TrackerFrame, workflow: str, id: RunId) -> None:
    if frame.kind == "initial_data" and not frame.runs:
        raise NotThere(404, f"there is no run {workflow}/{id}")


def _check_stuck(run: RunState) -> None:
    if run.status == "stuck":
        raise RunUnsuccessful(f"{run.workflow}/{run.id}", run.status, run.error)


def _output(details: RunDetails, into: type[T]) -> T:
    run = details.run
    if run.status != "complete":
        raise RunUnsuccessful(f"{run.workflow}/{run.id}", run.status, run.error)
    try:
        return msgspec.convert(details.output, into)
    except msgspec.ValidationError as error:
        raise BadAnswer(f"the result of {run.workflow}/{run.id}: {error}") from error


def _read(reply: msgspec.Raw, into: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(reply, type=into)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadAnswer(f"{what}: {error}") from error
