"""service/app.py: a real client at a real server on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import msgspec
import pytest

from holdfast import CallerError, Queue, Retry, Runtime, Workflow, update
from holdfast.service import Token, bodies, http_app, waiting
from tests.actors.workflow.support import until
from tests.service.support import serving

VIEWER = Token("viewer-viewer-viewer", "vera", "viewer")
OPERATOR = Token("operator-operator-1", "otto", "operator")
ACME = Token("acme-acme-acme-acme-1", "anna", "operator", "acme")
MAX_BODY_BYTES = 10_000


class Order(msgspec.Struct):
    item: str
    count: int = 1


async def pack(item: str, count: int) -> str:
    if item == "nothing":
        raise OSError("the shelf is empty")
    return f"{count} {item}"


class PackAndShip(Workflow):
    """Packs, then waits to be let go."""

    retry = Retry(0)

    async def run(self, order: Order) -> str:
        self.address = "home"
        packed: str = await self.step(pack, order.item, order.count, name="pack")
        if order.count == 1:
            event = await self.wait("go")
            return f"{packed} to {self.address} by {event.user}: {event.payload}"
        return packed

    @update
    async def never(self) -> None:
        await self.wait("never")

    @update
    async def move(self, address: str) -> str:
        if not address:
            raise ValueError("where to?")
        if address == "here":
            raise CallerError("it is here already")
        if address == "far":
            raise TimeoutError("too far")
        self.address = address
        return address


class GoneAtOnce(Workflow):
    retention = 0

    async def run(self, seconds: int) -> None:
        await self.sleep(seconds)


def as_(token: Token, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.secret}", **headers}


@pytest.fixture
async def rt(folder: Path) -> AsyncIterator[Runtime]:
    async with Runtime(folder) as rt:
        yield rt


@pytest.fixture
async def client(rt: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    """An operator at the service of a runtime."""
    app = http_app(
        rt,
        tokens=[VIEWER, OPERATOR, ACME],
        origins=["https://friend.example"],
        max_body_bytes=MAX_BODY_BYTES,
    )
    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", headers=as_(OPERATOR), trust_env=False) as client,
    ):
        yield client


def told(response: httpx.Response, status: int) -> Any:
    """What an answer says, which has this status, and a problem's shape when it is one."""
    assert response.status_code == status, response.text
    assert response.headers["cache-control"] == "no-store"
    said = response.json()
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert said["status"] == status
        return said["detail"]
    return said


async def start(client: httpx.AsyncClient, **body: Any) -> Any:
    return told(await client.post("/runs", json={"workflow": "PackAndShip", **body}), 201)


async def ended(client: httpx.AsyncClient, path: str) -> Any:
    """The run at a path once it has ended."""
    while True:
        view = told(await client.get(path), 200)
        if view["run"]["status"] in ("complete", "failed"):
            return view
        await asyncio.sleep(0.001)


# -- runs ---------------------------------------------------------------------------------------------------


async def test_a_run_from_its_start_to_its_end(client: httpx.AsyncClient) -> None:
    body = {
        "workflow": "PackAndShip",
        "input": {"item": "tea"},
        "id": "a/1",
        "ref_type": "shop",
        "ref_id": "7",
    }
    response = await client.post("/runs", json={**body, "tags": {"day": "monday"}})
    info = told(response, 201)
    assert (info["id"], info["ref"], info["tags"]) == ("a/1", ["shop", "7"], {"day": "monday"})
    where = response.headers["location"]
    assert where == "/runs/PackAndShip/a/1"
    assert told(
        await client.post("/runs/updates/PackAndShip/a/1", json={"method": "move", "arguments": ["Bonn"]}),
        200,
    ) == {"reply": "Bonn"}
    sent = await client.post("/runs/events/PackAndShip/a/1", json={"name": "go", "payload": [1]})
    assert told(sent, 202) == {"status": "accepted"}
    view = await ended(client, where)
    assert view["input"] == {"item": "tea"}
    assert view["output"] == "1 tea to Bonn by otto: [1]"
    (step,) = view["steps"]
    assert (step["name"], step["status"], step["attempts"], step["output"]) == (
        "pack",
        "complete",
        1,
        "1 tea",
    )
    history = told(await client.get("/history/PackAndShip/a/1"), 200)["history"]
    assert [one["number"] for one in history] == list(range(len(history)))
    assert (history[0]["kind"], history[-1]["kind"]) == ("Started", "Finished")
    assert told(await client.post("/runs/events/PackAndShip/a/1", json={"name": "go"}), 409)  # it has ended
    assert "complete already" in told(await client.post("/runs/control/resume/PackAndShip/a/1", json={}), 409)
    assert "redriven" in told(await client.post("/runs/control/redrive/PackAndShip/a/1", json={}), 409)


