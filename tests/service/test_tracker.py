"""service/tracker.py: a real WebSocket client at a real server on loopback."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from holdfast import Retry, Runtime, Workflow
from holdfast.actors.workflow import change_feed
from holdfast.service import Token, http_app, tracker
from tests.actors.workflow.support import until
from tests.service.support import serving

VIEWER = Token("viewer-viewer-viewer", "vera", "viewer")
OPERATOR = Token("operator-operator-1", "otto", "operator")
ACME = Token("acme-acme-acme-acme-1", "anna", "operator", "acme")
WAIT_SECONDS = 20
UNBOUNDED: dict[str, Any] = {"compression": None, "max_size": None}


class TrackedOrder(Workflow):
    """Packs, waits, ships."""

    retry = Retry(2, delay="1ms", backoff="constant")

    async def run(self, item: str) -> str:
        packed: str = await self.step(_pack, item, name="pack")
        self.emit("packed", {"item": item})
        await self.wait("go")
        return await self.step(_pack, packed, name="ship")


class TrackedFailure(Workflow):
    retry = Retry(1, delay="1h")

    async def run(self) -> None:
        await self.step(_fail, name="fail")


class TrackedTalk(Workflow):
    async def run(self, times: int) -> None:
        for n in range(times):
            self.emit("said", f"{n}" * 8_000)


def _pack(item: str) -> str:
    return f"<{item}>"


def _fail() -> None:
    raise OSError("no")


@pytest.fixture
async def rt(folder: Path) -> AsyncIterator[Runtime]:
    async with Runtime(folder) as rt:
        yield rt


@pytest.fixture
async def address(rt: Runtime) -> AsyncIterator[str]:
    app = http_app(rt, tokens=[VIEWER, OPERATOR, ACME], origins=["https://friend.example"])
    async with serving(app) as address:
        yield address


def watch(address: str, token: Token = VIEWER, query: str = "", **options: Any) -> connect:
    headers = {"Authorization": f"Bearer {token.secret}"} | options.pop("headers", {})
    url = f"ws://{address}/api/tracker-websocket{query}"
    return connect(url, additional_headers=headers, proxy=None, **options)


async def frame(socket: ClientConnection) -> Any:
    """The next frame."""
    async with asyncio.timeout(WAIT_SECONDS):
        return json.loads(await socket.recv())


class Seen:
    """What a client knows that follows the frames."""

    def __init__(self) -> None:
        self.seqs: list[int] = []
        self.runs: dict[str, Any] = {}
        self.steps: dict[str, dict[str, Any]] = {}
        self.progress: list[Any] = []

    def take(self, told: Any) -> None:
        """A frame came."""
        if told["type"] == "update":
            assert told["after"] >= self.seqs[-1]
            assert told["seq"] > self.seqs[-1]
        self.seqs.append(told["seq"])
        for one in told["data"]["runs"]:
            run = one["run"]
            self.runs[run["id"]] = run
            steps = self.steps.setdefault(run["id"], {})
            if one["begins"]:
                steps.clear()
            steps.update({step["name"]: step for step in one["steps"]})
            self.progress += one["progress"]
        for one in told["data"].get("gone", ()):
            del self.runs[one["id"]]

    async def until_status(self, socket: ClientConnection, run_id: str, status: str) -> None:
        """Follow until a run has a status."""
        while self.runs.get(run_id, {}).get("status") != status:
            self.take(await frame(socket))


async def test_a_snapshot_then_updates(rt: Runtime, address: str) -> None:
    """Who connects gets what is there, then each change: status, steps, progress, and the end."""
    first = await rt.start(TrackedOrder, "pear", id="first", ref=("order", "7"), tags={"from": "ann"})
    await until_waiting(rt, "first")
    async with watch(address) as socket:
        told = await frame(socket)
        assert (told["type"], told["version"]) == ("initial_data", 1)
        (one,) = told["data"]["runs"]
        assert one["run"]["ref"] == ["order", "7"]
        assert [(step["name"], step["status"]) for step in one["steps"]] == [("pack", "complete")]
        known = {row["name"]: row for row in told["data"]["workflows"]}
        assert known["TrackedOrder"]["counts"] == {"waiting": 1}
        assert known["TrackedOrder"]["status"] == "active"
        seen = Seen()
        seen.take(told)
        await first.send("go")
        await rt.start(TrackedOrder, "plum", id="second")
        await seen.until_status(socket, "first", "complete")
        await seen.until_status(socket, "second", "waiting")
        assert list(seen.steps["first"]) == ["pack", "ship"]
        assert [event["data"] for event in seen.progress] == [{"item": "plum"}]
        await first.purge()
        while "first" in seen.runs:
            seen.take(await frame(socket))


async def until_waiting(rt: Runtime, run_id: str) -> None:
    while await rt.run(TrackedOrder, run_id).status() != "waiting":  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0.001)


async def test_who_comes_back_gets_what_it_missed(rt: Runtime, address: str) -> None:
    """With the last `seq` the updates go on behind it, and nothing comes twice."""
    seen = Seen()
    async with watch(address) as socket:
        seen.take(await frame(socket))
        await rt.start(TrackedOrder, "pear", id="a")
        await seen.until_status(socket, "a", "waiting")
    await rt.run(TrackedOrder, "a").send("go")
    await rt.run(TrackedOrder, "a").result()
    for n in range(5):
        await rt.start(TrackedOrder, "pear", id=f"b{n}")
        await until_waiting(rt, f"b{n}")
    async with watch(address, query=f"?since={seen.seqs[-1]}") as socket:
        told = await frame(socket)
        assert told["type"] == "update"
        seen.take(told)
        await seen.until_status(socket, "b4", "waiting")
        assert seen.runs["a"]["status"] == "complete"
        assert {run["status"] for run in seen.runs.values()} == {"complete", "waiting"}


@pytest.mark.parametrize("since", [0, 999_999])
async def test_a_number_that_is_not_kept_gives_a_snapshot(rt: Runtime, address: str, since: int) -> None:
    """Too old, or of another folder: the client begins anew."""
    await rt.start(TrackedOrder, "pear", id="a")
    await until_waiting(rt, "a")
    async with watch(address, query=f"?since={since}") as socket:
        told = await frame(socket)
        assert told["type"] == "initial_data"
        assert [one["run"]["id"] for one in told["data"]["runs"]] == ["a"]


async def test_who_falls_out_of_the_feed_gets_a_snapshot(
    rt: Runtime, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that is further behind than the feed is kept begins anew, on the same connection."""
    monkeypatch.setattr(change_feed, "MAX_CHANGES", 3)
    async with watch(address) as socket:
        since = (await frame(socket))["seq"]
    for n in range(20):
        await rt.start(TrackedOrder, "pear", id=f"{n}")
        await until_waiting(rt, f"{n}")
    async with watch(address, query=f"?since={since}&runs=5") as socket:
        told = await frame(socket)
        assert told["type"] == "initial_data"
        assert [one["run"]["id"] for one in told["data"]["runs"]] == ["19", "18", "17", "16", "15"]


