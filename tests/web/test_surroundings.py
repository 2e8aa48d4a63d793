"""What surrounds a call on its card: what its agent did, and how the like was decided, as far as its reader may see."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from sqlmodel import Session

from broker.domain.approvals import Approval, Decision
from broker.domain.audit import Event, Kind
from broker.domain.calls import Action, Requirement, Verdict
from broker.domain.people import GrantRef
from broker.web.surroundings import MOST_AFTER, MOST_BEFORE, Decisions, Hour, decisions, hour
from tests.clock import MovableClock
from tests.web.desk import Desk, person

MINUTE = timedelta(minutes=1)


async def around(desk: Desk, approval: Approval, name: str = "approver") -> Hour:
    history = await desk.approvals.history(approval.id)
    return await desk.store.read(lambda session: hour(session, person(name), approval, history))


async def before(desk: Desk, approval: Approval, name: str = "approver") -> Decisions:
    return await desk.store.read(lambda session: decisions(session, person(name), approval))


async def passed(desk: Desk, tool: str, outcome: str | None = "succeeded", grant: str | None = None) -> None:
    """A call of an agent that was not held."""
    mark = grant or desk.grant.id
    facts: dict[str, Any] = {"actor": f"agent:{mark}", "call_id": f"call_{tool}", "upstream": "git", "grant": mark}
    events = [Event(kind=Kind.CALL_ALLOWED, tool=tool, **facts)]
    if outcome is not None:
        events.append(Event(kind=Kind.CALL_ANSWERED, tool=tool, detail={"outcome": outcome}, **facts))
    await desk.store.write(lambda tx: [tx.record(each) for each in events])


async def test_what_the_agent_did_an_hour_before_and_after_is_told_in_order_with_what_became_of_it(
    desk: Desk, clock: MovableClock
) -> None:
    await passed(desk, "too-early")
    clock.advance(70 * MINUTE)
    await passed(desk, "read")
    await passed(desk, "of-another", grant="grant_other")
    earlier = await desk.hold("commit")
    await desk.approvals.reviews.review(earlier.id, person("second"), Decision.REJECT, channel="web")
    clock.advance(4 * MINUTE)
    held = await desk.hold()
    clock.advance(2 * MINUTE)
    await passed(desk, "list", "failed")
    clock.advance(70 * MINUTE)
    await passed(desk, "too-late")
    found = await around(desk, held)
    assert [(did.tool, did.came, did.apart) for did in found.before] == [
        ("read", "passed", -4 * MINUTE),
        ("commit", "held, rejected", -4 * MINUTE),
    ]
    assert [(did.tool, did.came, did.apart) for did in found.after] == [
        ("list", "passed, an error came back", 2 * MINUTE)
    ]
    assert (found.earlier, found.later) == (False, False)
    assert [did.approval for did in found.before] == [None, earlier.id]


async def test_of_much_that_an_agent_did_the_nearest_is_told_and_that_there_is_more(desk: Desk) -> None:
    for number in range(MOST_BEFORE + 2):
        await passed(desk, f"before{number}")
    held = await desk.hold()
    for number in range(MOST_AFTER + 2):
        await passed(desk, f"after{number}", None)
    found = await around(desk, held)
    assert [did.tool for did in found.before] == [f"before{number}" for number in range(2, MOST_BEFORE + 2)]
    assert [did.tool for did in found.after] == [f"after{number}" for number in range(MOST_AFTER)]
    assert (found.earlier, found.later) == (True, True)
    for name, linked in (("auditor", True), ("approver", False)):
        html = (await (await desk.browser(name)).get(f"/approvals/{held.id}")).text
        assert ('href="/audit/' in html) is linked


async def test_earlier_decisions_on_the_identical_call_and_on_its_tool_are_told_with_who_when_and_why(
    desk: Desk, clock: MovableClock
) -> None:
    reviews = desk.approvals.reviews
    for branch, decision, why in (("main", Decision.APPROVE, "fine"), ("dev", Decision.REJECT, "no")):
        given = await desk.hold(arguments={"branch": branch})
        await reviews.review(given.id, person("second"), decision, channel="web", reason=why)
        clock.advance(MINUTE)
    theirs = replace(given.call, id="call_theirs", grant=GrantRef("grant_other", "other-bot", "owner@example.com"))
    other = await desk.submit(theirs, Verdict(Action.HOLD, "default", requirement=Requirement()))
    await reviews.review(other.id, person("approver"), Decision.REJECT, channel="web")
    held = await desk.hold(arguments={"branch": "main"})
    found = await before(desk, held)
    assert [(it.by, it.why, it.approval.call.grant.label) for it in found.identical] == [
        (("second@example.com",), "fine", "release-bot")
    ]
    again = await before(desk, await desk.hold(arguments={"branch": "dev", "force": True}))
    assert [(it.why, it.same) for it in again.of_tool] == [(None, False), ("no", False), ("fine", False)]
    told = await before(desk, given)
    assert [(it.by, it.same) for it in told.of_tool] == [
        (("approver@example.com",), True),
        (("second@example.com",), False),
    ]


async def test_decisions_that_a_reader_may_not_see_are_neither_told_nor_offered(desk: Desk) -> None:
    secret = await desk.hold(requirement=Requirement(("second@example.com",)))
    await desk.approvals.reviews.review(secret.id, person("second"), Decision.REJECT, channel="web", reason="a secret")
    held = await desk.hold()
    for name, reasons in (("second", ["a secret"]), ("auditor", ["a secret"]), ("approver", [])):
        found = await before(desk, held, name)
        assert (list(found.reasons), len(found.of_tool)) == (reasons, len(reasons)), name
    assert "a secret" not in (await (await desk.browser("approver")).get(f"/approvals/{held.id}")).text


async def test_the_own_reasons_on_other_tools_of_the_server_are_offered_first(desk: Desk) -> None:
    for tool, name, reason in (("git_push", "second", "theirs"), ("git_tag", "approver", "mine")):
        given = await desk.hold(tool)
        await desk.approvals.reviews.review(given.id, person(name), Decision.REJECT, channel="web", reason=reason)
    assert list((await before(desk, await desk.hold())).reasons) == ["mine", "theirs"]


@pytest.mark.parametrize("new_store_url", ["sqlite"], indirect=True)
async def test_what_is_looked_up_around_a_call_is_found_by_an_index(desk: Desk) -> None:
    held = await desk.hold()
    history = await desk.approvals.history(held.id)
    asked: list[tuple[str, Any]] = []

    def look(session: Session) -> list[str]:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *given: asked.append((given[2], given[3])))
        decisions(session, person("approver"), held)
        hour(session, person("approver"), held, history)
        plans = [connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values) for sql, values in list(asked)]
        return [row.detail for plan in plans for row in plan]

    steps = await desk.store.read(look)
    assert any("ix_approvals_upstream_tool_created_at" in step for step in steps)
    assert [step for step in steps if step.startswith("SCAN") and "CONSTANT" not in step and "anon" not in step] == []
