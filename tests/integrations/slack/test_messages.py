"""What can be done from a message, and what it says of itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from broker.approvals.notices import Remark
from broker.domain.approvals import Approval, State
from broker.domain.audit import Kind
from broker.domain.calls import Requirement, Risk
from broker.domain.seen import seen_digest
from integrations.slack.choices import APPROVE, OPEN, REJECT, Choice
from integrations.slack.messages import message
from integrations.slack.modals import reason_in, reason_modal
from integrations.slack.remarks import remark
from integrations.slack.replies import waiting_list
from tests.clock import NOON
from tests.domain.values import in_state
from tests.integrations.slack.drawing import Json, drawn
from tests.integrations.slack.scenes import PLACE, asked, call, notice, row, states


def buttons(approval: Approval, place: str = PLACE) -> list[Json]:
    """The buttons of its message."""
    blocks = message(notice(approval), place).blocks
    return [button for block in blocks if block["type"] == "actions" for button in block["elements"]]


def test_approve_and_reject_stand_in_this_order_and_carry_what_they_decide_about() -> None:
    approve, reject, card = buttons(asked(revision="e" * 64))
    assert [button["action_id"] for button in (approve, reject, card)] == [APPROVE, REJECT, OPEN]
    assert (approve["style"], reject["style"]) == ("primary", "danger")
    wanted = Choice("apr_5ad1f0c2", "e" * 64, seen_digest(asked(revision="e" * 64)))
    assert Choice.decode(approve["value"]) == Choice.decode(reject["value"]) == wanted
    assert card["url"] == notice(asked()).url


@pytest.mark.parametrize("state", [state for state in State if state is not State.PENDING])
def test_there_are_no_buttons_once_people_have_nothing_to_decide(state: State) -> None:
    assert buttons(in_state(state)) == []
    assert notice(in_state(state)).url in drawn(message(notice(in_state(state)), PLACE).blocks)


@pytest.mark.parametrize(
    ("approval", "place"),
    [
        (asked(Requirement(channels=("web",))), PLACE),
        (asked(Requirement(channels=("slack:#other",))), PLACE),
        (asked(risk=Risk.CRITICAL), PLACE),
    ],
)
def test_where_it_may_not_be_decided_there_is_only_a_way_to_the_card(approval: Approval, place: str) -> None:
    [card] = buttons(approval, place)
    assert (card["action_id"], card["url"]) == (OPEN, notice(approval).url)
    assert "not be decided here" in drawn(message(notice(approval), place).blocks)


def test_a_critical_call_is_decided_in_slack_where_its_policy_says_so() -> None:
    assert len(buttons(asked(Requirement(channels=("slack",)), risk=Risk.CRITICAL))) == 3


def test_the_digest_of_what_is_shown_goes_with_the_message_and_stays() -> None:
    assert {message(notice(replace(each, call=call())), PLACE).shown for _, each in states()} > {seen_digest(asked())}


def test_a_short_call_needs_no_file() -> None:
    assert message(notice(asked()), PLACE).whole is None


@pytest.mark.parametrize("value", ["", "null", "[]", "{}", '{"approval_id":1,"revision":"r","shown":"s"}', "APPROVE"])
def test_what_is_no_choice_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"no choice|Expecting value"):
        Choice.decode(value)


def test_deadlines_are_in_the_time_of_the_reader() -> None:
    elements = [element for block in message(notice(asked()), PLACE).blocks for element in _elements(block)]
    [date] = [element for element in elements if element["type"] == "date"]
    assert date["timestamp"] == NOON.timestamp() + 15 * 60
    assert date["fallback"] == "2026-07-28 12:15:00 UTC"


def _elements(block: Json) -> list[Json]:
    return [element for part in block["elements"] if "elements" in part for element in part["elements"]]


def test_nothing_is_said_of_a_call_that_was_just_held() -> None:
    assert remark(Remark(row(Kind.APPROVAL_SUBMITTED, "agent:grant_1"), notice(asked())), ()) is None


def test_an_empty_list_says_so() -> None:
    assert drawn(waiting_list([]).blocks) == "Nothing waits for you."


@pytest.mark.parametrize(("written", "read"), [("  no \n", "no"), ("   ", None), (None, None), ("x", "x")])
def test_a_reason_is_read_from_the_modal_that_asked_for_it(written: str | None, read: str | None) -> None:
    [field] = [block for block in reason_modal(notice(asked()), "{}")["blocks"] if block["type"] == "input"]
    state: dict[str, Any] = {field["block_id"]: {field["element"]["action_id"]: {"value": written}}}
    assert reason_in({"state": {"values": state}}) == read


@pytest.mark.parametrize("arguments", [["rm", "-rf"], "rm -rf", "[redacted]"])
def test_arguments_that_are_no_object_are_shown_too(arguments: Any) -> None:
    approval = asked(call=replace(call(), params={"arguments": arguments}))
    shown = (message(notice(approval), PLACE).blocks, reason_modal(notice(approval), "{}")["blocks"])
    listed = waiting_list([notice(approval)]).blocks
    assert all("redacted" in drawn(each) or "rm" in drawn(each) for each in (*shown, listed))
