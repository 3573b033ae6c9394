"""service/api/queues.py: a real client at a real server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2 as httpx
import pytest

from holdfast import Queue, Runtime
from holdfast.runtime.clock import ManualClock
from tests.actors.queue_support import Hand, Inbox, rest, runtime
from tests.service.things_support import client_of, pages, refused_to_others, told


class HttpSideQueue(Queue):
    max_depth = 1


@pytest.fixture
async def rt(folder: Path, clock: ManualClock) -> AsyncIterator[Runtime]:
    async with runtime(folder, clock) as rt:
        yield rt


@pytest.fixture
async def client(rt: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(rt) as client:
        yield client


async def test_a_message_from_sending_to_its_consumer(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Its id is the Idempotency-Key; a peek shows it, and the queue's view how it stands."""
    sent = await client.post(
        "/queues/messages/orders/new", json={"body": {"n": 1}}, headers={"Idempotency-Key": "k-1"}
    )
    assert told(sent, 202) == {"id": "k-1", "status": "queued"}
    assert isinstance(rt.clock, ManualClock)
    rt.clock.advance(90)
    view = told(await client.get("/queues/orders/new"))
    assert (view["name"], view["status"], view["depth"], view["front_age_seconds"]) == (
        "orders/new", "open", 1, 90.0,
    )  # fmt: skip
    (message,) = told(await client.get("/queues/messages/orders/new"))["messages"]
    assert (message["id"], message["body"], message["attempts"]) == ("k-1", {"n": 1}, 1)
    inbox = Inbox()
    rt.consume("orders/new", inbox, max_wait=0)
    await rest(rt)
    assert (inbox.bodies, inbox.ids) == ([{"n": 1}], ["k-1"])
    view = told(await client.get("/queues/orders/new"))
    assert (view["depth"], view["acked"], view["groups"][0]["consumers"]) == (0, 1, 1)


async def test_queues_are_listed_page_by_page(client: httpx.AsyncClient, rt: Runtime) -> None:
    """By class and name; keys that are no text have their address as name, which leads back to them."""
    for key in ("a", "~b", 7, ("t", 1)):
        await rt.get(Queue, key).send(1)
    await rt.get(HttpSideQueue, "side").send(1)
    found = [one for page in await pages(client, "/queues", "queues", 2) for one in page]
    assert [one["name"] for one in found] == ["side", "a", '~"~b"', "~7", '~["t",1]']
    for one in found:
        view = told(await client.get(f"/queues/{one['name']}", params={"type": one["type"]}))
        assert view["key"] == one["key"]
    assert "no queue 'side'" in told(await client.get("/queues/side"), 404)
    assert "no class of queues 'Nope'" in told(await client.get("/queues/a?type=Nope"), 404)


async def test_messages_are_peeked_page_by_page(client: httpx.AsyncClient, rt: Runtime) -> None:
    """In their order, with what is in whose hands."""
    await rt.get(Queue, "q").send_batch([0, 1, 2, 3, 4])
    hand = Hand()
    rt.consume("q", hand, batch_size=2, max_wait=0)
    await rest(rt)
    found = await pages(client, "/queues/messages/q", "messages", 3)
    assert [[one["body"] for one in page] for page in found] == [[0, 1, 2], [3, 4]]
    assert [one["in_flight"] for page in found for one in page] == [True, True, False, False, False]
    assert "a cursor is what the page before gave" in told(await client.get("/queues?cursor=xx"), 400)
    assert "?colour= is not known here" in told(await client.get("/queues?colour=red"), 400)
    assert "limit is a whole number" in told(await client.get("/queues/messages/q?limit=0"), 400)


async def test_a_queue_is_steered_with_a_reason(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Pause, resume, drain, purge, remove; each is in the audit with who and why."""
    await rt.get(Queue, "q").send_batch([1, 2])

    async def do(verb: str, status: int = 200, **body: str) -> httpx.Response:
        response = await client.post(f"/queues/control/{verb}/q", json=body)
        assert response.status_code == status, response.text
        return response

    assert (await do("pause", reason="lunch")).json()["status"] == "paused"
    assert (await do("resume")).json()["status"] == "open"
    assert (await do("drain")).json()["status"] == "draining"
    refused = await client.post("/queues/messages/q", json={"body": 1})
    assert "is being drained" in told(refused, 409)
    assert "holds 2 messages" in (await do("remove", 400, reason="old")).json()["detail"]
    assert (await do("purge", 400)).json()["detail"] == "purge needs a reason"
    assert (await do("purge", reason="test data")).json()["purged"] == 2
    await do("remove", 204, reason="old")
    await do("remove", 404, reason="old")
    await do("pause", 404)
    assert "the verbs are pause, resume" in (await do("burn", 400)).json()["detail"]
    assert [(one.verb, one.who, one.reason) for one in rt.audit()] == [
        ("remove", "otto", "old"), ("purge", "otto", "test data"), ("drain", "otto", ""),
        ("resume", "otto", ""), ("pause", "otto", "lunch"),
    ]  # fmt: skip


async def test_a_full_queue_and_a_bad_message(client: httpx.AsyncClient) -> None:
    """503 with the time to come again, and 400 with the path."""
    path = "/queues/messages/f?type=HttpSideQueue"
    told(await client.post(path, json={"body": 1}), 202)
    assert "max_depth=1" in told(await client.post(path, json={"body": 1}), 503)
    assert "missing required field `body`" in told(await client.post(path, json={}), 400)
    assert "delay" in told(await client.post(path, json={"body": 1, "delay": "soon"}), 400)
    assert "by a day at most" in told(await client.post(path, json={"body": 1, "delay": 100_000}), 400)


async def test_who_may_see_and_steer_queues(client: httpx.AsyncClient, rt: Runtime) -> None:
    """A viewer looks; a token of a tenant does neither."""
    await rt.get(Queue, "q").send(1)
    for path in ("/queues", "/queues/q", "/queues/messages/q"):
        await refused_to_others(client, "GET", path, viewer=200)
    await refused_to_others(client, "POST", "/queues/messages/q", viewer=403, body={"body": 1})
    await refused_to_others(client, "POST", "/queues/control/pause/q", viewer=403, body={})


LISTINGS = (
    "/queues", "/queues/q", "/queues/messages/q", "/schedules", "/schedules/s", "/audit", "/actors",
    "/actors/Counter", "/actors/Counter/n", "/dead-letters", "/dead-letters?kind=message",
    "/dead-letters?kind=alarm", "/dead-letters/causes",
)  # fmt: skip


async def test_a_runtime_that_is_not_open(folder: Path) -> None:
    """Before it was opened, and when it is closed, whatever is asked for is there later."""
    rt = Runtime(folder)
    async with client_of(rt) as client:
        for path in LISTINGS:
            told(await client.get(path), 503)
        async with rt:
            pass
        for path in LISTINGS:
            told(await client.get(path), 503)
