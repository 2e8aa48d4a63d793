"""What the pages say, and to whom."""

from __future__ import annotations

from datetime import timedelta

from broker.domain.approvals import Decision
from broker.domain.calls import Requirement, Said, Step
from tests.clock import MovableClock
from tests.web.desk import Desk, person


async def test_an_empty_queue_says_when_the_last_call_was_held(desk: Desk, clock: MovableClock) -> None:
    client = await desk.browser("approver")
    assert ">No call was held yet.<" in (await client.get("/")).text
    held = await desk.hold()
    await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web")
    clock.advance(timedelta(minutes=12, seconds=5))
    assert ">The last call was held 12 minutes ago.<" in (await client.get("/")).text


async def test_the_queue_says_what_is_wrong_with_a_way_to_people_to_those_who_work_there(desk: Desk) -> None:
    desk.channels["slack"] = {"ok": True}
    desk.channels["mail"] = {"ok": False, "error": "mail: <b>nobody answers"}
    for name, told in {"approver": True, "auditor": True, "owner": False}.items():
        page = (await (await desk.browser(name)).get("/")).text
        assert ('<p class="trouble">mail: &lt;b&gt;nobody answers</p>' in page) is told, name
        assert ('trouble">' in page) is told


async def test_a_card_says_what_runs_why_it_is_held_who_asks_and_who_decides(desk: Desk) -> None:
    held = await desk.hold(requirement=Requirement(("approver@example.com", "second@example.com"), 2))
    await desk.approvals.requests.abandon(held.id, "lost")
    text = (await (await desk.browser("approver")).get(f"/approvals/{held.id}")).text
    for told in (
        "git_push",
        "branch",
        "tools.git_push.action",
        "Writes to a shared branch",
        "release-bot",
        "agent of owner@example.com",
        'title="2026-07-28 12:00:00 UTC">2026-07-28 12:00:00 UTC</time>: its connection was lost.',
        "approver@example.com, second@example.com",
        "2 of them must approve",
        "15 min left",
        "The server says",
        "Pushes commits.",
    ):
        assert told in text, told


async def test_a_card_and_the_record_say_which_rules_were_looked_at_and_what_they_saw(desk: Desk) -> None:
    held = await desk.hold(
        arguments={"branch": "main", "password": "s3cret"},
        redact=("args.password",),
        steps=(
            Step("tools.git_push.deny_if[0]", Said.NOTHING, "args.branch is <b>main\u202e"),
            Step("all_tools.limits[0]", Said.COUNTS, "100 in a minute for each grant"),
            Step("tools.git_push.action", Said.HOLDS, "args.password is [redacted]", "Writes to a shared branch"),
        ),
    )
    text = (await (await desk.browser("approver")).get(f"/approvals/{held.id}")).text
    told, others = text.split("Other rules looked at")
    assert "args.password is [redacted]" in told
    assert 'args.branch is &lt;b&gt;main<b class="hidden-character">\\u202e</b>' in others
    assert "does not apply" in others
    assert '<p class="saw"><span class="mono">100 in a minute' in others
    assert "s3cret" not in text
    (row,) = await desk.approvals.history(held.id)
    text = (await (await desk.browser("auditor")).get(f"/audit/{row.seq}")).text
    assert all(word in text for word in ("Rules looked at", "does not apply", "holds", "Arguments, redacted"))


async def test_buttons_are_there_for_those_who_may_decide_and_for_nobody_else(desk: Desk) -> None:
    held = await desk.hold(requirement=Requirement(("approver@example.com", "second@example.com"), 2))
    for name, buttons in (("approver", 2), ("second", 2), ("admin", 0), ("auditor", 0), ("owner", 0)):
        text = (await (await desk.browser(name)).get(f"/approvals/{held.id}")).text
        assert text.count('name="decision"') == buttons, name


async def test_who_has_voted_sees_their_vote_and_no_buttons(desk: Desk) -> None:
    held = await desk.hold(requirement=Requirement(quorum=2))
    await desk.approvals.reviews.review(held.id, person("approver"), Decision.APPROVE, channel="api")
    text = (await (await desk.browser("approver")).get(f"/approvals/{held.id}")).text
    assert "You approved at" in text
    assert 'name="decision"' not in text


async def test_pages_show_only_the_ways_that_are_open_to_their_reader(desk: Desk) -> None:
    for name, shown in (("auditor", True), ("admin", True), ("approver", False), ("nobody", False)):
        assert ('href="/audit"' in (await (await desk.browser(name)).get("/")).text) is shown, name


async def test_the_own_calls_of_somebody_without_a_role_are_listed_without_a_stream(desk: Desk) -> None:
    held = await desk.hold()
    text = (await (await desk.browser("owner")).get("/")).text
    assert held.id in text
    assert "queue.js" not in text
    assert held.id not in (await (await desk.browser("nobody")).get("/")).text


async def test_what_waits_for_input_is_told_to_programs_too(desk: Desk) -> None:
    held = await desk.hold()
    await desk.approvals.reviews.review(held.id, person("second"), Decision.APPROVE, channel="web")
    waiting = await desk.ask_for_input(held)
    got = (await (await desk.program("approver")).get(f"/api/v1/approvals/{held.id}")).json()
    assert (got["state"], got["rounds"], got["awaits_input"]) == ("executing", 1, True)
    assert got["history"][-1]["detail"] == {"round": 1, "state": "executing"}
    await desk.go_on(held)
    await desk.approvals.claims.await_again(waiting, "a state", "it is away")
    text = (await (await desk.browser("approver")).get(f"/approvals/{held.id}")).text
    assert "it is away" in text
