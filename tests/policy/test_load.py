"""From a file to a policy, or to every mistake in it."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.calls import Action, Scope
from broker.errors import PolicyError
from broker.policy.decide import decide
from broker.policy.load import HOLD_EVERYTHING, load_policy, parse_policy
from tests.policy.calls import call, policy

EMPTY = '{"version": "1", "default": "deny"}'
LIMIT = {"counter": "c", "window": "minute", "max": 3}


def refusal(text: str | bytes) -> str:
    """What `parse_policy` says of a bad document, without the name of the source."""
    with pytest.raises(PolicyError) as refused:
        parse_policy(text, "bad.json")
    head, _, rest = str(refused.value).partition("bad.json: the policy was not loaded:")
    assert head == ""
    return rest.strip()


def mistakes(**document: Any) -> list[str]:
    """The mistakes that are found in a document; version and default go without saying."""
    return refusal(json.dumps({"version": "1", "default": "deny"} | document)).split("\n  ")


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
    with pytest.raises(PolicyError, match=r"none\.json: the policy cannot be read: No such file or directory\."):
        load_policy(tmp_path / "none.json")


def test_a_folder_is_not_a_policy(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read: Is a directory"):
        load_policy(tmp_path)


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        load_policy(Path("nul\0.json"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xef\xbb\xbf" + EMPTY.encode(), "it starts with a byte-order mark; save it as UTF-8 without one."),
        ("\ufeff" + EMPTY, "it starts with a byte-order mark; save it as UTF-8 without one."),
        (EMPTY.encode("utf-16"), "it is not UTF-8 (byte 1)."),
        (b'{"version": "\xe9"}', "it is not UTF-8 (byte 14)."),
        (EMPTY[:-1], "it is not JSON, the one format that this version reads (line 1, column 35: "),
        ("version: '1'", "it is not JSON, the one format that this version reads (line 1, column 1: Expecting value)."),
        ('{"a": NaN}', "NaN is not JSON."),
        ('{"a": -Infinity}', "-Infinity is not JSON."),
        ('{"a": 1e999}', 'the number of the key "a" is too large'),
        ('{"a": "\\ud800"}', "it holds half of a surrogate pair."),
        ("[" * 200 + "]" * 200, "nested more than 100 levels deep."),
        ("[" * 100_000, "it is nested too deep."),
        (
            '{"version": "1", "default": "deny", "default": "allow"}',
            'the key "default" is written twice in one object.',
        ),
        ('{"tools": {"x": {}, "x": {}}}', 'the key "x" is written twice in one object.'),
    ],
)
def test_a_text_that_readers_could_understand_differently_is_refused(text: str | bytes, said: str) -> None:
    assert refusal(text).startswith(said)


@pytest.mark.parametrize("text", ["[]", "null", '"deny"', "1"])
def test_a_document_is_an_object(text: str) -> None:
    assert refusal(text).startswith("expected an object")


def test_every_mistake_is_told_with_its_path_what_was_expected_and_the_nearest_key() -> None:
    limits = [{"counter": "two words", "window": "eon", "max": 0, "scop": "grant"}, LIMIT | {"max": True}]
    approval = {"approvers": [], "quorum": "2", "timeout": "15 m", "channels": ["web", "mail"]}
    assert mistakes(
        version=1,
        defualt="deny",
        hide=[""],
        tools={"x": {"action": "hold", "risk": "huge", "limits": limits, "approval": approval}, "a.b": []},
    ) == [
        "version: expected '1', not 1",
        'hide[0]: expected the name of a tool, not ""',
        'tools["a.b"]: expected an object',
        "tools.x.risk: expected 'low', 'medium', 'high' or 'critical', not \"huge\"",
        "tools.x.approval.approvers: is empty: name at least one, or take the key out for no restriction",
        'tools.x.approval.quorum: expected a whole number from 1 to 2147483647, not "2"',
        'tools.x.approval.timeout: expected a duration from 1s to 365d, such as 30s, 15m, 2h or 1d, not "15 m"',
        'tools.x.approval.channels[1]: expected web, api, slack, slack:#channel or slack:@person, not "mail"',
        'tools.x.limits[0].counter: expected one word, not "two words"',
        'tools.x.limits[0].window: expected second, minute, hour, day or a number of seconds up to 31536000, not "eon"',
        "tools.x.limits[0].max: expected a whole number from 1 to 2147483647, not 0",
        "tools.x.limits[0].scop: unknown key; did you mean scope?",
        "tools.x.limits[1].max: expected a whole number from 1 to 2147483647, not true",
        "defualt: unknown key; did you mean default?",
    ]


def test_a_key_that_is_like_no_other_is_answered_with_the_known_ones() -> None:
    assert mistakes(tools={"x": {"rate_limit": {"max": 1, "window": 1, "zzz": 1}}}) == [
        "tools.x.rate_limit.zzz: unknown key; known are max, window"
    ]


def test_a_key_may_look_like_the_mark_for_a_wrong_name() -> None:
    assert mistakes(tools={"x": {"[key]": 1}})[0].startswith('tools.x["[key]"]: unknown key')


def test_version_and_default_are_required() -> None:
    told = refusal("{}").split("\n  ")
    assert told[0] == "version: is missing"
    assert told[1].startswith("default: is missing: expected 'allow', 'deny' or 'hold' (the Intercept dialect")


@pytest.mark.parametrize("name", ["keyboard_*", "key?", "[ab]", "*"])
def test_a_pattern_is_refused_rather_than_taken_for_a_name(name: str) -> None:
    (told,) = mistakes(tools={name: {}})
    assert told.endswith("patterns with *, ? or [ are not supported by this version: write each tool's name out")


def test_a_pattern_among_hidden_names_is_refused() -> None:
    (told,) = mistakes(hide=["wipe", "key*"])
    assert told.startswith("hide[1]: patterns with")


@pytest.mark.parametrize(
    ("place", "document"),
    [
        ("all_tools", {"all_tools": {"limits": []}}),
        ("redact", {"redact": ["args.password"]}),
        *((f"tools.x.{key}", {"tools": {"x": {key: []}}}) for key in ("require", "deny_if", "approve_if", "rules")),
        ("tools.x.when", {"tools": {"x": {"when": "args.amount > 100"}}}),
        *(
            (f"tools.x.approval.{key}", {"tools": {"x": {"action": "hold", "approval": {key: True}}}})
            for key in ("escalate", "allow_edit", "remember")
        ),
        ("tools.x.limits[0].add", {"tools": {"x": {"limits": [LIMIT | {"add": "args.amount"}]}}}),
    ],
)
def test_what_this_version_cannot_enforce_is_refused(place: str, document: dict[str, Any]) -> None:
    assert mistakes(**document) == [
        f"{place}: is not supported by this version: take it out, since what is not applied must not stand in a policy"
    ]


@pytest.mark.parametrize("entry", [{}, {"action": "allow"}, {"action": "deny"}])
def test_an_approval_of_calls_that_are_never_held_is_refused(entry: dict[str, Any]) -> None:
    (told,) = mistakes(tools={"x": entry | {"approval": {"quorum": 2}}})
    assert told.startswith("tools.x.approval: has no effect, since calls of this tool are never held")


def test_a_key_without_a_value_is_refused() -> None:
    told = mistakes(tools={"x": {"rate_limit": None, "approval": None}}, hide=None)
    assert told == [
        f"{place}: has no value: write one, or take the key out"
        for place in ("hide", "tools.x.approval", "tools.x.rate_limit")
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


@given(st.binary() | st.text())
def test_any_text_is_a_policy_or_a_policy_error(text: str | bytes) -> None:
    with pytest.raises(PolicyError, match=r"\Afuzz\.json: the policy was not loaded:"):
        parse_policy(text, "fuzz.json")


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


def test_a_number_that_is_too_large_is_told_with_its_key() -> None:
    limit = '{"counter": "c", "window": 1e400, "max": 1}'
    with pytest.raises(PolicyError, match='the number of the key "window" is too large'):
        parse_policy(f'{{"version": "1", "default": "allow", "tools": {{"t": {{"limits": [{limit}]}}}}}}', "p.json")
