"""The browser itself: that it runs, and that its pages share nothing."""

from __future__ import annotations

from playwright.async_api import Page


async def test_a_page_runs_scripts(page: Page) -> None:
    await page.set_content("<h1></h1><script>document.querySelector('h1').textContent = 'Queue'</script>")
    assert await page.text_content("h1") == "Queue"
