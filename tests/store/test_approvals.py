"""Approvals in the store: they come back as they were, and are found."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import Session

from broker.domain.approvals import Approval, Caller, Decision, State
from broker.domain.calls import Escalation, Memory, Requirement, Risk
from broker.domain.people import GrantRef
from broker.store import approvals, grants
from broker.store.approvals import ApprovalFilter
from broker.store.writer import Store
from tests.clock import NOON
from tests.domain.values import ALICE, BOB, GRANT, MINUTE, QUARTER, call, held, in_state, reviewed

HOSTILE: dict[str, Any] = {"text": "\x00\u202e🧨' OR 1=1 --", "number": 2**200, "float": 1.0, "long": "x" * 1_000_000}
WHOLE = Requirement(
    ("a", "b@example.com"),
    2,
    timedelta(minutes=3),
    ("web", "slack:#c"),
    allow_self=True,
    allow_edit=True,
    escalate=Escalation(timedelta(minutes=5), ("oncall",)),
    remember=Memory(("exact", "tool"), timedelta(hours=1)),
)

MICROSECOND = timedelta(microseconds=1)
APPROVALS = sa.table("approvals", sa.column("requirement"))


async def save(store: Store, *several: Approval) -> None:
    def work(tx: Any) -> None:
        for approval in several:
            approvals.save(tx.session, approval)

    await store.write(work)


async def get(store: Store, approval_id: str = "apr_1") -> Approval | None:
    return await store.read(lambda session: approvals.get(session, approval_id))


@pytest.mark.parametrize("state", list(State))
async def test_an_approval_comes_back_as_it_was_saved(store: Store, state: State) -> None:
    approval = in_state(state)
    await save(store, approval)
    assert await get(store) == approval


async def test_everything_that_an_agent_or_a_server_says_survives(store: Store) -> None:
    approval = held(
        WHOLE,
        call=replace(call(**HOSTILE), session="s"),
        definition={"description": HOSTILE["text"], "n": 2**200},
        reason="why\n" * 1000,
        risk=Risk.CRITICAL,
        caller=Caller.GONE,
    )
    await save(store, approval)
    found = await get(store)
    assert found == approval
    assert isinstance(found, Approval)
    assert isinstance(found.call.arguments["float"], float)


async def test_the_requirement_of_an_earlier_version_still_says_what_it_said(store: Store) -> None:
    await save(store, held(WHOLE))
    earlier = '{"approvers":["a"],"quorum":2,"timeout":180.0,"channels":["web"],"allow_self":true}'
    await store.write(lambda tx: tx.connection.execute(sa.update(APPROVALS).values(requirement=earlier)))
    found = await get(store)
    assert found is not None
    assert found.requirement == Requirement(("a",), 2, timedelta(minutes=3), ("web",), allow_self=True)


@pytest.mark.parametrize("reason", ["\x00", "\ud800", "\u202e", "so that\nit is", "x" * 100_000])
async def test_whatever_a_reviewer_writes_as_the_reason_survives(store: Store, reason: str) -> None:
    approval = reviewed(held(), ALICE, Decision.REJECT, reason=reason)
    await save(store, approval)
    assert await get(store) == approval


async def test_reviews_come_back_in_the_order_they_came(store: Store) -> None:
    once = reviewed(held(Requirement(quorum=2)), BOB)
    await save(store, once)
    twice = reviewed(once, ALICE)  # at the same instant, as two of one commit
    await save(store, twice)
    found = await get(store)
    assert found is not None
    assert [given.by for given in found.reviews] == [BOB.email, ALICE.email]


async def test_there_may_be_none(store: Store) -> None:
    assert await get(store) is None


async def test_pages_are_newest_first_without_gaps_even_at_one_instant(store: Store) -> None:
    await save(store, *(held(id=f"apr_{n}", created_at=NOON + (n // 4) * MINUTE) for n in range(10)))
    seen: list[str] = []
    before = None
    while page := await store.read(lambda s, b=before: approvals.page(s, ApprovalFilter(), before=b, limit=3)):
        seen += [approval.id for approval in page]
        before = (page[-1].created_at, page[-1].id)
    assert seen == [f"apr_{n}" for n in reversed(range(10))]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (ApprovalFilter(), {"plain", "other", "over"}),
        (ApprovalFilter(states=(State.PENDING,)), {"plain", "other"}),
        (ApprovalFilter(states=(State.EXPIRED, State.FAILED)), {"over"}),
        (ApprovalFilter(upstream="git"), {"other"}),
        (ApprovalFilter(grant="grant_2", owner="bob@example.com"), {"other"}),
        (ApprovalFilter(tool="100%_sure"), {"other"}),
        (ApprovalFilter(text="OLGA"), {"plain", "over"}),
        (ApprovalFilter(text="%"), {"other"}),
        (ApprovalFilter(text="_"), {"other"}),
        (ApprovalFilter(text="' OR 1=1 --"), set[str]()),
    ],
)
async def test_a_filter_finds_and_counts_exactly_what_matches(
    store: Store, wanted: ApprovalFilter, found: set[str]
) -> None:
    bobs = call("100%_sure", grant=GrantRef("grant_2", "nightly", "bob@example.com"), upstream="git")
    await save(store, held(id="plain"), held(id="other", call=bobs), replace(in_state(State.EXPIRED), id="over"))
    page = await store.read(lambda session: approvals.page(session, wanted))
    assert {approval.id for approval in page} == found
    assert await store.read(lambda session: approvals.count(session, wanted)) == len(found)


async def test_what_is_due_is_found_at_its_instant(store: Store) -> None:
    await save(store, *(replace(in_state(state), id=state.value) for state in State))
    when = {"pending": NOON + QUARTER / 2, "approved": NOON + 16 * MINUTE, "executing": NOON + 2.5 * MINUTE}
    for name, instant in when.items():
        for late in (False, True):
            now = instant if late else instant - timedelta(microseconds=1)
            found = await store.read(lambda session, now=now: approvals.due(session, now))
            assert (name in {approval.id for approval in found}) is late
    everything = await store.read(lambda session: approvals.due(session, NOON + timedelta(days=9)))
    assert {approval.id for approval in everything} == set(when)


async def test_only_open_approvals_of_a_gone_caller_are_unattended(store: Store) -> None:
    gone: dict[str, Any] = {"caller": Caller.GONE}
    await save(
        store,
        held(id="older", **gone),
        held(id="newer", created_at=NOON + MINUTE, **gone),
        held(id="attended", created_at=NOON + 2 * MINUTE),
        replace(in_state(State.REJECTED), id="rejected", created_at=NOON + 3 * MINUTE, **gone),
        held(id="another", fingerprint="0" * 64, **gone),
    )

    async def found(mark: str, minutes: float) -> str | None:
        approval = await store.read(lambda s: approvals.unattended(s, [mark], NOON + minutes * MINUTE))
        return approval.id if approval else None

    assert await found("f" * 64, 4) == "newer"
    assert await found("0" * 64, 4) == "another"
    assert await found("1" * 64, 4) is None
    assert await found("f" * 64, 15) is None


async def test_leases_are_renewed_of_what_is_named_and_executed_by_the_holder(store: Store) -> None:
    executing = in_state(State.EXECUTING)
    mine, unnamed = (replace(executing, id=name, holder="me") for name in ("mine", "unnamed"))
    theirs, asking = replace(executing, id="theirs", holder="they"), replace(executing, id="asking", holder=None)
    ended = replace(in_state(State.INTERRUPTED), id="ended", holder="me")
    await save(store, mine, unnamed, theirs, asking, ended)
    named = {"mine", "theirs", "asking", "ended"}
    await store.write(lambda tx: approvals.renew_leases(tx.session, "me", named, NOON + QUARTER))
    assert await get(store, "mine") == replace(mine, lease_until=NOON + QUARTER)
    for other in (unnamed, theirs, asking, ended):
        assert await get(store, other.id) == other
    found = await store.read(lambda session: approvals.due(session, NOON + QUARTER - MICROSECOND))
    assert {approval.id for approval in found} == {"unnamed", "theirs", "asking"}


async def test_open_approvals_of_ended_grants_are_found(store: Store) -> None:
    def make(tx: Any, days: int | None) -> GrantRef:
        expires_at = NOON + days * 96 * QUARTER if days is not None else None
        made = grants.create(tx, "a", label="ci", owner=GRANT.owner, upstreams=frozenset(), expires_at=expires_at)
        return made.grant.ref

    unending, expiring, revoked = [await store.write(lambda tx, d=days: make(tx, d)) for days in (None, 1, None)]
    await store.write(lambda tx: grants.revoke(tx, "a", revoked.id))
    for name, grant in (("unending", unending), ("expiring", expiring), ("revoked", revoked)):
        await save(store, held(id=name, call=call(grant=grant)))
        await save(store, replace(in_state(State.APPROVED), id=f"{name} approved", call=call(grant=grant)))
        await save(store, replace(in_state(State.EXECUTING), id=f"{name} executing", call=call(grant=grant)))

    async def found(now: Any) -> set[str]:
        return {each.id for each in await store.read(lambda s: approvals.of_ended_grants(s, now))}

    assert await found(NOON) == {"revoked", "revoked approved"}
    assert await found(NOON + 96 * QUARTER) == {"revoked", "revoked approved", "expiring", "expiring approved"}


@pytest.mark.parametrize("new_store_url", ["sqlite"], indirect=True)
async def test_earlier_calls_of_a_fingerprint_are_found_by_it_however_many_others_there_are(store: Store) -> None:
    def look(session: Session) -> list[str]:
        asked: list[str] = []
        below: Any = session.connection().connection.driver_connection
        below.set_trace_callback(asked.append)
        approvals.unattended(session, ["one", "another"], NOON)
        approvals.remembered(session, ["one", "another"], NOON)
        approvals.newest(session, ["one", "another"], [State.SUCCEEDED, State.FAILED])
        below.set_trace_callback(None)
        return [step[3] for sql in asked for step in below.execute(f"EXPLAIN QUERY PLAN {sql}")]

    steps = [step for step in await store.read(look) if "approvals" in step]
    assert steps == ["SEARCH approvals USING INDEX ix_approvals_fingerprint_created_at (fingerprint=?)"] * 3
