"""Tasks live through `kill -9` of the broker: what an agent was given the id of is kept, and runs once for nobody."""

from __future__ import annotations

import pytest

from broker.domain.answers import META_KEY
from broker.domain.approvals import State
from broker.stop_points import Point
from tests.crashes.caller import Caller
from tests.crashes.house import House, Left, Running
from tests.gateway.tasking import TaskClient

SUCCEEDED, INTERRUPTED = State.SUCCEEDED, State.INTERRUPTED


def client(broker: Running, caller: Caller) -> TaskClient:
    """The agent, at this broker."""
    caller.agent.url = broker.process.url
    return TaskClient(caller.agent)


async def begun(broker: Running, caller: Caller) -> str:
    """A task of the agent."""
    return (await client(broker, caller).begin("act", {"who": caller.id}))["taskId"]


async def test_a_task_that_its_agent_was_told_of_outlives_the_broker_and_runs_when_people_say_so(house: House) -> None:
    caller = await house.caller()
    async with house.dying() as broker:
        task = await begun(broker, caller)
    assert await house.left(caller) == Left([State.PENDING], (1, 0), 0)
    async with house.broker() as broker:
        assert (await client(broker, caller).get(task))["status"] == "working"
        await broker.approve(await broker.approval(caller, State.PENDING, "task"))
        told = await client(broker, caller).until(task, "completed")
        assert told["result"]["_meta"][META_KEY]["status"] == "approved"
    assert await house.left(caller) == Left([SUCCEEDED], (0, 1), 1)


async def test_what_was_approved_when_the_broker_died_runs_once_though_nobody_asks(house: House) -> None:
    caller = await house.caller()
    async with house.dying(Point.AFTER_DECIDING_VOTE) as broker:
        task = await begun(broker, caller)
        await broker.approve(await broker.approval(caller, State.PENDING, "task"))
    async with house.broker() as broker:
        assert (await broker.approval(caller, SUCCEEDED, "task"))["id"] == task
    assert await house.left(caller) == Left([SUCCEEDED], (0, 1), 1)


@pytest.mark.parametrize(
    ("point", "state", "status", "effects"),
    [
        (Point.BETWEEN_CLAIM_AND_DISPATCH, INTERRUPTED, "interrupted", 0),
        (Point.BEFORE_RESULT_IS_SENT, SUCCEEDED, "approved", 1),
    ],
)
async def test_what_had_begun_is_never_run_again_and_its_agent_hears_what_is_known(
    house: House, point: Point, state: State, status: str, effects: int
) -> None:
    caller = await house.caller()
    async with house.dying(point) as broker:
        task = await begun(broker, caller)
        await broker.approve(await broker.approval(caller, State.PENDING, "task"))
    async with house.broker() as broker:
        told = await client(broker, caller).get(task)
        assert (told["status"], told["result"]["_meta"][META_KEY]["status"]) == ("completed", status)
        card = await broker.get(f"/approvals/{task}")
        assert "stopped waiting" not in card
    assert await house.left(caller) == Left([state], (0, 1), effects)
