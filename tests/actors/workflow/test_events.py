"""Events: sent from outside, from actors, from steps and from other runs; waited for by type or by name."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from holdfast import Actor, Event, Retry, RunEnded, RunFailed, Runtime, Workflow
from holdfast.actors.errors import InvalidEvent, RunNotFound
from holdfast.runtime.clock import ManualClock
from holdfast.storage import layout
from holdfast.testing import simulate
from tests.actors.workflow.support import Folder, pass_time, play, rows, settle, soon, until_status


class Approve(msgspec.Struct):
    by: str
    cents: int = 0


class Reject(msgspec.Struct):
    why: str


class Decide(Workflow):
    """Waits for one of two events, for a day."""

    async def run(self) -> str:
        try:
            decision = await self.wait(Approve | Reject, timeout="1d")
        except TimeoutError as error:
            return f"timeout: {error}"
        return f"approved by {decision.by}" if isinstance(decision, Approve) else "rejected"


class Collect(Workflow):
    """Takes so many events of one name, then those of another."""

    async def run(self, count: int) -> list[object]:
        first = [(await self.wait("a")).payload for _ in range(count)]
        await self.sleep("1h")
        return first + [(await self.wait("b")).payload for _ in range(count)]


async def test_an_event_wakes_the_wait_for_its_type(rt: Runtime) -> None:
    """A run that waits holds no place and goes on when the event is sent."""
    run = await rt.start(Decide, id="r")
    assert await until_status(run, "waiting") == "waiting"
    await settle(rt)
    assert rt.engine.places.running == 0
    await run.send(Approve("ann"))
    assert await soon(run.result()) == "approved by ann"


async def test_early_events_are_kept_in_order_for_each_name(rt: Runtime, clock: ManualClock) -> None:
    """What nobody waited for yet is consumed later, the oldest first, each once."""
    run = await rt.start(Collect, 3, id="r")
    for n in range(3):
        await run.send("b", f"b{n}")
        await run.send("a", f"a{n}")
    assert await play(rt, clock, run) == ["a0", "a1", "a2", "b0", "b1", "b2"]


async def test_a_wait_for_several_names_takes_the_oldest(rt: Runtime) -> None:
    """Any of several: the event that came first, whatever its name."""

    class Any2(Workflow):
        async def run(self) -> list[str]:
            await self.wait("go")
            return [(await self.wait("x", "y")).name for _ in range(3)]

    run = await rt.start(Any2, id="r")
    for name in ("y", "x", "y", "go"):
        await run.send(name)
    assert await soon(run.result()) == ["y", "x", "y"]


async def test_wait_event_tells_who_sent_it(rt: Runtime) -> None:
    """User, tenant, time and id are with the event."""

    class Whole(Workflow):
        async def run(self) -> tuple[str, str | None, str | None, str | None]:
            event = await self.wait_event(Approve)
            return event.payload.by, event.user, event.tenant, event.id

    run = await rt.start(Whole, id="r", tenant="acme")
    await run.send(Approve("ann"), user="ann", tenant="acme", id="e-1")
    assert await soon(run.result()) == ("ann", "ann", "acme", "e-1")


async def test_a_wait_ends_with_its_timeout(rt: Runtime, clock: ManualClock) -> None:
    """The timeout is durable and names what did not come."""
    run = await rt.start(Decide, id="r")
    assert await play(rt, clock, run) == "timeout: no Approve or Reject came within 86400 s"
    await settle(rt)
    assert rows(rt, layout.ALARM) == []


class TwoWaits(Workflow):
    """The first wait times out; the second one is there for what comes later."""

    async def run(self) -> str:
        try:
            await self.wait(Approve, timeout=10)
        except TimeoutError:
            pass
        return (await self.wait(Approve)).by


async def test_a_wait_that_timed_out_takes_no_event(rt: Runtime, clock: ManualClock) -> None:
    """AC-55: an event that comes after the timeout is for the next wait of its type."""
    run = await rt.start(TwoWaits, id="r")
    await pass_time(rt, clock, 11)
    await run.send(Approve("late"))
    assert await soon(run.result()) == "late"


async def test_a_wait_that_was_given_up_takes_no_event(rt: Runtime) -> None:
    """A cancelled wait is out of the way of the next one."""

    class GivesUp(Workflow):
        async def run(self) -> str:
            first = self.wait("a")
            second = self.wait("b")
            done, rest = await asyncio.wait(
                [asyncio.ensure_future(first), asyncio.ensure_future(second)],
                return_when=asyncio.FIRST_COMPLETED,
            )
            for one in rest:
                one.cancel()
            again = await self.wait("a")
            return f"{len(done)} {again.payload}"

    run = await rt.start(GivesUp, id="r")
    await run.send("b", 1)
    await settle(rt)
    await run.send("a", 2)
    assert await soon(run.result()) == "1 2"


async def test_events_survive_a_crash_before_the_run_sees_them(folder: Folder) -> None:
    """An acknowledged event is there after a crash, and the run is taken up for it."""
    rt = await folder.open()
    run = await rt.start(Decide, id="r")
    await until_status(run, "waiting")
    await run.send(Reject("no"))
    rt = await folder.reopen()
    assert await soon(rt.run(Decide, "r").result()) == "rejected"


async def test_an_event_with_a_known_id_is_taken_once(rt: Runtime) -> None:
    """Doubles by id are accepted and dropped, also when the first was consumed."""

    class Count(Workflow):
        async def run(self) -> list[object]:
            return [(await self.wait("n")).payload for _ in range(2)]

    run = await rt.start(Count, id="r")
    for payload in (1, 2, 3):
        await run.send("n", payload, id="same")
    await settle(rt)
    await run.send("n", 4, id="other")
    assert await soon(run.result()) == [1, 4]


async def test_a_bad_event_is_refused_to_the_sender(rt: Runtime) -> None:
    """Wrong payloads, names and ids raise where they are sent, and nothing is written."""
    run = await rt.start(Decide, id="r")
    await until_status(run, "waiting")
    before = len(await run.history())
    with pytest.raises(InvalidEvent, match=r"Approve.*by"):
        await run.send("Approve", {"by": 3})
    with pytest.raises(InvalidEvent, match="1 to 100 printable"):
        await run.send("")
    with pytest.raises(InvalidEvent, match="an instance of an event type"):
        await run.send(Approve)
    with pytest.raises(InvalidEvent, match="id of an event"):
        await run.send(Approve("ann"), id="x" * 201)
    with pytest.raises(InvalidEvent, match="at most 1048576"):
        await run.send("big", b"x" * (1 << 20))
    with pytest.raises(InvalidEvent, match="is not right"):
        await run.send(Approve(3))  # type: ignore[arg-type]
    assert len(await run.history()) == before


async def test_declared_events_are_the_only_ones(rt: Runtime) -> None:
    """With `events` the workflow takes what it declares, by type and by name."""

    class Strict(Workflow):
        events = (Approve, "ping")

        async def run(self) -> str:
            return (await self.wait(Approve)).by

    run = await rt.start(Strict, id="r")
    with pytest.raises(InvalidEvent, match="takes no event 'Reject'; it takes Approve, ping"):
        await run.send(Reject("no"))
    await run.send("ping", {"any": "thing"})
    await run.send("Approve", {"by": "bob"})
    assert await soon(run.result()) == "bob"


async def test_a_run_that_has_ended_takes_nothing(rt: Runtime) -> None:
    """The sender is told what the run is; unknown runs and other tenants' runs are not found."""
    run = await rt.start(Decide, id="r", tenant="acme")
    with pytest.raises(RunNotFound, match="tenant 'other'"):
        await run.send(Approve("ann"), tenant="other")
    await run.send(Approve("ann"), tenant="acme")
    await soon(run.result())
    with pytest.raises(RunEnded, match="complete already"):
        await run.send(Approve("bob"))
    with pytest.raises(RunNotFound):
        await rt.run(Decide, "nobody").send(Approve("bob"))


