"""Tasks on the wire: what a person is told of them fits what clients show; of a capability nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.domain import waiting
from broker.domain.approvals import Approval, State
from broker.domain.calls import Requirement
from broker.domain.tasks import Task
from broker.gateway.task_shapes import advertised, detailed, without_tasks
from tests.clock import NOON
from tests.domain.values import ALICE, MINUTE, held, in_state, reviewed
from tests.gateway.tasking import CAPABLE, EXTENSION, whole_task

DAY = timedelta(days=1)
URL = "https://broker.example.com/approvals/apr_1"


def told(approval: Approval, **more: Any) -> dict[str, Any]:
    """What a get tells, a minute after noon."""
    task = Task(approval, NOON, approval.created_at + DAY, **more)
    return whole_task(detailed(task, NOON + MINUTE, URL))


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("more", [{}, {"called_off": True}, {"answer": {"error": {"code": 1, "message": "m"}}}])
def test_whatever_state_it_is_in_a_task_is_in_shape(state: State, more: dict[str, Any]) -> None:
    shape = told(in_state(state), **more)
    assert (shape["taskId"], shape["ttlMs"]) == ("apr_1", 86_400_000)


def test_while_it_waits_a_task_tells_what_progress_does() -> None:
    approval = reviewed(held(Requirement(("alice@example.com", "desktop-owners"), quorum=2)), ALICE)
    said = told(approval)["statusMessage"]
    assert said == waiting.message(approval, NOON + MINUTE, URL)
    assert said.startswith("1 of 2 approved, waiting for desktop-owners, 14 min left: ")


def test_what_was_approved_is_said_to_run_only_once_it_was_claimed() -> None:
    assert told(in_state(State.APPROVED))["statusMessage"] == "Approved; it runs as soon as it can be sent."
    assert told(in_state(State.EXECUTING))["statusMessage"] == "Approved; it runs."


def test_it_is_never_said_of_what_ran_that_nothing_did() -> None:
    shape = told(in_state(State.SUCCEEDED), called_off=True)
    assert "statusMessage" not in shape
    assert shape["result"]["content"][0]["text"].startswith("The call ran,")


@pytest.mark.parametrize("tool", ["send", "s" * 500, "\u202e" * 300])
def test_of_what_was_cut_off_a_person_is_told_what_is_known(tool: str) -> None:
    interrupted = in_state(State.INTERRUPTED)
    interrupted = replace(interrupted, call=replace(interrupted.call, tool=tool))
    shape, unknown = told(interrupted, began_at=NOON), told(interrupted)
    began = " was started at 2026-07-28 12:00:00 UTC, and may or may not have run."
    assert shape["statusMessage"].endswith(f"{began} Look at its effect.")
    assert began in shape["result"]["content"][0]["text"]
    assert unknown["statusMessage"].endswith(" may or may not have run. Look at its effect.")
    if tool == "send":
        assert shape["statusMessage"].startswith("send was started")


def test_of_what_a_client_declares_only_tasks_are_taken_out() -> None:
    capabilities = {"roots": {}, "extensions": {EXTENSION: {"a": 1}, "x/y": {}}}
    meta = {"io.modelcontextprotocol/clientCapabilities": capabilities, "own": 1}
    left = without_tasks({"name": "n", "_meta": meta})
    assert left["_meta"]["io.modelcontextprotocol/clientCapabilities"] == {"roots": {}, "extensions": {"x/y": {}}}
    assert (left["name"], left["_meta"]["own"]) == ("n", 1)
    for params in ({}, {"_meta": None}, {"_meta": {"own": CAPABLE}}):
        assert without_tasks(params) is params


def test_what_names_the_extension_already_is_left_as_it_is() -> None:
    response = {"result": {"capabilities": {"extensions": {EXTENSION: {"own": 1}}}}}
    assert advertised(response) is response
