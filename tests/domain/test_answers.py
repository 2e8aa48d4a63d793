"""What an agent is told: the sentence, and the block for programs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.domain import answers
from broker.domain.answers import Answer, Status
from broker.domain.approvals import Cause, Decision, State
from broker.domain.calls import UNIT, Action, Requirement, Verdict
from broker.domain.moves import expire, withdraw
from tests.clock import NOON
from tests.domain.values import ALICE, BOB, MINUTE, QUARTER, charge, held, in_state, person, reviewed

KEYS = {
    "status",
    "retry",
    "retry_after",
    "approval_id",
    "reason",
    "rule",
    "cause",
    "review_url",
    "deadline",
    "reviewers",
}
RETRY = {
    Status.APPROVED: None,
    Status.DENIED: "never",
    Status.LIMITED: "later",
    Status.REJECTED: "never",
    Status.EXPIRED: "ask",
    Status.PENDING: "same",
    Status.WITHDRAWN: "ask",
    Status.INTERRUPTED: "check",
    Status.UNAVAILABLE: "later",
}
DENY = Verdict(Action.DENY, "tools.press.deny_if[0]", "not on this machine")


@pytest.mark.parametrize("status", list(Status))
def test_each_status_says_whether_to_try_again(status: Status) -> None:
    assert Answer(status=status, sentence="").meta().get("retry") == RETRY[status]


@pytest.mark.parametrize("status", list(Status))
def test_the_block_has_the_promised_keys_and_none_without_a_value(status: Status) -> None:
    bare = Answer(status=status, sentence="s").meta()
    assert set(bare) == {"status", "retry"} - ({"retry"} if status is Status.APPROVED else set())
    full = Answer(
        status=status,
        sentence="s",
        approval_id="apr_1",
        reason="r",
        rule="tools.press.action",
        cause="tool",
        review_url="http://127.0.0.1/approvals/apr_1",
        deadline=NOON,
        reviewers=("a@example.com",),
        retry_after=3,
    ).meta()
    assert set(full) | {"retry"} == KEYS
    assert full["deadline"] == "2026-07-28T12:00:00.000000Z"
    assert full["reviewers"] == ["a@example.com"]


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("not here", "Denied by policy: not here. Do not try it again."),
        ("This server has no such tool.", "Denied by policy: This server has no such tool. Do not try it again."),
        ("sure?", "Denied by policy: sure? Do not try it again."),
        (None, "Denied by policy: this call is not allowed. Do not try it again."),
    ],
)
def test_a_denial_gives_the_policys_reason_as_a_sentence(reason: str | None, sentence: str) -> None:
    told = answers.denied(replace(DENY, reason=reason))
    assert told.sentence == sentence
    assert told.meta().get("reason") == reason
    assert told.meta()["rule"] == DENY.rule


def test_when_nobody_may_decide_the_agent_learns_who_was_wanted() -> None:
    wanted = replace(DENY, requirement=Requirement(approvers=("desktop-owners", "alice@example.com")))
    assert "approval of desktop-owners, alice@example.com" in answers.nobody_eligible(wanted).sentence
    assert "people with the approver role" in answers.nobody_eligible(DENY).sentence
    assert answers.nobody_eligible(DENY).meta()["status"] == "denied"


@pytest.mark.parametrize(
    ("left", "seconds"),
    [
        (timedelta(microseconds=1), 1),
        (timedelta(seconds=1), 1),
        (timedelta(seconds=1, microseconds=1), 2),
        (timedelta(days=3650), 315360000),
        (timedelta(days=3650, microseconds=-1), 315360000),
    ],
)
def test_the_wait_for_a_slot_is_rounded_up_to_whole_seconds(left: timedelta, seconds: int) -> None:
    told = answers.limited(charge(), NOON + left, NOON)
    assert told.retry_after == seconds
    assert (
        told.sentence == f"Rate limit reached: at most 1 such call in a minute. Nothing ran. Try again in {seconds} s."
    )


def test_a_limit_without_a_known_end_says_later() -> None:
    told = answers.limited(replace(charge(), message="slow down."), None, NOON)
    assert told.sentence == "Rate limit reached: slow down. Nothing ran. Try again later."
    assert "retry_after" not in told.meta()


def test_a_limit_on_a_sum_names_its_counter() -> None:
    told = answers.limited(replace(charge(counter="spend", maximum=100), amount=5 * UNIT), None, NOON)
    assert told.sentence == "Rate limit reached: at most 100 of 'spend' in a minute. Nothing ran. Try again later."


def test_a_call_that_never_fits_is_told_so() -> None:
    told = answers.limited(replace(charge(maximum=100), amount=100 * UNIT + 1), None, NOON)
    assert told.sentence == (
        "Denied by policy: this call alone counts 100.000001, and at most 100 fit in a minute. Nothing ran. "
        "Do not try it again."
    )
    assert (told.status, told.meta()["retry"]) == (Status.DENIED, "never")


@pytest.mark.parametrize(
    ("seconds", "spelt"), [(1, "a second"), (60, "a minute"), (3600, "an hour"), (86400, "a day"), (90, "90 seconds")]
)
def test_a_window_is_spelt_in_words(seconds: int, spelt: str) -> None:
    told = answers.limited(charge(window=timedelta(seconds=seconds)), None, NOON)
    assert f"in {spelt}." in told.sentence


def test_a_rejection_names_the_person_and_the_reason() -> None:
    told = answers.of(in_state(State.REJECTED), "http://127.0.0.1/approvals/apr_1")
    assert told.sentence == ("Rejected by alice@example.com: not on a Friday. Nothing ran. Do not try this call again.")
    assert told.meta() == {
        "status": "rejected",
        "retry": "never",
        "approval_id": "apr_1",
        "reason": "not on a Friday",
        "rule": "tools.press.action",
        "review_url": "http://127.0.0.1/approvals/apr_1",
        "deadline": "2026-07-28T12:15:00.000000Z",
        "reviewers": ["alice@example.com"],
    }


def test_a_rejection_without_a_reason_says_so() -> None:
    told = answers.of(reviewed(held(), ALICE, Decision.REJECT))
    assert told.sentence.startswith("Rejected by alice@example.com, without a reason. Nothing ran.")


def test_unanswered_and_unused_are_told_apart() -> None:
    unanswered, unused = (
        answers.of(expire(in_state(state), NOON + 2 * QUARTER)) for state in (State.PENDING, State.APPROVED)
    )
    assert unanswered.meta()["cause"] == "unanswered"
    assert unanswered.sentence.startswith("Nobody answered in time.")
    assert unused.meta()["cause"] == "unused"
    assert unused.sentence.startswith("It was approved, and not used in time.")


@pytest.mark.parametrize("cause", [Cause.GRANT, Cause.TOOL, Cause.POLICY, Cause.SESSION, Cause.ADMINISTRATOR])
def test_a_withdrawal_tells_its_cause(cause: Cause) -> None:
    told = answers.of(withdraw(held(), cause, NOON))
    assert told.meta()["cause"] == cause.value
    assert cause.value in told.sentence
    steps = {Cause.GRANT: "Ask your operator for a new grant.", Cause.POLICY: "A new call would be denied, too, "}
    assert f"Nothing ran. {steps.get(cause, 'A new call asks again.')}" in told.sentence


def test_an_interrupted_call_is_never_simply_repeated() -> None:
    told = answers.of(in_state(State.INTERRUPTED))
    assert told.meta() == {"status": "interrupted", "retry": "check", "approval_id": "apr_1"}
    assert "may or may not have run" in told.sentence


def test_unavailable_says_that_nothing_ran() -> None:
    assert answers.unavailable("The server is down").sentence == (
        "Not possible right now: The server is down. Nothing ran. Try again later."
    )


def test_a_call_that_was_approved_and_not_sent_is_to_be_repeated_for_its_approval() -> None:
    told = answers.not_sent("The server is down.", "apr_1")
    assert told.sentence == (
        "Not possible right now: The server is down. Nothing ran. "
        "The approval stays valid for a while: repeat the identical call."
    )
    assert told.meta()["reason"] == "The server is down."


@pytest.mark.parametrize("state", [State.PENDING, State.APPROVED, State.EXECUTING, State.SUCCEEDED, State.FAILED])
def test_what_runs_or_still_may_has_no_such_answer(state: State) -> None:
    with pytest.raises(ValueError, match=state.value):
        answers.of(in_state(state))


def test_the_result_of_an_approved_call_names_those_who_approved() -> None:
    approved = reviewed(reviewed(held(Requirement(quorum=2)), ALICE), BOB)
    assert answers.approved(approved).meta() == {
        "status": "approved",
        "approval_id": "apr_1",
        "rule": "tools.press.action",
        "reviewers": ["alice@example.com", "bob@example.com"],
    }


def test_a_ticket_says_what_to_do_in_words_that_a_model_can_follow() -> None:
    waiting = reviewed(held(Requirement(("oncall",), quorum=2)), person("alice", "oncall"))
    told = answers.pending(waiting, "http://x/approvals/apr_1", "The broker is stopping.", NOON + 2 * MINUTE)
    assert told.sentence == (
        "1 of 2 approved, waiting for oncall, 13 min left. Nothing ran yet, and nothing went wrong. The broker is "
        "stopping. Repeat the identical call now, with exactly the same arguments: it goes on waiting for this same "
        "approval, and returns the tool's own result once that is given. Do so every time you get this answer. Change "
        "nothing in the arguments, not even how a number or a word is written: that is another call, for which people "
        "are asked anew. Your user can follow it at http://x/approvals/apr_1"
    )
    facts = told.meta()
    assert (facts["status"], facts["retry"], facts["approval_id"]) == ("pending", "same", "apr_1")
    assert (facts["review_url"], facts["deadline"]) == ("http://x/approvals/apr_1", "2026-07-28T12:15:00.000000Z")
