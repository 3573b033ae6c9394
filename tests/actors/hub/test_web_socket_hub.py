"""actors/hub: topics that are numbered and kept, and who gets what when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from holdfast import CallerError, HubSocket, Limits, Overloaded, Runtime, WebSocketHub, Workflow
from holdfast.actors.errors import TopicNotFound
from holdfast.actors.hub import hub_socket, sockets
from holdfast.actors.hub.frames import HubFrame, message_frame
from holdfast.actors.hub.hub_socket import ABNORMAL, GOING_AWAY, TOO_SILENT, TOO_SLOW
from holdfast.runtime.clock import ManualClock
from holdfast.runtime.errors import InvalidActor, PrivateMethod
from holdfast.runtime.ref import Ref
from holdfast.storage.errors import InvalidValue, StorageFailed
from tests.runtime.support import FailingLog, HeldLog

SAID: list[Any] = []
BEGAN: list[Any] = []


class Room(WebSocketHub):
    """Says again what it hears, and remembers who comes and goes."""

    keep = 5
    heard: int = 0

    async def on_connect(self, socket: HubSocket) -> None:
        if socket.user == "nobody":
            raise PermissionError("no entry")
        SAID.append(("came", socket.user))

    async def on_message(self, socket: HubSocket, data: str | bytes) -> None:
        self.heard += 1
        socket.attachment = {"said": self.heard}
        self.send(socket, f"you said {data!r}")
        if data == "fail":
            raise ValueError("after it was sent")
        if data == "bye":
            self.close_socket(socket, 4000, "as you like")

    async def on_disconnect(self, socket: HubSocket, code: int, reason: str, clean: bool) -> None:
        SAID.append(("went", socket.user, code, reason, clean))
        if socket.user == "breaks":
            raise ValueError("in on_disconnect")

    async def publish_and_fail(self, topic: str) -> None:
        await self.publish(topic, "never")
        raise ValueError("so it is not published")

    async def tell(self, tag: str, text: str) -> int:
        found = self.open_sockets(tag=tag)
        for one in found:
            self.send(one, text)
        return len(found)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SAID.clear()
    BEGAN.clear()


@pytest.fixture
async def rt(folder: Path, clock: ManualClock) -> AsyncIterator[Runtime]:
    async with Runtime(folder, clock=clock, seed=1) as running:
        yield running


def ref(hub: WebSocketHub) -> Ref:
    """What `rt.get` gives, by its own name."""
    return cast("Ref", hub)


async def everything(socket: HubSocket) -> list[HubFrame]:
    """What waits to be sent, and what is read from disk for it."""
    found: list[HubFrame] = []
    while frames := await socket.next_frames(0.001):
        found += frames
    return found


async def frames(socket: HubSocket) -> list[Any]:
    """What waits to be sent, messages as (topic, number, data)."""
    found: list[Any] = []
    for one in await everything(socket):
        if one.topic is None:
            found.append(one.text)
            continue
        frame = json.loads(one.text)
        kind = frame.pop("type")
        if kind == "begin":
            BEGAN.append(tuple(frame.values()))
            continue
        found.append(
            (frame["topic"], frame["number"], frame["data"]) if kind == "message" else (kind, *frame.values())
        )
    return found


async def test_messages_are_numbered_kept_and_told_in_order(rt: Runtime) -> None:
    """Each topic has numbers of its own."""
    room = rt.get(Room, "a")
    async with rt.sockets.connect(room, topics={"x": None, "y": None}) as socket:
        assert [await room.publish("x", n) for n in "ab"] == [1, 2]
        assert await room.publish("y", {"deep": [1, None]}) == 1
        assert await frames(socket) == [("x", 1, "a"), ("x", 2, "b"), ("y", 1, {"deep": [1, None]})]
    latest = await room.latest("x")
    assert (latest.topic, latest.number, latest.data) == ("x", 2, "b")
    assert [one.data for one in await room.since("x", 1)] == ["b"]
    assert [(one.topic, one.number, one.kept, one.open_sockets) for one in await room.topics()] == [
        ("x", 2, 2, 0),
        ("y", 1, 1, 0),
    ]
    assert [one.topic for one in await room.topics("y")] == ["y"]


async def test_a_client_that_comes_back_gets_every_message_once(rt: Runtime) -> None:
    """It says the number of its last message; without one it begins with the next."""
    room = rt.get(Room, "a")
    for n in range(3):
        await room.publish("x", n)
    async with (
        rt.sockets.connect(room, topics={"x": 1}) as back,
        rt.sockets.connect(room, topics={"x": None}) as new,
        rt.sockets.connect(room, topics={"x": 0}) as late,
    ):
        await room.publish("x", 3)
        assert await frames(back) == [("x", 2, 1), ("x", 3, 2), ("x", 4, 3)]
        assert await frames(new) == [("x", 4, 3)]
        assert BEGAN == [("x", 3)]  # with this it can come back, though it got nothing
        assert [number for _, number, _ in await frames(late)] == [1, 2, 3, 4]


async def test_what_is_not_kept_any_more_is_told_as_a_gap(rt: Runtime, clock: ManualClock) -> None:
    """Behind the last five, and in a topic that was cleared; its numbers go on."""
    room = rt.get(Room, "a")
    for n in range(8):
        await room.publish("x", n)
    async with rt.sockets.connect(room, topics={"x": 1}) as socket:
        assert await frames(socket) == [("gap", "x", 2, 3), *(("x", n + 1, n) for n in range(3, 8))]
        await room.clear_topic("x")
        await room.publish("x", "new")
        assert await frames(socket) == [("x", 9, "new")]
    async with rt.sockets.connect(room, topics={"x": 7}) as socket:
        assert await frames(socket) == [("gap", "x", 8, 8), ("x", 9, "new")]
    async with rt.sockets.connect(room, topics={"x": 12}) as socket:  # of a folder that was restored
        assert await frames(socket) == [("reset", "x", 0), ("gap", "x", 1, 8), ("x", 9, "new")]
    with pytest.raises(TopicNotFound, match="keeps no message on topic 'z'"):
        await room.latest("z")


class Brief(WebSocketHub):
    keep_for = "10s"


async def test_messages_are_kept_for_a_time(rt: Runtime, clock: ManualClock) -> None:
    """Numbers go on; the gap reaches up to the last one."""
    hub = rt.get(Brief, "a")
    await hub.publish("x", 1)
    clock.advance(11)
    async with rt.sockets.connect(hub, topics={"x": 0}) as socket:
        assert await frames(socket) == [("gap", "x", 1, 1)]
        await hub.publish("x", 2)
        assert await frames(socket) == [("x", 2, 2)]


# -- P3 and P9 ----------------------------------------------------------------------------------------------


async def test_nothing_is_sent_before_it_is_durable(folder: Path, clock: ManualClock) -> None:
    """Neither to who is there nor to who comes meanwhile."""
    held = HeldLog()
    async with Runtime(folder, clock=clock, wrap_log=held.wrap) as rt:
        room = rt.get(Room, "a")
        await room.publish("x", 0)
        async with rt.sockets.connect(room, topics={"x": None}) as early:
            held.hold()
            publishing = asyncio.create_task(room.publish("x", 1))
            await held.arrived()
            assert await frames(early) == []
            late = HubSocket(rt.sockets, ref(room), "late", None, (), 0)
            late.subscribe("x", 0)
            assert await frames(late) == [("x", 1, 0)]
            held.release()
            assert await publishing == 2
            assert await frames(early) == [("x", 2, 1)]
            assert await frames(late) == [("x", 2, 1)]


async def test_what_a_failed_commit_held_is_never_sent(folder: Path, clock: ManualClock) -> None:
    """Its number is given to the next message."""
    log = FailingLog()
    async with Runtime(folder, clock=clock, wrap_log=log.wrap) as rt:
        room = rt.get(Room, "a")
        async with rt.sockets.connect(room, topics={"x": None}) as socket:
            await room.publish("x", 1)
            log.fail_next = 1
            with pytest.raises(StorageFailed):
                await room.publish("x", "lost")
            assert await room.publish("x", 2) == 2
            assert await frames(socket) == [("x", 1, 1), ("x", 2, 2)]


async def test_a_turn_that_fails_publishes_nothing(rt: Runtime) -> None:
    """P1."""
    room = rt.get(Room, "a")
    async with rt.sockets.connect(room, topics={"x": None}) as socket:
        with pytest.raises(ValueError, match="not published"):
            await room.publish_and_fail("x")
        assert await room.publish("x", 1) == 1
        assert await frames(socket) == [("x", 1, 1)]


class Tells(Workflow):
    async def run(self) -> int:
        return await self.step(self.tell)

    async def tell(self) -> int:
        return await self.runtime.get(Room, "a").publish("x", "from a step")


async def test_a_step_publishes(rt: Runtime) -> None:
    """As any call of an actor."""
    async with rt.sockets.connect(rt.get(Room, "a"), topics={"x": None}) as socket:
        assert await (await rt.start(Tells)).result() == 1
        assert await frames(socket) == [("x", 1, "from a step")]


# -- clients ------------------------------------------------------------------------------------------------


async def test_what_a_client_says_is_a_turn(rt: Runtime) -> None:
    """The reply leaves when it is durable; the attachment stays with the connection."""
    room = rt.get(Room, "a")
    async with rt.sockets.connect(room, user="ann", tags=["t"]) as socket:
        await socket.received("hello")
        await socket.received(b"\x00")
        assert await frames(socket) == ["you said 'hello'", "you said b'\\x00'"]
        assert socket.attachment == {"said": 2}
        await socket.received("bye")
        assert await frames(socket) == ["you said 'bye'"]
        assert await socket.next_frames() is None
        assert (socket.close_code, socket.close_reason) == (4000, "as you like")
        await socket.received("too late")
        await room.publish("x", 1)
    assert SAID == [("came", "ann"), ("went", "ann", 4000, "as you like", True)]


async def test_a_handler_that_fails_closes_its_client_only(
    rt: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """What its turn sent is undone; the other clients stay."""
    room = rt.get(Room, "a")
    async with rt.sockets.connect(room) as one, rt.sockets.connect(room) as other:
        await one.received("fail")
        assert await one.next_frames() is None
        assert one.close_code == 1011
        assert "on_message failed" in caplog.text
        await other.received("hello")
        assert await frames(other) == ["you said 'hello'"]


async def test_the_auto_response_leaves_the_hub_alone(rt: Runtime, clock: ManualClock) -> None:
    """Word for word; a blank more is a message."""
    room = rt.get(Room, "a")
    async with rt.sockets.connect(room) as socket:
        clock.advance(5)
        await socket.received("ping")
        assert await frames(socket) == ["pong"]
        assert socket.heard_ms == clock.now_ms()
        await socket.received("ping ")
        await socket.received(b"ping")
        assert await frames(socket) == ["you said 'ping '", "you said b'ping'"]


async def test_the_hub_leaves_memory_and_its_clients_stay(folder: Path, clock: ManualClock) -> None:
    """AC-39: the next message makes it anew; tags, attachments and subscriptions are as they were."""
    async with Runtime(folder, clock=clock, limits=Limits(idle_seconds=10)) as rt:
        room = rt.get(Room, "a")
        async with rt.sockets.connect(room, topics={"x": None}, tags=["t"]) as socket:
            await socket.received("hello")
            await frames(socket)
            clock.advance(60)
            await asyncio.sleep(0)
            assert ref(room).activation is None
            await socket.received("again")
            await room.publish("x", 1)
            assert await room.tell("t", "by tag") == 1
            assert await room.tell("other", "by tag") == 0
            assert await frames(socket) == ["you said 'again'", ("x", 1, 1), "by tag"]
            assert socket.attachment == {"said": 2}


async def test_a_client_that_is_too_slow_is_cut_off(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """By count or by bytes; it comes back with the number of its last message.  The others notice nothing."""
    monkeypatch.setattr(hub_socket, "MAX_OUTBOX_FRAMES", 3)
    room = rt.get(Room, "a")
    async with (
        rt.sockets.connect(room, topics={"x": None}) as slow,
        rt.sockets.connect(room, topics={"x": None}) as quick,
    ):
        got: list[Any] = []
        for n in range(4):
            await room.publish("x", n)
            got += await frames(quick)
        assert [number for _, number, _ in got] == [1, 2, 3, 4]
        assert await slow.next_frames() is None
        assert slow.close_code == TOO_SLOW
    monkeypatch.setattr(hub_socket, "MAX_OUTBOX_BYTES", 200)
    async with rt.sockets.connect(room, topics={"x": 0}) as socket:
        assert len(await frames(socket)) == 4  # what it comes back for is not held against it
        await room.publish("x", "a" * 300)
        assert await socket.next_frames() is None
        assert socket.close_code == TOO_SLOW


class Watched(WebSocketHub):
    max_silence = "30s"


async def test_a_silent_client_is_cut_off(rt: Runtime, clock: ManualClock) -> None:
    """A ping is enough to stay."""
    async with (
        rt.sockets.connect(rt.get(Watched, "a")) as one,
        rt.sockets.connect(rt.get(Watched, "a")) as other,
    ):
        clock.advance(20)
        await one.received("ping")
        clock.advance(20)
        assert (one.close_code, other.close_code) == (None, TOO_SILENT)
        clock.advance(20)
        assert one.close_code == TOO_SILENT


async def test_each_end_is_told_once(rt: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """AC-43: the client's code, the hub's, or 1006 when it vanished; also where the handler raises."""
    room = rt.get(Room, "a")
    async with rt.sockets.connect(room, user="closes") as socket:
        socket.peer_closed(1001, "leaving")
    async with rt.sockets.connect(room, user="vanishes"):
        pass
    with pytest.raises(RuntimeError, match="transport"):
        async with rt.sockets.connect(room, user="breaks"):
            raise RuntimeError("of the transport")
    assert [one for one in SAID if one[0] == "went"] == [
        ("went", "closes", 1001, "leaving", True),
        ("went", "vanishes", ABNORMAL, "", False),
        ("went", "breaks", ABNORMAL, "", False),
    ]
    assert "on_disconnect failed" in caplog.text
    assert rt.sockets.of_hub(ref(room)) == []


async def test_a_client_is_refused(rt: Runtime) -> None:
    """By `on_connect`; it was never there."""
    room = rt.get(Room, "a")
    with pytest.raises(PermissionError, match="no entry"):
        async with rt.sockets.connect(room, user="nobody"):
            raise AssertionError("it is not let in")
    assert SAID == []
    assert rt.sockets.of_hub(ref(room)) == []


async def test_closing_tells_all_to_come_again(folder: Path) -> None:
    """With 1001, before the runtime is closed; the transports end by that."""
    ended: list[int | None] = []
    async with Runtime(folder) as rt:

        async def transport() -> None:
            async with rt.sockets.connect(rt.get(Room, "a"), topics={"x": None}) as socket:
                while await socket.next_frames() is not None:
                    pass
                ended.append(socket.close_code)

        task = asyncio.create_task(transport())
        while not rt.sockets.of_hub(ref(rt.get(Room, "a"))):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)
        await rt.get(Room, "a").publish("x", 1)
    await task
    assert ended == [GOING_AWAY]


# -- bad input ----------------------------------------------------------------------------------------------


async def test_bad_input_is_told(rt: Runtime) -> None:
    """Before anything is written."""
    room = rt.get(Room, "a")
    with pytest.raises(CallerError, match="a topic is a printable text of 1 to 200 bytes; got ''"):
        await room.publish("", 1)
    with pytest.raises(CallerError, match="expected a hub of this runtime"):
        async with rt.sockets.connect("a"):  # type: ignore[arg-type]
            pass
    with pytest.raises(CallerError, match="number is a whole number"):
        async with rt.sockets.connect(room, topics={"x": -1}):
            pass
    with pytest.raises(CallerError, match="tags are several texts"):
        async with rt.sockets.connect(room, tags="abc"):
            pass
    with pytest.raises(CallerError, match="at most 10 tags"):
        async with rt.sockets.connect(room, tags=[str(n) for n in range(11)]):
            pass
    with pytest.raises(PrivateMethod, match="on_message is a hook"):
        await room.on_message(None, "x")  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match="no form in JSON"):
        await room.publish("x", {(1, 2): 3})
    async with rt.sockets.connect(room) as socket:
        with pytest.raises(CallerError, match="closed with 1000"):
            socket.close(1006)
        with pytest.raises(CallerError, match="at most 123 bytes"):
            socket.close(1000, "é" * 62)
        with pytest.raises(InvalidValue, match="at most 16384"):
            socket.attachment = bytes(20_000)
        with pytest.raises(CallerError, match="at most 100 topics"):
            for n in range(101):
                socket.subscribe(str(n))
        await everything(socket)
        waiting = asyncio.create_task(socket.next_frames())
        await asyncio.sleep(0)
        with pytest.raises(CallerError, match=r"waits for the frames .* already"):
            await socket.next_frames()
        waiting.cancel()
    with pytest.raises(InvalidActor, match="keep must be a whole number"):

        class Keeps(WebSocketHub):
            keep = 0

    with pytest.raises(InvalidActor, match="auto_response must be two texts"):

        class Answers(WebSocketHub):
            auto_response = "ping"  # type: ignore[assignment]

    assert await room.topics() == []


async def test_a_hub_has_room_for_so_many_clients(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is told to come later."""
    monkeypatch.setattr(sockets, "MAX_SOCKETS", 1)
    room = rt.get(Room, "a")
    async with rt.sockets.connect(room):
        with pytest.raises(Overloaded, match="MAX_SOCKETS"):
            async with rt.sockets.connect(room):
                pass
    async with rt.sockets.connect(room):
        pass


