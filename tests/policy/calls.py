"""Calls and documents for the tests of the policy package."""

from __future__ import annotations

import json
from typing import Any

from broker.domain.calls import Call
from broker.domain.people import GrantRef
from broker.policy.judging.decide import Policy
from broker.policy.load import parse_policy

GRANT = GrantRef("grt_1", "ci agent", "olga@example.com")


def call(tool: str, *, arguments: Any = None, session: str | None = None) -> Call:
    """A call of `tool` on the upstream `desk`."""
    return Call("call_1", "desk", tool, {"name": tool, "arguments": arguments}, GRANT, session)


def policy(**document: Any) -> Policy:
    """The policy of a document given as keywords; version and `default: deny` go without saying."""
    return parse_policy(json.dumps({"version": "1", "default": "deny"} | document), "test.json")
