"""Held calls live through `kill -9` of the broker wherever it strikes: nothing runs twice, and nothing is forgotten."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.domain.approvals import State
from broker.domain.audit import timestamp
from broker.stop_points import VARIABLE, Point
from tests.cli.conftest import Shell
from tests.crashes.caller import Caller
from tests.crashes.house import ALICE, BOB, House, Left, Running
from tests.servers.scripted import Slow

PENDING, APPROVED, EXPIRED = State.PENDING, State.APPROVED, State.EXPIRED
EXECUTING, SUCCEEDED, INTERRUPTED = State.EXECUTING, State.SUCCEEDED, State.INTERRUPTED


# -- before it is claimed ---------------------------------------------------------------------------------------------


async def test_of_a_call_that_was_not_submitted_yet_nothing_is_left(house: House) -> None:
    caller = await house.caller()
    async with house.dying(Point.BEFORE_SUBMIT) as broker:
        broker.asks(caller)
    assert await house.left(caller) == Left([], (0, 0), 0)
    async with house.broker() as broker:
        await broker.runs_for_its_retry(caller)
    assert await house.left(caller) == Left([SUCCEEDED], (0, 1), 1)


async def test_what_was_submitted_is_pending_and_the_retry_picks_it_up(house: House) -> None:
    caller = await house.caller()
    async with house.dying(Point.AFTER_SUBMIT) as broker:
        broker.asks(caller)
    assert await house.left(caller) == Left([PENDING], (1, 0), 0)
    async with house.broker() as broker:
        await is_as_it_was(broker, house, caller)
        await broker.runs_for_its_retry(caller)
    assert await house.left(caller) == Left([SUCCEEDED], (0, 1), 1)


@pytest.mark.parametrize("client", ["SDK modern", "SDK legacy"])
async def test_what_waits_when_the_broker_dies_waits_on_and_any_clients_retry_picks_it_up(
    house: House, client: str
) -> None:
    caller = await house.caller(client)
    async with house.dying() as broker:
        broker.asks(caller)
        await broker.approval(caller, PENDING)
    assert await house.left(caller) == Left([PENDING], (1, 0), 0)
    async with house.broker() as broker:
        await is_as_it_was(broker, house, caller)
        await broker.runs_for_its_retry(caller)
    assert await house.left(caller) == Left([SUCCEEDED], (0, 1), 1)


async def test_the_first_of_two_votes_outlives_the_broker(house: House) -> None:
    caller = await house.caller("legacy")
    async with house.dying() as broker:
        broker.asks(caller, "act_together")
        await broker.approve(await broker.approval(caller, PENDING), ALICE)
    async with house.broker() as broker:
        await is_as_it_was(broker, house, caller)
        retry = broker.asks(caller, "act_together")
        await broker.approve(await broker.approval(caller, PENDING), BOB)
        assert (await retry)["reviewers"] == [ALICE.email, BOB.email]
    assert await house.left(caller) == Left([SUCCEEDED], (0, 1), 1)


async def test_what_was_approved_and_not_claimed_runs_once_for_the_retry(house: House) -> None:
    caller = await house.caller()
    async with house.dying(Point.AFTER_DECIDING_VOTE) as broker:
        broker.asks(caller)
        await broker.approve(await broker.approval(caller, PENDING))
    assert await house.left(caller) == Left([APPROVED], (1, 0), 0)
    async with house.broker() as broker:
        await is_as_it_was(broker, house, caller)
        assert (await broker.asks(caller))["status"] == "approved"
    assert await house.left(caller) == Left([SUCCEEDED], (0, 1), 1)


async def test_what_nobody_answered_while_the_broker_was_down_is_expired_and_the_retry_asks_anew(house: House) -> None:
    caller = await house.caller()
    async with house.dying() as broker:
        broker.asks(caller, "act_soon")
        await broker.approval(caller, PENDING)
    (waiting,) = await house.approvals(caller)
    await asyncio.sleep((waiting.deadline - datetime.now(UTC)).total_seconds())  # nothing but time tells of it
    async with house.broker() as broker:
        over = await broker.approval(caller, EXPIRED, "gone")
        assert over["resolution"]["cause"] == "unanswered"
        broker.asks(caller, "act_soon")
        assert (await broker.approval(caller, PENDING))["id"] != waiting.id
        assert await house.left(caller) == Left([EXPIRED, PENDING], (1, 0), 0)


# -- after it was claimed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("point", "effects"), [(Point.BETWEEN_CLAIM_AND_DISPATCH, 0), (None, 1), (Point.BEFORE_RESULT_IS_STORED, 1)]
)
async def test_what_was_begun_is_never_run_again_and_people_are_told_that_nobody_knows_its_outcome(
    house: House, point: Point | None, effects: int
) -> None:
    """Without a point the broker is killed while the server is at it."""
    caller, slow = await house.caller(), Slow(house.server)
    if point is not None:
        slow.end.set()
    async with house.dying(point) as broker:
        broker.asks(caller)
        await broker.approve(await broker.approval(caller, PENDING))
        if point is None:
            await slow.began.wait()
    slow.end.set()
    assert await house.left(caller) == Left([EXECUTING], (0, 1), effects)
    async with house.broker() as broker:
        await broker.is_told_as_unknown(caller)
        broker.asks(caller)
        await broker.approval(caller, PENDING)
        assert await house.left(caller) == Left([INTERRUPTED, PENDING], (1, 1), effects), "the retry asks anew"


async def test_a_result_that_was_stored_and_not_sent_is_known_and_the_approval_is_used(house: House) -> None:
    caller = await house.caller()
    async with house.dying(Point.BEFORE_RESULT_IS_SENT) as broker:
        broker.asks(caller)
        await broker.approve(await broker.approval(caller, PENDING))
    assert await house.left(caller) == Left([SUCCEEDED], (0, 1), 1)
    async with house.broker() as broker:
        ran = await broker.approval(caller, SUCCEEDED)
        assert "What the server answered" in await broker.get(f"/approvals/{ran['id']}")
        broker.asks(caller)
        await broker.approval(caller, PENDING)
        assert await house.left(caller) == Left([SUCCEEDED, PENDING], (1, 1), 1), "the retry asks anew"


# -- what all of them have in common ----------------------------------------------------------------------------------


async def is_as_it_was(broker: Running, house: House, caller: Caller) -> None:
    """The agent's approval is after the crash what it was before, except that nobody waits for it."""
    (before,) = await house.approvals(caller)
    after = await broker.approval(caller, before.state, "gone")
    assert after["id"] == before.id
    assert after["deadline"] == timestamp(before.deadline)
    assert after["execute_by"] == (timestamp(before.execute_by) if before.execute_by else None)
    assert [given["by"] for given in after["reviews"]] == [given.by for given in before.reviews]


# -- the flag that all of this hangs on -------------------------------------------------------------------------------


def test_a_point_that_does_not_exist_stops_the_start(tmp_path: Path) -> None:
    said = Shell(tmp_path).refused("serve", status=2, **{VARIABLE: "lunch"})
    assert f"{VARIABLE} in the environment: there is no point 'lunch' to stop at, only before_submit, " in said
