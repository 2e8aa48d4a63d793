"""Where a task stands, by all that is known of it, and what its tool asks for in each round."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.domain.approvals import Approval, Caller, Cause, State
from broker.domain.moves import await_input, continue_with_input, withdraw
from broker.domain.standing import standing
from broker.domain.tasks import Questions, Task, TaskStatus
from tests.clock import NOON
from tests.domain.values import LEASE, QUARTER, held, in_state

DAY = timedelta(days=1)
ASKED = Questions.of("s", {"a": {"method": "m"}, "b.c": {"method": "n"}}, 3)


def task(approval: Approval, **more: Any) -> Task:
    return Task(replace(approval, caller=Caller.TASK), NOON, NOON + DAY, **more)


def asking() -> Approval:
    return await_input(in_state(State.EXECUTING), "mark", NOON + QUARTER)


@pytest.mark.parametrize("state", State)
def test_a_task_works_until_its_approval_ends_and_is_completed_then(state: State) -> None:
    expected = TaskStatus.COMPLETED if state.final else TaskStatus.WORKING
    assert task(in_state(state)).status is expected


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize(("answer", "status"), [({"result": {}}, "completed"), ({"error": {}}, "failed")])
def test_what_the_server_answered_is_how_it_ended_whenever_it_came(
    state: State, answer: dict[str, Any], status: str
) -> None:
    assert task(in_state(state), answer=answer, called_off=True).status == status


def test_only_what_its_agent_cancelled_is_cancelled() -> None:
    assert task(withdraw(held(), Cause.TASK, NOON)).status is TaskStatus.CANCELLED
    assert task(withdraw(held(), Cause.POLICY, NOON)).status is TaskStatus.COMPLETED
    assert task(in_state(State.INTERRUPTED), called_off=True).status is TaskStatus.CANCELLED
    assert task(in_state(State.EXECUTING), called_off=True).status is TaskStatus.WORKING


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_what_ran_is_not_cancelled_though_its_answer_is_lost(state: State) -> None:
    assert task(in_state(state), called_off=True).status is TaskStatus.COMPLETED


def test_input_is_required_while_its_tool_waits_and_something_is_outstanding() -> None:
    assert task(asking(), questions=ASKED).status is TaskStatus.INPUT_REQUIRED
    assert task(asking(), questions=ASKED.answered({"3.a": 1})).status is TaskStatus.INPUT_REQUIRED
    assert task(asking(), questions=ASKED.answered({"3.a": 1, "3.b.c": 2})).status is TaskStatus.WORKING
    assert task(in_state(State.EXECUTING), questions=ASKED).status is TaskStatus.WORKING  # it was brought


def test_input_goes_back_under_the_tools_own_keys_and_only_what_was_asked_does() -> None:
    answered = ASKED.answered({"3.a": 1, "a": 2, "2.a": 3, "3.b": 4}).answered({"3.a": 5, "3.b.c": {"x": None}})
    assert answered.brought() == {"inputResponses": {"a": 1, "b.c": {"x": None}}, "requestState": "s"}
    assert Questions.of(None, {}, 1).brought() == {}
    assert Questions.of("s", None, 1).brought() == {"requestState": "s"}


def test_a_task_stays_a_task_when_its_call_goes_on() -> None:
    waiting = replace(asking(), caller=Caller.TASK)
    assert continue_with_input(waiting, ["mark"], "proc_2", NOON, LEASE).caller is Caller.TASK


def test_people_read_that_the_agent_of_a_task_asks_from_time_to_time() -> None:
    pending = standing(replace(held(), caller=Caller.TASK))
    assert pending.agent([]) == "The agent asks for the result from time to time."
    assert pending.marks == []
    approved = standing(replace(in_state(State.APPROVED), caller=Caller.TASK))
    assert approved.sentence([]).startswith("It runs now, or is tried again until ")
    assert standing(withdraw(held(), Cause.TASK, NOON)).sentence([]) == "The agent cancelled its task. Nothing ran."
