"""The page of the queue: which approvals it shows, in what order, and how large it gets."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from sqlalchemy import text

from broker.domain.approvals import Approval, Decision
from broker.domain.audit import Event, Kind
from broker.domain.calls import Action, Call, Requirement, Risk, Verdict
from broker.domain.people import GrantRef
from broker.store import approvals as stored
from broker.store.approvals import ApprovalFilter
from broker.store.writer import Transaction
from tests.clock import MovableClock
from tests.web.desk import Desk, person
from tests.web.stream import Heard, listening

HOLD = Verdict(Action.HOLD, "tools.x.action", risk=Risk.HIGH)
HEAVY = 100_000


async def hold(
    desk: Desk,
    tool: str = "push",
    upstream: str = "git",
    agent: str = "release-bot",
    verdict: Verdict = HOLD,
    arguments: Any = None,
) -> Approval:
    """A call that is held, of any agent."""
    desk.calls += 1
    grant = GrantRef(f"grant_{agent}", agent, f"{agent}@example.com")
    given = {"branch": f"b{desk.calls}"} if arguments is None else arguments
    params = {"name": tool, "arguments": given}
    return await desk.submit(Call(f"call_{desk.calls}", upstream, tool, params, grant), verdict)


def listed(page: str, name: str = "waiting") -> list[str]:
    """The ids of the rows in one list of a page, from the top."""
    found = page.split(f'id="{name}"', 1)[1].split("</ol>", 1)[0]
    return re.findall(r'<li id="(\w+)"', found)


async def test_the_filters_of_the_api_narrow_the_page_by_its_address(desk: Desk) -> None:
    one = await hold(desk)
    two = await hold(desk, "send", "mail", "post-bot", Verdict(Action.HOLD, "r", risk=Risk.CRITICAL))
    browser, program = await desk.browser("approver"), await desk.program("approver")
    both = [two.id, one.id]
    for query, ids in (
        ("", both),
        ("?upstream=mail", [two.id]),
        ("?grant=grant_release-bot", [one.id]),
        ("?tool=push", [one.id]),
        ("?risk=critical", [two.id]),
        ("?q=POST-b", [two.id]),
        ("?q=example.com&upstream=", both),
        ("?tool=push&upstream=mail", []),
    ):
        page = (await browser.get(f"/{query}")).text
        assert sorted(listed(page)) == sorted(ids), query
        found = (await program.get(f"/api/v1/approvals{query}")).json()["items"]
        assert sorted(each["id"] for each in found) == sorted(ids), query
    assert "Nothing like this waits" in (await browser.get("/?tool=nothing")).text


@pytest.mark.parametrize("query", ["state=pending", "risk=huge", "mine=yes", "group=tool", "cursor=x", "q=%00"])
async def test_a_query_that_makes_no_sense_is_refused(desk: Desk, query: str) -> None:
    client = await desk.browser("approver")
    for address in ("/", "/queue/events"):
        assert (await client.get(f"{address}?{query}")).status_code == 422


async def test_what_waits_for_its_reader_is_marked_can_be_selected_and_listed_alone(desk: Desk) -> None:
    theirs = await hold(desk, verdict=Verdict(Action.HOLD, "r", requirement=Requirement(("second@example.com",))))
    voted = await hold(desk, verdict=Verdict(Action.HOLD, "r", requirement=Requirement(quorum=2)))
    elsewhere = await hold(desk, verdict=Verdict(Action.HOLD, "r", requirement=Requirement(channels=("api",))))
    await desk.approvals.reviews.review(voted.id, person("approver"), Decision.APPROVE, channel="web")
    mine = await hold(desk)
    client = await desk.browser("approver")
    page = (await client.get("/")).text
    assert set(listed(page)) == {theirs.id, voted.id, elsewhere.id, mine.id}
    assert re.findall(r'name="item" value="(\w+) ', page) == [mine.id]
    assert page.count(">waits for me<") == 1
    alone = (await client.get("/?mine=1")).text
    assert listed(alone) == [mine.id]
    assert "1 waits for you" in alone
    assert 'name="item"' not in (await (await desk.browser("auditor")).get("/")).text


async def test_rows_stand_under_their_agents_when_the_address_says_so(desk: Desk, clock: MovableClock) -> None:
    ids: list[str] = []
    for agent in ("a-bot", "b-bot", "a-bot"):
        ids.append((await hold(desk, agent=agent)).id)
        clock.advance(timedelta(seconds=1))
    page = (await (await desk.browser("approver")).get("/?group=agent")).text
    assert listed(page) == [ids[2], ids[0], ids[1]]
    assert re.findall(r'data-group="(\S+?)"', page) == ["grant_a-bot", "grant_b-bot"]


async def test_hundreds_are_paged_without_a_gap_and_no_page_is_heavy(desk: Desk) -> None:
    odd = "".join(f"\u202e{letter}" for letter in "x" * 200)
    held = await asyncio.gather(
        *(hold(desk, f"{odd}{n}" * 20, agent=f"bot-{n}", arguments={odd: odd}) for n in range(60))
    )
    client = await desk.browser("approver")
    seen: list[str] = []
    address: str | None = "/"
    while address:
        page = (await client.get(address)).text
        assert len(page.encode()) < HEAVY
        assert "\u202e" not in page
        assert listed(page)
        seen += listed(page)
        older = re.search(r'id="older" href="([^"]+)"', page)
        address = unescape(older[1]) if older else None
    assert sorted(seen) == sorted(each.id for each in held)


async def test_what_was_decided_lately_stands_in_the_order_of_the_decisions(desk: Desk, clock: MovableClock) -> None:
    held = [await hold(desk) for _ in range(3)]
    for each in (held[2], held[0]):
        clock.advance(timedelta(seconds=1))
        await desk.approvals.reviews.review(each.id, person("second"), Decision.REJECT, channel="web")
    client = await desk.browser("approver")
    page = (await client.get("/")).text
    assert listed(page, "lately") == [held[0].id, held[2].id]
    assert listed(page) == [held[1].id]


async def test_a_decision_of_others_is_not_shown_to_who_could_not_have_made_it(desk: Desk) -> None:
    held = await hold(desk, verdict=Verdict(Action.HOLD, "r", requirement=Requirement(("second@example.com",))))
    await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web")
    for name, ids in (("approver", []), ("second", [held.id]), ("auditor", [held.id])):
        assert listed((await (await desk.browser(name)).get("/")).text, "lately") == ids


async def test_of_long_arguments_the_row_reads_the_beginning(desk: Desk) -> None:
    await hold(desk, arguments={"path": "/etc/motd", "content": "x" * 200_000, "after": 1})
    page = (await (await desk.browser("approver")).get("/")).text
    assert '<span class="key">path</span> /etc/motd <span class="others">and more</span>' in page


# -- the stream -------------------------------------------------------------------------------------------------------


async def told_of(heard: Heard, held: Approval) -> tuple[int | None, dict[str, Any]]:
    """The next that a page is told of an approval: how many wait, and its row."""
    while True:
        _, told = await heard.event()
        for row in told["rows"]:
            if row["id"] == held.id:
                return told["total"], row


async def test_a_page_is_told_the_rows_that_changed_and_how_many_wait(desk: Desk) -> None:
    client = await desk.browser("approver")
    await desk.hold()
    page = (await client.get("/")).text
    async with listening(desk.app, client, "/queue/events") as heard:
        name, told = await heard.event()
        assert (name, f'data-seq="{told["seq"]}"' in page) == ("ready", True)
        held = await desk.hold(arguments={"branch": "<main>"})
        total, row = await told_of(heard, held)
        assert (total, row["list"], row["mine"]) == (2, "waiting", True)
        assert "&lt;main&gt;" in row["row"]
        await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web")
        total, row = await told_of(heard, held)
        assert (total, row["list"], row["stands"]) == (1, "lately", "rejected by second@example.com")


async def test_each_page_is_told_of_its_own_view(desk: Desk) -> None:
    only = Verdict(Action.HOLD, "r", requirement=Requirement(("second@example.com",)))
    client = await desk.browser("approver")
    async with (
        listening(desk.app, client, "/queue/events?mine=1") as mine,
        listening(desk.app, client, "/queue/events?upstream=mail") as mail,
        listening(desk.app, await desk.browser("auditor"), "/queue/events") as every,
    ):
        for heard in (mine, mail, every):
            assert (await heard.event())[0] == "ready"
        held = await hold(desk, verdict=only)
        told = [await told_of(heard, held) for heard in (mine, mail, every)]
        assert [(total, row["list"]) for total, row in told] == [(None, None), (0, None), (1, "waiting")]
        assert told[0][1]["row"] is None
        await desk.approvals.reviews.review(held.id, person("second"), Decision.REJECT, channel="web")
        told = [await told_of(heard, held) for heard in (mine, mail, every)]
        assert [row["list"] for _, row in told] == [None, None, "lately"]


async def test_a_page_that_comes_after_all_others_have_left_is_told_too(desk: Desk) -> None:
    client = await desk.browser("approver")
    for _ in range(2):
        async with listening(desk.app, client, "/queue/events") as heard:
            assert (await heard.event())[0] == "ready"
            held = await desk.hold()
            assert (await told_of(heard, held))[1]["list"] == "waiting"


async def test_the_stream_of_the_queue_ends_when_the_feed_stops(desk: Desk) -> None:
    async with listening(desk.app, await desk.browser("approver"), "/queue/events") as heard:
        assert (await heard.event())[0] == "ready"
        desk.following.cancel()
        await heard.end()


async def test_pages_are_told_to_read_again_when_a_row_cannot_be_shown(desk: Desk) -> None:
    held = await desk.hold()
    async with listening(desk.app, await desk.browser("approver"), "/queue/events") as heard:
        assert (await heard.event())[0] == "ready"

        def alter(tx: Transaction) -> None:
            tx.session.connection().execute(text("UPDATE approvals SET state = 'odd'"))
            tx.record(Event(kind=Kind.APPROVAL_REMINDED, actor="broker", approval_id=held.id))

        await desk.store.write(alter)
        desk.feed.nudge()
        await heard.end()


async def test_a_filter_finds_the_same_with_and_without_the_database(desk: Desk) -> None:
    await hold(desk)
    await hold(desk, "send", "mail", "post-bot", Verdict(Action.HOLD, "r", risk=Risk.LOW))
    approvals = [
        await desk.approvals.get(each) for each in listed((await (await desk.browser("approver")).get("/")).text)
    ]
    for wanted in (
        ApprovalFilter(),
        ApprovalFilter(upstream="git"),
        ApprovalFilter(grant="grant_post-bot"),
        ApprovalFilter(owner="release-bot@example.com"),
        ApprovalFilter(tool="send", risk=Risk.LOW),
        ApprovalFilter(risk=Risk.HIGH),
        ApprovalFilter(text="BOT@"),
        ApprovalFilter(text="mail"),
        ApprovalFilter(text="%"),
    ):
        found = await desk.store.read(lambda session, w=wanted: stored.page(session, w))
        assert {each.id for each in found} == {each.id for each in approvals if wanted.matches(each)}, wanted