async def test_a_failed_attempt_tells_when_it_is_tried_again(rt: Runtime, address: str) -> None:
    """The error of a step has its attempts, the next time, and whether it is tried again."""
    async with watch(address) as socket:
        seen = Seen()
        seen.take(await frame(socket))
        await rt.start(TrackedFailure, id="f")
        await seen.until_status(socket, "f", "retrying")
        step = seen.steps["f"]["fail"]
        assert (step["status"], step["attempts"], step["error"]["fatal"]) == ("retrying", 1, False)
        assert step["next_attempt_at"] > step["at"]


async def test_a_tenant_sees_its_own(rt: Runtime, address: str) -> None:
    """A token of a tenant gets no run of anybody else, no count, and no word of their end."""
    other = await rt.start(TrackedOrder, "pear", id="other")
    await rt.start(TrackedOrder, "pear", id="mine", tenant="acme")
    await until_waiting(rt, "mine")
    async with watch(address, ACME) as socket:
        told = await frame(socket)
        assert [one["run"]["id"] for one in told["data"]["runs"]] == ["mine"]
        assert all(row["counts"] is None for row in told["data"]["workflows"])
        await other.terminate()
        await other.purge()
        await rt.run(TrackedOrder, "mine").send("go")
        seen = Seen()
        seen.take(told)
        await seen.until_status(socket, "mine", "complete")
        assert set(seen.runs) == {"mine"}
        await rt.run(TrackedOrder, "mine").purge()
        while seen.runs:
            seen.take(await frame(socket))
    with pytest.raises(InvalidStatus) as caught:
        async with watch(address, ACME, "?tenant=other"):
            pass
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize("query", ["?workflow=TrackedOrder&id=a", "?ref_type=order&ref_id=1"])
async def test_one_run_or_a_ref_can_be_watched(rt: Runtime, address: str, query: str) -> None:
    """With a filter the others are not told."""
    await rt.start(TrackedOrder, "pear", id="a", ref=("order", "1"))
    await rt.start(TrackedOrder, "pear", id="b", ref=("order", "2"))
    await until_waiting(rt, "a")
    async with watch(address, query=query) as socket:
        seen = Seen()
        seen.take(await frame(socket))
        await rt.run(TrackedOrder, "b").send("go")
        await rt.run(TrackedOrder, "b").result()
        await rt.run(TrackedOrder, "a").send("go")
        await seen.until_status(socket, "a", "complete")
        assert set(seen.runs) == {"a"}


