"""Which entry of a policy counts for a tool."""

from __future__ import annotations

import fnmatch
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.calls import Action
from broker.errors import PolicyError
from broker.policy.judging.decide import compile_policy, decide
from broker.policy.judging.globs import is_glob, parse_glob
from broker.policy.model import Entry, Rulebook, Unfit
from tests.policy.calls import call, policy
from tests.policy.rulebooks import timed

pieces = st.sampled_from(["a", "b", "*", "?", "[ab]", "[!a]", "[a-c]"])
globs = st.lists(pieces, min_size=1, max_size=5).map("".join)
short_globs = st.lists(pieces, min_size=1, max_size=3).map("".join)
WORDS = ["".join(letters) for length in range(7) for letters in product("abcd", repeat=length)]
"""The shortest name that matches two globs has at most as many characters as both of them have."""

names = st.text("abcd", max_size=5)


def rule(tool: str, *listed: str, hide: list[str] | None = None) -> str:
    tools = {name: {"action": "hold"} for name in listed}
    return decide(policy(tools=tools, hide=hide or []), call(tool)).rule


@given(globs, names)
def test_a_glob_matches_what_the_shell_would_match(glob: str, name: str) -> None:
    assert parse_glob(glob).matches(name) == fnmatch.fnmatchcase(name, glob)


@settings(max_examples=40, deadline=None)
@given(short_globs, short_globs)
def test_two_globs_meet_when_and_only_when_some_name_matches_both(a: str, b: str) -> None:
    left, right = parse_glob(a), parse_glob(b)
    assert left.meets(right) == any(left.matches(word) and right.matches(word) for word in WORDS)


def test_no_name_that_an_agent_makes_up_is_slow_to_find() -> None:
    listed = [f"*{'x' * length}*" for length in range(1, 200)]
    asked = policy(tools={name: {} for name in listed})
    strange = "".join(chr(0x100 + place) for place in range(256))
    assert timed(lambda: decide(asked, call(strange))).action is Action.DENY


def test_a_glob_that_no_name_is_long_enough_for_is_refused() -> None:
    assert parse_glob("*" + "x" * 256).matches("x" * 256)
    with pytest.raises(ValueError, match="at most 256 characters"):
        parse_glob("*" + "x" * 257)


def test_an_exact_name_counts_before_any_glob() -> None:
    assert rule("key_up", "key_*", "key_up", "*") == "tools.key_up.action"


def test_the_glob_with_most_literal_characters_counts() -> None:
    assert rule("keyboard_type", "*", "key*", "keyboard_*") == 'tools["keyboard_*"].action'
    assert rule("mouse", "*", "key*", "keyboard_*") == 'tools["*"].action'


def test_of_equally_many_literals_the_fewest_wildcards_count() -> None:
    assert rule("keys", "key*", "key?*") == 'tools["key*"].action'


def test_a_glob_match_is_listed() -> None:
    assert rule("key_up", "key_*") == 'tools["key_*"].action'
    assert rule("mouse", "key_*") == "default"


def test_case_counts() -> None:
    assert rule("Key_up", "key_*") == "default"
    assert rule("key_a", "key_[A-Z]") == "default"


def test_a_name_with_the_characters_of_a_glob_is_itself_first() -> None:
    assert rule("a[b]", "a[b]") == 'tools["a[b]"].action'
    assert rule("ab", "a[b]") == 'tools["a[b]"].action'


@pytest.mark.parametrize(("a", "b"), [("a*b", "*ab"), ("?a*", "*a?"), ("[ab]x", "[bc]x"), ("a*", "*a")])
def test_a_tie_between_globs_that_can_match_one_name_is_a_mistake_that_names_both(a: str, b: str) -> None:
    listed = {glob: Entry(Action.ALLOW, glob) for glob in (a, b)}
    with pytest.raises(Unfit) as refused:
        compile_policy(Rulebook(Entry(Action.DENY, "default"), listed), "test", "")
    [mistake] = refused.value.mistakes
    assert "neither is closer" in mistake.message
    assert {a, b} <= set(mistake.message.replace(",", "").split())


@pytest.mark.parametrize(("a", "b"), [("key_*", "mou_*"), ("[ab]x", "[cd]x"), ("a?c", "a?d"), ("[!a]*x", "a*y")])
def test_globs_of_equal_rank_that_never_meet_are_no_tie(a: str, b: str) -> None:
    assert policy(tools={a: {}, b: {}}).names == (a, b)


@pytest.mark.parametrize(("glob", "why"), [("a[b", "character 2"), ("a[]", "character 2"), ("[z-a]", "z-a")])
def test_a_broken_glob_is_a_mistake_wherever_it_stands(glob: str, why: str) -> None:
    with pytest.raises(PolicyError, match=f"tools.*{why}"):
        policy(tools={glob: {}})
    with pytest.raises(PolicyError, match=rf"hide\[0\].*{why}"):
        policy(hide=[glob])


def test_hidden_names_may_be_globs() -> None:
    stated = policy(default="allow", hide=["dbus_*", "wipe"])
    assert [stated.hides(tool) for tool in ("dbus_call", "wipe", "dbus", "look")] == [True, True, False, False]
    assert rule("dbus_call", "dbus_call", hide=["dbus_*"]) == "hide"


def test_no_name_makes_matching_slow() -> None:
    stated = policy(tools={"*a" * 100 + "*b": {}, **{f"{letter}*" + "?" * 50: {} for letter in "abcdefgh"}})
    for length in (256, 4096):
        assert timed(lambda length=length: stated.hides("a" * length) or decide(stated, call("a" * length)).rule)


def test_names_that_an_agent_invents_are_not_remembered_for_ever() -> None:
    stated = policy(tools={"look": {}, "key_*": {}})
    for number in range(10_000):
        decide(stated, call(f"key_{number}"))
    assert len(stated._seen) < 5000  # pyright: ignore[reportPrivateUsage] - there is no other way to see it
    assert decide(stated, call("look")).rule == "tools.look"


@given(st.text())
def test_what_is_no_glob_matches_itself_alone(name: str) -> None:
    assert is_glob(name) or parse_glob(name).matches(name)
