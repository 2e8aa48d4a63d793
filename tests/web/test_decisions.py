"""Deciding, from a form and as JSON, and what becomes of a decision that cannot be taken."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx2
import pytest

from broker.approvals.sweeps import sweep
from broker.domain.approvals import Approval, Decision
from broker.domain.calls import Escalation, Memory, Requirement, Said, Step
from tests.clock import MovableClock
from tests.web.desk import Desk, person

SHAPE = (
    "id state upstream tool arguments other_params revision fingerprint grant risk reason rule requirement created_at "
    "deadline execute_by caller withdraw_at may_decide reminded escalated_at forgotten_at rounds awaits_input reviews "
    "resolution history explanation"
)


async def decide(client: httpx2.AsyncClient, approval: Approval, decision: str = "approve", **body: Any) -> Any:
    return await client.post(f"/api/v1/approvals/{approval.id}/decision", json={"decision": decision, **body})


async def test_an_approval_has_the_shape_that_programs_rely_on(desk: Desk) -> None:
    held = await desk.hold(
        arguments={"n": 12345678901234567890123},
        requirement=Requirement(("approver@example.com",), 1, None, ("web", "api")),
        _meta={"vendor/priority": "high"},
    )
    got = (await (await desk.program("approver")).get(f"/api/v1/approvals/{held.id}")).json()
    assert set(got) == set(SHAPE.split())
    assert got["arguments"] == {"n": 12345678901234567890123}
    assert got["other_params"] == {"_meta": {"vendor/priority": "high"}}
    assert got["requirement"] == {
        "approvers": ["approver@example.com"],
        "quorum": 1,
        "channels": ["web", "api"],
        "allow_self": False,
        "allow_edit": False,
        "escalate": None,
        "remember": None,
    }
    assert got["grant"] == {"id": desk.grant.id, "label": "release-bot", "owner": "owner@example.com"}
    assert (got["created_at"], got["deadline"]) == ("2026-07-28T12:00:00.000000Z", "2026-07-28T12:15:00.000000Z")
    assert [row["kind"] for row in got["history"]] == ["approval.submitted"]


async def test_a_program_is_told_what_a_reviewer_may_change_and_remember_and_why_it_is_asked(desk: Desk) -> None:
    held = await desk.hold(
        requirement=Requirement(allow_edit=True, remember=Memory(("exact", "tool"), timedelta(hours=36))),
        steps=(Step("tools.git_push.deny_if[0]", Said.NOTHING, "args.branch is b1"), Step("default", Said.HOLDS)),
    )
    got = (await (await desk.program("approver")).get(f"/api/v1/approvals/{held.id}")).json()
    assert got["requirement"]["allow_edit"] is True
    assert got["requirement"]["remember"] == {"scopes": ["exact", "tool"], "max": "36h"}
    assert got["explanation"] == [
        {"rule": "tools.git_push.deny_if[0]", "said": "does not apply", "saw": "args.branch is b1", "why": None},
        {"rule": "default", "said": "holds", "saw": None, "why": None},
    ]


async def test_a_program_approves_and_is_answered_with_the_approval(desk: Desk) -> None:
    held = await desk.hold()
    got = await decide(await desk.program("approver"), held, revision=held.revision)
    assert got.status_code == 200
    assert got.json()["state"] == "approved"
    assert [(given["by"], given["channel"]) for given in got.json()["reviews"]] == [("approver@example.com", "api")]


async def test_below_the_quorum_it_stays_pending(desk: Desk) -> None:
    held = await desk.hold(requirement=Requirement(quorum=2))
    assert (await decide(await desk.program("approver"), held)).json()["state"] == "pending"
    assert (await decide(await desk.program("second"), held)).json()["state"] == "approved"


async def test_a_late_word_is_answered_with_who_decided_and_when(desk: Desk) -> None:
    held = await desk.hold()
    await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web", reason="not today")
    got = await decide(await desk.program("approver"), held)
    assert got.status_code == 409
    assert got.headers["content-type"] == "application/problem+json"
    problem = got.json()
    assert problem["code"] == "already_resolved"
    assert problem["resolution"] == {
        "state": "rejected",
        "by": "second@example.com",
        "at": "2026-07-28T12:00:00.000000Z",
        "channel": "web",
        "reason": "not today",
        "cause": None,
    }
    assert "second@example.com" in problem["detail"]


async def test_a_late_word_from_a_form_is_answered_on_the_card(desk: Desk) -> None:
    held = await desk.hold()
    client = await desk.browser("approver")
    csrf = await desk.csrf(client)
    await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web", reason="not today")
    got = await client.post(f"/approvals/{held.id}/decision", data={"decision": "approve", "csrf": csrf})
    assert got.status_code == 409
    told = "Your approval was not taken: already rejected by second@example.com at 2026-07-28 12:00:00 UTC: not today."
    assert told in got.text
    assert '<div class="ended" hidden>' in got.text  # the same is not said twice


async def test_a_form_decides_without_a_script_and_leads_back_to_the_card(desk: Desk) -> None:
    held = await desk.hold()
    client = await desk.browser("approver")
    form = {"decision": "reject", "revision": held.revision, "reason": "too\r\nlate", "csrf": await desk.csrf(client)}
    got = await client.post(f"/approvals/{held.id}/decision", data=form)
    assert (got.status_code, got.headers["location"]) == (303, f"/approvals/{held.id}")
    rejected = await desk.approvals.get(held.id)
    assert rejected.resolution is not None
    assert (rejected.state, rejected.resolution.reason) == ("rejected", "too\nlate")
    assert 'name="decision"' not in (await client.get(f"/approvals/{held.id}")).text


@pytest.mark.parametrize(
    ("requirement", "name", "status", "code"),
    [
        (Requirement(("second@example.com",)), "approver", 403, "not_eligible"),
        (Requirement(channels=("web",)), "approver", 403, "wrong_channel"),
        (Requirement(), "auditor", 403, "forbidden"),
    ],
)
async def test_who_may_not_decide_is_told_why(
    desk: Desk, requirement: Requirement, name: str, status: int, code: str
) -> None:
    held = await desk.hold(requirement=requirement)
    got = await decide(await desk.program(name), held)
    assert (got.status_code, got.json()["code"]) == (status, code)
    assert (await desk.approvals.get(held.id)).reviews == ()


async def test_after_the_deadline_nothing_is_decided(desk: Desk, clock: MovableClock) -> None:
    held = await desk.hold()
    clock.advance(timedelta(minutes=15))
    got = await decide(await desk.program("approver"), held)
    assert (got.status_code, got.json()["code"]) == (410, "deadline_passed")


async def test_another_vote_than_before_is_refused_and_the_same_again_is_not(desk: Desk) -> None:
    held = await desk.hold(requirement=Requirement(quorum=2))
    client = await desk.program("approver")
    assert (await decide(client, held)).status_code == 200
    assert (await decide(client, held)).status_code == 200
    got = await decide(client, held, "reject")
    assert (got.status_code, got.json()["code"]) == (409, "already_voted")


async def test_a_program_is_told_who_may_still_vote_and_what_time_did(desk: Desk, clock: MovableClock) -> None:
    late = Escalation(timedelta(minutes=5), ("admin@example.com",))
    wanted = Requirement(("approver@example.com", "second@example.com"), 2, allow_self=True, escalate=late)
    held = await desk.hold(requirement=wanted)
    client = await desk.program("approver")

    async def shown() -> Any:
        one = (await client.get(f"/api/v1/approvals/{held.id}")).json()
        (listed,) = (await client.get("/api/v1/approvals")).json()["items"]
        assert listed == {key: value for key, value in one.items() if key not in ("history", "explanation")}
        return one

    got = await shown()
    assert got["may_decide"] == ["approver@example.com", "second@example.com"]
    assert got["requirement"]["escalate"] == {"after": "5m", "to": ["admin@example.com"]}
    assert (got["requirement"]["allow_self"], got["escalated_at"], got["reminded"]) == (True, None, 0)
    await decide(client, held)
    assert (await shown())["may_decide"] == ["second@example.com"]
    clock.advance(timedelta(minutes=8))
    await sweep(desk.approvals)
    got = await shown()
    assert got["may_decide"] == ["admin@example.com", "second@example.com"]
    assert (got["escalated_at"], got["reminded"]) == ("2026-07-28T12:08:00.000000Z", 1)
    await decide(await desk.program("admin"), held)
    assert (await shown())["may_decide"] == []


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"decision": "approve", "arguments": {}}, "Arguments cannot be edited yet: nothing was decided."),
        ({"decision": "approve", "remember": None}, "A decision cannot be remembered yet: nothing was decided."),
        ({"decision": "perhaps"}, "decision: expected 'approve' or 'reject'."),
        ({"decision": "reject", "reason": "a\0b"}, "reason: a reason has no control characters: nothing was decided."),
        ({"decision": "reject", "reason": "\ud800"}, "reason"),
        ({"decision": "reject", "reason": "x" * 2001}, "reason: expected at most 2000 characters."),
        ({"decision": "approve", "wish": 1}, "wish: is not known here."),
        ([], "The body: expected an object."),
    ],
)
async def test_a_body_that_cannot_be_meant_decides_nothing(desk: Desk, body: Any, sentence: str) -> None:
    held = await desk.hold()
    got = await (await desk.program("approver")).post(
        f"/api/v1/approvals/{held.id}/decision", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert (got.status_code, got.json()["code"]) == (422, "invalid")
    assert sentence in got.json()["detail"]
    assert (await desk.approvals.get(held.id)).reviews == ()


async def test_a_word_for_another_revision_than_the_present_one_is_refused(desk: Desk) -> None:
    got = await decide(await desk.program("approver"), await desk.hold(), revision="0" * 64)
    assert (got.status_code, got.json()["code"]) == (409, "changed")
    assert got.json()["title"] == "Changed meanwhile"


async def test_an_approval_that_is_not_there_is_not_found(desk: Desk) -> None:
    client = await desk.program("approver")
    assert (await client.get("/api/v1/approvals/apr_0")).json()["code"] == "not_found"
    assert (await client.get("/api/v1/approvals/a%00b")).status_code == 404
    got = await client.post("/api/v1/approvals/apr_0/decision", json={"decision": "approve"})
    assert got.status_code == 404


async def test_an_approver_sees_of_what_is_over_only_what_they_could_have_decided(desk: Desk) -> None:
    mine = await desk.hold()
    not_mine = await desk.hold(requirement=Requirement(("second@example.com",)))
    client = await desk.program("approver")
    assert (await client.get(f"/api/v1/approvals/{not_mine.id}")).status_code == 200
    for held in (mine, not_mine):
        await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web")
    assert (await client.get(f"/api/v1/approvals/{not_mine.id}")).status_code == 404
    assert [item["id"] for item in (await client.get("/api/v1/approvals")).json()["items"]] == [mine.id]


async def test_pages_of_approvals_follow_each_other_without_gap_or_repetition(desk: Desk) -> None:
    held = [(await desk.hold()).id for _ in range(53)]
    client = await desk.program("approver")
    first = (await client.get("/api/v1/approvals?state=pending")).json()
    second = (await client.get("/api/v1/approvals", params={"state": "pending", "cursor": first["next"]})).json()
    found = [item["id"] for item in first["items"] + second["items"]]
    assert (len(first["items"]), second["next"]) == (50, None)
    assert sorted(found) == sorted(held)


@pytest.mark.parametrize(
    "query", ["state=unknown", "limit=3", "cursor=x", "cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5OSB4", "q=%00"]
)
async def test_a_query_that_makes_no_sense_is_refused(desk: Desk, query: str) -> None:
    assert (await (await desk.program("admin")).get(f"/api/v1/approvals?{query}")).status_code == 422
