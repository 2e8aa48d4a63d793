"""The pictures of the README: `python -m tests.browser.pictures` makes them anew, of a broker in its day."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

from playwright.async_api import async_playwright

from tests.browser.chromium import find_chromium
from tests.browser.office import Office, furnished

FOLDER = Path(__file__).parents[2] / "docs" / "images"


async def take(chromium: str) -> None:
    """One picture of each of the three pages, in the light."""
    with tempfile.TemporaryDirectory() as folder:
        async with async_playwright() as playwright, furnished(Path(folder)) as office:
            sandbox = os.geteuid() != 0  # Chromium refuses to sandbox itself as root
            browser = await playwright.chromium.launch(executable_path=chromium, chromium_sandbox=sandbox)
            async with office.opened(browser, "wide", timezone_id="UTC") as page:
                for name, address in pages(office).items():
                    await page.goto(address, wait_until="load")
                    await page.screenshot(path=FOLDER / f"{name}.png")
            await browser.close()


def pages(office: Office) -> dict[str, str]:
    """The pages by the names of their pictures."""
    return {"queue": "/", "card": f"/approvals/{office.pending}", "audit": "/audit"}


if __name__ == "__main__":
    asyncio.run(take(find_chromium()))
