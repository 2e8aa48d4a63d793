"""Ending what was not used yet, and letting a rejection be forgotten: as JSON and from the card's forms."""

from __future__ import annotations

import pytest

from broker.domain.approvals import Approval, Decision, State
from broker.domain.calls import Requirement
from tests.web.desk import Desk, person


async def rejected(desk: Desk, requirement: Requirement | None = None) -> Approval:
    held = await desk.hold(requirement=requirement)
    return await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web", reason="no")


async def test_a_program_withdraws_and_is_answered_with_the_approval(desk: Desk) -> None:
    held = await desk.hold()
    got = await (await desk.program("admin")).post(f"/api/v1/approvals/{held.id}/withdraw")
    assert (got.status_code, got.json()["state"]) == (200, "withdrawn")
    assert got.json()["resolution"]["by"] == "admin@example.com"
    assert got.json()["resolution"]["cause"] == "administrator"
    assert got.json()["history"][-1]["kind"] == "approval.withdrawn"


async def test_who_comes_too_late_to_withdraw_hears_how_it_ended(desk: Desk) -> None:
    client = await desk.program("admin")
    got = await client.post(f"/api/v1/approvals/{(await rejected(desk)).id}/withdraw")
    assert (got.status_code, got.headers["content-type"]) == (409, "application/problem+json")
    problem = got.json()
    assert (problem["code"], problem["title"]) == ("transition_refused", "Not possible now")
    assert problem["detail"] == "There is nothing to withdraw any more, since this approval is rejected."
    assert (problem["resolution"]["by"], problem["resolution"]["reason"]) == ("second@example.com", "no")


async def test_a_program_forgets_a_rejection_once(desk: Desk) -> None:
    client, said_no = await desk.program("approver"), await rejected(desk)
    got = await client.post(f"/api/v1/approvals/{said_no.id}/forget")
    assert (got.status_code, got.json()["state"]) == (200, "rejected")
    assert got.json()["forgotten_at"] == "2026-07-28T12:00:00.000000Z"
    got = await client.post(f"/api/v1/approvals/{said_no.id}/forget")
    assert (got.status_code, got.json()["code"]) == (409, "transition_refused")


async def test_who_could_not_have_decided_it_forgets_nothing(desk: Desk) -> None:
    said_no = await rejected(desk, Requirement(("second@example.com",)))
    got = await (await desk.program("approver")).post(f"/api/v1/approvals/{said_no.id}/forget")
    assert (got.status_code, got.json()["code"]) == (403, "not_eligible")
    assert await desk.approvals.get(said_no.id) == said_no


@pytest.mark.parametrize("doing", ["decision", "withdraw", "forget"])
async def test_what_is_not_there_or_cannot_be_is_not_found(desk: Desk, doing: str) -> None:
    client = await desk.program("admin")
    for wrong in ("apr_0", "a%00b", "%C3%A9", "%ED%A0%80"):
        got = await client.post(f"/api/v1/approvals/{wrong}/{doing}", json={"decision": "approve"})
        assert (got.status_code, got.json()["code"]) == (404, "not_found"), wrong


async def test_the_cards_forms_end_and_forget_and_lead_back_to_it(desk: Desk) -> None:
    client = await desk.browser("admin")
    form = {"csrf": await desk.csrf(client)}
    held, said_no = await desk.hold(), await rejected(desk)
    for approval, doing in ((held, "withdraw"), (said_no, "forget")):
        got = await client.post(f"/approvals/{approval.id}/{doing}", data=form)
        assert (got.status_code, got.headers["location"]) == (303, f"/approvals/{approval.id}")
    assert (await desk.approvals.get(held.id)).state is State.WITHDRAWN
    assert (await desk.approvals.get(said_no.id)).forgotten_at is not None


async def test_a_form_that_comes_too_late_is_answered_on_the_card(desk: Desk) -> None:
    client = await desk.browser("admin")
    form = {"csrf": await desk.csrf(client)}
    held, said_no = await desk.hold(), await rejected(desk)
    got = await client.post(f"/approvals/{said_no.id}/withdraw", data=form)
    assert got.status_code == 409
    assert "It was not withdrawn: there is nothing to withdraw any more, since this approval is rejected." in got.text
    got = await client.post(f"/approvals/{held.id}/forget", data=form)
    assert got.status_code == 409
    assert "The rejection was not forgotten: there is nothing to forget, since this is no rejection" in got.text


async def test_the_description_of_the_api_tells_of_both(desk: Desk) -> None:
    paths = (await desk.client().get("/api/openapi.json")).json()["paths"]
    for doing in ("withdraw", "forget"):
        said = paths[f"/api/v1/approvals/{{approval_id}}/{doing}"]["post"]
        assert said["description"]
        assert "requestBody" not in said
