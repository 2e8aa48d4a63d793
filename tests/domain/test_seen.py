"""What a reviewer was shown of a call can be told from any other, and computed anew by an auditor."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from broker.domain.approvals import Approval, State
from broker.domain.calls import Risk
from broker.domain.people import GrantRef
from broker.domain.seen import seen_digest
from broker.web import presentation
from tests.domain.values import call, held, in_state

PINNED = "3058a7db6805edc8a815c0c87f57380a9097745498784463a54f68cee4ae8c76"


def approval() -> Approval:
    """One of a call that says the same every time."""
    return held(call=replace(call(key="Ctrl+Ä", at=2**70), id="call_1"), reason="a reason", risk=Risk.HIGH)


def test_an_auditor_finds_the_digest_in_the_approval_of_the_api() -> None:
    api: dict[str, Any] = presentation.approval(approval(), ())
    names = ["upstream", "tool", "arguments", "other_params", "risk", "reason", "rule", "revision"]
    shown = {name: api[name] for name in names} | {"grant": {key: api["grant"][key] for key in ("label", "owner")}}
    canonical = json.dumps(shown, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert seen_digest(approval()) == hashlib.sha256(canonical.encode()).hexdigest()


def test_the_digest_is_the_same_in_every_process() -> None:
    assert seen_digest(approval()) == PINNED


def test_the_digest_stays_whatever_becomes_of_the_approval() -> None:
    states = [replace(in_state(state), call=approval().call) for state in State]
    assert len({seen_digest(each) for each in states}) == 1


CHANGES: list[dict[str, Any]] = [
    {"call": replace(approval().call, upstream="other")},
    {"call": replace(approval().call, tool="other")},
    {"call": replace(approval().call, params={"arguments": {"key": "Ctrl+A"}})},
    {"call": replace(approval().call, params={**approval().call.params, "_meta": {"x": 1}})},
    {"call": replace(approval().call, grant=GrantRef("grant_1", "other", "olga@example.com"))},
    {"call": replace(approval().call, grant=GrantRef("grant_1", "ci agent", "other@example.com"))},
    {"risk": Risk.LOW},
    {"reason": "another"},
    {"rule": "another"},
    {"revision": "e" * 64},
]


@pytest.mark.parametrize("change", CHANGES)
def test_another_call_has_another_digest(change: dict[str, Any]) -> None:
    assert seen_digest(replace(approval(), **change)) != seen_digest(approval())
