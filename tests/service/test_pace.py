"""service/pace.py: rates of tokens and requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from holdfast import CallerError, Runtime, Workflow, update
from holdfast.service import Token, http_app
from holdfast.service.pace import Bucket, TooMany
from tests.service.support import serving

SLOW = Token("slow-slow-slow-slow", "slow", per_second=0.001, burst=2)
FAST = Token("fast-fast-fast-fast", "fast", "operator")


class PaceNap(Workflow):
    """Waits for ever."""

    async def run(self) -> None:
        await self.wait("never")

    @update
    async def nap(self) -> None:
        await self.wait("never")


def as_(token: Token) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.secret}"}


@asynccontextmanager
async def asking(rt: Runtime, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = http_app(rt, tokens=[SLOW, FAST], **options)
    async with (
        serving(app) as address,
        httpx.AsyncClient(base_url=f"http://{address}", trust_env=False) as client,
    ):
        yield client


async def test_a_token_that_asks_too_fast_is_told_when_to_come_again(folder: Path) -> None:
    """And no other one."""
    async with Runtime(folder) as rt, asking(rt) as client:
        answers = [await client.get("/runs", headers=as_(SLOW)) for _ in range(3)]
        assert [one.status_code for one in answers] == [200, 200, 429]
        assert 0 < int(answers[2].headers["retry-after"]) <= 1_000
        assert answers[2].json()["status"] == 429
        assert (await client.get("/runs", headers=as_(FAST))).status_code == 200


async def test_requests_at_once_are_bounded(folder: Path) -> None:
    """But whether the process lives is always told."""
    async with Runtime(folder) as rt, asking(rt, max_in_progress=1) as client:
        run = await rt.start(PaceNap, id="r")
        path = "/runs/updates/PaceNap/r"
        waiting = asyncio.create_task(client.post(path, json={"method": "nap"}, headers=as_(FAST)))
        while True:
            refused = await client.get("/runs", headers=as_(FAST))
            if refused.status_code == 503:
                break
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("/health")).status_code == 200
        await run.terminate()
        assert (await waiting).status_code == 409
        assert (await client.get("/runs", headers=as_(FAST))).status_code == 200


def test_a_bucket_fills_at_its_rate() -> None:
    """A burst at once, then one for each moment that a request costs."""
    now = [100.0]
    bucket = Bucket(10, 3, lambda: now[0])

    def taken() -> int:
        for n in range(100):
            try:
                bucket.take()
            except TooMany as refused:
                assert 0 < refused.seconds <= 0.1 + 1e-6
                return n
        return 100

    assert taken() == 3
    now[0] += 0.1
    assert taken() == 1
    now[0] += 60
    assert taken() == 3  # no more than the burst


@pytest.mark.parametrize(
    "rates",
    [{"per_second": 0}, {"per_second": float("inf")}, {"burst": 5}, {"per_second": 1, "burst": 0}],
)
def test_rates_that_cannot_be_are_refused(rates: Any) -> None:
    with pytest.raises(CallerError, match="per_second"):
        Token("s" * 16, "a", **rates)
