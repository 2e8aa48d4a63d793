"""A card that lies open while others decide, agents go away and time passes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from broker.domain.approvals import Decision
from broker.domain.people import Person, Role
from broker.store import people
from broker.store.people import CredentialKind
from tests.browser.test_review import assert_well_laid_out
from tests.gateway.scene import APPROVER, Scene, block, playing
from tests.servers.scripted import Scripted

ROOT = Person("root@example.com", frozenset({Role.ADMIN}))
POLICY: dict[str, Any] = {"default": "hold", "tools": {"act": {"action": "hold", "approval": {"quorum": 2}}}}


@pytest.fixture
async def scene(tmp_path: Path, server: Scripted) -> AsyncGenerator[Scene]:
    """A broker of whose calls two people decide."""
    async with playing(tmp_path, {"one": {"url": server.url, "policy": POLICY}}) as scene:
        await scene.person(ROOT)
        yield scene


async def open_card(page: Page, scene: Scene, approval: str) -> None:
    """As the administrator, on a phone."""
    session = CredentialKind.SESSION
    new = await scene.broker.store.write(
        lambda tx: people.issue(tx, "cli:test", session, ROOT.email, lifetime=timedelta(minutes=15))
    )
    await page.context.add_cookies([{"name": "broker_session", "value": new.secret, "url": scene.broker.url}])
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
    await expect(page.locator("#votes")).to_contain_text("May still vote: root@example.com")
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