class Desk(Actor):
    """Sends events in its turns."""

    sent: int = 0

    async def approve(self, run: str, fail: bool = False) -> int:
        self.sent += 1
        await self.runtime.run(Decide, run).send(Approve(f"desk {self.sent}"))  # type: ignore[attr-defined]
        if fail:
            raise ValueError("changed my mind")
        return self.sent


async def test_an_actors_event_is_part_of_its_commit(rt: Runtime) -> None:
    """A turn that raises has sent nothing; one that ends well has sent it with its own writes."""
    run = await rt.start(Decide, id="r")
    await until_status(run, "waiting")
    desk = rt.get(Desk, "d")
    with pytest.raises(ValueError, match="changed my mind"):
        await desk.approve("r", fail=True)
    assert await run.status() == "waiting"
    commits = rt.store.newest
    await desk.approve("r")
    assert await soon(run.result()) == "approved by desk 1"
    assert rt.store.newest > commits


async def test_an_actors_event_to_a_run_that_has_ended_fails_its_turn(rt: Runtime) -> None:
    """The turn is told, and may catch it."""
    run = await rt.start(Decide, id="r")
    await run.send(Reject("x"))
    await soon(run.result())
    with pytest.raises(RunEnded):
        await rt.get(Desk, "d").approve("r")


