"""Deciding several approvals at once."""

from __future__ import annotations

import re

import httpx2

from broker.domain.approvals import Approval, Decision
from broker.domain.calls import Action, Call, Requirement, Risk, Verdict
from tests.web.desk import Desk, person


async def send(desk: Desk, client: httpx2.AsyncClient, decision: str, *items: str, **more: str) -> httpx2.Response:
    """The form of the queue, as a browser sends it."""
    return await client.post(
        "/decisions", data={"csrf": await desk.csrf(client), "decision": decision, "item": list(items), **more}
    )


def item(held: Approval) -> str:
    return f"{held.id} {held.revision}"


async def critical(desk: Desk) -> Approval:
    call = Call("call_critical", "git", "wipe", {"name": "wipe", "arguments": {}}, desk.grant)
    return await desk.submit(call, Verdict(Action.HOLD, "r", risk=Risk.CRITICAL))


def told(page: str) -> dict[str, str]:
    """What the page says of each approval, by its id; under nothing what it says of those that are not shown."""
    rows = page.split('id="outcomes"', 1)[1].split("</ol>", 1)[0].split("<li>")[1:]
    found: dict[str, str] = {}
    for row in rows:
        link = re.search(r'href="/approvals/(\w+)"', row)
        found[link[1] if link else ""] = " ".join(re.sub(r"<[^>]+>", " ", row).split())
    return found


async def test_several_are_approved_and_each_says_what_became_of_it(desk: Desk) -> None:
    fine, two, late = await desk.hold(), await desk.hold(requirement=Requirement(quorum=2)), await desk.hold()
    others = await desk.hold(requirement=Requirement(("second@example.com",)))
    other, dire = await desk.hold(), await critical(desk)
    await desk.approvals.reviews.review(late.id, person("second"), Decision.REJECT, channel="web", reason="not <now>")
    client = await desk.browser("approver")
    items = (*map(item, (fine, two, late, others, dire)), f"{other.id} {'0' * 64}", "apr_invented x")
    answer = await send(desk, client, "approve", *items, reason="as agreed")
    assert answer.status_code == 200
    assert "2 of 7 approved" in answer.text
    said = told(answer.text)
    for held, words in (
        (fine, "approved"),
        (two, "1 of 2 approved: it still waits for others."),
        (late, "Already rejected by second@example.com"),
        (others, "You are not among those who may decide this."),
        (dire, "A critical call is approved by itself"),
        (other, "What would run has changed since you looked"),
    ):
        assert words in said[held.id], said[held.id]
    assert "not &lt;now&gt;" in answer.text
    assert "There is no such approval" in said[""]
    states = [(await desk.approvals.get(each.id)).state.value for each in (fine, two, late, others, dire, other)]
    assert states == ["approved", "pending", "rejected", "pending", "pending", "pending"]
    (word,) = (await desk.approvals.get(fine.id)).reviews
    assert (word.by, word.reason, word.channel) == ("approver@example.com", "as agreed", "web")


async def test_critical_ones_are_rejected_together_with_the_others(desk: Desk) -> None:
    held = [await desk.hold(), await critical(desk)]
    answer = await send(desk, await desk.browser("approver"), "reject", *map(item, held), reason="not on a Friday")
    assert "2 of 2 rejected" in answer.text
    for each in held:
        end = (await desk.approvals.get(each.id)).resolution
        assert end is not None
        assert (end.state.value, end.reason) == ("rejected", "not on a Friday")


async def test_a_batch_that_says_nothing_decides_nothing(desk: Desk) -> None:
    held = await desk.hold()
    client = await desk.browser("approver")
    for items, decision in (
        ((), "approve"),
        ((held.id,), "approve"),
        ((item(held),), ""),
        ((item(held),) * 101, "reject"),
    ):
        answer = await send(desk, client, decision, *items)
        assert answer.status_code == 422, items
    assert (await desk.approvals.get(held.id)).state.value == "pending"


async def test_an_approval_that_somebody_may_not_see_is_not_described_to_them(desk: Desk) -> None:
    held = await desk.hold("secret_tool", requirement=Requirement(("second@example.com",)))
    await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web")
    answer = await send(desk, await desk.browser("approver"), "reject", item(held))
    assert "secret_tool" not in answer.text
    assert held.id not in answer.text


async def test_the_way_back_leads_to_the_view_one_came_from_and_nowhere_else(desk: Desk) -> None:
    held = await desk.hold()
    client = await desk.browser("approver")
    for given, back in (("/?mine=1", "/?mine=1"), ("https://evil.example", "/"), ("//evil.example", "/")):
        answer = await send(desk, client, "approve", item(held), back=given)
        assert f'<a href="{back}">Back to the queue</a>' in answer.text
