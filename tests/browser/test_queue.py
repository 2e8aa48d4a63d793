"""A queue that lies open while calls are held, decided elsewhere, and the connection comes and goes."""

from __future__ import annotations

import re
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
from tests.gateway.scene import APPROVER, Agent, Scene, block, playing
from tests.servers.scripted import Scripted, tool

OTHER = Person("other@example.com", frozenset({Role.APPROVER}))
SIZES = {"wide": (1280, 800), "phone": (390, 844)}
HELD: dict[str, Any] = {"action": "hold", "risk": "high"}
POLICY: dict[str, Any] = {"default": "deny", "tools": {"act": HELD, "wipe": HELD | {"risk": "critical"}}}

WATCHED = """
class Told { constructor(title, options) { Told.seen.push([title, options.body]); } }
Told.seen = []; Told.permission = "default";
Told.requestPermission = async () => (Told.permission = "granted");
window.Notification = Told;
Object.defineProperty(document, "hidden", { get: () => true });
"""
"""A browser in which nobody looks at the page, and which keeps what it is asked to show."""


@pytest.fixture
async def scene(tmp_path: Path, server: Scripted) -> AsyncGenerator[Scene]:
    """A broker with two approvers, before two tools that are held."""
    server.tools = [tool("act"), tool("wipe")]
    async with playing(tmp_path, {"one": {"url": server.url, "policy": POLICY}}) as scene:
        await scene.person(OTHER)
        yield scene


async def open_queue(page: Page, scene: Scene, query: str = "", size: str = "wide") -> None:
    """As the approver."""
    session, lifetime = CredentialKind.SESSION, timedelta(minutes=15)
    new = await scene.broker.store.write(
        lambda tx: people.issue(tx, "cli:test", session, APPROVER.email, lifetime=lifetime)
    )
    await page.context.add_cookies([{"name": "broker_session", "value": new.secret, "url": scene.broker.url}])
    await page.set_viewport_size({"width": SIZES[size][0], "height": SIZES[size][1]})
    await page.goto(f"{scene.broker.url}/{query}")


async def hold(agent: Agent, scene: Scene, nth: int, name: str = "act") -> str:
    """The agent's `nth` call, which is held; its id."""
    await agent.call("one", name, {"to": f"person {nth}"})
    return await scene.submitted(agent, nth)


async def live(page: Page) -> None:
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()


async def test_nothing_moves_under_the_pointer_while_calls_arrive_and_others_decide(page: Page, scene: Scene) -> None:
    agent = await scene.agent()
    first = await hold(agent, scene, 1)
    await open_queue(page, scene)
    await live(page)
    await expect(page).to_have_title("(1) Approvals")
    row = page.locator(f"#{first}")
    await row.locator(".tool-name").hover()
    before = await row.bounding_box()
    second = await hold(agent, scene, 2)
    await expect(page.locator("#news")).to_have_text("1 new")
    await expect(page.get_by_role("heading", name="2 wait")).to_be_visible()
    await expect(page).to_have_title("(2) Approvals")
    await scene.broker.approvals.reviews.review(first, OTHER, Decision.REJECT, channel="api")
    await expect(row).to_contain_text(f"rejected by {OTHER.email}")
    await expect(row.get_by_role("checkbox")).to_have_count(0)
    assert await row.bounding_box() == before
    await expect(page.locator(f"#{second}")).to_have_count(0)

    await page.mouse.move(5, 5)
    await expect(page.locator("#waiting > li")).to_have_count(1)
    await expect(page.locator(f"#waiting > #{second}.fresh")).to_be_visible()
    await expect(page.locator(f"#lately > #{first}")).to_contain_text("rejected")
    await expect(page.locator("#news")).to_have_text("")


async def test_keys_go_through_the_rows_and_decide_nothing(page: Page, scene: Scene) -> None:
    agent = await scene.agent()
    ids = [await hold(agent, scene, nth) for nth in (1, 2)]
    await open_queue(page, scene)
    await live(page)
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    await page.keyboard.press("j")
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    await expect(page.locator(f"#{ids[0]} a")).to_be_focused()
    await page.keyboard.press("k")
    await page.keyboard.press("x")
    await page.keyboard.press("a")
    await expect(page.get_by_role("button", name="Approve 1")).to_be_focused()
    await page.locator(f"#{ids[1]} input").focus()
    await page.keyboard.press("r")
    await expect(page.get_by_label("Reason, for all of them")).to_be_focused()
    await page.keyboard.type("rajx?/")
    await expect(page.get_by_label("Reason, for all of them")).to_have_value("rajx?/")
    await page.get_by_role("button", name="Select none").click()
    await expect(page.get_by_role("button", name="Approve 0")).to_be_hidden()

    await page.locator(f"#{ids[0]} a").focus()
    await page.keyboard.press("a")
    await page.wait_for_url(f"**/approvals/{ids[0]}#decide")
    await page.go_back()
    await page.keyboard.press("/")
    await page.keyboard.type("person")
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/?q=person*")
    await expect(page.get_by_role("heading", name="Nothing like this waits")).to_be_visible()
    assert {(await scene.broker.approvals.get(each)).state.value for each in ids} == {"pending"}

    await page.get_by_role("button", name="Keys").click()
    await page.get_by_label("Use these keys").uncheck()
    await page.get_by_role("button", name="Close").click()
    await page.reload()
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


