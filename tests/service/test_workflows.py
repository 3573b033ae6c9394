"""service/api/workflows.py: workflows as a whole, and starts as a tracker has them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from holdfast import Runtime, Workflow
from holdfast.service import Token, http_app
from tests.service.support import serving

VIEWER = Token("viewer-viewer-viewer", "vera", "viewer")
OPERATOR = Token("operator-operator-1", "otto", "operator")
ACME = Token("acme-acme-acme-acme-1", "anna", "operator", "acme")


class KnownEcho(Workflow):
    """Says it again."""

    async def run(self, text: str) -> str:
        return text


@pytest.fixture
async def rt(folder: Path) -> AsyncIterator[Runtime]:
    async with Runtime(folder) as rt:
        yield rt


@pytest.fixture
async def client(rt: Runtime) -> AsyncIterator[httpx2.AsyncClient]:
    app = http_app(rt, tokens=[VIEWER, OPERATOR, ACME])
    async with (
        serving(app) as address,
        httpx2.AsyncClient(base_url=f"http://{address}", headers=as_(OPERATOR), trust_env=False) as client,
    ):
        yield client


def as_(token: Token) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.secret}"}


async def row(client: httpx2.AsyncClient, token: Token = VIEWER) -> Any:
    told = (await client.get("/workflows", headers=as_(token))).json()["workflows"]
    return next(one for one in told if one["name"] == "KnownEcho")


async def test_a_start_with_ref_and_metadata(client: httpx2.AsyncClient, rt: Runtime) -> None:
    """Gives the run's id; the run is found by its ref, with who started it."""
    body = {
        "workflow": "KnownEcho",
        "params": "hi",
        "ref_type": "campaign",
        "ref_id": "7",
        "metadata": {"department": "sales"},
    }
    headers = {"Idempotency-Key": "once"}
    first = await client.post("/api/tracker/runs", json=body, headers=headers)
    assert first.status_code == 201
    again = await client.post("/api/tracker/runs", json=body, headers=headers)
    assert (again.status_code, again.json()["run_id"]) == (200, first.json()["run_id"])
    assert await rt.run(KnownEcho, first.json()["run_id"]).result() == "hi"
    found = (await client.get("/api/tracker/runs", params={"ref_type": "campaign", "ref_id": "7"})).json()
    (run,) = found["runs"]
    assert run["tags"] == {"department": "sales", "started_by": "otto"}
    view = (await client.get(f"/api/tracker/runs/KnownEcho/{run['id']}")).json()
    assert (view["input"], view["output"], view["run"]["status"]) == ("hi", "hi", "complete")


async def test_the_standing_is_set(client: httpx2.AsyncClient, rt: Runtime) -> None:
    """Paused runs wait, a retired workflow is a conflict, and the audit tells who did it."""
    assert (await row(client))["status"] == "active"
    set_to = "/workflows/status/KnownEcho"
    assert (await client.post(set_to, json={"status": "paused", "reason": "why"})).status_code == 204
    run = await client.post("/runs", json={"workflow": "KnownEcho", "input": "x"})
    assert run.json()["status"] == "queued"
    assert (await row(client))["counts"] == {"queued": 1}
    assert (await client.post(set_to, json={"status": "retired"})).status_code == 204
    refused = await client.post("/runs", json={"workflow": "KnownEcho", "input": "x"})
    assert refused.status_code == 409
    assert "retired" in refused.json()["detail"]
    assert (await client.post(set_to, json={"status": "odd"})).status_code == 400
    assert [(deed.who, deed.verb) for deed in rt.audit()] == [("otto", "retired"), ("otto", "paused")]


async def test_metadata_are_noted(client: httpx2.AsyncClient) -> None:
    """They are there for who asks."""
    done = await client.post("/workflows/metadata/KnownEcho", json={"metadata": {"source": "crm"}})
    assert done.status_code == 204
    known = await row(client)
    assert known["metadata"] == {"source": "crm"}
    assert known["about"]["description"] == "Says it again."
    wrong = await client.post("/workflows/metadata/KnownEcho", json={"metadata": {"": "crm"}})
    assert wrong.status_code == 400


async def test_who_may_not(client: httpx2.AsyncClient) -> None:
    """A viewer changes nothing, nor does a token of a tenant, which sees no counts."""
    body = {"status": "paused"}
    for token in (VIEWER, ACME):
        refused = await client.post("/workflows/status/KnownEcho", json=body, headers=as_(token))
        assert refused.status_code == 403
    assert (await row(client, ACME))["counts"] is None
    assert (await client.post("/workflows/status/Nobody", json=body)).status_code == 404
    nothing: dict[str, object] = {"metadata": {}}
    assert (await client.post("/workflows/metadata/Nobody", json=nothing)).status_code == 404
