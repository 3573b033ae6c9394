"""The page and the JavaScript client in a real browser, against a real server."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.examples.book_import.book_server import DUNE, UNKNOWN, book_server
from tests.examples.book_import.server_process import server_process
from tests.examples.book_import.support import ALL

if TYPE_CHECKING:
    from playwright.async_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
WAIT_MS = 30_000


@asynccontextmanager
async def open_page() -> AsyncIterator[Page]:
    """A page whose errors fail the test."""
    from playwright.async_api import async_playwright

    errors: list[str] = []

    def refused(text: str) -> None:
        if "Content Security" in text:
            errors.append(text)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            page = await browser.new_page()
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on(
                "console", lambda one: errors.append(one.text) if "Content Security" in one.text else None
            )
            page.set_default_timeout(WAIT_MS)
            yield page
        finally:
            await browser.close()
    assert errors == []


async def import_by_form(page: Page, base: str, isbn: str) -> None:
    """Fill in the form and send it."""
    await page.goto(base)
    await page.fill("input[name=isbn]", isbn)
    await page.select_option("select[name=source]", "openlibrary")
    await page.click("button")


async def shown(page: Page) -> list[Any]:
    """Number and status of each line."""
    lines: list[Any] = await page.eval_on_selector_all(
        "#progress li", "lines => lines.map(line => [Number(line.dataset.number), line.dataset.status])"
    )
    return lines


async def test_the_form(tmp_path: Path) -> None:
    """An import by the form shows each status, in order, and its end."""
    async with book_server() as books:
        with server_process(tmp_path, books) as server:
            await server.until_ready()
            async with open_page() as page:
                await import_by_form(page, server.base, DUNE)
                await page.wait_for_selector("#progress li[data-status=completed]")
                assert await shown(page) == [[n, status] for n, status in enumerate(ALL, 1)]
                assert await page.inner_text("#note") == "Done."
                await import_by_form(page, server.base, "123")
                await page.locator("#note", has_text="10 digits").wait_for()
                await import_by_form(page, server.base, UNKNOWN)
                await page.wait_for_selector("#progress li[data-status=failed]")
                assert [status for _, status in await shown(page)] == ["started", "failed"]


async def test_killed_in_the_middle(tmp_path: Path) -> None:
    """The server is killed and started again while the page looks on, which shows each status once."""
    async with book_server() as books:
        books.always["/covers/dune.jpg"] = books.hanging("image/jpeg")
        with server_process(tmp_path, books) as server:
            await server.until_ready()
            async with open_page() as page:
                await import_by_form(page, server.base, DUNE)
                await page.wait_for_selector("#progress li[data-status=metadata_fetched]")
                server.kill()
                await page.locator("#note", has_text="lost").wait_for()
                del books.always["/covers/dune.jpg"]
                server.start()
                await page.wait_for_selector("#progress li[data-status=completed]")
                assert await shown(page) == [[n, status] for n, status in enumerate(ALL, 1)]


async def test_loaded_again(tmp_path: Path) -> None:
    """A page that is loaded again in the middle, or later on, shows all of it."""
    async with book_server() as books:
        with server_process(tmp_path, books) as server:
            await server.until_ready()
            async with open_page() as page:
                await import_by_form(page, server.base, DUNE)
                await page.wait_for_selector("#progress li[data-status=completed]")
                await page.reload()
                await page.wait_for_selector("#progress li[data-status=completed]")
                assert await shown(page) == [[n, status] for n, status in enumerate(ALL, 1)]


FOLLOW_TWICE = """
async isbn => {
  const {startImport, followImport} = await import("/book_import.js");
  const {jobId} = await startImport({isbn, source: "isbndb"});
  const first = [];
  const stop = new AbortController();
  const cut = await followImport(jobId, {
    signal: stop.signal,
    onProgress: frame => { first.push(frame.number); if (frame.number === 2) stop.abort("enough"); },
  }).catch(error => error);
  const second = [];
  const ended = await followImport(jobId, {since: 2, onProgress: frame => second.push(frame.number)});
  const unknown = await followImport("nope").catch(error => [error.status, error.code]);
  const refused = await startImport({isbn: "1"}).catch(error => [error.status, error.code]);
  return {cut, first, second, status: ended.status, unknown, refused};
}
"""


async def test_the_client(tmp_path: Path) -> None:
    """Cut off after two frames and followed again, every frame came once; refusals have their codes."""
    async with book_server() as books:
        with server_process(tmp_path, books) as server:
            await server.until_ready()
            async with open_page() as page:
                await page.goto(server.base)
                told: dict[str, Any] = await page.evaluate(FOLLOW_TWICE, DUNE)
    assert told == {
        "cut": "enough",
        "first": [1, 2],
        "second": [3, 4, 5],
        "status": "completed",
        "unknown": [404, "JOB_NOT_FOUND"],
        "refused": [400, "INVALID_ISBN"],
    }
