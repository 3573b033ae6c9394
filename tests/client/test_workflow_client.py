"""client/workflow_client.py: both forms against the real service, which is killed."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from holdfast import Runtime, Workflow, update
from holdfast.client import (
    AccessRefused,
    AsyncWorkflowClient,
    BadAnswer,
    Conflict,
    NotThere,
    ResultLate,
    RunUnsuccessful,
    ServiceRefused,
    ServiceUnreachable,
    TrackerFrame,
    WorkflowClient,
)
from holdfast.client.tracker import Follower
from holdfast.service import Token, http_app
from holdfast.storage.check import check
from tests.client.server import TOKEN, ServedSteps, server_process
from tests.service.support import serving

Ask = Callable[..., Any]
VIEWER = Token("viewer-viewer-viewer", "vera")


class ClientCart(Workflow):
    async def run(self) -> list[str]:
        self.items: list[str] = []
        await self.wait("pay")
        return self.items

    @update
    async def add(self, item: str) -> int:
        if not item:
            raise ValueError("what?")
        self.items.append(item)
        return len(self.items)


@pytest.fixture
async def rt(folder: Path) -> AsyncIterator[Runtime]:
    async with Runtime(folder) as rt:
        yield rt


@pytest.fixture
async def url(rt: Runtime) -> AsyncIterator[str]:
    async with serving(http_app(rt, tokens=[TOKEN, VIEWER])) as address:
        yield f"http://{address}"


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, url: str) -> Ask:
    """Either form: `await ask(method, *arguments)`; the blocking one in a thread, streams as lists."""

    async def by_thread(what: str, *args: Any, token: str = TOKEN.secret, **options: Any) -> Any:
        def work() -> Any:
            with WorkflowClient(url, token) as client:
                done = getattr(client, what)(*args, **options)
                return list(done) if inspect.isgenerator(done) else done

        return await asyncio.to_thread(work)

    async def in_loop(what: str, *args: Any, token: str = TOKEN.secret, **options: Any) -> Any:
        async with AsyncWorkflowClient(url, token) as client:
            done = getattr(client, what)(*args, **options)
            if inspect.isasyncgen(done):
                return [one async for one in done]
            return await done

    return by_thread if request.param == "sync" else in_loop


async def test_a_run_from_start_to_result(ask: Ask) -> None:
    """Start with ref and metadata, look, find by ref, history, result."""
    run_id = await ask("start", "ServedSteps", 3, ref=("campaign", "7"), metadata={"department": "sales"})
    assert await ask("result", "ServedSteps", run_id, into=int) == 3
    details = await ask("get", "ServedSteps", run_id)
    assert (details.input, details.output, details.run.status) == (3, 3, "complete")
    assert [step.name for step in details.steps] == ["step-0", "step-1", "step-2"]
    (found,) = await ask("by_ref", "campaign", "7")
    assert (found.id, found.ref) == (run_id, ("campaign", "7"))
    assert found.metadata == {"department": "sales", "started_by": "otto"}
    kinds = [record.kind for record in await ask("history", "ServedSteps", run_id)]
    assert (kinds[0], kinds[-1]) == ("Started", "Finished")


async def test_a_stream_ends_with_its_run(ask: Ask) -> None:
    """Each change of the run, its progress, and nothing behind its end."""
    run_id = await ask("start", "ServedSteps", 3)
    updates = await ask("stream", "ServedSteps", run_id)
    assert updates[-1].run.status == "complete"
    assert not any(one.run.has_ended for one in updates[:-1])
    again = await ask("stream", "ServedSteps", run_id)
    assert [one.run.status for one in again] == ["complete"]
    assert [step.name for step in again[0].steps] == ["step-0", "step-1", "step-2"]


@pytest.mark.parametrize("commits", [1, 2, 500])
async def test_a_stream_tells_all_before_its_end(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    """However many commits are one frame: all steps and progress are there when the stream ends."""
    monkeypatch.setattr("holdfast.service.tracker_frames.MAX_UPDATE_COMMITS", commits)
    await ask("set_workflow_status", "ServedSteps", "paused")
    run_id = await ask("start", "ServedSteps", 6)
    streaming = asyncio.create_task(ask("stream", "ServedSteps", run_id))
    await ask("set_workflow_status", "ServedSteps", "active")
    async with asyncio.timeout(30):
        updates = await streaming
    told = [event.number for one in updates for event in one.progress]
    if updates[0].run.status == "queued":  # it followed from the beginning
        assert told == list(range(1, 7))
    done = {step.name for one in updates for step in one.steps if step.status == "complete"}
    assert done == {f"step-{n}" for n in range(6)}


async def test_keys_that_are_no_texts(ask: Ask, rt: Runtime) -> None:
    """Runs whose ids are numbers, tuples and odd texts are found, and followed."""
    for key in (7, ("a", 1), "~x", "a/b"):
        await rt.start(ServedSteps, 1, id=key)
        assert await ask("result", "ServedSteps", key) == 1
        assert (await ask("get", "ServedSteps", key)).output == 1


async def test_events_and_control(ask: Ask, rt: Runtime) -> None:
    """Events are sent under the token's name; a verb tells how the run stands then."""
    run_id = await ask("start", "ServedWaits")
    await ask("send", "ServedWaits", run_id, "go", {"a": 1}, event_id="once")
    assert await ask("result", "ServedWaits", run_id) == "went by otto"
    other = await ask("start", "ServedWaits", id="other")
    ended = await ask("control", "terminate", "ServedWaits", other, reason="enough")
    assert ended.status == "terminated"
    assert await ask("control", "purge", "ServedWaits", other) is None
    with pytest.raises(Conflict):
        await ask("send", "ServedWaits", run_id, "go")


