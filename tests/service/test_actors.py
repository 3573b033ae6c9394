"""service/api/actors.py: a real client at a real server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

import httpx2 as httpx
import msgspec
import pytest

from holdfast import Actor, Alarm, Counter, Queue, Runtime, Schedule, Workflow, shared
from holdfast.runtime import registry
from tests.service.things_support import client_of, pages, refused_to_others, told


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Item(msgspec.Struct):
    sku: str
    n: int = 1


class HttpCart(Actor):
    """Holds what somebody wants to buy.

    More words.
    """

    items: dict[str, int] = {}
    colour: Colour = Colour.RED
    due: datetime | None = None
    _derived = 0

    async def on_activate(self) -> None:
        self._derived = sum(self.items.values())

    async def add(self, item: Item, *, colour: Colour = Colour.RED, times: int = 1) -> int:
        """Put something in.  Returns how many there are."""
        if item.n < 0:
            raise ValueError("fewer than nothing")
        self.items[item.sku] = self.items.get(item.sku, 0) + item.n * times
        self.colour = colour
        return sum(self.items.values())

    async def remind(self, when: datetime, data: bytes = b"") -> None:
        self.due = when
        self.alarms.set(when, "remind", payload=data.decode())

    @shared
    async def derived(self) -> int:
        """What was counted when it came to memory."""
        return self._derived

    @shared
    async def odd(self) -> Any:
        return {(1, 2): 3}

    async def hang(self) -> None:
        self.items["never"] = 1
        await asyncio.Event().wait()

    async def _secret(self) -> None: ...

    async def on_alarm(self, alarm: Alarm) -> None: ...


class HttpNap(Workflow):
    async def run(self) -> None:
        await self.sleep("1d")


@pytest.fixture
async def rt(folder: Path) -> AsyncIterator[Runtime]:
    async with Runtime(folder) as rt:
        yield rt


@pytest.fixture
async def client(rt: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(rt) as client:
        yield client


async def test_types_and_keys(client: httpx.AsyncClient, rt: Runtime) -> None:
    """What ever wrote here, and its keys by prefix, page by page."""
    for key in ("a/1", "a/2", "b", 7, ("t", 1), ("t", 2)):
        await rt.get(Counter, key).increment()
    await rt.start(HttpNap, id="r")
    types = {one["type"]: one for one in told(await client.get("/actors"))["types"]}
    counter, nap = types["Counter"], types["HttpNap"]
    assert (counter["keys"], counter["more"], counter["in_memory"]) == (6, False, 6)
    assert (counter["kind"], counter["about"], counter["editable"]) == (
        "actor", "A whole number by key.", True,
    )  # fmt: skip
    assert (nap["kind"], nap["keys"], nap["editable"]) == ("workflow", 1, False)
    found = await pages(client, "/actors/Counter", "actors", 4)
    names = [one["name"] for page in found for one in page]
    assert names == ["a/1", "a/2", "b", "~7", '~["t",1]', '~["t",2]']

    async def with_prefix(prefix: str) -> list[str]:
        listed = told(await client.get("/actors/Counter", params={"prefix": prefix}))
        return [one["name"] for one in listed["actors"]]

    assert await with_prefix("a/") == ["a/1", "a/2"]
    assert await with_prefix('~["t"]') == ['~["t",1]', '~["t",2]']
    assert "a number has none" in told(await client.get("/actors/Counter?prefix=~7"), 400)
    assert "no actor type 'Nope' is stored" in told(await client.get("/actors/Nope"), 404)


async def test_one_actor_as_it_lies_on_disk(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Fields, size, alarms; it is not loaded for that."""
    call = {"method": "remind", "arguments": ["2100-01-01T00:00:00Z", "aGk="]}
    assert told(await client.post("/actors/call/HttpCart/ann", json=call)) == {"reply": None}
    ref: Any = rt.get(HttpCart, "ann")
    rt.directory.drop(ref.activation)
    view = told(await client.get("/actors/HttpCart/ann"))
    assert (view["in_memory"], view["imported"], view["version"], view["name"]) == (False, True, 1, "ann")
    assert view["fields"] == {"items": {}, "colour": "red", "due": "2100-01-01T00:00:00Z"}
    (alarm,) = view["alarms"]
    assert (alarm["name"], alarm["due_at"], alarm["payload"]) == ("remind", "2100-01-01T00:00:00Z", "hi")
    assert view["rows"] == 2 and view["stored_bytes"] > 50
    assert "nothing is stored of HttpCart/bo" in told(await client.get("/actors/HttpCart/bo"), 404)


