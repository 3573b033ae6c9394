"""Pages that are asked for nonsense: they say what is wrong, and never that the server failed."""

from __future__ import annotations

from urllib.parse import quote

import httpx2
import pytest

from holdfast import Actor, Queue, RunFailed, Workflow
from tests.service.pages.support import OPERATOR, Site
from tests.service.pages.test_sign_in import signed_in

NONSENSE = (
    "", "~", "~~", "~7", "~[", '~["a",1]', "~null", "~1e400", "..", ".", "a/../b", "%", "%ff", "\x00",
    "\u202e", "🦑", "x" * 3_000, "-1", "9" * 30, "<b>", "{}", "[]", "null", '"', "'", "\\", ":", "a:b", "1,2",
)  # fmt: skip


async def nonsense_fails() -> None:
    raise OSError("no")


class NonsenseRun(Workflow):
    """It fails."""

    async def run(self, given: int) -> None:
        await self.step(nonsense_fails)


class NonsenseActor(Actor):
    """It has a field and a method."""

    count: int = 0

    async def add(self, count: int) -> int:
        self.count += count
        return self.count


async def prepared(site: Site) -> None:
    """One of everything."""
    await site.rt.get(Queue, "q").send("x")
    await site.rt.get(NonsenseActor, "a").add(1)
    await site.rt.schedule("s", NonsenseRun, 1, every="1d")
    run = await site.rt.start(NonsenseRun, 1, id="r")
    await run.terminate()
    with pytest.raises(RunFailed):
        await run.result()


ADDRESSES = (
    "{}", "runs/{}", "runs/{}/{}", "runs/NonsenseRun/{}", "history/NonsenseRun/{}", "queues/{}/x",
    "queues/Queue/{}", "schedules/{}", "actors/{}", "actors/NonsenseActor/{}", "static/{}",
)  # fmt: skip
QUERIES = (
    "?over={}", "runs?status={}", "runs?workflow={}", "runs?tag={}", "runs?ref_type={}", "runs?tenant={}",
    "runs?state={}", "runs?after={}", "runs?order={}", "history/NonsenseRun/r?at={}", "dead-letters?kind={}",
    "queues/Queue/q?group={}", "schedules?cursor={}", "actors/NonsenseActor?prefix={}",
    "actors/NonsenseActor?cursor={}", "audit?cursor={}", "audit?who={}", "audit?verb={}", "sign-in?to={}",
)  # fmt: skip


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
async def test_addresses(plain: Site, every: int) -> None:
    """Whatever stands in a path or a query, the answer is a page or a refusal.

    In the quick run each address gets some of the nonsense, and all of it is given to some.
    """
    await prepared(plain)
    async with httpx2.AsyncClient(base_url=f"http://{plain.host}") as client:
        await signed_in(client, OPERATOR.secret)
        for nth, template in enumerate((*ADDRESSES, *QUERIES)):
            for text in NONSENSE[nth % every :: every]:
                address = "/ui/" + template.replace("{}", quote(text, safe=""))
                answer = await client.get(address)
                assert answer.status_code < 500, (address, answer.text)


FORMS: tuple[tuple[str, dict[str, str]], ...] = (
    ("runs/bulk", {"verb": "{}", "status": "{}"}),
    ("runs/bulk", {"verb": "purge", "reason": "{}", "tag": "{}"}),
    ("control/{}/NonsenseRun/r", {}),
    ("control/restart/NonsenseRun/r", {"input": "{}", "input_before": "1"}),
    ("control/purge/NonsenseRun/{}", {"reason": "{}"}),
    ("send/NonsenseRun/r", {"name": "{}", "payload": "{}"}),
    ("dead-letters/deal", {"kind": "{}", "type": "{}", "cause": "{}", "verb": "redrive", "reason": "{}"}),
    (
        "dead-letters/deal",
        {"kind": "message", "type": "{}", "verb": "drop", "reason": "x", "confirmed": "yes"},
    ),
    ("queue-control/{}/Queue/q", {"reason": "{}"}),
    ("queue-dead/Queue/q", {"place": "{}", "body": "{}"}),
    ("queue-send/Queue/{}", {"body": "{}"}),
    ("schedule-control/{}/s", {"reason": "{}"}),
    ("schedule-control/resume/s", {"missed": "{}"}),
    ("actor-call/NonsenseActor/a", {"method": "{}", "arguments": "{}"}),
    ("actor-call/NonsenseActor/a", {"method": "add", "json:count": "{}"}),
    ("actor-call/NonsenseActor/{}", {"method": "add", "string:count": "{}"}),
    ("actor-edit/NonsenseActor/a", {"fields": "{}", "fields_before": "{}", "reason": "x"}),
    ("actor-edit/NonsenseActor/a", {"fields": '{"count": 7}', "fields_before": "{}", "reason": "{}"}),
    ("theme", {"theme": "{}", "back": "{}"}),
)


async def test_forms(plain: Site) -> None:
    """Whatever stands in a field, it is done, or refused in words."""
    await prepared(plain)
    async with httpx2.AsyncClient(base_url=f"http://{plain.host}") as client:
        form_token = await signed_in(client, OPERATOR.secret)
        for template, fields in FORMS:
            for text in NONSENSE:
                filled = {name: text if value == "{}" else value for name, value in fields.items()}
                address = "/ui/" + template.replace("{}", quote(text, safe=""))
                answer = await client.post(address, data={"form_token": form_token, **filled})
                assert answer.status_code < 500, (address, filled, answer.text)
        for body in (b"", b"\xff=\xfe", b"a=%ff", b"&" * 2_000, b"=" * 10, b"form_token=%00"):
            headers = {"content-type": "application/x-www-form-urlencoded"}
            answer = await client.post("/ui/theme", content=body, headers=headers)
            assert 400 <= answer.status_code < 500, body
