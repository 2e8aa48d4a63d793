"""A card that lies open while others decide, agents go away and time passes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from broker.domain.approvals import Decision
from broker.domain.people import Person, Role
from broker.store import people
from broker.store.people import CredentialKind
from tests.browser.test_review import assert_well_laid_out
from tests.gateway.scene import APPROVER, Scene, block, playing
from tests.servers.scripted import Scripted, tool
from tests.web.drawing import base64_of, png

ROOT = Person("root@example.com", frozenset({Role.ADMIN}))
ANN = Person("ann@example.com", frozenset({Role.APPROVER}))
POLICY: dict[str, Any] = {
    "default": "hold",
    "tools": {
        "act": {"action": "hold", "approval": {"quorum": 2}},
        "drop": {"action": "hold", "risk": "critical"},
    },
}


@pytest.fixture
async def scene(tmp_path: Path, server: Scripted) -> AsyncGenerator[Scene]:
    """A broker of whose calls of `act` two people decide."""
    server.tools = [tool("act"), tool("drop"), tool("show")]
    async with playing(tmp_path, {"one": {"url": server.url, "policy": POLICY}}) as scene:
        await scene.person(ROOT)
        await scene.person(ANN)
        yield scene


async def sign_in(page: Page, scene: Scene, email: str) -> None:
    """As somebody whom the broker knows."""
    session = CredentialKind.SESSION
    new = await scene.broker.store.write(
        lambda tx: people.issue(tx, "cli:test", session, email, lifetime=timedelta(minutes=15))
    )
    await page.context.add_cookies([{"name": "broker_session", "value": new.secret, "url": scene.broker.url}])


async def open_card(page: Page, scene: Scene, approval: str) -> None:
    """As the administrator, on a phone."""
    await sign_in(page, scene, ROOT.email)
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.clock.install()
    await page.goto(f"{scene.broker.url}/approvals/{approval}")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()


async def test_votes_and_the_agent_are_followed_without_a_reload_and_buttons_go_before_they_mislead(
    page: Page, scene: Scene
) -> None:
    agent = await scene.agent()
    call = await agent.call("one", "act", {"to": "ann"})
    approval = await scene.submitted(agent)
    await open_card(page, scene, approval)
    await expect(page.locator("#votes")).to_contain_text("0 of 2 approved")
    await page.get_by_label("Reason").fill("half a sentence")
    await scene.broker.approvals.reviews.review(approval, APPROVER, Decision.APPROVE, channel="api", reason="fine")
    await expect(page.locator("#votes")).to_contain_text("1 of 2 approved")
    await expect(page.locator("#votes")).to_contain_text("May still vote: ann@example.com, root@example.com")
    call.leave()
    await expect(page.locator("#caller")).to_contain_text("The agent stopped waiting")
    await expect(page.locator("#state")).to_contain_text("agent gone")
    await expect(page.locator("#history")).to_contain_text("agent stopped waiting")
    await expect(page.get_by_label("Reason")).to_have_value("half a sentence")
    await page.get_by_text("Withdraw", exact=True).click()
    await assert_well_laid_out(page)

    await page.clock.fast_forward("15:00")
    for name in ("Approve", "Reject", "Withdraw it"):
        await expect(page.get_by_role("button", name=name)).to_be_hidden()
    await assert_well_laid_out(page)


async def test_an_administrator_withdraws_and_lets_be_asked_again_without_leaving_the_page(
    page: Page, scene: Scene
) -> None:
    agent = await scene.agent()
    withdrawn = await agent.call("one", "act", {"to": "ann"})
    await open_card(page, scene, await scene.submitted(agent))
    await page.get_by_text("Withdraw", exact=True).click()
    await page.get_by_role("button", name="Withdraw it").click()
    await expect(page.locator("#decide")).to_contain_text(f"Withdrawn by {ROOT.email}")
    assert block(await withdrawn.message())["status"] == "withdrawn"

    rejected = await agent.call("one", "act", {"to": "bob"})
    await page.goto(f"{scene.broker.url}/approvals/{await scene.submitted(agent, 2)}")
    await page.get_by_role("button", name="Reject").click()
    assert block(await rejected.message())["status"] == "rejected"
    await page.get_by_role("button", name="Let it be asked again").click()
    await expect(page.locator("#decide")).to_contain_text("The same call may be asked again")
    await assert_well_laid_out(page)


async def places(page: Page) -> list[Any]:
    """Where the buttons are that decide."""
    return [await page.get_by_role("button", name=name, exact=True).bounding_box() for name in ("Approve", "Reject")]


async def test_two_people_on_one_card_see_each_others_votes_and_lose_their_buttons_when_it_is_decided_elsewhere(
    page: Page, other_page: Page, scene: Scene
) -> None:
    agent = await scene.agent()
    call = await agent.call("one", "act", {"to": "ann"})
    approval = await scene.submitted(agent)
    for each, person in ((page, APPROVER), (other_page, ANN)):
        await sign_in(each, scene, person.email)
        await each.set_viewport_size({"width": 1280, "height": 800})
        await each.goto(f"{scene.broker.url}/approvals/{approval}")
        await expect(each.get_by_text("Live", exact=True)).to_be_visible()
    where = await places(other_page)
    await other_page.get_by_label("Reason").fill("half a sentence")

    await page.get_by_role("button", name="Approve", exact=True).click()
    await expect(page.locator("#decide")).to_contain_text("You approved at")
    await expect(page.locator("#decide")).to_be_focused()
    await expect(other_page.locator("#votes")).to_contain_text(f"approved {APPROVER.email}")
    await expect(other_page.locator("#votes")).to_contain_text("1 of 2 approved")
    assert await places(other_page) == where
    await expect(other_page.get_by_label("Reason")).to_have_value("half a sentence")

    await scene.broker.approvals.reviews.review(approval, ROOT, Decision.REJECT, channel="api", reason="not now")
    for each in (page, other_page):
        await expect(each.locator("#decide")).to_contain_text(f"Rejected by {ROOT.email}")
        await expect(each.locator("#votes")).to_contain_text("not now")
        await expect(each.get_by_role("button", name="Approve", exact=True)).to_have_count(0)
        await expect(each.get_by_role("button", name="Reject", exact=True)).to_have_count(0)
    assert block(await call.message())["status"] == "rejected"


@pytest.mark.parametrize("scripts", [True, False])
async def test_a_critical_call_is_approved_in_two_steps_and_never_by_two_clicks_in_one_place(
    browser: Browser, scene: Scene, scripts: bool
) -> None:
    agent = await scene.agent()
    call = await agent.call("one", "drop", {"name": "customers"})
    approval = await scene.submitted(agent)
    context = await browser.new_context(java_script_enabled=scripts, viewport={"width": 390, "height": 844})
    page = await context.new_page()
    await sign_in(page, scene, ANN.email)
    await page.goto(f"{scene.broker.url}/approvals/{approval}")
    approve = page.get_by_role("button", name="Approve", exact=True)
    where = await approve.bounding_box()
    await approve.click()
    await page.wait_for_url("**/confirm")
    await expect(page.locator(".confirm")).to_contain_text("Critical: this runs drop on one for agent")
    assert await approve.bounding_box() == where
    await approve.click()
    assert page.url.endswith("/confirm")
    assert (await scene.broker.approvals.get(approval)).reviews == ()
    await page.get_by_role("checkbox").check()
    await approve.click()
    await expect(page.locator("#decide")).to_contain_text(f"Approved by {ANN.email}")
    assert not (await call.message())["result"].get("isError")
    await context.close()


async def test_a_picture_is_seen_as_pixels_and_nothing_that_a_call_carries_runs(page: Page, scene: Scene) -> None:
    svg = base64_of(b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>')
    agent = await scene.agent()
    await agent.call("one", "show", {"logo": base64_of(png(48, 32)), "drawing": f"data:image/svg+xml;base64,{svg}"})
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.on("dialog", lambda dialog: refused.append(dialog.message))
    await open_card(page, scene, await scene.submitted(agent))
    picture = page.get_by_role("img", name="PNG picture, 48 by 32 pixels")
    await expect(picture).to_be_visible()
    await expect(picture).to_have_js_property("naturalWidth", 48)
    await expect(page.locator(".values img")).to_have_count(1)
    await expect(page.locator(".values")).to_contain_text(svg)
    await assert_well_laid_out(page)
    assert refused == []