async def test_a_type_whose_class_is_gone_is_shown_as_it_lies(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Types, keys and fields need no class; a call does."""

    class HttpGone(Actor):
        n: int = 0

        async def set(self, n: int) -> None:
            self.n = n

    await rt.get(HttpGone, "x").set(3)
    rt.directory.drop_all()
    known = registry._classes.pop("HttpGone")
    rt.actor_types._by_name.pop("HttpGone")
    try:
        types = {one["type"]: one for one in told(await client.get("/actors"))["types"]}
        assert (types["HttpGone"]["imported"], types["HttpGone"]["kind"]) == (False, None)
        assert told(await client.get("/actors/HttpGone"))["actors"][0]["key"] == "x"
        assert told(await client.get("/actors/HttpGone/x"))["fields"] == {"n": 3}
        refused = await client.post("/actors/call/HttpGone/x", json={"method": "set"})
        assert "no class named 'HttpGone' is imported" in told(refused, 404)
    finally:
        registry._classes["HttpGone"] = known


async def test_a_method_is_called_with_json(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Arguments in order or by name, as the method's own types; the call is a deed, a look isn't."""

    async def call(method: str, arguments: Any, status: int = 200) -> Any:
        body = {"method": method, "arguments": arguments}
        said = told(await client.post("/actors/call/HttpCart/ann", json=body), status)
        return said["reply"] if status == 200 else said

    assert await call("add", [{"sku": "pear", "n": 2}]) == 2
    assert await call("add", {"item": {"sku": "fig"}, "colour": "blue", "times": 3}) == 5
    assert await call("derived", []) == 0
    assert await call("odd", []) == {"(1, 2)": 3}
    for method, arguments, detail in (
        ("add", [{"sku": 7}], "Expected `str`, got `int` - at `$.item.sku`"),
        ("add", {"item": {"sku": "x"}, "colour": "green"}, "Invalid enum value 'green' - at `$.colour`"),
        ("add", {"what": 1}, "unknown field `what`"),
        ("add", [], "missing a required argument: 'item'"),
        ("add", [{"sku": "x"}, "red"], "takes at most 1 arguments in order; got 2"),
        ("add", 7, "the arguments are an array or an object"),
    ):
        assert detail in await call(method, arguments, 400), method
    for method, detail in (
        ("_secret", "is private"),
        ("on_alarm", "is a hook"),
        ("items", "not an async"),
        ("x", "no method 'x'"),
    ):
        assert detail in await call(method, [], 404)
    assert await call("add", [{"sku": "x", "n": -1}], 422) == "ValueError: fewer than nothing"
    assert [(deed.verb, deed.who, deed.target, deed.after) for deed in rt.audit()] == [
        ("call", "otto", "HttpCart/ann", 'add {"item":{"sku":"fig"},"colour":"blue","times":3}'),
        ("call", "otto", "HttpCart/ann", 'add [{"sku":"pear","n":2}]'),
    ]
    await rt.start(HttpNap, id="r")
    of_run = await client.post("/actors/call/HttpNap/r", json={"method": "run"})
    assert "HttpNap/r is a run" in told(of_run, 400)


async def test_a_call_whose_client_went_is_undone(
    client: httpx.AsyncClient, rt: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that takes too long gets 504, with nothing kept."""
    monkeypatch.setattr("holdfast.service.waiting.REPLY_SECONDS", 0.05)
    refused = await client.post("/actors/call/HttpCart/ann", json={"method": "hang"})
    assert "no reply in time" in told(refused, 504)
    assert await rt.get(HttpCart, "ann").derived() == 0
    assert rt.audit() == []
    ref: Any = rt.get(HttpCart, "ann")
    assert ref.activation.instance.items == {}


async def test_the_schema_of_a_type(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Methods by name with a line of words and the JSON Schema of their arguments."""
    rt.type_of(HttpCart)
    schema = told(await client.get("/actors/schema/HttpCart"))
    assert (schema["about"], schema["editable"]) == ("Holds what somebody wants to buy.", True)
    methods = {one["name"]: one for one in schema["methods"]}
    assert sorted(methods) == ["add", "derived", "hang", "odd", "remind"]
    add = methods["add"]
    assert (add["about"], add["reads_only"], add["result"]) == (
        "Put something in.  Returns how many there are.", False, {"type": "integer"},
    )  # fmt: skip
    assert add["arguments"]["required"] == ["item"]
    properties = add["arguments"]["properties"]
    assert properties["times"] == {"type": "integer", "default": 1}
    assert properties["colour"]["default"] == "red"
    assert add["arguments"]["$defs"]["Item"]["properties"]["sku"] == {"type": "string"}
    assert methods["remind"]["arguments"]["properties"]["when"]["type"] == "string"
    assert methods["derived"]["reads_only"]
    queue = told(await client.get("/actors/schema/Queue"))
    assert "send" in [one["name"] for one in queue["methods"]]
    await rt.start(HttpNap, id="r")
    assert "is a workflow" in told(await client.get("/actors/schema/HttpNap"), 400)


async def test_fields_are_edited_with_a_reason(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Checked by their types, in one turn with the record of the deed; what was derived is derived anew."""
    await rt.get(HttpCart, "ann").add(Item("pear", 2))

    async def edit(fields: Any, status: int = 200, path: str = "HttpCart/ann", reason: str = "why") -> Any:
        body = {"fields": fields, "reason": reason}
        return told(await client.post(f"/actors/edit/{path}", json=body), status)

    view = await edit({"items": {"fig": 7}, "colour": "blue"})
    assert view["fields"] == {"items": {"fig": 7}, "colour": "blue", "due": None}
    assert await rt.get(HttpCart, "ann").derived() == 7
    (deed,) = rt.audit()
    assert (deed.verb, deed.who, deed.reason) == ("edit", "otto", "why")
    assert deed.before == '{"items":{"pear":2},"colour":"red"}'
    assert deed.after == '{"items":{"fig":7},"colour":"blue"}'
    assert "Expected `int`, got `str` - at `$.items[...]`" in await edit({"items": {"fig": "x"}}, 400)
    assert "unknown field `price`" in await edit({"price": 1}, 400)
    assert "can't be stored" in await edit({"items": {"fig": 2**64}}, 400)
    assert "no field of HttpCart/ann is named" in await edit({}, 400)
    assert await edit({"items": {}}, 400, reason="") == "an edit needs a reason"
    assert "nothing is stored of HttpCart/bo" in await edit({"items": {}}, 404, "HttpCart/bo")
    await rt.get(Queue, "q").send(1)
    await rt.start(HttpNap, id="r")
    await rt.schedule("s", HttpNap, every=timedelta(hours=1))
    for path, field in (("Queue/q", "paused"), ("HttpNap/r", "head"), ("Schedule/s", "state")):
        assert "are the library's own" in await edit({field: True}, 400, path)
    assert len(rt.audit()) == 1
    assert rt.keys(Schedule) == ["s"]


async def test_who_may_see_and_change_actors(client: httpx.AsyncClient, rt: Runtime) -> None:
    """A viewer looks; a token of a tenant does neither."""
    await rt.get(Counter, "n").increment()
    for path in ("/actors", "/actors/Counter", "/actors/Counter/n", "/actors/schema/Counter"):
        await refused_to_others(client, "GET", path, viewer=200)
    call, edit = {"method": "increment"}, {"fields": {"value": 1}, "reason": "x"}
    await refused_to_others(client, "POST", "/actors/call/Counter/n", viewer=403, body=call)
    await refused_to_others(client, "POST", "/actors/edit/Counter/n", viewer=403, body=edit)
    assert await rt.get(Counter, "n").get() == 1


async def test_a_call_that_stores_nothing_makes_no_actor(client: httpx.AsyncClient, rt: Runtime) -> None:
    """A key that was mistyped is not there afterwards, and listings of its type go on."""
    deleted = await client.post("/actors/call/Schedule/mistyped", json={"method": "delete"})
    assert told(deleted, 200) == {"reply": False}
    assert rt.keys(Schedule) == []
    assert told(await client.get("/schedules"), 200)["schedules"] == []
    assert [deed.target for deed in rt.audit()] == []
    told(
        await client.post(
            "/actors/call/HttpCart/a", json={"method": "add", "arguments": {"item": {"sku": "x"}}}
        ),
        200,
    )
    told(
        await client.post(
            "/actors/call/HttpCart/a", json={"method": "add", "arguments": {"item": {"sku": "x", "n": 0}}}
        ),
        200,
    )
    assert [deed.target for deed in rt.audit()] == ["HttpCart/a"] * 2


async def test_a_base_class_is_no_type(client: httpx.AsyncClient) -> None:
    """Its name is one that nothing has."""
    for path, body in (("call", {"method": "run"}), ("edit", {"fields": {"head": 1}, "reason": "x"})):
        assert "no type that has actors" in told(
            await client.post(f"/actors/{path}/Workflow/z", json=body), 404
        )
    assert "no type that has actors" in told(await client.get("/actors/schema/Workflow"), 404)
