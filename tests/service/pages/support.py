"""What the tests of the pages share: a service with a browser at it, and what every page must be."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from holdfast import Runtime
from holdfast.service import Token, http_app
from tests.service.support import serving

VIEWER = Token("viewer-viewer-viewer", "vera", "viewer")
OPERATOR = Token("operator-operator-1", "otto", "operator")
ACME = Token("acme-acme-acme-acme-1", "anna", "operator", "acme")
DESK = (1280, 860)
PHONE = (390, 844)
# The first that is there.
CHROMIUM = next(
    (
        found
        for found in map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))
        if found is not None
    ),
    None,
)
NO_BROWSER = "no Chromium on this machine: install it (Debian: apt install chromium) to test the pages"
# Nothing that a page does takes so long; only met when a test fails.
WAIT_MS = 15_000
expect.set_options(timeout=WAIT_MS)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser."""
    async with async_playwright() as playwright:
        # Its sandbox needs rights that a container or root may not have; it sees our own pages alone.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            await browser.close()


class Site:
    """A service, and the windows that look at it."""

    def __init__(self, rt: Runtime, host: str, browser: Browser | None) -> None:
        self.rt = rt
        self.host = host
        self.base = f"http://{host}/ui"
        self.browser = browser
        self.contexts: list[BrowserContext] = []
        # What went wrong in the windows: errors of scripts, requests to others.
        self.complaints: list[str] = []
        # Complaints that begin like this are what a test is about.
        self.expected: tuple[str, ...] = ()

    async def window(
        self,
        token: Token | None = OPERATOR,
        *,
        scheme: Literal["light", "dark"] = "light",
        size: tuple[int, int] = DESK,
        scripts: bool = True,
    ) -> Page:
        """A window of its own, signed in with a token."""
        assert self.browser is not None
        context = await self.browser.new_context(
            color_scheme=scheme, viewport={"width": size[0], "height": size[1]}, java_script_enabled=scripts
        )
        self.contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        page = await context.new_page()
        page.on("console", lambda one: self._said(one.type, one.text))
        page.on("pageerror", lambda error: self._said("error", str(error)))
        page.on("dialog", lambda dialog: self._said("error", f"dialog {dialog.message}"))
        page.on("request", lambda request: self._asked(request.url))
        if token is not None:
            await context.request.post(f"{self.base}/sign-in", form={"token": token.secret}, max_redirects=0)
            await page.goto(f"{self.base}/")
        return page

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not text.startswith(self.expected or ("\0",)):
            self.complaints.append(f"{kind}: {text}")

    def _asked(self, url: str) -> None:
        if urlsplit(url).netloc != self.host:
            self.complaints.append(f"asked another host: {url}")

    async def close(self) -> None:
        """Close the windows; raises when one of them complained."""
        for context in self.contexts:
            await context.close()
        assert self.complaints == []


@asynccontextmanager
async def site(folder: Path, browser: Browser | None, rt: Runtime | None = None) -> AsyncIterator[Site]:
    """A service on a folder with a browser at it."""
    async with rt or Runtime(folder) as runtime:
        app = http_app(runtime, tokens=[VIEWER, OPERATOR, ACME], pages=True)
        async with serving(app, timeout_graceful_shutdown=1) as host:
            made = Site(runtime, host, browser)
            yield made
            await made.close()


# -- what every page must be -------------------------------------------------------------------------------

FAULTS = (Path(__file__).parent / "faults.js").read_text()


async def check_page(page: Page) -> None:
    """Raise when a page isn't what every page must be: labels, headings, names, contrast, width."""
    faults = await page.evaluate(FAULTS)
    assert faults == [], f"{page.url}: {faults}"
