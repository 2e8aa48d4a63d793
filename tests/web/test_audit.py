"""Reading and exporting the record."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from broker.domain.approvals import Decision
from broker.domain.audit import Event, Kind, Row, verify
from broker.errors import ContentsAltered
from broker.store.audit import check_contents
from broker.store.audit import head as head_of
from broker.store.people import CredentialKind
from broker.store.writer import Transaction
from tests.clock import MovableClock
from tests.web.desk import Desk, person


async def record(desk: Desk, **given: Any) -> None:
    facts: dict[str, Any] = {"kind": Kind.CALL_ALLOWED, "actor": "agent:g"}
    await desk.store.write(lambda tx: tx.record(Event(**facts | given)))


def row_of(line: dict[str, Any]) -> Row:
    known: dict[str, Any] = {"kind": Kind(line["kind"]), "at": datetime.fromisoformat(line["at"])}
    return Row(**line | known)


async def test_an_exported_record_verifies_from_its_first_row_to_its_head(desk: Desk) -> None:
    held = await desk.hold(arguments={"text": "\u202e\0"})
    await desk.approvals.reviews.review(held.id, person("approver"), Decision.REJECT, channel="web", reason="=1+1")
    client = await desk.program("auditor")
    head = (await client.get("/api/v1/audit/head")).json()
    lines = (await client.get("/api/v1/audit/export?format=jsonl")).text.splitlines()
    reached = verify(row_of(json.loads(line)) for line in lines)
    assert {"seq": reached.seq, "digest": reached.digest} == head


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
async def test_a_spreadsheet_runs_nothing_that_an_agent_wrote(desk: Desk, start: str) -> None:
    await record(desk, tool=f'{start}HYPERLINK("http://evil.example")', upstream="git")
    got = await (await desk.program("auditor")).get("/api/v1/audit/export?format=csv&upstream=git")
    rows = list(csv.DictReader(io.StringIO(got.text, newline="")))
    assert [row["tool"] for row in rows] == [f'\'{start}HYPERLINK("http://evil.example")']
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in rows[0].values())


async def test_an_export_larger_than_one_reading_is_whole(desk: Desk) -> None:
    await desk.store.write(lambda tx: [tx.record(Event(kind=Kind.CALL_ALLOWED, actor="a")) for _ in range(2100)])
    got = await (await desk.program("auditor")).get("/api/v1/audit/export?kind=call.allowed")
    assert len(got.text.splitlines()) == 2100


async def test_rows_are_found_by_every_filter_and_by_no_other(desk: Desk) -> None:
    await record(desk, tool="a_tool", upstream="u", grant="g1", detail={"note": "wörd"})
    await record(desk, tool="b_tool", upstream="v", grant="g2", actor="else")
    client = await desk.program("auditor")
    for query in ("tool=a_tool", "upstream=u", "grant=g1", "actor=agent:g", "q=w\u00f6rd", "q=a_to", "q=g1"):
        found = (await client.get(f"/api/v1/audit?kind=call.allowed&{query}")).json()["items"]
        assert [row["tool"] for row in found] == ["a_tool"], query
    since = (await client.get("/api/v1/audit?since=2026-07-28T12:00:01Z")).json()["items"]
    until = (await client.get("/api/v1/audit?until=2026-07-28T12:00:00Z")).json()["items"]
    assert (since, until) == ([], [])


async def test_pages_of_rows_follow_each_other(desk: Desk) -> None:
    await desk.store.write(lambda tx: [tx.record(Event(kind=Kind.CALL_ALLOWED, actor="a")) for _ in range(50)])
    client = await desk.program("auditor")
    first = (await client.get("/api/v1/audit")).json()
    second = (await client.get("/api/v1/audit", params={"cursor": first["next"]})).json()
    seqs = [row["seq"] for row in first["items"] + second["items"]]
    assert (seqs, second["next"]) == (list(range(seqs[0], 0, -1)), None)


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "kind=call.denid",
        "limit=5",
        "cursor=-1",
        "cursor=9999999999999999999",
        "actor=%00",
        "outcome=odd",
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(desk: Desk, query: str) -> None:
    client = await desk.browser("auditor")
    assert (await client.get(f"/api/v1/audit?{query}")).status_code == 422
    assert (await client.get(f"/audit?{query}")).status_code == 422


async def test_a_filter_that_makes_no_sense_is_marked_in_the_form(desk: Desk) -> None:
    text = (await (await desk.browser("auditor")).get("/audit?since=foo&tool=t")).text
    assert 'value="foo" placeholder="2026-07-28T12:00Z" maxlength="1000" aria-invalid="true"' in text
    assert "since: &#39;foo&#39; is not a time such as" in text
    assert 'name="tool" value="t"' in text


async def test_an_agent_is_named_by_its_label_and_its_rule_is_beside_it(desk: Desk) -> None:
    await desk.hold()
    text = (await (await desk.browser("auditor")).get("/audit?kind=approval.submitted")).text
    assert f'href="/audit?grant={desk.grant.id}">release-bot</a> asked; the call was held' in text
    assert 'approval.submitted</span> <span class="mono grey">tools.git_push.action</span>' in text
    assert '<span class="tag waits">held</span>' in text


async def test_the_record_says_for_whom_an_administrator_did_what(desk: Desk) -> None:
    await desk.secret("owner", CredentialKind.LINK)
    client = await desk.browser("auditor")
    page = (await client.get("/audit?kind=link.created")).text
    assert "cli:test made a sign-in link for owner@example.com." in page
    row = page.split('href="/audit/', 1)[1].split('"', 1)[0]
    assert "cli:test made a sign-in link for owner@example.com." in (await client.get(f"/audit/{row}")).text


async def test_a_row_leads_to_all_that_happened_to_its_call_and_what_is_kept_of_it(desk: Desk) -> None:
    held = await desk.hold(arguments={"branch": "main"})
    await desk.approvals.reviews.review(held.id, person("approver"), Decision.APPROVE, channel="web")
    await desk.run(held, {"content": [{"type": "text", "text": "pushed to main"}]})
    client = await desk.browser("auditor")
    page = (await client.get("/audit?outcome=ran")).text
    assert f'href="/approvals/{held.id}"' in page
    assert page.count("approval.succeeded</span>") == 1
    (seq,) = re.findall(r'<details data-row="(\d+)">.*href="/audit/\1"', page)
    row = (await client.get(f"/audit/{seq}")).text
    assert "pushed to main" in row
    assert "approver@example.com approved" in row
    assert "pushed to main" in (await client.get(f"/approvals/{held.id}")).text


async def test_decisions_are_found_by_their_outcome_their_channel_and_the_agent_that_asked(desk: Desk) -> None:
    held = [await desk.hold() for _ in range(3)]
    words = ((Decision.APPROVE, "web"), (Decision.REJECT, "slack:#ops"), (Decision.REJECT, "api"))
    for approval, (decision, channel) in zip(held, words, strict=True):
        await desk.approvals.reviews.review(approval.id, person("approver"), decision, channel=channel)
    client = await desk.program("auditor")
    expected = {
        "channel=web": [0],
        "channel=slack": [1],
        "channel=slack:%23ops": [1],
        "channel=slack:%23op": [],
        "outcome=rejected": [2, 1],
        "outcome=rejected&channel=slack&grant=Release-Bot": [1],
        "outcome=approved&grant=another": [],
    }
    for query, which in expected.items():
        found = (await client.get(f"/api/v1/audit?{query}")).json()["items"]
        assert [row["approval_id"] for row in found] == [held[number].id for number in which], query


async def test_an_export_has_exactly_the_rows_that_the_pages_of_its_filter_show(desk: Desk) -> None:
    def work(tx: Transaction) -> None:
        for number in range(130):
            tx.record(
                Event(kind=Kind.CALL_DENIED, actor="agent:g", tool=f"t{number % 2}", detail={"reason": "N\u00f6\n!"})
            )

    await desk.store.write(work)
    client = await desk.browser("auditor")
    text = (await client.get("/audit?tool=t1&q=n%C3%96+!&outcome=denied")).text
    exports = [link.replace("&amp;", "&") for link in re.findall(r'href="(/api/v1/audit/export[^"]*)"', text)]
    shown = list[int]()
    while True:
        shown += map(int, re.findall(r">Row (\d+)<", text))
        following = re.search(r'href="(/audit[^"]*cursor[^"]*)"', text)
        if following is None:
            break
        text = (await client.get(following[1].replace("&amp;", "&"))).text
    assert len(shown) == 65
    lines, cells = [(await client.get(link)).text for link in exports]
    assert [json.loads(line)["seq"] for line in lines.splitlines()] == shown[::-1]
    assert [int(row["seq"]) for row in csv.DictReader(io.StringIO(cells, newline=""))] == shown[::-1]


async def test_a_search_that_did_not_look_at_everything_says_how_far_it_came(desk: Desk) -> None:
    await desk.store.write(lambda tx: [tx.record(Event(kind=Kind.CALL_ALLOWED, actor="a")) for _ in range(6000)])
    client = await desk.browser("auditor")
    text = (await client.get("/audit?q=%C2%A7")).text
    (seq,) = re.findall(r"Nothing found yet: searched back to row (\d+), <time", text)
    (on,) = re.findall(r'href="(/audit\?q=%C2%A7&amp;cursor=\d+)" rel="next">Search on', text)
    assert on.endswith(f"cursor={seq}")
    assert "Nothing older matches." in (await client.get(on.replace("&amp;", "&"))).text
    first = (await client.get("/api/v1/audit?q=%C2%A7")).json()
    assert first == {"items": [], "next": seq}


async def test_every_page_of_the_record_says_where_it_ends_and_how_it_was_found(
    desk: Desk, clock: MovableClock
) -> None:
    client, pages = await desk.browser("auditor"), ("/audit", "/audit?tool=none", "/audit/1")
    assert "Not verified since this server started." in (await client.get("/audit")).text
    await desk.chain.look()
    head = await desk.store.read(head_of)
    for page in pages:
        text = (await client.get(page)).text
        assert (
            f"{head.seq} rows. The last one&#39;s digest is" in text
            or f"{head.seq} rows. The last one's digest" in text
        )
        assert head.digest in text
        assert f"Verified from row 1 to row {head.seq} at <time" in text
    await desk.store.write(lambda tx: tx.connection.exec_driver_sql("UPDATE audit SET actor = 'eve' WHERE seq = 2"))
    clock.advance(timedelta(days=1))
    client = await desk.browser("auditor")
    await desk.chain.look()
    for page in pages:
        text = (await client.get(page)).text
        assert 'role="alert">The audit chain is broken at row 2: its content was altered.' in text
        assert "Verified from" not in text


async def test_a_page_of_rows_that_mean_harm_is_no_larger_than_others(desk: Desk) -> None:
    odd = "\u202e<" * 3000
    for _ in range(60):
        await record(desk, tool=odd, upstream=odd, rule=odd, actor=odd, detail={"reason": odd, "channel": odd})
    answer = await (await desk.browser("auditor")).get("/audit")
    assert len(answer.content) < 100_000
    assert "\u202e" not in answer.text


@pytest.mark.parametrize("change", ["params = replace(params, 'main', 'evil')", "tool = 'git_log'"])
async def test_a_held_call_that_is_another_one_now_is_found_with_its_row(desk: Desk, change: str) -> None:
    held = await desk.hold(arguments={"branch": "main"})
    rows = await desk.approvals.history(held.id)
    last = rows[-1].seq
    assert await desk.store.read(lambda session: check_contents(session, desk.keyring, last)) == len(rows)
    await desk.store.write(lambda tx: tx.connection.exec_driver_sql(f"UPDATE approvals SET {change}"))
    with pytest.raises(ContentsAltered) as caught:
        await desk.store.read(lambda session: check_contents(session, desk.keyring, last))
    assert caught.value.seq == rows[0].seq
