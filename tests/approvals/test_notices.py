"""What people outside are told of approvals, and where, when every message gets through."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from broker.approvals.ledger import Rules
from broker.approvals.notices import places
from broker.approvals.sweeps import sweep
from broker.domain.approvals import Decision, State
from broker.domain.audit import Kind
from broker.domain.calls import Escalation, Requirement
from broker.domain.people import Role
from broker.domain.redaction import MASK
from broker.store import people
from broker.store.people import CredentialKind
from broker.store.writer import Store
from tests.approvals.desk import Desk
from tests.approvals.office import MAIN, Office, open_office
from tests.approvals.test_redaction import SECRET, hold_redacted, secret_call
from tests.domain.values import ALICE, BOB, DEFINITION, QUARTER
from tests.servers.board import Message

MINUTE = timedelta(minutes=1)

on_one_store = pytest.mark.parametrize("new_store_url", ["sqlite"], indirect=True)


def kinds(message: Message) -> list[str]:
    return [each["kind"] for each in message.below]


# -- one approval -----------------------------------------------------------------------------------------------------


async def test_one_message_shows_an_approval_however_it_changes(office: Office) -> None:
    approval = await office.held(quorum=2)
    await office.deliver()
    message = office.the(approval)
    assert (message.text["state"], message.text["votes"]) == ("pending", [])
    assert message.text["url"].endswith(approval.id)
    desk = office.desk
    steps = (
        lambda: office.decided(approval, ALICE),
        lambda: office.decided(approval, BOB),
        lambda: desk.claim(approval),
        lambda: desk.approvals.requests.abandon(approval.id, "lost"),
        lambda: desk.approvals.claims.finish(approval.id, failed=False),
    )
    for step in steps:
        await step()
        assert not await office.is_shown(approval, message)
        await office.deliver()
        assert await office.is_shown(approval, office.the(approval))
    assert (message.text["state"], message.text["caller"]) == ("succeeded", "gone")
    assert await office.waiting() == set()


async def test_what_happens_is_remarked_on_in_the_thread_in_order_and_once(office: Office) -> None:
    approval = await office.held(quorum=2)
    await office.deliver()
    await office.decided(approval, ALICE)
    await office.decided(approval, BOB)
    await office.deliver()
    await office.desk.claim(approval)
    result = {"content": [{"type": "text", "text": "moved"}]}
    await office.desk.approvals.claims.finish(approval.id, failed=False, result=result)
    await office.deliver()
    below = office.the(approval).below
    assert [(each["kind"], each["by"], each["answer"]) for each in below] == [
        ("approval.reviewed", ALICE.email, None),
        ("approval.approved", BOB.email, None),
        ("approval.succeeded", "broker", result),
    ]
    asked = len(office.board.asked)
    await office.deliver()
    assert len(office.board.asked) == asked


@on_one_store
async def test_a_rejection_is_told_with_who_and_why(office: Office) -> None:
    approval = await office.held()
    await office.deliver()
    reviews = office.desk.approvals.reviews
    await reviews.review(approval.id, ALICE, Decision.REJECT, channel="web", reason="not on a Friday")
    await office.deliver()
    [told] = office.the(approval).below
    assert (told["kind"], told["by"], told["reason"]) == ("approval.rejected", ALICE.email, "not on a Friday")


async def test_a_late_outcome_of_an_interrupted_call_is_told(office: Office) -> None:
    approval = await office.held()
    await office.deliver()
    await office.decided(approval, ALICE)
    await office.desk.claim(approval)
    await office.desk.approvals.claims.interrupt(approval.id, "the server went away")
    await office.deliver()
    await office.desk.approvals.claims.finish(approval.id, failed=False, result={"content": []})
    await office.deliver()
    assert kinds(office.the(approval)) == ["approval.approved", "approval.interrupted", "approval.late"]
    assert office.the(approval).below[-1]["answer"] == {"content": []}


async def test_reminders_and_escalations_call_those_who_are_asked(office: Office) -> None:
    late = Escalation(QUARTER / 3, ("oncall", "carol@example.com"))
    approval = await office.held(approvers=(ALICE.email,), escalate=late)
    await office.deliver()
    for minutes in (5, 3):
        office.desk.clock.advance(minutes * MINUTE)
        await sweep(office.desk.approvals)
        await office.deliver()
    mentioned = [(each["kind"], each["mentions"]) for each in office.the(approval).below]
    assert mentioned == [
        ("approval.escalated", ["oncall", "carol@example.com"]),
        ("approval.reminded", [ALICE.email, "oncall", "carol@example.com"]),
    ]
    assert office.the(approval).text["escalated"] is True


@on_one_store
async def test_nobody_is_called_to_what_is_decided_meanwhile(office: Office) -> None:
    approval = await office.held()
    await office.deliver()
    office.desk.clock.advance(QUARTER / 2)
    await sweep(office.desk.approvals)
    await office.decided(approval, ALICE)
    await office.deliver()
    assert kinds(office.the(approval)) == ["approval.approved"]


@on_one_store
@pytest.mark.parametrize("end", ["rejected", "expired", "withdrawn", "succeeded"])
async def test_what_is_over_before_anybody_saw_it_is_not_posted(office: Office, end: str) -> None:
    approval = await office.held()
    if end == "expired":
        office.desk.clock.advance(QUARTER)
        await sweep(office.desk.approvals)
    else:
        await office.decided(approval, ALICE, Decision.REJECT if end == "rejected" else Decision.APPROVE)
    if end == "withdrawn":
        await office.desk.approvals.requests.abandon(approval.id, "cancelled")
        office.desk.clock.advance(Rules().retry_grace)
        await sweep(office.desk.approvals)
    elif end == "succeeded":
        await office.desk.claim(approval)
        await office.desk.approvals.claims.finish(approval.id, failed=False)
    assert (await office.desk.approvals.get(approval.id)).state == end
    await office.deliver()
    assert office.board.asked == []
    assert await office.waiting() == set()


@on_one_store
async def test_what_may_have_run_is_posted_however_late(office: Office) -> None:
    approval = await office.held()
    await office.decided(approval, ALICE)
    await office.desk.claim(approval)
    await office.desk.approvals.claims.interrupt(approval.id, "the server went away")
    await office.deliver()
    assert office.the(approval).text["state"] == State.INTERRUPTED
    assert kinds(office.the(approval)) == ["approval.approved", "approval.interrupted"]


# -- where ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "approvers", "where"),
    [
        ((), (), [MAIN]),
        (("slack",), (), [MAIN]),
        (("web", "slack:#desktop", "api"), (), ["slack:#desktop"]),
        (("slack:#desktop", "slack"), (), ["slack:#desktop", MAIN]),
        (("slack", MAIN), (), [MAIN]),
        (("slack:@ann@example.com",), (), ["slack:@ann@example.com"]),
        (("web", "api"), (ALICE.email,), []),
        (("slacker",), (), []),
        ((), ("owners", ALICE.email), [MAIN, "slack:@alice@example.com"]),
        (("slack:#desktop",), (ALICE.email,), ["slack:#desktop", "slack:@alice@example.com"]),
    ],
)
def test_an_approval_is_told_where_its_rule_says_and_to_those_whom_it_names(
    channels: tuple[str, ...], approvers: tuple[str, ...], where: list[str]
) -> None:
    slack = Place("slack", MAIN, direct=True)
    found = list(places([slack], Requirement(channels=channels, approvers=approvers)))
    assert found == [("slack", place) for place in where]


def test_people_are_told_themselves_only_where_a_channel_reaches_people() -> None:
    both = [Place("slack", MAIN, direct=False), Place("hook", "hook", direct=False)]
    assert list(places(both, Requirement(approvers=(ALICE.email,)))) == [("slack", MAIN), ("hook", "hook")]


class Place:
    """A channel that is never used."""

    def __init__(self, name: str, default: str, *, direct: bool) -> None:
        self.name, self.default, self.direct = name, default, direct

    async def show(self, place: str, notice: Any, reference: Any) -> Any:
        raise NotImplementedError

    async def say(self, place: str, remark: Any, thread: Any) -> None:
        raise NotImplementedError


async def test_each_place_has_a_message_of_its_own_and_all_show_the_same(office: Office) -> None:
    where = ("slack:#desktop", "slack:@ann@example.com")
    approval = await office.held(*where, "web")
    await office.deliver()
    await office.decided(approval, ALICE)
    await office.deliver()
    for place in where:
        assert await office.is_shown(approval, office.the(approval, place))
        assert kinds(office.the(approval, place)) == ["approval.approved"]
    assert office.board.at(MAIN) == []


async def test_without_channels_nothing_is_owed(desk: Desk) -> None:
    await desk.review(await desk.held(), ALICE)
    counted = sa.text("SELECT count(*) FROM notices")
    assert await desk.store.read(lambda session: session.connection().execute(counted).scalar_one()) == 0


async def test_what_changed_while_a_channel_was_switched_off_is_told_when_it_is_back(office: Office) -> None:
    approval = await office.held()
    await office.deliver()
    office.desk.approvals = office.desk.service(channels=[])
    await office.decided(approval, ALICE)
    await office.restart()
    await office.deliver()
    assert await office.is_shown(approval, office.the(approval))
    assert kinds(office.the(approval)) == ["approval.approved"]


# -- announcements ----------------------------------------------------------------------------------------------------


async def link(store: Store, email: str = ALICE.email) -> None:
    hour = timedelta(hours=1)
    await store.write(lambda tx: people.issue(tx, "cli:root", CredentialKind.LINK, email, lifetime=hour))


async def test_who_gives_away_power_is_told_whichever_process_it_was(office: Office, other_store: Store) -> None:
    await link(other_store)
    await other_store.write(
        lambda tx: people.save(tx, "cli:root", "eve@example.com", frozenset({Role.ADMIN}), frozenset())
    )
    await office.deliver()
    assert [(each.text["kind"], each.text["by"]) for each in office.board.at(MAIN)] == [
        ("link.created", "cli:root"),
        ("person.saved", "cli:root"),
    ]


async def test_what_was_done_before_there_was_a_channel_is_not_announced(desk: Desk) -> None:
    await link(desk.store)
    async with open_office(desk) as office:
        await office.deliver()
        assert office.board.asked == []


async def test_what_was_done_while_the_broker_was_down_is_announced_once(office: Office) -> None:
    await link(office.desk.store)
    for _ in range(2):
        await office.restart()
        await office.deliver()
    assert [each.text["kind"] for each in office.board.at(MAIN)] == ["link.created"]


async def test_announcements_follow_the_default_place(office: Office) -> None:
    await link(office.desk.store)
    office.channel.default = "slack:#elsewhere"
    await office.restart()
    await office.deliver()
    assert [message.place for message in office.board.messages.values()] == ["slack:#elsewhere"]


@on_one_store
async def test_an_announcement_carries_no_secret(office: Office) -> None:
    hour = timedelta(hours=1)
    store = office.desk.store
    made = await store.write(lambda tx: people.issue(tx, "cli:root", CredentialKind.LINK, ALICE.email, lifetime=hour))
    await office.deliver()
    [message] = office.board.at(MAIN)
    assert made.credential.id in message.text["whole"]
    assert made.secret not in message.text["whole"]


# -- what is masked ---------------------------------------------------------------------------------------------------


@on_one_store
@pytest.mark.parametrize("end", ["succeeded", "failed", "interrupted", "released", "late"])
async def test_what_a_policy_masks_reaches_no_channel(office: Office, end: str) -> None:
    desk = office.desk
    verdict = replace(hold_redacted(), reason="it moves money")
    approval = await desk.held(verdict, secret_call(desk))
    assert approval.sealed is not None
    await office.deliver()
    await office.decided(approval, ALICE)
    await desk.claim(approval)
    await office.deliver()
    echo = {"content": [{"type": "text", "text": f"you said {SECRET}"}], "isError": end == "failed"}
    if end == "released":
        await desk.approvals.claims.release(approval.id, "it could not be reached")
        await desk.approvals.claims.claim(approval.id, lambda _call: verdict, DEFINITION)
    if end in ("interrupted", "late"):
        await desk.approvals.claims.interrupt(approval.id, "it went away")
    if end != "interrupted":
        await desk.approvals.claims.finish(approval.id, failed=end == "failed", result=echo)
    await office.deliver()
    asked = repr(office.board.asked)
    assert office.the(approval).text["state"] == (await desk.approvals.get(approval.id)).state
    assert "ann" in asked
    assert MASK in asked
    assert SECRET not in asked
    assert approval.sealed not in asked
    assert {Kind(each) for each in kinds(office.the(approval))} >= {Kind.APPROVAL_APPROVED}
