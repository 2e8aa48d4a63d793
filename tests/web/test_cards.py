"""What a card, the queue and the record tell of an approval's life, and what its reader may do about it."""

from __future__ import annotations

import re
from datetime import timedelta

from broker.approvals.sweeps import sweep
from broker.domain.approvals import Approval, Decision
from broker.domain.audit import Event, Kind
from broker.domain.calls import Action, Escalation, Requirement, Verdict
from broker.domain.people import Role
from broker.store import audit, people
from tests.clock import MovableClock
from tests.web.desk import Desk, person

MINUTE = timedelta(minutes=1)


async def page(desk: Desk, name: str, address: str) -> str:
    """What somebody reads at an address: the text without markup, in one line."""
    got = await (await desk.browser(name)).get(address)
    assert got.status_code == 200
    words = " ".join(re.sub(r"<[^>]*>", " ", got.text).split())
    return re.sub(r" ([.,:])", r"\1", words)


async def card(desk: Desk, approval: Approval, name: str = "approver") -> str:
    return await page(desk, name, f"/approvals/{approval.id}")


async def possible(desk: Desk, approval: Approval, name: str) -> set[str]:
    """What the forms on somebody's card do."""
    html = (await (await desk.browser(name)).get(f"/approvals/{approval.id}")).text
    return set(re.findall(rf'action="/approvals/{approval.id}/(\w+)"', html))


async def add_people(desk: Desk, *names: str, group: str = "managers") -> None:
    for name in names:
        await desk.store.write(
            lambda tx, name=name: people.save(
                tx, "cli:test", f"{name}@example.com", frozenset({Role.APPROVER}), frozenset({group})
            )
        )


async def test_a_card_says_who_voted_when_where_and_why_and_names_those_who_still_may(
    desk: Desk, clock: MovableClock
) -> None:
    await add_people(desk, *(f"manager{number}" for number in range(6)), "owner")
    held = await desk.hold(requirement=Requirement(("managers", "second@example.com"), 2))
    told = await card(desk, held)
    assert "Who may decide managers, second@example.com 2 of them must approve" in told
    assert "not owner@example.com, whose agent it is" in told
    assert "0 of 2 approved May still vote: " in told
    assert "manager4@example.com and 2 more" in told
    clock.advance(MINUTE)
    second = person("second")
    await desk.approvals.reviews.review(held.id, second, Decision.APPROVE, channel="web", reason="tests are green")
    told = await card(desk, held)
    assert "1 of 2 approved approved second@example.com 2026-07-28 12:01:00 UTC in the browser tests are green" in told
    assert "manager4@example.com and 1 more" in told
    assert "You approved at 2026-07-28 12:01:00 UTC, and it counts: 1 of 2." in await card(desk, held, "second")


async def test_a_card_says_first_that_the_identical_call_ran(desk: Desk) -> None:
    first = await desk.hold(arguments={"branch": "main"})
    await desk.approvals.reviews.review(first.id, person("approver"), Decision.APPROVE, channel="web")
    await desk.run(first, {})
    assert "approved before" not in await card(desk, first)
    again = await desk.hold(arguments={"branch": "main"})
    told = await card(desk, again)
    warning = "The identical call was approved before, at 2026-07-28 12:00:00 UTC, and ran."
    assert 0 <= told.find(warning) < told.index("Held by rule")
    html = (await (await desk.browser("approver")).get(f"/approvals/{again.id}")).text
    assert f'href="/approvals/{first.id}"' in html


async def test_a_card_says_when_too_few_or_none_are_left_to_approve(desk: Desk) -> None:
    await add_people(desk, "late")
    held = await desk.hold(requirement=Requirement(("approver@example.com", "late@example.com"), 2))
    assert "too few" not in await card(desk, held)
    await desk.store.write(lambda tx: people.remove(tx, "cli:test", "late@example.com"))
    assert "May still vote: approver@example.com Those are too few to approve it." in await card(desk, held)
    await desk.approvals.reviews.review(held.id, person("approver"), Decision.APPROVE, channel="web")
    assert "Nobody is left who may vote." in await card(desk, held)


async def test_the_word_of_an_agents_owner_is_said_to_count_where_it_does(desk: Desk) -> None:
    await add_people(desk, "owner")
    held = await desk.hold(requirement=Requirement(allow_self=True))
    assert "also owner@example.com, whose agent it is" in await card(desk, held)
    await desk.approvals.reviews.review(held.id, person("approver"), Decision.REJECT, channel="web")
    assert "whose agent it is" not in await card(desk, held)


async def test_card_and_queue_say_what_time_did_to_a_call(desk: Desk, clock: MovableClock) -> None:
    await add_people(desk, "oscar", group="oncall")
    late = Escalation(5 * MINUTE, ("oncall",))
    held = await desk.hold(requirement=Requirement(("approver@example.com",), escalate=late))
    assert "escalates to oncall at 2026-07-28 12:05:00 UTC" in await card(desk, held)
    await desk.approvals.requests.abandon(held.id, "cancelled")
    told = await card(desk, held)
    assert "The agent stopped waiting at 2026-07-28 12:00:00 UTC: it cancelled the call." in told
    assert "It is withdrawn at 2026-07-28 12:02:00 UTC unless the agent comes back for it." in told
    assert "agent gone" in await page(desk, "approver", "/")
    await desk.submit(held.call, Verdict(Action.HOLD, held.rule))
    clock.advance(8 * MINUTE)
    await sweep(desk.approvals)
    told = await card(desk, held)
    assert "The agent came back at 2026-07-28 12:00:00 UTC and waits." in told
    assert "escalated to oncall at 2026-07-28 12:08:00 UTC" in told
    assert "oscar@example.com" in told
    assert "the broker reminded those who may decide" in told.split("History")[1]
    queue = await page(desk, "approver", "/")
    assert "escalated" in queue
    assert "agent gone" not in queue