async def test_updates_are_replied_to(ask: Ask) -> None:
    """With their reply as a type, or what the method raised."""
    run_id = await ask("start", "ClientCart")
    assert await ask("update", "ClientCart", run_id, "add", "pear", update_id="1", into=int) == 1
    assert await ask("update", "ClientCart", run_id, "add", "pear", update_id="1") == 1
    with pytest.raises(BadAnswer, match="the reply of add"):
        await ask("update", "ClientCart", run_id, "add", "plum", into=str)
    with pytest.raises(ServiceRefused, match="422: ValueError: what"):
        await ask("update", "ClientCart", run_id, "add", "")


async def test_results_that_are_none(ask: Ask) -> None:
    """A run that failed, one that goes on, one that isn't there, and one of another type."""
    failed = await ask("start", "ServedFailure")
    with pytest.raises(RunUnsuccessful, match="is failed") as caught:
        await ask("result", "ServedFailure", failed)
    assert caught.value.status == "failed"
    waits = await ask("start", "ServedWaits")
    with pytest.raises(ResultLate):
        await ask("result", "ServedWaits", waits, timeout=0.2)
    with pytest.raises(NotThere):
        await ask("result", "ServedWaits", "nobody")
    done = await ask("start", "ServedSteps", 1)
    with pytest.raises(BadAnswer, match="the result of ServedSteps"):
        await ask("result", "ServedSteps", done, into=str)


async def test_workflows_are_paused(ask: Ask, rt: Runtime) -> None:
    """Their standing is told and set."""
    await ask("set_workflow_status", "ServedSteps", "paused", reason="why")
    await ask("set_workflow_metadata", "ServedSteps", {"team": "a"})
    known = {one.name: one for one in await ask("workflows")}["ServedSteps"]
    assert (known.status, known.metadata, known.imported) == ("paused", {"team": "a"}, True)
    run_id = await ask("start", "ServedSteps", 1)
    assert (await ask("get", "ServedSteps", run_id)).run.status == "queued"


async def test_who_may_not(ask: Ask) -> None:
    """A stream of a token that isn't known is refused at once, and a viewer starts nothing."""
    with pytest.raises(AccessRefused):
        await ask("stream", "ServedSteps", "x", token="wrong-wrong-wrong-1")
    with pytest.raises(AccessRefused):
        await ask("start", "ServedSteps", 1, token=VIEWER.secret)


async def test_a_service_below_a_path(rt: Runtime) -> None:
    """The address of a service that is mounted in another app is that of the mount."""
    app = Starlette(routes=[Mount("/_holdfast", http_app(rt, tokens=[TOKEN]))])
    async with (
        serving(app) as address,
        AsyncWorkflowClient(f"http://{address}/_holdfast/", TOKEN.secret) as client,
    ):
        run_id = await client.start("ServedSteps", 1)
        assert await client.result("ServedSteps", run_id) == 1