class Tells(Workflow):
    """Sends to another run, twice."""

    async def run(self, other: str) -> str:
        await self.send(Collect, other, "a", 1)
        await self.send(Collect, other, "b", 2, event_id="only")
        return "told"


def test_runs_send_to_each_other_exactly_once_over_crashes() -> None:
    """Whatever commit the process dies at, the other run gets each event once."""
    for n in range(1, 14):
        for when in ("before", "after"):
            with simulate() as sim:
                other = sim.start(Collect, 1, id="o")
                sim.crash_at("commit", n, when)
                run = sim.start(Tells, "o", id="t", on_conflict="join")
                assert sim.result(run) == "told"
                assert sim.result(other) == [1, 2]
                assert sim.journal(other).count("event") == 2


def test_a_step_sends_exactly_once_over_its_attempts() -> None:
    """A body that sends and then fails is tried again, and the event is there once."""

    async def tell(run: str) -> None:
        await SIM[0].run(Collect, run).send("a", 1)
        SIM.append(SIM[0])
        if len(SIM) < 4:
            raise OSError("again")

    class InStep(Workflow):
        retry = Retry(5, 1.0)

        async def run(self, run: str) -> None:
            await self.step(tell, run)
            await self.send(Collect, run, "b", 2)

    SIM: list[Runtime] = []
    with simulate() as sim:
        SIM.append(sim.runtime)
        other = sim.start(Collect, 1, id="o")
        sim.result(sim.start(InStep, "o", id="t"))
        assert sim.result(other) == [1, 2]
        assert sim.journal(other).count("event a") == 1


async def test_sending_to_nobody_fails_the_send_and_not_the_run(rt: Runtime) -> None:
    """What is wrong with the other run is an answer: a StepError that may be caught."""

    class Careful(Workflow):
        async def run(self) -> str:
            outcome = await self.send(Decide, "nobody", Approve("x")).outcome()
            return str(outcome.error)

    text = await soon((await rt.start(Careful, id="r")).result())
    assert "RunNotFound: there is no run Decide/nobody" in text


async def test_submit_and_enqueue_by_id(rt: Runtime) -> None:
    """`submit_event` returns when the run has got it, `enqueue_event` when it is durable."""
    await rt.start(Decide, id="r")
    await rt.start(Decide, id="s")
    info = await rt.submit_event(Decide, "r", Approve("ann"))
    assert info.status == "complete"
    await rt.enqueue_event(Decide, "s", "Reject", {"why": "no"}, user="bob")
    assert await soon(rt.run(Decide, "s").result()) == "rejected"


async def test_a_payload_that_fits_no_more_is_an_error_of_the_wait(rt: Runtime) -> None:
    """A name that is waited for by a type it was not sent with raises into run()."""

    class Later(Workflow):
        events = ("Approve",)

        async def run(self) -> str:
            try:
                await self.wait(Approve)
            except InvalidEvent as error:
                return str(error)
            return "?"

    run = await rt.start(Later, id="r")
    await run.send("Approve", [1, 2])
    assert "doesn't fit" in await soon(run.result())


async def test_result_of_a_run_that_waits_for_ever_can_be_given_up(rt: Runtime) -> None:
    """Terminating a waiting run ends it at once."""
    run = await rt.start(Decide, id="r")
    await until_status(run, "waiting")
    await run.terminate("enough")
    with pytest.raises(RunFailed, match="terminated: Terminated: enough"):
        await soon(run.result())


def test_event_is_a_plain_struct() -> None:
    """An event can be compared and shown."""
    one = msgspec.structs.replace
    assert callable(one)
    assert Event.__struct_fields__ == ("name", "payload", "at", "user", "tenant", "id")
