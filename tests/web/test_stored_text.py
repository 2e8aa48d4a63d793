"""Text that somebody wrote to deceive, on its way out: to the queue, the record, its exports and a terminal."""

from __future__ import annotations

import csv
import io
import json

import pytest

from broker.cli import output
from broker.cli.approval_lines import line, say_whole
from broker.domain.approvals import Decision
from broker.domain.calls import Action, Call, Risk, Verdict
from broker.domain.people import GrantRef
from tests.web.desk import Desk, person
from tests.web.test_card_attacks import AS_SHOWN, ATTACK, attack

once = pytest.mark.parametrize("new_store_url", ["sqlite"], indirect=True)


@once
async def test_what_is_written_into_any_field_is_seen_as_what_it_is_wherever_it_comes_out(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    ref = GrantRef(desk.grant.id, attack("label"), attack("owner"))
    params = {"name": attack("=tool"), "arguments": {attack("key"): attack("value")}}
    call = Call("call_hostile", attack("upstream"), attack("=tool"), params, ref)
    held = await desk.submit(call, Verdict(Action.HOLD, attack("rule"), attack("why"), Risk.HIGH))
    client = await desk.browser("admin")
    queue = (await client.get("/")).text
    await desk.approvals.reviews.review(
        held.id, person("approver"), Decision.REJECT, channel="web", reason=attack("reason")
    )
    found = (await client.get("/api/v1/audit?tool=%3Dtool" + "%3Cscript%3E%1B%E2%80%AE%E2%80%8B")).json()["items"]
    rows = "".join([(await client.get(f"/audit/{row['seq']}")).text for row in found])
    record = (await client.get("/audit")).text
    for where, page, fields, as_shown in (
        ("queue", queue, ("=tool", "upstream", "value", "label", "owner"), AS_SHOWN),
        ("record", record, ("=tool", "upstream", "rule"), "&lt;script&gt;"),  # where a line is short
        ("rows", rows, ("=tool", "upstream", "rule", "reason"), AS_SHOWN),
    ):
        assert {field for field in fields if field + as_shown not in page} == set(), where
        assert [char for char in ATTACK[-3:] if char in page] == []
        assert "<script>" not in page

    jsonl = (await client.get("/api/v1/audit/export")).text
    assert jsonl.isascii()
    assert attack("=tool") in {json.loads(each)["tool"] for each in jsonl.splitlines()}
    table = list(csv.DictReader(io.StringIO((await client.get("/api/v1/audit/export?format=csv")).text)))
    assert "'" + attack("=tool") in {each["tool"] for each in table}

    told = (await client.get(f"/api/v1/approvals/{held.id}")).json()
    say_whole(told)
    output.listing(["tool", "agent"], [line(told)], as_json=False, nothing="")
    output.listing(["tool", "rule", "actor"], found, as_json=False, nothing="")
    terminal = capsys.readouterr().out
    assert "=tool<script>\\u001b\\u202e\\u200b" in terminal
    assert [char for char in ATTACK[-3:] if char in terminal] == []
