"""Good manners of every page: for who cannot see or point well, on a phone, in the dark, far away, without scripts."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, Page, expect

from broker import web
from broker.store import people
from broker.store.people import CredentialKind
from tests.browser.office import ALICE, SIZES, Office, furnished
from tests.gateway.scene import block

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
        await page.route("**/queue/events", lambda route: route.abort())
        await page.goto("/")
        await page.get_by_role("checkbox").first.check()
        await page.locator("#narrow summary").click()
        await expect(page.locator("#live")).to_contain_text("Connection lost")
        broken["lost, with a selection and the filter"] = await broken_rules(page)
    assert {where: rules for where, rules in broken.items() if rules} == {}


async def test_a_time_range_is_chosen_in_the_zone_of_whoever_reads_and_is_an_instant_in_the_url(
    browser: Browser, office: Office
) -> None:
    async with office.opened(browser, "wide", timezone_id="Asia/Kolkata") as page:
        await page.goto("/audit?until=2026-07-28")
        since, until = page.get_by_label("Since, your time"), page.get_by_label("Until, your time")
        await expect(until).to_have_value("2026-07-28T05:30")
        await since.fill("2026-07-28T05:00:01")
        await page.get_by_role("button", name="Search").click()
        await page.wait_for_url("**since=2026-07-27T23%3A30%3A01Z&until=2026-07-28")
        await expect(since).to_have_value("2026-07-28T05:00:01")
        await until.fill("")
        await page.get_by_role("button", name="Search").click()
        await page.wait_for_url("**since=2026-07-27T23%3A30%3A01Z&until=")
        await page.goto("/audit?since=yesterday&until=2026-07-28T12:00&outcome=ran")
        await expect(page.get_by_label("Since, UTC")).to_have_value("yesterday")
        await expect(until).to_have_value("2026-07-28T17:30")
    async with office.opened(browser, "wide", timezone_id="Asia/Kolkata", java_script_enabled=False) as page:
        await page.goto("/audit?since=2026-07-28T12:00Z")
        await expect(page.get_by_label("Since, UTC")).to_have_value("2026-07-28T12:00Z")


async def test_times_are_told_in_the_zone_of_whoever_reads_and_exactly_on_hover(
    browser: Browser, office: Office
) -> None:
    async with office.opened(browser, "phone", timezone_id="Asia/Kolkata") as page:
        await page.goto(f"/approvals/{office.pending}")
        vote = page.locator("#votes time")
        at = await vote.get_attribute("datetime")
        assert at
        instant = datetime.fromisoformat(at)
        here = f"{instant.astimezone(ZoneInfo('Asia/Kolkata')):%Y-%m-%d %H:%M:%S}"
        await expect(vote).to_have_text(here)
        await expect(vote).to_have_attribute("title", f"{instant:%Y-%m-%d %H:%M:%S} UTC")
        await expect(page.locator("#hour time").first).to_have_text(re.compile("before"))
        await page.goto("/audit?outcome=held")
        await page.get_by_text("Filter", exact=True).click()
        await page.locator("details[data-row] summary").first.click()
        came_later = page.locator("details[data-row] .history time").first
        await expect(came_later).to_have_text(re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$"))
        await page.route("**/queue/events", lambda route: route.abort())
        await page.goto("/")
        lost = page.locator("#live time")
        await expect(lost).to_have_attribute("title", re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC$"))
        at = await lost.get_attribute("datetime")
        assert at
        here = f"{datetime.fromisoformat(at).astimezone(ZoneInfo('Asia/Kolkata')):%H:%M:%S}"
        await expect(page.locator("#live")).to_have_text(f"Connection lost at {here}. This may be old; trying again.")


def test_nothing_moves_for_who_asked_for_less_motion() -> None:
    """There is no transition and no animation at all; scripts scroll nothing smoothly."""
    static = Path(web.__file__).parent / "static"
    for file in static.iterdir():
        moving = re.findall(r"transition|animation|@keyframes|smooth|\.animate\(", file.read_text())
        assert (file.name, moving) == (file.name, [])


async def test_all_that_a_reviewer_and_an_auditor_do_is_possible_without_scripts(
    browser: Browser, office: Office
) -> None:
    scene = office.scene
    agent = await scene.agent(label="night-shift")
    call = await agent.call("mail", "send_mail", {"to": "nina@example.com"})
    approval = await scene.submitted(agent)
    link = await scene.broker.store.write(
        lambda tx: people.issue(tx, "cli:test", CredentialKind.LINK, ALICE.email, lifetime=timedelta(minutes=15))
    )
    context = await browser.new_context(java_script_enabled=False, base_url=scene.broker.url)
    page = await context.new_page()
    await page.goto(f"/sign-in?token={link.secret}")
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_text("Filter", exact=True).click()
    await page.get_by_label("Text").fill("night-shift")
    await page.get_by_role("button", name="Show").click()
    await expect(page.locator("#waiting > li")).to_have_count(1)
    await page.locator("#waiting").get_by_role("link").click()
    await expect(page.locator("#history time").first).to_have_text(re.compile(" UTC$"))
    await page.get_by_role("button", name="Approve").click()
    assert block(await call.message())["status"] == "approved"
    await page.goto(f"/approvals/{approval}")
    await expect(page.locator(".decide .tag")).to_have_text("ran")
    await page.get_by_role("link", name="Audit").click()
    await page.get_by_label("Agent").fill("night-shift")
    await page.get_by_label("Outcome").select_option("ran")
    await page.get_by_role("button", name="Search").click()
    await expect(page.locator("tbody")).to_have_count(1)
    await expect(page.locator("tbody .at")).to_have_text(re.compile(" UTC$"))
    await page.get_by_text(re.compile("^Row ")).click()
    await page.get_by_role("link", name="All that happened to this call").click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("approval.succeeded")
    await context.close()


async def test_no_page_with_all_that_there_is_to_load_is_above_100_kilobytes(browser: Browser, office: Office) -> None:
    loaded = sum(file.stat().st_size for file in (Path(web.__file__).parent / "static").iterdir())
    async with office.opened(browser, "wide") as page:
        for address in await addresses(office):
            answer = await page.request.get(address)
            assert len(await answer.body()) + loaded < 100_000, address
