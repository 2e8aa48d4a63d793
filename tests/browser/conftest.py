"""A real browser for the tests in this folder."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.browser.chromium import find_chromium
from tests.servers import BOUND

expect.set_options(timeout=BOUND * 1000)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; where there is none the tests fail, they are not skipped."""
    return find_chromium()


@pytest.fixture(scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    """One Chromium for the whole run."""
    sandbox = os.geteuid() != 0  # Chromium refuses to sandbox itself as root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, chromium_sandbox=sandbox)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty page of its own: no cookies, nothing stored, and no error in a script goes unseen."""
    async with _opened(browser) as page:
        yield page


@pytest.fixture
async def other_page(browser: Browser) -> AsyncIterator[Page]:
    """A page of somebody else."""
    async with _opened(browser) as page:
        yield page


@asynccontextmanager
async def _opened(browser: Browser) -> AsyncGenerator[Page]:
    context = await browser.new_context()
    page = await context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await context.close()
    assert errors == []
