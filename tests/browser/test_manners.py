"""Good manners of every page: for those who cannot see or point well, on a phone, in the dark, far away, without scripts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, Page, expect

from tests.browser.office import SIZES, Office, furnished

RULES = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
CONTRAST = {"resultTypes": ["violations"], "runOnly": {"type": "rule", "values": ["color-contrast"]}}
"""What alone can be otherwise in the dark."""


@pytest.fixture(scope="module")
async def office(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Office]:
    async with furnished(tmp_path_factory.mktemp("office")) as office:
        yield office


async def addresses(office: Office) -> list[str]:
    """Every page there is, as it looks in an office."""
    cards = [f"/approvals/{which}" for which in (office.pending, office.critical, office.decided, office.left)]
    record = ["/audit", "/audit?outcome=unheard-of", f"/audit/{await office.row()}"]
    return [
        "/",
        "/?group=agent",
        *cards,
        f"{cards[1]}/confirm",
        *record,
        "/policies",
        "/sessions",
        "/sign-in",
        "/no-page",
    ]


async def broken_rules(page: Page) -> list[str]:
    """What axe-core finds on a page as it is, in the light and in the dark: the rule, and the element."""
    await page.evaluate(AXE_SCRIPT)
    light: dict[str, Any] = await page.evaluate("rules => axe.run(rules)", RULES)
    await page.emulate_media(color_scheme="dark")
    dark: dict[str, Any] = await page.evaluate("rules => axe.run(rules)", CONTRAST)
    await page.emulate_media(color_scheme="light")
    broken = light["violations"] + dark["violations"]
    return [f"{rule['id']}: {node['html']} {node['failureSummary']}" for rule in broken for node in rule["nodes"]]


@pytest.mark.parametrize("size", SIZES)
async def test_no_page_breaks_a_rule_of_accessibility(browser: Browser, office: Office, size: str) -> None:
    broken = dict[str, list[str]]()
    async with office.opened(browser, size) as page:
        for address in await addresses(office):
            await page.goto(address)
            broken[address] = await broken_rules(page)
        await page.goto("/")
        await page.get_by_role("checkbox").first.check()
        await page.locator("#narrow summary").click()
        await page.context.set_offline(True)
        office.scene.broker.feed.dismiss()
        await expect(page.locator("#live")).to_contain_text("Connection lost")
        broken["lost, with a selection and the filter"] = await broken_rules(page)
    assert {where: rules for where, rules in broken.items() if rules} == {}
