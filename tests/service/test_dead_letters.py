"""service/api/dead_letters.py: a real client at a real server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from holdfast import Actor, Alarm, Queue, Retry, Runtime, Workflow
from holdfast.runtime.clock import ManualClock
from tests.actors.queue_support import Hand, Inbox, rest
from tests.runtime.support import pass_time
from tests.service.things_support import ACME, VIEWER, as_, client_of, pages, told

TOLD: list[str] = []


async def http_pay(cents: int) -> int:
    if cents % 2:
        raise OSError(f"no {cents} cents left")
    return cents


class HttpPay(Workflow):
    retry = Retry(0)

    async def run(self, cents: int) -> int:
        return await self.step(http_pay, cents, name="pay")


class HttpCharge(Workflow):
    async def run(self) -> None:
        raise LookupError("no card")


class HttpRinging(Actor):
    broken: bool = True

    async def ring(self, name: str) -> None:
        self.alarms.set(0, name, payload={"to": name})

    async def mend(self) -> None:
        self.broken = False

    async def on_alarm(self, alarm: Alarm) -> None:
        if self.broken:
            raise ValueError("the bell is broken")
        TOLD.append(f"{self.key} {alarm.name}")


@pytest.fixture
async def rt(folder: Path, clock: ManualClock) -> AsyncIterator[Runtime]:
    TOLD.clear()
    async with Runtime(folder, clock=clock, seed=1) as rt:
        yield rt


@pytest.fixture
async def client(rt: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(rt) as client:
        yield client


async def fail_runs(rt: Runtime, *cents: int, tenant: str | None = None) -> None:
    for n in cents:
        run = await rt.start(HttpPay, n, id=f"p{n}", tenant=tenant)
        while await run.status() != "failed":
            await rest(rt)
        clock = rt.clock
        assert isinstance(clock, ManualClock)
        clock.advance(1)


async def bury(rt: Runtime, name: Any, *bodies: object) -> None:
    """Send messages that become dead letters at once."""
    hand = Hand()
    consumer = rt.consume(name, hand, batch_size=100, max_wait=0, retry=Retry(0))
    await rt.get(Queue, name).send_batch(list(bodies), ids=[f"id-{body}" for body in bodies])
    await rest(rt)
    await hand.last.fail(rt)
    await consumer.stop()


async def kill_alarm(rt: Runtime, key: str, *names: str) -> None:
    for name in names:
        await rt.get(HttpRinging, key).ring(name)
    for _ in range(8):
        await pass_time(rt, 1_000)


async def letters(client: httpx.AsyncClient, **asked: Any) -> list[Any]:
    found: list[Any] = told(await client.get("/dead-letters", params=asked))["dead_letters"]
    return found


async def test_a_failed_run_goes_on_with_another_input(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Its letter tells step, cause and attempts; whole, also its input and history."""
    await fail_runs(rt, 1)
    (letter,) = await letters(client)
    assert (letter["type"], letter["id"], letter["step"], letter["attempts"]) == ("HttpPay", "p1", "pay", 1)
    assert letter["error"]["type"] == "StepError"
    assert letter["cause"] == "StepError: step pay was tried once and failed: OSError: no # cents left"
    whole = told(await client.get(f"/dead-letters/{letter['letter']}"))
    assert (whole["content"], whole["history"][-1]["kind"]) == (1, "Failed")
    path = f"/dead-letters/control/redrive/{letter['letter']}"
    assert "input" in told(await client.post(path, json={"reason": "typo", "content": "x"}), 400)
    response = await client.post(path, json={"reason": "typo", "content": 2})
    assert response.status_code == 204
    assert await rt.run(HttpPay, "p1").result() == 2
    assert "there is no dead run of HttpPay/p1" in told(await client.post(path, json={"reason": "x"}), 404)
    told(await client.get(f"/dead-letters/{letter['letter']}"), 404)
    (deed,) = rt.audit()
    assert (deed.verb, deed.who, deed.reason) == ("redrive", "otto", "typo")