async def test_a_call_that_waits_for_input_or_was_cut_off_says_so(desk: Desk) -> None:
    held = await desk.hold()
    await desk.approvals.reviews.review(held.id, person("approver"), Decision.APPROVE, channel="web")
    await desk.ask_for_input(held)
    assert "The tool asks the agent for input before it goes on. It waits for that until" in await card(desk, held)
    assert "input awaited" in await page(desk, "approver", "/")
    await desk.go_on(held)
    await desk.approvals.claims.interrupt(held.id, "the server went away")
    told = await card(desk, held)
    assert "Approved by approver@example.com at 2026-07-28 12:00:00 UTC." in told
    assert "It was cut off: the server went away. It may or may not have run." in told


async def test_administrators_can_withdraw_what_may_still_run_and_nobody_else_can(desk: Desk) -> None:
    held = await desk.hold()
    for name in ("approver", "auditor", "owner"):
        assert "withdraw" not in await possible(desk, held, name), name
    assert await possible(desk, held, "admin") == {"decision", "withdraw"}
    await desk.approvals.reviews.review(held.id, person("approver"), Decision.APPROVE, channel="web")
    assert await possible(desk, held, "admin") == {"withdraw"}
    await desk.approvals.reviews.withdraw(held.id, person("admin"))
    assert await possible(desk, held, "admin") == set()
    told = await card(desk, held, "admin")
    assert "Withdrawn by admin@example.com at 2026-07-28 12:00:00 UTC. Nothing ran." in told


async def test_a_remembered_rejection_can_be_forgotten_from_the_card_by_those_who_may_decide(
    desk: Desk, clock: MovableClock
) -> None:
    held = await desk.hold(requirement=Requirement(("approver@example.com", "second@example.com"), 2))
    other = await desk.hold()
    for approval in (held, other):
        await desk.approvals.reviews.review(approval.id, person("second"), Decision.REJECT, channel="web", reason="no")
    told = await card(desk, held)
    assert "Rejected by second@example.com at 2026-07-28 12:00:00 UTC: no. Nothing ran." in told
    assert "The same call is refused without asking anybody until 2026-07-28 12:10:00 UTC." in told
    for name, forms in (("approver", ["forget"]), ("second", ["forget"]), ("admin", ["forget"]), ("auditor", [])):
        assert sorted(await possible(desk, held, name)) == forms, name
    await desk.approvals.reviews.forget(held.id, person("approver"))
    assert await possible(desk, held, "approver") == set()
    assert "The same call may be asked again since 2026-07-28 12:00:00 UTC." in await card(desk, held)
    clock.advance(10 * MINUTE)
    assert await possible(desk, other, "approver") == set()
    assert "The same call" not in await card(desk, other)


async def test_the_history_of_a_call_is_whole_on_the_card_in_the_record_and_in_the_api(desk: Desk) -> None:
    held = await desk.hold()
    of_its_call = Event(kind=Kind.CALL_LIMITED, actor="agent:x", call_id=held.call.id, detail={"reason": "too often"})
    await desk.store.write(lambda tx: tx.record(of_its_call))
    await desk.approvals.reviews.review(
        held.id, person("approver"), Decision.REJECT, channel="web", reason="not \u202enow"
    )
    history = await desk.approvals.history(held.id)
    assert [row.kind.value for row in history] == ["approval.submitted", "call.limited", "approval.rejected"]
    got = (await (await desk.program("auditor")).get(f"/api/v1/approvals/{held.id}")).json()
    assert [row["seq"] for row in got["history"]] == [row.seq for row in history]
    client = await desk.browser("auditor")
    for address in (f"/approvals/{held.id}", f"/audit/{history[1].seq}"):
        html = (await client.get(address)).text
        assert "release-bot asked; the call was held" in html
        assert "too often" in html
        assert 'not <b class="hidden-character">\\u202e</b>now' in html
        assert all(f'href="/audit/{row.seq}"' in html for row in history)
    assert 'href="/audit/' not in (await (await desk.browser("approver")).get(f"/approvals/{held.id}")).text


async def test_the_record_of_a_call_that_passed_tells_how_long_its_answer_took(desk: Desk) -> None:
    told = Event(kind=Kind.CALL_ALLOWED, actor=f"agent:{desk.grant.id}", call_id="call_x", grant=desk.grant.id)
    answered = Event(
        kind=Kind.CALL_ANSWERED,
        actor=told.actor,
        call_id="call_x",
        grant=desk.grant.id,
        detail={"outcome": "succeeded", "ms": 12.5},
    )
    await desk.store.write(lambda tx: [tx.record(event) for event in (told, answered)])
    seq = (await desk.store.read(audit.head)).seq
    for number in (seq - 1, seq):
        text = await page(desk, "auditor", f"/audit/{number}")
        assert "release-bot asked; the policy allows it" in text
        assert "release-bot got the server's answer after 12.5 ms" in text.replace("&#39;", "'")
