"""What judging one call costs by a policy of fifty tools: part of `make bench`, or `python -m tests.bench.judging`.

The tool that is called has an entry of its own with conditions, a pattern and limits, one of which is a sum. CPU time,
the median over batches; the goals are absolute, for a core of a present server.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from typing import Any

from broker.domain.calls import Action, Call
from broker.domain.people import GrantRef
from broker.policy.judging.decide import Policy, decide
from broker.policy.load import parse_policy
from tests.bench.report import Goal, at_most

ENTRY: dict[str, Any] = {
    "require": [{"path": "args.amount", "op": "lt", "value": 1000}],
    "deny_if": [
        {"path": "args.path", "op": "regex", "value": "^/etc/"},
        {"path": "args.mode", "op": "in", "value": ["dangerous", "unknown"]},
    ],
    "approve_if": [{"path": "args.to", "op": "neq", "value": "bob"}],
    "limits": [
        {"counter": "calls", "window": "minute", "max": 10},
        {"counter": "spend", "window": "day", "max": 1000, "add": "args.amount", "scope": "upstream"},
    ],
}
ARGUMENTS = {"amount": 12.5, "path": "/home/bob/notes.txt", "to": "bob", "mode": "plain", "lines": ["a", "b", "c"]}
CASES: dict[str, tuple[str, dict[str, Any], float]] = {
    "conditions and limits": ("tool_7", {}, 20e-6),
    "the same, by a glob": ("group_7_call", {}, 20e-6),
    "the same and CEL": ("tool_7", {"when": "args.amount > 100.0 && grant.label.startsWith('ci-')"}, 40e-6),
    "the same and CEL with matches": ("tool_7", {"when": "args.to.matches('^[A-Z]') || args.amount > 100.0"}, 40e-6),
}
"""What is measured: the tool that is called, what every entry has more, and the goal in seconds."""

_BATCHES, _CALLS = 15, 200


def goals() -> Iterator[Goal]:
    """Where each case stands, in microseconds."""
    for name, (tool, more, goal) in CASES.items():
        stands = cost(_policy(more), _call(tool))
        yield at_most(f"judging a call, {name}: µs", stands * 1e6, goal * 1e6)


def cost(policy: Policy, call: Call) -> float:
    """Seconds of CPU time that one judgement takes."""
    if decide(policy, call).action is not Action.ALLOW:
        raise ValueError("the call that is measured is allowed")
    return statistics.median(_batch(policy, call) for _ in range(_BATCHES))


def _batch(policy: Policy, call: Call) -> float:
    start = time.process_time()
    for _ in range(_CALLS):
        decide(policy, call)
    return (time.process_time() - start) / _CALLS


def _policy(more: dict[str, Any]) -> Policy:
    names = [f"tool_{number}" for number in range(40)] + [f"group_{number}_*" for number in range(10)]
    tools = dict.fromkeys(names, ENTRY | more)
    document = {"version": "1", "default": "deny", "hide": ["wipe_*"], "redact": ["args.password"], "tools": tools}
    return parse_policy(json.dumps(document), "bench")


def _call(tool: str) -> Call:
    params = {"name": tool, "arguments": ARGUMENTS}
    return Call("call_1", "desk", tool, params, GrantRef("grt_1", "agent", "olga@example.com"), "session")


if __name__ == "__main__":
    for found in goals():
        print(found)  # noqa: T201