async def test_the_standing_of_a_workflow_is_an_update(rt: Runtime, address: str) -> None:
    """A workflow that is paused or noted something about is told."""
    async with watch(address) as socket:
        await frame(socket)
        await rt.set_workflow_status(TrackedOrder, "paused")
        told = await frame(socket)
        assert told["data"]["workflows"][0]["name"] == "TrackedOrder"
        assert told["data"]["workflows"][0]["status"] == "paused"


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("", {"Authorization": "Bearer wrong-wrong-wrong"}, 401),
        ("?since=x", {}, 400),
        ("?since=-1", {}, 400),
        ("?runs=501", {}, 400),
        ("?token=secret", {}, 400),
        ("?id=a", {}, 400),
        ("?workflow=TrackedOrder&id=~[", {}, 400),
        ("?workflow=TrackedOrder&id=" + "x" * 300, {}, 400),
        ("?ref_id=a", {}, 400),
        ("", {"Origin": "https://stranger.example"}, 403),
    ],
)
async def test_who_is_refused(address: str, query: str, headers: dict[str, str], status: int) -> None:
    """Before it is let in, with a status and a problem."""
    with pytest.raises(InvalidStatus) as caught:
        async with watch(address, query=query, headers=headers):
            pass
    assert caught.value.response.status_code == status


async def test_a_browser_says_its_token_as_a_subprotocol(address: str) -> None:
    """The subprotocol that is chosen is that of the tracker, not the one with the token."""
    encoded = base64.urlsafe_b64encode(VIEWER.secret.encode()).decode().rstrip("=")
    offered = [Subprotocol("holdfast.tracker.v1"), Subprotocol(f"holdfast.token.{encoded}")]
    url = f"ws://{address}/api/tracker-websocket"
    origin: Any = "https://friend.example"
    async with connect(url, subprotocols=offered, origin=origin, proxy=None) as socket:
        assert socket.subprotocol == "holdfast.tracker.v1"
        assert (await frame(socket))["type"] == "initial_data"
    for wrong in ("!", encoded[:-4]):
        offered[1] = Subprotocol("holdfast.token." + wrong)
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, subprotocols=offered, proxy=None):
                pass
        assert caught.value.response.status_code in (400, 401)


async def talk_until(rt: Runtime, quick: ClientConnection, cut_off: Callable[[], bool]) -> Seen:
    """Let there be more to tell, of which `quick` takes all, until the other client is cut off."""
    seen = Seen()
    seen.take(await frame(quick))
    for n in range(200):
        await rt.start(TrackedTalk, 50, id=f"{n}")
        await seen.until_status(quick, f"{n}", "complete")
        if cut_off():
            break
    await until(cut_off, "it is cut off")
    return seen


async def test_a_slow_client_is_cut_off(
    rt: Runtime, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With 1013, if it takes that at last; nobody else waits for it or misses anything."""
    monkeypatch.setattr(tracker, "SEND_SECONDS", 0.2)
    monkeypatch.setattr(tracker, "CUT_OFF_SECONDS", 30)
    caplog.set_level("INFO", "holdfast.service")
    async with watch(address, **UNBOUNDED) as slow, watch(address, **UNBOUNDED) as quick:
        slow.transport.pause_reading()
        seen = await talk_until(rt, quick, lambda: "took nothing for 0.2 s" in caplog.text)
        slow.transport.resume_reading()
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await frame(slow)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1013
    assert len(seen.progress) == 50 * len(seen.runs)


async def test_a_dead_client_is_let_go(rt: Runtime, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes not even the end is gone soon behind it."""
    monkeypatch.setattr(tracker, "SEND_SECONDS", 0.2)
    async with watch(address, **UNBOUNDED) as dead, watch(address, **UNBOUNDED) as quick:
        dead.transport.pause_reading()
        await talk_until(rt, quick, lambda: rt.changes.watching == 1)
        dead.transport.abort()


async def test_a_runtime_that_closes_says_so(folder: Path) -> None:
    """The connection is closed with 1001: come again."""
    async with (
        Runtime(folder) as rt,
        serving(http_app(rt, tokens=[VIEWER])) as address,
        watch(address) as socket,
    ):
        await frame(socket)
        await rt.close()
        with pytest.raises(ConnectionClosed) as caught:
            await frame(socket)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001


async def test_too_many_watchers(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound a client is told to come later."""
    monkeypatch.setattr(tracker, "MAX_WATCHERS", 1)
    async with watch(address) as socket:
        await frame(socket)
        with pytest.raises(InvalidStatus) as caught:
            async with watch(address):
                pass
        assert caught.value.response.status_code == 503