async def test_runs_are_listed_by_what_is_asked(client: httpx.AsyncClient) -> None:
    for n in range(3):
        await start(client, input={"item": "tea"}, id=f"r{n}", ref_type="shop", ref_id=str(n % 2))
    await start(client, input={"item": "nothing"}, id="bad", tags={"k": "v:w"})
    failed = await ended(client, "/runs/PackAndShip/bad")

    async def listed(query: str) -> list[str]:
        return [one["id"] for one in told(await client.get(f"/runs?{query}"), 200)["runs"]]

    assert await listed("") == ["r0", "r1", "r2", "bad"]
    assert await listed("newest&limit=2") == ["bad", "r2"]
    assert await listed("workflow=PackAndShip&ref_type=shop&ref_id=0") == ["r0", "r2"]
    assert await listed("status=failed&status=complete") == ["bad"]
    assert await listed("tag=k:v:w") == ["bad"]
    error = {"type": "OSError", "message": "the shelf is empty", "fatal": False}
    assert failed["steps"][0]["error"] == error
    (letter,) = told(await client.get("/dead-letters"), 200)["dead_letters"]
    assert (letter["id"], letter["step"], letter["error"]["type"]) == ("bad", "pack", "StepError")


async def test_a_failed_run_is_driven_on_with_another_input(client: httpx.AsyncClient, rt: Runtime) -> None:
    await start(client, input={"item": "nothing", "count": 2}, id="r")
    await ended(client, "/runs/PackAndShip/r")
    redriven = {"input": {"item": "tea", "count": 2}, "reason": "typing error"}
    told(await client.post("/runs/control/redrive/PackAndShip/r", json=redriven), 200)
    view = await ended(client, "/runs/PackAndShip/r")
    assert (view["input"]["item"], view["output"]) == ("tea", "2 tea")
    assert (await client.post("/runs/control/purge/PackAndShip/r", json={})).status_code == 204
    await until(lambda: rt.runs() == [])
    assert "no run PackAndShip/r" in told(await client.get("/runs/PackAndShip/r"), 404)


async def test_control_tells_who_did_it(client: httpx.AsyncClient, rt: Runtime) -> None:
    await start(client, input={"item": "tea"}, id="r")
    paused = await client.post("/runs/control/pause/PackAndShip/r", json={"reason": "lunch"})
    assert told(paused, 200)["status"] in ("paused", "pausing")  # while its step goes on
    (deed,) = rt.audit()
    assert (deed.who, deed.verb, deed.reason) == ("otto", "pause", "lunch")
    assert "takes no input" in told(
        await client.post("/runs/control/resume/PackAndShip/r", json={"input": 1}), 400
    )
    assert "the verbs are" in told(await client.post("/runs/control/dance/PackAndShip/r", json={}), 400)
    ended_run = await client.post("/runs/control/terminate/PackAndShip/r", json={"undo": True})
    assert told(ended_run, 200)["status"] == "terminated"


async def test_keys_that_are_numbers_and_tuples_are_found(client: httpx.AsyncClient, rt: Runtime) -> None:
    for key in (7, ("a", 1), ("b", "1")):
        await rt.start(PackAndShip, Order("tea"), id=key)
    for text, shown in (("~7", "7"), ('~["a",1]', "a/1"), ('~["b","1"]', "b/1")):
        assert told(await client.get(f"/runs/PackAndShip/{text}"), 200)["run"]["id"] == shown
    for text in ("~", "~{}", "~[1.5]", "~[[1]]", "~null"):
        assert "JSON" in told(await client.get(f"/runs/PackAndShip/{text}"), 400)


async def test_an_id_with_a_tilde_is_where_its_location_says(client: httpx.AsyncClient) -> None:
    body = {"workflow": "PackAndShip", "input": {"item": "tea"}, "id": "~7"}
    response = await client.post("/runs", json=body)
    told(response, 201)
    assert told(await client.get(response.headers["location"]), 200)["run"]["id"] == "~7"