async def test_a_message_goes_back_with_another_body(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Or is dropped; its letter tells queue, id, cause and attempts."""
    await bury(rt, ("q", 1), "one", "two")
    first, second = await letters(client, kind="message")
    assert (first["type"], first["key"], first["name"], first["id"], first["attempts"]) == (
        "Queue", ["q", 1], '~["q",1]', "id-one", 1,
    )  # fmt: skip
    assert first["error"] == {"type": "ValueError", "message": "the test failed this batch", "fatal": False}
    assert told(await client.get(f"/dead-letters/{first['letter']}"))["content"] == "one"
    body = {"reason": "typo", "content": {"n": None}}
    assert (
        await client.post(f"/dead-letters/control/redrive/{first['letter']}", json=body)
    ).status_code == 204
    drop = f"/dead-letters/control/drop/{second['letter']}"
    assert "takes no content" in told(await client.post(drop, json=body), 400)
    assert (await client.post(drop, json={"reason": "junk"})).status_code == 204
    told(await client.post(drop, json={"reason": "junk"}), 404)
    inbox = Inbox()
    rt.consume(("q", 1), inbox, max_wait=0)
    await rest(rt)
    assert (inbox.bodies, await letters(client, kind="message")) == ([{"n": None}], [])
    assert [(one.verb, one.reason) for one in rt.audit()] == [("drop", "junk"), ("redrive", "typo")]


async def test_an_alarm_fires_again(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Or is dropped, though nobody loads its actor for that."""
    await kill_alarm(rt, "bell", "a", "b/c")
    first, second = await letters(client, kind="alarm")
    assert (first["type"], first["key"], first["id"], first["attempts"]) == ("HttpRinging", "bell", "a", 7)
    assert first["cause"] == "ValueError: the bell is broken"
    assert told(await client.get(f"/dead-letters/{second['letter']}"))["content"] == {"to": "b/c"}
    await rt.get(HttpRinging, "bell").mend()
    redrive = f"/dead-letters/control/redrive/{first['letter']}"
    assert "the payload that it has" in told(
        await client.post(redrive, json={"reason": "x", "content": 1}), 400
    )
    assert (await client.post(redrive, json={"reason": "mended"})).status_code == 204
    await pass_time(rt, 1)
    assert TOLD == ["bell a"]
    drop = f"/dead-letters/control/drop/{second['letter']}"
    assert (await client.post(drop, json={"reason": "old"})).status_code == 204
    assert "no dead alarm 'b/c' of HttpRinging/bell" in told(
        await client.post(drop, json={"reason": "x"}), 404
    )
    assert [(one.verb, one.target, one.before, one.reason) for one in rt.audit()] == [
        ("drop", "HttpRinging/bell", "dead alarm 'b/c'", "old"),
        ("redrive", "HttpRinging/bell", "dead alarm 'a'", "mended"),
    ]


async def test_letters_are_listed_page_by_page(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Every kind, over several workflows and queues, and by what is asked."""
    await fail_runs(rt, 1, 3)
    run = await rt.start(HttpCharge, id="c")
    while await run.status() != "failed":
        await rest(rt)
    await pass_time(rt, 1)
    await fail_runs(rt, 5, 7)
    for name in ("b", "a", 3):
        await bury(rt, name, 1, 2)
    await rt.get(Queue, "empty").send(1)
    await kill_alarm(rt, "x", "1", "2", "3")

    async def paged(kind: str, limit: int) -> list[list[Any]]:
        found = await pages(client, "/dead-letters", "dead_letters", limit, kind=kind)
        return [[one["id"] for one in page] for page in found]

    assert await paged("run", 2) == [["p1", "p3"], ["c", "p5"], ["p7"]]
    assert await paged("message", 4) == [["id-1", "id-2", "id-1", "id-2"], ["id-1", "id-2"]]
    assert await paged("alarm", 2) == [["1", "2"], ["3"]]
    assert await paged("alarm", 3) == [["1", "2", "3"]]
    assert [one["key"] for one in await letters(client, kind="message")] == ["a", "a", "b", "b", 3, 3]
    assert [one["key"] for one in await letters(client, kind="message", key="~3")] == [3, 3]
    assert [one["id"] for one in await letters(client, kind="message", key="b", type="Queue")] == [
        "id-1",
        "id-2",
    ]
    assert [one["id"] for one in await letters(client, type="HttpCharge")] == ["c"]
    assert [one["id"] for one in await letters(client, cause="LookupError: no card")] == ["c"]
    assert "kind is one of run, message, alarm" in told(await client.get("/dead-letters?kind=x"), 400)
    assert "a cursor is what" in told(await client.get("/dead-letters?kind=message&cursor=AA"), 400)
    assert "a cursor is what" in told(await client.get("/dead-letters/AA"), 400)


async def test_letters_are_grouped_by_cause(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Numbers in a message don't make another cause; each has a count, the first and last, an example."""
    await fail_runs(rt, 1, 3, 5)
    await bury(rt, "q", 1, 2)
    said = told(await client.get("/dead-letters/causes"))
    assert [(one["kind"], one["type"], one["count"]) for one in said["causes"]] == [
        ("run", "HttpPay", 3), ("message", "Queue", 2),
    ]  # fmt: skip
    assert said["more"] is False
    cause = said["causes"][0]
    assert cause["cause"].endswith("OSError: no # cents left")
    assert cause["first_died_at"] < cause["last_died_at"]
    assert told(await client.get(f"/dead-letters/{cause['example']}"))["id"] == "p1"
    only = told(await client.get("/dead-letters/causes?kind=message"))["causes"]
    assert [one["kind"] for one in only] == ["message"]
    assert told(await client.get("/dead-letters/causes?limit=1"))["more"] is True


async def test_all_letters_that_are_meant_are_settled(client: httpx.AsyncClient, rt: Runtime) -> None:
    """A dry run counts them; more than the limit are told; what one refuses stops nothing."""
    await fail_runs(rt, 1, 3)
    await bury(rt, "q", 1, 2, 3)
    await kill_alarm(rt, "x", "a", "b")

    async def settle(verb: str, status: int = 200, **body: Any) -> Any:
        return told(await client.post(f"/dead-letters/control/{verb}", json={"reason": "r", **body}), status)

    counted = {"matched": 3, "done": 0, "refused": [], "more": False}
    assert await settle("redrive", kind="message", dry_run=True) == counted
    cut = await settle("redrive", kind="message", dry_run=True, limit=2)
    assert (cut["matched"], cut["more"]) == (2, True)
    assert await settle("redrive", kind="message", key="q", limit=2) == {
        "matched": 2, "done": 2, "refused": [], "more": True,
    }  # fmt: skip
    assert (await settle("drop", kind="message", cause="nothing"))["matched"] == 0
    assert (await settle("drop", kind="message"))["done"] == 1
    assert (await settle("drop", kind="run", type="HttpPay"))["done"] == 2
    await rt.get(HttpRinging, "x").ring("a")
    await rest(rt)
    told_of = await settle("redrive", kind="alarm")
    assert (told_of["matched"], told_of["done"]) == (2, 1)
    assert "has set alarm 'a' again" in told_of["refused"][0][1]
    assert "redrive needs a reason" in await settle("redrive", 400, kind="run", reason="")
    assert "the verbs are redrive, drop" in await settle("burn", 400, kind="run")
    assert "from 1 to 1000" in await settle("drop", 400, kind="run", limit=5_000)
    stats = await rt.get(Queue, "q").stats()
    assert (stats.depth, stats.dead) == (2, 0)
    assert len(rt.audit()) == 2 + 1 + 2 + 1


async def test_who_may_see_and_settle_dead_letters(client: httpx.AsyncClient, rt: Runtime) -> None:
    """A tenant its own failed runs, and nothing of what is no tenant's; a viewer looks."""
    await fail_runs(rt, 1)
    await fail_runs(rt, 3, tenant="acme")
    await bury(rt, "q", 1)
    mine, other = as_(ACME), as_(VIEWER)
    nobodys, own = await letters(client)
    (message,) = await letters(client, kind="message")
    listed = told(await client.get("/dead-letters", headers=mine))["dead_letters"]
    assert [one["id"] for one in listed] == ["p3"]
    causes = told(await client.get("/dead-letters/causes", headers=mine))["causes"]
    assert [one["count"] for one in causes] == [1]
    told(await client.get("/dead-letters?kind=message", headers=mine), 403)
    told(await client.get("/dead-letters?tenant=other", headers=mine), 403)
    for one in (nobodys, message):
        told(await client.get(f"/dead-letters/{one['letter']}", headers=mine), 404)
        drop = f"/dead-letters/control/drop/{one['letter']}"
        told(await client.post(drop, json={"reason": "x"}, headers=mine), 404)
    told(await client.get(f"/dead-letters/{own['letter']}", headers=mine))
    for body in ({"kind": "message", "reason": "x"}, {"kind": "alarm", "reason": "x"}):
        told(await client.post("/dead-letters/control/drop", json=body, headers=mine), 403)
    all_runs = {"kind": "run", "reason": "x"}
    said = told(await client.post("/dead-letters/control/drop", json=all_runs, headers=mine))
    assert said["done"] == 1
    await pass_time(rt, 1)  # a purge is soon over
    assert [one["id"] for one in await letters(client)] == ["p1"]
    told(await client.get("/dead-letters", headers=other))
    told(await client.get("/dead-letters", headers={"Authorization": ""}), 401)
    told(await client.post("/dead-letters/control/drop", json=all_runs, headers=other), 403)
