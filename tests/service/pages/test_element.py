"""`<holdfast-runs>` in a page of another origin."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from holdfast import Runtime, Workflow
from holdfast.service import Token, http_app
from tests.service.pages.support import ACME, VIEWER
from tests.service.support import serving


class Embedded(Workflow):
    """It waits."""

    async def run(self) -> None:
        self.set_status("<b>begun</b>")
        await self.wait("go")


@asynccontextmanager
async def embedded(
    folder: Path, browser: Browser, token: Token, *, allowed: bool = True
) -> AsyncIterator[Page]:
    """A window on a page of another origin that has the element in it, beside a run of nobody's and ours."""
    page_of_others = ""

    async def show(request: Request) -> HTMLResponse:
        return HTMLResponse(page_of_others)

    async with Runtime(folder) as rt, serving(Starlette(routes=[Route("/", show)])) as other:
        origins = [f"http://{other}"] if allowed else []
        app = http_app(rt, tokens=[VIEWER, ACME], origins=origins, pages=True)
        async with serving(app) as host:
            page_of_others = (
                f'<!doctype html><script type="module" src="http://{host}/ui/static/holdfast-runs.js"></script>'
                f'<holdfast-runs src="http://{host}" token="{token.secret}" every="1"></holdfast-runs>'
            )
            await rt.start(Embedded, id="<i>one</i>")
            await rt.start(Embedded, id="ours", tenant="acme")
            context = await browser.new_context()
            page = await context.new_page()
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            await page.goto(f"http://{other}/")
            yield page
            assert not [url for url in asked if token.secret in url]
            await context.close()
            await asyncio.sleep(0)


async def test_it_shows_runs_as_text_and_stays_up_to_date(folder: Path, browser: Browser) -> None:
    """Runs of the service, on a page of an origin that is allowed; what users gave is text."""
    async with embedded(folder, browser, VIEWER) as page:
        rows = page.locator("holdfast-runs tbody tr")
        await expect(rows).to_have_count(2)
        await expect(rows.filter(has_text="<i>one</i>")).to_contain_text("<b>begun</b>")
        await expect(rows.filter(has_text="<i>one</i>")).to_contain_text("waiting")
        await page.evaluate(
            "addEventListener('holdfast-run', (e) => { document.title = e.detail.workflow + e.detail.id; })"
        )
        await page.get_by_role("button", name="ours").click()
        await expect(page).to_have_title("Embeddedours")
        await page.evaluate("document.querySelector('holdfast-runs').setAttribute('status', 'failed stuck')")
        await expect(page.locator("holdfast-runs")).to_contain_text("No runs")


async def test_a_token_of_a_tenant_shows_its_runs(folder: Path, browser: Browser) -> None:
    """What is seen is what the token may see."""
    async with embedded(folder, browser, ACME) as page:
        await expect(page.locator("holdfast-runs tbody tr")).to_have_count(1)


async def test_another_token_is_told_in_words(folder: Path, browser: Browser) -> None:
    """A token that isn't known shows what the service said."""
    async with embedded(folder, browser, Token("unknown-unknown-unknown", "x")) as page:
        await expect(page.get_by_role("alert")).to_have_text("this token is not known here")


async def test_an_origin_that_is_not_allowed_gets_nothing(folder: Path, browser: Browser) -> None:
    """Not even the element, which browsers don't take from a host that doesn't allow it."""
    async with embedded(folder, browser, VIEWER, allowed=False) as page:
        assert await page.evaluate("customElements.get('holdfast-runs') === undefined")
        assert await page.locator("holdfast-runs table").count() == 0
