"""Who decides a held call, as people, roles and time change; and how what was decided is ended or forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from broker.approvals.ledger import Rules
from broker.approvals.sweeps import recover, sweep
from broker.domain.answers import Answer, Status
from broker.domain.approvals import Approval, Cause, Decision, State
from broker.domain.audit import Kind
from broker.domain.calls import Escalation
from broker.domain.people import Person, Role
from broker.errors import (
    AlreadyResolved,
    DeadlinePassed,
    Forbidden,
    NotEligible,
    NotFound,
    SelfApproval,
    TransitionRefused,
)
from broker.store import people
from tests.approvals.desk import OUTSIDER, Desk, again, hold
from tests.domain.values import ALICE, BOB, CAROL, MINUTE, OLGA, QUARTER, charge, person

ROOT = person("root", role=Role.ADMIN)
DORA = person("dora", "oncall")
LATE = Escalation(5 * MINUTE, ("oncall",))
SUBMITTED, REVIEWED, APPROVED = Kind.APPROVAL_SUBMITTED, Kind.APPROVAL_REVIEWED, Kind.APPROVAL_APPROVED
ESCALATED, REMINDED = Kind.APPROVAL_ESCALATED, Kind.APPROVAL_REMINDED


async def save(desk: Desk, *some: Person) -> None:
    """Let people be known as they are here."""
    for each in some:
        await desk.store.write(lambda tx, each=each: people.save(tx, "cli:root", each.email, each.roles, each.groups))


async def remove(desk: Desk, gone: Person) -> None:
    await desk.store.write(lambda tx: people.remove(tx, "cli:root", gone.email))


async def details(desk: Desk, approval: Approval, kind: Kind) -> list[dict[str, Any]]:
    rows = await desk.approvals.history(approval.id)
    return [{key: value for key, value in row.detail.items() if key != "state"} for row in rows if row.kind is kind]


# -- people who change ------------------------------------------------------------------------------------------------


async def test_who_was_added_while_a_call_waits_may_decide_it(desk: Desk) -> None:
    approval = await desk.held(hold(approvers=("oncall", ALICE.email)))
    with pytest.raises(NotEligible):
        await desk.review(approval, DORA)
    await save(desk, DORA)
    assert (await desk.review(approval, DORA)).state is State.APPROVED


@pytest.mark.parametrize(
    "now",
    [None, Person(DORA.email, groups=DORA.groups), Person(DORA.email, DORA.roles)],
    ids=["person", "role", "group"],
)
async def test_who_lost_what_it_takes_may_not_decide_though_they_were_let_in_before(
    desk: Desk, now: Person | None
) -> None:
    await save(desk, DORA)
    approval = await desk.held(hold(approvers=("oncall",)))
    await (save(desk, now) if now is not None else remove(desk, DORA))
    for decision in Decision:
        with pytest.raises(NotEligible):
            await desk.review(approval, DORA, decision)  # as she was when she signed in
    assert await desk.approvals.get(approval.id) == approval


async def test_the_word_of_somebody_who_was_removed_later_still_counts(desk: Desk) -> None:
    approval = await desk.held(hold(quorum=2))
    await desk.review(approval, ALICE)
    await remove(desk, ALICE)
    approved = await desk.review(approval, BOB)
    assert (approved.state, [given.by for given in approved.reviews]) == (State.APPROVED, [ALICE.email, BOB.email])
    assert (await desk.claim(approved)).state is State.EXECUTING


async def test_one_person_has_one_vote_however_the_address_is_written(desk: Desk) -> None:
    approval = await desk.held(hold(quorum=2))
    await desk.review(approval, ALICE)
    await save(desk, Person("\uff21LICE@example.com\u200b ", ALICE.roles))
    assert len(await desk.store.read(people.everyone)) == 5
    assert (await desk.review(approval, ALICE)).state is State.PENDING


@pytest.mark.parametrize(
    ("policy", "configured", "may"), [(None, True, True), (None, False, False), (False, True, False)]
)
async def test_the_owner_may_decide_as_the_policy_says_and_else_the_settings(
    desk: Desk, policy: bool | None, configured: bool, may: bool
) -> None:
    desk.approvals = desk.service(rules=Rules(allow_self=configured))
    approval = await desk.held(hold(allow_self=policy))
    if may:
        assert (await desk.review(approval, OLGA)).state is State.APPROVED
    else:
        with pytest.raises(SelfApproval):
            await desk.review(approval, OLGA)


# -- what nobody can decide -------------------------------------------------------------------------------------------


async def refused(desk: Desk, **requirement: Any) -> str:
    """The sentence for a call that is refused since nobody could decide it."""
    told = await desk.told(hold(charge(who="x"), **requirement))
    assert isinstance(told, Answer)
    assert (told.status, told.meta()["retry"], await desk.slots()) == (Status.DENIED, "never", [])
    return told.sentence


async def test_a_call_that_too_few_could_decide_is_refused_and_says_who_is_wanted(desk: Desk) -> None:
    assert await refused(desk, approvers=("oncall", ALICE.email), quorum=2, escalate=LATE) == (
        "Denied: this call needs the approval of oncall, alice@example.com or, after 5m, oncall (2 of them), and too "
        "few such people may decide for this agent. Nothing ran. Do not try it again; tell your operator."
    )
    assert "the approval of people with the approver role (4 of them)" in await refused(desk, quorum=4, escalate=LATE)


async def test_those_of_an_escalation_count_since_they_will_be_asked_in_time(desk: Desk) -> None:
    await save(desk, DORA)
    wanted: dict[str, Any] = {"approvers": ("nobody",), "escalate": LATE}
    assert isinstance(await desk.told(hold(**wanted)), Approval)
    await refused(desk, **wanted, timeout=5 * MINUTE)
    await refused(desk, **wanted, quorum=2)
    desk.approvals = desk.service(rules=Rules(timeout=MINUTE))
    await refused(desk, **wanted)


async def test_a_call_that_may_be_decided_only_where_this_broker_is_not_is_refused_and_says_where(desk: Desk) -> None:
    assert await refused(desk, channels=("slack:#desk", "slack:@bob")) == (
        "Denied: this call needs a decision in slack:#desk or in slack:@bob, and this broker takes none there. "
        "Nothing ran. Do not try it again; tell your operator."
    )
    assert isinstance(await desk.told(hold(channels=("slack:#desk", "api"))), Approval)
    desk.approvals = desk.service(rules=Rules(channels=frozenset({"web", "api", "slack"})))
    assert isinstance(await desk.told(hold(channels=("slack:#desk",))), Approval)


# -- escalation -------------------------------------------------------------------------------------------------------


async def test_a_call_that_nobody_decides_is_escalated_once_and_then_more_people_may_decide(desk: Desk) -> None:
    await save(desk, DORA)
    approval = await desk.held(hold(approvers=(ALICE.email,), escalate=LATE))
    desk.clock.advance(LATE.after - timedelta(microseconds=1))
    await sweep(desk.approvals)
    with pytest.raises(NotEligible):
        await desk.review(approval, DORA)
    desk.clock.advance(timedelta(microseconds=1))
    for service in (desk.approvals, desk.service()):
        await sweep(service)
    assert await desk.kinds(approval) == [SUBMITTED, ESCALATED]
    assert await details(desk, approval, ESCALATED) == [{"to": ["oncall"]}]
    assert (await desk.review(approval, DORA)).state is State.APPROVED


async def test_those_of_an_escalation_need_not_wait_for_a_sweep(desk: Desk) -> None:
    await save(desk, DORA)
    approval = await desk.held(hold(approvers=(ALICE.email,), escalate=LATE))
    desk.clock.advance(LATE.after)
    with pytest.raises(NotEligible):
        await desk.review(approval, BOB)
    assert await desk.kinds(approval) == [SUBMITTED]  # what is refused leaves nothing behind
    assert (await desk.review(approval, DORA)).escalated_at == desk.clock.now()
    await sweep(desk.approvals)
    assert await desk.kinds(approval) == [SUBMITTED, ESCALATED, APPROVED]
    await desk.check_record()


async def test_where_nobody_is_named_an_escalation_is_recorded_and_asks_nobody_new(desk: Desk) -> None:
    await save(desk, Person("dora@example.com", groups=frozenset({"oncall"})))
    approval = await desk.held(hold(escalate=LATE))
    desk.clock.advance(LATE.after)
    await sweep(desk.approvals)
    assert await desk.kinds(approval) == [SUBMITTED, ESCALATED]
    with pytest.raises(NotEligible):
        await desk.review(approval, DORA)
    assert (await desk.review(approval, BOB)).state is State.APPROVED


# -- reminders --------------------------------------------------------------------------------------------------------


async def test_people_are_reminded_twice_and_a_restart_repeats_nothing(desk: Desk) -> None:
    approval = await desk.held(hold(quorum=2))
    desk.clock.advance(QUARTER / 2)
    await sweep(desk.approvals)
    await desk.review(approval, ALICE)
    for at in (timedelta(), QUARTER * 0.4, timedelta()):
        desk.clock.advance(at)
        restarted = desk.elsewhere()
        await recover(restarted, alone=True)
        await sweep(restarted)
    assert await details(desk, approval, REMINDED) == [{"part": "50%", "left": "8m"}, {"part": "90%", "left": "2m"}]
    assert (await desk.approvals.get(approval.id)).reminded == 2


async def test_of_what_a_broker_that_was_down_missed_only_the_last_reminder_is_given(desk: Desk) -> None:
    approval = await desk.held()
    desk.clock.advance(QUARTER - MINUTE)
    await sweep(desk.service())
    assert await details(desk, approval, REMINDED) == [{"part": "90%", "left": "1m"}]


async def test_nobody_is_reminded_of_what_is_decided_or_over(desk: Desk) -> None:
    decided, over = await desk.approved(asked=desk.call(key=1)), await desk.held(hold(timeout=MINUTE))
    desk.clock.advance(QUARTER - MINUTE)
    await sweep(desk.approvals)
    assert await details(desk, decided, REMINDED) == await details(desk, over, REMINDED) == []


# -- a broker that was down -------------------------------------------------------------------------------------------


async def test_what_was_due_while_the_broker_was_down_is_over_when_it_is_back(desk: Desk) -> None:
    unanswered, unused = await desk.held(hold(charge())), await desk.approved(asked=desk.call(key=1))
    desk.clock.advance(timedelta(days=1))
    restarted = desk.elsewhere()
    with pytest.raises(DeadlinePassed):
        await restarted.reviews.review(unanswered.id, ALICE, Decision.APPROVE, channel="web")
    asks_anew = await restarted.requests.submit(again(unused.call), hold(), unused.definition)
    assert isinstance(asks_anew, Approval)
    assert asks_anew.id != unused.id
    await recover(restarted, alone=True)
    await sweep(restarted)
    ended = [await restarted.get(each.id) for each in (unanswered, unused)]
    assert [each.state for each in ended] == [State.EXPIRED] * 2
    assert [each.resolution.cause for each in ended if each.resolution] == [Cause.UNANSWERED, Cause.UNUSED]
    assert await desk.slots() == []
    with pytest.raises(AlreadyResolved, match=r"Already expired at .* UTC\. Nobody answered in time\."):
        await desk.review(unanswered, ALICE)


# -- withdrawing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("approved", [False, True])
async def test_an_administrator_withdraws_what_was_not_used_yet(desk: Desk, approved: bool) -> None:
    await save(desk, ROOT)
    approval = await (desk.approved if approved else desk.held)(hold(charge()))
    ended = await desk.approvals.reviews.withdraw(approval.id, ROOT)
    assert await desk.approvals.get(approval.id) == ended
    assert ended.resolution is not None
    assert (ended.state, ended.resolution.by) == (State.WITHDRAWN, ROOT.email)
    assert ended.resolution.cause is Cause.ADMINISTRATOR
    assert (await desk.slots(), (await desk.kinds(approval))[-1]) == ([], Kind.APPROVAL_WITHDRAWN)
    with pytest.raises(AlreadyResolved, match=r"Already withdrawn by root@example\.com"):
        await desk.review(approval, BOB)
    with pytest.raises(TransitionRefused):
        await desk.claim(approval)


async def test_nobody_but_an_administrator_of_now_withdraws(desk: Desk) -> None:
    approval = await desk.held()
    for somebody in (ALICE, OLGA, OUTSIDER, ROOT):  # nobody knows Root
        with pytest.raises(Forbidden):
            await desk.approvals.reviews.withdraw(approval.id, somebody)
    await save(desk, Person(ROOT.email, frozenset({Role.APPROVER})))
    with pytest.raises(Forbidden):
        await desk.approvals.reviews.withdraw(approval.id, ROOT)  # as he was when he signed in
    assert await desk.kinds(approval) == [SUBMITTED]


async def test_what_runs_or_is_over_is_not_withdrawn(desk: Desk) -> None:
    await save(desk, ROOT)
    claimed = await desk.claimed()
    with pytest.raises(TransitionRefused, match="since this approval is executing"):
        await desk.approvals.reviews.withdraw(claimed.id, ROOT)
    rejected = await desk.review(await desk.held(), ALICE, Decision.REJECT)
    with pytest.raises(TransitionRefused, match="since this approval is rejected"):
        await desk.approvals.reviews.withdraw(rejected.id, ROOT)
    with pytest.raises(NotFound):
        await desk.approvals.reviews.withdraw("apr_\0", ROOT)
    assert await desk.approvals.get(rejected.id) == rejected


# -- forgetting -------------------------------------------------------------------------------------------------------


async def rejected(desk: Desk, **requirement: Any) -> Approval:
    return await desk.review(await desk.held(hold(**requirement)), ALICE, Decision.REJECT)


@pytest.mark.parametrize("by", [ALICE, BOB, ROOT], ids=lambda each: each.email)
async def test_who_may_decide_it_and_an_administrator_let_a_rejection_be_forgotten(desk: Desk, by: Person) -> None:
    await save(desk, ROOT)
    named = {} if by is not ROOT else {"approvers": (ALICE.email,)}
    said_no = await rejected(desk, **named)
    heard = await desk.told(hold(**named), again(said_no.call))
    assert isinstance(heard, Answer)
    assert heard.status is Status.REJECTED
    forgotten = await desk.approvals.reviews.forget(said_no.id, by)
    assert await desk.approvals.get(said_no.id) == forgotten
    assert (forgotten.state, forgotten.forgotten_at) == (State.REJECTED, desk.clock.now())
    assert isinstance(await desk.told(hold(**named), again(said_no.call)), Approval)
    row = (await desk.approvals.history(said_no.id))[-1]
    assert (row.kind, row.actor) == (Kind.APPROVAL_FORGOTTEN, by.email)


async def test_nobody_else_lets_it_be_forgotten(desk: Desk) -> None:
    await save(desk, DORA)
    said_no = await rejected(desk, approvers=(ALICE.email, OLGA.email), escalate=LATE)
    for somebody, why in ((BOB, NotEligible), (OUTSIDER, NotEligible), (DORA, NotEligible), (OLGA, SelfApproval)):
        with pytest.raises(why):
            await desk.approvals.reviews.forget(said_no.id, somebody)
    await remove(desk, ALICE)
    with pytest.raises(NotEligible):
        await desk.approvals.reviews.forget(said_no.id, ALICE)
    assert await desk.approvals.get(said_no.id) == said_no


async def test_where_it_was_to_be_decided_does_not_matter_for_forgetting_it(desk: Desk) -> None:
    desk.approvals = desk.service(rules=Rules(channels=frozenset({"slack"})))
    held = await desk.held(hold(channels=("slack",)))
    await desk.approvals.reviews.review(held.id, ALICE, Decision.REJECT, channel="slack:#desk")
    assert (await desk.approvals.reviews.forget(held.id, BOB)).forgotten_at is not None


async def test_only_a_rejection_that_is_remembered_can_be_forgotten(desk: Desk) -> None:
    said_no = await rejected(desk)
    await desk.approvals.reviews.forget(said_no.id, CAROL)
    others = [said_no, await desk.held(asked=desk.call(key=1)), await desk.approved(asked=desk.call(key=2))]
    too_old = await desk.review(await desk.held(asked=desk.call(key=3)), ALICE, Decision.REJECT)
    desk.clock.advance(Rules().reject_memory)
    for approval in (*others, too_old):
        with pytest.raises(TransitionRefused, match="no rejection that is remembered"):
            await desk.approvals.reviews.forget(approval.id, CAROL)
    with pytest.raises(NotFound):
        await desk.approvals.reviews.forget("apr_0", CAROL)
