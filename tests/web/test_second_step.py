"""A critical call is approved in two steps, with or without JavaScript."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from broker.domain.approvals import Approval, Decision
from broker.domain.calls import Requirement, Risk
from tests.web.desk import Desk, person

pytestmark = pytest.mark.parametrize("new_store_url", ["sqlite"], indirect=True)


async def send(desk: Desk, client: httpx2.AsyncClient, approval: Approval, **fields: Any) -> tuple[int, str | None]:
    """Send the card's form as the page does: the status, and where it leads."""
    form = {"csrf": await desk.csrf(client), "revision": approval.revision, **fields}
    got = await client.post(f"/approvals/{approval.id}/decision", data=form)
    return got.status_code, got.headers.get("location")


async def test_approving_a_critical_call_leads_to_a_second_step_that_names_what_will_run(desk: Desk) -> None:
    held = await desk.hold("drop_database", arguments={"name": "customers"}, risk=Risk.CRITICAL)
    client = await desk.browser("approver")
    confirm = f"/approvals/{held.id}/confirm"
    assert await send(desk, client, held, decision="approve") == (303, confirm)
    assert (await desk.approvals.get(held.id)).reviews == ()
    html = (await client.get(confirm)).text
    step = html.split('<div class="confirm">')[1].split("</div>")[0]
    for words in ("drop_database", "git", "release-bot", "owner@example.com", "with the arguments above"):
        assert words in step
    assert f'name="confirmed" value="{held.revision}" form="approve" required' in step
    assert "customers" in html
    sent = await send(desk, client, held, decision="approve", confirmed=held.revision)
    assert sent == (303, f"/approvals/{held.id}")
    assert (await desk.approvals.get(held.id)).state == "approved"


@pytest.mark.parametrize("confirmed", ["", "on", "true", "0" * 64])
async def test_a_form_that_confirms_anything_else_decides_nothing(desk: Desk, confirmed: str) -> None:
    held = await desk.hold(risk=Risk.CRITICAL)
    client = await desk.browser("approver")
    sent = await send(desk, client, held, decision="approve", confirmed=confirmed)
    assert sent == (303, f"/approvals/{held.id}/confirm")
    assert (await desk.approvals.get(held.id)).reviews == ()


async def test_rejecting_a_critical_call_and_approving_another_take_one_step(desk: Desk) -> None:
    client = await desk.browser("approver")
    for risk, decision in ((Risk.CRITICAL, "reject"), (Risk.HIGH, "approve")):
        held = await desk.hold(risk=risk)
        assert await send(desk, client, held, decision=decision) == (303, f"/approvals/{held.id}")
        assert (await desk.approvals.get(held.id)).state != "pending"


async def test_the_page_sends_no_critical_approval_around_the_second_step(desk: Desk) -> None:
    for risk, intercepted in ((Risk.CRITICAL, False), (Risk.HIGH, True)):
        held = await desk.hold(risk=risk)
        for path in ("", "/confirm"):
            html = (await (await desk.browser("approver")).get(f"/approvals/{held.id}{path}")).text
            form = html.split('<form class="approve"')[1].split(">")[0]
            assert ("data-refused" in form) is intercepted


async def test_the_second_step_of_what_is_over_says_who_decided(desk: Desk) -> None:
    held = await desk.hold(risk=Risk.CRITICAL)
    await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web", reason="no")
    client = await desk.browser("approver")
    html = (await client.get(f"/approvals/{held.id}/confirm")).text
    assert "Rejected by second@example.com" in html
    assert 'name="confirmed"' not in html
    assert (await send(desk, client, held, decision="approve"))[0] == 409


async def test_a_program_decides_a_critical_call_only_where_its_policy_says_so(desk: Desk) -> None:
    client, told = await desk.program("approver"), list[str]()
    for requirement in (Requirement(), Requirement(channels=("web", "api"))):
        held = await desk.hold(risk=Risk.CRITICAL, requirement=requirement)
        got = await client.post(f"/api/v1/approvals/{held.id}/decision", json={"decision": "approve"})
        told.append(got.json().get("state") or got.json()["detail"])
    assert told == ["A critical call may not be decided here, but in the browser.", "approved"]
