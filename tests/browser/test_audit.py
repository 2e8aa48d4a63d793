"""The record in a real browser: a filter that lives in the URL, and rows that open to the history of their call."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.browser.test_review import SIZES, Agent, agent, asking, assert_well_laid_out, sign_in

__all__ = ["agent"]


@pytest.mark.parametrize("size", SIZES)
async def test_a_decision_is_found_by_its_filter_and_opens_to_the_history_of_its_call(
    page: Page, agent: Agent, size: tuple[int, int]
) -> None:
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    await sign_in(page, agent.broker)
    async with asking(agent, "second", "auto") as call:
        await page.locator("#waiting").get_by_role("link").click()
        await page.get_by_label("Reason").fill("Not on a Friday")
        await page.get_by_role("button", name="Reject").click()
        await call
    await page.goto(f"{agent.broker.url}/audit")
    if size[0] < 640:
        await page.get_by_text("Filter", exact=True).click()
    await page.get_by_label("Text", exact=True).fill("friday")
    await page.get_by_label("Outcome").select_option("rejected")
    await page.get_by_label("Decided in").fill("web")
    await page.get_by_role("button", name="Search").click()
    await expect(page).to_have_url(re.compile("q=friday&outcome=rejected"))
    await expect(page.locator("tbody")).to_have_count(1)
    await expect(page.locator("tbody .tag")).to_have_text("rejected")
    await expect(page.locator(".chain")).to_contain_text(re.compile("erified"))
    await page.locator("details[data-row] summary").click()
    await expect(page.locator("details[data-row] .history li")).to_have_count(2)
    await expect(page.locator("details[data-row] .history")).to_contain_text("scribe asked; the call was held")
    await assert_well_laid_out(page)
    await page.get_by_role("link", name="All that happened to this call").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("approval.rejected")
    await assert_well_laid_out(page)
