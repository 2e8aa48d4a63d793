"""What rows of the record say in words."""

from __future__ import annotations

from typing import Any

import pytest

from broker.domain.audit import Kind, Row
from broker.domain.history import Happening, happening
from tests.clock import NOON

OF_CALLS = [kind for kind in Kind if kind.value.startswith(("call.", "approval."))]


def told(kind: Kind, **detail: Any) -> Happening:
    return happening(Row(seq=1, at=NOON, kind=kind, actor="a", prev="", detail=detail))


@pytest.mark.parametrize("kind", OF_CALLS)
def test_whatever_happens_to_a_call_has_words_of_its_own(kind: Kind) -> None:
    assert told(kind).did != kind.value


@pytest.mark.parametrize(
    ("kind", "detail", "where", "why"),
    [
        (
            Kind.APPROVAL_REJECTED,
            {"channel": "slack:#desk", "reason": "not on a Friday."},
            "in slack:#desk",
            ["not on a Friday."],
        ),
        (Kind.APPROVAL_EXPIRED, {"cause": "unanswered"}, None, ["Nobody answered in time."]),
        (Kind.APPROVAL_WITHDRAWN, {"cause": "administrator"}, None, []),
        (Kind.APPROVAL_ABANDONED, {"why": "lost"}, None, ["its connection was lost"]),
        (Kind.APPROVAL_ABANDONED, {"why": "the broker restarted"}, None, ["the broker restarted"]),
        (Kind.APPROVAL_ASKED, {"round": 2}, None, ["request 2"]),
        (Kind.APPROVAL_ESCALATED, {"to": ["oncall", "bob@example.com"]}, None, ["oncall, bob@example.com"]),
        (Kind.APPROVAL_REMINDED, {"part": "50%", "left": "7m"}, None, ["7m left"]),
        (Kind.APPROVAL_LATE, {"outcome": "approval.succeeded"}, None, ["it ran"]),
        (
            Kind.APPROVAL_SUBMITTED,
            {"before": {"approval": "apr_0", "state": "failed", "at": "2026-07-28T12:00:01.000000Z"}},
            None,
            ["The identical call was approved before, at 2026-07-28 12:00:01 UTC, and got an error from the server."],
        ),
        (Kind.CALL_DENIED, {"reason": "Too dangerous."}, None, ["Too dangerous."]),
        (Kind.CALL_ANSWERED, {"outcome": "succeeded", "ms": 12.5}, None, ["after 12.5 ms"]),
    ],
)
def test_a_row_says_where_and_why(kind: Kind, detail: dict[str, Any], where: str | None, why: list[str]) -> None:
    happened = told(kind, **detail)
    assert (happened.where, list(happened.why)) == (where, why)


@pytest.mark.parametrize(
    ("outcome", "did"),
    [
        ("succeeded", "got the server's answer"),
        ("failed", "got the server's answer: an error"),
        ("interrupted", "got no answer: it may or may not have run"),
        ("unreachable", "got no answer: the server was not reached, and nothing ran"),
        ("cancelled", "left before the answer came"),
        ("asked", "was asked for input by the tool"),
    ],
)
def test_the_outcome_of_a_call_that_was_not_held_is_told_as_it_is_known(outcome: str, did: str) -> None:
    assert told(Kind.CALL_ANSWERED, outcome=outcome).did == did


def test_input_that_was_not_sent_is_still_waited_for() -> None:
    happened = told(Kind.APPROVAL_ASKED, round=1, why="the server is away")
    assert happened.did == "could not reach the server with the input; the tool still waits for it"
    assert happened.why == ("request 1", "the server is away")
