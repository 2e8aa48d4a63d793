"""What a search of the record finds."""

from __future__ import annotations

from typing import Any

import pytest

from broker.domain.audit import Kind
from broker.domain.searching import AuditFilter, Comparison, Outcome, Searched, outcome_of


def finds(text: str, **row: Any) -> bool:
    return Comparison(AuditFilter(text=text)).finds(Searched("call.denied", **row))


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("PUSH", {"tool": "git_push"}),
        ("push main", {"detail": {"reason": "never  PUSH\nmain"}}),
        ("strasse", {"detail": {"reason": "Straße"}}),
        ("É", {"label": "cafe\u0301-bot"}),
        ("admin", {"tool": "\uff41dmin"}),
        ("\\u200b", {"tool": "ad\u200bmin"}),
        ("ad\u200bmin", {"tool": "ad\u200bmin"}),
        ("\\u0000", {"detail": {"why": ["a", {"b": "\0"}]}}),
        ("100%", {"rule": "max_100%"}),
        ('"3"', {"detail": {"reason": 'number "3"'}}),
        ("call.denied", {}),
        ("GRT_1", {"grant": "grt_1", "actor": "agent:grt_1"}),
    ],
)
def test_a_text_is_found_as_a_reader_sees_it(text: str, row: dict[str, Any]) -> None:
    assert finds(text, **row)


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("admin", {"tool": "ad\u200bmin"}),
        ("100_", {"rule": "max_100%"}),
        ("git_pushdesk", {"tool": "git_push", "upstream": "desk"}),
        ("reason", {"detail": {"reason": "never"}}),
        ("ab12", {"detail": {"revision": "ab12"}}),
        ("grt", {"grant": "grt_1", "actor": "agent:grt_1"}),
    ],
)
def test_what_no_text_of_the_row_has_is_not_found(text: str, row: dict[str, Any]) -> None:
    assert not finds(text, **row)


def test_the_whole_id_of_a_call_finds_its_rows() -> None:
    assert Comparison(AuditFilter(text="call_1")).finds(Searched(), "call_1", None)
    assert not Comparison(AuditFilter(text="call_")).finds(Searched(), "call_1", None)


@pytest.mark.parametrize(
    ("channel", "found"), [("slack:#ops", True), ("slack", True), ("slack:#op", False), ("w", False)]
)
def test_a_channel_is_found_by_itself_and_by_its_kind(channel: str, found: bool) -> None:
    row = Searched(detail={"channel": "slack:#ops"})
    assert Comparison(AuditFilter(channel=channel)).finds(row) is found


def test_an_agent_is_found_by_its_grant_and_by_its_label() -> None:
    row = Searched(grant="grt_1", label="Release bot")
    found = {name: Comparison(AuditFilter(grant=name)).finds(row) for name in ("grt_1", "release BOT", "release")}
    assert found == {"grt_1": True, "release BOT": True, "release": False}


@pytest.mark.parametrize(
    ("kind", "detail", "outcome"),
    [
        (Kind.CALL_ANSWERED, {"outcome": "succeeded"}, Outcome.RAN),
        (Kind.CALL_ANSWERED, {"outcome": "unreachable"}, Outcome.UNREACHABLE),
        (Kind.CALL_ANSWERED, {"outcome": ["odd"]}, None),
        (Kind.APPROVAL_LATE, {"outcome": "approval.failed"}, Outcome.FAILED),
        (Kind.APPROVAL_SUBMITTED, {"outcome": "succeeded"}, Outcome.HELD),
        (Kind.APPROVAL_REVIEWED, {}, None),
        (Kind.POLICY_LOADED, {}, None),
    ],
)
def test_a_row_tells_what_became_of_its_call(kind: Kind, detail: dict[str, Any], outcome: Outcome | None) -> None:
    assert outcome_of(kind, detail) is outcome
