"""The JSON Schema of policies, as editors apply it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import policies
from broker.errors import PolicyError
from broker.policy.language.schema import policy_schema
from broker.policy.load import parse_policy

READY = Path(policies.__file__).parent
WHOLE = cast("dict[str, Any]", yaml.safe_load((Path(__file__).parent / "whole.yaml").read_text()))
SOUND = WHOLE | {
    "tools": {"session_connect": {k: v for k, v in WHOLE["tools"]["session_connect"].items() if k != "when"}}
}
VALIDATOR = Draft202012Validator(policy_schema())
LIMIT = {"counter": "c", "window": "minute", "max": 10}


def valid(document: Any) -> bool:
    return VALIDATOR.is_valid(document)  # pyright: ignore[reportUnknownMemberType] - jsonschema has no types


def of_tool(**terms: Any) -> dict[str, Any]:
    return {"version": "1", "default": "deny", "tools": {"x": terms}}


def test_the_schema_is_one_of_draft_2020_12() -> None:
    Draft202012Validator.check_schema(policy_schema())
    assert policy_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_file_that_is_shipped_is_the_schema() -> None:
    assert json.loads((READY / "schema" / "policy.json").read_text()) == policy_schema()


@pytest.mark.parametrize("file", sorted(READY.glob("*.json")), ids=lambda file: file.name)
def test_every_ready_policy_is_valid(file: Path) -> None:
    assert valid(json.loads(file.read_text()))


@pytest.mark.parametrize(
    "document",
    [
        of_tool(limits=[LIMIT | {"scope": "grant"}]),
        of_tool(rate_limit={"max": 10, "window": 60}),
        SOUND,
        of_tool(when="true"),
        {"$schema": "schema/policy.json", "version": "1", "default": "hold"},
    ],
)
def test_what_is_published_is_valid(document: dict[str, Any]) -> None:
    assert valid(document)
    assert parse_policy(json.dumps(document), "p.json")


@pytest.mark.parametrize(
    "document",
    [
        WHOLE,
        [],
        {},
        {"version": "1", "tools": {"x": {"action": "hold"}}},
        {"version": 1, "default": "deny"},
        {"version": "1", "default": "maybe"},
        {"version": "1", "default": "deny", "defualt": "deny"},
        {"version": "1", "default": "deny", "hide": "all"},
        {"version": "1", "default": "deny", "hide": [""]},
        {"version": "1", "default": "deny", "redact": ["password"]},
        {"version": "1", "default": "deny", "tools": {"": {}}},
        {"version": "1", "default": "deny", "description": None},
        of_tool(action="hodl"),
        of_tool(action="deny", when="true"),
        of_tool(limits=[LIMIT | {"window": "eon"}]),
        of_tool(limits=[LIMIT | {"window": 0}]),
        of_tool(limits=[LIMIT | {"max": "10"}]),
        of_tool(limits=[LIMIT | {"counter": "two words"}]),
        of_tool(limits=[LIMIT | {"add": "tool"}]),
        of_tool(deny_if=[{"path": "arguments.x", "op": "eq", "value": 1}]),
        of_tool(deny_if=[{"path": "args.x", "op": "equals", "value": 1}]),
        of_tool(deny_if=[{"path": "args.x", "op": "eq"}]),
        of_tool(action="hold", approval={"timeout": "15 min"}),
        of_tool(action="hold", approval={"channels": ["mail"]}),
        of_tool(action="hold", approval={"approvers": []}),
        of_tool(action="hold", approval=None),
    ],
)
def test_what_the_broker_refuses_for_its_shape_is_not_valid(document: Any) -> None:
    assert not valid(document)
    with pytest.raises(PolicyError):
        parse_policy(json.dumps(document), "p.json")


def test_editors_have_a_sentence_about_every_key() -> None:
    schema = policy_schema()
    objects = [schema, *schema["$defs"].values()]
    keys = [(name, key) for one in objects for name, key in one.get("properties", {}).items()]
    assert keys
    for name, key in keys:
        described = key.get("description") or schema["$defs"][key["$ref"].rpartition("/")[2]].get("description")
        assert described, name


paths = st.sampled_from(
    ["args.a", "args", 'args["a]b"][0]', "args.größe-$1", "grant.label", "tool", "args.x[*].*", "a", "args."]
)
durations = st.from_regex(r"\A ?[0-9]{1,3}[smhdw]\Z")
windows = st.sampled_from(["second", "day", "week", "", 0, 1, 31_536_000, 31_536_001, 1.5])
channels = st.sampled_from(["web", "api", "slack", "slack:#c", "slack:@p", "slack:", "mail", "web "])


@given(paths, durations, windows, channels, st.text(max_size=3))
def test_the_schema_is_never_stricter_than_the_broker(
    path: str, duration: str, window: Any, channel: str, name: str
) -> None:
    for terms in (
        {"deny_if": [{"path": path, "op": "eq", "value": 1}]},
        {"limits": [LIMIT | {"add": path}]},
        {"limits": [LIMIT | {"window": window}]},
        {"limits": [LIMIT | {"counter": name}]},
        {"action": "hold", "approval": {"timeout": duration, "channels": [channel]}},
        {"action": "hold", "approval": {"approvers": [name]}},
        {"reason": name},
    ):
        document = {"version": "1", "default": "deny", "redact": [path], "hide": [name or "x"], "tools": {"x": terms}}
        assert _refused(document) or valid(document)


def _refused(document: dict[str, Any]) -> bool:
    try:
        parse_policy(json.dumps(document), "p.json")
    except PolicyError:
        return True
    return False
