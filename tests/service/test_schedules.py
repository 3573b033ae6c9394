"""service/api/schedules.py and audit.py: a real client at a real server on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from holdfast import Queue, Runtime, Workflow
from holdfast.runtime.clock import ManualClock, moment
from tests.service.things_support import ACME, as_, client_of, pages, refused_to_others, told


class HttpBackup(Workflow):
    async def run(self, disk: str) -> str:
        return disk


class HttpReport(Workflow):
    async def run(self) -> None: ...


@pytest.fixture
async def rt(folder: Path, clock: ManualClock) -> AsyncIterator[Runtime]:
    async with Runtime(folder, clock=clock) as rt:
        yield rt


@pytest.fixture
async def client(rt: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(rt) as client:
        yield client


async def test_a_schedule_as_it_stands(client: httpx.AsyncClient, rt: Runtime, clock: ManualClock) -> None:
    """Its next times, what its runs get, and what it did."""
    await rt.schedule("nightly/eu", HttpBackup, "sda", every="1h", tags={"team": "ops"})
    view = told(await client.get("/schedules/nightly/eu"))
    assert (view["workflow"], view["status"], view["every_seconds"], view["input"], view["tags"]) == (
        "HttpBackup", "active", 3600.0, "sda", {"team": "ops"},
    )  # fmt: skip
    assert len(view["next_fires"]) == 10 and view["next_fires"][0] == view["next_at"]
    assert "there is no schedule 'x'" in told(await client.get("/schedules/x"), 404)


async def test_schedules_are_listed_page_by_page(client: httpx.AsyncClient, rt: Runtime) -> None:
    """By name, or by what is asked."""
    for n in range(3):
        await rt.schedule(f"b{n}", HttpBackup, "sda", every="1h", tenant="acme" if n else None)
    await rt.schedule("r", HttpReport, every="1h")
    await client.post("/schedules/control/pause/b1", json={"reason": "holiday"})

    async def listed(query: str, **options: Any) -> list[str]:
        said = told(await client.get(f"/schedules?{query}", **options))
        return [one["name"] for one in said["schedules"]]

    found = await pages(client, "/schedules", "schedules", 3)
    assert [[one["name"] for one in page] for page in found] == [["b0", "b1", "b2"], ["r"]]
    assert await pages(client, "/schedules", "schedules", 4) == [[*found[0], *found[1]]]
    assert await listed("workflow=HttpReport") == ["r"]
    assert await listed("status=paused") == ["b1"]
    assert await listed("tenant=acme&limit=1") == ["b1"]
    assert await listed("", headers=as_(ACME)) == ["b1", "b2"]
    assert "status is one of active" in told(await client.get("/schedules?status=x"), 400)


async def test_a_schedule_is_steered(client: httpx.AsyncClient, rt: Runtime, clock: ManualClock) -> None:
    """Every verb, each in the audit with who and why."""
    await rt.schedule("s", HttpBackup, "sda", every=timedelta(hours=1))

    async def do(verb: str, status: int = 200, **body: Any) -> Any:
        response = await client.post(f"/schedules/control/{verb}/s", json=body)
        assert response.status_code == status, response.text
        return response.json() if status != 204 else None

    paused = await do("pause", reason="holiday")
    assert (paused["status"], paused["pause"]["by"], paused["pause"]["reason"]) == (
        "paused",
        "otto",
        "holiday",
    )
    assert (await do("resume", missed="all"))["status"] == "active"
    run = (await do("trigger", reason="now"))["run"]
    assert await rt.run(HttpBackup, run).result() == "sda"
    path, once = "/schedules/control/trigger/s", {"Idempotency-Key": "k-1"}
    for _ in range(2):
        again = told(await client.post(path, json={}, headers=once))
        assert again["run"] == "s/trigger/k-1" and again["runs"] == 2
    assert "run id" in told(await client.post(path, json={}, headers={"Idempotency-Key": "a b"}), 400)
    now = rt.clock.now_ms()
    past, until = moment(now - 3 * 3_600_000).isoformat(), moment(now).isoformat()
    assert (await do("backfill", start=past, end=until, overlap="allow"))["runs_started"] == 3
    assert (await do("backfill", start=past, end=until))["runs_started"] == 0
    assert "needs start and end" in (await do("backfill", 400))["detail"]
    assert "takes no overlap" in (await do("pause", 400, overlap="skip"))["detail"]
    assert "is allow or queue" in (await do("backfill", 400, start=past, end=until, overlap="skip"))["detail"]
    assert "the verbs are pause" in (await do("burn", 400))["detail"]
    assert (await do("delete", 400))["detail"] == "delete needs a reason"
    await do("delete", 204, reason="old")
    await do("delete", 404, reason="old")
    deeds = [(deed.verb, deed.who, deed.target, deed.reason) for deed in rt.audit()]
    assert deeds == [
        ("delete", "otto", "Schedule/s", "old"),
        ("backfill", "otto", "Schedule/s", ""),
        ("backfill", "otto", "Schedule/s", ""),
        ("trigger", "otto", "Schedule/s", ""),
        ("trigger", "otto", "Schedule/s", "now"),
        ("resume", "otto", "Schedule/s", ""),
        ("pause", "otto", "Schedule/s", "holiday"),
    ]
    assert rt.audit()[4].after == f"run {run} started"


async def test_tenants_have_their_own_schedules(client: httpx.AsyncClient, rt: Runtime) -> None:
    """Others' are not there for them, nor what is no tenant's."""
    await rt.schedule("mine", HttpReport, every="1h", tenant="acme")
    await rt.schedule("nobodys", HttpReport, every="1h")
    assert told(await client.get("/schedules/mine", headers=as_(ACME)))["tenant"] == "acme"
    told(await client.get("/schedules/nobodys", headers=as_(ACME)), 404)
    told(await client.post("/schedules/control/pause/nobodys", json={}, headers=as_(ACME)), 404)
    told(await client.post("/schedules/control/pause/mine", json={}, headers=as_(ACME)))
    assert "for tenant acme alone" in told(await client.get("/schedules?tenant=x", headers=as_(ACME)), 403)


# -- the audit ----------------------------------------------------------------------------------------------


async def test_the_audit_tells_all_that_was_done(
    client: httpx.AsyncClient, rt: Runtime, clock: ManualClock
) -> None:
    """To runs, queues and schedules, the newest first, page by page and by what is asked."""
    await rt.get(Queue, ("q", 1)).send(1)
    run = await rt.start(HttpBackup, "sda", id="r")
    await run.result()
    await rt.schedule("s", HttpReport, every="1h")
    told(await client.post('/queues/control/pause/~["q",1]', json={"reason": "lunch"}))
    clock.advance(10)
    told(await client.post("/schedules/control/pause/s", json={}))
    await run.restart(by="ann")

    async def verbs(**asked: str) -> list[str]:
        said = told(await client.get("/audit", params=asked))
        return [f"{one['who']} {one['verb']} {one['target']}" for one in said["deeds"]]

    everything = ["ann restart HttpBackup/r", "otto pause Schedule/s", "otto pause Queue/q/1"]
    assert await verbs() == everything
    found = await pages(client, "/audit", "deeds", 2)
    assert [[one["verb"] for one in page] for page in found] == [["restart", "pause"], ["pause"]]
    assert found[1][0]["reason"] == "lunch"
    assert await verbs(who="ann") == everything[:1]
    assert await verbs(verb="pause") == everything[1:]
    assert await verbs(type="Queue", key='~["q",1]') == everything[2:]
    assert await verbs(type="HttpBackup") == everything[:1]
    assert await verbs(since=found[0][0]["at"]) == everything[:2]
    assert "a key is asked for with its type" in told(await client.get("/audit?key=x"), 400)
    assert "since is a time with a zone" in told(await client.get("/audit?since=today"), 400)
    await refused_to_others(client, "GET", "/audit", viewer=200)
