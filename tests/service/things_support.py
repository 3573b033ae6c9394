"""What the tests of queues, dead letters, actors, schedules and the audit over HTTP share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2 as httpx

from holdfast import Runtime
from holdfast.service import Token, http_app
from tests.service.support import serving

VIEWER = Token("viewer-viewer-viewer", "vera", "viewer")
OPERATOR = Token("operator-operator-1", "otto", "operator")
ACME = Token("acme-acme-acme-acme-1", "anna", "operator", "acme")


def as_(token: Token, **headers: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.secret}", **headers}


@asynccontextmanager
async def client_of(rt: Runtime) -> AsyncIterator[httpx.AsyncClient]:
    """An operator at the service of a runtime."""
    app = http_app(rt, tokens=[VIEWER, OPERATOR, ACME])
    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", headers=as_(OPERATOR), trust_env=False) as client,
    ):
        yield client


def told(response: httpx.Response, status: int = 200) -> Any:
    """What an answer says, which has this status, and a problem's shape when it is one."""
    assert response.status_code == status, response.text
    said = response.json()
    if status >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert said["status"] == status
        return said["detail"]
    return said


async def pages(client: httpx.AsyncClient, path: str, what: str, limit: int, **asked: str) -> list[list[Any]]:
    """All pages of a listing, by following `next`."""
    found: list[list[Any]] = []
    params: dict[str, Any] = {"limit": limit, **asked}
    while True:
        page = told(await client.get(path, params=params))
        found.append(page[what])
        if page["next"] is None:
            return found
        params["cursor"] = page["next"]


async def refused_to_others(
    client: httpx.AsyncClient, method: str, path: str, *, viewer: int, body: Any = None
) -> None:
    """Without a token 401, for a tenant's token 403, for a viewer the given status."""
    request: dict[str, Any] = {} if body is None else {"json": body}
    told(await client.request(method, path, headers={"Authorization": ""}, **request), 401)
    told(await client.request(method, path, headers=as_(ACME), **request), 403)
    response = await client.request(method, path, headers=as_(VIEWER), **request)
    assert response.status_code == viewer, response.text