@pytest.mark.parametrize(("size", "scripts"), [("wide", False), ("phone", False), ("phone", True)])
async def test_several_are_decided_together_with_and_without_scripts(
    browser: Browser, scene: Scene, size: str, scripts: bool
) -> None:
    agent = await scene.agent()
    calls = [await agent.call("one", name, {"to": "ann"}) for name in ("act", "wipe")]
    ids = [await scene.submitted(agent, nth) for nth in (1, 2)]
    context = await browser.new_context(java_script_enabled=scripts)
    page = await context.new_page()
    await open_queue(page, scene, "?group=agent&q=agent", size)
    await expect(page.get_by_role("button", name=re.compile("^Approve"))).to_be_hidden()
    for each in ids:
        await page.locator(f"#{each}").get_by_role("checkbox").check()
    if scripts:
        await expect(page.locator("#chosen")).to_have_text("2 selected, 1 critical: to be approved one by one")
        await expect(page.get_by_role("button", name="Approve 1")).to_be_enabled()
        await assert_well_laid_out(page)
    await page.get_by_role("checkbox").first.press("Enter")  # which presses a form's first button
    if not scripts:
        await expect(page.locator("main")).to_contain_text("neither to approve nor to reject: nothing was decided")
        await page.go_back()
        for each in ids:
            await page.locator(f"#{each}").get_by_role("checkbox").check()
    approve = await page.locator("#approve-all").bounding_box()
    reject = await page.locator("#reject-all").bounding_box()
    assert approve
    assert reject
    apart = max(reject["x"] - approve["x"] - approve["width"], reject["y"] - approve["y"] - approve["height"])
    assert apart > 44
    await page.get_by_label("Reason, for all of them").fill("not on a Friday")
    await page.locator("#reject-all").click()
    await expect(page.get_by_role("heading", name="2 of 2 rejected")).to_be_visible()
    for call in calls:
        told = block(await call.message())
        assert (told["status"], told["reason"]) == ("rejected", "not on a Friday")
    await page.get_by_role("link", name="Back to the queue").click()
    await page.wait_for_url("**/?q=agent&group=agent")
    await context.close()


async def test_a_tab_that_lost_its_connection_says_so_catches_up_and_tells_when_it_is_signed_out(
    page: Page, scene: Scene
) -> None:
    agent = await scene.agent()
    await open_queue(page, scene, size="phone")
    await live(page)
    await page.context.set_offline(True)
    scene.broker.feed.dismiss()
    await expect(page.locator("#live")).to_contain_text("Connection lost at")
    await expect(page.locator("#live")).to_be_in_viewport(ratio=1)
    await agent.call("one", "act", {"to": "ann"})
    await page.context.set_offline(False)
    await expect(page.locator("#waiting > li")).to_contain_text("act")
    await live(page)

    await page.context.clear_cookies()
    scene.broker.feed.dismiss()
    await expect(page.locator("#live")).to_contain_text("You are signed out")
    await assert_well_laid_out(page)


async def test_a_tab_whose_connection_says_nothing_any_more_does_not_go_on_as_if_all_were_well(
    page: Page, scene: Scene
) -> None:
    await page.clock.install()
    await page.route("**/queue/events", lambda _: None)  # it is never answered, as by a host that is gone
    await open_queue(page, scene)
    await page.clock.fast_forward("00:11")
    await expect(page.locator("#live")).to_contain_text("Connection lost at")
    await page.unroute("**/queue/events")
    await page.clock.fast_forward("00:11")
    await live(page)


async def test_a_queue_shows_what_waits_for_its_reader_as_soon_as_they_have_another_role(
    page: Page, scene: Scene
) -> None:
    await scene.person(Person(APPROVER.email, frozenset({Role.AUDITOR})))
    await hold(await scene.agent(), scene, 1)
    await open_queue(page, scene)
    await live(page)
    mark = page.locator("#waiting .mine")
    await expect(mark).to_have_count(0)
    await scene.person(APPROVER)
    await expect(mark).to_have_text("waits for me")


async def test_a_notification_is_asked_for_and_says_nothing_of_what_the_call_is_about(page: Page, scene: Scene) -> None:
    agent = await scene.agent()
    await page.add_init_script(WATCHED)
    await open_queue(page, scene)
    await live(page)
    await hold(agent, scene, 1)
    await expect(page.get_by_role("heading", name="1 waits")).to_be_visible()
    assert await page.evaluate("Notification.seen") == []
    await page.get_by_role("button", name="Notify me").click()
    await expect(page.get_by_role("button", name="Stop notifying me")).to_be_visible()
    await hold(agent, scene, 2)
    await expect(page.get_by_role("heading", name="2 wait")).to_be_visible()
    assert await page.evaluate("Notification.seen") == [["act waits for you", "agent, risk: high"]]


async def test_the_bar_turns_as_time_runs_out_and_what_is_over_cannot_be_selected(page: Page, scene: Scene) -> None:
    agent = await scene.agent()
    held = await hold(agent, scene, 1)
    await page.clock.install()
    await page.route("**/queue/events", lambda _: None)  # a stream would bring the server's time, which does not jump
    await open_queue(page, scene)
    left = page.locator(f"#{held} .left")
    await expect(left).to_have_class("left")
    for passed, look in (("08:00", "left short"), ("05:00", "left last")):
        await page.clock.fast_forward(passed)
        await expect(left).to_have_class(look)
    await expect(left).to_contain_text("2 min left")
    await page.get_by_role("checkbox").check()
    await page.clock.fast_forward("02:00")
    await expect(left).to_contain_text("time is over")
    await expect(page.locator(f"#{held} .pick")).to_be_hidden()
    await expect(page.locator("#batch")).to_be_hidden()