# -- found by attack ----------------------------------------------------------------------------------------


class Wide(WebSocketHub):
    keep = 2_000


async def test_a_long_backlog_comes_in_pages(rt: Runtime) -> None:
    """It isn't held against the client, is read as the client takes it, and what is new waits behind it."""
    hub = rt.get(Wide, "a")
    for n in range(1_200):
        await hub.publish("x", n)
    async with rt.sockets.connect(hub, topics={"x": 0, "y": 0}) as socket:
        first = await socket.next_frames()
        assert first is not None
        assert len(first) <= 60
        await hub.publish("x", "new")
        await hub.publish("y", "other")
        rest = [json.loads(one.text) for one in [*first, *await everything(socket)]]
        assert [one["number"] for one in rest if one["topic"] == "x"] == list(range(1, 1_202))
        assert [one["number"] for one in rest if one["topic"] == "y"] == [1]
        assert socket.is_open


async def test_a_commit_comes_while_a_client_catches_up(rt: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has a message already, which is told to all only then: the client gets it once."""
    room = rt.get(Room, "a")
    await room.publish("x", 1)
    await room.publish("x", 2)
    monkeypatch.setattr(sockets, "last_number", lambda storage, topic: 1)
    async with rt.sockets.connect(room, topics={"x": 0}) as socket:
        assert await frames(socket) == [("x", 1, 1), ("x", 2, 2)]
        (message,) = await room.since("x", 1)
        rt.sockets.deliver(ref(room), "x", 2, message_frame("x", 2, message.at, 2))
        assert await frames(socket) == []


async def test_fewer_are_kept_than_before(folder: Path) -> None:
    """Those that the folder has beyond that are not sent, not counted, and go away by and by."""
    async with Runtime(folder) as rt:
        for n in range(40):
            await rt.get(Wide, "a").publish("x", n)

    class Narrow(WebSocketHub):
        name = "Wide"
        keep = 10

    async with Runtime(folder, types=[Narrow]) as rt:
        hub = rt.get(Narrow, "a")
        assert [(one.number, one.kept) for one in await hub.topics()] == [(40, 10)]
        async with rt.sockets.connect(hub, topics={"x": 3}) as socket:
            got = await frames(socket)
            assert got == [("gap", "x", 4, 30), *(("x", n, n - 1) for n in range(31, 41))]
        for n in range(40, 52):
            await hub.publish("x", n)
        assert [one.number for one in await hub.since("x")] == list(range(43, 53))


class Presence(WebSocketHub):
    present: int = 0

    async def on_connect(self, socket: HubSocket) -> None:
        self.present += 1

    async def on_disconnect(self, socket: HubSocket, code: int, reason: str, clean: bool) -> None:
        self.present -= 1

    async def told(self) -> int:
        return self.present


async def test_who_was_let_in_is_told_to_have_left(folder: Path, clock: ManualClock) -> None:
    """Also when it leaves while it is let in, and when the disk refuses once."""
    log, failing = HeldLog(), FailingLog()
    async with Runtime(folder, clock=clock, wrap_log=lambda inner: failing.wrap(log.wrap(inner))) as rt:
        hub = rt.get(Presence, "a")
        await hub.publish("x", 1)

        async def connect() -> None:
            async with rt.sockets.connect(hub):
                raise AssertionError("it has left")

        log.hold()
        coming = asyncio.create_task(connect())
        await log.arrived()
        coming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await coming
        log.release()
        while rt._tasks:
            await asyncio.wait(rt._tasks)
        assert await hub.told() == 0
        async with rt.sockets.connect(hub):
            assert await hub.told() == 1
            failing.fail_next = 1
        assert await hub.told() == 0
    assert failing.tries > 0


async def test_closing_the_runtime_tells_the_hubs(folder: Path) -> None:
    """Their clients have left, once the folder is opened again."""
    rt = Runtime(folder)
    await rt.open()
    hub = rt.get(Presence, "a")

    async def transport() -> None:
        async with rt.sockets.connect(hub) as socket:
            while await socket.next_frames() is not None:
                pass

    tasks = [asyncio.create_task(transport()) for _ in range(5)]
    while await hub.told() < 5:  # noqa: ASYNC110  # nobody tells
        await asyncio.sleep(0)
    await rt.close()
    await asyncio.gather(*tasks)
    async with Runtime(folder) as again:
        assert await again.get(Presence, "a").told() == 0


class Slow(Watched):
    async def on_message(self, socket: HubSocket, data: str | bytes) -> None:
        SAID.append(data)
        await asyncio.Event().wait() if data == "for ever" else None


async def test_a_client_whose_words_are_handled_is_not_silent(rt: Runtime, clock: ManualClock) -> None:
    """However long that takes; nor is one that can't say anything."""
    hub = rt.get(Slow, "a")
    async with rt.sockets.connect(hub) as socket, rt.sockets.connect(hub, talks=False) as listener:
        saying = asyncio.create_task(socket.received("for ever"))
        while not SAID:  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0)
        clock.advance(100)
        assert (socket.close_code, listener.close_code) == (None, None)
        saying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saying
        clock.advance(31)
        assert (socket.close_code, listener.close_code) == (TOO_SILENT, None)


async def test_bad_words_of_a_hub_fail_its_turn(rt: Runtime) -> None:
    """Not the commit's callback."""

    class Bad(WebSocketHub):
        async def say(self, what: str) -> None:
            self.storage.put("n", 1)
            for one in self.open_sockets():
                if what == "close":
                    self.close_socket(one, 1006)
                self.send(one, 5)  # type: ignore[arg-type]

    async with rt.sockets.connect(rt.get(Bad, "a")):
        with pytest.raises(CallerError, match="closed with 1000"):
            await rt.get(Bad, "a").say("close")
        with pytest.raises(CallerError, match="a hub sends texts; got 5"):
            await rt.get(Bad, "a").say("send")