@pytest.mark.parametrize("run_id", ["a/../b", "../b", "a/.", "..", ".", "a//b", "/a", "a/"])
async def test_an_id_that_clients_would_shorten_is_where_its_location_says(
    client: httpx.AsyncClient, run_id: str
) -> None:
    """As JSON, with its slashes escaped: no client and no proxy makes another address of that."""
    body = {"workflow": "PackAndShip", "input": {"item": "tea"}, "id": run_id}
    response = await client.post("/runs", json=body)
    told(response, 201)
    where = response.headers["location"]
    assert str(client.build_request("GET", where).url).endswith(where)
    assert told(await client.get(where), 200)["run"]["id"] == run_id


async def test_of_two_that_start_at_once_with_a_key_one_did(client: httpx.AsyncClient) -> None:
    body = {"workflow": "PackAndShip", "input": {"item": "tea"}}
    for n in range(10):
        key = {"Idempotency-Key": f"k{n}"}
        both = await asyncio.gather(*(client.post("/runs", json=body, headers=key) for _ in range(2)))
        assert sorted(one.status_code for one in both) == [200, 201]


async def test_a_verb_with_a_key_is_done_once(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Who asks again gets the same answer; with another body, or address, a refusal."""
    await start(client, input={"item": "tea"}, id="r")
    key = {"Idempotency-Key": "k"}
    path = "/runs/control/restart/PackAndShip/r"
    first = told(await client.post(path, json={"reason": "a"}, headers=key), 200)
    assert told(await client.post(path, json={"reason": "a"}, headers=key), 200) == first
    assert [deed.verb for deed in rt.audit()] == ["restart"]
    assert "another request" in told(await client.post(path, json={"reason": "b"}, headers=key), 422)
    other = "/runs/control/pause/PackAndShip/r"
    assert "another request" in told(await client.post(other, json={"reason": "a"}, headers=key), 422)
    assert [deed.verb for deed in rt.audit()] == ["restart"]


async def test_a_refused_verb_leaves_its_key_free(client: httpx.AsyncClient) -> None:
    await start(client, input={"item": "tea"}, id="r")
    key = {"Idempotency-Key": "k"}
    assert told(await client.post("/runs/control/resume/PackAndShip/r", json={}, headers=key), 409)
    told(await client.post("/runs/control/pause/PackAndShip/r", json={}, headers=key), 200)


async def test_a_purge_that_is_asked_for_again_erases_nothing_else(
    client: httpx.AsyncClient, rt: Runtime
) -> None:
    """An address means one run, also when that is gone and others are shown alike."""
    keys: list[Any] = ["a/1", ("a", "1"), ("a", 1)]
    for key in keys:
        await (await rt.start(PackAndShip, Order("tea", 2), id=key)).result()
    assert (await client.post("/runs/control/purge/PackAndShip/a/1", json={})).status_code == 204
    await until(lambda: len(rt.runs()) == 2)
    for _ in range(2):
        told(await client.post("/runs/control/purge/PackAndShip/a/1", json={}), 404)
    assert [one.id for one in rt.runs()] == ["a/1", "a/1"]


async def test_what_was_done_is_told_also_when_the_run_is_erased_by_then(client: httpx.AsyncClient) -> None:
    started = [
        await client.post("/runs", json={"workflow": "GoneAtOnce", "input": 0, "id": f"g{n}"})
        for n in range(10)
    ]
    assert [told(one, 201)["id"] for one in started] == [f"g{n}" for n in range(10)]
    told(await client.post("/runs", json={"workflow": "GoneAtOnce", "input": 1_000, "id": "waits"}), 201)
    ended_run = await client.post("/runs/control/terminate/GoneAtOnce/waits", json={})
    assert ended_run.status_code in (200, 204)


async def test_a_client_that_hangs_up_on_an_update_keeps_no_server_open(rt: Runtime) -> None:
    await rt.start(PackAndShip, Order("tea"), id="r")
    async with asyncio.timeout(20):
        async with (
            serving(http_app(rt, tokens=[OPERATOR])) as address,
            httpx.AsyncClient(base_url=f"http://{address}", headers=as_(OPERATOR), trust_env=False) as client,
        ):
            with pytest.raises(httpx.ReadTimeout):
                await client.post("/runs/updates/PackAndShip/r", json={"method": "never"}, timeout=0.1)


async def test_an_update_without_a_reply_is_asked_for_again(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "REPLY_SECONDS", 0.05)
    await start(client, input={"item": "tea"}, id="r")
    late = await client.post("/runs/updates/PackAndShip/r", json={"method": "never", "id": "u-1"})
    assert "u-1" in told(late, 504)


async def test_dead_letters_that_go_on_meanwhile_are_left_out(client: httpx.AsyncClient, rt: Runtime) -> None:
    runs = [await rt.start(PackAndShip, Order("nothing", 2), id=f"r{n}") for n in range(10)]
    await asyncio.gather(*(run.result() for run in runs), return_exceptions=True)

    async def redrive() -> None:
        for run in runs:
            await run.redrive()
            await asyncio.sleep(0)

    driving = asyncio.create_task(redrive())
    while not driving.done():
        told(await client.get("/dead-letters"), 200)


@pytest.mark.parametrize("given", ["x" * 201, "a\nb"])
async def test_ids_of_correlation_and_events_are_bounded(client: httpx.AsyncClient, given: str) -> None:
    body = {"workflow": "PackAndShip", "input": {"item": "tea"}, "correlation_id": given}
    assert "correlation id" in told(await client.post("/runs", json=body), 400)
    assert "event id" in told(await client.post("/events", json={"payload": {}, "event_id": given}), 400)


async def test_a_page_of_a_friend_may_ask_what_it_may(client: httpx.AsyncClient) -> None:
    """A token in a header makes a browser ask before it asks."""
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    friend = await client.options("/runs", headers={"Origin": "https://friend.example", **asks})
    assert friend.status_code == 200
    assert friend.headers["access-control-allow-origin"] == "https://friend.example"
    stranger = await client.options("/runs", headers={"Origin": "https://stranger.example", **asks})
    assert "access-control-allow-origin" not in stranger.headers


async def test_who_asks_again_with_a_key_gets_the_same_run(client: httpx.AsyncClient) -> None:
    body = {"workflow": "PackAndShip", "input": {"item": "tea"}}
    key = {"Idempotency-Key": "order-17"}
    first = told(await client.post("/runs", json=body, headers=key), 201)
    again = told(await client.post("/runs", json=body, headers=key), 200)
    assert first["id"] == again["id"] == "order-17"
    assert "exists" in told(await client.post("/runs", json={**body, "id": "order-17"}), 409)
    sent = [
        told(
            await client.post(
                "/runs/events/PackAndShip/order-17", json={"name": "go"}, headers={"Idempotency-Key": "e"}
            ),
            202,
        )
        for _ in range(2)
    ]
    assert sent[0] == sent[1]
    await ended(client, "/runs/PackAndShip/order-17")
    history = told(await client.get("/history/PackAndShip/order-17"), 200)["history"]
    assert [one["kind"] for one in history].count("EventArrived") == 1


# -- events -------------------------------------------------------------------------------------------------


async def test_an_event_is_durably_queued(client: httpx.AsyncClient, rt: Runtime) -> None:
    response = await client.post(
        "/events", json={"payload": {"a": 1}, "event_id": "e-1"}, headers={"X-Correlation-Id": "c-1"}
    )
    assert told(response, 202) == {"event_id": "e-1", "correlation_id": "c-1", "status": "queued"}
    assert response.headers["x-correlation-id"] == "c-1"
    made_up = told(await client.post("/events", json={"payload": {}}), 202)
    assert made_up["event_id"] and made_up["correlation_id"]
    assert (await rt.get(Queue, "event-queue").stats()).depth == 2


# -- who may what -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer wrong", f"Basic {OPERATOR.secret}", "Bearer \xe4\xf6"]
)
async def test_nothing_is_told_without_a_token(client: httpx.AsyncClient, given: str) -> None:
    for method, path in (
        ("GET", "/runs"),
        ("POST", "/events"),
        ("GET", "/runs/PackAndShip/x"),
        ("GET", "/dead-letters"),
    ):
        authorization = (b"Authorization", given.encode("latin-1"))
        response = await client.request(method, path, headers=[authorization])
        told(response, 401)
        assert response.headers["www-authenticate"] == "Bearer"


async def test_a_viewer_changes_nothing(client: httpx.AsyncClient) -> None:
    await start(client, input={"item": "tea"}, id="r")
    for path in (
        "/runs",
        "/events",
        "/runs/control/cancel/PackAndShip/r",
        "/runs/events/PackAndShip/r",
        "/runs/updates/PackAndShip/r",
    ):
        assert "operator" in told(await client.post(path, json={}, headers=as_(VIEWER)), 403)
    assert (
        told(await client.get("/runs/PackAndShip/r", headers=as_(VIEWER)), 200)["run"]["status"]
        != "cancelled"
    )


async def test_a_tenant_reaches_its_own_runs_alone(client: httpx.AsyncClient) -> None:
    await start(client, input={"item": "tea"}, id="ours")
    mine = {"workflow": "PackAndShip", "input": {"item": "tea"}, "id": "mine"}
    assert told(await client.post("/runs", json=mine, headers=as_(ACME)), 201)["tenant"] == "acme"
    runs = told(await client.get("/runs", headers=as_(ACME)), 200)["runs"]
    assert [one["id"] for one in runs] == ["mine"]
    for path in ("/runs/PackAndShip/ours", "/history/PackAndShip/ours"):
        told(await client.get(path, headers=as_(ACME)), 404)
    for path in ("/runs/control/cancel/PackAndShip/ours", "/runs/control/purge/PackAndShip/ours"):
        told(await client.post(path, json={}, headers=as_(ACME)), 404)
    told(await client.post("/runs/events/PackAndShip/ours", json={"name": "go"}, headers=as_(ACME)), 404)
    told(await client.post("/runs/updates/PackAndShip/ours", json={"method": "move"}, headers=as_(ACME)), 404)
    taken = {"workflow": "PackAndShip", "input": {"item": "tea"}}
    for body in (
        {"id": "ours"},
        {"id": "ours", "on_conflict": "join"},
        {"id": "ours", "on_conflict": "replace"},
    ):
        told(await client.post("/runs", json={**taken, **body}, headers=as_(ACME)), 409)
    assert "acme" in told(await client.get("/runs?tenant=other", headers=as_(ACME)), 403)
    assert "no tenant's" in told(await client.post("/events", json={"payload": {}}, headers=as_(ACME)), 403)
    assert told(await client.get("/dead-letters", headers=as_(ACME)), 200) == {
        "dead_letters": [],
        "next": None,
    }


async def test_pages_of_strangers_may_not_ask(client: httpx.AsyncClient) -> None:
    told(await client.get("/runs", headers={"Origin": "https://stranger.example"}), 403)
    told(await client.get("/runs", headers={"Origin": "https://friend.example"}), 200)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: http_app(Runtime("nowhere"), tokens=[]),
        lambda: http_app(Runtime("nowhere"), tokens=[OPERATOR, Token(OPERATOR.secret, "twin")]),
        lambda: Token("short", "a"),
        lambda: Token("with blanks with blanks", "a"),
        lambda: Token("ümläüt-ümläüt-ümläüt", "a"),
        lambda: Token("s" * 16, ""),
        lambda: Token("s" * 16, "a", "king"),  # type: ignore[arg-type]
        lambda: Token("s" * 16, "a", "viewer", ""),
    ],
)
def test_tokens_that_cannot_be_are_refused(bad: Any) -> None:
    with pytest.raises(CallerError):
        bad()


def test_a_secret_is_not_shown() -> None:
    assert OPERATOR.secret not in repr(OPERATOR)


# -- nonsense -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"", 400, "the body"),
        (b"{", 400, "the body"),
        (b"[]", 400, "object"),
        (b'{"workflow": 1}', 400, "$.workflow"),
        (b'{"workflow": "PackAndShip", "inptu": 1}', 400, "inptu"),
        (b'{"workflow": "PackAndShip", "input": {"item": 1}}', 400, "$.item"),
        (b'{"workflow": "PackAndShip", "input": {"item": "tea"}, "id": "a b"}', 400, "blanks"),
        (
            b'{"workflow": "PackAndShip", "input": {"item": "tea"}, "on_conflict": "fight"}',
            400,
            "on_conflict",
        ),
        (b'{"workflow": "PackAndShip", "input": {"item": "tea"}, "ref_id": "1"}', 400, "ref_type"),
        (b'{"workflow": "Nobody"}', 404, "Nobody"),
        (b'{"workflow": "Queue"}', 404, "no workflow"),
        (b'{"workflow": "Workflow"}', 404, "Workflow"),
        (b'{"workflow": "\xff"}', 400, "the body"),
        (b"[" * 9_000, 400, "the body"),
        (b" " * (MAX_BODY_BYTES + 1), 413, "10000 bytes"),
    ],
)
async def test_bodies_that_are_not_taken(
    client: httpx.AsyncClient, content: bytes, status: int, says: str
) -> None:
    headers = {"Content-Type": "application/json"}
    assert says in told(await client.post("/runs", content=content, headers=headers), status)


async def test_a_body_in_pieces_is_bounded_too(client: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000

    headers = {"Content-Type": "application/json"}
    told(await client.post("/events", content=endless(), headers=headers), 413)


async def test_a_form_is_not_taken(client: httpx.AsyncClient) -> None:
    told(await client.post("/events", data={"payload": "{}"}), 415)


async def test_a_body_that_does_not_come(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.05)
    address = client.base_url
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = f"POST /events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {OPERATOR.secret}\r\n"
    writer.write(f"{head}Content-Length: 10\r\n\r\n".encode())
    assert b" 408 " in await reader.readline()
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    "path",
    [
        "/runs?limit=0",
        "/runs?limit=1001",
        "/runs?limit=x",
        "/runs?status=odd",
        "/runs?tag=k",
        "/runs?ref_type=shop",
        "/runs?colour=red",
        "/dead-letters?limit=-1",
    ],
)
async def test_filters_that_are_not_taken(client: httpx.AsyncClient, path: str) -> None:
    assert told(await client.get(path), 400)


async def test_addresses_that_are_not_there(client: httpx.AsyncClient) -> None:
    told_404 = [
        await client.get("/nothing"),
        await client.get("/runs/Nobody/x"),
        await client.get("/runs/PackAndShip/x"),
    ]
    for path in (
        "/runs/PackAndShip/a%00b",
        "/runs/PackAndShip/%ff",
        "/runs/PackAndShip/" + "x" * 3_000,
        "/runs/PackAndShip/a%20b",
        "/runs/PackAndShip/",
    ):
        response = await client.get(path)
        assert response.status_code in (400, 404), (path, response.text)
    for response in told_404:
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
    wrong_method = await client.delete("/runs")
    assert wrong_method.status_code == 405
    assert "POST" in wrong_method.headers["allow"] or "GET" in wrong_method.headers["allow"]


async def test_what_an_update_raises_is_an_answer(client: httpx.AsyncClient) -> None:
    await start(client, input={"item": "tea"}, id="r")
    refused = await client.post("/runs/updates/PackAndShip/r", json={"method": "move", "arguments": [""]})
    assert "where to?" in told(refused, 422)
    late = await client.post("/runs/updates/PackAndShip/r", json={"method": "move", "arguments": ["far"]})
    here = await client.post("/runs/updates/PackAndShip/r", json={"method": "move", "arguments": ["here"]})
    assert "CallerError: it is here already" in told(here, 422)
    assert "too far" in told(late, 422)  # its own, not that there is no reply
    told(await client.post("/runs/updates/PackAndShip/r", json={"method": "run"}), 409)
    told(await client.post("/runs/updates/PackAndShip/r", json={"method": "move", "arguments": [1, 2]}), 400)


# -- health -------------------------------------------------------------------------------------------------


async def test_health_needs_no_token_and_readiness_follows_the_runtime(rt: Runtime) -> None:
    async with (
        serving(http_app(rt, tokens=[VIEWER])) as address,
        httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client,
    ):
        assert told(await client.get("/health"), 200) == {"status": "ok"}
        assert told(await client.get("/ready"), 200) == {"status": "ready"}
        await rt.close()
        assert told(await client.get("/health"), 200) == {"status": "ok"}
        told(await client.get("/ready"), 503)
        response = await client.get("/runs", headers=as_(VIEWER))
        told(response, 503)
        assert int(response.headers["retry-after"]) > 0


async def test_a_runtime_that_is_not_open_yet(folder: Path) -> None:
    async with (
        serving(http_app(Runtime(folder), tokens=[VIEWER])) as address,
        httpx.AsyncClient(base_url=f"http://{address}", headers=as_(VIEWER), trust_env=False) as client,
    ):
        for path in ("/ready", "/runs", "/dead-letters", "/runs/PackAndShip/r"):
            told(await client.get(path), 503)


def test_answers_are_json() -> None:
    """Also of values that JSON doesn't know."""
    shown = bodies.answer({"bytes": b"\xff", "set": {1}, "own": object, "not a number": float("nan")})
    assert json.loads(bytes(shown.body))["not a number"] is None
