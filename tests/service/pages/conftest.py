"""Fixtures of the tests of the pages: one browser for each module."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.service.pages.support import CHROMIUM, NO_BROWSER, Site, chromium, site


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A real browser; without one, the test is skipped."""
    if CHROMIUM is None:
        pytest.skip(NO_BROWSER)
    async with chromium() as running:
        yield running


@pytest.fixture
async def served(folder: Path, browser: Browser) -> AsyncIterator[Site]:
    """A service on a fresh folder, with a browser at it that must not complain."""
    async with site(folder, browser) as running:
        yield running


@pytest.fixture
async def plain(folder: Path) -> AsyncIterator[Site]:
    """A service for clients that are no browsers."""
    async with site(folder, None) as running:
        yield running
