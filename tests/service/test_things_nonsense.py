"""Nonsense for queues, dead letters, actors, schedules and the audit over HTTP: never a 500."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2 as httpx
import pytest

from holdfast import Actor, Queue, Runtime, Workflow
from holdfast.service.cursors import cursor_text
from tests.service.things_support import client_of

KEYS = (
    "",
    "~",
    "~~",
    "~7",
    "~-1",
    "~1e400",
    "~[]",
    "~[[]]",
    "~null",
    '~["a",1]',
    "~99999999999999999999999",
    "a/b/../c",
    "x" * 300,
    "\x00",
    "\n",
    "ä😀",
    "~" + "[" * 2_000,
    "messages/x",
    "%2e%2e",
    "~{}",
    '~"' + "y" * 300 + '"',
)
PLACES: tuple[object, ...] = (
    None,
    0,
    -1,
    2**63,
    "",
    "x" * 300,
    b"",
    b"\xff" * 300,
    [],
    [1],
    [1, 2],
    [-1, -(2**63)],
    ["", "", []],
    ["Queue", "q", None],
    ["Queue", "q", [1, -5]],
    ["Nope", "q", [1, 1]],
    ["Queue", "x" * 300, None],
    {},
    1.5,
    True,
    ["run", "HttpNonsense", "r"],
    ["message", "Queue", "q", "", [0, 1]],
    ["message", "Queue", "q"],
    ["message", "HttpNonsense", "q", "", [0, 1]],
    ["alarm", "HttpOdd", "k", "x" * 300],
    ["run", "HttpOdd", "k"],
    ["alarm", "Nope", "k"],
    ["run", "", ""],
    ["alarm", "HttpOdd", ["a", 2**63]],
    ["message", "Queue", "q", "", [2**63, 2**63]],
    ["run", "HttpNonsense", "x" * 300],
    ["message", "Queue", "", "", [0, 1]],
)
BODIES: tuple[bytes, ...] = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"\xff\xfe",
    b"[" * 5_000,
    b'{"reason":1}',
    b'{"reason":""}',
    b'{"reason":"x"}',
    b'{"reason":"\\ud800"}',
    b'{"reason":"x","content":null}',
    b'{"body":NaN}',
    b'{"body":1e999}',
    b'{"body":{"a":' + b"[" * 400 + b"]" * 400 + b"}}",
    b'{"body":1,"delay":-1}',
    b'{"body":1,"delay":1e308}',
    b'{"body":1,"id":""}',
    b'{"body":1,"id":"\\u0000"}',
    b'{"kind":"run","reason":"x","key":"~["}',
    b'{"kind":"message","reason":"x","type":"HttpOdd","key":"q"}',
    b'{"kind":"alarm","reason":"x","limit":-1}',
    b'{"kind":"alarm","reason":"x","dry_run":true,"tenant":"t"}',
    b'{"method":"run"}',
    b'{"method":""}',
    b'{"method":"__init__"}',
    b'{"method":"system"}',
    b'{"method":"odd","arguments":[1e400]}',
    b'{"method":"odd","arguments":{"value":18446744073709551616}}',
    b'{"method":"odd","arguments":["\\ud800"]}',
    b'{"method":"odd","arguments":[1,2,3]}',
    b'{"method":"fail"}',
    b'{"method":"many","arguments":[[1]]}',
    b'{"fields":{"n":99999999999999999999},"reason":"x"}',
    b'{"fields":{"n":"x"},"reason":"x"}',
    b'{"fields":{"_n":1},"reason":"x"}',
    b'{"fields":{"n":5},"reason":"x"}',
    b'{"fields":{},"reason":"x"}',
    b'{"start":"2020-01-01","end":"2020-01-02"}',
    b'{"start":"2020-01-01T00:00:00Z","end":"9999-12-31T23:59:59Z"}',
    b'{"start":"0001-01-01T00:00:00+23:59","end":"0001-01-02T00:00:00Z"}',
    b'{"missed":"x"}',
    b'{"overlap":"skip"}',
    b'{"reason":"' + b"r" * 2_000 + b'"}',
)
QUERIES = (
    "",
    "limit=1",
    "limit=",
    "limit=-1",
    "limit=999999999999",
    "limit=%00",
    "type=HttpOdd",
    "type=",
    "type=%00",
    "key=~",
    "key=k",
    "type=HttpOdd&key=k",
    "type=HttpOdd&key=~[",
    "prefix=~7",
    "prefix=" + "x" * 300,
    "prefix=~[]",
    "kind=alarm",
    "kind=message&type=Queue&key=q",
    "kind=message&type=HttpOdd&key=q",
    "kind=run&type=Nope",
    "group=x",
    "who=%00",
    "since=0001-01-01T00:00:00Z",
    "since=9999-12-31T23:59:59Z",
    "since=1969-01-01T00:00:00Z",
    "status=active",
    "workflow=Nope",
    "tenant=x",
    "cause=%ff",
    "limit=1&limit=2",
    "=",
)
GETS = (
    "/queues",
    "/queues/{}",
    "/queues/messages/{}",
    "/schedules",
    "/schedules/{}",
    "/audit",
    "/actors",
    "/actors/{}",
    "/actors/HttpOdd/{}",
    "/actors/Nope/{}",
    "/actors/schema/{}",
    "/dead-letters",
    "/dead-letters/causes",
    "/dead-letters/{}",
)
POSTS = (
    "/queues/messages/{}",
    "/queues/control/pause/{}",
    "/queues/control/purge/{}",
    "/queues/control/remove/{}",
    "/queues/control/{}/q",
    "/schedules/control/pause/{}",
    "/schedules/control/backfill/s",
    "/schedules/control/resume/s",
    "/schedules/control/trigger/s",
    "/actors/call/HttpOdd/{}",
    "/actors/call/{}/k",
    "/actors/call/HttpNonsense/{}",
    "/actors/edit/HttpOdd/{}",
    "/actors/edit/Queue/q",
    "/actors/edit/{}/k",
    "/dead-letters/control/redrive",
    "/dead-letters/control/drop/{}",
    "/dead-letters/control/redrive/{}",
    "/dead-letters/control/{}",
)
# What a body holds that an address takes at all.
FITTING = {
    "/queues/messages": b'"body"',
    "/actors/call": b'"method"',
    "/actors/edit": b'"fields"',
    "/dead-letters/control/{}": b'"reason"',
    "/dead-letters/control": b'"kind"',
    "": b'"reason"',
}
ROUNDS = 1_500


class HttpOdd(Actor):
    n: int = 0

    async def odd(self, value: object = None) -> object:
        self.n += 1
        return value

    async def many(self, values: list[int]) -> None: ...

    async def fail(self) -> None:
        raise RuntimeError("\ud800")


class HttpNonsense(Workflow):
    async def run(self) -> None:
        raise ValueError("always")


@pytest.fixture
async def client(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with Runtime(folder) as rt:
        await rt.get(HttpOdd, "k").odd(1)
        await rt.get(Queue, "q").send(1)
        await rt.start(HttpNonsense, id="r")
        await rt.schedule("s", HttpNonsense, every="1h")
        async with client_of(rt) as client:
            yield client


@pytest.mark.parametrize("seed", range(2))
async def test_never_a_500(client: httpx.AsyncClient, seed: int) -> None:
    """Whatever is asked for in whichever way, it is answered in words."""
    chance = random.Random(seed)
    pool = [*KEYS, "q", "k", "s", "r", "HttpOdd", "Queue", *(cursor_text(place) for place in PLACES)]
    wrong: list[Any] = []
    for _ in range(ROUNDS):
        name = quote(chance.choice(pool))
        query = chance.choice(QUERIES) if chance.random() < 0.4 else ""
        if chance.random() < 0.2:
            cursor = f"cursor={quote(cursor_text(chance.choice(PLACES)))}"
            query = f"{query}&{cursor}" if query else cursor
        if chance.random() < 0.5:
            path = chance.choice(GETS).format(name)
            response = await client.get(f"{path}?{query}")
            sent = b""
        else:
            form = chance.choice(POSTS)
            path, query = form.format(name), query if chance.random() < 0.1 else ""
            marks = next(mark for start, mark in FITTING.items() if form.startswith(start))
            wanted = [body for body in BODIES if marks in body] if chance.random() < 0.8 else BODIES
            sent = chance.choice(wanted)
            headers = {"Content-Type": "application/json"}
            response = await client.post(f"{path}?{query}", content=sent, headers=headers)
        if response.status_code >= 500:
            wrong.append((response.request.method, f"{path}?{query}"[:150], sent[:80], response.status_code))
    assert wrong == []