def test_it_needs_no_server() -> None:
    """The client is imported without Starlette and uvicorn."""
    code = "import sys; sys.modules['starlette'] = sys.modules['uvicorn'] = None; import holdfast.client"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_both_forms_are_alike() -> None:
    """Same methods, same parameters."""
    for name, one in inspect.getmembers(WorkflowClient, inspect.isfunction):
        if not name.startswith("_"):
            other = inspect.signature(getattr(AsyncWorkflowClient, name))
            assert inspect.signature(one).parameters == other.parameters


def test_nobody_to_follow() -> None:
    """Pauses are bounded, and at last it is an error."""
    follower = Follower("http://x", {}, None, give_up_seconds=100)
    pauses = [follower.lost(OSError("no"), n) for n in range(20)]
    assert all(0 < pause <= 5 for pause in pauses)
    assert max(pauses) >= 2.5
    with pytest.raises(ServiceUnreachable, match="for 100 s"):
        follower.lost(OSError("no"), 101)


def test_a_frame_is_given_once() -> None:
    """One that was there already isn't given again, and a later `since` is asked for."""

    def frame(kind: str, seq: int, version: int = 1) -> bytes:
        return msgspec.json.encode({"type": kind, "seq": seq, "version": version, "data": {}})

    follower = Follower("https://x/_holdfast", {"workflow": "W"}, None, give_up_seconds=1)
    assert follower.url == "wss://x/_holdfast/api/tracker-websocket?workflow=W"
    assert follower.take(frame("initial_data", 5)) is not None
    assert follower.take(frame("update", 7)) is not None
    assert follower.take(frame("update", 7)) is None
    assert follower.take(frame("update", 6)) is None
    assert follower.url.endswith("?workflow=W&since=7")
    assert follower.take(frame("initial_data", 3)) is not None
    assert follower.since == 3
    with pytest.raises(BadAnswer, match="version 1; got 2"):
        follower.take(frame("initial_data", 8, 2))
    with pytest.raises(BadAnswer):
        follower.take(b"{}")


# -- killed --------------------------------------------------------------------------------------------------


async def test_a_watcher_of_a_server_that_is_killed(folder: Path) -> None:
    """It ends with the true state of every run; each frame came once, in order, and every step was told."""
    frames: list[TrackerFrame] = []
    status: dict[str, str] = {}
    steps: dict[str, set[str]] = {}
    progress: dict[str, list[int]] = {}
    wanted: set[str] = set()

    async with server_process(folder) as server, AsyncWorkflowClient(server.url, TOKEN.secret) as client:

        async def follow() -> None:
            async with aclosing(client.watch(runs=500)) as told:
                async for frame in told:
                    if frame.kind == "update":
                        assert frame.seq > frames[-1].seq
                    frames.append(frame)
                    for one in frame.runs:
                        status[one.run.id] = one.run.status
                        mine = steps.setdefault(one.run.id, set())
                        if one.begins:
                            mine.clear()
                        mine |= {step.name for step in one.steps if step.status == "complete"}
                        progress.setdefault(one.run.id, []).extend(event.number for event in one.progress)
                    if len(wanted) == 60 and all(status.get(run) == "complete" for run in wanted):
                        return

        following = asyncio.create_task(follow())
        while not frames:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        for kill in range(3):
            for n in range(20):
                wanted.add(await client.start("ServedSteps", 10))
                if n == 12 and kill < 3:
                    await server.kill()
                    await server.start()
        async with asyncio.timeout(60):
            await following
        for run_id in wanted:
            assert (await client.get("ServedSteps", run_id)).run.status == "complete"
    # It came back within the time for which changes are kept: nothing was begun anew.
    assert [frame.kind for frame in frames].count("initial_data") == 1
    assert all(len(steps[run]) == 10 for run in wanted)
    assert all(progress[run] == list(range(1, 11)) for run in wanted)
    assert check(folder) == []


async def test_a_result_over_a_kill(folder: Path) -> None:
    """Who waits for a result gets it from the next process."""
    async with server_process(folder) as server, AsyncWorkflowClient(server.url, TOKEN.secret) as client:
        run_id = await client.start("ServedWaits")
        waiting = asyncio.create_task(client.result("ServedWaits", run_id, timeout=60))
        await server.kill()
        await server.start()
        await client.send("ServedWaits", run_id, "go")
        assert await waiting == "went by otto"
