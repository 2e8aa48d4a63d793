"""What a policy says of one call."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calls import Action, Charge, Requirement, Risk, Scope
from broker.policy.judging.decide import decide
from broker.policy.load import HOLD_EVERYTHING
from tests.policy.calls import GRANT, call, policy

LIMIT = {"counter": "c", "window": "minute", "max": 3}
SEVERITY = [Action.DENY, Action.HOLD, Action.ALLOW]

names = st.sampled_from(["look", "click", "type", "wipe"])
actions = st.sampled_from(["allow", "deny", "hold"])
entries = st.fixed_dictionaries(
    {}, optional={"action": actions, "limits": st.lists(st.just(LIMIT), max_size=2), "reason": st.just("because")}
)
tables = st.dictionaries(names, entries)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def test_a_listed_tool_is_allowed_unless_it_says_otherwise() -> None:
    verdict = decide(policy(tools={"look": {}}), call("look"))
    assert (verdict.action, verdict.rule, verdict.charges) == (Action.ALLOW, "tools.look", ())


@pytest.mark.parametrize("action", list(Action))
def test_an_entry_s_action_is_the_verdict_and_its_path_is_the_rule(action: Action) -> None:
    verdict = decide(policy(tools={"look": {"action": str(action)}}), call("look"))
    assert (verdict.action, verdict.rule) == (action, "tools.look.action")


@pytest.mark.parametrize("default", list(Action))
def test_an_unlisted_tool_gets_the_default(default: Action) -> None:
    verdict = decide(policy(default=str(default)), call("look"))
    assert (verdict.action, verdict.rule) == (default, "default")


def test_a_refusal_tells_the_model_what_to_do() -> None:
    stated = policy(hide=["wipe"], tools={"type": {"action": "deny"}})
    assert decide(stated, call("look")).reason == (
        "the policy does not list this tool; use another one or ask the operator"
    )
    assert decide(stated, call("type")).reason == ("the policy denies this tool; use another one or ask the operator")
    assert decide(stated, call("wipe")).reason == ("this tool is not available here; use one from the tool list")


@pytest.mark.parametrize("action", ["deny", "hold"])
def test_an_entry_s_own_reason_wins(action: str) -> None:
    verdict = decide(policy(tools={"look": {"action": action, "reason": "Not on Fridays"}}), call("look"))
    assert verdict.reason == "Not on Fridays"


def test_a_hidden_tool_is_denied_even_if_it_is_listed() -> None:
    stated = policy(hide=["look"], tools={"look": {"action": "allow"}, "type": {}})
    assert (decide(stated, call("look")).action, decide(stated, call("look")).rule) == (Action.DENY, "hide")
    assert stated.hides("look")
    assert not stated.hides("type")
    assert not stated.hides("unlisted")


def test_a_star_hides_every_tool() -> None:
    stated = policy(default="allow", hide=["*"], tools={"look": {}})
    assert stated.hides("look")
    assert stated.hides("anything")
    assert decide(stated, call("look")).rule == "hide"
    assert decide(stated, call("anything")).action is Action.DENY


def test_a_name_is_matched_exactly() -> None:
    stated = policy(default="allow", hide=["wipe"], tools={"look": {"action": "hold"}})
    assert decide(stated, call("Look")).rule == "default"
    assert not stated.hides("wipe ")


def test_a_held_call_carries_who_must_agree_and_how_risky_it_is() -> None:
    approval = {
        "approvers": ["desktop owners", "alice@example.com"],
        "quorum": 2,
        "timeout": "90s",
        "channels": ["web", "slack:#desktop"],
        "allow_self": True,
    }
    stated = policy(tools={"wipe": {"action": "hold", "risk": "critical", "approval": approval}})
    verdict = decide(stated, call("wipe"))
    assert verdict.risk is Risk.CRITICAL
    assert verdict.requirement == Requirement(
        approvers=("desktop owners", "alice@example.com"),
        quorum=2,
        timeout=timedelta(seconds=90),
        channels=("web", "slack:#desktop"),
        allow_self=True,
    )


@pytest.mark.parametrize("action", ["allow", "hold"])
def test_allowed_and_held_calls_take_a_slot_of_every_limit(action: str) -> None:
    limits = [
        {"counter": "c", "window": "hour", "max": 3, "scope": "upstream", "on_deny": "slow down"},
        {"counter": "d", "window": 90, "max": 2},
    ]
    verdict = decide(policy(tools={"look": {"action": action, "limits": limits}}), call("look"))
    assert verdict.charges == (
        Charge("desk", "c", Scope.UPSTREAM, "desk", timedelta(hours=1), 3, "tools.look.limits[0]", "slow down"),
        Charge("desk", "d", Scope.GRANT, GRANT.id, timedelta(seconds=90), 2, "tools.look.limits[1]"),
    )


def test_a_denied_call_takes_no_slot() -> None:
    assert decide(policy(tools={"look": {"action": "deny", "limits": [LIMIT]}}), call("look")).charges == ()


def test_a_session_s_limit_counts_for_the_grant_when_there_is_no_session() -> None:
    stated = policy(tools={"look": {"limits": [LIMIT | {"scope": "session"}]}})
    assert decide(stated, call("look", session="s-1")).charges[0].scope_value == "s-1"
    assert decide(stated, call("look")).charges[0].scope_value == GRANT.id


def test_a_grant_s_limit_counts_for_the_grant_in_every_session() -> None:
    stated = policy(tools={"look": {"limits": [LIMIT]}})
    assert decide(stated, call("look", session="s-1")).charges[0].scope_value == GRANT.id


def test_the_short_form_counts_each_session_s_calls_of_that_tool() -> None:
    stated = policy(tools={"look": {"rate_limit": {"max": 10, "window": 60}}, "type": {"limits": [LIMIT]}})
    (charge,) = decide(stated, call("look", session="s-1")).charges
    assert charge == Charge(
        "desk", "rate_limit look", Scope.SESSION, "s-1", timedelta(minutes=1), 10, "tools.look.rate_limit"
    )


def test_a_rule_s_path_quotes_a_name_that_would_read_as_several_steps() -> None:
    verdict = decide(policy(tools={"files.wipe": {"action": "deny"}}), call("files.wipe"))
    assert verdict.rule == 'tools["files.wipe"].action'


def test_without_a_policy_every_call_is_held() -> None:
    verdict = decide(HOLD_EVERYTHING, call("look"))
    assert (verdict.action, verdict.rule, verdict.charges) == (Action.HOLD, "no policy", ())
    assert not HOLD_EVERYTHING.hides("look")


@given(tables, st.text())
def test_an_unlisted_tool_is_never_allowed_under_default_deny(tools: dict[str, Any], tool: str) -> None:
    verdict = decide(policy(tools=tools), call(tool))
    assert tool in tools or verdict.action is Action.DENY


@given(actions, tables, st.lists(names), names | st.just("*"), names | st.just("unlisted"))
def test_hiding_one_more_tool_never_makes_a_call_more_permitted(
    default: str, tools: dict[str, Any], hide: list[str], hidden: str, tool: str
) -> None:
    before = decide(policy(default=default, tools=tools, hide=hide), call(tool)).action
    after = decide(policy(default=default, tools=tools, hide=[*hide, hidden]), call(tool)).action
    assert SEVERITY.index(after) <= SEVERITY.index(before)


@given(actions, tables, names)
def test_one_more_limit_leaves_the_verdict_and_only_adds_to_the_slots(
    default: str, tools: dict[str, Any], tool: str
) -> None:
    more = tools | {name: entry | {"rate_limit": {"max": 1, "window": 1}} for name, entry in tools.items()}
    before = decide(policy(default=default, tools=tools), call(tool))
    after = decide(policy(default=default, tools=more), call(tool))
    assert after.action is before.action
    assert after.charges[: len(before.charges)] == before.charges


@given(actions, tables, st.lists(names), st.text() | names, json_values, st.none() | st.text())
def test_judging_never_raises_whatever_an_agent_sends(
    default: str, tools: dict[str, Any], hide: list[str], tool: str, arguments: Any, session: str | None
) -> None:
    verdict = decide(policy(default=default, tools=tools, hide=hide), call(tool, arguments=arguments, session=session))
    assert verdict.action in Action
