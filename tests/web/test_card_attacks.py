"""The card against those who write on it: what they send is shown as what it is, masked stays masked, and it fits."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import pytest

from broker.domain.approvals import Approval, Decision
from broker.domain.audit import Event, Kind
from broker.domain.calls import Action, Call, Escalation, Requirement, Risk, Said, Step, Verdict
from broker.domain.people import GrantRef, Person, Role
from broker.store import people
from tests.web.desk import Desk, person
from tests.web.drawing import base64_of, png

ATTACK = "<script>\x1b\u202e\u200b"
AS_SHOWN = '&lt;script&gt;<b class="hidden-character">\\u001b\\u202e\\u200b</b>'
HOUR = timedelta(hours=1)
DOT = png(2, 2)
SVG = base64_of(b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>')

once = pytest.mark.parametrize("new_store_url", ["sqlite"], indirect=True)
"""For what is about pages alone."""


def attack(field: str) -> str:
    """What somebody writes into a field."""
    return field + ATTACK


async def seen(desk: Desk, address: str, name: str = "admin") -> str:
    got = await (await desk.browser(name)).get(address)
    assert got.status_code == 200, got.text
    return got.text


async def hostile(desk: Desk) -> Approval:
    """A call of which everybody who can write something wrote an attack, decided and answered."""
    ref = GrantRef(desk.grant.id, attack("label"), attack("owner"))
    params = {
        "name": attack("tool"),
        "arguments": {attack("key"): attack("value"), "nested": {attack("inner-key"): [attack("item"), 1]}},
        "_meta": {attack("meta-key"): attack("meta-value")},
    }
    verdict = Verdict(
        Action.HOLD,
        attack("rule"),
        attack("policy-reason"),
        Risk.HIGH,
        Requirement(
            ("approver@example.com", "second@example.com", attack("group")),
            2,
            channels=("web", attack("channel")),
            escalate=Escalation(timedelta(minutes=5), (attack("oncall"),)),
        ),
        steps=(
            Step(attack("rule"), Said.HOLDS, attack("telling-saw")),
            Step(attack("step"), Said.NOTHING, attack("saw"), attack("why")),
        ),
    )
    described: dict[str, Any] = {
        "title": attack("title"),
        "description": attack("description"),
        "annotations": {attack("hint-key"): attack("hint")},
    }
    approvals = list[Approval]()
    for number in range(2):
        call = Call(f"call_hostile{number}", attack("upstream"), attack("tool"), params, ref)
        approvals.append(await desk.submit(call, verdict, **described))
    earlier, approval = approvals
    await desk.approvals.reviews.review(
        earlier.id, person("approver"), Decision.REJECT, channel="web", reason=attack("earlier-reason")
    )
    await desk.approvals.requests.abandon(approval.id, attack("left"))
    for kind, tool in ((Kind.CALL_DENIED, "other-tool"), (Kind.CALL_ALLOWED, "next-tool")):
        did = Event(
            kind=kind,
            actor=f"agent:{desk.grant.id}",
            call_id=f"call_{tool}",
            upstream=attack("other-upstream"),
            tool=attack(tool),
            grant=desk.grant.id,
        )
        await desk.store.write(lambda tx, did=did: tx.record(did))
    return approval


FIELDS = (
    *("label", "owner", "tool", "key", "value", "inner-key", "item", "meta-key", "meta-value", "rule", "policy-reason"),
    *("group", "channel", "oncall", "telling-saw", "step", "saw", "why", "title", "description", "hint-key", "hint"),
    *("upstream", "earlier-reason", "left", "other-tool", "next-tool", "other-upstream"),
)


@once
async def test_whatever_is_written_into_any_field_of_a_card_is_seen_as_what_it_is(desk: Desk) -> None:
    approval = await hostile(desk)
    await desk.approvals.reviews.review(
        approval.id, person("approver"), Decision.APPROVE, channel="web", reason=attack("voting")
    )
    answered = await desk.hold(arguments={"a": 1})
    await desk.approvals.reviews.review(
        answered.id, person("approver"), Decision.APPROVE, channel="web", reason=attack("approving")
    )
    block = {"type": attack("type"), "data": attack("data"), "mimeType": "text/html"}
    text = {"type": "text", "text": attack("answer")}
    structured = {attack("answer-key"): attack("answer-value")}
    await desk.run(answered, {"content": [text, block], "structuredContent": structured, "isError": True})
    rejected = await desk.hold()
    await desk.approvals.reviews.review(
        rejected.id, person("second"), Decision.REJECT, channel="web", reason=attack("rejecting")
    )
    whole = "".join([await seen(desk, f"/approvals/{each.id}") for each in (approval, answered, rejected)])
    more = ("voting", "approving", "type", "data", "answer", "answer-key", "answer-value", "rejecting")
    for field in (*FIELDS, *more):
        assert field + AS_SHOWN in whole, field
    for char in ATTACK[-3:]:
        assert char not in whole
    assert "<script>" not in whole.replace('<script type="module" src="/static/card.js"></script>', "")


@once
async def test_a_reason_that_hides_something_is_not_offered_and_others_are(desk: Desk) -> None:
    for reason in ("not on a Friday", attack("x"), "two\nlines", "y" * 300, "not on a Friday", '"quoted" <b>'):
        other = await desk.hold()
        await desk.approvals.reviews.review(other.id, person("second"), Decision.REJECT, channel="web", reason=reason)
    html = await seen(desk, f"/approvals/{(await desk.hold()).id}", "approver")
    options = html.split('<datalist id="reasons">')[1].split("</datalist>")[0]
    assert options == ('<option value="&#34;quoted&#34; &lt;b&gt;"></option><option value="not on a Friday"></option>')


@once
async def test_what_is_masked_is_nowhere_on_a_card_nor_in_what_it_leads_to(desk: Desk) -> None:
    secret, hidden = "hunter2-hunter2", png(3, 3)
    arguments = {"password": secret, "picture": base64_of(hidden), "branch": "main"}
    masks = ("args.password", "args.picture")
    first = await desk.hold(arguments=arguments, redact=masks)
    await desk.approvals.reviews.review(first.id, person("second"), Decision.APPROVE, channel="web")
    await desk.run(first, {"content": [{"type": "text", "text": f"pushed with {secret}"}], "isError": False})
    again = await desk.hold(arguments=arguments, redact=masks)
    client = await desk.browser("admin")
    for approval in (first, again):
        for path in ("", "/confirm", "/call.json", "/answer.json"):
            text = (await client.get(f"/approvals/{approval.id}{path}")).text
            assert secret not in text
            assert base64_of(hidden) not in text
        got = await client.get(f"/approvals/{approval.id}/pictures/{hashlib.sha256(hidden).hexdigest()}")
        assert got.status_code == 404
    assert "[redacted]" in await seen(desk, f"/approvals/{again.id}")
    assert "The identical call" in await seen(desk, f"/approvals/{again.id}")


@once
async def test_a_picture_is_served_as_what_it_is_and_an_svg_is_text(desk: Desk) -> None:
    arguments = {"logo": f"data:text/html;base64,{base64_of(DOT)}", "drawing": f"data:image/svg+xml;base64,{SVG}"}
    held = await desk.hold(arguments=arguments)
    html = await seen(desk, f"/approvals/{held.id}")
    address = f"/approvals/{held.id}/pictures/{hashlib.sha256(DOT).hexdigest()}"
    assert html.count("<img ") == 1
    assert f'<img src="{address}" width="2" height="2" alt="PNG picture, 2 by 2 pixels, ' in html
    assert SVG in html
    client = await desk.browser("approver")
    got = await client.get(address)
    assert (got.content, got.headers["content-type"]) == (DOT, "image/png")
    assert got.headers["x-content-type-options"] == "nosniff"
    assert "script-src 'self'" in got.headers["content-security-policy"]
    drawing = hashlib.sha256(b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>').hexdigest()
    assert (await client.get(f"/approvals/{held.id}/pictures/{drawing}")).status_code == 404
    other = await desk.hold()
    assert (await client.get(f"/approvals/{other.id}/pictures/{hashlib.sha256(DOT).hexdigest()}")).status_code == 404


@once
async def test_what_the_server_answered_is_shown_with_its_pictures_and_whole_as_json(desk: Desk) -> None:
    held = await desk.hold()
    assert (await (await desk.browser("approver")).get(f"/approvals/{held.id}/answer.json")).status_code == 404
    await desk.approvals.reviews.review(held.id, person("approver"), Decision.APPROVE, channel="web")
    image = {"type": "image", "data": base64_of(DOT), "mimeType": "image/png"}
    lying = {"type": "image", "data": base64_of(DOT), "mimeType": "image/svg+xml"}
    answer = {"content": [{"type": "text", "text": "x" * 100_000 + "\u202e"}, image, lying], "isError": False}
    await desk.run(held, answer)
    html = await seen(desk, f"/approvals/{held.id}", "approver")
    told = html.split("What the server answered")[1]
    assert told.count("<img ") == 2
    assert "image/svg+xml" in told
    assert "The answer does not fit on this page." in told
    got = await (await desk.browser("approver")).get(f"/approvals/{held.id}/answer.json")
    assert got.json() == answer
    assert got.headers["content-type"] == "application/json"
    assert got.content.isascii()


@once
async def test_what_the_server_says_of_its_tool_is_said_to_be_its_words(desk: Desk) -> None:
    call = Call("call_told", "git", "git_push", {"name": "git_push"}, desk.grant)
    hints = {"readOnlyHint": False, "destructiveHint": True, "idempotentHint": "yes", "vendor/cost": 3, "title": "Push"}
    held = await desk.submit(call, Verdict(Action.HOLD, "default", risk=Risk.HIGH), annotations=hints)
    html = await seen(desk, f"/approvals/{held.id}")
    told = html.split("<h2>The server says</h2>")[1].split("<h2>")[0]
    for words in ("Push", "Pushes commits.", "it may change something", "it may destroy something", "vendor/cost"):
        assert words in told, words
    assert "idempotentHint" in told  # which says nothing known
    assert "Nobody has checked them." in told
    assert "So says the policy." in html
    assert "The server says that it may change something and that it may destroy something." in html


HOSTILE = "\u202e<" * 10_000
"""What takes the most bytes to be shown as what it is."""


async def large(desk: Desk) -> Approval:
    """A call of which everything that can be large is, after others like it."""
    names = [f"p{number}@example.com" for number in range(20)]
    roles = frozenset({Role.APPROVER})
    await desk.store.write(lambda tx: [people.save(tx, "cli:test", name, roles, frozenset()) for name in names])
    arguments = {HOSTILE[:4000]: HOSTILE, "list": ["\u200b&"] * 3000, **{f"{n}{HOSTILE[:99]}": n for n in range(200)}}
    params = {"name": HOSTILE, "arguments": arguments, "_meta": {"x": {"y": [HOSTILE] * 2}}}
    described = {"title": HOSTILE, "description": HOSTILE, "annotations": {HOSTILE: HOSTILE, "more": [HOSTILE] * 9}}
    wanted = Requirement((*names, *(f"group{n}" for n in range(40))), 16, escalate=Escalation(HOUR, (HOSTILE[:99],)))
    steps = tuple(Step(f"{n}{HOSTILE[:900]}", Said.NOTHING, HOSTILE[:900], HOSTILE[:900]) for n in range(60))
    verdict = Verdict(Action.HOLD, HOSTILE, HOSTILE, Risk.CRITICAL, wanted, steps=steps)
    ref = GrantRef(desk.grant.id, HOSTILE[:2000], HOSTILE[:200])

    def vote(approval: Approval, name: str, decision: Decision) -> Awaitable[Approval]:
        voter = Person(name, roles)
        return desk.approvals.reviews.review(approval.id, voter, decision, channel="web", reason=HOSTILE[:2000])

    held = [
        await desk.submit(Call(f"call_{n}", HOSTILE[:99], HOSTILE, {**params, "n": n // 5}, ref), verdict, **described)
        for n in range(11)
    ]
    for each in held[:-1]:
        await vote(each, names[0], Decision.REJECT)
    for name in names[:15]:
        await vote(held[-1], name, Decision.APPROVE)
    for _ in range(9):
        await desk.approvals.requests.abandon(held[-1].id, HOSTILE[:500])
        await desk.submit(held[-1].call, verdict, **described)
    return held[-1]


@once
async def test_a_card_stays_below_a_hundred_kilobytes_whatever_is_on_it(desk: Desk) -> None:
    held = await large(desk)
    for path in ("", "/confirm"):
        html = await seen(desk, f"/approvals/{held.id}{path}", "second")
        assert len(html.encode()) < 100_000
        assert "What will run does not fit on this page." in html
    assert (await seen(desk, f"/approvals/{held.id}/call.json")).isascii()
