"""The stream of events."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.domain.approvals import Decision
from broker.domain.people import Role
from broker.store import people
from broker.store.people import CredentialKind
from broker.store.writer import Transaction
from tests.web.desk import Desk, person
from tests.web.stream import listening

EVENTS = "/api/v1/events"


async def test_what_happens_to_approvals_is_told_without_their_arguments(desk: Desk) -> None:
    async with listening(desk.app, await desk.browser("approver"), EVENTS) as heard:
        assert await heard.event() == ("ready", {})
        held = await desk.hold(arguments={"secret": "hush"})
        name, told = await heard.event()
        assert (name, told["id"], told["kind"], told["state"]) == (
            "created",
            held.id,
            "approval.submitted",
            "pending",
        )
        assert "hush" not in str(told)
        await desk.approvals.requests.abandon(held.id, "lost")
        assert (await heard.event())[0] == "changed"
        await desk.approvals.reviews.review(held.id, person("approver"), Decision.APPROVE, channel="web")
        name, told = await heard.event()
        assert (name, told["state"]) == ("resolved", "approved")


async def test_nothing_between_ready_and_the_next_look_is_missed(desk: Desk) -> None:
    async with listening(desk.app, await desk.browser("approver"), EVENTS) as heard:
        assert (await heard.piece() or "").startswith("event: ready")
        ids = [(await desk.hold()).id for _ in range(20)]
        assert [(await heard.event())[1]["id"] for _ in ids] == ids


async def test_who_hears_nothing_for_a_while_is_told_that_there_was_nothing(desk: Desk) -> None:
    async with listening(desk.app, await desk.browser("approver"), EVENTS) as heard:
        assert await heard.piece() == "event: ready\ndata: {}\n\n"
        assert await heard.piece() == "event: beat\ndata: {}\n\n"


def sign_out(tx: Transaction, session: str) -> None:
    people.end(tx, "approver@example.com", session)


def take_the_role(tx: Transaction, session: str) -> None:
    people.save(tx, "cli:test", "approver@example.com", frozenset({Role.POLICY_MANAGER}), frozenset())


def remove(tx: Transaction, session: str) -> None:
    people.remove(tx, "cli:test", "approver@example.com")


@pytest.mark.parametrize("how", [sign_out, take_the_role, remove])
async def test_who_may_not_see_the_queue_any_more_stops_hearing_of_it(
    desk: Desk, how: Callable[[Transaction, str], None]
) -> None:
    new = await desk.store.write(
        lambda tx: people.issue(tx, "cli:test", CredentialKind.SESSION, "approver@example.com")
    )
    client = desk.client(Cookie=f"broker_session={new.secret}")
    async with listening(desk.app, client, EVENTS) as heard:
        assert await heard.event() == ("ready", {})
        await desk.store.write(lambda tx: how(tx, new.credential.id))
        await heard.end()


async def test_the_stream_ends_when_the_feed_stops(desk: Desk) -> None:
    async with listening(desk.app, await desk.browser("approver"), EVENTS) as heard:
        assert await heard.event() == ("ready", {})
        desk.following.cancel()
        await heard.end()
