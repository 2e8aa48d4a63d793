"""Reading and exporting the record."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime
from typing import Any

import pytest

from broker.domain.approvals import Decision
from broker.domain.audit import Event, Kind, Row, verify
from broker.errors import ContentsAltered
from broker.store.audit import check_contents
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
    for query in ("tool=a_tool", "upstream=u", "grant=g1", "actor=agent:g", "q=w\u00f6rd", "q=a_to"):
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
    "query", ["since=yesterday", "kind=call.denid", "limit=5", "cursor=-1", "cursor=9999999999999999999", "actor=%00"]
)
async def test_a_query_that_makes_no_sense_is_refused(desk: Desk, query: str) -> None:
    client = await desk.browser("auditor")
    assert (await client.get(f"/api/v1/audit?{query}")).status_code == 422
    assert (await client.get(f"/audit?{query}")).status_code == 422


async def test_a_filter_that_makes_no_sense_is_marked_in_the_form(desk: Desk) -> None:
    text = (await (await desk.browser("auditor")).get("/audit?since=foo&tool=t")).text
    assert 'value="foo" placeholder="2026-07-28T12:00Z" maxlength="40" aria-invalid="true"' in text
    assert "since: &#39;foo&#39; is not a time such as" in text
    assert 'name="tool" value="t"' in text


async def test_an_agent_is_named_by_its_label_and_its_rule_is_beside_it(desk: Desk) -> None:
    await desk.hold()
    text = (await (await desk.browser("auditor")).get("/audit?kind=approval.submitted")).text
    assert "<td>release-bot <a" in text
    assert 'hold <span class="mono grey">tools.git_push.action</span>' in text


async def test_the_page_shows_what_is_kept_of_a_call_and_leads_to_its_approval(desk: Desk) -> None:
    held = await desk.hold(arguments={"branch": "main"})
    await desk.approvals.reviews.review(held.id, person("approver"), Decision.APPROVE, channel="web")
    await desk.run(held, {"content": [{"type": "text", "text": "pushed to main"}]})
    client = await desk.browser("auditor")
    page = (await client.get("/audit")).text
    assert f'href="/approvals/{held.id}"' in page
    assert "pushed to main" in page
    assert "approval.succeeded" in page
    assert "pushed to main" in (await client.get(f"/approvals/{held.id}")).text


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
