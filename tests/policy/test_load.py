"""From a file to a policy, or to every mistake in it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calls import Action, Scope
from broker.errors import PolicyError
from broker.policy.judging.decide import decide
from broker.policy.load import HOLD_EVERYTHING, load_policy, parse_policy
from tests.policy.calls import call, policy

EMPTY = '{"version": "1", "default": "deny"}'
LIMIT = {"counter": "c", "window": "minute", "max": 3}
RULE = {"path": "args.mode", "op": "eq", "value": "live"}
OPERATORS = "expected eq, neq, in, not_in, lt, lte, gt, gte, regex, contains or exists"
WHOLE = Path(__file__).parent / "language" / "whole.yaml"


def refusal(text: str | bytes, source: str = "bad.json") -> list[str]:
    """What `parse_policy` says of a bad document, without the name of the source."""
    with pytest.raises(PolicyError) as refused:
        parse_policy(text, source)
    lines = str(refused.value).splitlines()
    assert len(lines) == len(refused.value.mistakes)
    assert all(line.startswith(f"{source}:") for line in lines)
    return [line.removeprefix(f"{source}:") for line in lines]


def mistakes(**document: Any) -> list[str]:
    """The mistakes that are found in a document, without their places; version and default go without saying."""
    told = refusal(json.dumps({"version": "1", "default": "deny"} | document))
    return [line.split(": ", 1)[1] for line in told]


def test_the_published_document_for_session_connect_loads_unchanged() -> None:
    published = """{"version": "1", "default": "deny",
 "tools": {"session_connect": {"limits": [
   {"counter": "session_connect_rate", "window": "minute", "max": 10, "scope": "grant"}]}}}"""
    verdict = decide(parse_policy(published, "published.json"), call("session_connect"))
    (charge,) = verdict.charges
    assert verdict.action is Action.ALLOW
    assert (charge.counter, charge.scope, charge.max) == ("session_connect_rate", Scope.GRANT, 10)
    assert charge.window.total_seconds() == 60


def test_the_published_document_for_mouse_drag_loads_unchanged() -> None:
    published = (
        '{"version": "1", "default": "deny", "tools": {"mouse_drag": {"rate_limit": {"max": 10, "window": 60}}}}'
    )
    verdict = decide(parse_policy(published, "published.json"), call("mouse_drag"))
    (charge,) = verdict.charges
    assert verdict.action is Action.ALLOW
    assert (charge.scope, charge.max, charge.window.total_seconds()) == (Scope.SESSION, 10, 60)


def test_a_file_becomes_a_policy_that_says_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "desk.json"
    file.write_text('{"$schema": "https://example.com/s.json", "description": "é", "version": "1", "default": "hold"}')
    loaded = load_policy(file)
    assert loaded.source == str(file)
    assert decide(loaded, call("look")).action is Action.HOLD


def test_the_digest_follows_what_a_document_says_and_not_its_spacing() -> None:
    same = parse_policy('{"default":\n"deny","version":"1"}', "other.json")
    assert same.digest == parse_policy(EMPTY, "one.json").digest
    assert len({same.digest, policy(default="hold").digest, HOLD_EVERYTHING.digest}) == 3
    assert len(bytes.fromhex(same.digest)) == 32


def test_a_loaded_policy_cannot_be_changed() -> None:
    loaded = policy(tools={"look": {}})
    with pytest.raises(TypeError):
        loaded.book.entries["wipe"] = loaded.book.unlisted  # pyright: ignore[reportIndexIssue] - the mistake under test
    with pytest.raises(AttributeError):
        loaded.book = policy().book  # pyright: ignore[reportAttributeAccessIssue] - the same


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"none\.json: the policy cannot be read: No such file or directory$"):
        load_policy(tmp_path / "none.json")


def test_a_folder_is_not_a_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read: Is a directory"):
        load_policy(tmp_path)


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(Path("nul\0.json"))


def test_a_key_may_look_like_the_mark_for_a_wrong_name() -> None:
    assert mistakes(tools={"x": {"[key]": 1}})[0].startswith('tools.x["[key]"]: unknown key')


def test_a_key_without_a_value_is_refused() -> None:
    told = mistakes(tools={"x": {"rate_limit": None, "approval": None}}, hide=None)
    assert told == [
        f"{place}: has no value: write one, or take the key out"
        for place in ("tools.x.rate_limit", "tools.x.approval", "hide")
    ]


@pytest.mark.parametrize(
    ("written", "seconds"), [("30s", 30), ("15m", 900), ("2h", 7_200), ("1d", 86_400), ("365d", 31_536_000)]
)
def test_a_duration_is_a_number_and_a_unit(written: str, seconds: int) -> None:
    loaded = policy(tools={"x": {"action": "hold", "approval": {"timeout": written}}})
    timeout = decide(loaded, call("x")).requirement.timeout
    assert timeout is not None
    assert timeout.total_seconds() == seconds


@pytest.mark.parametrize("written", ["0s", "15", "m", "1.5h", "-1m", "1w", "366d", "999999999d", "٣m", 900, True])
def test_anything_else_is_no_duration(written: Any) -> None:
    (told,) = mistakes(tools={"x": {"action": "hold", "approval": {"timeout": written}}})
    assert told.startswith("tools.x.approval.timeout: expected a duration")


@pytest.mark.parametrize(
    ("written", "seconds"), [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400), (1, 1), (90, 90)]
)
def test_a_window_is_a_unit_or_seconds(written: str | int, seconds: int) -> None:
    loaded = policy(tools={"x": {"limits": [LIMIT | {"window": written}]}})
    assert decide(loaded, call("x")).charges[0].window.total_seconds() == seconds


@pytest.mark.parametrize("written", ["week", "60", "1m", 0, -1, 1.5, 60.0, True, 31_536_001, [60]])
def test_anything_else_is_no_window(written: Any) -> None:
    (told,) = mistakes(tools={"x": {"limits": [LIMIT | {"window": written}]}})
    assert told.startswith("tools.x.limits[0].window: expected second, minute, hour, day or a number of seconds")


def test_no_counter_of_a_document_can_be_that_of_a_short_form() -> None:
    (told,) = mistakes(tools={"x": {"limits": [LIMIT | {"counter": "rate_limit x"}]}})
    assert told == 'tools.x.limits[0].counter: expected one word, not "rate_limit x"'


keys = st.sampled_from(
    ["version", "default", "tools", "hide", "x", "action", "approval", "limits", "rate_limit", "max", "window", "1", ""]
)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | keys
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=10)


@given(st.dictionaries(keys, values))
def test_any_object_is_a_policy_or_a_policy_error(document: dict[str, Any]) -> None:
    loaded = None
    with suppress(PolicyError):
        loaded = policy(**document | {"version": "1", "default": "deny"})
    assert loaded is None or set(document) <= {"version", "default", "tools", "hide"}
    assert loaded is None or decide(loaded, call("nobody lists this")).action is Action.DENY


@given(
    st.text(min_size=1).filter(lambda key: key not in {"version", "default", "hide", "tools", "description", "$schema"})
)
def test_no_unknown_key_is_ever_ignored(key: str) -> None:
    assert mistakes(**{key: True})


def test_every_mistake_is_told_with_its_path_what_was_expected_and_the_nearest() -> None:
    limits = [{"counter": "two words", "window": "mins", "max": 0, "scop": "grant"}, LIMIT | {"max": True}]
    approval = {"approvers": [], "quorum": "2", "timeout": "15 m", "channels": ["web", "slak"]}
    tool = {"action": "hodl", "risk": "huge", "limits": limits, "approval": approval}
    document: dict[str, Any] = {"version": 1, "defualt": "deny", "hide": [""], "tools": {"x": tool, "a.b": []}}
    assert refusal(json.dumps(document, indent=1)) == [
        "1:1: default: is missing: expected allow, deny or hold",
        "2:13: version: expected '1', not 1; did you mean \"1\", in quotes?",
        "3:2: defualt: unknown key; did you mean default?",
        '5:3: hide[0]: expected the name of a tool, or a pattern such as keyboard_*, not ""',
        "9:14: tools.x.action: expected 'allow', 'deny' or 'hold', not \"hodl\"; did you mean hold?",
        "10:12: tools.x.risk: expected 'low', 'medium', 'high' or 'critical', not \"huge\"",
        '13:17: tools.x.limits[0].counter: expected one word, not "two words"',
        (
            "14:16: tools.x.limits[0].window: expected second, minute, hour, day or a number of seconds up to 31536000"
            ', not "mins"; did you mean minute?'
        ),
        "15:13: tools.x.limits[0].max: expected a whole number from 1 to 2147483647, not 0",
        "16:6: tools.x.limits[0].scop: unknown key; did you mean scope?",
        "21:13: tools.x.limits[1].max: expected a whole number from 1 to 2147483647, not true",
        "25:18: tools.x.approval.approvers: is empty: name at least one, or take the key out",
        '26:15: tools.x.approval.quorum: expected a whole number from 1 to 2147483647, not "2"',
        '27:16: tools.x.approval.timeout: expected a duration from 1s to 365d, such as 30s, 15m, 2h or 1d, not "15 m"',
        (
            "30:6: tools.x.approval.channels[1]: expected web, api, slack, slack:#channel or slack:@person, "
            'not "slak"; did you mean slack?'
        ),
        '34:10: tools["a.b"]: expected an object',
    ]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("grant.lable", 'expected grant.id, grant.label or grant.owner, not "grant.lable"; did you mean grant.label?'),
        ("grant.label.x", 'expected grant.id, grant.label or grant.owner, not "grant.label.x"'),
        ("tool.name", "expected tool alone: it is a text, which has no parts"),
        ("session[0]", "expected session alone: it is a text, which has no parts"),
        ("arg.mode", 'such as args.amount, not "arg.mode"; did you mean args.mode?'),
    ],
)
def test_a_path_that_leads_nowhere_in_any_call_is_refused(path: str, told: str) -> None:
    [said] = mistakes(tools={"t": {"deny_if": [RULE | {"path": path}]}})
    assert told in said


def test_what_can_only_be_an_argument_is_told_so() -> None:
    [said] = mistakes(redact=["password"])
    expected = "expected a path into the arguments, such as args.password"
    assert said == f'redact[0]: {expected}, not "password"; did you mean args.password?'


@pytest.mark.parametrize(
    ("tool", "told"),
    [
        ({"action": ["hold"]}, "action: expected 'allow', 'deny' or 'hold'"),
        ({"action": "require_approval"}, 'not "require_approval"; did you mean hold?'),
        ({"action": True}, "not true; did you mean allow?"),
        ({"deny_if": [RULE | {"op": "=="}]}, 'not "=="; did you mean eq?'),
        ({"approval": {"allow_self": "yes"}, "action": "hold"}, 'allow_self: expected true or false, not "yes"'),
        (None, "tools.t: has no value: write {} when there is nothing to say, or take the key out"),
    ],
)
def test_a_wrong_value_is_answered_with_what_can_stand_there(tool: Any, told: str) -> None:
    [said] = mistakes(tools={"t": tool})
    assert said.endswith(told)


def test_the_nearest_is_told_to_programs_too() -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy('{"version": "1", "default": "deny", "tools": {"x": {"action": "hodl"}}}', "p.json")
    (mistake,) = refused.value.mistakes
    assert (mistake.line, mistake.column, mistake.path, mistake.nearest) == (1, 63, "tools.x.action", "hold")


def test_a_key_that_is_like_no_other_is_answered_with_the_known_ones() -> None:
    assert mistakes(tools={"x": {"rate_limit": {"max": 1, "window": 1, "zzz": 1}}}) == [
        "tools.x.rate_limit.zzz: unknown key; known are max, window"
    ]


@pytest.mark.parametrize("text", ["[]", "null", '"deny"', "1"])
def test_a_document_is_an_object(text: str) -> None:
    (told,) = refusal(text)
    assert told.startswith("1:1: expected an object")


@pytest.mark.parametrize("place", ["all_tools", "tools.x"])
def test_the_nearest_key_is_one_that_is_legal_there(place: str) -> None:
    conditions = {"deny_if": [{"path": "args.a", "opp": "eq", "value": 1}]}
    told = mistakes(**({"tools": {"x": conditions}} if place == "tools.x" else {"all_tools": conditions}))
    assert told == [
        f"{place}.deny_if[0].op: is missing: {OPERATORS}",
        f"{place}.deny_if[0].opp: unknown key; did you mean op?",
    ]


def test_a_tool_may_be_called_as_a_key_is() -> None:
    assert mistakes(tools={"limits": {"limits": {}}}) == ["tools.limits.limits: expected a list"]


@pytest.mark.parametrize("action", ["hold", "deny"])
def test_an_expression_beside_an_action_that_goes_for_every_call_is_refused(action: str) -> None:
    (told,) = mistakes(tools={"x": {"action": action, "when": "true"}})
    assert told.startswith(f"tools.x.when: has no effect beside action {action}")


@pytest.mark.parametrize(
    "entry", [{}, {"action": "allow"}, {"action": "deny"}, {"action": "deny", "approve_if": [RULE]}]
)
def test_an_approval_of_calls_that_are_never_held_is_refused(entry: dict[str, Any]) -> None:
    (told,) = mistakes(tools={"x": entry | {"approval": {"quorum": 2}}})
    assert told.startswith("tools.x.approval: has no effect, since calls of this tool are never held")


@pytest.mark.parametrize("entry", [{"action": "hold"}, {"approve_if": [RULE]}, {"when": "true"}])
def test_an_approval_of_calls_that_may_be_held_is_accepted(entry: dict[str, Any]) -> None:
    loaded = policy(tools={"x": entry | {"approval": {"quorum": 2}}})
    assert loaded.book.entries["x"].requirement.quorum == 2


def test_an_approval_of_calls_that_are_held_by_a_rule_for_all_tools_is_accepted() -> None:
    loaded = policy(tools={"x": {"approval": {"quorum": 2}}}, all_tools={"approve_if": [RULE]})
    assert loaded.book.entries["x"].requirement.quorum == 2


def test_a_misshapen_tool_does_not_keep_what_contradicts_itself_elsewhere_from_being_told() -> None:
    assert [
        line.partition(":")[0]
        for line in mistakes(tools={"x": {"action": "hodl"}, "y": {"action": "hold", "when": "true"}})
    ] == ["tools.x.action", "tools.y.when"]


def test_the_two_languages_do_not_mix() -> None:
    rules = {"rules": [{"name": "no", "action": "deny"}]}
    told = mistakes(tools={"x": rules, "y": {"action": "hold"}}, redact=["args.key"])
    why = (
        "belongs to the broker's own language, and tools.x.rules to the Intercept dialect: "
        "write the policy in one of the two"
    )
    assert f"redact: {why}" in told
    assert f"tools.y.action: {why}" in told


def test_the_whole_shape_says_of_itself_what_cannot_stand_in_it() -> None:
    with pytest.raises(PolicyError) as refused:
        load_policy(WHOLE)
    (mistake,) = refused.value.mistakes
    assert (mistake.path, mistake.line, mistake.column) == ("tools.session_connect.when", 15, 11)


def test_the_whole_shape_without_it_loads(tmp_path: Path) -> None:
    sound = "".join(line for line in WHOLE.read_text().splitlines(keepends=True) if "when:" not in line)
    entry = parse_policy(sound, "whole.yaml").book.entries["session_connect"]
    assert (entry.action, entry.risk, len(entry.rules), len(entry.limits)) == (Action.HOLD, "high", 3, 3)
    assert (entry.requirement.quorum, entry.requirement.channels) == (2, ("slack:#desktop", "web", "api"))


@given(st.binary() | st.text(), st.sampled_from(["fuzz.json", "fuzz.yaml", "fuzz"]))
def test_any_text_is_a_policy_or_a_policy_error(text: str | bytes, source: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(text, source)
    assert all(mistake.line and mistake.column for mistake in refused.value.mistakes)


def test_what_is_misshapen_hides_nothing_else() -> None:
    tool = {
        "action": "hold",
        "requier": [],
        "when": "args.x >",
        "deny_if": [{"path": "args.x", "op": "regx", "value": 1}],
    }
    others = {"a_*": {}, "*_a": {"approve_if": [{"path": "args.x", "op": "regex", "value": "(?=a)"}]}}
    with pytest.raises(PolicyError) as refused:
        parse_policy(json.dumps({"version": "1", "default": "hodl", "tools": {"b": tool, **others}}), "p.json")
    assert {mistake.path for mistake in refused.value.mistakes} == {
        "default",
        "tools.b.requier",
        "tools.b.deny_if[0].op",
        "tools.b.when",
        'tools["*_a"]',
        'tools["*_a"].approve_if[0].value',
    }


def test_no_contradiction_is_told_that_a_misspelt_key_may_resolve() -> None:
    tool = {"aproval": {}, "approval": {"quorum": 2}, "aprove_if": [{"path": "args.x", "op": "eq", "value": 1}]}
    with pytest.raises(PolicyError) as refused:
        parse_policy(json.dumps({"version": "1", "default": "deny", "tools": {"b": tool}}), "p.json")
    assert {mistake.path for mistake in refused.value.mistakes} == {"tools.b.aproval", "tools.b.aprove_if"}


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.json")
    with pytest.raises(PolicyError, match="not JSON"):
        load_policy(tmp_path / "p.json")


def test_of_very_many_mistakes_the_first_thousand_are_told_and_how_many_more_there_are() -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(json.dumps({"version": "1", "default": "deny", **{f"k{n}": 1 for n in range(1500)}}), "p.json")
    assert len(refused.value.mistakes) == 1001
    assert str(refused.value).endswith("and 500 more mistakes; mend these first")
